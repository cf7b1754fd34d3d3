package bufsock_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

func TestConformsToNetConn(t *testing.T) {
	for _, transport := range transports[:3] {
		t.Run(transport.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				a, b := transport.pair(t)
				stop = func() { a.Close(); b.Close() }
				return bufsock.NewBufferedSocket(a), bufsock.NewBufferedSocket(b), stop, nil
			})
		})
	}
}

// On TLS eight of the eleven can pass. FutureTimeout, ConcurrentMethods and
// RacyWrite let a write time out in its middle and go on, which crypto/tls rules
// out: the sends behind it fail, and do not say that they have timed out. A bare
// tls.Conn fails the first two and PastTimeout. nettest has no way to choose, so
// the test binary runs itself with a pattern.
func TestConformsToNetConnOverTLS(t *testing.T) {
	const child = "BUFSOCK_TEST_CHILD"
	if os.Getenv(child) == "" {
		const pattern = "^TestConformsToNetConnOverTLS$/^(BasicIO|PingPong|RacyRead|ReadTimeout|WriteTimeout|PastTimeout|PresentTimeout|CloseTimeout)$"
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+pattern, "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, 8, strings.Count(string(out), "--- PASS: TestConformsToNetConnOverTLS/"), "%s", out)
		return
	}
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := tlsPair(t)
		stop = func() {
			// A TLS Close waits for a write in flight; that of the socket below does not.
			for _, c := range []net.Conn{a, b} {
				c.(*tls.Conn).NetConn().Close()
			}
		}
		return bufsock.NewBufferedSocket(a), bufsock.NewBufferedSocket(b), stop, nil
	})
}

func TestConformsToReader(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef\n"), 10_000)
	local, remote := tcpPair(t)
	go func() {
		remote.Write(content)
		remote.Close()
	}()
	s := bufsock.NewBufferedSocket(local)
	_, err := s.Peek(5)
	require.NoError(t, err)
	require.NoError(t, iotest.TestReader(struct{ io.Reader }{s}, content))
}

