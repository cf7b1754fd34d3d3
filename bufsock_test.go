package bufsock_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A transport makes connected pairs of one kind of connection.
type transport struct {
	name string
	pair func(t testing.TB) (local, remote net.Conn)
}

var transports = []transport{
	{"TCP", tcpPair},
	{"Unix", unixPair},
	{"Pipe", pipePair},
	{"TLS", tlsPair},
}

func tcpPair(t testing.TB) (net.Conn, net.Conn) { return dialPair(t, "tcp", "127.0.0.1:0") }

func unixPair(t testing.TB) (net.Conn, net.Conn) {
	// The name of a socket must be short, about 100 bytes: t.TempDir() is too long.
	dir, err := os.MkdirTemp("", "")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dialPair(t, "unix", filepath.Join(dir, "s"))
}

func pipePair(t testing.TB) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func dialPair(t testing.TB, network, address string) (net.Conn, net.Conn) {
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	b, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// A wire is a connection whose reads and writes are scripted. What is not
// scripted it does not have.
type wire struct {
	net.Conn
	reads  []read   // results of Read, one each; then io.EOF
	asked  []int    // how much each Read asked for
	limits []int    // how much each Write takes; then everything
	writes []string // what each Write took
	err    error    // returned by a Write that is cut short
}

type read struct {
	data string
	err  error
}

// segments returns a wire that delivers the segments, then the end.
func segments(segments ...string) *wire {
	w := &wire{}
	for _, s := range segments {
		w.reads = append(w.reads, read{data: s})
	}
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	w.asked = append(w.asked, len(p))
	if len(w.reads) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.reads[0].data)
	w.reads[0].data = w.reads[0].data[n:]
	if w.reads[0].data != "" {
		return n, nil
	}
	err := w.reads[0].err
	w.reads = w.reads[1:]
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n := len(p)
	var err error
	if len(w.limits) > 0 {
		if w.limits[0] < n {
			n, err = w.limits[0], w.err
		}
		w.limits = w.limits[1:]
	}
	w.writes = append(w.writes, string(p[:n]))
	return n, err
}

func (w *wire) Close() error                     { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

var crlf = []byte("\r\n")

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

// errTooLong stands for a *MessageTooLongError in tables.
var errTooLong = errors.New("too long")

// assertErrorIs wants err to match target, or nil if that is nil.
func assertErrorIs(t *testing.T, err, target error) {
	t.Helper()
	switch target {
	case nil:
		assert.NoError(t, err)
	case errTooLong:
		assert.IsType(t, (*bufsock.MessageTooLongError)(nil), err)
	default:
		assert.ErrorIs(t, err, target)
	}
	if closed, ok := err.(*bufsock.ConnectionClosedError); ok {
		assert.NotEqual(t, errors.Is(closed, io.EOF), errors.Is(closed, io.ErrUnexpectedEOF), "one or the other")
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

func TestRecvSplit(t *testing.T) {
	// uncomment skips lines that begin with '#', an advance without a token.
	uncomment := func(data []byte, atEOF bool) (int, []byte, error) {
		advance, token, err := bufio.ScanLines(data, atEOF)
		if len(token) > 0 && token[0] == '#' {
			return advance, nil, err
		}
		return advance, token, err
	}
	fixed := func(advance int, token []byte, err error) bufio.SplitFunc {
		return func([]byte, bool) (int, []byte, error) { return advance, token, err }
	}
	boom := errors.New("boom")
	tests := map[string]struct {
		wire  []string
		split bufio.SplitFunc
		limit int
		want  string
		left  string
		err   error
	}{
		"a token":                             {[]string{"ab\ncd"}, bufio.ScanLines, 100, "ab", "cd", nil},
		"an empty token":                      {[]string{"\ncd"}, bufio.ScanLines, 100, "", "cd", nil},
		"a token in two segments":             {[]string{"a", "b\ncd"}, bufio.ScanLines, 100, "ab", "cd", nil},
		"what it skips goes with the token":   {[]string{"#1\n#2\n", "ab\ncd"}, uncomment, 100, "ab", "cd", nil},
		"what it skips stays without a token": {[]string{"#1\nab"}, func(d []byte, _ bool) (int, []byte, error) { return uncomment(d, false) }, 100, "", "#1\nab", io.ErrUnexpectedEOF},
		"the last token sees the end":         {[]string{"ab"}, bufio.ScanLines, 100, "ab", "", nil},
		"nothing but what it skips":           {[]string{"  "}, bufio.ScanWords, 100, "", "  ", io.EOF},
		"no stream":                           {nil, bufio.ScanLines, 100, "", "", io.EOF},
		"exactly max size":                    {[]string{"abc\nd"}, bufio.ScanLines, 4, "abc", "d", nil},
		"one more":                            {[]string{"abcd\n"}, bufio.ScanLines, 4, "", "abcd\n", errTooLong},
		"max size before the end":             {[]string{"abcd"}, bufio.ScanLines, 4, "", "abcd", errTooLong},
		"what it skips counts":                {[]string{"#12\na\n"}, uncomment, 5, "", "#12\na\n", errTooLong},
		"max size zero":                       {[]string{"a"}, bufio.ScanBytes, 0, "", "a", errTooLong},
		"its error":                           {[]string{"ab"}, fixed(1, nil, boom), 100, "", "ab", boom},
		"its final token":                     {[]string{"ab"}, fixed(1, []byte("t"), bufio.ErrFinalToken), 100, "t", "b", nil},
		"its end without a token":             {[]string{"ab"}, fixed(1, nil, bufio.ErrFinalToken), 100, "", "ab", bufio.ErrFinalToken},
		"an advance below zero":               {[]string{"ab"}, fixed(-1, []byte("x"), nil), 100, "", "ab", bufio.ErrNegativeAdvance},
		"an advance behind the data":          {[]string{"ab"}, fixed(3, []byte("x"), nil), 100, "", "ab", bufio.ErrAdvanceTooFar},
		"a token that is not in the data":     {[]string{"ab"}, fixed(1, []byte("elsewhere"), nil), 100, "elsewhere", "b", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments(tt.wire...))
			msg, err := s.RecvSplit(tt.split, bufsock.WithMaxSize(tt.limit))
			assertErrorIs(t, err, tt.err)
			assert.Equal(t, tt.want, string(msg))
			assert.Equal(t, tt.left, string(s.RecvBuffer()))
		})
	}
}

// What split has skipped is not shown to it again in the same call.
func TestRecvSplitDoesNotLookBack(t *testing.T) {
	for _, wire := range [][]string{{"MAGCline\n"}, {"MAGC", "line\n"}} {
		magic := false
		s := bufsock.NewBufferedSocket(segments(wire...))
		msg, err := s.RecvSplit(func(data []byte, atEOF bool) (int, []byte, error) {
			if !magic {
				magic = true
				return 4, nil, nil
			}
			return bufio.ScanLines(data, atEOF)
		})
		require.NoError(t, err)
		require.Equal(t, "line", string(msg))
	}
}

func TestRecvSplitPanic(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("ab\n", "cd\n"))
	require.PanicsWithValue(t, "boom", func() {
		s.RecvSplit(func([]byte, bool) (int, []byte, error) { panic("boom") })
	})
	msg, err := s.RecvUntil([]byte("\n"))
	require.NoError(t, err, "the turn is free")
	require.Equal(t, "ab", string(msg), "nothing is lost")
}

