package bufsock_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecvUntil(t *testing.T) {
	type opts = []bufsock.Option
	keep, limit := bufsock.WithDelimiter(), bufsock.WithMaxSize
	tests := map[string]struct {
		wire  []string
		delim string
		opts  opts
		want  string
		left  string
		err   error // what the error must match
	}{
		"consumes the delimiter":                    {[]string{"ab\r\ncd"}, "\r\n", nil, "ab", "cd", nil},
		"keeps the delimiter on request":            {[]string{"ab\r\ncd"}, "\r\n", opts{keep}, "ab\r\n", "cd", nil},
		"an empty message":                          {[]string{"\r\ncd"}, "\r\n", nil, "", "cd", nil},
		"a cut inside the delimiter":                {[]string{"ab\r", "\ncd"}, "\r\n", nil, "ab", "cd", nil},
		"a false start of the delimiter":            {[]string{"ab\r", "\r\ncd"}, "\r\n", nil, "ab\r", "cd", nil},
		"a delimiter that overlaps itself":          {[]string{"$$$"}, "$$", nil, "", "$", nil},
		"a delimiter with a repeated start":         {[]string{"aa", "aab"}, "aab", nil, "aa", "", nil},
		"a delimiter byte by byte":                  {[]string{"x", "a", "b", "a", "b", "c"}, "abc", nil, "xab", "", nil},
		"max size counts the delimiter: exactly":    {[]string{"abc\r\n"}, "\r\n", opts{limit(5)}, "abc", "", nil},
		"max size counts the delimiter: one over":   {[]string{"abcd\r\n"}, "\r\n", opts{limit(5)}, "", "abcd\r\n", errTooLong},
		"a cut inside the delimiter at the limit":   {[]string{"abc\r", "\n"}, "\r\n", opts{limit(5)}, "abc", "", nil},
		"a limit that the delimiter alone fills":    {[]string{"\r", "\nab"}, "\r\n", opts{limit(2)}, "", "ab", nil},
		"exactly max size without a delimiter":      {[]string{"abcde"}, "\r\n", opts{limit(5)}, "", "abcde", errTooLong},
		"no room left for the delimiter":            {[]string{"abcd"}, "\r\n", opts{limit(5)}, "", "abcd", errTooLong},
		"the last byte may begin the delimiter":     {[]string{"abc\r"}, "\r\n", opts{limit(5)}, "", "abc\r", io.ErrUnexpectedEOF},
		"a delimiter longer than max size":          {nil, "\r\n", opts{limit(1)}, "", "", errTooLong},
		"max size zero":                             {[]string{"\n"}, "\n", opts{limit(0)}, "", "", errTooLong},
		"a delimiter in one piece behind the limit": {[]string{strings.Repeat("a", 10) + "\n"}, "\n", opts{limit(10)}, "", "aaaaaaaaaa\n", errTooLong},
		"the end between messages":                  {nil, "\n", nil, "", "", io.EOF},
		"the end inside a message":                  {[]string{"abc"}, "\n", nil, "", "abc", io.ErrUnexpectedEOF},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments(tt.wire...))
			msg, err := s.RecvUntil([]byte(tt.delim), tt.opts...)
			assertErrorIs(t, err, tt.err)
			assert.Equal(t, tt.want, string(msg))
			assert.Equal(t, err == nil, msg != nil, "nil and only nil with an error")
			assert.Equal(t, tt.left, string(s.RecvBuffer()))
			assert.Equal(t, len(tt.left), s.Buffered())
		})
	}
}

func TestRecvUntilDefaultMaxSize(t *testing.T) {
	for over := range 2 {
		line := strings.Repeat("a", bufsock.DefaultMaxSize-1+over) + "\n"
		s := bufsock.NewBufferedSocket(segments(line))
		msg, err := s.RecvUntil([]byte("\n"))
		if over == 0 {
			require.NoError(t, err)
			require.Equal(t, line[:len(line)-1], string(msg))
			continue
		}
		require.IsType(t, (*bufsock.MessageTooLongError)(nil), err)
	}
}