// goroutines returns a function that wants the number of goroutines to come
// back to what it is now.
func goroutines(t *testing.T) (check func()) {
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			require.True(t, time.Now().Before(deadline), "a goroutine is left behind")
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

// zeros is a reader without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A socket handed on in the middle of a stream loses nothing.
func TestHandedOnToTLS(t *testing.T) {
	serverConfig, clientConfig := tlsConfigs()
	a, b := tcpPair(t)
	s := bufsock.NewBufferedSocket(b)
	go func() {
		// The line and the ClientHello go out together.
		first := bufsock.NewBufferedSocket(a)
		first.Buffer([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
		client := tls.Client(first, clientConfig)
		client.Write([]byte("hello\n"))
	}()
	line, err := s.RecvUntil(crlf, bufsock.WithMaxSize(107))
	require.NoError(t, err)
	require.Equal(t, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2", string(line))
	_, err = s.Peek(5)
	require.NoError(t, err)
	require.NotZero(t, s.Buffered(), "what must not be lost")
	msg, err := bufsock.NewBufferedSocket(tls.Server(s, serverConfig)).RecvUntil(lf)
	require.NoError(t, err)
	require.Equal(t, "hello", string(msg))
}

// A TLS connection on top of a socket must survive a read timeout: crypto/tls
// asks err.(net.Error).Temporary().
func TestTLSOnTopSurvivesAReadTimeout(t *testing.T) {
	serverConfig, clientConfig := tlsConfigs()
	a, b := tcpPair(t)
	client := tls.Client(bufsock.NewBufferedSocket(a), clientConfig)
	server := tls.Server(bufsock.NewBufferedSocket(b), serverConfig)
	go server.Handshake()
	require.NoError(t, client.Handshake())
	for range 2 {
		require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err := client.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	require.NoError(t, client.SetReadDeadline(time.Time{}))
	go server.Write([]byte("late"))
	p := make([]byte, 4)
	_, err := io.ReadFull(client, p)
	require.NoError(t, err)
	require.Equal(t, "late", string(p))
}

func TestSocketOnTopOfTLSSurvivesAReadTimeout(t *testing.T) {
	local, remote := tlsPair(t)
	s := bufsock.NewBufferedSocket(local)
	_, err := remote.Write([]byte("half a "))
	require.NoError(t, err)
	for range 2 {
		_, err = s.RecvUntil(lf, bufsock.WithTimeout(5*time.Millisecond))
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	}
	_, err = remote.Write([]byte("line\n"))
	require.NoError(t, err)
	msg, err := s.RecvUntil(lf)
	require.NoError(t, err)
	require.Equal(t, "half a line", string(msg))
	_, err = s.Send([]byte("answer\n"))
	require.NoError(t, err)
	require.NoError(t, s.CloseWrite())
	msg, err = bufsock.NewBufferedSocket(remote).RecvClose()
	require.NoError(t, err)
	require.Equal(t, "answer\n", string(msg))
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

func TestReadServesTheBufferFirst(t *testing.T) {
	w := segments("abcdef", "ghi")
	s := bufsock.NewBufferedSocket(w)
	_, err := s.Peek(1)
	require.NoError(t, err)
	p := make([]byte, 4)
	for _, want := range []string{"abcd", "ef", "ghi"} {
		n, err := s.Read(p)
		require.NoError(t, err)
		require.Equal(t, want, string(p[:n]))
	}
	require.Equal(t, []int{512, 4}, w.asked, "straight into p")
	n, err := s.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestReadServesTheBufferPastADeadline(t *testing.T) {
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local)
	_, err := remote.Write([]byte("abc"))
	require.NoError(t, err)
	_, err = s.Peek(3)
	require.NoError(t, err)
	require.NoError(t, s.SetReadDeadline(time.Unix(1, 0)))
	n, err := s.Read(make([]byte, 5))
	require.NoError(t, err)
	require.Equal(t, 3, n)
}

// Copying in every combination, with bytes in both buffers, loses nothing.
func TestCopy(t *testing.T) {
	content := strings.Repeat("0123456789abcde\n", 50_000)
	const lead = "a line\n"
	sources := map[string]func(t *testing.T) io.Reader{
		"from a socket": func(t *testing.T) io.Reader {
			local, remote := tcpPair(t)
			go func() {
				io.WriteString(remote, lead+content)
				remote.Close()
			}()
			s := bufsock.NewBufferedSocket(local)
			line, err := s.RecvUntil(lf, bufsock.WithDelimiter())
			require.NoError(t, err)
			require.Equal(t, lead, string(line))
			return s
		},
		"from a socket on a pipe": func(t *testing.T) io.Reader {
			local, remote := pipePair(t)
			go func() {
				io.WriteString(remote, content)
				remote.Close()
			}()
			return bufsock.NewBufferedSocket(local)
		},
		"from a bare connection": func(t *testing.T) io.Reader {
			local, remote := tcpPair(t)
			go func() {
				io.WriteString(remote, content)
				remote.Close()
			}()
			return local
		},
		"from a reader": func(*testing.T) io.Reader { return iotest.HalfReader(strings.NewReader(content)) },
		"from a file": func(t *testing.T) io.Reader {
			name := filepath.Join(t.TempDir(), "content")
			require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
			f, err := os.Open(name)
			require.NoError(t, err)
			t.Cleanup(func() { f.Close() })
			return f
		},
	}
	type sink struct {
		w    io.Writer
		done func() string // what arrived
	}
	drain := func(t *testing.T, local, remote net.Conn) (done func() string) {
		received := make(chan string)
		go func() {
			all, _ := io.ReadAll(remote)
			received <- string(all)
		}()
		return func() string {
			local.Close()
			return <-received
		}
	}
	sinks := map[string]func(t *testing.T) sink{
		"to a socket": func(t *testing.T) sink {
			local, remote := tcpPair(t)
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.Buffer([]byte("buffered ")))
			done := drain(t, local, remote)
			return sink{s, func() string { return strings.TrimPrefix(done(), "buffered ") }}
		},
		"to a socket on a pipe": func(t *testing.T) sink {
			local, remote := pipePair(t)
			return sink{bufsock.NewBufferedSocket(local), drain(t, local, remote)}
		},
		"to a bare connection": func(t *testing.T) sink {
			local, remote := unixPair(t)
			return sink{local, drain(t, local, remote)}
		},
		"to a writer": func(*testing.T) sink {
			b := &bytes.Buffer{}
			return sink{b, b.String}
		},
		"to a file": func(t *testing.T) sink {
			f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
			require.NoError(t, err)
			return sink{f, func() string {
				f.Close()
				all, _ := os.ReadFile(f.Name())
				return string(all)
			}}
		},
	}
	for from, source := range sources {
		for to, target := range sinks {
			t.Run(from+" "+to, func(t *testing.T) {
				r, w := source(t), target(t)
				n, err := io.Copy(w.w, r)
				require.NoError(t, err)
				require.Equal(t, int64(len(content)), n)
				require.True(t, content == w.done(), "not what was sent")
			})
		}
	}
}

func TestEcho(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			echoed := make(chan error, 1)
			go func() {
				_, err := io.Copy(s, s)
				echoed <- err
			}()
			for range 3 {
				_, err := io.WriteString(remote, "echo\n")
				require.NoError(t, err)
				got := make([]byte, 5)
				_, err = io.ReadFull(remote, got)
				require.NoError(t, err)
				require.Equal(t, "echo\n", string(got))
			}
			require.NoError(t, s.Close())
			require.ErrorIs(t, <-echoed, net.ErrClosed)
		})
	}
}

// Both directions of a proxy begin at the same moment, and end.
func TestCopyBothWays(t *testing.T) {
	for range 500 {
		a, clientA := tcpPair(t)
		b, clientB := tcpPair(t)
		sa, sb := bufsock.NewBufferedSocket(a), bufsock.NewBufferedSocket(b)
		var copies sync.WaitGroup
		copies.Go(func() { io.Copy(sa, sb) })
		copies.Go(func() { io.Copy(sb, sa) })
		clientA.Close()
		clientB.Close()
		copies.Wait()
		sa.Close()
		sb.Close()
	}
}

func TestWriteToKeepsWhatWasNotTaken(t *testing.T) {
	boom := errors.New("boom")
	for _, transport := range transports[:3] {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			go remote.Write([]byte("abcdef"))
			s := bufsock.NewBufferedSocket(local)
			n, err := s.WriteTo(&wire{limits: []int{2}, err: boom})
			require.Equal(t, boom, err)
			require.EqualValues(t, 2, n)
			n, err = s.WriteTo(&wire{limits: []int{1}})
			require.Equal(t, io.ErrShortWrite, err)
			require.EqualValues(t, 1, n)
			require.Equal(t, "def", string(s.RecvBuffer()))
			require.Panics(t, func() { s.WriteTo(nil) })
			require.Equal(t, "def", string(s.RecvBuffer()))
		})
	}
}

