package connections

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/soheilhy/cmux"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/netutil"
	"golang.org/x/net/proxy"
)

// throughListener connects to l, which may wrap a TCP listener, and returns what it
// accepts, and the client.
func throughListener(t testing.TB, l net.Listener) (accepted net.Conn, client *net.TCPConn) {
	c, accepted := dial(t, l)
	return accepted, small(t, c)
}

func smallListener(t testing.TB) net.Listener { return shrinking{listen(t, "tcp", "127.0.0.1:0")} }

// A shrinking listener makes the buffers of what it accepts small.
type shrinking struct{ net.Listener }

func (l shrinking) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		tcp := conn.(*net.TCPConn)
		_, _ = tcp.SetReadBuffer(32<<10), tcp.SetWriteBuffer(32<<10)
	}
	return conn, err
}

func openLimitListener(t testing.TB) *link {
	a, b := throughListener(t, netutil.LimitListener(smallListener(t), 1))
	return &link{a, b, resetTCP(b)}
}

// openSOCKS connects by way of a SOCKS5 server that is the target itself.
func openSOCKS(t testing.TB) *link {
	l := smallListener(t)
	served := make(chan net.Conn, 1)
	go func() {
		defer close(served)
		if conn, err := serveSOCKS(l); err != nil {
			t.Error(err)
		} else {
			served <- conn
		}
	}()
	dialer, err := proxy.SOCKS5("tcp", l.Addr().String(), nil, smallDialer{t})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", "192.0.2.1:80")
	require.NoError(t, err)
	b := (<-served).(*net.TCPConn)
	closeLater(t, a, b)
	return &link{a, b, resetTCP(b)}
}

// A smallDialer makes the buffers of what it dials small.
type smallDialer struct{ t testing.TB }

func (d smallDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d smallDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return small(d.t, conn), nil
}

// serveSOCKS accepts a connection and agrees to what its client asks for.
func serveSOCKS(l net.Listener) (net.Conn, error) {
	conn, err := l.Accept()
	if err != nil {
		return nil, err
	}
	// Version 5, one method: no authentication. Then CONNECT to an IPv4 address.
	for _, step := range []struct {
		request int
		reply   []byte
	}{
		{3, []byte{5, 0}},
		{10, []byte{5, 0, 0, 1, 192, 0, 2, 1, 0, 80}},
	} {
		if _, err := io.ReadFull(conn, make([]byte, step.request)); err != nil {
			return nil, err
		}
		if _, err := conn.Write(step.reply); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// openCmux returns a connection of which cmux has read, and holds, the first bytes.
func openCmux(t testing.TB) *link {
	l := smallListener(t)
	m := cmux.New(l)
	matched := m.Match(cmux.PrefixMatcher("hello"))
	go m.Serve()
	b, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	_, err = b.Write([]byte("hello!"))
	require.NoError(t, err)
	a, err := matched.Accept()
	require.NoError(t, err)
	closeLater(t, a, b)
	requireRead(t, a, "hello!")
	return &link{a, b, resetTCP(small(t, b))}
}

// openPROXY returns a connection that began with a header of the PROXY protocol.
func openPROXY(t testing.TB) *link {
	a, b := throughListener(t, &proxyproto.Listener{Listener: smallListener(t)})
	_, err := b.Write([]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"))
	require.NoError(t, err)
	require.Equal(t, "192.0.2.1:1", a.RemoteAddr().String())
	return &link{a, b, resetTCP(b)}
}

// requireRead reads exactly want from conn.
func requireRead(t testing.TB, conn io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	mustEnd(t, "a read", func() {
		n, err := io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, want, string(got[:n]))
	})
}

// tlsConfigs returns the configurations of a server and of a client that
// trusts it.
var tlsConfigs = sync.OnceValues(func() (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"bufsock.test"},
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	const protocol = "bufsock" // QUIC wants one
	server = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{protocol},
	}
	client = &tls.Config{RootCAs: roots, ServerName: "bufsock.test", NextProtos: []string{protocol}}
	return server, client
})

// overTLS returns two ends of a TLS session over a and b, the server over a.
func overTLS(t testing.TB, a, b net.Conn) (server, client *tls.Conn) {
	serverConfig, clientConfig := tlsConfigs()
	server, client = tls.Server(a, serverConfig), tls.Client(b, clientConfig)
	handshake := make(chan error, 1)
	go func() { handshake <- server.Handshake() }()
	require.NoError(t, client.Handshake())
	require.NoError(t, <-handshake)
	// The session ticket, which would else be an unread rest.
	_, err := server.Write([]byte{0})
	require.NoError(t, err)
	requireRead(t, client, "\x00")
	return server, client
}

func openTLS(t testing.TB) *link {
	a, b := tcpPair(t)
	server, client := overTLS(t, a, b)
	return &link{server, client, resetTCP(b)}
}

func openTLSOverLimitListener(t testing.TB) *link {
	a, b := throughListener(t, netutil.LimitListener(smallListener(t), 1))
	server, client := overTLS(t, a, b)
	return &link{server, client, resetTCP(b)}
}