func TestRecvSplitSeesTheEndOnlyAtTheEnd(t *testing.T) {
	local, remote := pipePair(t)
	go remote.Write([]byte("abc"))
	s := bufsock.NewBufferedSocket(local)
	for range 2 {
		_, err := s.RecvSplit(func(data []byte, atEOF bool) (int, []byte, error) {
			assert.False(t, atEOF)
			return 0, nil, nil
		}, bufsock.WithTimeout(5*time.Millisecond))
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	}
	require.Equal(t, "abc", string(s.RecvBuffer()))
}

// commas is the bufio.SplitFunc of the examples of bufio: the last field comes
// with ErrFinalToken, also if it is empty, and advances over nothing.
func commas(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, ','); i >= 0 {
		return i + 1, data[:i], nil
	}
	if !atEOF {
		return 0, nil, nil
	}
	return 0, data, bufio.ErrFinalToken
}

// dashes is commas that first skips dashes.
func dashes(data []byte, atEOF bool) (int, []byte, error) {
	if n := len(data) - len(bytes.TrimLeft(data, "-")); n > 0 {
		return n, nil, nil
	}
	return commas(data, atEOF)
}

// whole gives all that is left as a token, also if that is nothing.
func whole(data []byte, atEOF bool) (int, []byte, error) {
	if !atEOF {
		return 0, nil, nil
	}
	return len(data), data, nil
}