// Closing ends a copy that the kernel makes.
func TestCloseEndsACopy(t *testing.T) {
	sockets(t, func(t *testing.T, local, _ net.Conn) {
		far, _ := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		errs := make(chan error)
		go func() { _, err := io.Copy(far, s); errs <- err }()
		go func() { _, err := s.ReadFrom(far); errs <- err }()
		time.AfterFunc(5*time.Millisecond, func() { s.Close(); far.Close() })
		for range 2 {
			require.ErrorIs(t, <-errs, net.ErrClosed)
		}
	})
}

// Sends that fail while they wait for their turn: their bytes come behind those
// of the send under way, whole and in order, also when that fails, too.
func TestSendsThatFailInTheQueueKeepTheirPlace(t *testing.T) {
	long := strings.Repeat("x", 32<<20)
	for _, transport := range transports[:3] {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.Buffer([]byte("first ")))
			ctx, cancel := context.WithCancel(t.Context())
			sent := make(chan int)
			go func() {
				n, err := s.Send([]byte(long), bufsock.WithContext(ctx), bufsock.WithTimeout(time.Minute))
				assert.ErrorIs(t, err, context.Canceled)
				sent <- n
			}()
			_, err := io.ReadFull(remote, make([]byte, 1)) // it is under way
			require.NoError(t, err)
			given := "first " + long
			for _, data := range []string{" second", strings.Repeat("y", 100_000), " third"} {
				n, err := s.Send([]byte(data), bufsock.WithTimeout(time.Microsecond))
				require.IsType(t, (*bufsock.TimeoutError)(nil), err)
				require.Zero(t, n)
				given += data
			}
			cancel()
			n := <-sent
			require.Equal(t, len(given)-n, len(s.SendBuffer()))
			received := make(chan []byte)
			go func() {
				all, _ := io.ReadAll(remote)
				received <- all
			}()
			require.NoError(t, s.Flush(bufsock.WithTimeout(time.Minute)))
			s.Close()
			require.True(t, given[1:] == string(<-received), "order or bytes are wrong")
		})
	}
}

// Package os looks for a descriptor in what it copies to and from, and must not
// find a way past the buffers.
func TestFilesDoNotPassTheBuffersBy(t *testing.T) {
	name := filepath.Join(t.TempDir(), "content")
	require.NoError(t, os.WriteFile(name, []byte("FILE"), 0o600))
	t.Run("sending", func(t *testing.T) {
		local, remote := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, s.Buffer([]byte("HEAD")))
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteTo(s)
		require.NoError(t, err)
		s.Close()
		all, err := io.ReadAll(remote)
		require.NoError(t, err)
		require.Equal(t, "HEADFILE", string(all))
	})
	t.Run("receiving", func(t *testing.T) {
		local, remote := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		_, err := remote.Write([]byte("HEAD"))
		require.NoError(t, err)
		_, err = s.Peek(4)
		require.NoError(t, err)
		_, err = remote.Write([]byte("TAIL"))
		require.NoError(t, err)
		remote.Close()
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
		require.NoError(t, err)
		_, err = f.ReadFrom(s)
		require.NoError(t, err)
		f.Close()
		all, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, "HEADTAIL", string(all))
	})
}

