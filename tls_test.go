package bufsock_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

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
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	client = &tls.Config{RootCAs: roots, ServerName: "bufsock.test"}
	return server, client
})

func tlsPair(t testing.TB) (net.Conn, net.Conn) {
	a, b := tcpPair(t)
	serverConfig, clientConfig := tlsConfigs()
	client, server := tls.Client(a, clientConfig), tls.Server(b, serverConfig)
	handshake := make(chan error, 1)
	go func() { handshake <- server.Handshake() }()
	require.NoError(t, client.Handshake())
	require.NoError(t, <-handshake)
	return client, server
}

// A handshake that begins after a deadline would only end the session.
func TestHandshakeIsNotBegunAfterADeadline(t *testing.T) {
	a, b := tcpPair(t)
	serverConfig, clientConfig := tlsConfigs()
	s := bufsock.NewBufferedSocket(tls.Client(a, clientConfig))
	server := tls.Server(b, serverConfig)
	go server.Write([]byte("hello"))
	require.NoError(t, s.SetDeadline(time.Unix(1, 0)))
	_, err := s.Recv(5)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	_, err = s.Send([]byte("x"))
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	require.NoError(t, s.SetDeadline(time.Time{}))
	msg, err := s.Recv(5)
	require.NoError(t, err)
	require.Equal(t, "hello", string(msg))
}
