package bufsock_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A duplex is a connection in memory whose directions can be closed apart.
type duplex struct{ in, out net.Conn }

func duplexPair() (local, remote duplex) {
	a, b := net.Pipe()
	c, d := net.Pipe()
	return duplex{a, c}, duplex{d, b}
}

func (d duplex) Read(p []byte) (int, error)  { return d.in.Read(p) }
func (d duplex) Write(p []byte) (int, error) { return d.out.Write(p) }
func (d duplex) CloseRead() error            { return d.in.Close() }
func (d duplex) CloseWrite() error           { return d.out.Close() }
func (d duplex) Close() error                { return errors.Join(d.in.Close(), d.out.Close()) }
func (d duplex) LocalAddr() net.Addr         { return d.in.LocalAddr() }
func (d duplex) RemoteAddr() net.Addr        { return d.in.RemoteAddr() }
func (d duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.SetReadDeadline(t), d.SetWriteDeadline(t))
}
func (d duplex) SetReadDeadline(t time.Time) error  { return d.in.SetReadDeadline(t) }
func (d duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }

var duplexTransport = transport{"half-closable", func(t testing.TB) (net.Conn, net.Conn) {
	local, remote := duplexPair()
	t.Cleanup(func() { local.Close(); remote.Close() })
	return local, remote
}}

// everything are all calls that may wait, those of net.Conn included.
func everything() map[string]func(s *bufsock.BufferedSocket) error {
	calls := map[string]func(s *bufsock.BufferedSocket) error{
		"Read":     func(s *bufsock.BufferedSocket) error { _, err := s.Read(make([]byte, 1)); return err },
		"Write":    func(s *bufsock.BufferedSocket) error { _, err := s.Write([]byte("x")); return err },
		"WriteTo":  func(s *bufsock.BufferedSocket) error { _, err := s.WriteTo(io.Discard); return err },
		"ReadFrom": func(s *bufsock.BufferedSocket) error { _, err := s.ReadFrom(strings.NewReader("x")); return err },
		"Buffer":   func(s *bufsock.BufferedSocket) error { return s.Buffer([]byte("x")) },
		"Upgrade":  func(s *bufsock.BufferedSocket) error { return s.Upgrade(rewrap) },
		"Shutdown": func(s *bufsock.BufferedSocket) error { return s.Shutdown() },
	}
	for op, call := range waiting {
		for name, timeout := range map[string]time.Duration{
			"": time.Minute, " without a timeout": bufsock.NoTimeout, " NonBlocking": bufsock.NonBlocking,
		} {
			calls[op+name] = func(s *bufsock.BufferedSocket) error { return call(s, bufsock.WithTimeout(timeout)) }
		}
	}
	return calls
}

// A call that is made after Close fails at once, whatever an older one still
// does: code of others, which Close cannot end, has its turn.
func TestCallsAfterCloseDoNotWaitForOlderOnes(t *testing.T) {
	lingering := map[string]func(s *bufsock.BufferedSocket, linger func()){
		"ReadFrom": func(s *bufsock.BufferedSocket, linger func()) {
			s.ReadFrom(readerFunc(func([]byte) (int, error) { linger(); return 0, io.EOF }))
		},
		"WriteTo": func(s *bufsock.BufferedSocket, linger func()) {
			s.WriteTo(writerFunc(func(p []byte) (int, error) { linger(); return len(p), nil }))
		},
		"RecvSplit": func(s *bufsock.BufferedSocket, linger func()) {
			s.RecvSplit(func([]byte, bool) (int, []byte, error) { linger(); return 0, nil, nil })
		},
		"RecvFunc": func(s *bufsock.BufferedSocket, linger func()) {
			s.RecvFunc(func(*bufsock.Message) error { linger(); return nil })
		},
		"Upgrade": func(s *bufsock.BufferedSocket, linger func()) {
			s.Upgrade(func(c net.Conn) (net.Conn, error) { linger(); return c, nil })
		},
	}
	for name, call := range lingering {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				s := bufsock.NewBufferedSocket(local)
				if name != "Upgrade" {
					go remote.Write([]byte("x"))
					_, err := s.Peek(1)
					require.NoError(t, err)
				}
				done := make(chan struct{})
				go func() { call(s, func() { <-done }) }()
				synctest.Wait()
				d, err := elapsed(s.Close)
				require.NoError(t, err)
				require.Zero(t, d)
				for op, later := range everything() {
					d, err := elapsed(func() error { return later(s) })
					require.Zero(t, d, op)
					assertClosed(t, err)
				}
				close(done)
				remote.Close()
			})
		})
	}
}

// Of a connection whose own Close does not end the calls that are inside it,
// deadlines do.
func TestCloseEndsCallsOnAConnectionThatIsDeafToIt(t *testing.T) {
	for op, call := range everything() {
		if op == "Buffer" || op == "Upgrade" || op == "Shutdown" || strings.HasSuffix(op, "NonBlocking") {
			continue // do not wait for the connection
		}
		for _, deaf := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				faults := bufsocktest.Faults{DeafCloses: 1}
				if !deaf {
					faults = bufsocktest.Faults{}
				}
				conn := bufsocktest.NewConn(local, 1, faults)
				s := bufsock.NewBufferedSocket(conn)
				blocked := make(chan error)
				go func() { blocked <- call(s) }()
				synctest.Wait()
				start := time.Now()
				require.NoError(t, s.Close(), op)
				assertClosed(t, <-blocked)
				require.Zero(t, time.Since(start), op)
				remote.Close()
			})
		}
	}
}