func TestSizedReceives(t *testing.T) {
	const long = math.MaxInt // more than any machine would allocate
	tests := map[string]struct {
		wire       []string
		size       int
		recv       string // what Recv returns
		recvErr    error
		sized      string // what RecvSize and Peek return
		sizedErr   error
		discarded  int
		discardErr error
	}{
		"all in one segment":       {[]string{"abcdef"}, 4, "abcd", nil, "abcd", nil, 4, nil},
		"in two segments":          {[]string{"ab", "cdef"}, 4, "ab", nil, "abcd", nil, 4, nil},
		"exactly what there is":    {[]string{"abcd"}, 4, "abcd", nil, "abcd", nil, 4, nil},
		"zero does not wait":       {nil, 0, "", nil, "", nil, 0, nil},
		"one more than there is":   {[]string{"abc"}, 4, "abc", nil, "", io.ErrUnexpectedEOF, 3, io.ErrUnexpectedEOF},
		"nothing there":            {nil, 4, "", io.EOF, "", io.EOF, 0, io.EOF},
		"a size only announced":    {[]string{"abc"}, long, "abc", nil, "", io.ErrUnexpectedEOF, 3, io.ErrUnexpectedEOF},
		"a negative size":          {[]string{"abc"}, -1, "", bufsock.ErrInvalidArgument, "", bufsock.ErrInvalidArgument, 0, bufsock.ErrInvalidArgument},
		"not bounded by max size":  {[]string{"abcdef"}, 6, "abcdef", nil, "abcdef", nil, 6, nil},
		"data together with error": {nil, 3, "abc", nil, "abc", nil, 3, nil},
	}
	for name, tt := range tests {
		socket := func() *bufsock.BufferedSocket {
			w := segments(tt.wire...)
			if name == "data together with error" {
				w.reads = []read{{"abc", io.EOF}}
			}
			return bufsock.NewBufferedSocket(w, bufsock.WithMaxSize(5))
		}
		all := strings.Join(tt.wire, "")
		t.Run(name, func(t *testing.T) {
			s := socket()
			msg, err := s.Recv(tt.size)
			assertErrorIs(t, err, tt.recvErr)
			assert.Equal(t, tt.recv, string(msg))

			s = socket()
			msg, err = s.RecvSize(tt.size)
			assertErrorIs(t, err, tt.sizedErr)
			assert.Equal(t, tt.sized, string(msg))
			assert.Equal(t, err == nil, msg != nil)
			if err != nil && tt.size > 0 {
				assert.Equal(t, all, string(s.RecvBuffer()))
			}

			s = socket()
			msg, err = s.Peek(tt.size)
			assertErrorIs(t, err, tt.sizedErr)
			assert.Equal(t, tt.sized, string(msg))
			if err == nil {
				again, err := s.RecvSize(tt.size)
				assert.NoError(t, err)
				assert.Equal(t, msg, again, "Peek consumes nothing")
			}

			s = socket()
			n, err := s.Discard(tt.size)
			assertErrorIs(t, err, tt.discardErr)
			assert.Equal(t, tt.discarded, n)
		})
	}
}

func TestRecvEndOfStream(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			go func() {
				remote.Write([]byte("abc"))
				remote.Close()
			}()
			s := bufsock.NewBufferedSocket(local)
			msg, err := s.RecvClose()
			require.NoError(t, err)
			require.Equal(t, "abc", string(msg))
			for range 3 {
				_, err := s.Recv(1)
				require.True(t, err == io.EOF, "io.EOF itself, not %v", err)
				n, err := s.Read(make([]byte, 1))
				require.Zero(t, n)
				require.True(t, err == io.EOF, "io.EOF itself, not %v", err)
				msg, err := s.RecvClose()
				require.NoError(t, err)
				require.NotNil(t, msg)
				require.Empty(t, msg)
			}
		})
	}
}

