package bufsock_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
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

// eachWay calls f with a connection that delivers the stream in one piece, and
// with one that does byte by byte.
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
	read := followed(&parts, until("\r\n"), next(3), until("\r\n"))
	for place := range 8 {
		err := s.RecvFunc(read)
		require.True(t, err == errPassing, "%v", err)
		require.Len(t, conn.asked, 2*(place+1), "each call begins with a read of what is new")
	}
	require.NoError(t, s.RecvFunc(read))
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