// A copy to a writer that fails at once leaves the connection well, and what
// came where it was.
func TestCopyToABrokenConnection(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		closed, _ := unixPair(t)
		to := bufsock.NewBufferedSocket(closed)
		require.NoError(t, to.Close())
		s := bufsock.NewBufferedSocket(local)
		_, err := remote.Write([]byte("hello\n"))
		require.NoError(t, err)
		_, err = s.WriteTo(to)
		require.ErrorIs(t, err, net.ErrClosed)
		msg, err := s.RecvUntil(lf)
		require.NoError(t, err)
		require.Equal(t, "hello", string(msg))
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

// A hooked connection calls functions where it has them, in the place of the
// methods of the connection below.
type hooked struct {
	net.Conn
	read          func(p []byte) (int, error)
	write         func(p []byte) (int, error)
	readDeadline  func(t time.Time) error
	writeDeadline func(t time.Time) error
	closed        func() error
}

func (c *hooked) Read(p []byte) (int, error) {
	if c.read != nil {
		return c.read(p)
	}
	return c.Conn.Read(p)
}

func (c *hooked) Write(p []byte) (int, error) {
	if c.write != nil {
		return c.write(p)
	}
	return c.Conn.Write(p)
}

func (c *hooked) SetReadDeadline(t time.Time) error {
	if c.readDeadline != nil {
		return c.readDeadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *hooked) SetWriteDeadline(t time.Time) error {
	if c.writeDeadline != nil {
		return c.writeDeadline(t)
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *hooked) Close() error {
	if c.closed != nil {
		return c.closed()
	}
	return c.Conn.Close()
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

// Deadlines that were set on a connection for a handshake do not stay.
func TestDeadlinesOfAConnectionBeforeAreLifted(t *testing.T) {
	stale := time.Unix(1, 0)
	for _, transport := range transports {
		if transport.name == "Pipe" {
			continue // its first receive with a timeout lifts them
		}
		for name, wrap := range map[string]func(conn net.Conn) *bufsock.BufferedSocket{
			"NewBufferedSocket": func(conn net.Conn) *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(conn) },
			"Upgrade": func(conn net.Conn) *bufsock.BufferedSocket {
				s := bufsock.NewBufferedSocket(segments())
				require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return conn, nil }))
				return s
			},
		} {
			t.Run(transport.name+" "+name, func(t *testing.T) {
				local, remote := transport.pair(t)
				require.NoError(t, local.SetDeadline(stale))
				s := wrap(local)
				_, err := s.Send([]byte("x"))
				require.NoError(t, err)
				_, err = s.Write([]byte("x"))
				require.NoError(t, err)
				_, err = remote.Write([]byte("abc"))
				require.NoError(t, err)
				_, err = s.Recv(1, bufsock.WithTimeout(bufsock.NoTimeout))
				require.NoError(t, err)
				n, err := s.Read(make([]byte, 2))
				require.NoError(t, err)
				require.Equal(t, 2, n)
			})
		}
	}
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

// A shaker is a connection whose handshake is a function.
type shaker struct {
	net.Conn
	shake func(ctx context.Context) error
}

func (s shaker) HandshakeContext(ctx context.Context) error { return s.shake(ctx) }

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
func (noState) ConnectionState()                       {}
func (plainState) ConnectionState() bool               { return true }
func (nilState) ConnectionState() *stateOfTLS          { return nil }
func (otherState) ConnectionState() struct{}           { return struct{}{} }
func (wordyState) ConnectionState() stateInWords       { return stateInWords{"yes"} }
func (doneState) ConnectionState() stateOfTLS          { return stateOfTLS{true} }

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

// WriteTo holds the turn while it writes what was buffered before.
func TestWriteToHoldsTheTurnWithABufferToo(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("abc"))
	_, err := s.Peek(3)
	require.NoError(t, err)
	n, err := s.WriteTo(writerFunc(func(p []byte) (int, error) {
		_, err := s.Recv(1, bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		return len(p), nil
	}))
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
}

// Nothing is no reason to ask a connection, which might wait.
func TestWritingNothingDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		n, err := s.Write(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.SendBuffers([][]byte{nil, {}})
		require.NoError(t, err)
		require.Zero(t, n)
		s.Close()
		remote.Close()
	})
}

// A send counts its own bytes and those before it, not those of a send that
// failed behind it, which a try may take along.
func TestSendsDoNotCountWhatIsBehindThem(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		var err error
		for err == nil {
			_, err = s.Send(make([]byte, 10_000), bufsock.WithTimeout(bufsock.NonBlocking))
		}
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		before := len(s.SendBuffer())
		sent := make(chan int)
		go func() { n, _ := s.Send(make([]byte, 1000)); sent <- n }()
		for len(s.SendBuffer()) == before {
			runtime.Gosched()
		}
		_, err = s.Send(make([]byte, 1000), bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		go io.Copy(io.Discard, remote)
		require.Equal(t, before+1000, <-sent)
	})
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

