// Proxytls is an HTTPS server behind a proxy that passes TLS on, and says who
// the client is in a line before the handshake: the PROXY protocol, version 1.
// Run it from the root of the repository, and ask it as haproxy does:
//
//	go run ./examples/proxytls
//	curl -k --haproxy-protocol https://127.0.0.1:4443/
//
// It believes that line: let nobody but the proxy connect. Ctrl-C ends it, once
// the requests under way have been answered.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bufsock/bufsock"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:4443", "listen on this `address`")
	delay := flag.Duration("delay", 0, "wait before the first read, so that bytes arrive together; for tests")
	flag.Parse()
	if err := run(*listen, *delay); err != nil {
		fmt.Fprintf(os.Stderr, "proxytls: %v; -h shows the flags\n", err)
		os.Exit(1)
	}
}

// run serves until the program is told to end.
func run(listen string, delay time.Duration) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(answer), ReadTimeout: time.Minute}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ended := make(chan error, 1)
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends the program at once
		ended <- server.Shutdown(context.Background())
	})
	slog.Info("listening", "addr", l.Addr())
	if err := server.ServeTLS(proxyListener{l, delay}, "", ""); err != http.ErrServerClosed {
		return err
	}
	slog.Info("shutting down")
	return <-ended
}

// answer reads the body of a request and says hello.
func answer(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body) // if it fails, nobody will read the answer
	fmt.Fprintf(w, "Hello %s, you sent %d bytes.\n", r.RemoteAddr, n)
}

// A proxyListener accepts connections that begin with a PROXY line.
type proxyListener struct {
	net.Listener
	delay time.Duration
}

func (l proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(107)) // no PROXY line is longer
	return &proxyConn{s, sync.OnceValues(func() (net.Addr, error) {
		time.Sleep(l.delay)
		return readProxyLine(s)
	})}, nil
}

// A proxyConn reads the PROXY line when the client's address, or what follows
// the line, is first asked for. Accept must not: it would wait for each client.
type proxyConn struct {
	net.Conn
	client func() (net.Addr, error)
}

func (c *proxyConn) RemoteAddr() net.Addr {
	if addr, err := c.client(); err == nil {
		return addr
	}
	return c.Conn.RemoteAddr()
}

func (c *proxyConn) Read(p []byte) (int, error) {
	if _, err := c.client(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// readProxyLine reads the PROXY line and returns the address of the client.
// What has come after the line stays in the socket, to be read by TLS.
func readProxyLine(s *bufsock.BufferedSocket) (net.Addr, error) {
	line, err := s.RecvUntil([]byte("\r\n"))
	if err != nil {
		return nil, err
	}
	slog.Info("connected", "line", string(line), "buffered", s.Buffered())
	f := strings.Split(string(line), " ")
	switch {
	case len(f) >= 2 && f[0] == "PROXY" && f[1] == "UNKNOWN":
		return s.RemoteAddr(), nil
	case len(f) == 6 && f[0] == "PROXY" && (f[1] == "TCP4" || f[1] == "TCP6"):
		addr, err := netip.ParseAddrPort(net.JoinHostPort(f[2], f[4]))
		return net.TCPAddrFromAddrPort(addr), err
	}
	return nil, fmt.Errorf("expected a PROXY line, found %.40q", line)
}

// selfSigned makes a certificate for as long as the program runs.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
