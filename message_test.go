package bufsock_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A step takes a part of a message in one of the ways that there are, as text.
type step func(m *bufsock.Message) (string, error)

func until(delim string) step {
	return func(m *bufsock.Message) (string, error) {
		part, err := m.Until([]byte(delim))
		return string(part), err
	}
}

// untilOne is UntilAny; the text begins with the index.
func untilOne(delims ...string) step {
	return func(m *bufsock.Message) (string, error) {
		var ds [][]byte
		for _, d := range delims {
			ds = append(ds, []byte(d))
		}
		part, which, err := m.UntilAny(ds)
		if err != nil && (which != -1 || part != nil) {
			return "", errors.New("a part with an error")
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprint(which, " ", string(part)), err
	}
}

func next(n int) step {
	return func(m *bufsock.Message) (string, error) {
		part, err := m.Next(n)
		return string(part), err
	}
}

func peek(n int) step {
	return func(m *bufsock.Message) (string, error) {
		part, err := m.Peek(n)
		return string(part), err
	}
}

func frame(m *bufsock.Message) (string, error) {
	part, err := m.Netstring()
	return string(part), err
}

func remainder(m *bufsock.Message) (string, error) {
	part, err := m.Rest()
	return string(part), err
}

func readByte(m *bufsock.Message) (string, error) {
	b, err := m.ReadByte()
	if err != nil {
		return "", err
	}
	return string(rune(b)), nil
}

func readFull(n int) step {
	return func(m *bufsock.Message) (string, error) {
		p := make([]byte, n)
		n, err := io.ReadFull(m, p)
		return string(p[:n]), err
	}
}

func uvarint(m *bufsock.Message) (string, error) {
	n, err := binary.ReadUvarint(m)
	return fmt.Sprint(n), err
}

func bigEndian16(m *bufsock.Message) (string, error) {
	var n uint16
	err := binary.Read(m, binary.BigEndian, &n)
	return fmt.Sprint(n), err
}

// followed is a function for RecvFunc that takes the steps and appends what they
// return to parts.
func followed(parts *[]string, steps ...step) func(*bufsock.Message) error {
	return func(m *bufsock.Message) error {
		*parts = nil
		for _, take := range steps {
			part, err := take(m)
			if err != nil {
				return err
			}
			*parts = append(*parts, part)
		}
		return nil
	}
}

// pieces are two ways in which a stream may come.
func eachWay(t *testing.T, stream string, f func(t *testing.T, conn *wire)) {
	t.Helper()
	t.Run("whole", func(t *testing.T) {
		if stream == "" {
			f(t, segments())
			return
		}
		f(t, segments(stream))
	})
	t.Run("byte by byte", func(t *testing.T) { f(t, segments(strings.Split(stream, "")...)) })
}

func TestRecvFuncTakesPart(t *testing.T) {
	tests := map[string]struct {
		stream string
		steps  []step
		want   []string
		left   string
	}{
		"Until takes the delimiter":         {"ab\r\ncd", []step{until("\r\n")}, []string{"ab"}, "cd"},
		"Until behind a false start":        {"a\rb\r\ncd", []step{until("\r\n")}, []string{"a\rb"}, "cd"},
		"an empty part":                     {"\r\n\r\ncd", []step{until("\r\n"), until("\r\n")}, []string{"", ""}, "cd"},
		"UntilAny says which":               {"a;b\ncd", []step{untilOne("\n", ";"), untilOne("\n", ";")}, []string{"1 a", "0 b"}, "cd"},
		"UntilAny, of two the longest":      {"xaabc", []step{next(1), untilOne("b", "ab")}, []string{"x", "1 a"}, "c"},
		"UntilAny does not look back":       {"ab;", []step{next(1), untilOne("ab", ";")}, []string{"a", "1 b"}, ""},
		"Next, a line, and bytes":           {"3\r\na\r\n!", []step{until("\r\n"), next(3)}, []string{"3", "a\r\n"}, "!"},
		"Next of nothing":                   {"ab", []step{next(0), next(1), next(0)}, []string{"", "a", ""}, "b"},
		"Peek takes nothing":                {"abc", []step{peek(2), peek(3), next(1), peek(2)}, []string{"ab", "abc", "a", "bc"}, "bc"},
		"Netstring between others":          {"a3:b,c,d", []step{next(1), frame, next(1)}, []string{"a", "b,c", "d"}, ""},
		"an empty netstring":                {"0:,a", []step{frame}, []string{""}, "a"},
		"Rest":                              {"ab\ncd\n", []step{until("\n"), remainder}, []string{"ab", "cd\n"}, ""},
		"Rest of nothing":                   {"ab\n", []step{until("\n"), remainder, remainder}, []string{"ab", "", ""}, ""},
		"Rest of an empty stream":           {"", []step{remainder}, []string{""}, ""},
		"ReadByte":                          {"abc", []step{readByte, readByte}, []string{"a", "b"}, "c"},
		"Read by io.ReadFull":               {"abcdef", []step{next(1), readFull(4)}, []string{"a", "bcde"}, "f"},
		"ReadByte by binary.ReadUvarint":    {"\xac\x02abc", []step{uvarint, next(1)}, []string{"300", "a"}, "bc"},
		"Read by binary.Read":               {"\x01\x02abc", []step{bigEndian16, next(1)}, []string{"258", "a"}, "bc"},
		"no step at all consumes nothing":   {"abc", nil, nil, "abc"},
		"Peek alone consumes nothing":       {"abc", []step{peek(3)}, []string{"abc"}, "abc"},
		"a search for what is a part later": {"a\nb\n\n", []step{until("\n"), until("\n\n")}, []string{"a", "b"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			eachWay(t, tt.stream, func(t *testing.T, conn *wire) {
				s := bufsock.NewBufferedSocket(conn)
				var got []string
				require.NoError(t, s.RecvFunc(followed(&got, tt.steps...)))
				require.Equal(t, tt.want, got)
				rest, err := s.RecvClose()
				require.NoError(t, err)
				require.Equal(t, tt.left, string(rest))
			})
		})
	}
}

// A view has no capacity beyond its length, and none is nil.
func TestRecvFuncViews(t *testing.T) {
	for name, stream := range map[string]string{"of bytes": "abcdefgh", "of nothing": ""} {
		t.Run(name, func(t *testing.T) {
			eachWay(t, stream, func(t *testing.T, conn *wire) {
				n := len(stream) / 4
				require.NoError(t, bufsock.NewBufferedSocket(conn).RecvFunc(func(m *bufsock.Message) error {
					for _, take := range []func() ([]byte, error){
						func() ([]byte, error) { return m.Peek(n) },
						func() ([]byte, error) { return m.Next(n) },
						func() ([]byte, error) { return m.Peek(n) },
						func() ([]byte, error) { return m.Next(2 * n) },
						m.Rest,
					} {
						view, err := take()
						require.NoError(t, err)
						require.NotNil(t, view)
						require.Equal(t, len(view), cap(view))
					}
					return nil
				}))
			})
		})
	}
}

func TestRecvFuncOffset(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("ab\n3:cde,\x05rest"))
	require.NoError(t, s.RecvFunc(func(m *bufsock.Message) error {
		require.Zero(t, m.Offset())
		for i, take := range []step{until("\n"), peek(5), frame, readByte, readFull(2), remainder} {
			_, err := take(m)
			require.NoError(t, err)
			require.Equal(t, []int{3, 3, 9, 10, 12, 14}[i], m.Offset())
		}
		return nil
	}))
}

