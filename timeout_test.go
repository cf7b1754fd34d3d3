package bufsock_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var lf = []byte("\n")

// Every call that waits, on a peer that neither reads nor writes.
var waiting = map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error{
	"Recv": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Recv(1, opts...)
		return err
	},
	"RecvSize": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvSize(1, opts...)
		return err
	},
	"RecvUntil": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvUntil(lf, opts...)
		return err
	},
	"RecvUntilAny": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, _, err := s.RecvUntilAny([][]byte{lf, crlf}, opts...)
		return err
	},
	"RecvSplit": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvSplit(bufio.ScanLines, opts...)
		return err
	},
	"RecvClose": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvClose(opts...)
		return err
	},
	"Peek": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Peek(1, opts...)
		return err
	},
	"Discard": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Discard(1, opts...)
		return err
	},
	"DiscardUntil": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.DiscardUntil(lf, opts...)
		return err
	},
	"Messages": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (err error) {
		for _, err = range s.Messages(lf, opts...) {
		}
		return err
	},
	"Tokens": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (err error) {
		for _, err = range s.Tokens(bufio.ScanLines, opts...) {
		}
		return err
	},
	"RecvFunc": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		return s.RecvFunc(func(m *bufsock.Message) error {
			_, err := m.Until(lf)
			return err
		}, opts...)
	},
	"ReadNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := bufsock.NewNetstringSocket(s).ReadNetstring(opts...)
		return err
	},
	"DiscardNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := bufsock.NewNetstringSocket(s).DiscardNetstring(opts...)
		return err
	},
	"Send": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Send([]byte("abc"), opts...)
		return err
	},
	"SendBuffers": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.SendBuffers([][]byte{[]byte("abc")}, opts...)
		return err
	},
	"Flush": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		if len(s.SendBuffer()) == 0 {
			s.Buffer([]byte("abc"))
		}
		return s.Flush(opts...)
	},
	"WriteNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		return bufsock.NewNetstringSocket(s).WriteNetstring([]byte("abc"), opts...)
	},
}

// isSend reports whether one of waiting sends.
func isSend(op string) bool {
	return op == "Send" || op == "SendBuffers" || op == "Flush" || op == "WriteNetstring"
}

// elapsed returns the error of f and how long it took on the bubble's clock.
func elapsed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// bubble runs f for each waiting call in a synctest bubble, with a socket on
// one end of a net.Pipe.
func bubble(t *testing.T, f func(t *testing.T, s *bufsock.BufferedSocket, op string, call func(...bufsock.Option) error)) {
	for op, call := range waiting {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				defer local.Close()
				defer remote.Close()
				s := bufsock.NewBufferedSocket(local)
				f(t, s, op, func(opts ...bufsock.Option) error { return call(s, opts...) })
			})
		})
	}
}

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

func TestTurnIsWaitedForWithinTheTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, s *bufsock.BufferedSocket, _ string, call func(...bufsock.Option) error) {
		first := make(chan error)
		go func() { first <- call(bufsock.WithTimeout(time.Hour)) }()
		synctest.Wait()

		d, err := elapsed(func() error { return call(bufsock.WithTimeout(time.Second)) })
		assert.Equal(t, time.Second, d)
		assert.IsType(t, (*bufsock.TimeoutError)(nil), err)

		d, err = elapsed(func() error { return call(bufsock.WithTimeout(bufsock.NonBlocking)) })
		assert.Zero(t, d)
		assert.ErrorIs(t, err, bufsock.ErrWouldBlock)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		d, err = elapsed(func() error { return call(bufsock.WithContext(ctx)) })
		assert.Equal(t, time.Second, d)
		assert.ErrorIs(t, err, context.Canceled)

		// a deadline ends both, those that are set while they wait included
		queued := make(chan error)
		go func() { queued <- call(bufsock.WithTimeout(time.Hour)) }()
		synctest.Wait()
		d, _ = elapsed(func() error {
			require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
			assert.IsType(t, (*bufsock.TimeoutError)(nil), <-first)
			assert.IsType(t, (*bufsock.TimeoutError)(nil), <-queued)
			return nil
		})
		assert.Equal(t, time.Second, d)
	})
}

// The deadline ends a wait for the turn of a call that it does not end, which is
// not at the connection.
func TestDeadlineAndTimeoutInTheQueueWhicheverIsFirst(t *testing.T) {
	for _, tt := range []struct{ deadline, timeout, want time.Duration }{
		{time.Second, time.Minute, time.Second},
		{time.Minute, time.Second, time.Second},
		{time.Second, bufsock.NoTimeout, time.Second},
		{time.Second, math.MaxInt64, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments("abc\n"))
			release := occupy(t, s)
			require.NoError(t, s.SetReadDeadline(time.Now().Add(tt.deadline)))
			d, err := elapsed(func() error { _, err := s.RecvUntil(lf, bufsock.WithTimeout(tt.timeout)); return err })
			assert.Equal(t, tt.want, d)
			assert.IsType(t, (*bufsock.TimeoutError)(nil), err)
			release()
		})
	}
}

