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
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTimeoutIsExact(t *testing.T) {
	bubble(t, func(t *testing.T, s *bufsock.BufferedSocket, op string, call func(...bufsock.Option) error) {
		for _, timeout := range []time.Duration{time.Nanosecond, 300 * time.Microsecond, time.Minute} {
			d, err := elapsed(func() error { return call(bufsock.WithTimeout(timeout)) })
			assert.Equal(t, timeout, d)
			e, ok := err.(*bufsock.TimeoutError)
			require.True(t, ok, "%T: %v", err, err)
			assert.Equal(t, op, e.Op)
			assert.Equal(t, timeout, e.After)
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			assert.NotErrorIs(t, err, bufsock.ErrWouldBlock)
			assert.NotErrorIs(t, err, context.DeadlineExceeded)
		}
		d, _ := elapsed(func() error { return call() })
		assert.Equal(t, bufsock.DefaultTimeout, d)
	})
}

func TestNonBlockingWaitsAMillisecondOnAPipe(t *testing.T) {
	bubble(t, func(t *testing.T, s *bufsock.BufferedSocket, _ string, call func(...bufsock.Option) error) {
		d, err := elapsed(func() error { return call(bufsock.WithTimeout(bufsock.NonBlocking)) })
		require.LessOrEqual(t, d, time.Millisecond)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	})
}

func TestContextEndsTheCall(t *testing.T) {
	cause := errors.New("the cause")
	bubble(t, func(t *testing.T, s *bufsock.BufferedSocket, _ string, call func(...bufsock.Option) error) {
		// canceled, with a deadline that is far
		parent, cancelDeadline := context.WithTimeout(t.Context(), time.Hour)
		defer cancelDeadline()
		ctx, cancel := context.WithCancelCause(parent)
		time.AfterFunc(time.Second, func() { cancel(cause) })
		d, err := elapsed(func() error { return call(bufsock.WithContext(ctx)) })
		assert.Equal(t, time.Second, d)
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, err, context.Canceled)
		e, ok := err.(net.Error)
		assert.True(t, ok && !e.Timeout())

		// its deadline
		ctx, cancelTimeout := context.WithTimeoutCause(t.Context(), time.Second, cause)
		defer cancelTimeout()
		d, err = elapsed(func() error { return call(bufsock.WithContext(ctx)) })
		assert.Equal(t, time.Second, d)
		assert.IsType(t, (*bufsock.TimeoutError)(nil), err)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.ErrorIs(t, err, cause)

		// done before it began
		d, err = elapsed(func() error { return call(bufsock.WithContext(ctx)) })
		assert.LessOrEqual(t, d, time.Millisecond)
		assert.ErrorIs(t, err, cause)

		// the timeout is earlier
		ctx, cancelTimeout = context.WithTimeout(t.Context(), time.Hour)
		d, err = elapsed(func() error { return call(bufsock.WithContext(ctx), bufsock.WithTimeout(time.Second)) })
		assert.Equal(t, time.Second, d)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)

		// canceled too late: the next call has its whole timeout
		cancelTimeout()
		d, _ = elapsed(func() error { return call(bufsock.WithTimeout(time.Second)) })
		assert.Equal(t, time.Second, d)
	})
}