// Each step that waits, behind nothing and behind the byte '1', at the end of
// the stream.
var endings = map[string]struct {
	take step
	bare bool // it returns the errors of package io
}{
	"Until":              {take: until("\n")},
	"UntilAny":           {take: untilOne("\n", ";")},
	"Next":               {take: next(2)},
	"Peek":               {take: peek(2)},
	"Netstring":          {take: frame},
	"ReadByte":           {func(m *bufsock.Message) (string, error) { m.Next(1); return readByte(m) }, true},
	"Read":               {func(m *bufsock.Message) (string, error) { m.Next(1); return readFull(1)(m) }, true},
	"io.ReadFull":        {readFull(2), true},
	"binary.Read":        {bigEndian16, true},
	"binary.ReadUvarint": {func(m *bufsock.Message) (string, error) { m.Next(1); return uvarint(m) }, true},
	"io.ReadAll": {func(m *bufsock.Message) (string, error) {
		all, err := io.ReadAll(m)
		if err == nil && len(all) == 0 {
			err = io.EOF // it hides that of an empty stream
		}
		return string(all), err
	}, true},
}

// The end of the stream is io.EOF if nothing of the message has come, and else
// io.ErrUnexpectedEOF, whatever the step.
func TestRecvFuncAtTheEnd(t *testing.T) {
	for name, tt := range endings {
		t.Run(name, func(t *testing.T) {
			for _, stream := range []string{"", "1"} {
				want := io.EOF
				if stream != "" {
					want = io.ErrUnexpectedEOF
				}
				s := bufsock.NewBufferedSocket(segments(stream))
				for range 2 { // it is the same again
					var parts []string
					err := s.RecvFunc(followed(&parts, tt.take))
					if tt.bare {
						require.True(t, err == want, "%v", err)
					} else {
						require.IsType(t, (*bufsock.ConnectionClosedError)(nil), err)
						assertErrorIs(t, err, want)
					}
					require.Equal(t, stream, string(s.RecvBuffer()))
				}
			}
		})
	}
}

