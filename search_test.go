package bufsock_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecvUntilAny(t *testing.T) {
	tests := map[string]struct {
		wire   []string
		delims []string
		limit  int
		want   string
		which  int
		left   string
		err    error
	}{
		"the one that comes first":               {[]string{"ab;cd\n"}, []string{"\n", ";"}, 100, "ab", 1, "cd\n", nil},
		"the match that ends first":              {[]string{"a\r\nb"}, []string{"\r\n", "\r"}, 100, "a", 1, "\nb", nil},
		"of those that end together the longest": {[]string{"xaab"}, []string{"b", "ab", "aab"}, 100, "x", 2, "", nil},
		"of equal ones the first":                {[]string{"x\n"}, []string{"\n", "\n"}, 100, "x", 0, "", nil},
		"a cut inside a delimiter":               {[]string{"xa", "a", "b"}, []string{";", "aab"}, 100, "x", 1, "", nil},
		"within the limit":                       {[]string{"abc\n"}, []string{"\r\n\r\n", "\n"}, 4, "abc", 1, "", nil},
		"over the limit":                         {[]string{"abcd\n"}, []string{"\r\n", "\n"}, 4, "", -1, "abcd\n", errTooLong},
		"only the longer may still end":          {[]string{"ab\r"}, []string{"\r\n", ";;;;"}, 4, "", -1, "ab\r", io.ErrUnexpectedEOF},
		"none may still end":                     {[]string{"abc"}, []string{"\r\n", ";;;;"}, 4, "", -1, "abc", errTooLong},
		"the end inside a message":               {[]string{"ab"}, []string{"\n"}, 100, "", -1, "ab", io.ErrUnexpectedEOF},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var delims [][]byte
			for _, d := range tt.delims {
				delims = append(delims, []byte(d))
			}
			s := bufsock.NewBufferedSocket(segments(tt.wire...))
			msg, which, err := s.RecvUntilAny(delims, bufsock.WithMaxSize(tt.limit))
			assertErrorIs(t, err, tt.err)
			assert.Equal(t, tt.want, string(msg))
			assert.Equal(t, tt.which, which)
			assert.Equal(t, tt.left, string(s.RecvBuffer()))
		})
	}
	t.Run("keeps the delimiter on request", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("login: x"))
		msg, which, err := s.RecvUntilAny([][]byte{[]byte("? "), []byte(": ")}, bufsock.WithDelimiter())
		require.NoError(t, err)
		require.Equal(t, "login: ", string(msg))
		require.Equal(t, 1, which)
	})
}

// A search that goes on must not look again at what it has seen, unless it is
// another search or the bytes in front of it are gone.
func TestRecvUntilResumes(t *testing.T) {
	now := bufsock.WithTimeout(bufsock.NonBlocking)
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local)
	send := func(text string) {
		_, err := remote.Write([]byte(text))
		require.NoError(t, err)
		_, err = s.Peek(s.Buffered() + len(text))
		require.NoError(t, err)
	}
	later := func(delim string) {
		_, err := s.RecvUntil([]byte(delim), now)
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
	}
	send("a;b\r")
	later("\r\n")
	send("\n")
	msg, err := s.RecvUntil([]byte(";"), now)
	require.NoError(t, err, "another search begins at the beginning")
	require.Equal(t, "a", string(msg))
	msg, err = s.RecvUntil(crlf, now)
	require.NoError(t, err)
	require.Equal(t, "b", string(msg))

	// searches for one delimiter and for several are not taken for each other
	send("abc\x01")
	_, _, err = s.RecvUntilAny([][]byte{[]byte("\n")}, now)
	require.ErrorIs(t, err, bufsock.ErrWouldBlock)
	send("\n")
	msg, err = s.RecvUntil([]byte("\x01\n"), now)
	require.NoError(t, err)
	require.Equal(t, "abc", string(msg))

	// one search for several goes on, another begins
	send("abaa")
	_, _, err = s.RecvUntilAny([][]byte{[]byte("aab"), crlf}, now)
	require.ErrorIs(t, err, bufsock.ErrWouldBlock)
	send("b")
	msg, _, err = s.RecvUntilAny([][]byte{[]byte("aab"), crlf}, now)
	require.NoError(t, err)
	require.Equal(t, "ab", string(msg))
	send("a;b")
	_, _, err = s.RecvUntilAny([][]byte{crlf, []byte("x")}, now)
	require.ErrorIs(t, err, bufsock.ErrWouldBlock)
	msg, _, err = s.RecvUntilAny([][]byte{crlf, []byte(";")}, now)
	require.NoError(t, err)
	require.Equal(t, "a", string(msg))
	_, err = s.Discard(1)
	require.NoError(t, err)

	send("abcdef")
	later("\n")
	_, err = s.RecvUntil([]byte("\n"), now, bufsock.WithMaxSize(3))
	require.IsType(t, (*bufsock.MessageTooLongError)(nil), err, "a lower limit than what was searched")
	_, err = s.RecvSize(5)
	require.NoError(t, err)
	send("\n")
	msg, err = s.RecvUntil([]byte("\n"), now)
	require.NoError(t, err, "the search moves with the bytes")
	require.Equal(t, "f", string(msg))
}

