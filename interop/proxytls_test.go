package interop_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// together is how long a server waits before its first read, so that the PROXY
// line and the beginning of the TLS handshake have both arrived, and the read
// takes bytes that are not of the line.
const together = 250 * time.Millisecond

// startHAProxy starts a proxy that passes TLS on to a server, with a PROXY line
// before it, and returns its address.
func startHAProxy(t *testing.T, server string) (addr string) {
	t.Helper()
	haproxy, addr := program(t, "haproxy", "haproxy"), freeAddr(t)
	config := writeFile(t, t.TempDir(), "haproxy.cfg", `
defaults
	mode tcp
	timeout connect 10s
	timeout client 20s
	timeout server 20s
listen tls
	bind `+addr+`
	server app `+server+` send-proxy
`)
	p := start(t, haproxy, "-db", "-f", config)
	p.waitListen(t, "tcp", addr)
	return addr
}

// proxies are ways to reach a server that wants a PROXY line: the address to
// connect to, and the arguments curl needs.
var proxies = map[string]func(t *testing.T, server string) (addr string, args []string){
	"curl": func(t *testing.T, server string) (string, []string) {
		return server, []string{"--haproxy-protocol"}
	},
	"haproxy": func(t *testing.T, server string) (string, []string) {
		return startHAProxy(t, server), nil
	},
}

func TestProxyTLS(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl", "curl")
	data, _ := randomBytes(3 << 20)
	file := writeFile(t, t.TempDir(), "data", string(data))
	for name, proxy := range proxies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startExample(t, "proxytls", "-listen", "127.0.0.1:0", "-delay", together.String())
			addr, args := proxy(t, server.addr)
			var answers []<-chan outcome[result]
			for range 10 {
				answers = append(answers, goDo(func() (result, error) {
					return runWith(strings.NewReader(""), curl, append(args, "-sSk", "-H", "Expect:",
						"-w", "%{local_ip}:%{local_port}\n", "--data-binary", "@"+file, "https://"+addr+"/")...)
				}))
			}
			for _, answer := range answers {
				got := await(t, answer)
				hello, client, _ := strings.Cut(got.stdout, ".\n")
				assert.Equal(t, "Hello "+strings.TrimSpace(client)+", you sent 3145728 bytes", hello)
				assert.Equal(t, result{got.stdout, "", 0}, got)
			}
			server.interrupt(t)
			require.NoError(t, server.wait(t))

			// The first read took a part of the handshake, unless a client was
			// slow. Without the wait that happens once in six times.
			taken := regexp.MustCompile(`line="PROXY .* buffered=[1-9]`).FindAllString(server.output.String(), -1)
			assert.GreaterOrEqual(t, len(taken), 5, "reads of more than the line")
		})
	}
}

// What a server must not do: read the line through a buffer and then go on
// without. TLS behind that must fail, or TestProxyTLS shows nothing.
func TestProxyTLSControl(t *testing.T) {
	t.Parallel()
	// Both readers wait for more than the line, to have read some of it too far.
	const moreThanLine = 200
	for name, c := range map[string]struct {
		readLine  func(net.Conn) (rest net.Conn, err error)
		wait      time.Duration // for the handshake
		handshake assert.ErrorAssertionFunc
	}{
		"buffer kept": {func(conn net.Conn) (net.Conn, error) {
			s := bufsock.NewBufferedSocket(conn)
			_, err := s.Peek(moreThanLine)
			if err == nil {
				_, err = s.RecvUntil([]byte("\r\n"))
			}
			return s, err
		}, patience, assert.NoError},
		"buffer dropped": {func(conn net.Conn) (net.Conn, error) {
			r := bufio.NewReader(conn)
			_, err := r.Peek(moreThanLine)
			if err == nil {
				_, err = r.ReadString('\n')
			}
			return conn, err
		}, time.Second, assert.Error},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, err := range curlHandshakes(t, 10, c.wait, c.readLine) {
				c.handshake(t, err, "connection %d", i)
			}
		})
	}
}

// curlHandshakes has curl connect n times to a server that reads the PROXY line
// with readLine, and returns the result of each TLS handshake on the rest.
func curlHandshakes(t *testing.T, n int, wait time.Duration, readLine func(net.Conn) (net.Conn, error)) (errs []error) {
	t.Helper()
	curl := program(t, "curl", "curl")
	withCert := httptest.NewTLSServer(http.NotFoundHandler())
	withCert.Close()
	config := &tls.Config{Certificates: withCert.TLS.Certificates}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var clients []<-chan outcome[result]
	var handshakes []<-chan outcome[error]
	for range n {
		clients = append(clients, goDo(func() (result, error) {
			return runWith(strings.NewReader(""), curl, "-sSk", "--haproxy-protocol", "https://"+l.Addr().String())
		}))
		handshakes = append(handshakes, goDo(func() (handshake, err error) {
			conn, err := l.Accept()
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			rest, err := readLine(conn)
			if err != nil {
				return nil, err
			}
			_ = conn.SetDeadline(time.Now().Add(wait)) // if it fails, so does the next line
			return tls.Server(rest, config).Handshake(), nil
		}))
	}
	for i := range n {
		errs = append(errs, await(t, handshakes[i]))
	}
	for _, c := range clients {
		await(t, c) // its exit status says no more
	}
	return errs
}

// dialProxyTLS connects to the example, sends a PROXY line and does the TLS
// handshake.
func dialProxyTLS(t *testing.T, addr, line string) (*tls.Conn, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, line)
	require.NoError(t, err)
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	return c, c.Handshake()
}

func TestProxyTLSLines(t *testing.T) {
	t.Parallel()
	server := startExample(t, "proxytls", "-listen", "127.0.0.1:0")
	unknown := func(size int) string {
		return "PROXY UNKNOWN" + strings.Repeat(" ", size-len("PROXY UNKNOWN\r\n")) + "\r\n"
	}
	for line, want := range map[string]string{
		"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n": "Hello 192.0.2.1:56324,",
		"PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n":    "Hello [2001:db8::1]:1,",
		"PROXY UNKNOWN\r\n":                               "Hello 127.0.0.1:",
		unknown(107):                                      "Hello 127.0.0.1:",
	} {
		c, err := dialProxyTLS(t, server.addr, line)
		require.NoError(t, err, "%q", line)
		_, err = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		assert.Contains(t, string(answer), want, "%q", line)
	}
	for _, line := range []string{unknown(108), "PROXY\r\n", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "\r\n", ""} {
		_, err := dialProxyTLS(t, server.addr, line)
		assert.Error(t, err, "%q", line)
	}
}

// A request that is under way on SIGINT is answered.
func TestProxyTLSShutdown(t *testing.T) {
	t.Parallel()
	server := startExample(t, "proxytls", "-listen", "127.0.0.1:0")
	c, err := dialProxyTLS(t, server.addr, "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n")
	require.NoError(t, err)
	_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line) // the server has begun to answer
	_, err = r.ReadString('\n')
	require.NoError(t, err)

	server.interrupt(t)
	server.waitOutput(t, "shutting down")
	_, err = net.Dial("tcp", server.addr)
	assert.Error(t, err, "still accepts connections")
	_, err = io.WriteString(c, "0123456789")
	require.NoError(t, err)
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, "Hello 192.0.2.1:56324, you sent 10 bytes.\n", string(answer))
	assert.NoError(t, server.wait(t))
}