func TestUserDeadlineAndTimeoutWhicheverIsFirst(t *testing.T) {
	bubble(t, func(t *testing.T, s *bufsock.BufferedSocket, _ string, call func(...bufsock.Option) error) {
		for _, tt := range []struct{ deadline, timeout, want time.Duration }{
			{time.Second, time.Minute, time.Second},
			{time.Minute, time.Second, time.Second},
			{time.Second, bufsock.NoTimeout, time.Second},
			{-time.Second, time.Minute, 0},
		} {
			require.NoError(t, s.SetDeadline(time.Now().Add(tt.deadline)))
			d, err := elapsed(func() error { return call(bufsock.WithTimeout(tt.timeout)) })
			assert.Equal(t, tt.want, d)
			assert.IsType(t, (*bufsock.TimeoutError)(nil), err)
		}

		// set and moved while the call is blocked
		require.NoError(t, s.SetDeadline(time.Time{}))
		time.AfterFunc(time.Second, func() { s.SetDeadline(time.Now().Add(time.Minute)) })
		time.AfterFunc(2*time.Second, func() { s.SetDeadline(time.Now().Add(time.Second)) })
		d, err := elapsed(func() error { return call(bufsock.WithTimeout(time.Hour)) })
		assert.Equal(t, 3*time.Second, d)
		assert.IsType(t, (*bufsock.TimeoutError)(nil), err)

		// lifted while the call is blocked: its own timeout remains
		require.NoError(t, s.SetDeadline(time.Now().Add(2*time.Second)))
		time.AfterFunc(time.Second, func() { s.SetDeadline(time.Time{}) })
		d, _ = elapsed(func() error { return call(bufsock.WithTimeout(time.Minute)) })
		assert.Equal(t, time.Minute, d)

		// and no longer than for this call
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		d, _ = elapsed(func() error {
			return call(bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
		})
		assert.Equal(t, time.Hour, d)

		// set to a later time while the call is blocked
		time.AfterFunc(time.Second, func() { s.SetDeadline(time.Now().Add(time.Hour)) })
		d, _ = elapsed(func() error { return call(bufsock.WithTimeout(time.Minute)) })
		assert.Equal(t, time.Minute, d)
	})
}

func TestTimeoutDoesNotStartAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		go func() {
			for range 100 {
				remote.Write([]byte("x"))
				time.Sleep(100 * time.Millisecond)
			}
			remote.Write([]byte("\n"))
		}()
		d, err := elapsed(func() error {
			_, err := s.RecvUntil([]byte("\n"), bufsock.WithTimeout(1050*time.Millisecond))
			return err
		})
		require.Equal(t, 1050*time.Millisecond, d)
		e, ok := err.(*bufsock.TimeoutError)
		require.True(t, ok)
		require.Equal(t, 11, e.Buffered)
		require.Equal(t, strings.Repeat("x", 11), string(s.RecvBuffer()))
		msg, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err, "the same call goes on")
		require.Len(t, msg, 100)
		remote.Close()
		s.Close()
	})
}

// The longest timeout there is ends no call early.
func TestLongestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(math.MaxInt64))
		time.AfterFunc(1000*time.Hour, func() { remote.Write([]byte("ab")) })
		_, err := s.Recv(1)
		require.NoError(t, err)
		_, err = s.RecvSplit(bufio.ScanBytes)
		require.NoError(t, err)
		s.Close()
		remote.Close()
	})
}

func TestDeadlinesAreLeftAsTheyWere(t *testing.T) {
	for _, user := range []time.Time{{}, time.Date(2100, 1, 1, 0, 0, 0, 1, time.UTC)} {
		for op, call := range waiting {
			local, remote := net.Pipe()
			r := &recorder{Conn: local}
			s := bufsock.NewBufferedSocket(r)
			require.NoError(t, s.SetDeadline(user))
			require.IsType(t, (*bufsock.TimeoutError)(nil), call(s, bufsock.WithTimeout(time.Microsecond)))
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			require.ErrorIs(t, call(s, bufsock.WithContext(ctx)), context.Canceled)
			require.True(t, user.Equal(last(r.read)), "%s: %v", op, r.read)
			require.True(t, user.Equal(last(r.write)), "%s: %v", op, r.write)
			local.Close()
			remote.Close()
		}
	}
}

func TestCallsSetOneDeadlineHoweverManyReadsTheyMake(t *testing.T) {
	local, remote := net.Pipe()
	r := &recorder{Conn: local}
	s := bufsock.NewBufferedSocket(r)
	go func() {
		for _, b := range []byte("line\n") {
			remote.Write([]byte{b})
		}
	}()
	_, err := s.RecvUntil(lf, bufsock.WithTimeout(time.Minute))
	require.NoError(t, err)
	require.Len(t, r.read, 2, "set, and lifted")
}

func TestNoDeadlineForWhatIsThere(t *testing.T) {
	local, remote := net.Pipe()
	r := &recorder{Conn: local}
	s := bufsock.NewBufferedSocket(r)
	go remote.Write([]byte("first\nsecond\n"))
	_, err := s.RecvUntil(lf)
	require.NoError(t, err)
	n := len(r.read)
	_, err = s.RecvUntil(lf, bufsock.WithTimeout(time.Second))
	require.NoError(t, err)
	require.Len(t, r.read, n, "a call answered from the buffer touches no deadline")
	require.NoError(t, s.Buffer([]byte("x")))
	require.Empty(t, r.write)

	_, err = s.RecvUntil(lf, bufsock.WithTimeout(time.Microsecond))
	require.Error(t, err)
	n = len(r.read)
	go remote.Write([]byte("x\n"))
	_, err = s.RecvUntil(lf, bufsock.WithTimeout(bufsock.NoTimeout))
	require.NoError(t, err)
	require.Len(t, r.read, n, "without a timeout there is no deadline to set")
}