// A receive whose handshake ends while Close is at work is ended by Close, and
// not only by the end of the farewell that TLS says, which takes its time.
func TestCloseEndsAReceiveWhoseHandshakeHasJustEnded(t *testing.T) {
	for op, call := range receiving() {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			closing := make(chan struct{})
			conn := &hooked{Conn: local, closed: func() error {
				close(closing)
				time.Sleep(5 * time.Second)
				return local.Close()
			}}
			s := bufsock.NewBufferedSocket(shaker{conn, func(context.Context) error { <-closing; return nil }}, bufsock.WithTimeout(bufsock.NoTimeout))
			received := make(chan error)
			go func() { received <- call(s) }()
			synctest.Wait()
			start := time.Now()
			go s.Close()
			assertClosed(t, <-received)
			require.Zero(t, time.Since(start), op)
			<-closing
			time.Sleep(time.Minute)
			remote.Close()
		})
	}
}

// hasCloseRead are the connections that can close their reading side.
var hasCloseRead = []transport{{"TCP", tcpPair}, {"Unix", unixPair}, duplexTransport}

// After CloseRead a receive gets what is in the buffer and then the end, at once
// and every time, whatever the peer goes on to send.
func TestCloseRead(t *testing.T) {
	for _, transport := range hasCloseRead {
		for op, call := range receiving() {
			t.Run(transport.name+", "+op, func(t *testing.T) {
				local, remote := transport.pair(t)
				s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
				go remote.Write([]byte("late"))
				require.NoError(t, s.CloseRead())
				for range 2 {
					assertReadClosed(t, op, call(s), io.EOF)
				}
				require.NoError(t, s.CloseRead(), "again")
			})
			t.Run(transport.name+", "+op+", which waits", func(t *testing.T) {
				local, _ := transport.pair(t)
				s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
				done := make(chan error)
				go func() { done <- call(s) }()
				time.Sleep(5 * time.Millisecond) // the call waits, most likely; else it is the case before
				require.NoError(t, s.CloseRead())
				assertReadClosed(t, op, <-done, io.EOF)
			})
		}
		t.Run(transport.name+", with bytes buffered", func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
			go remote.Write([]byte("one\nhalf"))
			_, err := s.Peek(8)
			require.NoError(t, err)
			go remote.Write([]byte("late"))
			require.NoError(t, s.CloseRead())
			msg, err := s.RecvUntil(lf)
			require.NoError(t, err)
			require.Equal(t, "one", string(msg))
			_, err = s.RecvUntil(lf)
			assertReadClosed(t, "RecvUntil", err, io.ErrUnexpectedEOF)
			require.Equal(t, 4, err.(*bufsock.ConnectionClosedError).Buffered)
			_, err = s.RecvClose()
			assertReadClosed(t, "RecvClose", err, io.ErrUnexpectedEOF)
			msg, err = s.Recv(100)
			require.NoError(t, err)
			require.Equal(t, "half", string(msg))
			_, err = s.Recv(100)
			require.Equal(t, io.EOF, err)
			sent := make(chan error)
			go func() { _, err := s.Send([]byte("x")); sent <- err }()
			_, err = io.ReadFull(remote, make([]byte, 1))
			require.NoError(t, err)
			require.NoError(t, <-sent, "the other side goes on")
		})
	}
}

// assertReadClosed wants the error of a receive to tell of our own CloseRead.
// RecvClose promises the peer's end, which was not seen.
func assertReadClosed(t *testing.T, op string, err, end error) {
	t.Helper()
	switch op {
	case "WriteTo", "io.Copy", "Messages", "Tokens":
		require.NoError(t, err, "an end of the stream is none of its errors")
		return
	case "Read", "Recv":
		require.Equal(t, io.EOF, err)
		return
	case "RecvClose":
		end = io.ErrUnexpectedEOF
	}
	e, ok := err.(*bufsock.ConnectionClosedError)
	require.True(t, ok, "%T: %v", err, err)
	require.Equal(t, end, e.Err)
	require.NotContains(t, e.Error(), "peer")
	require.Contains(t, e.Error(), "CloseRead")
}

func TestCloseReadThatTheConnectionCannotDo(t *testing.T) {
	for _, transport := range []transport{{"Pipe", pipePair}, {"TLS", tlsPair}, wrappedTransport} {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			require.ErrorIs(t, s.CloseRead(), errors.ErrUnsupported)
			go remote.Write([]byte("line\n"))
			msg, err := s.RecvUntil(lf)
			require.NoError(t, err, "nothing has changed")
			require.Equal(t, "line", string(msg))
		})
	}
	boom := errors.New("boom")
	s := bufsock.NewBufferedSocket(badCloseRead{segments("line\n"), boom})
	require.Equal(t, boom, s.CloseRead())
	_, err := s.RecvUntil(lf)
	require.NoError(t, err, "nothing has changed")
}