// A part that was taken before makes the end an unexpected one, also if nothing
// is left behind it.
func TestRecvFuncEndsBetweenParts(t *testing.T) {
	for name, tt := range endings {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments("size 0\r\n"))
			var parts []string
			err := s.RecvFunc(followed(&parts, until("\r\n"), tt.take))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.NotErrorIs(t, err, io.EOF)
			require.Equal(t, "size 0\r\n", string(s.RecvBuffer()))
		})
	}
}

// Nothing is consumed unless the function returns nil.
func TestRecvFuncThatFails(t *testing.T) {
	own := errors.New("own")
	for name, fail := range map[string]func() error{
		"an error":       func() error { return own },
		"a panic":        func() error { panic("boom") },
		"runtime.Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments("a\n3:b,c,", "rest"))
			var err error
			ended := make(chan any)
			go func() {
				defer func() { ended <- recover() }()
				err = s.RecvFunc(func(m *bufsock.Message) error {
					if _, err := m.Until(lf); err != nil {
						return err
					}
					if _, err := m.Netstring(); err != nil {
						return err
					}
					return fail()
				})
			}()
			panicked := <-ended
			switch name {
			case "an error":
				require.True(t, err == own, "returned as it is")
			case "a panic":
				require.Equal(t, "boom", panicked)
			}
			require.Equal(t, "a\n3:b,c,", string(s.RecvBuffer()))
			var parts []string // and the socket can be used
			require.NoError(t, s.RecvFunc(followed(&parts, until("\n"), frame, next(4))))
			require.Equal(t, []string{"a", "b,c", "rest"}, parts)
		})
	}
}