func TestCloseEndsBlockedAndQueuedCalls(t *testing.T) {
	bubble(t, func(t *testing.T, s *bufsock.BufferedSocket, _ string, call func(...bufsock.Option) error) {
		errs := make(chan error)
		for range 3 {
			go func() { errs <- call(bufsock.WithTimeout(bufsock.NoTimeout)) }()
		}
		synctest.Wait()
		d, err := elapsed(s.Close)
		require.NoError(t, err)
		for range 3 {
			assertClosed(t, <-errs)
		}
		assert.Zero(t, d)
		assert.Empty(t, s.RecvBuffer())
		assert.Empty(t, s.SendBuffer())
		assertClosed(t, call())
	})
}

// assertClosed wants a net.Error that matches net.ErrClosed.
func assertClosed(t *testing.T, err error) {
	t.Helper()
	assert.ErrorIs(t, err, net.ErrClosed)
	e, ok := err.(net.Error)
	assert.True(t, ok && !e.Timeout(), "%T", err)
	assert.ErrorContains(t, err, "bufsock: ")
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

// The time that a split function takes counts, from its first call on.
func TestTimeoutCoversTheSplitFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		defer remote.Close()
		s := bufsock.NewBufferedSocket(local)
		go remote.Write([]byte("a"))
		_, err := s.Peek(1)
		require.NoError(t, err)
		d, err := elapsed(func() error {
			_, err := s.RecvSplit(func([]byte, bool) (int, []byte, error) {
				time.Sleep(300 * time.Millisecond)
				return 0, nil, nil
			}, bufsock.WithTimeout(400*time.Millisecond))
			return err
		})
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.Equal(t, 400*time.Millisecond, d)
		s.Close()
	})
}

// A peer that drains slowly is the same for sends: one deadline for the whole.
func TestTimeoutCoversPartialWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		var reading sync.WaitGroup
		reading.Go(func() {
			for {
				if _, err := remote.Read(make([]byte, 1)); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		var n int
		d, err := elapsed(func() (err error) {
			n, err = s.Send(make([]byte, 100), bufsock.WithTimeout(time.Second+50*time.Millisecond))
			return err
		})
		require.Equal(t, 1050*time.Millisecond, d)
		require.Equal(t, 11, n)
		e, ok := err.(*bufsock.TimeoutError)
		require.True(t, ok)
		require.Equal(t, 89, e.Buffered)
		require.Len(t, s.SendBuffer(), 89)
		require.NoError(t, s.Flush())
		require.Empty(t, s.SendBuffer())
		s.Close()
		reading.Wait()
	})
}

// The turn is passed on in the order in which it was asked for.
func TestTurnsAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		var order []string
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				msg, err := s.RecvUntil([]byte("\n"), bufsock.WithTimeout(time.Hour))
				assert.NoError(t, err)
				order = append(order, fmt.Sprintf("%d:%s", i, msg))
			})
			synctest.Wait()
		}
		for i := range 5 {
			fmt.Fprintf(remote, "%d\n", i)
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, []string{"0:0", "1:1", "2:2", "3:3", "4:4"}, order)
		remote.Close()
		s.Close()
	})
}

// A call that never waits for its turn, because it takes the next one as soon
// as it has ended its own, cannot keep another out for ever.
func TestWaitingForATurnEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(bufsock.NoTimeout))
		sent := 0
		go func() {
			for {
				if _, err := s.Send([]byte("crowd")); err != nil {
					return
				}
				sent++
			}
		}()
		synctest.Wait()
		var done atomic.Bool
		go func() {
			_, err := s.Send([]byte("alone"))
			assert.NoError(t, err)
			done.Store(true)
		}()
		synctest.Wait()
		for received := make([]byte, 5); !done.Load() && sent < 100; synctest.Wait() {
			_, err := io.ReadFull(remote, received)
			require.NoError(t, err)
		}
		assert.Less(t, sent, 20)
		s.Close()
	})
}

