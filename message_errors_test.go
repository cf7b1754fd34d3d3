package bufsock_test

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

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

// What a step has waited for stands in its error.
func TestStepsSayWhatTheyWaitFor(t *testing.T) {
	for want, step := range map[string]func(m *bufsock.Message) error{
		"while waiting for 5 bytes": func(m *bufsock.Message) error { _, err := m.Next(5); return err },
		"while waiting for 6 bytes": func(m *bufsock.Message) error { _, err := m.Peek(6); return err },
		"while waiting for 1 byte ": func(m *bufsock.Message) error { _, err := m.ReadByte(); return err },
		`while waiting for "\n"`:    func(m *bufsock.Message) error { _, err := m.Until(lf); return err },
	} {
		s := bufsock.NewBufferedSocket(&wire{reads: []read{{"", os.ErrDeadlineExceeded}}})
		require.ErrorContains(t, s.RecvFunc(step), want)
	}
}