func TestRecvClose(t *testing.T) {
	tests := map[string]struct {
		wire  []string
		limit int
		want  string
		err   error
	}{
		"everything":               {[]string{"ab", "cd"}, 100, "abcd", nil},
		"exactly max size":         {[]string{"ab", "cd"}, 4, "abcd", nil},
		"one more":                 {[]string{"ab", "cde"}, 4, "", errTooLong},
		"nothing":                  {nil, 100, "", nil},
		"nothing with max size 0":  {nil, 0, "", nil},
		"one byte with max size 0": {[]string{"a"}, 0, "", errTooLong},
		"no limit":                 {[]string{strings.Repeat("a", 100_000)}, bufsock.NoLimit, strings.Repeat("a", 100_000), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments(tt.wire...))
			msg, err := s.RecvClose(bufsock.WithMaxSize(tt.limit))
			assertErrorIs(t, err, tt.err)
			assert.Equal(t, tt.want, string(msg))
			if err != nil {
				assert.Equal(t, strings.Join(tt.wire, ""), string(s.RecvBuffer()), "nothing consumed")
			}
		})
	}
}

func TestDiscardUntil(t *testing.T) {
	tests := map[string]struct {
		wire  []string
		delim string
		want  int
		left  string
		err   error
	}{
		"the delimiter counts":            {[]string{"abc\r\nd"}, "\r\n", 5, "d", nil},
		"a cut inside the delimiter":      {[]string{"abc\r", "\nd"}, "\r\n", 5, "d", nil},
		"a false start":                   {[]string{"abc\r", "\r\nd"}, "\r\n", 6, "d", nil},
		"an overlapping start":            {[]string{"aa", "aab"}, "aab", 5, "", nil},
		"a beginning of it at the end":    {[]string{"abc\r"}, "\r\n", 3, "\r", io.ErrUnexpectedEOF},
		"no delimiter":                    {[]string{"abc"}, "\r\n", 3, "", io.ErrUnexpectedEOF},
		"nothing":                         {nil, "\r\n", 0, "", io.EOF},
		"no max size applies":             {[]string{strings.Repeat("a", 100_000) + "\n"}, "\n", 100_001, "", nil},
		"a delimiter longer than what is": {[]string{"ab"}, "abc", 0, "ab", io.ErrUnexpectedEOF},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments(tt.wire...), bufsock.WithMaxSize(3))
			n, err := s.DiscardUntil([]byte(tt.delim))
			assertErrorIs(t, err, tt.err)
			assert.Equal(t, tt.want, n)
			assert.Equal(t, tt.left, string(s.RecvBuffer()))
		})
	}
}

func TestTooLongCanBeReadOrSkipped(t *testing.T) {
	for _, skip := range []bool{false, true} {
		s := bufsock.NewBufferedSocket(segments("0123456789\nnext\n"), bufsock.WithMaxSize(5))
		for range 2 {
			_, err := s.RecvUntil([]byte("\n"))
			require.IsType(t, (*bufsock.MessageTooLongError)(nil), err)
		}
		if skip {
			n, err := s.DiscardUntil([]byte("\n"))
			require.NoError(t, err)
			require.Equal(t, 11, n)
		} else {
			msg, err := s.RecvUntil([]byte("\n"), bufsock.WithMaxSize(11))
			require.NoError(t, err)
			require.Equal(t, "0123456789", string(msg))
		}
		msg, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "next", string(msg))
	}
}

// What the iterator was given may be changed afterwards.
func TestMessagesKeepsWhatItWasGiven(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("a;b;"))
	delim, opts := []byte(";"), []bufsock.Option{bufsock.WithMaxSize(2)}
	messages := s.Messages(delim, opts...)
	delim[0], opts[0] = ',', bufsock.WithMaxSize(0)
	var got []string
	for msg, err := range messages {
		require.NoError(t, err)
		got = append(got, string(msg))
	}
	require.Equal(t, []string{"a", "b"}, got)
}

