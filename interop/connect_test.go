package interop_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// startTinyproxy starts a proxy and returns its address.
func startTinyproxy(t *testing.T) (addr string) {
	t.Helper()
	tinyproxy, port := program(t, "tinyproxy", "tinyproxy"), freePort(t)
	config := writeFile(t, t.TempDir(), "tinyproxy.conf", fmt.Sprintf(
		"Port %d\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Info\n", port))
	p := start(t, tinyproxy, "-d", "-c", config)
	addr = "127.0.0.1:" + strconv.Itoa(port)
	p.waitListen(t, "tcp", addr)
	return addr
}

const greeting = "220 speaking\r\n"

// greet serves one connection: it speaks first, and then sends back what comes.
func greet(l net.Listener) (n int64, err error) {
	conn, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, greeting); err != nil {
		return 0, err
	}
	return io.Copy(conn, conn)
}

// connectThrough opens a tunnel to a server that speaks first. When it returns,
// the receive buffer holds the proxy's answer and the greeting.
func connectThrough(t *testing.T, proxy, server string) *bufsock.BufferedSocket {
	t.Helper()
	s, err := bufsock.Dial(t.Context(), "tcp", proxy, bufsock.WithTimeout(patience))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	_, err = s.Send(fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", server))
	require.NoError(t, err)
	for n := len(greeting); ; n++ {
		data, err := s.Peek(n)
		require.NoError(t, err, "%q", s.RecvBuffer())
		if string(data[n-len(greeting):]) == greeting {
			return s
		}
	}
}

// TestConnectTunnel receives the answer of a proxy, behind which the tunnel has
// already begun, and goes on with the socket as a net.Conn.
func TestConnectTunnel(t *testing.T) {
	t.Parallel()
	proxy := startTinyproxy(t)
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		served := goDo(func() (int64, error) { return greet(l) })
		s := connectThrough(t, proxy, l.Addr().String())

		answer, err := s.RecvUntil([]byte("\r\n\r\n"))
		require.NoError(t, err)
		require.Regexp(t, `^HTTP/1\.[01] 200 `, string(answer))
		require.Equal(t, greeting, string(s.RecvBuffer()), "the tunnel begins in the buffer")

		var tunnel net.Conn = s
		require.NoError(t, tunnel.SetDeadline(time.Now().Add(patience)))
		text := textproto.NewReader(bufio.NewReader(tunnel))
		_, message, err := text.ReadCodeLine(220)
		require.NoError(t, err)
		require.Equal(t, "speaking", message)

		data, _ := randomBytes(1 << 20)
		sent := goDo(func() (int, error) { return tunnel.Write(data) })
		echo := make([]byte, len(data))
		_, err = io.ReadFull(text.R, echo)
		require.NoError(t, err)
		require.True(t, string(data) == string(echo))
		require.Equal(t, len(data), await(t, sent))
		require.NoError(t, tunnel.Close())
		require.EqualValues(t, len(data), await(t, served))
	}
}

// TestConnectControl does it wrong, to show that the test above can fail: it
// goes on with the connection below the socket, where the greeting is not.
func TestConnectControl(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	served := goDo(func() (int64, error) { return greet(l) })
	s := connectThrough(t, startTinyproxy(t), l.Addr().String())
	_, err = s.RecvUntil([]byte("\r\n\r\n"))
	require.NoError(t, err)

	tunnel := s.NetConn()
	require.NoError(t, tunnel.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(tunnel, "echo\r\n")
	require.NoError(t, err)
	line, err := textproto.NewReader(bufio.NewReader(tunnel)).ReadLine()
	require.NoError(t, err)
	require.Equal(t, "echo", line)
	require.NoError(t, tunnel.Close())
	require.EqualValues(t, len("echo\r\n"), await(t, served))
}