// A badCloseRead is a connection whose CloseRead fails.
type badCloseRead struct {
	*wire
	err error
}

func (c badCloseRead) CloseRead() error { return c.err }

// A deafReader is a connection whose Read goes on behind CloseRead.
type deafReader struct{ net.Conn }

func (deafReader) CloseRead() error { return nil }

func TestCloseReadEndsAReceiveThatTheConnectionDoesNotEnd(t *testing.T) {
	for op, call := range receiving() {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(deafReader{local}, bufsock.WithTimeout(time.Hour))
			done := make(chan error)
			go func() { done <- call(s) }()
			synctest.Wait()
			d, err := elapsed(func() error {
				require.NoError(t, s.CloseRead())
				require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour)))
				return <-done
			})
			require.Zero(t, d)
			assertReadClosed(t, op, err, io.EOF)
			d, err = elapsed(func() error { return call(s) })
			assertReadClosed(t, op, err, io.EOF)
			require.Zero(t, d)
			s.Close()
			remote.Close()
		})
	}
}

// Shutdown sends what is buffered, ends the stream, and drops what still comes
// until the peer ends its own. The peer gets all that was sent, and can send all
// that it has.
func TestShutdown(t *testing.T) {
	late := make([]byte, 1<<20)
	for _, transport := range append(transports, wrappedTransport, duplexTransport) {
		t.Run(transport.name, func(t *testing.T) {
			halfCloses := transport.name != "Pipe" && transport.name != wrappedTransport.name
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local, bufsock.WithMaxSize(10)) // which does not apply
			go remote.Write([]byte("not received"))
			_, err := s.Peek(5)
			require.NoError(t, err)
			require.NoError(t, s.Buffer([]byte("the answer")))
			type outcome struct {
				got         []byte
				read, wrote error
			}
			peer := make(chan outcome, 1)
			go func() {
				var o outcome
				o.got, o.read = io.ReadAll(remote)
				if halfCloses {
					_, o.wrote = remote.Write(late)
				}
				remote.Close()
				peer <- o
			}()
			require.NoError(t, s.Shutdown())
			o := <-peer
			require.Equal(t, "the answer", string(o.got))
			require.NoError(t, o.wrote)
			if halfCloses {
				require.NoError(t, o.read)
			}
			for op, call := range everything() {
				assertClosed(t, call(s))
				require.Zero(t, s.Buffered(), op)
				require.Zero(t, s.Unsent(), op)
			}
			_, err = local.Write([]byte("x"))
			require.Error(t, err, "the connection is closed")
			require.NoError(t, s.Close())
		})
	}
}

// shuttingDown runs f in a bubble with a socket on a connection that can be
// closed by halves.
func shuttingDown(t *testing.T, f func(t *testing.T, s *bufsock.BufferedSocket, local, remote duplex)) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := duplexPair()
		s := bufsock.NewBufferedSocket(local)
		f(t, s, local, remote)
		assertClosed(t, s.Flush())
		_, err := local.Read(make([]byte, 1))
		require.Equal(t, io.ErrClosedPipe, err, "the connection is closed")
		remote.Close()
		time.Sleep(time.Hour) // all that was begun ends
	})
}

// One timeout bounds the whole: the wait for a send, the sending, and the wait
// for the end of the peer.
func TestShutdownIsBounded(t *testing.T) {
	stop := errors.New("stop")
	bounds := map[string]func(t *testing.T, s *bufsock.BufferedSocket) error{
		"WithTimeout": func(t *testing.T, s *bufsock.BufferedSocket) error {
			return s.Shutdown(bufsock.WithTimeout(time.Second))
		},
		"the socket's timeout": func(t *testing.T, s *bufsock.BufferedSocket) error { s.SetTimeout(time.Second); return s.Shutdown() },
		"WithContext, canceled": func(t *testing.T, s *bufsock.BufferedSocket) error {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(stop) })
			err := s.Shutdown(bufsock.WithContext(ctx))
			require.ErrorIs(t, err, stop)
			return err
		},
		"WithContext, its deadline": func(t *testing.T, s *bufsock.BufferedSocket) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := s.Shutdown(bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return err
		},
		"SetDeadline": func(t *testing.T, s *bufsock.BufferedSocket) error {
			require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
			return s.Shutdown(bufsock.WithTimeout(time.Hour))
		},
		"the idle timeout of the socket does not count": func(t *testing.T, s *bufsock.BufferedSocket) error {
			bufsock.NewNetstringSocket(s, bufsock.WithIdleTimeout(time.Minute), bufsock.WithTimeout(time.Second))
			return s.Shutdown()
		},
	}
	waits := map[string]func(t *testing.T, s *bufsock.BufferedSocket, remote duplex){
		"for the turn": func(t *testing.T, s *bufsock.BufferedSocket, _ duplex) {
			go s.Send([]byte("not read"), bufsock.WithTimeout(time.Hour))
			synctest.Wait()
		},
		"for the turn, and behind it": func(t *testing.T, s *bufsock.BufferedSocket, remote duplex) {
			go s.Send([]byte("x"), bufsock.WithTimeout(time.Hour))
			synctest.Wait()
			time.AfterFunc(900*time.Millisecond, func() { io.ReadAll(remote) })
		},
		"for the peer to read": func(t *testing.T, s *bufsock.BufferedSocket, _ duplex) {
			require.NoError(t, s.Buffer([]byte("not read")))
		},
		"for the end of the peer": func(t *testing.T, s *bufsock.BufferedSocket, remote duplex) { go io.ReadAll(remote) },
		"for a peer that sends and sends": func(t *testing.T, s *bufsock.BufferedSocket, remote duplex) {
			go func() {
				for err := error(nil); err == nil; _, err = remote.Write([]byte("x")) {
					time.Sleep(7 * time.Millisecond) // never when time is up
				}
			}()
		},
	}
	for what, wait := range waits {
		for how, bounded := range bounds {
			t.Run(how+", a wait "+what, func(t *testing.T) {
				shuttingDown(t, func(t *testing.T, s *bufsock.BufferedSocket, _, remote duplex) {
					wait(t, s, remote)
					d, err := elapsed(func() error { return bounded(t, s) })
					require.Equal(t, time.Second, d)
					require.Error(t, err)
					require.ErrorContains(t, err, "bufsock: Shutdown: ")
					require.NotContains(t, err.Error(), "idle")
				})
			})
		}
	}
}