func TestMessages(t *testing.T) {
	collect := func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (msgs []string, errs []error) {
		for msg, err := range s.Messages([]byte("\n"), opts...) {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			msgs = append(msgs, string(msg))
		}
		return msgs, errs
	}
	t.Run("a clean end ends the loop", func(t *testing.T) {
		msgs, errs := collect(bufsock.NewBufferedSocket(segments("a\n", "\nb\n")))
		require.Equal(t, []string{"a", "", "b"}, msgs)
		require.Empty(t, errs)
	})
	t.Run("an unfinished tail is an error and stays", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("a\nb"))
		msgs, errs := collect(s)
		require.Equal(t, []string{"a"}, msgs)
		require.Len(t, errs, 1)
		require.ErrorIs(t, errs[0], io.ErrUnexpectedEOF)
		require.Equal(t, "b", string(s.RecvBuffer()))
	})
	t.Run("ranging again goes on", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("a\nb\nc\n"))
		for msg, err := range s.Messages([]byte("\n")) {
			require.NoError(t, err)
			require.Equal(t, "a", string(msg))
			break
		}
		msgs, _ := collect(s)
		require.Equal(t, []string{"b", "c"}, msgs)
	})
	t.Run("a limit is an error once, and can be passed", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("a\nlong\nb\n"))
		msgs, errs := collect(s, bufsock.WithMaxSize(3))
		require.Equal(t, []string{"a"}, msgs)
		require.Len(t, errs, 1)
		require.IsType(t, (*bufsock.MessageTooLongError)(nil), errs[0])
		_, err := s.DiscardUntil([]byte("\n"))
		require.NoError(t, err)
		msgs, errs = collect(s, bufsock.WithMaxSize(3))
		require.Equal(t, []string{"b"}, msgs)
		require.Empty(t, errs)
	})
	t.Run("the loop body may use the socket", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("3\nabc2\nxy"))
		var bodies []string
		for msg, err := range s.Messages([]byte("\n")) {
			require.NoError(t, err)
			body, err := s.RecvSize(int(msg[0] - '0'))
			require.NoError(t, err)
			bodies = append(bodies, string(body))
		}
		require.Equal(t, []string{"abc", "xy"}, bodies)
	})
	t.Run("a bad argument is an error", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("a\n"))
		n := 0
		for _, err := range s.Messages(nil) {
			require.ErrorIs(t, err, bufsock.ErrInvalidArgument)
			n++
		}
		require.Equal(t, 1, n)
	})
}

func TestAppendTo(t *testing.T) {
	t.Run("appends and keeps the memory", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("cd\n"))
		dst := append(make([]byte, 0, 10), "ab"...)
		msg, err := s.RecvUntil([]byte("\n"), bufsock.AppendTo(dst))
		require.NoError(t, err)
		require.Equal(t, "abcd", string(msg))
		require.Same(t, &dst[0], &msg[0])
	})
	t.Run("comes back unchanged with an error", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments(strings.Repeat("x", 50_000)))
		dst := append(make([]byte, 0, 100_000), "ab"...)
		msg, err := s.RecvSize(60_000, bufsock.AppendTo(dst))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, dst, msg)
		require.Equal(t, 50_000, s.Buffered(), "what was read straight into dst")
		msg, err = s.RecvUntil(nil, bufsock.AppendTo(dst))
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument)
		require.Equal(t, dst, msg)
	})
	t.Run("an empty message is not nil", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("\n"))
		msg, err := s.RecvUntil([]byte("\n"), bufsock.AppendTo(nil))
		require.NoError(t, err)
		require.NotNil(t, msg)
		require.Empty(t, msg)
	})
	t.Run("a large size goes straight there", func(t *testing.T) {
		w := segments("0123", strings.Repeat("x", 100_000), "tail")
		s := bufsock.NewBufferedSocket(w)
		msg, err := s.Peek(4)
		require.NoError(t, err)
		require.Equal(t, "0123", string(msg))
		msg, err = s.RecvSize(100_004, bufsock.AppendTo(make([]byte, 0, 100_004)))
		require.NoError(t, err)
		require.Equal(t, "0123"+strings.Repeat("x", 100_000), string(msg))
		require.Equal(t, []int{512, 100_000}, w.asked, "one read of all that is missing")
		require.Zero(t, s.Buffered())
	})
}