// Neither side waits for the other, and what looks or sets does not wait at
// all.
func TestBlockedCallsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Hour))
		done := make(chan error)
		go func() { _, err := s.RecvUntil(lf); done <- err }()
		go func() { _, err := s.Send([]byte("out")); done <- err }()
		synctest.Wait()
		d, _ := elapsed(func() error {
			s.SetTimeout(time.Minute)
			s.SetMaxSize(100)
			s.SetBlocking(true)
			assert.Zero(t, s.Buffered())
			assert.Empty(t, s.RecvBuffer())
			assert.Len(t, s.SendBuffer(), 3)
			assert.NoError(t, s.SetDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Hour)))
			assert.ErrorIs(t, s.CloseRead(), errors.ErrUnsupported)
			assert.ErrorIs(t, s.CloseWrite(), errors.ErrUnsupported)
			_, err := s.SyscallConn()
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.NotNil(t, s.NetConn())
			assert.NotNil(t, s.LocalAddr())
			assert.NotNil(t, s.RemoteAddr())

			// the receive is blocked, the send is not held up, and the reverse
			_, err = remote.Read(make([]byte, 3))
			assert.NoError(t, err)
			assert.NoError(t, <-done)
			go s.Send([]byte("blocked"))
			synctest.Wait()
			_, err = remote.Write([]byte("in\n"))
			assert.NoError(t, err)
			return <-done
		})
		require.Zero(t, d)
		s.Close()
		remote.Close()
	})
}

func TestReadAndWriteFollowDeadlinesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Second))
		time.AfterFunc(time.Hour, func() { remote.Write([]byte("late")) })
		d, err := elapsed(func() error { _, err := s.Read(make([]byte, 4)); return err })
		require.NoError(t, err, "the default timeout does not bound Read")
		require.Equal(t, time.Hour, d)
		time.AfterFunc(time.Hour, func() { remote.Read(make([]byte, 4)) })
		d, err = elapsed(func() error { _, err := s.Write([]byte("late")); return err })
		require.NoError(t, err, "the default timeout does not bound Write")
		require.Equal(t, time.Hour, d)

		require.NoError(t, s.SetDeadline(time.Now().Add(time.Minute)))
		d, err = elapsed(func() error { _, err := s.Read(make([]byte, 4)); return err })
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, time.Minute, d)
		_, err = s.Write([]byte("late"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Empty(t, s.SendBuffer(), "Write keeps nothing")
		_, err = s.WriteTo(&bytes.Buffer{})
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = s.ReadFrom(strings.NewReader("late"))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		s.Close()
		remote.Close()
	})
}

// A recorder notes the deadlines that its connection is given.
type recorder struct {
	net.Conn
	mu    sync.Mutex
	read  []time.Time
	write []time.Time
}

func (r *recorder) SetReadDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = append(r.read, t)
	return r.Conn.SetReadDeadline(t)
}

func (r *recorder) SetWriteDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write = append(r.write, t)
	return r.Conn.SetWriteDeadline(t)
}

func (r *recorder) SetDeadline(time.Time) error { panic("deadlines are set apart") }

// expired returns a context whose deadline has passed.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	t.Cleanup(cancel)
	return ctx
}

func last(ts []time.Time) time.Time {
	if len(ts) == 0 {
		return time.Time{}
	}
	return ts[len(ts)-1]
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

// sockets are the transports with a descriptor that is tried without waiting.
func sockets(t *testing.T, f func(t *testing.T, local, remote net.Conn)) {
	for _, transport := range transports[:2] {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			f(t, local, remote)
		})
	}
}

func TestNonBlockingTakesWhatHasArrived(t *testing.T) {
	now := bufsock.WithTimeout(bufsock.NonBlocking)
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			_, err := s.RecvUntil(lf, now)
			require.ErrorIs(t, err, bufsock.ErrWouldBlock)
			go remote.Write([]byte("ab\ncd"))
			var msg []byte
			for msg == nil { // it is on its way
				msg, err = s.RecvUntil(lf, now)
				if err != nil {
					require.ErrorIs(t, err, bufsock.ErrWouldBlock)
				}
			}
			require.Equal(t, "ab", string(msg))
		})
	}
}

// The connection itself must not meet a deadline that a call has left behind.
func TestNoDeadlineIsLeftOnTheDescriptor(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		_, err := s.RecvUntil(lf, bufsock.WithTimeout(time.Millisecond))
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err = s.RecvUntil(lf, bufsock.WithContext(ctx))
		require.ErrorIs(t, err, context.Canceled)
		time.AfterFunc(5*time.Millisecond, func() { remote.Write([]byte("x")) })
		_, err = local.Read(make([]byte, 1))
		require.NoError(t, err)
	})
}