func TestRecvSplitEndsWithTheFinalToken(t *testing.T) {
	for name, tt := range map[string]struct {
		stream string
		split  bufio.SplitFunc
		want   []string
	}{
		"a final token":            {"1,2,3", commas, []string{"1", "2", "3"}},
		"an empty final token":     {"1,2,", commas, []string{"1", "2", ""}},
		"nothing but a final one":  {"", commas, []string{""}},
		"a token of no bytes":      {"", whole, []string{""}},
		"the rest, and then none":  {"123", whole, []string{"123", ""}},
		"what bufio ends with, no": {"1 2", bufio.ScanWords, []string{"1", "2"}},
		"behind what was skipped":  {"1,-2,--3", dashes, []string{"1", "2", "3"}},
	} {
		for _, w := range []*wire{segments(tt.stream), segments(strings.Split(tt.stream, "")...)} {
			s := bufsock.NewBufferedSocket(w)
			for _, want := range tt.want {
				msg, err := s.RecvSplit(tt.split)
				require.NoError(t, err, name)
				require.NotNil(t, msg, name)
				require.Equal(t, want, string(msg), name)
			}
			for range 2 {
				dst := []byte("dst")
				msg, err := s.RecvSplit(tt.split, bufsock.AppendTo(dst))
				require.IsType(t, (*bufsock.ConnectionClosedError)(nil), err, name)
				require.ErrorIs(t, err, io.EOF, name)
				require.EqualError(t, err, "bufsock: RecvSplit: connection closed by peer before a token (0 bytes buffered)")
				require.Equal(t, dst, msg, name)
			}
			require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return segments("4"), nil }))
			msg, err := s.RecvSplit(commas)
			require.NoError(t, err, "another connection has tokens of its own")
			require.Equal(t, "4", string(msg))
			require.NoError(t, s.Close())
			_, err = s.RecvSplit(commas)
			assertClosed(t, err)
		}
	}
}

// At the end of the stream a split function may fail, and may close the socket.
func TestRecvSplitThatFailsAtTheEnd(t *testing.T) {
	boom := errors.New("boom")
	for _, dst := range [][]byte{nil, []byte("dst")} {
		s := bufsock.NewBufferedSocket(segments("a"))
		msg, err := s.RecvSplit(func(_ []byte, atEOF bool) (int, []byte, error) {
			if atEOF {
				return 0, nil, boom
			}
			return 0, nil, nil
		}, bufsock.AppendTo(dst))
		require.Equal(t, boom, err)
		require.Equal(t, dst, msg)
		msg, err = s.RecvSplit(func([]byte, bool) (int, []byte, error) {
			require.NoError(t, s.Close())
			return 0, nil, nil
		}, bufsock.AppendTo(dst))
		assertClosed(t, err)
		require.Equal(t, dst, msg)
	}
}

// Only at the end of the stream is a final token the last.
func TestFinalTokenBeforeTheEnd(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("a,b,"))
	for _, want := range []string{"a", "b"} {
		msg, err := s.RecvSplit(func(data []byte, _ bool) (int, []byte, error) {
			return 2, data[:1], bufio.ErrFinalToken
		})
		require.NoError(t, err)
		require.Equal(t, want, string(msg))
	}
}

// A split function must not advance out of what it was shown, also behind what
// it has skipped.
func TestRecvSplitAdvancesWithinItsData(t *testing.T) {
	for advance, want := range map[int]error{-1: bufio.ErrNegativeAdvance, 3: bufio.ErrAdvanceTooFar} {
		s := bufsock.NewBufferedSocket(segments("  ab"))
		msg, err := s.RecvSplit(func(data []byte, _ bool) (int, []byte, error) {
			if data[0] == ' ' {
				return 1, nil, nil
			}
			return advance, data, nil
		}, bufsock.AppendTo([]byte("dst")))
		require.ErrorIs(t, err, want)
		require.Equal(t, "dst", string(msg))
		require.Equal(t, "  ab", string(s.RecvBuffer()))
	}
}

// A split function may append to what it is shown, as it may in a Scanner.
func TestRecvSplitCannotWriteToTheBuffer(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("abcdEFGH"))
	_, err := s.RecvSplit(func(data []byte, _ bool) (int, []byte, error) {
		return 0, nil, errors.New(string(append(data, 'X')))
	}, bufsock.WithMaxSize(4))
	require.EqualError(t, err, "abcdX")
	require.Equal(t, "abcdEFGH", string(s.RecvBuffer()))
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

func TestErrorsOfTheConnection(t *testing.T) {
	t.Run("come once if the connection may go on", func(t *testing.T) {
		once := errors.New("once")
		s := bufsock.NewBufferedSocket(&wire{reads: []read{{"a", once}, {"b", nil}, {"", once}, {"\n", nil}}})
		for range 2 {
			_, err := s.RecvUntil([]byte("\n"))
			require.Equal(t, once, err)
		}
		msg, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "ab", string(msg))
	})
	t.Run("a connection that is closed by others", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(&wire{reads: []read{{"a\n", net.ErrClosed}}})
		msg, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "a", string(msg))
		_, err = s.RecvUntil([]byte("\n"))
		require.True(t, err == net.ErrClosed, "as it is: %v", err)
	})
	t.Run("a connection that returns nothing for ever", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(&wire{reads: make([]read, 1000)})
		_, err := s.RecvUntil([]byte("\n"))
		require.ErrorIs(t, err, io.ErrNoProgress)
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrNoProgress)
	})
	t.Run("a connection that returns nothing for a while", func(t *testing.T) {
		w := &wire{reads: make([]read, 50)}
		w.reads = append(w.reads, read{data: "a\n"})
		msg, err := bufsock.NewBufferedSocket(w).RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "a", string(msg))
	})
	t.Run("a count that cannot be", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(liar{segments()})
		_, err := s.RecvUntil([]byte("\n"))
		require.ErrorContains(t, err, "impossible count")
		_, err = s.Send([]byte("abc"))
		require.ErrorContains(t, err, "impossible count")
	})
	t.Run("a panic of the connection", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(struct{ net.Conn }{}, bufsock.WithTimeout(bufsock.NoTimeout))
		for range 2 {
			require.Panics(t, func() { s.Recv(1) })
			require.Panics(t, func() { s.Send([]byte("abc")) })
		}
	})
}