// A message belongs to the caller: neither later receives nor other sockets
// may write to it.
func TestMessagesAreTheCallersOwn(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("first\nsecond\n"))
	first, err := s.RecvUntil([]byte("\n"))
	require.NoError(t, err)
	buffer := s.RecvBuffer()
	peeked, err := s.Peek(3)
	require.NoError(t, err)
	first = append(first, "!!!!!!!!"...)
	copy(peeked, "xxx")
	copy(buffer, "yyyyyyy")
	second, err := s.RecvUntil([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, "second", string(second))
	require.Equal(t, "first!!!!!!!!", string(first))
}

func TestReadSize(t *testing.T) {
	w := segments(strings.Repeat("a line of 20 bytes.\n", 10_000))
	s := bufsock.NewBufferedSocket(w)
	for range 10_000 {
		_, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(w.asked), 200_000/32768+2)
	require.Equal(t, 512, w.asked[0], "bytes asked by a read that may have to wait")
	for _, n := range w.asked[1:] {
		require.Equal(t, 32768, n, "bytes asked by a read that need not")
	}

	w = segments("abc\n")
	_, err := bufsock.NewBufferedSocket(w, bufsock.WithReadSize(2)).RecvUntil([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, []int{2, 2}, w.asked)
}

// Memory follows the bytes that have come, and goes when they go.
func TestLargeMessages(t *testing.T) {
	const size = 8 << 20
	local, remote := tcpPair(t)
	payload := bytes.Repeat([]byte("0123456789abcde\r"), size/16)
	go func() {
		remote.Write(payload)
		remote.Write([]byte("\nnext\n"))
	}()
	s := bufsock.NewBufferedSocket(local, bufsock.WithMaxSize(bufsock.NoLimit))
	msg, err := s.RecvUntil([]byte("\r\n"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(payload[:size-1], msg))
	msg, err = s.RecvUntil([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, "next", string(msg))
}

// A call that finds its answer in the buffer returns what one returns that has
// waited for its turn first.
func TestAnswersDoNotDependOnWhetherTheCallHadToWait(t *testing.T) {
	const wire = "3:a\r\n,def\r\n4:wxyz,"
	limit := bufsock.WithMaxSize
	options := map[string][]bufsock.Option{
		"without options": nil,
		"WithDelimiter":   {bufsock.WithDelimiter()},
		"AppendTo":        {bufsock.AppendTo([]byte("dst "))},
		"max size 0":      {limit(0)},
		"max size 4":      {limit(4)},
		"max size 2":      {limit(2)},
		"max size 3":      {limit(3)},
		"max size 5":      {limit(5)},
		"max size 6":      {limit(6)},
		"max size 13":     {limit(13)},
		"no limit":        {limit(bufsock.NoLimit)},
	}
	calls := map[string]func(s *bufsock.BufferedSocket) ([]byte, error){}
	for name, call := range answers {
		for with, opts := range options {
			calls[name+" "+with] = func(s *bufsock.BufferedSocket) ([]byte, error) { return call(s, opts...) }
		}
	}
	for size := range len(wire) + 2 {
		calls[fmt.Sprintf("RecvSize %d", size)] = func(s *bufsock.BufferedSocket) ([]byte, error) { return s.RecvSize(size) }
	}
	for name, call := range calls {
		var results [3]string
		for way := range results {
			synctest.Test(t, func(t *testing.T) {
				s := bufsock.NewBufferedSocket(segments(wire))
				_, err := s.Peek(len(wire))
				require.NoError(t, err)
				release := func() {}
				if way > 0 {
					release = occupy(t, s)
				}
				done := make(chan string)
				go func() {
					msg, err := call(s)
					done <- fmt.Sprintf("%q %v, left %q", msg, err, s.RecvBuffer())
				}()
				synctest.Wait()
				if way == 2 {
					require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour))) // wakes it
					synctest.Wait()
				}
				release()
				results[way] = <-done
			})
		}
		require.Equal(t, results[0], results[1], name)
		require.Equal(t, results[0], results[2], name)
	}
}

