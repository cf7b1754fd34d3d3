package bufsock_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTokens(t *testing.T) {
	boom := errors.New("boom")
	fails := func(data []byte, _ bool) (int, []byte, error) {
		if len(data) > 0 && data[0] == '!' {
			return 0, nil, boom
		}
		if len(data) == 0 {
			return 0, nil, nil
		}
		return 1, data[:1], nil
	}
	tests := map[string]struct {
		wire  []string
		split bufio.SplitFunc
		opts  []bufsock.Option
		want  []string
		err   error // what the error that ends the loop matches; nil: there is none
		left  string
	}{
		"lines":                          {[]string{"a\nbb\n", "c\n"}, bufio.ScanLines, nil, []string{"a", "bb", "c"}, nil, ""},
		"a last line without its end":    {[]string{"a\nbb"}, bufio.ScanLines, nil, []string{"a", "bb"}, nil, ""},
		"words, and spaces behind them":  {[]string{" a  b", "c  "}, bufio.ScanWords, nil, []string{"a", "bc"}, nil, " "},
		"nothing":                        {nil, bufio.ScanLines, nil, nil, nil, ""},
		"the final token":                {[]string{"a,b,STOP,c"}, untilStop, nil, []string{"a", "b", ""}, nil, "c"},
		"no token with the final one":    {[]string{"a,b,stop,c"}, untilStop, nil, []string{"a", "b"}, nil, "stop,c"},
		"an unfinished token":            {[]string{"a,b"}, untilStop, nil, []string{"a"}, io.ErrUnexpectedEOF, "b"},
		"a token that is too long":       {[]string{"a\nbbbb\nc\n"}, bufio.ScanLines, []bufsock.Option{bufsock.WithMaxSize(3)}, []string{"a"}, errTooLong, "bbbb\nc\n"},
		"an error of the split function": {[]string{"ab!c"}, fails, nil, []string{"a", "b"}, boom, "!c"},
		"an option that does not apply":  {[]string{"a\n"}, bufio.ScanLines, []bufsock.Option{bufsock.WithDelimiter()}, nil, bufsock.ErrInvalidArgument, ""},
		"no split function":              {[]string{"a\n"}, nil, nil, nil, bufsock.ErrInvalidArgument, ""},
		"AppendTo, each to the same":     {[]string{"a\nbb\n"}, bufio.ScanLines, []bufsock.Option{bufsock.AppendTo([]byte("x"))}, []string{"xa", "xbb"}, nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments(tt.wire...))
			var got []string
			var end error
			for token, err := range s.Tokens(tt.split, tt.opts...) {
				require.NoError(t, end, "an error ends the loop")
				if end = err; err == nil {
					got = append(got, string(token))
				}
			}
			require.Equal(t, tt.want, got)
			if tt.err == nil {
				require.NoError(t, end)
			} else {
				assertErrorIs(t, end, tt.err)
			}
			require.Equal(t, tt.left, string(s.RecvBuffer()))
		})
	}
}

// untilStop is a split function for fields between commas, up to "STOP", which is
// an empty token, or "stop", which is none.
func untilStop(data []byte, atEOF bool) (int, []byte, error) {
	i := bytes.IndexByte(data, ',')
	switch {
	case i < 0:
		return 0, nil, nil
	case string(data[:i]) == "STOP":
		return i + 1, []byte{}, bufio.ErrFinalToken
	case string(data[:i]) == "stop":
		return i + 1, nil, bufio.ErrFinalToken
	}
	return i + 1, data[:i], nil
}

// Ranging again goes on where the loop stopped, by an error, a break, or the
// final token. Each step has a timeout of its own.
func TestTokensGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Second))
		go func() {
			for _, piece := range []string{"a\nb\nc", "c\n", "d\n"} {
				remote.Write([]byte(piece))
				time.Sleep(900 * time.Millisecond)
			}
		}()
		tokens := s.Tokens(bufio.ScanLines)
		for token, err := range tokens {
			require.NoError(t, err)
			require.Equal(t, "a", string(token))
			break
		}
		var got []string
		d, err := elapsed(func() (err error) {
			var token []byte
			for token, err = range tokens {
				got = append(got, string(token))
			}
			return err
		})
		require.Equal(t, []string{"b", "cc", "d", ""}, got)
		require.Equal(t, 2800*time.Millisecond, d, "a timeout for each")
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.ErrorContains(t, err, "bufsock: Tokens: timed out after 1s while waiting for a token")
		go func() { remote.Write([]byte("e\n")); remote.Close() }()
		for token, err := range tokens {
			require.NoError(t, err)
			require.Equal(t, "e", string(token))
		}
		s.Close()
		for _, err := range tokens {
			assertClosed(t, err)
		}
	})
	s := bufsock.NewBufferedSocket(segments("a,STOP,b,"))
	var got []string
	for range 2 {
		for token, err := range s.Tokens(untilStop) {
			require.NoError(t, err)
			got = append(got, string(token))
		}
	}
	require.Equal(t, []string{"a", "", "b"}, got)
}

func TestTokensKeepTheirOptions(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("a\n"))
	ctx, cancel := context.WithCancel(t.Context())
	opts := []bufsock.Option{bufsock.WithContext(ctx)}
	tokens := s.Tokens(bufio.ScanLines, opts...)
	opts[0] = bufsock.WithDelimiter()
	cancel()
	for token, err := range tokens {
		require.NoError(t, err, "what is there wins over the cancel")
		require.Equal(t, "a", string(token))
		break
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

// The time that a split function takes counts, once it has found no token in what
// is there.
func TestTimeoutCoversTheSplitFunction(t *testing.T) {
	for _, idle := range []time.Duration{bufsock.NoTimeout, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			defer remote.Close()
			s := bufsock.NewBufferedSocket(local, bufsock.WithIdleTimeout(idle), bufsock.WithTimeout(400*time.Millisecond))
			go remote.Write([]byte("ab"))
			_, err := s.Peek(1)
			require.NoError(t, err)
			time.AfterFunc(500*time.Millisecond, func() { remote.Write([]byte("c")) })
			d, err := elapsed(func() error {
				_, err := s.RecvSplit(func([]byte, bool) (int, []byte, error) {
					time.Sleep(300 * time.Millisecond)
					return 0, nil, nil
				})
				return err
			})
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			require.Equal(t, 800*time.Millisecond, d, "300 in vain; 200 of the wait, and 300 with what has come")
			s.Close()
		})
	}
}

func TestWhatRecvSplitWaitsForInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		release := occupy(t, s)
		_, err := s.RecvSplit(bufio.ScanLines)
		require.ErrorContains(t, err, "while waiting for a token")
		release()
		synctest.Wait()
		s.Close()
		remote.Close()
	})
}