// A step that fails takes nothing, and the message goes on with another.
func TestRecvFuncTriesSomethingElse(t *testing.T) {
	tests := map[string]struct {
		stream string
		fails  step
		err    error // what it must match
	}{
		"too long":               {"abcdefgh", until("\n"), errTooLong},
		"any too long":           {"abcdefgh", untilOne("\n", "\r"), errTooLong},
		"Next too long":          {"abcdefgh", next(8), errTooLong},
		"Peek too long":          {"abcdefgh", peek(8), errTooLong},
		"Rest too long":          {"abcdefgh", remainder, errTooLong},
		"the end of the stream":  {"abcde", until("\n"), io.ErrUnexpectedEOF},
		"Next over the end":      {"abcde", next(5), io.ErrUnexpectedEOF},
		"no netstring":           {"abcdefgh", frame, bufsock.ErrNetstringProtocol},
		"no comma":               {"a1:bcdef", frame, bufsock.ErrNetstringProtocol},
		"an empty delimiter":     {"abcdefgh", until(""), bufsock.ErrInvalidArgument},
		"no delimiter":           {"abcdefgh", untilOne(), bufsock.ErrInvalidArgument},
		"one that is empty":      {"abcdefgh", untilOne("a", ""), bufsock.ErrInvalidArgument},
		"a negative size":        {"abcdefgh", next(-1), bufsock.ErrInvalidArgument},
		"a negative size, Peek":  {"abcdefgh", peek(-1), bufsock.ErrInvalidArgument},
		"a size beyond all ints": {"abcdefgh", next(int(^uint(0) >> 1)), errTooLong},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			eachWay(t, tt.stream, func(t *testing.T, conn *wire) {
				s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(7))
				require.NoError(t, s.RecvFunc(func(m *bufsock.Message) error {
					_, err := m.Next(1)
					require.NoError(t, err)
					_, err = tt.fails(m)
					require.Error(t, err)
					assertErrorIs(t, err, tt.err)
					require.Equal(t, 1, m.Offset())
					part, err := m.Next(3)
					require.Equal(t, tt.stream[1:4], string(part))
					return err
				}))
				rest, err := s.RecvClose()
				require.NoError(t, err)
				require.Equal(t, tt.stream[4:], string(rest))
			})
		})
	}
}

// The limit holds for all bytes taken and peeked at, and a step that must exceed
// it fails before it asks for another byte.
func TestRecvFuncLimit(t *testing.T) {
	tests := map[string]struct {
		stream string // comes before the step fails; then nothing may be asked for
		limit  int
		steps  []step
		err    error // nil: it fits
	}{
		"parts that fill it":                  {"ab\ncd\n", 6, []step{until("\n"), until("\n")}, nil},
		"the last delimiter is over":          {"ab\ncd", 5, []step{until("\n"), until("\n")}, errTooLong},
		"no room for the delimiter":           {"ab\n", 4, []step{until("\n"), until("\r\n")}, errTooLong},
		"no delimiter of several has room":    {"ab\n", 4, []step{until("\n"), untilOne("\r\n", "$$")}, errTooLong},
		"a delimiter that must end now":       {"ab\nc", 5, []step{until("\n"), until("\r\n")}, errTooLong},
		"bytes that fill it":                  {"ab\ncde", 6, []step{until("\n"), next(3)}, nil},
		"a size that is over":                 {"ab\n", 6, []step{until("\n"), next(4)}, errTooLong},
		"a look that fills it":                {"ab\ncde", 6, []step{until("\n"), peek(3)}, nil},
		"a look that is over":                 {"ab\n", 6, []step{until("\n"), peek(4)}, errTooLong},
		"looks do not add up":                 {"abcdef", 6, []step{peek(6), peek(6), next(6), next(0)}, nil},
		"a byte over":                         {"ab", 2, []step{next(2), readByte}, errTooLong},
		"a read over":                         {"ab", 2, []step{next(2), readFull(1)}, errTooLong},
		"the rest of a read over":             {"ab", 2, []step{next(1), readFull(2)}, errTooLong},
		"Rest that fills it":                  {"ab\ncde", 6, []step{until("\n"), remainder}, nil},
		"Rest that is over":                   {"ab\ncdef", 6, []step{until("\n"), remainder}, errTooLong},
		"a netstring with its frame fills it": {"a3:bcd,", 7, []step{next(1), frame}, nil},
		"its comma is over":                   {"a3", 6, []step{next(1), frame}, bufsock.ErrNetstringProtocol},
		"its digits are over":                 {"a12", 6, []step{next(1), frame}, bufsock.ErrNetstringProtocol},
		"no netstring has room":               {"abcd", 6, []step{next(4), frame}, bufsock.ErrNetstringProtocol},
		"the least netstring has room":        {"abc0:,", 6, []step{next(3), frame}, nil},
		"zero admits nothing":                 {"", 0, []step{readByte}, errTooLong},
		"zero admits the empty message":       {"", 0, []step{next(0), remainder}, nil},
		"no limit":                            {strings.Repeat("a", 100_000), bufsock.NoLimit, []step{next(100_000)}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			eachWay(t, tt.stream, func(t *testing.T, conn *wire) {
				s := bufsock.NewBufferedSocket(conn)
				var parts []string
				err := s.RecvFunc(followed(&parts, tt.steps...), bufsock.WithMaxSize(tt.limit))
				assertErrorIs(t, err, tt.err)
				if tt.err != nil {
					require.Empty(t, conn.reads, "the verdict fell before all had come")
					require.LessOrEqual(t, len(conn.asked), max(len(tt.stream), 1), "it asked for more")
					require.Equal(t, tt.stream, string(s.RecvBuffer()))
				}
			})
		})
	}
}

