package bufsock_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

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

func TestUpgrade(t *testing.T) {
	starttls := func(t *testing.T, s *bufsock.BufferedSocket) error {
		_, clientConfig := tlsConfigs()
		return s.Upgrade(func(conn net.Conn) (net.Conn, error) {
			client := tls.Client(conn, clientConfig)
			return client, client.HandshakeContext(t.Context())
		})
	}
	server := func(conn net.Conn) *bufsock.BufferedSocket {
		serverConfig, _ := tlsConfigs()
		return bufsock.NewBufferedSocket(tls.Server(conn, serverConfig))
	}
	t.Run("goes on through the new connection", func(t *testing.T) {
		a, b := tcpPair(t)
		s := bufsock.NewBufferedSocket(a)
		future := time.Now().Add(time.Hour)
		require.NoError(t, s.SetDeadline(future))
		go func() {
			peer := server(b)
			peer.RecvUntil(lf)
			peer.Send([]byte("secure\n"))
		}()
		require.NoError(t, starttls(t, s))
		require.IsType(t, (*tls.Conn)(nil), s.NetConn())
		_, err := s.Send([]byte("hello\n"))
		require.NoError(t, err)
		msg, err := s.RecvUntil(lf)
		require.NoError(t, err)
		require.Equal(t, "secure", string(msg))
		_, err = s.RecvUntil(lf, bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
	})
	t.Run("refuses plaintext that came early", func(t *testing.T) {
		a, b := tcpPair(t)
		s := bufsock.NewBufferedSocket(b)
		_, err := a.Write([]byte("STARTTLS\r\nNOOP injected\r\n"))
		require.NoError(t, err)
		_, err = s.RecvUntil(crlf)
		require.NoError(t, err)
		err = starttls(t, s)
		require.ErrorIs(t, err, bufsock.ErrBufferedData)
		require.NotContains(t, err.Error(), "NOOP")
		require.Same(t, b, s.NetConn(), "nothing has changed")
		require.Equal(t, "NOOP injected\r\n", string(s.RecvBuffer()))
	})
	t.Run("refuses what is unsent", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments())
		require.NoError(t, s.Buffer([]byte("220 ready\r\n")))
		require.ErrorIs(t, s.Upgrade(nil), bufsock.ErrInvalidArgument)
		require.ErrorIs(t, starttls(t, s), bufsock.ErrBufferedData)
		require.Equal(t, "220 ready\r\n", string(s.SendBuffer()))
	})
	t.Run("keeps the connection when the function fails", func(t *testing.T) {
		w := segments("a\n", "b\n", "c\n")
		s := bufsock.NewBufferedSocket(w)
		boom := errors.New("boom")
		require.Equal(t, boom, s.Upgrade(func(net.Conn) (net.Conn, error) { return nil, boom }))
		require.ErrorIs(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return nil, nil }), bufsock.ErrInvalidArgument)
		require.PanicsWithValue(t, "boom", func() { s.Upgrade(func(net.Conn) (net.Conn, error) { panic("boom") }) })
		require.Same(t, w, s.NetConn())
		msg, err := s.RecvUntil(lf)
		require.NoError(t, err, "the turn is free")
		require.Equal(t, "a", string(msg))
		_, err = s.Send([]byte("x"))
		require.NoError(t, err)
	})
	t.Run("waits for its turn, and calls for theirs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Second))
			go s.RecvUntil(lf, bufsock.WithTimeout(2*time.Second))
			synctest.Wait()
			d, err := elapsed(func() error {
				return s.Upgrade(func(c net.Conn) (net.Conn, error) { return c, nil })
			})
			require.Equal(t, time.Second, d)
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)

			time.Sleep(2 * time.Second)
			other, far := net.Pipe()
			done := make(chan error)
			go func() {
				done <- s.Upgrade(func(net.Conn) (net.Conn, error) {
					time.Sleep(3 * time.Second)
					return other, nil
				})
			}()
			synctest.Wait()
			d, err = elapsed(func() error { return s.Flush() })
			require.Equal(t, time.Second, d, "a send waits")
			require.Error(t, err)
			go far.Write([]byte("new\n"))
			msg, err := s.RecvUntil(lf, bufsock.WithTimeout(time.Minute))
			require.NoError(t, err)
			require.Equal(t, "new", string(msg))
			require.NoError(t, <-done)
			s.Close()
			remote.Close()
			far.Close()
			local.Close()
		})
	})
	t.Run("Close does not wait for the function", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(local)
			other, far := net.Pipe()
			done := make(chan error)
			go func() {
				done <- s.Upgrade(func(net.Conn) (net.Conn, error) {
					time.Sleep(time.Second)
					return other, nil
				})
			}()
			synctest.Wait()
			d, err := elapsed(s.Close)
			require.NoError(t, err)
			require.Zero(t, d)
			assertClosed(t, <-done)
			_, err = far.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err, "the new connection is closed, too")
			remote.Close()
		})
	})
	t.Run("forgets the end of the old stream", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments())
		_, err := s.Recv(1)
		require.Equal(t, io.EOF, err)
		require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return segments("new\n"), nil }))
		msg, err := s.RecvUntil(lf)
		require.NoError(t, err)
		require.Equal(t, "new", string(msg))
	})
}

