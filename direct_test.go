package bufsock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

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

// Where direct searches begin to be made: from the second read on, which asks for
// more.
func TestDirectSearchIsForLargeMessagesThatFit(t *testing.T) {
	const begun, room, asked, usual = 64 << 10, 16 << 10, 256 << 10, 32 << 10
	tests := map[string]struct {
		begun, room int
		opts        []bufsock.Option
		asked       int
	}{
		"large enough":                   {begun, 1 << 20, nil, asked},
		"too small":                      {begun - 1, 1 << 20, nil, usual},
		"no more than there is room":     {begun, room, nil, room},
		"no room in dst":                 {begun, room - 1, nil, usual},
		"no more than the limit":         {begun, 1 << 20, []bufsock.Option{bufsock.WithMaxSize(begun + room)}, room},
		"not at the limit":               {begun, 1 << 20, []bufsock.Option{bufsock.WithMaxSize(begun + room - 1)}, usual},
		"not when NonBlocking":           {begun, 1 << 20, []bufsock.Option{bufsock.WithTimeout(bufsock.NonBlocking)}, usual},
		"without a timeout":              {begun, 1 << 20, []bufsock.Option{bufsock.WithTimeout(bufsock.NoTimeout)}, asked},
		"not without memory to go on to": {begun, -begun, nil, usual},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			message := strings.Repeat("x", tt.begun+100)
			w := segments(message[:tt.begun], message[tt.begun:]+"\n")
			s := bufsock.NewBufferedSocket(w)
			_, err := s.Peek(tt.begun)
			require.NoError(t, err)
			before := len(w.asked)
			opts := append([]bufsock.Option{bufsock.WithMaxSize(bufsock.NoLimit)}, tt.opts...)
			msg, err := s.RecvUntil(lf, append(opts, bufsock.AppendTo(make([]byte, 0, tt.begun+tt.room)))...)
			require.NoError(t, err)
			require.True(t, message == string(msg), "not the message")
			require.Equal(t, tt.asked, w.asked[before])
		})
	}
}

// A message whose size is not known is read straight into dst once much of it
// has come: whatever the room there, wherever the delimiter is cut, behind
// whatever error, the result is that of the plain bytes.
func TestDirectSearch(t *testing.T) {
	repeat(t, 60, func(t *testing.T, r *rand.Rand) {
		delim, filler := "\n", "x"
		switch r.IntN(3) {
		case 0:
			delim, filler = "\r\n", "\r"
		case 1:
			delim, filler = "aab", "a"
		}
		var stream []byte
		for range 3 {
			stream = append(stream, strings.Repeat(filler, r.IntN(400_000))+[]string{"", "x"}[r.IntN(2)]+delim...)
		}
		once := errors.New("once")
		w := &wire{}
		for rest := string(stream); rest != ""; {
			n := min(len(rest), 1+r.IntN([]int{3, 30_000, 300_000}[r.IntN(3)]))
			if i := strings.Index(rest, delim) + 1; n > i && r.IntN(2) == 0 {
				n = i // inside a delimiter, or behind it
			}
			next := read{data: rest[:n]}
			if r.IntN(20) == 0 {
				next.err = once
			}
			w.reads, rest = append(w.reads, next), rest[n:]
		}
		s := bufsock.NewBufferedSocket(w)
		for len(stream) > 0 {
			end := bytes.Index(stream, []byte(delim)) + len(delim)
			limit, room := r.IntN(600_000), r.IntN(600_000)
			if r.IntN(2) == 0 {
				limit = max(0, end+r.IntN(7)-5)
			}
			if r.IntN(2) == 0 {
				room = max(0, end+r.IntN(7)-3) // about what is needed
			}
			dst := append(make([]byte, 0, 3+room), "dst"...)
			opts := []bufsock.Option{bufsock.WithMaxSize(limit), bufsock.AppendTo(dst)}
			if r.IntN(2) == 0 {
				opts = append(opts, bufsock.WithDelimiter())
			}
			msg, err := s.RecvUntil([]byte(delim), opts...)
			if err != nil {
				require.Equal(t, "dst", string(msg))
				require.True(t, bytes.HasPrefix(stream, s.RecvBuffer()), "not what came")
				if err == once {
					continue
				}
				require.IsType(t, (*bufsock.MessageTooLongError)(nil), err)
				require.Greater(t, end, limit)
				_, err = s.Discard(r.IntN(end - len(delim) + 1))
				require.True(t, err == nil || err == once, err)
				stream = stream[len(stream)-left(w)-s.Buffered():]
				continue
			}
			require.LessOrEqual(t, end, limit)
			want := stream[:end-len(delim)]
			if len(opts) == 3 {
				want = stream[:end]
			}
			require.True(t, "dst"+string(want) == string(msg), "not the message")
			stream = stream[end:]
		}
		require.Zero(t, s.Buffered())
	})
}

// What has come of it is seen by others while the call waits, is kept when that
// is in vain, and is not searched again.
func TestDirectSearchThatTimesOut(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		half := bytes.Repeat([]byte("x"), 100_000)
		s := bufsock.NewBufferedSocket(local)
		go remote.Write(half)
		_, err := s.Peek(len(half))
		require.NoError(t, err)
		dst := append(make([]byte, 0, 300_000), "dst"...)
		seen := make(chan []byte, 1)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { // mostly long after it was moved to dst
			seen <- s.RecvBuffer()
			cancel()
		})
		msg, err := s.RecvUntil(lf, bufsock.AppendTo(dst), bufsock.WithMaxSize(bufsock.NoLimit), bufsock.WithContext(ctx))
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, "dst", string(msg))
		require.True(t, bytes.Equal(half, <-seen), "not what had come")
		require.True(t, bytes.Equal(half, s.RecvBuffer()), "not what had come")
		go remote.Write(append(half, "\nnext\n"...))
		msg, err = s.RecvUntil(lf, bufsock.AppendTo(dst), bufsock.WithMaxSize(bufsock.NoLimit))
		require.NoError(t, err)
		require.Equal(t, 3+2*len(half), len(msg))
		msg, err = s.RecvUntil(lf)
		require.NoError(t, err)
		require.Equal(t, "next", string(msg))
	})
}

// left returns how many bytes have not been read from w.
func left(w *wire) (n int) {
	for _, r := range w.reads {
		n += len(r.data)
	}
	return n
}
