package bufsock_test

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// An idle timeout bounds the wait for the first byte, and the timeout what
// follows it: one behind the other, and neither begins again.
func TestIdleTimeout(t *testing.T) {
	const idle, timeout = time.Hour, 10 * time.Second
	type option = []bufsock.Option
	type test struct {
		socket, call option
		first        time.Duration // when the first byte comes; 0: never
		want         time.Duration // when the call ends
		idle         bool          // the error says so
	}
	withIdle, withTimeout := bufsock.WithIdleTimeout, bufsock.WithTimeout
	for name, tt := range map[string]test{
		"of the socket, nothing comes":          {option{withIdle(idle)}, nil, 0, idle, true},
		"of the call, nothing comes":            {nil, option{withIdle(idle)}, 0, idle, true},
		"of the call before that of the socket": {option{withIdle(time.Minute)}, option{withIdle(idle)}, 0, idle, true},
		"with a timeout, nothing comes":         {nil, option{withIdle(idle), withTimeout(time.Minute)}, 0, idle, true},
		"in the other order":                    {nil, option{withTimeout(time.Minute), withIdle(idle)}, 0, idle, true},
		"shorter than the timeout":              {option{withIdle(time.Second)}, nil, 0, time.Second, true},
		"a message begins and stops":            {option{withIdle(idle)}, nil, 30 * time.Minute, 30*time.Minute + timeout, false},
		"it begins at the last moment":          {option{withIdle(idle)}, nil, idle - 1, idle - 1 + timeout, false},
		"it begins at once":                     {option{withIdle(idle)}, nil, 1, 1 + timeout, false},
		"a timeout of the call counts then":     {nil, option{withIdle(idle), withTimeout(time.Minute)}, time.Minute, 2 * time.Minute, false},
		"a timeout of the call alone":           {option{withIdle(idle)}, option{withTimeout(time.Minute)}, 0, time.Minute, false},
		"the same, and a byte":                  {option{withIdle(idle)}, option{withTimeout(time.Minute)}, time.Second, time.Minute, false},
		"no idle timeout":                       {nil, nil, 0, timeout, false},
		"no bound":                              {option{withIdle(bufsock.NoTimeout)}, nil, 1000 * idle, 1000*idle + timeout, false},
		"no bound of the call":                  {option{withIdle(idle)}, option{withIdle(-5)}, 1000 * idle, 1000*idle + timeout, false},
	} {
		bubbles := map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error{}
		for op, call := range waiting {
			if !isSend(op) && (tt.first == 0 || op != "Recv" && op != "Peek" && op != "Discard" && op != "RecvSize") {
				bubbles[op] = call
			}
		}
		for op, call := range bubbles {
			t.Run(name+", "+op, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					local, remote := net.Pipe()
					s := bufsock.NewBufferedSocket(local, tt.socket...)
					if tt.first > 0 {
						time.AfterFunc(tt.first, func() { remote.Write([]byte("9")) })
					}
					d, err := elapsed(func() error { return call(s, tt.call...) })
					e, ok := err.(*bufsock.TimeoutError)
					require.True(t, ok, "%T: %v", err, err)
					require.Equal(t, tt.want, d)
					require.Equal(t, tt.idle, strings.Contains(e.Error(), "idle for "+tt.want.String()), e.Error())
					if tt.idle {
						require.Equal(t, tt.want, e.After)
						require.True(t, e.Temporary())
					}
					s.Close()
					remote.Close()
				})
			})
		}
	}
}

// NoTimeout behind the first byte, and no bound at all.
func TestIdleTimeoutWithoutATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(bufsock.NoTimeout), bufsock.WithIdleTimeout(time.Minute))
		d, err := elapsed(func() error { _, err := s.RecvUntil(lf); return err })
		require.Equal(t, time.Minute, d)
		require.ErrorContains(t, err, "idle for 1m0s")
		go func() {
			time.Sleep(time.Second)
			remote.Write([]byte("a"))
			time.Sleep(1000 * time.Hour)
			remote.Write(lf)
		}()
		d, err = elapsed(func() error { _, err := s.RecvUntil(lf); return err })
		require.NoError(t, err)
		require.Equal(t, 1000*time.Hour+time.Second, d)
		s.Close()
		remote.Close()
	})
}