// noDeadlines is a connection that cannot set any.
type noDeadlines struct{ net.Conn }

func (noDeadlines) SetReadDeadline(time.Time) error { return errors.New("no deadlines") }

func TestUpgradeThatFailsLeavesTheConnection(t *testing.T) {
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local)
	require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour)))
	require.Error(t, s.Upgrade(func(c net.Conn) (net.Conn, error) { return noDeadlines{c}, nil }))
	_, err := remote.Write([]byte("a\n"))
	require.NoError(t, err)
	_, err = s.RecvUntil(lf)
	require.NoError(t, err)

	_, err = bufsock.NewBufferedSocket(noDeadlines{local}).RecvUntil(lf)
	require.EqualError(t, err, "no deadlines", "as it is")
}

// Calls that wait behind an Upgrade wait on nothing that a deadline of the
// connection would end, or its being closed.
func TestCallsBehindAnUpgradeObeyDeadlinesAndClose(t *testing.T) {
	for op, call := range waiting {
		for _, closing := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				defer remote.Close()
				s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
				if op == "Flush" {
					// It has to wait for its turn with something to flush, which
					// an Upgrade would refuse.
					call = func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error { return s.Flush(opts...) }
				}
				upgraded := make(chan error)
				go func() {
					upgraded <- s.Upgrade(func(c net.Conn) (net.Conn, error) {
						time.Sleep(time.Hour)
						return c, nil
					})
				}()
				synctest.Wait()
				start := time.Now()
				errs := make(chan error)
				for range 3 {
					go func() { errs <- call(s, bufsock.WithTimeout(bufsock.NoTimeout)) }()
					synctest.Wait()
				}
				if closing {
					require.NoError(t, s.Close())
				} else {
					require.NoError(t, s.SetDeadline(start.Add(time.Second)))
				}
				for range 3 {
					if err := <-errs; closing {
						assertClosed(t, err)
						require.Zero(t, time.Since(start), op)
					} else {
						require.IsType(t, (*bufsock.TimeoutError)(nil), err, op)
						require.Equal(t, time.Second, time.Since(start), op)
					}
				}
				if closing {
					assertClosed(t, <-upgraded)
				} else {
					require.NoError(t, <-upgraded)
				}
				s.Close()
			})
		}
	}
}

// The side that the Upgrade waits for is the one that is not free.
func TestUpgradeWaitsForBothSidesWithinOneTimeout(t *testing.T) {
	same := func(c net.Conn) (net.Conn, error) { return c, nil }
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(3*time.Second))
		go s.Send([]byte("x"), bufsock.WithTimeout(time.Minute))
		synctest.Wait()
		d, err := elapsed(func() error { return s.Upgrade(same) })
		require.Equal(t, 3*time.Second, d, "the send")
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.Equal(t, "Upgrade", err.(*bufsock.TimeoutError).Op)

		go s.Recv(1, bufsock.WithTimeout(2*time.Second))
		synctest.Wait()
		d, err = elapsed(func() error { return s.Upgrade(same) })
		require.Equal(t, 3*time.Second, d, "the receive and then the send")
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)

		go s.Recv(1, bufsock.WithTimeout(5*time.Second))
		synctest.Wait()
		d, err = elapsed(func() error { return s.Upgrade(same) })
		require.Equal(t, 3*time.Second, d, "the receive")
		require.Equal(t, "Upgrade", err.(*bufsock.TimeoutError).Op)
		time.Sleep(2 * time.Second)

		// both turns are free again
		_, err = remote.Read(make([]byte, 1))
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, s.Upgrade(same))
		go remote.Write([]byte("y"))
		_, err = s.Recv(1)
		require.NoError(t, err)
		s.Close()
		remote.Close()
	})
}