// A liar returns counts that cannot be.
type liar struct{ *wire }

func (liar) Read(p []byte) (int, error)  { return len(p) + 1, nil }
func (liar) Write(p []byte) (int, error) { return -1, nil }

func TestSending(t *testing.T) {
	type step = func(s *bufsock.BufferedSocket) (int, error)
	send := func(data string) step {
		return func(s *bufsock.BufferedSocket) (int, error) { return s.Send([]byte(data)) }
	}
	buffers := func(data ...string) step {
		return func(s *bufsock.BufferedSocket) (int, error) {
			var bufs [][]byte
			for _, d := range data {
				bufs = append(bufs, []byte(d))
			}
			n, err := s.SendBuffers(bufs)
			for i, d := range data {
				assert.Equal(t, d, string(bufs[i]), "bufs is left as it was")
			}
			return n, err
		}
	}
	write := func(data string) step {
		return func(s *bufsock.BufferedSocket) (int, error) { return s.Write([]byte(data)) }
	}
	buffer := func(data string) step {
		return func(s *bufsock.BufferedSocket) (int, error) { return 0, s.Buffer([]byte(data)) }
	}
	flush := func(s *bufsock.BufferedSocket) (int, error) { return 0, s.Flush() }
	reset := &net.OpError{Op: "write", Net: "tcp", Err: errors.New("reset")}
	long := strings.Repeat("x", 100_000)

	tests := map[string]struct {
		limits []int
		cause  error
		before []step
		step   step
		n      int
		err    error
		writes []string
		unsent string
	}{
		"Send":                                    {nil, nil, nil, send("abc"), 3, nil, []string{"abc"}, ""},
		"Send of nothing":                         {nil, nil, nil, send(""), 0, nil, nil, ""},
		"Buffer sends nothing":                    {nil, nil, nil, buffer("abc"), 0, nil, nil, "abc"},
		"Send counts the buffer, in one write":    {nil, nil, []step{buffer("ab")}, send("cde"), 5, nil, []string{"abcde"}, ""},
		"Flush":                                   {nil, nil, []step{buffer("ab"), buffer("cd")}, flush, 0, nil, []string{"abcd"}, ""},
		"Flush of nothing":                        {nil, nil, nil, flush, 0, nil, nil, ""},
		"SendBuffers, in one write":               {nil, nil, []step{buffer("ab")}, buffers("c", "", "de"), 5, nil, []string{"abcde"}, ""},
		"a large Send is not copied":              {nil, nil, []step{buffer("ab")}, send(long), 100_002, nil, []string{"ab", long}, ""},
		"Write counts p alone":                    {nil, nil, []step{buffer("ab")}, write("cde"), 3, nil, []string{"abcde"}, ""},
		"a failed Send keeps the rest":            {[]int{4}, reset, []step{buffer("ab")}, send("cde"), 4, reset, []string{"abcd"}, "e"},
		"a failed Send that sent nothing":         {[]int{0}, reset, []step{buffer("ab")}, send("cde"), 0, reset, []string{""}, "abcde"},
		"a failed large Send keeps the rest":      {[]int{2, 99_999}, reset, []step{buffer("ab")}, send(long), 100_001, reset, []string{"ab", long[1:]}, "x"},
		"a failed large Send cut in the buffer":   {[]int{1}, reset, []step{buffer("ab")}, send(long), 1, reset, []string{"a"}, "b" + long},
		"a failed SendBuffers keeps the rest":     {[]int{4}, reset, nil, buffers("ab", "cd", "ef"), 4, reset, []string{"abcd"}, "ef"},
		"a failed Flush keeps the rest":           {[]int{1}, reset, []step{buffer("ab")}, flush, 0, reset, []string{"a"}, "b"},
		"Flush goes on after a short write":       {[]int{1}, nil, []step{buffer("ab"), flush}, flush, 0, nil, []string{"a", "b"}, ""},
		"nothing goes on after an error":          {[]int{1}, reset, []step{buffer("ab"), flush}, flush, 0, bufsock.ErrBroken, []string{"a"}, "b"},
		"a failed Write keeps nothing of p":       {[]int{3}, reset, []step{buffer("ab")}, write("cde"), 1, reset, []string{"abc"}, ""},
		"a failed Write cut in the buffer":        {[]int{1}, reset, []step{buffer("ab")}, write("cde"), 0, reset, []string{"a"}, "b"},
		"a short write without an error":          {[]int{2}, nil, nil, send("abc"), 2, io.ErrShortWrite, []string{"ab"}, "c"},
		"a short write without an error in Write": {[]int{2}, nil, nil, write("abc"), 2, io.ErrShortWrite, []string{"ab"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := &wire{limits: tt.limits, err: tt.cause}
			s := bufsock.NewBufferedSocket(w)
			for _, step := range tt.before {
				step(s)
			}
			n, err := tt.step(s)
			assertErrorIs(t, err, tt.err)
			assert.Equal(t, tt.n, n)
			assert.Equal(t, tt.writes, w.writes)
			assert.Equal(t, tt.unsent, string(s.SendBuffer()))
		})
	}
}