// A peer that sends without end and without a delimiter keeps the deadline from
// being looked at by the poller; the call must end all the same.
func TestTimeoutHoldsUnderAFlood(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		go func() {
			chunk := bytes.Repeat([]byte("x"), 1<<16)
			for {
				if _, err := remote.Write(chunk); err != nil {
					return
				}
			}
		}()
		s := bufsock.NewBufferedSocket(local)
		n, err := s.DiscardUntil(lf, bufsock.WithTimeout(20*time.Millisecond))
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.Positive(t, n)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		n, err = s.DiscardUntil(lf, bufsock.WithContext(ctx))
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.Positive(t, n)
		s.Close()
	})
}

// Nor does a NonBlocking call go on for as long as a flood does.
func TestNonBlockingEndsUnderAFlood(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		go io.Copy(remote, zeros{})
		s := bufsock.NewBufferedSocket(local, bufsock.WithReadSize(1))
		_, err := s.Peek(1) // it has begun
		require.NoError(t, err)
		_, err = s.DiscardUntil(lf, bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		s.Close()
	})
}

// A cancel that comes when the connection has just answered must not leave the
// past deadline, by which it would end the wait, to the next call.
func TestCancelThatComesTooLateIsForgotten(t *testing.T) {
	for op, call := range waiting {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			r := &recorder{Conn: local}
			conn := &hooked{Conn: r}
			s := bufsock.NewBufferedSocket(conn)
			ctx, cancel := context.WithCancel(t.Context())
			answer := errors.New("the answer")
			conn.read = func([]byte) (int, error) { cancel(); return 0, answer }
			conn.write = func(p []byte) (int, error) { cancel(); return len(p), nil }
			if err := call(s, bufsock.WithContext(ctx)); err != nil { // a receive
				require.Equal(t, answer, err, op)
			}
			synctest.Wait() // whatever was begun has ended
			require.Zero(t, last(r.read), op)
			require.Zero(t, last(r.write), op)
			conn.read, conn.write = nil, nil
			d, err := elapsed(func() error { return call(s, bufsock.WithTimeout(time.Second)) })
			require.Equal(t, time.Second, d, op)
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			s.Close()
			remote.Close()
		})
	}
}

// A deadline that the connection does not take is not kept.
func TestDeadlineThatTheConnectionRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		boom := errors.New("boom")
		conn := &hooked{Conn: local}
		s := bufsock.NewBufferedSocket(conn)
		refuse := func(time.Time) error { return boom }
		conn.readDeadline = refuse
		require.Equal(t, boom, s.SetReadDeadline(time.Now().Add(time.Second)))
		require.Equal(t, boom, s.SetDeadline(time.Now().Add(time.Second)))
		require.NoError(t, s.SetWriteDeadline(time.Time{}))
		conn.readDeadline, conn.writeDeadline = nil, refuse
		require.Equal(t, boom, s.SetWriteDeadline(time.Now().Add(time.Second)))
		conn.writeDeadline = nil
		for _, call := range waiting {
			d, _ := elapsed(func() error { return call(s, bufsock.WithTimeout(time.Minute)) })
			require.Equal(t, time.Minute, d)
		}

		// and is the error of a call that cannot wait without it
		conn.readDeadline, conn.writeDeadline = refuse, refuse
		for op, call := range waiting {
			require.Equal(t, boom, call(s, bufsock.WithTimeout(time.Minute)), op)
		}
		for _, closed := range []error{net.ErrClosed, io.ErrClosedPipe, fmt.Errorf("wrapped: %w", net.ErrClosed)} {
			// unless it only says what the transfer says better
			conn.readDeadline = func(time.Time) error { return closed }
			conn.writeDeadline = conn.readDeadline
			conn.read = func([]byte) (int, error) { return 0, boom }
			conn.write = conn.read
			for op, call := range waiting {
				s := bufsock.NewBufferedSocket(conn) // as boom ends the sending side
				require.Equal(t, boom, call(s, bufsock.WithTimeout(time.Minute)), op)
			}
		}
		conn.readDeadline = nil
		s.Close()
		remote.Close()
	})
}

// How long a NonBlocking call, or a canceled one, tries: until the descriptor
// has nothing more, whatever the size of the reads.
func TestCanceledCallsEndUnderAFlood(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		go io.Copy(remote, zeros{})
		s := bufsock.NewBufferedSocket(local, bufsock.WithReadSize(1))
		_, err := s.Peek(1) // it has begun
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.DiscardUntil(lf, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
		require.ErrorIs(t, err, context.Canceled)
		s.Close()
	})
}