func TestUpgradeHandsTheDeadlinesOn(t *testing.T) {
	read, write := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	local, _ := pipePair(t)
	first, second := &recorder{Conn: local}, &recorder{Conn: local}
	s := bufsock.NewBufferedSocket(first)
	require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return second, nil }))
	require.Empty(t, second.read, "none was set")
	require.Empty(t, second.write)
	require.NoError(t, s.SetReadDeadline(read))
	require.NoError(t, s.SetWriteDeadline(write))
	third := &recorder{Conn: local}
	require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return third, nil }))
	require.Equal(t, []time.Time{read}, third.read)
	require.Equal(t, []time.Time{write}, third.write)

	boom := errors.New("boom")
	fails := func(time.Time) error { return boom }
	for _, conn := range []net.Conn{
		&hooked{Conn: local, readDeadline: fails}, &hooked{Conn: local, writeDeadline: fails},
	} {
		require.ErrorIs(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return conn, nil }), boom)
		require.Same(t, third, s.NetConn())
	}
}

// An Upgrade that fails leaves the new connection to the function's author,
// unless the socket was closed in the meantime.
// What Close does to the connection is not what Upgrade failed by.
func TestUpgradeThatIsClosedSaysSo(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments())
	assertClosed(t, s.Upgrade(func(net.Conn) (net.Conn, error) {
		require.NoError(t, s.Close())
		return nil, io.ErrClosedPipe
	}))
}

func TestUpgradeClosesTheNewConnectionOnlyOfAClosedSocket(t *testing.T) {
	local, _ := pipePair(t)
	closed := false
	other := &hooked{Conn: local, closed: func() error { closed = true; return nil }}
	s := bufsock.NewBufferedSocket(segments())
	require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return other, nil }))
	require.False(t, closed)

	s = bufsock.NewBufferedSocket(segments())
	err := s.Upgrade(func(net.Conn) (net.Conn, error) {
		s.Close()
		return other, nil
	})
	assertClosed(t, err)
	require.EqualError(t, err, "bufsock: Upgrade: use of closed network connection")
	require.True(t, closed)
}

// One byte is enough for an Upgrade to be refused.
func TestUpgradeRefusesASingleByte(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("x"))
	same := func(c net.Conn) (net.Conn, error) { return c, nil }
	_, err := s.Peek(1)
	require.NoError(t, err)
	require.EqualError(t, s.Upgrade(same), "bufsock: Upgrade: refused, because 1 byte received and 0 bytes unsent belong to the present connection")
	_, err = s.Recv(1)
	require.NoError(t, err)
	require.NoError(t, s.Buffer([]byte("y")))
	require.EqualError(t, s.Upgrade(same), "bufsock: Upgrade: refused, because 0 bytes received and 1 byte unsent belong to the present connection")
	require.NoError(t, s.Flush())
	require.NoError(t, s.Upgrade(same))
	require.NoError(t, s.Close())
	require.EqualError(t, s.Upgrade(same), "bufsock: Upgrade: use of closed network connection")
}

// Whether a handshake is due depends on the present connection alone.
func TestUpgradeToAConnectionWithoutAHandshake(t *testing.T) {
	for _, done := range []bool{true, false} {
		shaken := 0
		shake := func(context.Context) error { shaken++; return nil }
		s := bufsock.NewBufferedSocket(shaker{segments("a"), shake})
		if done {
			_, err := s.Recv(1)
			require.NoError(t, err)
		}
		require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return segments("b"), nil }))
		msg, err := s.Recv(1)
		require.NoError(t, err)
		require.Equal(t, "b", string(msg))
		require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return shaker{segments("c"), shake}, nil }))
		before := shaken
		msg, err = s.Recv(1)
		require.NoError(t, err)
		require.Equal(t, "c", string(msg))
		require.Equal(t, 1, shaken-before, "of the new connection")
	}
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

// No timeout of the socket bounds the function of an Upgrade.
func TestNoTimeoutBoundsTheFunctionOfAnUpgrade(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		const timeout = 10 * time.Millisecond
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(timeout))
		require.NoError(t, s.Upgrade(func(conn net.Conn) (net.Conn, error) {
			time.AfterFunc(10*timeout, func() { remote.Write([]byte("late")) })
			_, err := io.ReadFull(conn, make([]byte, 4))
			return conn, err
		}))
	})
}

func TestNilConnections(t *testing.T) {
	var socket *bufsock.BufferedSocket
	var tcp *net.TCPConn
	for _, conn := range []net.Conn{nil, socket, tcp} {
		require.Equal(t, "bufsock: NewBufferedSocket: nil connection", panicOf(func() { bufsock.NewBufferedSocket(conn) }))
		require.Equal(t, "bufsock: NewNetstringSocket: nil connection", panicOf(func() { bufsock.NewNetstringSocket(conn) }))
	}
}

// A socket on one whose connection has no descriptor has none, either.
func TestSyscallConnThatIsNone(t *testing.T) {
	s := bufsock.NewBufferedSocket(bufsock.NewBufferedSocket(segments()))
	raw, err := s.SyscallConn()
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Nil(t, raw)
}