func TestTimeoutsOnDescriptors(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		expect := func(err error) {
			t.Helper()
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		_, err := s.RecvSize(3, bufsock.WithTimeout(time.Millisecond))
		expect(err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = s.RecvSize(3, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
		expect(err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err = s.RecvSize(3, bufsock.WithTimeout(bufsock.NoTimeout))
		expect(err)
		_, err = s.RecvSize(3, bufsock.WithTimeout(bufsock.NonBlocking))
		expect(err)
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		_, err = s.Read(make([]byte, 3))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		require.NoError(t, s.SetReadDeadline(time.Time{}))
		blocked := make(chan error)
		go func() { _, err := s.RecvSize(3, bufsock.WithTimeout(bufsock.NoTimeout)); blocked <- err }()
		require.NoError(t, s.SetReadDeadline(time.Now().Add(2*time.Millisecond)))
		expect(<-blocked)

		require.NoError(t, s.SetReadDeadline(time.Time{}))
		_, err = remote.Write([]byte("abc"))
		require.NoError(t, err)
		msg, err := s.RecvSize(3)
		require.NoError(t, err)
		require.Equal(t, "abc", string(msg))
	})
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

// A connection that reports a deadline that nobody has set.
func TestSpuriousTimeout(t *testing.T) {
	s := bufsock.NewBufferedSocket(&wire{reads: []read{
		{"", os.ErrDeadlineExceeded}, {"a", os.ErrDeadlineExceeded}, {"b\n", nil},
	}})
	_, err := s.RecvUntil(lf)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	require.ErrorContains(t, err, "deadline exceeded", "not after 10s")
	msg, err := s.RecvUntil(lf)
	require.NoError(t, err, "the data first")
	require.Equal(t, "ab", string(msg))

	s = bufsock.NewBufferedSocket(&wire{reads: []read{{"", os.ErrDeadlineExceeded}, {strings.Repeat("a", 20_000), nil}}})
	into := bufsock.AppendTo(make([]byte, 0, 20_000))
	_, err = s.RecvSize(20_000, into)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err, "a large message, too")
	_, err = s.RecvSize(20_000, into)
	require.NoError(t, err)
}

func TestDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s, err := bufsock.Dial(t.Context(), "tcp", l.Addr().String(), bufsock.WithTimeout(time.Minute), bufsock.WithMaxSize(5))
	require.NoError(t, err)
	require.Equal(t, 5, s.MaxSize())
	require.Equal(t, time.Minute, s.Timeout())
	peer, err := l.Accept()
	require.NoError(t, err)
	_, err = s.Send([]byte("abc"))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	msg, err := bufsock.NewBufferedSocket(peer).RecvClose()
	require.NoError(t, err)
	require.Equal(t, "abc", string(msg))

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	_, err = bufsock.Dial(ctx, "tcp", l.Addr().String())
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "bufsock: Dial: ")

	past, cancelPast := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancelPast()
	_, err = bufsock.Dial(past, "tcp", l.Addr().String())
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	_, err = bufsock.Dial(t.Context(), "tcp", l.Addr().String(), bufsock.WithTimeout(time.Nanosecond))
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	_, err = bufsock.Dial(t.Context(), "bogus", l.Addr().String())
	require.IsType(t, (*net.OpError)(nil), err)
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

// A TLS handshake that is left to a call is bounded by the call in both
// directions, and by that of another that waits for it.
func TestTimeoutBoundsAHandshake(t *testing.T) {
	_, config := tlsConfigs()
	for op, call := range waiting {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe() // nobody answers, or even reads
				s := bufsock.NewBufferedSocket(tls.Client(local, config))
				first := make(chan error)
				go func() { _, err := s.RecvUntil(lf, bufsock.WithTimeout(3*time.Second)); first <- err }()
				synctest.Wait()
				d, err := elapsed(func() error { return call(s, bufsock.WithTimeout(time.Second)) })
				assert.Equal(t, time.Second, d)
				assert.IsType(t, (*bufsock.TimeoutError)(nil), err)
				assert.IsType(t, (*bufsock.TimeoutError)(nil), <-first)
				_, err = elapsed(func() error { return call(s) })
				assert.Error(t, err, "the session has ended")
				s.Close()
				remote.Close()
			})
		})
	}
	t.Run("and is done by the first call", func(t *testing.T) {
		a, b := tcpPair(t)
		server, client := tlsConfigs()
		s := bufsock.NewBufferedSocket(tls.Client(a, client))
		peer := bufsock.NewBufferedSocket(tls.Server(b, server))
		go peer.RecvUntil(lf)
		_, err := s.Send([]byte("hello\n"))
		require.NoError(t, err)
		_, err = peer.Send([]byte("hello\n"))
		require.NoError(t, err)
		_, err = s.RecvUntil(lf)
		require.NoError(t, err)
	})
}

