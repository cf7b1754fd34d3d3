package bufsock_test

import (
	"context"
	"crypto/tls"
	"errors"
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

// These say in other ways than a *tls.Conn, or not at all, whether they have done
// their handshake.
type (
	stateOfArgument struct{ shaker }
	noState         struct{ shaker }
	plainState      struct{ shaker }
	nilState        struct{ shaker }
	otherState      struct{ shaker }
	wordyState      struct{ shaker }
	doneState       struct{ shaker }

	stateOfTLS   struct{ HandshakeComplete bool }
	stateInWords struct{ HandshakeComplete string }
)

func (stateOfArgument) ConnectionState(int) stateOfTLS { return stateOfTLS{true} }

func (noState) ConnectionState() {}

func (plainState) ConnectionState() bool { return true }

func (nilState) ConnectionState() *stateOfTLS { return nil }

func (otherState) ConnectionState() struct{} { return struct{}{} }

func (wordyState) ConnectionState() stateInWords { return stateInWords{"yes"} }

func (doneState) ConnectionState() stateOfTLS { return stateOfTLS{true} }

// Of a connection that does not say whether it has done its handshake it is
// taken to be due.
func TestUnknownHandshakeIsNotBegunByACanceledCall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sh := shaker{segments("a"), func(context.Context) error { panic("a handshake") }}
	for _, conn := range []net.Conn{
		sh, stateOfArgument{sh}, noState{sh}, plainState{sh}, nilState{sh}, otherState{sh}, wordyState{sh},
	} {
		_, err := bufsock.NewBufferedSocket(conn).Recv(1, bufsock.WithContext(ctx))
		require.ErrorIs(t, err, context.Canceled, "%T", conn)
	}
	sh.shake = func(context.Context) error { return nil }
	msg, err := bufsock.NewBufferedSocket(doneState{sh}).Recv(1, bufsock.WithContext(ctx))
	require.NoError(t, err)
	require.Equal(t, "a", string(msg), "what is there wins")
}

// ReadFrom does the handshake first, if the buffer could be sent.
func TestReadFromShakesHands(t *testing.T) {
	shaken := 0
	w := &wire{}
	s := bufsock.NewBufferedSocket(shaker{w, func(context.Context) error { shaken++; return nil }})
	_, err := s.ReadFrom(strings.NewReader("x"))
	require.NoError(t, err)
	require.Equal(t, 1, shaken)

	boom := errors.New("boom")
	s = bufsock.NewBufferedSocket(shaker{counting{count: func([]byte) (int, error) { return 0, boom }}, func(context.Context) error { return nil }})
	require.NoError(t, s.Buffer([]byte("buffered")))
	n, err := s.ReadFrom(readerFunc(func([]byte) (int, error) { panic("nothing is to be read") }))
	require.Equal(t, boom, err)
	require.Zero(t, n)
}

// Close ends the wait for another call's handshake, even if it does not end
// the handshake.
func TestCloseEndsTheWaitForAHandshake(t *testing.T) {
	for op, call := range waiting {
		if strings.Contains("Send SendBuffers Flush WriteNetstring", op) {
			continue // the first call is a send
		}
		synctest.Test(t, func(t *testing.T) {
			local, _ := net.Pipe()
			release := make(chan struct{})
			s := bufsock.NewBufferedSocket(shaker{local, func(context.Context) error { <-release; return nil }})
			first, second := make(chan error), make(chan error)
			go func() { _, err := s.Send([]byte("x"), bufsock.WithTimeout(bufsock.NoTimeout)); first <- err }()
			synctest.Wait()
			go func() { second <- call(s, bufsock.WithTimeout(bufsock.NoTimeout)) }()
			synctest.Wait()
			require.NoError(t, s.Close())
			assertClosed(t, <-second)
			close(release)
			assertClosed(t, <-first)
		})
	}
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

// Deadlines from before are lifted in both directions, as a handshake uses both,
// also on a connection under TLS that is not known.
func TestDeadlinesFromBeforeAreLiftedBeforeAHandshake(t *testing.T) {
	serverConfig, clientConfig := tlsConfigs()
	for op, call := range map[string]func(s *bufsock.BufferedSocket) error{
		"Send": func(s *bufsock.BufferedSocket) error { _, err := s.Send([]byte("x")); return err },
		"Recv": func(s *bufsock.BufferedSocket) error { _, err := s.Recv(1); return err },
		"Read": func(s *bufsock.BufferedSocket) error { _, err := s.Read(make([]byte, 1)); return err },
	} {
		for name, set := range map[string]func(net.Conn, time.Time) error{"read": net.Conn.SetReadDeadline, "write": net.Conn.SetWriteDeadline} {
			t.Run(op+", "+name, func(t *testing.T) {
				a, b := tcpPair(t)
				go func() {
					server := tls.Server(b, serverConfig)
					server.Write([]byte("y"))
					server.Read(make([]byte, 1))
				}()
				below := struct{ net.Conn }{a}
				require.NoError(t, set(below, time.Unix(1, 0)))
				require.NoError(t, call(bufsock.NewBufferedSocket(tls.Client(below, clientConfig))))
			})
		}
	}
}

// That the context of one call has ended is of no concern to those behind it.
func TestACanceledHandshakeBreaksTheSendingSide(t *testing.T) {
	for op, call := range waiting {
		if !isSend(op) {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(shaker{&wire{}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			require.ErrorIs(t, call(s, bufsock.WithContext(ctx)), context.Canceled, op)
			err := call(s)
			require.ErrorIs(t, err, bufsock.ErrBroken, op)
			require.NotErrorIs(t, err, context.Canceled, op)
		})
	}
}
