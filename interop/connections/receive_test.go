package connections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bothWaysAtOnce sends messages of all sizes in both directions at the same time.
func bothWaysAtOnce(t *testing.T, k *kind, l *link) {
	var work sync.WaitGroup
	messages := [][]byte{}
	for size := 0; size < 100_000; size = size*3/2 + 1 {
		messages = append(messages, pattern(size))
	}
	for _, conn := range []*bufsock.NetstringSocket{
		bufsock.NewNetstringSocket(k.socket(l.a)), bufsock.NewNetstringSocket(bufsock.NewBufferedSocket(l.b, forEver)),
	} {
		conn.SetMaxSize(bufsock.NoLimit)
		work.Go(func() {
			for _, msg := range messages {
				assert.NoError(t, conn.WriteNetstring(msg))
			}
		})
		work.Go(func() {
			for i, msg := range messages {
				got, err := conn.ReadNetstring()
				if !assert.NoError(t, err) || !assert.True(t, bytes.Equal(msg, got), "message %d", i) {
					return
				}
			}
		})
	}
	mustEnd(t, "the exchange", work.Wait)
}

var lines = []string{"first line", "", "a somewhat longer third line", "x"}

// linesWithTimeouts receives lines of which each byte comes only after a call has
// timed out.
func linesWithTimeouts(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	next := make(chan struct{})
	defer close(next)
	go func() {
		for _, c := range strings.Join(lines, "\r\n") + "\r\n" {
			if _, ok := <-next; !ok {
				return
			}
			_, _ = l.b.Write([]byte{byte(c)})
		}
		for range next { //nolint:revive // let the receiver end
		}
	}()
	mustEnd(t, "the lines", func() {
		for got := []string{}; len(got) < len(lines); {
			line, err := s.RecvUntil([]byte("\r\n"), within(time.Millisecond))
			if err != nil {
				k.requireTimedOut(t, err)
				select {
				case next <- struct{}{}:
				default: // the byte is still being written
				}
				continue
			}
			require.Equal(t, lines[len(got)], string(line))
			got = append(got, string(line))
		}
	})
	require.Zero(t, s.Buffered())
}

// linesWithoutTimeouts is what is left where timeouts do not work.
func linesWithoutTimeouts(t *testing.T, k *kind, l *link) {
	s := bufsock.NewBufferedSocket(l.a, forEver)
	go func() {
		for _, c := range strings.Join(lines, "\r\n") + "\r\n" {
			_, _ = l.b.Write([]byte{byte(c)})
		}
	}()
	mustEnd(t, "the lines", func() {
		for _, want := range lines {
			got, err := s.RecvUntil([]byte("\r\n"))
			require.NoError(t, err)
			require.Equal(t, want, string(got))
		}
	})
}

func timeoutKeepsAll(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	write(t, l.b, "ha")
	mustEnd(t, "Peek", func() {
		_, err := s.Peek(2)
		require.NoError(t, err)
	})
	start := time.Now()
	mustEnd(t, "a receive with a timeout", func() {
		_, err := s.RecvSize(4, within(short))
		requireTimeout(t, err)
		require.NotErrorIs(t, err, bufsock.ErrWouldBlock)
	})
	require.GreaterOrEqual(t, time.Since(start), short)
	write(t, l.b, "lf")
	requireRecv(t, s, "half")
}

// timeoutOtherwise: a timeout is refused, or not kept, or the end. None of them
// may lose what comes.
func timeoutOtherwise(t *testing.T, k *kind, l *link) {
	s := bufsock.NewBufferedSocket(l.a, forEver)
	switch {
	case k.has(noReadDeadlines):
		mustEnd(t, "a receive with a timeout", func() {
			_, err := s.RecvSize(1, within(time.Hour))
			requireRefusal(t, err)
		})
		write(t, l.b, "half")
		requireRecv(t, s, "half")
	case k.has(ignoresDeadlines):
		late := make(chan error, 1)
		go func() {
			_, err := s.Peek(1, within(short))
			late <- err
		}()
		time.Sleep(2 * short)
		write(t, l.b, "half")
		mustEnd(t, "a receive that has something", func() {
			if err := <-late; err != nil {
				requireTimeout(t, err)
			}
		})
		requireRecv(t, s, "half")
	default:
		write(t, l.b, "ha")
		requireRecv(t, s, "ha")
		mustEnd(t, "a receive with a timeout", func() {
			_, err := s.RecvSize(4, within(short))
			k.requireTimedOut(t, err)
		})
		requireOver(t, s)
	}
}

// requireOver wants an error of each receive.
func requireOver(t *testing.T, s *bufsock.BufferedSocket) {
	t.Helper()
	mustEnd(t, "a receive on a connection that has ended", func() {
		for range 3 {
			_, err := s.Recv(1, forEver)
			require.Error(t, err)
			_, err = s.RecvSize(1, forEver)
			require.Error(t, err)
		}
	})
}

var errCause = errors.New("the cause")