func TestShutdownNonBlocking(t *testing.T) {
	for _, ended := range []bool{true, false} {
		shuttingDown(t, func(t *testing.T, s *bufsock.BufferedSocket, _, remote duplex) {
			if ended {
				require.NoError(t, remote.CloseWrite())
			}
			err := s.Shutdown(bufsock.WithTimeout(bufsock.NonBlocking))
			if ended {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, bufsock.ErrWouldBlock)
			}
		})
	}
}

// How much may still come is bounded by the max size of the call alone. What had
// come before does not count.
func TestShutdownBoundsWhatStillComes(t *testing.T) {
	for name, tt := range map[string]struct {
		opts    []bufsock.Option
		comes   int
		tooLong bool
	}{
		"no max size":                {nil, 1 << 20, false},
		"as much as the max size":    {[]bufsock.Option{bufsock.WithMaxSize(100)}, 100, false},
		"more than the max size":     {[]bufsock.Option{bufsock.WithMaxSize(100)}, 101, true},
		"nothing more, and nothing":  {[]bufsock.Option{bufsock.WithMaxSize(0)}, 0, false},
		"nothing more, and one byte": {[]bufsock.Option{bufsock.WithMaxSize(0)}, 1, true},
		"NoLimit":                    {[]bufsock.Option{bufsock.WithMaxSize(bufsock.NoLimit)}, 1 << 20, false},
	} {
		t.Run(name, func(t *testing.T) {
			shuttingDown(t, func(t *testing.T, s *bufsock.BufferedSocket, _, remote duplex) {
				go remote.Write(make([]byte, 500))
				_, err := s.Peek(500)
				require.NoError(t, err)
				go func() {
					remote.Write(make([]byte, tt.comes))
					remote.CloseWrite()
				}()
				err = s.Shutdown(tt.opts...)
				if !tt.tooLong {
					require.NoError(t, err)
					return
				}
				e, ok := err.(*bufsock.MessageTooLongError)
				require.True(t, ok, "%T", err)
				require.Equal(t, "Shutdown", e.Op)
				require.Equal(t, max(tt.comes-1, 0), e.MaxSize)
			})
		})
	}
}

// From its start no other call begins, a send under way is waited for, and a
// receive under way is ended.
func TestShutdownAndOtherCalls(t *testing.T) {
	shuttingDown(t, func(t *testing.T, s *bufsock.BufferedSocket, _, remote duplex) {
		sent, queued, received, waits := make(chan error), make(chan error), make(chan error), make(chan error)
		go func() { _, err := s.Send([]byte("under way")); sent <- err }()
		go func() { _, err := s.RecvUntil(lf); received <- err }()
		synctest.Wait()
		go func() { _, err := s.Send([]byte("in the queue")); queued <- err }()
		go func() { _, err := s.RecvUntil(lf); waits <- err }()
		synctest.Wait()
		start := time.Now()
		done := make(chan error)
		go func() { done <- s.Shutdown() }()
		assertClosed(t, <-received)
		assertClosed(t, <-waits)
		assertClosed(t, <-queued)
		synctest.Wait()
		for op, call := range everything() {
			assertClosed(t, call(s))
			require.Zero(t, time.Since(start), op)
		}
		got := make(chan string)
		go func() { b, _ := io.ReadAll(remote); got <- string(b); remote.CloseWrite() }()
		require.NoError(t, <-sent)
		require.Equal(t, "under way", (<-got)[:9])
		require.NoError(t, <-done)
		require.Zero(t, time.Since(start))
	})
}