func TestBufferCopies(t *testing.T) {
	w := &wire{}
	s := bufsock.NewBufferedSocket(w)
	data := []byte("abc")
	require.NoError(t, s.Buffer(data))
	copy(data, "xxx")
	require.NoError(t, s.Flush())
	require.Equal(t, []string{"abc"}, w.writes)
}

func TestInvalidArguments(t *testing.T) {
	w := segments("abc\n")
	s := bufsock.NewBufferedSocket(w)
	ns := bufsock.NewNetstringSocket(s)
	require.NoError(t, s.Buffer([]byte("out")))
	lf := []byte("\n")
	all := map[string]bufsock.Option{
		"WithTimeout":   bufsock.WithTimeout(time.Second),
		"WithContext":   bufsock.WithContext(context.Background()),
		"WithMaxSize":   bufsock.WithMaxSize(10),
		"WithReadSize":  bufsock.WithReadSize(10),
		"WithDelimiter": bufsock.WithDelimiter(),
		"AppendTo":      bufsock.AppendTo(nil),
		"Option{}":      {},
	}
	calls := map[string]struct {
		takes string
		call  func(...bufsock.Option) error
	}{
		"Recv":             {"AppendTo", func(o ...bufsock.Option) error { _, err := s.Recv(1, o...); return err }},
		"RecvSize":         {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.RecvSize(1, o...); return err }},
		"RecvUntil":        {"AppendTo WithMaxSize WithDelimiter", func(o ...bufsock.Option) error { _, err := s.RecvUntil(lf, o...); return err }},
		"RecvUntilAny":     {"AppendTo WithMaxSize WithDelimiter", func(o ...bufsock.Option) error { _, _, err := s.RecvUntilAny([][]byte{lf}, o...); return err }},
		"RecvSplit":        {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.RecvSplit(bufio.ScanLines, o...); return err }},
		"RecvFunc":         {"WithMaxSize", func(o ...bufsock.Option) error { return s.RecvFunc(followed(new([]string)), o...) }},
		"Tokens":           {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { return firstError(s.Tokens(bufio.ScanLines, o...)) }},
		"RecvClose":        {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.RecvClose(o...); return err }},
		"Peek":             {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.Peek(1, o...); return err }},
		"Discard":          {"", func(o ...bufsock.Option) error { _, err := s.Discard(1, o...); return err }},
		"DiscardUntil":     {"", func(o ...bufsock.Option) error { _, err := s.DiscardUntil(lf, o...); return err }},
		"Send":             {"", func(o ...bufsock.Option) error { _, err := s.Send(lf, o...); return err }},
		"SendBuffers":      {"", func(o ...bufsock.Option) error { _, err := s.SendBuffers([][]byte{lf}, o...); return err }},
		"Flush":            {"", func(o ...bufsock.Option) error { return s.Flush(o...) }},
		"ReadNetstring":    {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := ns.ReadNetstring(o...); return err }},
		"DiscardNetstring": {"", func(o ...bufsock.Option) error { _, err := ns.DiscardNetstring(o...); return err }},
		"WriteNetstring":   {"WithMaxSize", func(o ...bufsock.Option) error { return ns.WriteNetstring(lf, o...) }},
	}
	for op, call := range calls {
		for name, o := range all {
			if name == "WithTimeout" || name == "WithContext" || strings.Contains(call.takes, name) {
				continue
			}
			err := call.call(o)
			assert.ErrorIsf(t, err, bufsock.ErrInvalidArgument, "%s(%s)", op, name)
			assert.ErrorContains(t, err, "bufsock: "+op+": ")
		}
		var none context.Context
		assert.ErrorIs(t, call.call(bufsock.WithContext(none)), bufsock.ErrInvalidArgument)
	}
	bad := map[string]func() error{
		"empty delimiter":         func() error { _, err := s.RecvUntil([]byte{}); return err },
		"nil delimiter":           func() error { _, err := s.RecvUntil(nil); return err },
		"no delimiters":           func() error { _, _, err := s.RecvUntilAny(nil); return err },
		"one empty delimiter":     func() error { _, _, err := s.RecvUntilAny([][]byte{lf, nil}); return err },
		"nothing to discard to":   func() error { _, err := s.DiscardUntil(nil); return err },
		"nil split function":      func() error { _, err := s.RecvSplit(nil); return err },
		"nil split of Tokens":     func() error { return firstError(s.Tokens(nil)) },
		"nil message function":    func() error { return s.RecvFunc(nil) },
		"nil upgrade":             func() error { return s.Upgrade(nil) },
		"negative RecvSize":       func() error { _, err := s.RecvSize(-1); return err },
		"negative Recv":           func() error { _, err := s.Recv(-1); return err },
		"negative Peek":           func() error { _, err := s.Peek(-1); return err },
		"negative Discard":        func() error { _, err := s.Discard(-1); return err },
		"no context to dial with": func() error { var none context.Context; _, err := bufsock.Dial(none, "tcp", "127.0.0.1:1"); return err },
	}
	for name, call := range bad {
		assert.ErrorIs(t, call(), bufsock.ErrInvalidArgument, name)
	}
	require.Empty(t, w.asked, "nothing was touched")
	require.Empty(t, w.writes, "nothing was touched")
	require.Equal(t, "out", string(s.SendBuffer()))
}