func TestRecvFuncLimitOfTheSocket(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("abcdef"), bufsock.WithMaxSize(4))
	var parts []string
	err := s.RecvFunc(followed(&parts, next(3), next(2)))
	e, ok := err.(*bufsock.MessageTooLongError)
	require.True(t, ok, "%T", err)
	require.Equal(t, bufsock.MessageTooLongError{Op: "RecvFunc", MaxSize: 4, Buffered: 6}, *e)
	require.NoError(t, s.RecvFunc(followed(&parts, next(3), next(2)), bufsock.WithMaxSize(5)))
	require.Equal(t, []string{"abc", "de"}, parts)
}

// A frame that is too long says how long, and with what limit.
func TestRecvFuncNetstringErrors(t *testing.T) {
	for stream, want := range map[string]error{
		"a999:":  &bufsock.NetstringMessageTooLongError{Size: 99, MaxSize: 100},
		"a03:":   &bufsock.NetstringInvalidSizeError{Prefix: []byte("03")},
		"a1:bcd": &bufsock.NetstringProtocolError{Size: 1, Found: 'c'},
	} {
		eachWay(t, stream, func(t *testing.T, conn *wire) {
			s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(100))
			var parts []string
			err := s.RecvFunc(followed(&parts, next(1), frame))
			require.IsType(t, want, err)
			require.ErrorIs(t, err, bufsock.ErrNetstringProtocol)
			switch e := err.(type) {
			case *bufsock.NetstringMessageTooLongError:
				require.Equal(t, []any{int64(99), 100}, []any{e.Size, e.MaxSize})
			case *bufsock.NetstringInvalidSizeError:
				require.Equal(t, "03", string(e.Prefix))
			case *bufsock.NetstringProtocolError:
				require.Equal(t, []any{1, byte('c')}, []any{e.Size, e.Found})
			}
			require.ErrorContains(t, err, "bufsock: RecvFunc: ")
		})
	}
}

// Outside of its function a Message takes nothing.
func TestMessageAfterItsFunction(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("abcdefgh"))
	var kept *bufsock.Message
	keep := func(m *bufsock.Message) error {
		kept = m
		_, err := m.Next(2)
		return err
	}
	require.NoError(t, s.RecvFunc(keep))
	for name, take := range map[string]step{
		"Until": until("c"), "UntilAny": untilOne("c"), "Next": next(1), "Next of nothing": next(0),
		"Peek": peek(1), "Netstring": frame, "Rest": remainder, "ReadByte": readByte, "Read": readFull(1),
		"Read of nothing": func(m *bufsock.Message) (string, error) { _, err := m.Read(nil); return "", err },
	} {
		_, err := take(kept)
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument, name)
	}
	require.Equal(t, "cdefgh", string(s.RecvBuffer()))

	first := kept
	require.NoError(t, s.RecvFunc(keep))
	require.Same(t, first, kept, "one for all calls on a socket, which then do not allocate")
	require.NoError(t, bufsock.NewBufferedSocket(segments("xy")).RecvFunc(keep))
	require.NotSame(t, first, kept, "and no other")
}