// Calls that are asked for nothing do not wait for another's turn.
func TestSizesOfZeroDoNotWait(t *testing.T) {
	for name, call := range map[string]func(s *bufsock.BufferedSocket) (int, error){
		"Recv":     func(s *bufsock.BufferedSocket) (int, error) { msg, err := s.Recv(0); return len(msg), err },
		"RecvSize": func(s *bufsock.BufferedSocket) (int, error) { msg, err := s.RecvSize(0); return len(msg), err },
		"Peek":     func(s *bufsock.BufferedSocket) (int, error) { msg, err := s.Peek(0); return len(msg), err },
		"Discard":  func(s *bufsock.BufferedSocket) (int, error) { return s.Discard(0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments("x"))
			release := occupy(t, s)
			n, err := call(s)
			require.NoError(t, err, name)
			require.Zero(t, n, name)
			release()
		})
	}
}

// Each read asks for the read size, whatever the buffer has room for.
func TestReadsAskForTheReadSize(t *testing.T) {
	// The buffer of a read size of up to 512 has 576 bytes.
	tests := map[string]struct{ readSize, buffered, discarded int }{
		"it fits":                         {100, 400, 0},
		"exactly":                         {96, 480, 0},
		"most of it fits":                 {100, 500, 0},
		"a byte of it fits":               {100, 575, 0},
		"nothing fits":                    {96, 576, 0},
		"the buffered bytes are the less": {100, 500, 251},
		"the buffered bytes are as many":  {100, 500, 250},
		"the buffered bytes are the more": {100, 500, 249},
		"one byte is left":                {100, 500, 499},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			content := make([]byte, tt.buffered)
			for i := range content {
				content[i] = byte(i)
			}
			w := &wire{}
			for rest := content; len(rest) > 0; {
				n := min(len(rest), tt.readSize)
				w.reads = append(w.reads, read{data: string(rest[:n])})
				rest = rest[n:]
			}
			s := bufsock.NewBufferedSocket(w, bufsock.WithReadSize(tt.readSize))
			_, err := s.Peek(tt.buffered)
			require.NoError(t, err)
			_, err = s.Discard(tt.discarded)
			require.NoError(t, err)
			_, err = s.Peek(tt.buffered + 1)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			for _, n := range w.asked {
				require.Equal(t, tt.readSize, n)
			}
			require.Equal(t, content[tt.discarded:], s.RecvBuffer())
		})
	}
}

func TestDiscardTellsWhetherAnythingCame(t *testing.T) {
	for came, want := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrUnexpectedEOF} {
		s := bufsock.NewBufferedSocket(segments("ab"[:came]))
		n, err := s.Discard(3)
		assertErrorIs(t, err, want)
		require.Equal(t, came, n)
		require.Zero(t, err.(*bufsock.ConnectionClosedError).Buffered)

		// a beginning of the delimiter came, and stays
		s = bufsock.NewBufferedSocket(segments("ab"[:came]))
		n, err = s.DiscardUntil([]byte("abc"))
		assertErrorIs(t, err, want)
		require.Zero(t, n)
		require.Equal(t, came, err.(*bufsock.ConnectionClosedError).Buffered)
	}
}

// A longConn has more bytes than an int of 32 bits can count.
type longConn struct {
	*wire
	read int64
}

func (c *longConn) Read(p []byte) (int, error) {
	if c.read > math.MaxInt32+int64(len(p)) {
		return 0, errGone
	}
	c.read += int64(len(p))
	clear(p) // it comes from a pool, and may hold a line end
	return len(p), nil
}