func TestConstructorsPanic(t *testing.T) {
	bad := map[string][]bufsock.Option{
		"WithContext":   {bufsock.WithContext(context.Background())},
		"WithDelimiter": {bufsock.WithDelimiter()},
		"AppendTo":      {bufsock.AppendTo(nil)},
		"WithReadSize":  {bufsock.WithReadSize(0)},
		"zero Option":   {{}},
	}
	for name, opts := range bad {
		for constructor, f := range map[string]func(){
			"NewBufferedSocket":  func() { bufsock.NewBufferedSocket(&wire{}, opts...) },
			"NewNetstringSocket": func() { bufsock.NewNetstringSocket(bufsock.NewBufferedSocket(&wire{}), opts...) },
			"Dial":               func() { bufsock.Dial(context.Background(), "tcp", "127.0.0.1:1", opts...) },
		} {
			msg := panicOf(f)
			assert.Contains(t, msg, "bufsock: "+constructor+": ")
			assert.Contains(t, msg, name)
		}
	}
	assert.Contains(t, panicOf(func() { bufsock.NewBufferedSocket(nil) }), "nil connection")
	assert.Contains(t, panicOf(func() { bufsock.NewNetstringSocket(nil) }), "nil connection")
}

func panicOf(f func()) (msg string) {
	defer func() { msg, _ = recover().(string) }()
	f()
	return ""
}

func TestSettings(t *testing.T) {
	s := bufsock.NewBufferedSocket(&wire{})
	require.Equal(t, bufsock.DefaultTimeout, s.Timeout())
	require.Equal(t, bufsock.DefaultMaxSize, s.MaxSize())
	s = bufsock.NewBufferedSocket(&wire{}, bufsock.WithTimeout(time.Second), bufsock.WithMaxSize(7))
	require.Equal(t, time.Second, s.Timeout())
	require.Equal(t, 7, s.MaxSize())
	s.SetBlocking(false)
	require.Equal(t, bufsock.NonBlocking, s.Timeout())
	s.SetBlocking(true)
	require.Equal(t, bufsock.NoTimeout, s.Timeout())
	s.SetTimeout(-time.Hour)
	require.Equal(t, bufsock.NoTimeout, s.Timeout(), "any negative duration")
	s.SetMaxSize(-7)
	require.Equal(t, bufsock.NoLimit, s.MaxSize(), "any negative size")

	s = bufsock.NewBufferedSocket(segments("abcdef\n"), bufsock.WithMaxSize(3))
	_, err := s.RecvUntil([]byte("\n"))
	require.IsType(t, (*bufsock.MessageTooLongError)(nil), err)
	s.SetMaxSize(7)
	msg, err := s.RecvUntil([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, "abcdef", string(msg))
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

// answers are calls that a buffer of 3:a\r\n,def\r\n4:wxyz, answers, or that
// fail at the end of the stream behind it.
var answers = map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error){
	"RecvUntil 1 byte": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\n"), opts...)
	},
	"RecvUntil 2 bytes": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil(crlf, opts...)
	},
	"RecvUntil 3 bytes": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\r\nd"), opts...)
	},
	"RecvUntil behind a false start": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\r\n4"), opts...)
	},
	"RecvUntil at the end": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("z,"), opts...)
	},
	"RecvUntil without a match": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\n\r"), opts...)
	},
	"RecvUntil beyond the end": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("z,!"), opts...)
	},
	"Messages": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (all []byte, last error) {
		for msg, err := range s.Messages(crlf, opts...) {
			all, last = fmt.Appendf(all, "%q ", msg), err
		}
		return all, last
	},
	"ReadNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return bufsock.NewNetstringSocket(s).ReadNetstring(opts...)
	},
	"netstring Messages": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (all []byte, last error) {
		for msg, err := range bufsock.NewNetstringSocket(s).Messages(opts...) {
			all, last = fmt.Appendf(all, "%q ", msg), err
		}
		return all, last
	},
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