// What ends one call must not end the handshake that another is doing.
func TestHandshakeIsOnlyEndedByItsOwnCall(t *testing.T) {
	_, config := tlsConfigs()
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		go remote.Read(make([]byte, 1<<16)) // takes the ClientHello and does not answer
		s := bufsock.NewBufferedSocket(tls.Client(local, config))
		first := make(chan error)
		go func() { _, err := s.Send([]byte("x"), bufsock.WithTimeout(time.Minute)); first <- err }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Recv(1, bufsock.WithContext(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Recv(1, bufsock.WithTimeout(time.Second))
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		synctest.Wait()
		select {
		case err := <-first:
			require.Fail(t, "the handshake has ended", "%v", err)
		default:
		}
		require.NoError(t, s.Close())
		assertClosed(t, <-first)
		remote.Close()
	})
}

func TestHandshakeIsBoundedByTheUsersDeadline(t *testing.T) {
	_, config := tlsConfigs()
	for op, call := range waiting {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(tls.Client(local, config))
			require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
			d, err := elapsed(func() error { return call(s, bufsock.WithTimeout(time.Hour)) })
			require.Equal(t, time.Second, d, op)
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			s.Close()
			remote.Close()
		})
	}
}

func TestHandshakeIsNotBegunByACanceledCall(t *testing.T) {
	a, b := tcpPair(t)
	server, client := tlsConfigs()
	go tls.Server(b, server).Handshake()
	s := bufsock.NewBufferedSocket(tls.Client(a, client))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Recv(1, bufsock.WithContext(ctx))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Send([]byte("x"))
	require.NoError(t, err)
}

func TestHandshakeThatPanics(t *testing.T) {
	a, b := tcpPair(t)
	server, client := tlsConfigs()
	go tls.Server(b, server).Handshake()
	client = client.Clone()
	client.VerifyConnection = func(tls.ConnectionState) error { panic("boom") }
	s := bufsock.NewBufferedSocket(tls.Client(a, client))
	require.PanicsWithValue(t, "boom", func() { s.Send([]byte("x")) })
	require.NoError(t, s.Close(), "no lock is held")
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

// A misleading error says that it is a timeout, in one way or another.
type misleading struct {
	matches   error // what it matches
	temporary bool
}

func (misleading) Error() string          { return "misleading" }
func (misleading) Timeout() bool          { return true }
func (e misleading) Temporary() bool      { return e.temporary }
func (e misleading) Is(target error) bool { return target == e.matches }

// Only what ends a call for its time or a deadline is a *TimeoutError. A dead
// connection, or one that gave up for reasons of its own, is not.
func TestWhichTimeoutsOfTheConnectionAreTimeouts(t *testing.T) {
	deadline := os.ErrDeadlineExceeded
	tests := map[string]struct {
		err     error
		passed  bool // a deadline of the user has passed during the call
		timeout bool
	}{
		"a deadline":                           {&net.OpError{Op: "read", Err: deadline}, false, true},
		"a type of its own":                    {misleading{nil, true}, false, true},
		"a type of its own, past a deadline":   {misleading{nil, true}, true, true},
		"that matches it":                      {misleading{deadline, true}, false, true},
		"the end of a TLS session":             {misleading{deadline, false}, false, false},
		"the end of one, past a deadline":      {misleading{deadline, false}, true, true},
		"no timeout, past a deadline":          {errors.New("reset"), true, false},
		"one that says no, past a deadline":    {&net.OpError{Op: "read", Err: errors.New("reset")}, true, false},
		"a wrapped deadline":                   {fmt.Errorf("wrapped: %w", &net.OpError{Op: "read", Err: deadline}), false, true},
		"one without Temporary, that matches":  {bareTimeout{deadline}, false, false},
		"one without Temporary, at a deadline": {bareTimeout{deadline}, true, true},
	}
	for name, tt := range tests {
		for op, call := range waiting {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				conn := &hooked{Conn: local}
				s := bufsock.NewBufferedSocket(conn)
				conn.read = func([]byte) (int, error) {
					if tt.passed {
						time.Sleep(time.Second)
					}
					return 0, tt.err
				}
				conn.write = conn.read
				if tt.passed {
					require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
				}
				err := call(s, bufsock.WithTimeout(time.Minute))
				if tt.timeout {
					e, ok := err.(*bufsock.TimeoutError)
					require.True(t, ok, "%s, %s: %T", name, op, err)
					require.Equal(t, tt.err, e.Err)
					require.ErrorContains(t, err, "deadline exceeded")
				} else {
					require.Equal(t, tt.err, err, "%s, %s", name, op)
				}
				// The methods of net.Conn return it in any case.
				_, err = s.Read(make([]byte, 1))
				if !tt.passed {
					require.Equal(t, tt.err, err, name)
				}
				s.Close()
				remote.Close()
			})
		}
	}
}

// A bareTimeout has nothing but what net.Error wants.
type bareTimeout struct{ error }