func TestCloseEndsAShutdown(t *testing.T) {
	for _, sending := range []bool{true, false} {
		shuttingDown(t, func(t *testing.T, s *bufsock.BufferedSocket, _, remote duplex) {
			if sending {
				require.NoError(t, s.Buffer([]byte("not read")))
			}
			done := make(chan error)
			go func() { done <- s.Shutdown() }()
			synctest.Wait()
			start := time.Now()
			require.NoError(t, s.Close())
			assertClosed(t, <-done)
			require.Zero(t, time.Since(start))
		})
	}
}

// The first error is returned, and the socket is closed all the same.
func TestShutdownThatFails(t *testing.T) {
	boom := errors.New("boom")
	closes := 0
	for name, tt := range map[string]struct {
		set  func(conn *hooked, s *bufsock.BufferedSocket)
		want error
	}{
		"to send": {func(conn *hooked, s *bufsock.BufferedSocket) {
			conn.write = func([]byte) (int, error) { return 0, boom }
			require.NoError(t, s.Buffer([]byte("x")))
		}, boom},
		"to receive": {func(conn *hooked, s *bufsock.BufferedSocket) {
			conn.read = func([]byte) (int, error) { return 0, boom }
		}, boom},
		"as nothing can be sent any more": {func(conn *hooked, s *bufsock.BufferedSocket) {
			conn.write = func([]byte) (int, error) { return 0, boom }
			_, err := s.Send([]byte("x"))
			require.Equal(t, boom, err)
		}, bufsock.ErrBroken},
	} {
		t.Run(name, func(t *testing.T) {
			local, _ := duplexPair()
			conn := &hooked{Conn: local, closed: func() error { closes++; return nil }}
			s := bufsock.NewBufferedSocket(halfCloses{conn, local.CloseWrite})
			tt.set(conn, s)
			closes = 0
			require.ErrorIs(t, s.Shutdown(), tt.want)
			require.Equal(t, 1, closes)
			assertClosed(t, s.Flush())
		})
	}
	t.Run("to close the writing side", func(t *testing.T) {
		local, _ := duplexPair()
		s := bufsock.NewBufferedSocket(halfCloses{local, func() error { return boom }})
		require.Equal(t, boom, s.Shutdown())
		assertClosed(t, s.Flush())
	})
	t.Run("as the peer has broken off", func(t *testing.T) {
		local, remote := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, remote.(*net.TCPConn).SetLinger(0))
		require.NoError(t, remote.Close())
		require.Error(t, s.Shutdown())
		assertClosed(t, s.Flush())
	})
}

// A halfCloses connection closes its writing side as it is told.
type halfCloses struct {
	net.Conn
	closeWrite func() error
}

func (c halfCloses) CloseWrite() error { return c.closeWrite() }

// Where there is no half-close, or no end to wait for, Shutdown sends and closes.
func TestShutdownThatWaitsForNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, socket := range map[string]func() (*bufsock.BufferedSocket, net.Conn){
			"no CloseWrite": func() (*bufsock.BufferedSocket, net.Conn) {
				local, remote := net.Pipe()
				return bufsock.NewBufferedSocket(local), remote
			},
			"after CloseRead": func() (*bufsock.BufferedSocket, net.Conn) {
				local, remote := duplexPair()
				s := bufsock.NewBufferedSocket(local)
				require.NoError(t, s.CloseRead())
				return s, remote
			},
		} {
			s, remote := socket()
			require.NoError(t, s.Buffer([]byte("the answer")))
			got := make(chan string)
			go func() { b, _ := io.ReadAll(remote); got <- string(b) }()
			d, err := elapsed(func() error { return s.Shutdown() })
			require.NoError(t, err, name)
			require.Zero(t, d, name)
			require.Equal(t, "the answer", <-got, name)
			assertClosed(t, s.Flush())
			remote.Close()
		}
	})
}

func TestShutdownOnlyOnceAndOnlyWithItsOptions(t *testing.T) {
	shuttingDown(t, func(t *testing.T, s *bufsock.BufferedSocket, local, remote duplex) {
		for _, o := range []bufsock.Option{
			bufsock.WithFlush(), bufsock.WithIdleTimeout(time.Second), bufsock.WithDelimiter(), bufsock.AppendTo(nil), bufsock.WithReadSize(1), {},
		} {
			require.ErrorIs(t, s.Shutdown(o), bufsock.ErrInvalidArgument)
			require.NoError(t, s.Flush(), "it is open")
		}
		require.NoError(t, remote.CloseWrite())
		require.NoError(t, bufsock.NewNetstringSocket(s).Shutdown(bufsock.WithMaxSize(0)))
		assertClosed(t, s.Shutdown())
	})
	s := bufsock.NewBufferedSocket(segments())
	require.NoError(t, s.Close())
	assertClosed(t, s.Shutdown())
}

