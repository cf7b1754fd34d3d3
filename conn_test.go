package bufsock_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
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