// The same where there is no descriptor to try, and nothing but the call looks
// at the clock: a connection that always has a byte and minds no deadline.
func TestCallsEndUnderAFloodThatMindsNoDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name  string
		opt   bufsock.Option
		want  error
		takes time.Duration // besides the grace
	}{
		{"timeout", bufsock.WithTimeout(5 * time.Millisecond), os.ErrDeadlineExceeded, 5 * time.Millisecond},
		{"NonBlocking", bufsock.WithTimeout(bufsock.NonBlocking), bufsock.ErrWouldBlock, time.Millisecond},
		{"canceled", bufsock.WithContext(ctx), context.Canceled, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := 0
				s := bufsock.NewBufferedSocket(&hooked{Conn: &wire{}, read: func(p []byte) (int, error) {
					time.Sleep(300 * time.Microsecond)
					if reads++; reads > 1000 {
						return 0, errors.New("the call goes on without end")
					}
					return copy(p, "x"), nil
				}})
				d, err := elapsed(func() error { _, err := s.DiscardUntil(lf, tt.opt); return err })
				assert.ErrorIs(t, err, tt.want)
				assert.Less(t, d, tt.takes+2*time.Millisecond)
			})
		})
	}
}

// A dozing connection looks at its deadline, and at data, once in a period.
type dozing struct {
	net.Conn
	period   time.Duration
	data     []byte
	deadline atomic.Pointer[time.Time]
}

func (d *dozing) SetReadDeadline(t time.Time) error {
	d.deadline.Store(&t)
	return nil
}

func (d *dozing) Read(p []byte) (int, error) {
	for {
		time.Sleep(d.period)
		if t := d.deadline.Load(); t != nil && !t.IsZero() && time.Until(*t) <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		if len(d.data) > 0 {
			n := copy(p, d.data)
			d.data = d.data[n:]
			return n, nil
		}
	}
}

// A deadline that is set when the context has ended does not prolong the call,
// and holds from its end on.
func TestDeadlineDoesNotReviveACanceledCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &dozing{period: time.Second}
		s := bufsock.NewBufferedSocket(conn)
		ctx, cancel := context.WithCancel(t.Context())
		deadline := time.Now().Add(time.Hour)
		time.AfterFunc(500*time.Millisecond, cancel)
		time.AfterFunc(700*time.Millisecond, func() { s.SetReadDeadline(deadline) })
		d, err := elapsed(func() error {
			_, err := s.Recv(1, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
			return err
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Less(t, d, 3*time.Second)
		require.True(t, deadline.Equal(*conn.deadline.Load()))
	})
}

// A call whose context has ended before still gives a connection without a
// descriptor the time to say what has arrived.
func TestCanceledCallTakesWhatIsThere(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	synctest.Test(t, func(t *testing.T) {
		s := bufsock.NewBufferedSocket(&dozing{period: 500 * time.Microsecond, data: []byte("abc\n")})
		msg, err := s.RecvUntil(lf, bufsock.WithContext(ctx))
		require.NoError(t, err)
		require.Equal(t, "abc", string(msg))
	})
	s := bufsock.NewBufferedSocket(segments("a", "b", "\n"))
	msg, err := s.RecvUntil(lf, bufsock.WithContext(ctx))
	require.NoError(t, err, "however it is cut")
	require.Equal(t, "ab", string(msg))

	conn := segments("a", "", "b", "\n")
	s = bufsock.NewBufferedSocket(conn)
	_, err = s.RecvUntil(lf, bufsock.WithContext(ctx))
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, conn.asked, 2, "a try that finds nothing is the last")
}

// A read that got all that it asked for may have left something. To look for that
// is part of the call's time.
func TestTimeoutBehindAReadThatWasFilled(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, time.Millisecond, time.Millisecond / 2} {
		for _, flush := range []bool{false, true} {
			for op, call := range waiting {
				if isSend(op) {
					continue
				}
				t.Run(fmt.Sprintf("%v, flush %v, %s", timeout, flush, op), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						local, remote := net.Pipe()
						s := bufsock.NewBufferedSocket(local)
						go remote.Write(make([]byte, 512))
						_, err := s.Discard(512)
						require.NoError(t, err)
						opts := []bufsock.Option{bufsock.WithTimeout(timeout)}
						if flush {
							require.NoError(t, s.Buffer([]byte("answer")))
							opts = append(opts, bufsock.WithFlush())
							go remote.Read(make([]byte, 6))
						}
						d, err := elapsed(func() error { return call(s, opts...) })
						require.Equal(t, timeout, d)
						require.IsType(t, (*bufsock.TimeoutError)(nil), err)
						s.Close()
						remote.Close()
					})
				})
			}
		}
	}
}