// On TLS a peer that does not read cannot hold Shutdown up longer than it may
// take: the connection below is closed, without a farewell.
func TestShutdownOfATLSSessionIsBounded(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn){
		"the peer does not read": func(t *testing.T, s *bufsock.BufferedSocket, _ net.Conn) {
			require.NoError(t, s.Buffer(make([]byte, 16<<20)))
		},
		"the peer does not end": func(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn) { go io.Copy(io.Discard, remote) },
		"a send does not proceed": func(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn) {
			go s.Send(make([]byte, 16<<20))
			_, err := io.ReadFull(remote, make([]byte, 1))
			require.NoError(t, err)
		},
		"the handshake does not": nil,
	} {
		t.Run(name, func(t *testing.T) {
			check := goroutines(t)
			local, remote := tlsPair(t)
			s := bufsock.NewBufferedSocket(local)
			if prepare == nil {
				local, remote = tcpPair(t)
				_, config := tlsConfigs()
				s = bufsock.NewBufferedSocket(tls.Client(local, config))
				require.NoError(t, s.Buffer([]byte("x")))
			} else {
				prepare(t, s, remote)
			}
			d, err := elapsed(func() error { return s.Shutdown(bufsock.WithTimeout(50 * time.Millisecond)) })
			require.IsType(t, (*bufsock.TimeoutError)(nil), err, "%v", err)
			require.Less(t, d, 3*time.Second, "a farewell would take five")
			remote.Close()
			check()
		})
	}
}

// A handshake that is still due is done for what is to be sent, also where a
// receive waits for it.
func TestShutdownBeforeTheHandshake(t *testing.T) {
	for i := range 10 {
		receiving := i > 0
		local, remote := tcpPair(t)
		serverConfig, clientConfig := tlsConfigs()
		s := bufsock.NewBufferedSocket(tls.Client(local, clientConfig))
		require.NoError(t, s.Buffer([]byte("the answer")))
		received := make(chan error, 1)
		if receiving {
			go func() { _, err := s.RecvUntil(lf); received <- err }()
			runtime.Gosched() // before, inside, or behind the handshake
		}
		got := make(chan string)
		go func() {
			server := tls.Server(remote, serverConfig)
			b, err := io.ReadAll(server)
			assert.NoError(t, err)
			server.Close()
			got <- string(b)
		}()
		require.NoError(t, s.Shutdown())
		require.Equal(t, "the answer", <-got)
		if receiving {
			assertClosed(t, <-received)
		}
	}
}

// An end inside a record of TLS is no end: it is typed, and says so every time.
func TestAnEndInsideATLSRecord(t *testing.T) {
	for op, call := range receiving() {
		t.Run(op, func(t *testing.T) {
			local, remote := tcpPair(t)
			cut := false
			cutter := &hooked{Conn: remote, write: func(p []byte) (int, error) {
				if !cut {
					return remote.Write(p)
				}
				_, err := remote.Write(p[:len(p)/2])
				return len(p), errors.Join(err, remote.Close())
			}}
			serverConfig, clientConfig := tlsConfigs()
			server := tls.Server(cutter, serverConfig)
			s := bufsock.NewBufferedSocket(tls.Client(local, clientConfig))
			go func() {
				server.Handshake()
				cut = true
				server.Write([]byte("a record that does not come whole\n"))
			}()
			for range 2 {
				err := call(s)
				switch op {
				case "Read", "WriteTo", "io.Copy":
					require.Equal(t, io.ErrUnexpectedEOF, err)
				default:
					require.IsType(t, (*bufsock.ConnectionClosedError)(nil), err)
					require.ErrorIs(t, err, io.ErrUnexpectedEOF)
					require.NotErrorIs(t, err, io.EOF)
				}
			}
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

func TestNoGoroutineIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble fails if a goroutine remains when its function returns.
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		for _, call := range waiting {
			require.Error(t, call(s, bufsock.WithTimeout(time.Millisecond)))
			require.Error(t, call(s, bufsock.WithContext(expired(t))))
		}
		s.Close()
		remote.Close()
	})
	check := goroutines(t)
	local, _ := tcpPair(t)
	s := bufsock.NewBufferedSocket(local)
	for range 20 {
		for op, call := range waiting {
			if !strings.Contains("Send SendBuffers Flush WriteNetstring", op) {
				require.Error(t, call(s, bufsock.WithTimeout(time.Microsecond)))
			}
			call(s, bufsock.WithContext(expired(t)))
		}
	}
	s.Close()
	check()
}

func TestClose(t *testing.T) {
	local, remote := tcpPair(t)
	_, err := remote.Write([]byte("received"))
	require.NoError(t, err)
	s := bufsock.NewBufferedSocket(local)
	_, err = s.Peek(8)
	require.NoError(t, err)
	require.NoError(t, s.Buffer([]byte("unsent")))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "again")
	assert.Equal(t, []byte{}, s.RecvBuffer(), "empty and not nil")
	assert.Zero(t, s.Buffered())
	assert.Empty(t, s.SendBuffer())
	rest, err := io.ReadAll(remote)
	assert.NoError(t, err)
	assert.Empty(t, rest, "nothing is flushed")

	for op, call := range waiting {
		assertClosed(t, call(s))
		assert.Empty(t, s.SendBuffer(), op)
	}
	for op, call := range map[string]func() error{
		"Recv(0)":          func() error { _, err := s.Recv(0); return err },
		"RecvSize(0)":      func() error { _, err := s.RecvSize(0); return err },
		"Peek(0)":          func() error { _, err := s.Peek(0); return err },
		"Discard(0)":       func() error { _, err := s.Discard(0); return err },
		"Send(nil)":        func() error { _, err := s.Send(nil); return err },
		"Buffer":           func() error { return s.Buffer([]byte("x")) },
		"Read":             func() error { _, err := s.Read(make([]byte, 1)); return err },
		"Read(nil)":        func() error { _, err := s.Read(nil); return err },
		"Write":            func() error { _, err := s.Write([]byte("x")); return err },
		"WriteTo":          func() error { _, err := s.WriteTo(io.Discard); return err },
		"ReadFrom":         func() error { _, err := s.ReadFrom(strings.NewReader("x")); return err },
		"SetDeadline":      func() error { return s.SetDeadline(time.Now()) },
		"SetReadDeadline":  func() error { return s.SetReadDeadline(time.Now()) },
		"SetWriteDeadline": func() error { return s.SetWriteDeadline(time.Now()) },
		"CloseRead":        s.CloseRead,
		"CloseWrite":       s.CloseWrite,
		"SyscallConn":      func() error { _, err := s.SyscallConn(); return err },
		"Upgrade":          func() error { return s.Upgrade(func(c net.Conn) (net.Conn, error) { return c, nil }) },
	} {
		name, _, _ := strings.Cut(op, "(")
		err := call()
		assert.ErrorContains(t, err, "bufsock: "+name+": ")
		assertClosed(t, err)
	}
	assert.Same(t, local, s.NetConn())
}