func (bareTimeout) Timeout() bool     { return true }
func (e bareTimeout) Unwrap() error   { return e.error }
func (e bareTimeout) Temporary() bool { return false }

// The own time of a call makes any error that says so a timeout, too.
func TestTimeoutOfTheConnectionAfterThatOfTheCall(t *testing.T) {
	for op, call := range waiting {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			conn := &hooked{Conn: local}
			s := bufsock.NewBufferedSocket(conn)
			misled := misleading{temporary: true}
			conn.read = func([]byte) (int, error) { time.Sleep(time.Second); return 0, misled }
			conn.write = conn.read
			err := call(s, bufsock.WithTimeout(time.Second))
			require.IsType(t, (*bufsock.TimeoutError)(nil), err, op)
			require.ErrorContains(t, err, "timed out after 1s")

			ctx, cancel := context.WithCancel(t.Context())
			conn.read = func([]byte) (int, error) { cancel(); return 0, misled }
			conn.write = conn.read
			require.ErrorIs(t, call(s, bufsock.WithContext(ctx)), context.Canceled, op)
			s.Close()
			remote.Close()
		})
	}
}

// What was transferred whole is no timeout, even if the connection says so.
func TestTransfersThatAreLateButDone(t *testing.T) {
	conn := &hooked{Conn: segments()}
	s := bufsock.NewBufferedSocket(conn, bufsock.WithReadSize(3))
	conn.read = func(p []byte) (int, error) { return copy(p, "abcdefgh"), os.ErrDeadlineExceeded }
	conn.write = func(p []byte) (int, error) { return len(p), os.ErrDeadlineExceeded }
	for range 2 {
		msg, err := s.RecvSize(3)
		require.NoError(t, err, "all that was asked for")
		require.Equal(t, "abc", string(msg))
		n, err := s.Send([]byte("abc"))
		require.NoError(t, err)
		require.Equal(t, 3, n)
		n, err = s.Send(make([]byte, 100_000))
		require.NoError(t, err)
		require.Equal(t, 100_000, n)
		n, err = s.Write([]byte("abc"))
		require.NoError(t, err)
		require.Equal(t, 3, n)
		require.Empty(t, s.SendBuffer())
	}
	conn.write = func(p []byte) (int, error) { return len(p) - 1, os.ErrDeadlineExceeded }
	n, err := s.Send([]byte("abc"))
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	require.Equal(t, 2, n)
	require.Equal(t, "c", string(s.SendBuffer()))
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

// Deadlines that were set do not bound the wait for another call's handshake
// but by the call's own side.
func TestDeadlinesWhileAnotherCallDoesTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, _ := net.Pipe()
		done := make(chan struct{})
		s := bufsock.NewBufferedSocket(shaker{segments("line\n"), func(context.Context) error { <-done; return nil }})
		local.Close()
		start := time.Now()
		require.NoError(t, s.SetReadDeadline(start.Add(time.Second)))
		require.NoError(t, s.SetWriteDeadline(start.Add(time.Hour)))
		first := make(chan error)
		go func() { _, err := s.Send([]byte("x"), bufsock.WithTimeout(bufsock.NoTimeout)); first <- err }()
		synctest.Wait()
		d, err := elapsed(func() error { _, err := s.RecvUntil(lf, bufsock.WithTimeout(bufsock.NoTimeout)); return err })
		require.Equal(t, time.Second, d, "the deadline of its side")
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)

		require.NoError(t, s.SetReadDeadline(time.Time{}))
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Second)))
		d, err = elapsed(func() error { _, err := s.RecvUntil(lf, bufsock.WithTimeout(time.Minute)); return err })
		require.Equal(t, time.Minute, d, "its timeout")
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.NoError(t, s.SetWriteDeadline(time.Time{}))

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		d, err = elapsed(func() error { _, err := s.RecvUntil(lf, bufsock.WithContext(ctx)); return err })
		require.Equal(t, time.Second, d, "its context")
		require.ErrorIs(t, err, context.Canceled)

		require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour)))
		time.AfterFunc(time.Minute, func() { close(done) })
		d, err = elapsed(func() error { _, err := s.RecvUntil(lf, bufsock.WithTimeout(bufsock.NoTimeout)); return err })
		require.NoError(t, err)
		require.Equal(t, time.Minute, d, "until the handshake is done")
		require.NoError(t, <-first)
	})
}