// A handshake that panics leaves the bytes of its send in the buffer, however
// many.
func TestSendsThatPanicKeepTheirBytes(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		s := bufsock.NewBufferedSocket(shaker{segments(), func(context.Context) error { panic("handshake") }})
		require.NoError(t, s.Buffer([]byte("buffered ")))
		require.PanicsWithValue(t, "handshake", func() { s.Send(make([]byte, size)) })
		require.Equal(t, "buffered "+string(make([]byte, size)), string(s.SendBuffer()))
	}
	// Of a panic in the middle, what has been sent is known.
	writes := 0
	s := bufsock.NewBufferedSocket(counting{count: func(p []byte) (int, error) {
		if writes++; writes == 2 {
			panic("write")
		}
		return len(p), nil
	}})
	require.NoError(t, s.Buffer([]byte("buffered ")))
	large := bytes.Repeat([]byte("x"), 100_000)
	require.PanicsWithValue(t, "write", func() { s.Send(large) })
	require.True(t, string(large) == string(s.SendBuffer()))
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

type (
	readerFunc func(p []byte) (int, error)
	writerFunc func(p []byte) (int, error)
)

func (f readerFunc) Read(p []byte) (int, error)  { return f(p) }
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// While WriteTo writes and ReadFrom reads, other calls of their side wait.
func TestCopiesHoldTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("abc", "def"))
		w := &bytes.Buffer{}
		wrote := make(chan error)
		go func() {
			_, err := s.WriteTo(writerFunc(func(p []byte) (int, error) {
				time.Sleep(time.Minute)
				return w.Write(p)
			}))
			wrote <- err
		}()
		synctest.Wait()
		d, err := elapsed(func() error { _, err := s.Recv(1, bufsock.WithTimeout(time.Second)); return err })
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.NoError(t, <-wrote)
		require.Equal(t, "abcdef", w.String())
		_, err = s.Recv(1)
		require.Equal(t, io.EOF, err, "the turn is free")
	})
	synctest.Test(t, func(t *testing.T) {
		conn := &wire{}
		s := bufsock.NewBufferedSocket(conn)
		r := strings.NewReader("abc")
		read := make(chan error)
		go func() {
			_, err := s.ReadFrom(readerFunc(func(p []byte) (int, error) {
				time.Sleep(time.Minute)
				return r.Read(p)
			}))
			read <- err
		}()
		synctest.Wait()
		d, err := elapsed(func() error { _, err := s.Send([]byte("late"), bufsock.WithTimeout(time.Second)); return err })
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.NoError(t, <-read)
		require.Equal(t, []string{"abc"}, conn.writes)
		require.NoError(t, s.Flush())
		require.Equal(t, []string{"abc", "late"}, conn.writes, "the turn is free")
	})
}

// What ReadFrom cannot send before it begins it does not take from the reader.
// A send that fails in the queue while ReadFrom sends the buffer is sent, too,
// before what is copied: what a try has begun of it must not be torn apart.
func TestReadFromSendsWhatWasKeptInTheMeantime(t *testing.T) {
	const size = 4 << 20 // more than the kernel takes
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		require.NoError(t, local.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(64<<10))
		require.NoError(t, remote.(interface{ SetReadBuffer(int) error }).SetReadBuffer(64<<10))
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		require.NoError(t, s.Buffer(bytes.Repeat([]byte("a"), size)))
		copied := make(chan error)
		go func() { _, err := s.ReadFrom(strings.NewReader("copied")); copied <- err }()
		_, err := remote.Read(make([]byte, 1)) // it is under way
		require.NoError(t, err)
		_, err = s.Send(bytes.Repeat([]byte("b"), size), bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		got := make([]byte, 2*size-1+len("copied"))
		_, err = io.ReadFull(remote, got)
		require.NoError(t, err)
		require.NoError(t, <-copied)
		require.Equal(t, "copied", string(got[2*size-1:]))
		require.Equal(t, size-1, bytes.Count(got[:size-1], []byte("a")))
		require.Equal(t, size, bytes.Count(got[size-1:2*size-1], []byte("b")))
	})
}

func TestReadFromTakesNothingIfTheBufferCannotBeSent(t *testing.T) {
	boom := errors.New("boom")
	w := &wire{limits: []int{1}, err: boom}
	s := bufsock.NewBufferedSocket(w)
	require.NoError(t, s.Buffer([]byte("abc")))
	r := strings.NewReader("taken")
	n, err := s.ReadFrom(r)
	require.Equal(t, boom, err)
	require.Zero(t, n)
	require.Equal(t, 5, r.Len())
	require.Equal(t, "bc", string(s.SendBuffer()))
	n, err = s.ReadFrom(r)
	require.ErrorIs(t, err, bufsock.ErrBroken)
	require.ErrorIs(t, err, boom)
	require.Zero(t, n)
	require.Equal(t, 5, r.Len())
	require.Equal(t, []string{"a"}, w.writes)

	// nor if the handshake cannot be done
	_, config := tlsConfigs()
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe() // nobody answers
		s := bufsock.NewBufferedSocket(tls.Client(local, config))
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Second)))
		r := strings.NewReader("taken")
		d, err := elapsed(func() error { _, err := s.ReadFrom(r); return err })
		require.Equal(t, time.Second, d)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 5, r.Len())
		s.Close()
		remote.Close()
	})
}