func TestCloseReturnsTheConnectionsError(t *testing.T) {
	boom := errors.New("boom")
	s := bufsock.NewBufferedSocket(stubborn{err: boom})
	require.Equal(t, boom, s.Close())
	require.NoError(t, s.Close())
}

// A stubborn connection cannot be closed.
type stubborn struct {
	net.Conn
	err error
}

func (s stubborn) Close() error { return s.err }

// Close while the buffer is being read into, searched by a callback, or
// written from: on every transport, over and over, for the race detector.
func TestCloseAtAnyMoment(t *testing.T) {
	moments := 20
	if runtime.GOMAXPROCS(0) == 1 {
		moments = 7 // to yield takes up to 10 ms for each of the others
	}
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			for i := range moments {
				local, remote := transport.pair(t)
				go io.Copy(io.Discard, remote)
				go io.Copy(remote, zeros{})
				s := bufsock.NewBufferedSocket(local)
				var wg sync.WaitGroup
				use := func(f func() error) {
					wg.Go(func() {
						for {
							if err := f(); err != nil {
								assertClosed(t, err)
								return
							}
						}
					})
				}
				use(func() error { _, err := s.RecvSize(100_000); return err })
				use(func() error {
					_, err := s.RecvSize(50_000, bufsock.AppendTo(make([]byte, 0, 50_000)))
					return err
				})
				use(func() error { _, err := s.Read(make([]byte, 10)); return err })
				use(func() error {
					_, err := s.RecvSplit(func(data []byte, _ bool) (int, []byte, error) {
						return len(data), bytes.TrimSpace(data), nil
					})
					return err
				})
				use(func() error { _, err := s.Send(make([]byte, 1000)); return err })
				use(func() error { _, err := s.SendBuffers([][]byte{make([]byte, 50_000), {1}}); return err })
				for range i {
					runtime.Gosched()
				}
				s.RecvBuffer()
				s.SendBuffer()
				s.Close()
				wg.Wait()
				require.Empty(t, s.RecvBuffer())
				require.Empty(t, s.SendBuffer())
				remote.Close()
			}
		})
	}
}

// Close ends a receive at once, though the farewell of TLS takes its time.
func TestCloseEndsAReceiveBeforeTheFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		release := make(chan struct{})
		conn := &hooked{Conn: local, closed: func() error { <-release; return local.Close() }}
		s := bufsock.NewBufferedSocket(shaker{conn, func(context.Context) error { return nil }})
		received, closed := make(chan error), make(chan error)
		go func() { _, err := s.Read(make([]byte, 1)); received <- err }()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		assertClosed(t, <-received)
		close(release)
		require.NoError(t, <-closed)
		remote.Close()
	})
}