// Every byte can be a delimiter.
func TestRecvUntilAnyByte(t *testing.T) {
	for b := range 256 {
		other := byte(b + 1)
		s := bufsock.NewBufferedSocket(segments(string([]byte{other, byte(b), other})))
		msg, which, err := s.RecvUntilAny([][]byte{{byte(b + 2)}, {byte(b)}})
		require.NoError(t, err)
		require.Equal(t, 1, which)
		require.Equal(t, []byte{other}, msg)
	}
}

// What has been searched is not searched again: 300 more calls cost less than
// ten first ones.
func TestSearchIsNotRepeated(t *testing.T) {
	data := bytes.Repeat([]byte("a"), 8<<20)
	conn := segments(string(data))
	for range 3000 { // a connection on which NonBlocking does not wait, on any system
		conn.reads = append(conn.reads, read{err: os.ErrDeadlineExceeded})
	}
	s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(bufsock.NoLimit))
	_, err := s.Peek(len(data))
	require.NoError(t, err)
	now := bufsock.WithTimeout(bufsock.NonBlocking)
	for name, call := range map[string]func() error{
		"one":           func() error { _, err := s.RecvUntil([]byte("ab"), now); return err },
		"one, no start": func() error { _, err := s.RecvUntil(lf, now); return err },
		"several":       func() error { _, _, err := s.RecvUntilAny([][]byte{[]byte("ab"), []byte("cb")}, now); return err },
	} {
		first, err := elapsed(call)
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		const tick = 16 * time.Millisecond // of the clock of some systems
		limit := 10*first + tick
		again := limit
		for try := 0; try < 3 && again >= limit; try++ { // other programs may hold it up
			again, _ = elapsed(func() error {
				for range 300 {
					require.ErrorIs(t, call(), bufsock.ErrWouldBlock)
				}
				return nil
			})
		}
		require.Less(t, again, limit, name)
	}
}

// A search does not go on that was for other delimiters, even if they are the
// same bytes with their lengths between them.
func TestSearchesForOtherDelimitersBeginAnew(t *testing.T) {
	s := bufsock.NewBufferedSocket(&wire{reads: []read{{"xa", nil}, {"", os.ErrDeadlineExceeded}}})
	_, _, err := s.RecvUntilAny([][]byte{[]byte("a\x01b")})
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	msg, which, err := s.RecvUntilAny([][]byte{[]byte("a"), []byte("b")})
	require.NoError(t, err)
	require.Equal(t, "x", string(msg))
	require.Zero(t, which)
}

// The memory of a buffer is used again, by any socket, but nothing that was
// known about its bytes; nor is that kept when they are consumed.
func TestSearchesAreForgottenWithTheBytes(t *testing.T) {
	once := errors.New("once")
	until := func(s *bufsock.BufferedSocket) ([]byte, error) { return s.RecvUntil(lf) }
	several := func(s *bufsock.BufferedSocket) ([]byte, error) {
		msg, _, err := s.RecvUntilAny([][]byte{lf, {0}})
		return msg, err
	}
	for range 50 { // a pool may or may not return what was put there last
		for _, receive := range []func(*bufsock.BufferedSocket) ([]byte, error){until, several} {
			s := bufsock.NewBufferedSocket(segments("no delimiter"))
			_, err := receive(s)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.NoError(t, s.Close())

			s = bufsock.NewBufferedSocket(&wire{reads: []read{{"\nab", nil}, {"", once}, {"\n\nc\n", nil}}})
			_, err = s.Peek(3)
			require.NoError(t, err)
			for _, want := range []string{"", "once", "ab", "", "c"} {
				msg, err := receive(s)
				if want == "once" {
					require.Equal(t, once, err)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, want, string(msg))
			}
			require.NoError(t, s.Close())
		}
	}
}

// A discard forgets how far another search has come.
func TestDiscardUntilBehindASearch(t *testing.T) {
	s := bufsock.NewBufferedSocket(&wire{reads: []read{{"0123456789", nil}, {"", os.ErrDeadlineExceeded}, {"ab\nc", nil}}})
	_, err := s.RecvUntil(lf)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	n, err := s.DiscardUntil(lf)
	require.NoError(t, err)
	require.Equal(t, 13, n)
	require.Equal(t, "c", string(s.RecvBuffer()))
}