// Only where the kernel makes the copy may bytes be lost that the writer did
// not take.
func TestCopiesThatTheKernelDoesNotMakeLoseNothing(t *testing.T) {
	const size = 8 << 20 // more than a kernel buffers
	wrap := func(conn net.Conn) io.Writer { return bufsock.NewBufferedSocket(conn) }
	bare := func(conn net.Conn) io.Writer { return conn }
	tests := map[string]struct {
		from, to func(testing.TB) (net.Conn, net.Conn)
		writer   func(net.Conn) io.Writer
	}{
		"TCP to a socket on Unix":  {tcpPair, unixPair, wrap},
		"Unix to a socket on Unix": {unixPair, unixPair, wrap},
		"Unix to Unix":             {unixPair, unixPair, bare},
		"TCP to a pipe":            {tcpPair, pipePair, bare},
		"a pipe to TCP":            {pipePair, tcpPair, bare},
	}
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i % 251)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			local, remote := tt.from(t)
			to, far := tt.to(t)
			go func() {
				remote.Write(content)
				remote.Close()
			}()
			s := bufsock.NewBufferedSocket(local)
			w := tt.writer(to)
			require.NoError(t, w.(net.Conn).SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
			n, err := io.Copy(w, s)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Less(t, n, int64(size))
			rest, err := s.RecvClose(bufsock.WithMaxSize(bufsock.NoLimit), bufsock.WithTimeout(time.Minute))
			require.NoError(t, err)
			to.Close()
			taken, err := io.ReadAll(far)
			require.NoError(t, err)
			require.EqualValues(t, n, len(taken))
			require.True(t, bytes.Equal(content, append(taken, rest...)), "%d bytes taken, %d left", len(taken), len(rest))
		})
	}
}

// What a writer says that it took is believed within the bounds of reason.
func TestWriteToAWriterThatMiscounts(t *testing.T) {
	for _, tt := range []struct {
		count int
		want  int
		err   error
	}{
		{-1, 0, io.ErrShortWrite},
		{2, 2, io.ErrShortWrite},
		{3, 3, nil},
		{4, 3, io.ErrShortWrite},
	} {
		s := bufsock.NewBufferedSocket(segments("abc"))
		n, err := s.WriteTo(writerFunc(func([]byte) (int, error) { return tt.count, nil }))
		require.Equal(t, tt.err, err, "%d", tt.count)
		require.EqualValues(t, tt.want, n)
		require.Equal(t, "abc"[tt.want:], string(s.RecvBuffer()))
	}
}

// What WriteTo and ReadFrom return counts all that was copied, also before an
// error of the connection.
func TestCopiesThatFailCountWhatWasCopied(t *testing.T) {
	boom := errors.New("boom")
	s := bufsock.NewBufferedSocket(&wire{reads: []read{{"abc", nil}, {"de", boom}}})
	b := &bytes.Buffer{}
	n, err := s.WriteTo(b)
	require.Equal(t, boom, err)
	require.EqualValues(t, 5, n)
	require.Equal(t, "abcde", b.String())

	w := &wire{limits: []int{3, 1}, err: boom}
	s = bufsock.NewBufferedSocket(w)
	n, err = s.ReadFrom(struct{ io.Reader }{strings.NewReader("abc")})
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	n, err = s.ReadFrom(struct{ io.Reader }{strings.NewReader("abc")})
	require.Equal(t, boom, err)
	require.EqualValues(t, 1, n)
}

// A method of net.Conn returns the error of the connection itself.
func TestReadAndWriteReturnTheConnectionsOwnTimeout(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		calls := map[string]func() (int64, error){
			"read":  func() (int64, error) { n, err := s.Read(make([]byte, 1)); return int64(n), err },
			"write": func() (int64, error) { n, err := s.Write(make([]byte, 64<<20)); return int64(n), err },
		}
		for op, call := range calls {
			var n int64
			var err error
			for wait := 10 * time.Millisecond; ; wait *= 2 { // until it passes while the call waits
				require.NoError(t, s.SetDeadline(time.Now().Add(wait)))
				n, err = call()
				if _, early := err.(*bufsock.TimeoutError); !early {
					break
				}
			}
			require.IsType(t, (*net.OpError)(nil), err)
			require.Equal(t, op, err.(*net.OpError).Op)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Equal(t, op == "write", n > 0)

			n, err = call()
			require.Zero(t, n)
			require.IsType(t, (*bufsock.TimeoutError)(nil), err, "it was not asked")
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, s.SetDeadline(time.Time{}))
		}
		require.Empty(t, s.SendBuffer())
	})
}

