package bufsock_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A transport makes connected pairs of one kind of connection.
type transport struct {
	name string
	pair func(t testing.TB) (local, remote net.Conn)
}

var transports = []transport{
	{"TCP", tcpPair},
	{"Unix", unixPair},
	{"Pipe", pipePair},
	{"TLS", tlsPair},
}

func tcpPair(t testing.TB) (net.Conn, net.Conn) { return dialPair(t, "tcp", "127.0.0.1:0") }

func unixPair(t testing.TB) (net.Conn, net.Conn) {
	return dialPair(t, "unix", filepath.Join(t.TempDir(), "s"))
}

func pipePair(t testing.TB) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func dialPair(t testing.TB, network, address string) (net.Conn, net.Conn) {
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	b, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