// occupy has a receive take the turn, and returns a function that ends it
// with nothing consumed. It is for bubbles of synctest.
func occupy(t *testing.T, s *bufsock.BufferedSocket) (release func()) {
	done := make(chan struct{})
	enough := errors.New("enough")
	go func() {
		_, err := s.RecvSplit(func([]byte, bool) (int, []byte, error) {
			<-done
			return 0, nil, enough
		}, bufsock.WithTimeout(bufsock.NoTimeout))
		if !errors.Is(err, net.ErrClosed) {
			assert.Equal(t, enough, err)
		}
	}()
	synctest.Wait()
	return func() { close(done) }
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

// After Close the buffer answers nothing, on whichever way.
func TestClosedSocketsAnswerNothingFromTheBuffer(t *testing.T) {
	for name, call := range answers {
		s := bufsock.NewBufferedSocket(segments("3:a\r\n,def\r\n4:wxyz,"))
		_, err := s.Peek(18)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		msg, err := call(s)
		assertClosed(t, err)
		if !strings.HasSuffix(name, "Messages") {
			assert.Nil(t, msg, name)
		}
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

// A large RecvSize reads straight into dst. What came before an error is kept,
// in its order, and the same call goes on.
func TestDirectReadThatFailsInTheMiddle(t *testing.T) {
	once := errors.New("once")
	all := make([]byte, 50_000)
	for i := range all {
		all[i] = byte(i % 251)
	}
	part := func(from, to int) string { return string(all[from:to]) }
	tests := map[string][]read{
		"with nothing buffered": {{part(0, 20_000), nil}, {"", once}, {part(20_000, 50_000), nil}},
		"with the error beside": {{part(0, 20_000), once}, {part(20_000, 50_000), nil}},
		"at once":               {{"", once}, {part(0, 50_000), nil}},
	}
	for name, reads := range tests {
		for _, buffered := range []int{0, 10} {
			t.Run(fmt.Sprintf("%s, %d bytes before", name, buffered), func(t *testing.T) {
				w := &wire{reads: slices.Concat([]read{{part(0, buffered), nil}}, reads)}
				if buffered > 0 {
					// The script begins behind what is buffered.
					i := 1
					if w.reads[1].data == "" {
						i = 2
					}
					w.reads[i].data = w.reads[i].data[buffered:]
				} else {
					w.reads = w.reads[1:]
				}
				s := bufsock.NewBufferedSocket(w)
				_, err := s.Peek(buffered)
				require.NoError(t, err)
				dst := append(make([]byte, 0, 60_000), "dst"...)
				msg, err := s.RecvSize(len(all), bufsock.AppendTo(dst))
				require.Equal(t, once, err)
				require.Equal(t, "dst", string(msg))
				came := 20_000
				if name == "at once" {
					came = buffered
				}
				require.True(t, part(0, came) == string(s.RecvBuffer()), "not what came: %d bytes", s.Buffered())
				msg, err = s.RecvSize(len(all), bufsock.AppendTo(dst))
				require.NoError(t, err)
				require.True(t, "dst"+part(0, len(all)) == string(msg), "not what was sent")
				require.Zero(t, s.Buffered())
			})
		}
	}
}

// Where direct reads begin to be made.
func TestDirectReadIsForLargeMessagesThatFit(t *testing.T) {
	const direct = 16 << 10
	tests := map[string]struct {
		missing, room int
		opts          []bufsock.Option
		asked         int
	}{
		"large enough":         {direct, direct, nil, direct},
		"too small":            {direct - 1, direct, nil, 512},
		"no room in dst":       {direct, direct - 1, nil, 512},
		"not when NonBlocking": {direct, direct, []bufsock.Option{bufsock.WithTimeout(bufsock.NonBlocking)}, 512},
		"without a timeout":    {direct, direct, []bufsock.Option{bufsock.WithTimeout(bufsock.NoTimeout)}, direct},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := segments(strings.Repeat("x", tt.missing))
			s := bufsock.NewBufferedSocket(w)
			dst := append(make([]byte, 0, 3+tt.room), "dst"...)
			msg, err := s.RecvSize(tt.missing, append(tt.opts, bufsock.AppendTo(dst))...)
			require.NoError(t, err)
			require.Equal(t, "dst"+strings.Repeat("x", tt.missing), string(msg))
			require.Equal(t, tt.asked, w.asked[0])
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

// What ends a stream is returned again and again, and the connection is not
// asked any more. A connection may forget it.
func TestTheEndOfAStreamIsKept(t *testing.T) {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, &net.OpError{Op: "read", Err: net.ErrClosed}} {
		for _, with := range []string{"a", ""} {
			reads := []read{{"a", nil}, {"", end}, {"b", nil}}
			if with != "" {
				reads = []read{{"a", end}, {"b", nil}}
			}
			s := bufsock.NewBufferedSocket(&wire{reads: reads})
			_, err := s.Recv(1)
			require.NoError(t, err)
			for range 3 {
				_, err := s.Recv(1)
				require.Equal(t, end, err)
				_, err = s.Read(make([]byte, 1))
				require.Equal(t, end, err)
			}
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

// What a call that was refused says it has done is nothing.
func TestRefusedCallsCountNothing(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("abc\n"))
	ns := bufsock.NewNetstringSocket(s)
	for name, call := range map[string]func() (int, error){
		"Send":              func() (int, error) { return s.Send([]byte("abc"), bufsock.WithDelimiter()) },
		"SendBuffers":       func() (int, error) { return s.SendBuffers([][]byte{[]byte("abc")}, bufsock.WithDelimiter()) },
		"Discard":           func() (int, error) { return s.Discard(1, bufsock.WithDelimiter()) },
		"Discard of -1":     func() (int, error) { return s.Discard(-1) },
		"DiscardUntil":      func() (int, error) { return s.DiscardUntil([]byte("\n"), bufsock.WithDelimiter()) },
		"DiscardUntil of 0": func() (int, error) { return s.DiscardUntil(nil) },
		"DiscardNetstring":  func() (int, error) { return ns.DiscardNetstring(bufsock.WithDelimiter()) },
	} {
		n, err := call()
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument, name)
		require.Zero(t, n, name)
	}
	for name, call := range map[string]func() (int, error){
		"an option that does not apply": func() (int, error) {
			_, which, err := s.RecvUntilAny([][]byte{crlf}, bufsock.WithReadSize(1))
			return which, err
		},
		"no delimiter": func() (int, error) {
			_, which, err := s.RecvUntilAny(nil)
			return which, err
		},
		"an empty delimiter": func() (int, error) {
			_, which, err := s.RecvUntilAny([][]byte{crlf, {}})
			return which, err
		},
	} {
		which, err := call()
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument, name)
		require.Equal(t, -1, which, name)
	}
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

// The counts that no connection may return, and those that are just possible.
func TestImpossibleCounts(t *testing.T) {
	for _, tt := range []struct {
		over     int // over the length of p
		negative bool
		fails    bool
	}{
		{over: 0},
		{over: 1, fails: true},
		{negative: true, fails: true},
	} {
		count := func(p []byte) (int, error) {
			if tt.negative {
				return -1, nil
			}
			return len(p) + tt.over, nil
		}
		s := bufsock.NewBufferedSocket(counting{count: count}, bufsock.WithReadSize(10))
		for name, call := range map[string]func() (int, error){
			"Recv": func() (int, error) { msg, err := s.Recv(10); return len(msg), err },
			"Read": func() (int, error) { return s.Read(make([]byte, 10)) },
			"Send": func() (int, error) { return s.Send(make([]byte, 10)) },
		} {
			n, err := call()
			if !tt.fails {
				require.NoError(t, err, name)
				require.Equal(t, 10, n, name)
				continue
			}
			require.ErrorContains(t, err, "bufsock: "+name+": the connection returned an impossible count")
			require.Zero(t, n, name)
		}
		if tt.fails {
			require.Zero(t, s.Buffered())
			require.Len(t, s.SendBuffer(), 10, "nothing was sent")
		}
	}
}

// A counting connection returns what count says.
type counting struct {
	*wire
	count func(p []byte) (int, error)
}

func (c counting) Read(p []byte) (int, error)  { return c.count(p) }
func (c counting) Write(p []byte) (int, error) { return c.count(p) }

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

// The constants have the values that the documentation gives.
func TestConstants(t *testing.T) {
	require.Equal(t, "10s", bufsock.DefaultTimeout.String())
	require.Equal(t, 32768, bufsock.DefaultMaxSize)
	require.EqualValues(t, -1, bufsock.NoTimeout)
	require.EqualValues(t, 0, bufsock.NonBlocking)
	require.Equal(t, -1, bufsock.NoLimit)
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

// Up to 64 KiB are copied to be sent in one write where there is no vectored
// one, and not a byte more.
func TestHowMuchIsCopiedToBeSentAtOnce(t *testing.T) {
	const limit = 64 << 10
	for size, writes := range map[int]int{limit - 5: 1, limit - 4: 2} {
		w := &wire{}
		s := bufsock.NewBufferedSocket(w)
		require.NoError(t, s.Buffer([]byte("12345")))
		n, err := s.Send(make([]byte, size))
		require.NoError(t, err)
		require.Equal(t, 5+size, n)
		require.Len(t, w.writes, writes)
		require.Empty(t, s.SendBuffer())
	}
}