// A call that has bytes of its message is not idle, and neither is one that does
// not wait; a deadline and a context hold as ever.
func TestWhatIsNotIdle(t *testing.T) {
	const idle = time.Hour
	bubbled := func(name string, f func(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				s := bufsock.NewBufferedSocket(local, bufsock.WithIdleTimeout(idle))
				f(t, s, remote)
				s.Close()
				remote.Close()
			})
		})
	}
	takes := func(t *testing.T, want time.Duration, s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		d, err := elapsed(func() error { _, err := s.RecvUntil(lf, opts...); return err })
		require.Equal(t, want, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		return err
	}
	bubbled("a message that has begun", func(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn) {
		go remote.Write([]byte("half"))
		_, err := s.Peek(4)
		require.NoError(t, err)
		require.NotContains(t, takes(t, bufsock.DefaultTimeout, s).Error(), "idle")
		for _, call := range []func() error{
			func() error { _, err := s.RecvSplit(bufio.ScanLines); return err },
			func() error { return s.RecvFunc(func(m *bufsock.Message) error { _, err := m.Until(lf); return err }) },
			func() error { _, err := s.RecvSize(10); return err },
		} {
			d, err := elapsed(call)
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			require.NotContains(t, err.Error(), "idle")
			require.Equal(t, bufsock.DefaultTimeout, d)
		}
	})
	bubbled("a NonBlocking call", func(t *testing.T, s *bufsock.BufferedSocket, _ net.Conn) {
		for _, opts := range [][]bufsock.Option{nil, {bufsock.WithIdleTimeout(time.Minute)}} {
			err := takes(t, time.Millisecond, s, append(opts, bufsock.WithTimeout(bufsock.NonBlocking))...)
			require.ErrorIs(t, err, bufsock.ErrWouldBlock)
			require.NotContains(t, err.Error(), "idle")
		}
		s.SetTimeout(bufsock.NonBlocking)
		require.ErrorIs(t, takes(t, time.Millisecond, s), bufsock.ErrWouldBlock)
	})
	bubbled("a deadline", func(t *testing.T, s *bufsock.BufferedSocket, _ net.Conn) {
		require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Second)))
		err := takes(t, time.Second, s)
		require.ErrorContains(t, err, "deadline exceeded")
		require.NotContains(t, err.Error(), "idle")
	})
	bubbled("a context", func(t *testing.T, s *bufsock.BufferedSocket, _ net.Conn) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, takes(t, time.Minute, s, bufsock.WithContext(ctx)), context.DeadlineExceeded)
	})
	bubbled("Read and WriteTo", func(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn) {
		time.AfterFunc(2*idle, func() { remote.Write([]byte("x")) })
		d, err := elapsed(func() error { _, err := s.Read(make([]byte, 1)); return err })
		require.NoError(t, err)
		require.Equal(t, 2*idle, d)
	})
	bubbled("a send", func(t *testing.T, s *bufsock.BufferedSocket, _ net.Conn) {
		d, err := elapsed(func() error { _, err := s.Send([]byte("x")); return err })
		require.Error(t, err)
		require.Equal(t, bufsock.DefaultTimeout, d)
		_, err = s.Send([]byte("x"), bufsock.WithIdleTimeout(time.Second))
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument)
	})
	bubbled("an idle timeout of 0", func(t *testing.T, s *bufsock.BufferedSocket, _ net.Conn) {
		_, err := s.RecvUntil(lf, bufsock.WithIdleTimeout(0))
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument)
		require.Panics(t, func() { bufsock.NewBufferedSocket(segments(), bufsock.WithIdleTimeout(0)) })
	})
}

// The wait for the turn is a part of the idle wait. Bytes that another call has
// left are a message that has begun.
func TestTheWaitForTheTurnIsIdle(t *testing.T) {
	const idle, timeout = time.Hour, 10 * time.Second
	for op, call := range waiting {
		if isSend(op) {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(local, bufsock.WithIdleTimeout(idle))
			release := occupy(t, s)
			d, err := elapsed(func() error { return call(s) })
			require.Equal(t, idle, d, op)
			require.ErrorContains(t, err, "idle for 1h0m0s")

			time.AfterFunc(idle-time.Minute, release)
			d, err = elapsed(func() error { return call(s) })
			require.Equal(t, idle, d, "%s: turn and first byte together", op)
			require.ErrorContains(t, err, "idle for 1h0m0s")

			release = occupy(t, s)
			time.AfterFunc(idle-time.Minute, func() {
				release()
				remote.Write([]byte("9"))
			})
			d, err = elapsed(func() error { return call(s) })
			if err != nil {
				require.IsType(t, (*bufsock.TimeoutError)(nil), err)
				require.Equal(t, idle-time.Minute+timeout, d, op)
				require.NotContains(t, err.Error(), "idle")
			}
			s.Close()
			remote.Close()
		})
	}
}

// Each message has an idle wait of its own.
func TestIdleTimeoutOfEachMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithIdleTimeout(time.Hour))
		go func() {
			for range 5 {
				time.Sleep(time.Hour - 1)
				remote.Write([]byte("be"))
				time.Sleep(bufsock.DefaultTimeout - 1)
				remote.Write([]byte("gun\n"))
			}
		}()
		n := 0
		d, _ := elapsed(func() error {
			for msg, err := range s.Messages(lf) {
				if n++; n > 5 {
					require.ErrorContains(t, err, "Messages: idle for 1h0m0s")
					break
				}
				require.NoError(t, err)
				require.Equal(t, "begun", string(msg))
			}
			return nil
		})
		require.Equal(t, 6, n)
		require.Equal(t, 5*(time.Hour+bufsock.DefaultTimeout-2)+time.Hour, d)
		s.Close()
		remote.Close()
	})
}

// On a descriptor time is real.
func TestIdleTimeoutOnDescriptors(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local, bufsock.WithIdleTimeout(10*time.Millisecond))
		_, err := s.RecvUntil(lf)
		require.ErrorContains(t, err, "idle for 10ms")
		_, err = remote.Write([]byte("a"))
		require.NoError(t, err)
		go func() {
			time.Sleep(30 * time.Millisecond)
			remote.Write(lf)
		}()
		msg, err := s.RecvUntil(lf)
		require.NoError(t, err, "it has begun")
		require.Equal(t, "a", string(msg))
	})
}
