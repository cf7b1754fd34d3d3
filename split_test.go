package bufsock_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
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