// The context that a handshake gets ends with the earlier of the call's time
// and the user's deadline, and with the call's context.
func TestContextOfAHandshake(t *testing.T) {
	type key struct{}
	tests := map[string]struct {
		timeout, deadline time.Duration // zero deadline: none
		want              time.Duration // zero: no deadline
	}{
		"the timeout":                  {time.Minute, 0, time.Minute},
		"the deadline":                 {bufsock.NoTimeout, time.Hour, time.Hour},
		"the timeout, which is first":  {time.Minute, time.Hour, time.Minute},
		"the deadline, which is first": {time.Hour, time.Minute, time.Minute},
		"neither":                      {bufsock.NoTimeout, 0, 0},
		"the grace of NonBlocking":     {bufsock.NonBlocking, 0, time.Millisecond},
		"not more for a deadline":      {bufsock.NonBlocking, time.Hour, time.Millisecond},
	}
	for name, tt := range tests {
		for op, call := range waiting {
			synctest.Test(t, func(t *testing.T) {
				shaken := 0
				s := bufsock.NewBufferedSocket(shaker{segments("1:\n\n,"), func(ctx context.Context) error {
					shaken++
					assert.Equal(t, "value", ctx.Value(key{}), name)
					d, ok := ctx.Deadline()
					assert.Equal(t, tt.want != 0, ok, "%s, %s", name, op)
					if ok {
						assert.Equal(t, tt.want, time.Until(d), "%s, %s", name, op)
					}
					return nil
				}})
				if tt.deadline != 0 {
					require.NoError(t, s.SetDeadline(time.Now().Add(tt.deadline)))
				}
				ctx := context.WithValue(t.Context(), key{}, "value")
				for range 2 {
					call(s, bufsock.WithTimeout(tt.timeout), bufsock.WithContext(ctx))
				}
				require.Equal(t, 1, shaken, "once")
			})
		}
	}
}

// How a handshake ends is how the call ends.
func TestHandshakeThatFails(t *testing.T) {
	boom := errors.New("boom")
	for op, call := range waiting {
		synctest.Test(t, func(t *testing.T) {
			var result func(ctx context.Context) error
			conn := &wire{}
			fresh := func() *bufsock.BufferedSocket {
				return bufsock.NewBufferedSocket(shaker{conn, func(ctx context.Context) error { return result(ctx) }})
			}
			s := fresh()
			result = func(context.Context) error { return boom }
			require.Equal(t, boom, call(s), op)
			err := call(s)
			require.ErrorIs(t, err, boom, op)
			require.Equal(t, isSend(op), errors.Is(err, bufsock.ErrBroken), op)
			s = fresh()
			// the connection's own, though a deadline was set that has passed
			own := &net.OpError{Op: "read", Err: boom}
			result = func(context.Context) error { s.SetDeadline(time.Unix(1, 0)); return own }
			require.Equal(t, own, call(s, bufsock.WithTimeout(bufsock.NoTimeout)), op)
			s = fresh()
			// the time of the call, as crypto/tls says it
			result = func(ctx context.Context) error { <-ctx.Done(); return misleading{os.ErrDeadlineExceeded, false} }
			d, err := elapsed(func() error { return call(s, bufsock.WithTimeout(time.Second)) })
			require.Equal(t, time.Second, d)
			require.IsType(t, (*bufsock.TimeoutError)(nil), err, op)
			require.ErrorContains(t, err, "timed out after 1s")
			require.False(t, err.(*bufsock.TimeoutError).Temporary(), "a handshake that was cut is the end of the session")
			s = fresh()
			// the deadline of the user, which the connection met
			require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
			cause := misleading{os.ErrDeadlineExceeded, false}
			result = func(context.Context) error { time.Sleep(time.Second); return cause }
			err = call(s, bufsock.WithTimeout(time.Hour))
			require.IsType(t, (*bufsock.TimeoutError)(nil), err, op)
			s = fresh()
			// what is no timeout stays what it is, and so does one before a deadline
			result = func(context.Context) error { return cause }
			require.Equal(t, cause, call(s, bufsock.WithTimeout(time.Hour)), op)
			s = fresh()
			require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
			result = func(context.Context) error { time.Sleep(2 * time.Second); return boom }
			err = call(s, bufsock.WithTimeout(time.Hour))
			require.IsType(t, (*bufsock.TimeoutError)(nil), err, "its context has ended")
			// closed during the handshake
			s = fresh()
			result = func(context.Context) error { s.Close(); return boom }
			assertClosed(t, call(s))
			require.Empty(t, conn.writes)
			require.Empty(t, conn.asked)
		})
	}
}