// Close while a call works without the lock: a callback that looks at the
// buffers finds them empty, and the call fails.
func TestCloseInsideACallback(t *testing.T) {
	t.Run("of RecvSplit", func(t *testing.T) {
		for _, token := range [][]byte{nil, {'x'}} {
			s := bufsock.NewBufferedSocket(segments("abc"))
			_, err := s.RecvSplit(func(data []byte, _ bool) (int, []byte, error) {
				assert.Equal(t, "abc", string(data))
				assert.NoError(t, s.Close())
				assert.Empty(t, s.RecvBuffer())
				assert.Zero(t, s.Buffered())
				return 1, token, nil
			})
			assertClosed(t, err)
			require.EqualError(t, err, "bufsock: RecvSplit: use of closed network connection")
			require.Empty(t, s.RecvBuffer())
		}
	})
	for _, n := range []int{0, 3} {
		for _, cause := range []error{nil, io.EOF, errors.New("boom")} {
			if n == 0 && cause == nil {
				continue // a read of nothing is made again
			}
			t.Run(fmt.Sprintf("of Read, %d bytes and %v", n, cause), func(t *testing.T) {
				for op, call := range waiting {
					if strings.Contains("Send SendBuffers Flush WriteNetstring", op) {
						continue
					}
					conn := &hooked{Conn: segments()}
					s := bufsock.NewBufferedSocket(conn)
					conn.read = func(p []byte) (int, error) {
						assert.NoError(t, s.Close())
						return copy(p, "1\n,"[:n]), cause
					}
					assertClosed(t, call(s))
					assert.Empty(t, s.RecvBuffer(), op)
					assert.Zero(t, s.Buffered(), op)
				}
			})
		}
	}
	t.Run("of Write", func(t *testing.T) {
		for _, n := range []int{0, 1, 3} {
			conn := &hooked{Conn: segments()}
			s := bufsock.NewBufferedSocket(conn)
			conn.write = func([]byte) (int, error) {
				assert.NoError(t, s.Close())
				assert.Empty(t, s.SendBuffer())
				return n, net.ErrClosed
			}
			sent, err := s.Send([]byte("abc"))
			assertClosed(t, err)
			require.Equal(t, n, sent)
			require.Empty(t, s.SendBuffer())
		}
	})
	t.Run("of WriteTo", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("abc"))
		n, err := s.WriteTo(writerFunc(func(p []byte) (int, error) {
			assert.Equal(t, "abc", string(p))
			return len(p), s.Close()
		}))
		assertClosed(t, err)
		require.EqualValues(t, 3, n)
	})
	t.Run("of ReadFrom", func(t *testing.T) {
		for _, fails := range []bool{true, false} {
			s := bufsock.NewBufferedSocket(&wire{})
			_, err := s.ReadFrom(readerFunc(func([]byte) (int, error) {
				assert.NoError(t, s.Close())
				if fails {
					return 0, errors.New("boom")
				}
				return 0, io.EOF
			}))
			if fails {
				assertClosed(t, err)
				require.EqualError(t, err, "bufsock: ReadFrom: use of closed network connection")
			} else {
				require.NoError(t, err, "all was copied")
			}
		}
	})
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

// What Shutdown refuses it does not send, whether a call begins behind it or was
// waiting for its turn.
func TestShutdownSendsNothingThatItRefuses(t *testing.T) {
	for op, call := range waiting {
		if !isSend(op) || op == "Flush" {
			continue
		}
		for _, queued := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, queued %v", op, queued), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					local, remote := net.Pipe()
					s := bufsock.NewBufferedSocket(local)
					var group sync.WaitGroup
					group.Go(func() { s.Send([]byte("under way")) })
					synctest.Wait()
					refused := make(chan error, 1)
					if queued {
						go func() { refused <- call(s) }()
						synctest.Wait()
					}
					group.Go(func() { s.Shutdown() })
					synctest.Wait()
					if !queued {
						refused <- call(s)
					}
					assertClosed(t, <-refused)
					sent, err := io.ReadAll(remote)
					require.NoError(t, err)
					require.Equal(t, "under way", string(sent))
					group.Wait()
				})
			})
		}
	}
}

// crypto/tls leaves a write that is blocked to the connection below, whose Close
// may not end it.
func TestCloseEndsASendOverTLSOnAConnectionThatIsDeafToIt(t *testing.T) {
	a, b := tcpPair(t)
	serverConfig, clientConfig := tlsConfigs()
	server := tls.Server(b, serverConfig)
	go server.Handshake()
	deaf := &hooked{Conn: a, closed: func() error { return nil }}
	client := tls.Client(deaf, clientConfig)
	require.NoError(t, client.Handshake())
	writing := make(chan struct{}, 1)
	deaf.write = func(p []byte) (int, error) {
		select {
		case writing <- struct{}{}:
		default:
		}
		return a.Write(p)
	}
	s := bufsock.NewBufferedSocket(client, bufsock.WithTimeout(bufsock.NoTimeout))
	sent := make(chan error)
	go func() { _, err := s.Send(make([]byte, 16<<20)); sent <- err }()
	<-writing
	require.NoError(t, s.Close())
	assertClosed(t, <-sent)
}

// CloseRead holds for the connection that an Upgrade puts under the socket, too.
func TestCloseReadHoldsBehindAnUpgrade(t *testing.T) {
	for _, during := range []bool{false, true} {
		local, remote := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		if !during {
			require.NoError(t, s.CloseRead())
		}
		require.NoError(t, s.Upgrade(func(conn net.Conn) (net.Conn, error) {
			if during {
				require.NoError(t, s.CloseRead())
			}
			return struct{ net.Conn }{conn}, nil
		}))
		_, err := remote.Write([]byte("more"))
		require.NoError(t, err)
		for range 2 {
			_, err = s.Recv(1)
			require.Equal(t, io.EOF, err)
		}
		_, err = s.RecvClose()
		require.IsType(t, (*bufsock.ConnectionClosedError)(nil), err)
	}
}