func TestRecvFuncInvalidArguments(t *testing.T) {
	conn := segments("abc")
	s := bufsock.NewBufferedSocket(conn)
	called := false
	read := func(*bufsock.Message) error { called = true; return nil }
	require.ErrorIs(t, s.RecvFunc(nil), bufsock.ErrInvalidArgument)
	for _, option := range []bufsock.Option{
		bufsock.AppendTo([]byte{}), bufsock.WithDelimiter(), bufsock.WithReadSize(1),
		bufsock.WithContext(nil), bufsock.WithIdleTimeout(0), {}, //nolint:staticcheck // a nil context is the test
	} {
		require.ErrorIs(t, s.RecvFunc(read, option), bufsock.ErrInvalidArgument)
	}
	require.False(t, called)
	require.Empty(t, conn.asked)
}

// What has come is not waited for, and what was searched in vain is not searched
// again, however often the call is made; see TestSearchIsNotRepeated.
func TestRecvFuncGoesOn(t *testing.T) {
	conn := &wire{}
	for _, b := range []byte("$3\r\nabc\r\n") {
		conn.reads = append(conn.reads, read{data: string(b)}, read{err: errPassing})
	}
	s := bufsock.NewBufferedSocket(conn)
	var parts []string
	for place := range 9 {
		if err := s.RecvFunc(followed(&parts, until("\r\n"), next(3), until("\r\n"))); err == nil {
			require.Equal(t, 8, place)
			break
		} else {
			require.True(t, err == errPassing, "%v", err)
		}
		require.Len(t, conn.asked, 2*(place+1), "each call begins with a read of what is new")
	}
	require.Equal(t, []string{"$3", "abc", ""}, parts)
}

var errPassing = errors.New("passes")

func TestRecvFuncDoesNotSearchAgain(t *testing.T) {
	head, data := []byte("header\n"), bytes.Repeat([]byte("a"), 8<<20)
	for name, take := range map[string]step{"one": until("ab"), "several": untilOne("ab", "cb")} {
		t.Run(name, func(t *testing.T) {
			conn := segments(string(head), string(data))
			for range 2000 {
				conn.reads = append(conn.reads, read{err: errPassing})
			}
			s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(bufsock.NoLimit))
			_, err := s.Peek(len(head) + len(data))
			require.NoError(t, err)
			assertCheapAgain(t, func() error {
				var parts []string
				err := s.RecvFunc(followed(&parts, until("\n"), take))
				require.Equal(t, []string{"header"}, parts)
				return err
			})
		})
	}
}

// assertCheapAgain wants 300 more calls to cost less than ten first ones.
func assertCheapAgain(t *testing.T, call func() error) {
	t.Helper()
	first, err := elapsed(call)
	require.ErrorIs(t, err, errPassing)
	limit := 10*first + clockTick
	again := limit
	for try := 0; try < 3 && again >= limit; try++ { // other programs may hold it up
		again, _ = elapsed(func() error {
			for range 300 {
				require.ErrorIs(t, call(), errPassing)
			}
			return nil
		})
	}
	require.Less(t, again, limit)
}

// firstError returns the error of the first step of a loop.
func firstError(seq iter.Seq2[[]byte, error]) error {
	for _, err := range seq {
		return err
	}
	return nil
}

func assertParts(t *testing.T, want []string, s *bufsock.BufferedSocket, steps ...step) {
	t.Helper()
	var parts []string
	if assert.NoError(t, s.RecvFunc(followed(&parts, steps...))) {
		assert.Equal(t, want, parts)
	}
}

// A call that is refused consumes nothing, whatever the last one took.
func TestRecvFuncThatIsRefusedConsumesNothing(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("one two"))
	next := func(m *bufsock.Message) error { _, err := m.Next(3); return err }
	require.NoError(t, s.RecvFunc(next))
	require.ErrorIs(t, s.RecvFunc(next, bufsock.WithDelimiter()), bufsock.ErrInvalidArgument)
	require.Equal(t, " two", string(s.RecvBuffer()))
}