// A Buffer that had to wait for its turn adds its data behind what was sent.
func TestBufferWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Second))
		sent := make(chan error)
		go func() { _, err := s.Send([]byte("first"), bufsock.WithTimeout(time.Hour)); sent <- err }()
		synctest.Wait()
		d, err := elapsed(func() error { return s.Buffer([]byte("late")) })
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.EqualError(t, err, "bufsock: Buffer: timed out after 1s (5 bytes buffered)")
		require.Equal(t, "first", string(s.SendBuffer()), "nothing was added")

		added := make(chan error)
		go func() { added <- s.Buffer([]byte("second")) }()
		synctest.Wait()
		_, err = io.ReadFull(remote, make([]byte, 5))
		require.NoError(t, err)
		require.NoError(t, <-sent)
		require.NoError(t, <-added)
		require.Equal(t, "second", string(s.SendBuffer()))
		require.NoError(t, s.Buffer([]byte("!")), "the turn is free")

		go s.Flush(bufsock.WithTimeout(time.Hour))
		synctest.Wait()
		go func() { added <- s.Buffer([]byte("third")) }()
		synctest.Wait()
		require.NoError(t, s.Close())
		assertClosed(t, <-added)
		require.Empty(t, s.SendBuffer())
		remote.Close()
	})
}

// Waiters may give up in any order, and the others keep theirs.
func TestQueueKeepsItsOrderWhenWaitersGiveUp(t *testing.T) {
	const n = 4
	for gone := range 1 << n { // which of them give up
		synctest.Test(t, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments("0\n1\n2\n3\n"))
			release := occupy(t, s)
			var got, want [n]string
			var wg sync.WaitGroup
			left := 0
			for i := range n {
				timeout := time.Hour
				if gone&(1<<i) != 0 {
					timeout = time.Duration(1+i*3%n) * time.Second // not in the order of the queue
				} else {
					want[i] = strconv.Itoa(left)
					left++
				}
				wg.Go(func() {
					msg, _ := s.RecvUntil(lf, bufsock.WithTimeout(timeout))
					got[i] = string(msg)
				})
				synctest.Wait()
			}
			time.Sleep(time.Minute)
			release()
			wg.Wait()
			require.Equal(t, want, got, "%04b", gone)
			_, err := s.Recv(1, bufsock.WithTimeout(time.Second))
			if left == n {
				require.Equal(t, io.EOF, err)
			} else {
				require.NoError(t, err, "the turn is free")
			}
		})
	}
}

// A context is looked at while a call waits for its turn, and not only then.
func TestContextThatEndsInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("abc\n"))
		release := occupy(t, s)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the cause"))
		defer cancel()
		d, err := elapsed(func() error {
			_, err := s.RecvUntil(lf, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
			return err
		})
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.EqualError(t, err, `bufsock: RecvUntil: context deadline exceeded: the cause while waiting for "\n" (4 bytes buffered)`)
		_, err = s.RecvUntil(lf, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
		require.ErrorIs(t, err, context.DeadlineExceeded, "it was done before")
		release()
		synctest.Wait()
		msg, err := s.RecvUntil(lf, bufsock.WithContext(ctx))
		require.NoError(t, err, "what is there wins")
		require.Equal(t, "abc", string(msg))
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

func TestDialHasTheDefaults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s, err := bufsock.Dial(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, bufsock.DefaultTimeout, s.Timeout())
	require.Equal(t, bufsock.DefaultMaxSize, s.MaxSize())
	peer, err := l.Accept()
	require.NoError(t, err)
	defer peer.Close()
	_, err = peer.Write(make([]byte, 40_000))
	require.NoError(t, err)
	_, err = s.Peek(1)
	require.NoError(t, err)
	require.LessOrEqual(t, s.Buffered(), 32<<10, "the read size")
	_, err = s.RecvSize(40_000)
	require.NoError(t, err)
}

// Dial has the special timeouts of all calls.
func TestDialWithSpecialTimeouts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s, err := bufsock.Dial(t.Context(), "tcp", l.Addr().String(), bufsock.WithTimeout(bufsock.NoTimeout))
	require.NoError(t, err)
	require.Equal(t, bufsock.NoTimeout, s.Timeout())
	require.NoError(t, s.Close())
	for range 100 { // a loaded machine may take longer than the grace
		s, err = bufsock.Dial(t.Context(), "tcp", l.Addr().String(), bufsock.WithTimeout(bufsock.NonBlocking))
		if err == nil {
			break
		}
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
	}
	require.NoError(t, err)
	require.NoError(t, s.Close())

	_, err = bufsock.Dial(t.Context(), "tcp", l.Addr().String(), bufsock.WithTimeout(time.Nanosecond))
	e, ok := err.(*bufsock.TimeoutError)
	require.True(t, ok)
	require.EqualError(t, err, "bufsock: Dial: timed out after 1ns (0 bytes buffered)")
	require.Equal(t, time.Nanosecond, e.After)
	require.IsType(t, (*net.OpError)(nil), e.Err, "the error of the dialer")
	require.Zero(t, e.Buffered)
}