func cancelKeepsAll(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	for _, option := range []bufsock.Option{forEver, within(time.Hour)} {
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(short, func() { cancel(errCause) })
		mustEnd(t, "a canceled receive", func() {
			_, err := s.RecvSize(4, bufsock.WithContext(ctx), option)
			require.ErrorIs(t, err, errCause)
		})
		ctx, stop := context.WithTimeout(context.Background(), short)
		defer stop()
		mustEnd(t, "a receive whose context has a deadline", func() {
			_, err := s.RecvSize(4, bufsock.WithContext(ctx), option)
			requireTimeout(t, err)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
		write(t, l.b, "half")
		requireRecv(t, s, "half")
	}
}

// cancelOtherwise: a context is refused, or cannot wake the call, or ends the
// connection.
func cancelOtherwise(t *testing.T, k *kind, l *link) {
	s := bufsock.NewBufferedSocket(l.a, forEver)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if k.has(noReadDeadlines) {
		for _, option := range []bufsock.Option{forEver, within(time.Hour)} {
			mustEnd(t, "a receive with a context", func() {
				_, err := s.RecvSize(4, bufsock.WithContext(ctx), option)
				requireRefusal(t, err)
			})
		}
		write(t, l.b, "half")
		requireRecv(t, s, "half")
		return
	}
	result := make(chan error, 1)
	go func() {
		_, err := s.Peek(1, bufsock.WithContext(ctx))
		result <- err
	}()
	time.Sleep(short)
	cancel(errCause)
	if k.has(readTimeoutEnds) {
		mustEnd(t, "a canceled receive", func() {
			if err := <-result; !k.has(otherTimeout) {
				require.ErrorIs(t, err, errCause)
			} else {
				require.Error(t, err)
			}
		})
		requireOver(t, s)
		return
	}
	write(t, l.b, "half")
	mustEnd(t, "a receive that has something", func() {
		if err := <-result; err != nil { // else the bytes have won
			require.ErrorIs(t, err, errCause)
		}
	})
	requireRecv(t, s, "half")
}

// hundredsKeepAll receives a few messages between hundreds of timeouts and cancels.
func hundredsKeepAll(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	const rounds, messages = 300, 20
	next := make(chan string, messages)
	defer close(next)
	go func() {
		for msg := range next {
			_, _ = l.b.Write([]byte(msg))
		}
	}()
	got := 0
	for i := range rounds {
		if i%(rounds/messages) == 0 {
			next <- fmt.Sprintf("message %d\n", i*messages/rounds)
		}
		option, stop := within(200*time.Microsecond), func() {}
		if i%2 == 0 {
			ctx, cancel := context.WithCancelCause(context.Background())
			timer := time.AfterFunc(200*time.Microsecond, func() { cancel(errCause) })
			option, stop = bufsock.WithContext(ctx), func() { timer.Stop(); cancel(nil) }
		}
		mustEnd(t, "a receive", func() {
			msg, err := s.RecvUntil([]byte("\n"), option)
			if err == nil {
				require.Equal(t, fmt.Sprintf("message %d", got), string(msg))
				got++
			} else if !errors.Is(err, errCause) {
				k.requireTimedOut(t, err)
			}
		})
		stop()
	}
	for ; got < messages; got++ {
		requireRecv(t, s, fmt.Sprintf("message %d\n", got))
	}
}

func nonBlocking(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	wouldBlock := func() {
		mustEnd(t, "a NonBlocking receive", func() {
			_, err := s.Recv(10, within(bufsock.NonBlocking))
			require.ErrorIs(t, err, bufsock.ErrWouldBlock)
			requireTimeout(t, err)
		})
	}
	wouldBlock()
	write(t, l.b, "half")
	mustEnd(t, "the bytes", func() {
		for {
			got, err := s.RecvSize(4, within(bufsock.NonBlocking))
			if err == nil {
				require.Equal(t, "half", string(got))
				return
			}
			require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		}
	})
	wouldBlock()
}

func nonBlockingOtherwise(t *testing.T, k *kind, l *link) {
	s := bufsock.NewBufferedSocket(l.a, forEver)
	if k.has(noReadDeadlines) {
		mustEnd(t, "a NonBlocking receive", func() {
			_, err := s.Recv(1, within(bufsock.NonBlocking))
			requireRefusal(t, err)
		})
		write(t, l.b, "half")
		requireRecv(t, s, "half")
		return
	}
	if k.has(readTimeoutEnds) {
		mustEnd(t, "a NonBlocking receive", func() {
			_, err := s.Recv(1, within(bufsock.NonBlocking))
			k.requireTimedOut(t, err)
		})
		requireOver(t, s)
		return
	}
	// The descriptor blocks: what has come can be received.
	write(t, l.b, "half")
	mustEnd(t, "a NonBlocking receive of what comes", func() {
		for {
			got, err := s.Recv(4, within(bufsock.NonBlocking))
			if err == nil {
				require.Equal(t, "half", string(got))
				return
			}
			require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		}
	})
}