// A count never turns negative, also where an int has 32 bits: it stops at the
// largest int, and the call goes on.
func TestDiscardUntilCountsUpToTheLargestInt(t *testing.T) {
	conn := &longConn{wire: &wire{}}
	s := bufsock.NewBufferedSocket(conn, bufsock.WithReadSize(16<<20), bufsock.WithTimeout(bufsock.NoTimeout))
	n, err := s.DiscardUntil(lf)
	require.Equal(t, errGone, err)
	require.EqualValues(t, min(conn.read, math.MaxInt), n)
}

// With an error AppendTo's dst comes back, whatever the call and the error.
func TestDstComesBackWithEveryError(t *testing.T) {
	dst := append(make([]byte, 0, 100), "dst"...)
	into := bufsock.AppendTo(dst)
	calls := map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error){
		"Recv":     func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) { return s.Recv(5, opts...) },
		"RecvSize": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) { return s.RecvSize(5, opts...) },
		"Peek":     func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) { return s.Peek(5, opts...) },
		"RecvUntil": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			return s.RecvUntil(crlf, opts...)
		},
		"RecvUntilAny": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			msg, _, err := s.RecvUntilAny([][]byte{crlf}, opts...)
			return msg, err
		},
		"RecvSplit": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			return s.RecvSplit(func([]byte, bool) (int, []byte, error) { return 0, nil, nil }, opts...)
		},
		"RecvClose": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) { return s.RecvClose(opts...) },
		"ReadNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			return bufsock.NewNetstringSocket(s).ReadNetstring(opts...)
		},
		"Messages": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (msg []byte, err error) {
			for msg, err = range s.Messages(crlf, opts...) {
			}
			return msg, err
		},
		"Recv of -1": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) { return s.Recv(-1, opts...) },
		"RecvSize of -1": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			return s.RecvSize(-1, opts...)
		},
		"Peek of -1": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) { return s.Peek(-1, opts...) },
		"RecvUntil of nothing": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			return s.RecvUntil(nil, opts...)
		},
		"RecvUntilAny of none": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			msg, _, err := s.RecvUntilAny(nil, opts...)
			return msg, err
		},
		"RecvUntilAny of nothing": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			msg, _, err := s.RecvUntilAny([][]byte{nil}, opts...)
			return msg, err
		},
		"RecvSplit by nil": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
			return s.RecvSplit(nil, opts...)
		},
		"Recv of 0": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) { return s.Recv(0, opts...) },
	}
	boom := errors.New("boom")
	streams := map[string]func() *bufsock.BufferedSocket{
		"the end":         func() *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(segments()) },
		"the end, inside": func() *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(segments("1")) },
		"an error":        func() *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(&wire{reads: []read{{"", boom}}}) },
		"too long": func() *bufsock.BufferedSocket {
			return bufsock.NewBufferedSocket(segments("9999"), bufsock.WithMaxSize(2))
		},
		"no netstring": func() *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(segments("9x")) },
		"no comma":     func() *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(segments("1:a;")) },
		"closed": func() *bufsock.BufferedSocket {
			s := bufsock.NewBufferedSocket(segments())
			s.Close()
			return s
		},
	}
	for stream, socket := range streams {
		for name, call := range calls {
			msg, err := call(socket(), into)
			if err != nil {
				assert.Equal(t, "dst", string(msg), "%s at %s: %v", name, stream, err)
			}
			if msg, err = call(socket()); err != nil {
				assert.Nil(t, msg, "%s at %s: %v", name, stream, err)
			}
			msg, err = call(socket(), bufsock.WithReadSize(1), into)
			assert.ErrorIs(t, err, bufsock.ErrInvalidArgument, "%s at %s", name, stream)
			assert.Equal(t, "dst", string(msg), "%s at %s: %v", name, stream, err)
		}
	}
}

// Reads may ask for more than a buffer from a pool has.
func TestLargestReadSizes(t *testing.T) {
	for _, readSize := range []int{1 << 27, 1<<27 + 1} {
		w := segments("a")
		s := bufsock.NewBufferedSocket(w, bufsock.WithReadSize(readSize))
		_, err := s.RecvSize(2)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, []int{512, readSize}, w.asked)
		require.Equal(t, "a", string(s.RecvBuffer()))
		require.NoError(t, s.Close())
	}
}