// A vectored write that was not made for a deadline in the past.
func TestVectoredWritesPastADeadlineSendNothing(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		large := bytes.Repeat([]byte("x"), 50_000)
		require.NoError(t, s.Buffer([]byte("head ")))
		require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
		n, err := s.Write(large)
		require.Zero(t, n)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.Equal(t, "head ", string(s.SendBuffer()), "Write keeps nothing of p")
		n, err = s.SendBuffers([][]byte{large, []byte(" tail")})
		require.Zero(t, n)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		want := "head " + string(large) + " tail"
		require.True(t, want == string(s.SendBuffer()), "%d bytes kept", len(s.SendBuffer()))
		received := make(chan string)
		go func() { all, _ := io.ReadAll(remote); received <- string(all) }()
		require.NoError(t, s.SetWriteDeadline(time.Time{}))
		require.NoError(t, s.Flush())
		s.Close()
		require.True(t, want == <-received)
	})
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

// What a failed Send says it has sent is what the peer receives.
func TestFailedSendsCountWhatWasSent(t *testing.T) {
	large := make([]byte, 16<<20)
	fails := map[string]struct {
		fail func(s *bufsock.BufferedSocket, local net.Conn)
		err  error
	}{
		"Close":                   {func(s *bufsock.BufferedSocket, _ net.Conn) { s.Close() }, net.ErrClosed},
		"a deadline":              {func(s *bufsock.BufferedSocket, _ net.Conn) { s.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"closed below the socket": {func(_ *bufsock.BufferedSocket, local net.Conn) { local.Close() }, net.ErrClosed},
	}
	sends := map[string]func(s *bufsock.BufferedSocket) (int, error){
		"Send": func(s *bufsock.BufferedSocket) (int, error) {
			return s.Send(large, bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"SendBuffers": func(s *bufsock.BufferedSocket) (int, error) {
			return s.SendBuffers([][]byte{large[:10], large[10:]}, bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"Flush": func(s *bufsock.BufferedSocket) (int, error) {
			s.Buffer(large)
			return -1, s.Flush(bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"Send of a little more than is buffered": func(s *bufsock.BufferedSocket) (int, error) {
			s.Buffer(large[1:])
			return s.Send(large[:1], bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"Write": func(s *bufsock.BufferedSocket) (int, error) { return s.Write(large) },
	}
	for why, tt := range fails {
		for how, send := range sends {
			t.Run(how+" ended by "+why, func(t *testing.T) {
				sockets(t, func(t *testing.T, local, remote net.Conn) {
					s := bufsock.NewBufferedSocket(local)
					type result struct {
						n   int
						err error
					}
					done := make(chan result)
					go func() { n, err := send(s); done <- result{n, err} }()
					_, err := io.ReadFull(remote, make([]byte, 1)) // it is under way
					require.NoError(t, err)
					tt.fail(s, local)
					r := <-done
					require.ErrorIs(t, r.err, tt.err)
					unsent := len(s.SendBuffer())
					s.Close()
					rest, err := io.ReadAll(remote)
					require.NoError(t, err)
					if r.n >= 0 {
						require.Equal(t, 1+len(rest), r.n)
					}
					if why != "Close" && how != "Write" {
						require.Equal(t, len(large)-1-len(rest), unsent)
					} else {
						require.Zero(t, unsent)
					}
				})
			})
		}
	}
}

// Sends that fail at once have sent nothing. The first returns the error of the
// connection and keeps its bytes; from then on they keep nothing.
func TestSendsOnABrokenConnectionCountNothing(t *testing.T) {
	sends := map[string]struct {
		send func(s *bufsock.BufferedSocket, p []byte) (int, error)
		kept int // of p
		more int
	}{
		"Send": {func(s *bufsock.BufferedSocket, p []byte) (int, error) { return s.Send(p) }, 1, 0},
		"SendBuffers": {func(s *bufsock.BufferedSocket, p []byte) (int, error) {
			return s.SendBuffers([][]byte{p, {1}})
		}, 1, 1},
		"Write": {func(s *bufsock.BufferedSocket, p []byte) (int, error) { return s.Write(p) }, 0, 0},
	}
	for name, tt := range sends {
		for _, size := range []int{3, 100_000} {
			t.Run(fmt.Sprintf("%s of %d", name, size), func(t *testing.T) {
				sockets(t, func(t *testing.T, local, remote net.Conn) {
					s := bufsock.NewBufferedSocket(local)
					require.NoError(t, s.CloseWrite())
					n, err := tt.send(s, make([]byte, size))
					require.IsType(t, (*net.OpError)(nil), err)
					require.Zero(t, n)
					kept := tt.kept*size + tt.more
					require.Len(t, s.SendBuffer(), kept)
					for name, tt := range sends {
						n, err := tt.send(s, make([]byte, size))
						require.ErrorIs(t, err, bufsock.ErrBroken, name)
						require.Zero(t, n)
						require.Len(t, s.SendBuffer(), kept, name)
					}
				})
			})
		}
	}
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
		for _, timeout := range []time.Duration{bufsock.NonBlocking, bufsock.NoTimeout, time.Hour} {
			for _, size := range []int{3, 100_000} {
				n, err := s.Send(make([]byte, size), bufsock.WithTimeout(timeout))
				require.IsType(t, (*bufsock.TimeoutError)(nil), err)
				require.Zero(t, n)
			}
		}
		require.Len(t, s.SendBuffer(), 3*(3+100_000))
	})
}

// A Unix connection that is no stream is read and written by its own methods,
// which keep messages apart.
func TestMessagesOfUnixgramAreKeptApart(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" || runtime.GOOS == "js" {
		return // they have none
	}
	name := filepath.Join(t.TempDir(), "s")
	local, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	defer local.Close()
	remote, err := net.Dial("unixgram", name)
	require.NoError(t, err)
	defer remote.Close()
	s := bufsock.NewBufferedSocket(&hooked{Conn: local})
	direct := bufsock.NewBufferedSocket(local)
	for _, s := range []*bufsock.BufferedSocket{s, direct} {
		for _, data := range []string{"first", "", "third"} {
			_, err = remote.Write([]byte(data))
			require.NoError(t, err)
		}
		// An empty message is no end of the stream: the connection's own Read
		// returns no error.
		msg, err := s.RecvSize(10)
		require.NoError(t, err)
		require.Equal(t, "firstthird", string(msg))
	}
}

// What others have done to the connection is reported as the connection does.
func TestAConnectionClosedBelowTheSocket(t *testing.T) {
	sockets(t, func(t *testing.T, local, _ net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, local.Close())
		for range 2 {
			_, err := s.Recv(1)
			require.IsType(t, (*net.OpError)(nil), err)
			require.ErrorIs(t, err, net.ErrClosed)
			require.Equal(t, "read", err.(*net.OpError).Op)
		}
		_, err := s.Send([]byte("abc"))
		require.IsType(t, (*net.OpError)(nil), err)
		require.ErrorIs(t, err, net.ErrClosed)
		require.Equal(t, "write", err.(*net.OpError).Op)
		require.Equal(t, local.LocalAddr(), err.(*net.OpError).Source)
		require.Equal(t, local.RemoteAddr(), err.(*net.OpError).Addr)
		require.Equal(t, local.LocalAddr().Network(), err.(*net.OpError).Net)
		require.Equal(t, "abc", string(s.SendBuffer()))
		require.Error(t, s.SetReadDeadline(time.Now()))
	})
}

// A connection that was never connected has no descriptor to work with.
func TestAnEmptyConnectionIsNoReasonToPanic(t *testing.T) {
	for _, conn := range []net.Conn{new(net.TCPConn), new(net.UnixConn)} {
		s := bufsock.NewBufferedSocket(conn)
		_, err := s.Recv(1, bufsock.WithTimeout(bufsock.NoTimeout))
		require.Error(t, err)
		_, err = s.Send([]byte("x"), bufsock.WithTimeout(bufsock.NoTimeout))
		require.Error(t, err)
		require.Equal(t, "x", string(s.SendBuffer()))
	}
}

// A send that fails while it waits for its turn may find room in the buffer of
// the one under way, whose bytes come before its own all the same.
func TestSendsThatFailInTheQueueStayBehindTheOneUnderWay(t *testing.T) {
	head, large := strings.Repeat("h", 200_000), strings.Repeat("x", 70_000)
	for _, taken := range []int{1, len(head) - 1, len(head), len(head) + 1, len(head) + len(large) - 1} {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.Buffer([]byte(head)))
			ctx, cancel := context.WithCancel(t.Context())
			sent := make(chan int)
			go func() {
				n, err := s.Send([]byte(large), bufsock.WithContext(ctx))
				assert.ErrorIs(t, err, context.Canceled)
				sent <- n
			}()
			_, err := io.ReadFull(remote, make([]byte, taken))
			require.NoError(t, err)
			for _, data := range [][]string{{"second "}, {"third ", "", "piece"}} {
				var bufs [][]byte
				for _, d := range data {
					bufs = append(bufs, []byte(d))
				}
				n, err := s.SendBuffers(bufs, bufsock.WithTimeout(bufsock.NonBlocking))
				require.ErrorIs(t, err, bufsock.ErrWouldBlock)
				require.Zero(t, n)
			}
			require.ErrorIs(t, bufsock.NewNetstringSocket(s).WriteNetstring([]byte("last"), bufsock.WithTimeout(bufsock.NonBlocking)), bufsock.ErrWouldBlock)
			cancel()
			require.Equal(t, taken, <-sent)
			require.True(t, (head + large + "second third piece4:last,")[taken:] == string(s.SendBuffer()), "%d taken", taken)
			s.Close()
			remote.Close()
		})
	}
}