// A hundred reads in a row may return nothing, as in bufio; those of another
// fill are counted anew.
func TestReadsThatReturnNothing(t *testing.T) {
	for empty, want := range map[int]error{99: nil, 100: io.ErrNoProgress} {
		reads := slices.Concat(make([]read, 99), []read{{"a", nil}}, make([]read, empty), []read{{"\n", nil}})
		s := bufsock.NewBufferedSocket(&wire{reads: reads})
		msg, err := s.RecvUntil(lf)
		require.Equal(t, want, err)
		if err == nil {
			require.Equal(t, "a", string(msg))
			continue
		}
		require.Equal(t, "a", string(s.RecvBuffer()))
		_, err = s.RecvUntil(lf)
		require.NoError(t, err, "the same call goes on")
	}
}

// A max size that a call is given bounds the size that it asks for, before
// anything has come; that of the socket does not.
func TestMaxSizeOfACallBoundsItsSize(t *testing.T) {
	calls := map[string]func(*bufsock.BufferedSocket, int, ...bufsock.Option) ([]byte, error){
		"RecvSize": (*bufsock.BufferedSocket).RecvSize,
		"Peek":     (*bufsock.BufferedSocket).Peek,
	}
	for op, call := range calls {
		for _, buffered := range []int{0, 4} {
			w := segments("abcd", "efgh")
			s := bufsock.NewBufferedSocket(w, bufsock.WithMaxSize(1))
			_, err := s.Peek(buffered)
			require.NoError(t, err)
			asked := len(w.asked)
			msg, err := call(s, 4, bufsock.WithMaxSize(3))
			e, ok := err.(*bufsock.MessageTooLongError)
			require.True(t, ok, "%s: %v", op, err)
			require.Equal(t, bufsock.MessageTooLongError{Op: op, MaxSize: 3, Buffered: buffered}, *e)
			require.Nil(t, msg)
			require.Len(t, w.asked, asked, "the connection is not asked")
			require.Equal(t, buffered, s.Buffered())
			for _, opts := range [][]bufsock.Option{{bufsock.WithMaxSize(4)}, {bufsock.WithMaxSize(bufsock.NoLimit)}, nil} {
				msg, err = s.Peek(4, opts...)
				require.NoError(t, err)
				require.Equal(t, "abcd", string(msg))
			}
			msg, err = call(s, 4, bufsock.WithMaxSize(4))
			require.NoError(t, err)
			require.Equal(t, "abcd", string(msg))
		}
	}
}

// That a size is too large is known without a turn.
func TestASizeThatIsTooLargeIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		defer occupy(t, s)()
		for op, call := range map[string]func(n int, opts ...bufsock.Option) ([]byte, error){"RecvSize": s.RecvSize, "Peek": s.Peek} {
			d, err := elapsed(func() error { _, err := call(11, bufsock.WithMaxSize(10)); return err })
			require.Zero(t, d, op)
			e, ok := err.(*bufsock.MessageTooLongError)
			require.True(t, ok, "%s: %v", op, err)
			require.Equal(t, 10, e.MaxSize)
		}
		s.Close()
		remote.Close()
	})
}

// A panic of the connection or of a context behind a message does not take it
// away.
func TestAPanicBehindAMessageConsumesNothing(t *testing.T) {
	for op, call := range waiting {
		if isSend(op) || op == "Discard" || strings.HasPrefix(op, "Discard") {
			continue
		}
		t.Run(op, func(t *testing.T) {
			const message = "1:x,\n"
			armed := false
			conn := &hooked{Conn: segments(message)}
			conn.readDeadline = func(at time.Time) error {
				if armed && at.IsZero() { // as it was
					armed = false
					panic("deadline")
				}
				armed = !at.IsZero()
				return nil
			}
			s := bufsock.NewBufferedSocket(conn)
			require.Equal(t, "deadline", panicOf(func() { call(s) }))
			require.Equal(t, message, string(s.RecvBuffer()))
		})
	}
}
