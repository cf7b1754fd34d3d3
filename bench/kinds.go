package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A Kind is a kind of connection.
type Kind string

// The kinds that the workloads run on.
const (
	TCP     Kind = "tcp"
	Unix    Kind = "unix"
	Wrapped Kind = "wrapped" // TCP in a type of which nothing is known
	TLS     Kind = "tls"     // over TCP
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{TCP, Unix, Wrapped, TLS} }

// wrapped hides what a connection is, as types of programs do.
type wrapped struct{ net.Conn }

// server is a connection of the kind on one that was accepted.
func (k Kind) server(conn net.Conn) (net.Conn, error) {
	switch k {
	case Wrapped:
		return wrapped{conn}, nil
	case TLS:
		config, err := certified()
		if err != nil {
			return nil, err
		}
		return shaken(tls.Server(conn, config))
	}
	return conn, nil
}

// client is server for a connection that was dialed.
func (k Kind) client(conn net.Conn) (net.Conn, error) {
	switch k {
	case Wrapped:
		return wrapped{conn}, nil
	case TLS:
		// The peer is on this machine, and nothing of it is secret.
		return shaken(tls.Client(conn, &tls.Config{InsecureSkipVerify: true}))
	}
	return conn, nil
}

// shaken returns conn once it has done its handshake.
func shaken(conn *tls.Conn) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// listen listens on loopback. cleanUp comes after the listener has been closed.
func (k Kind) listen() (l net.Listener, cleanUp func(), err error) {
	if k != Unix {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return l, func() {}, err
	}
	dir, err := os.MkdirTemp("", "bufsock")
	if err != nil {
		return nil, nil, err
	}
	cleanUp = func() { os.RemoveAll(dir) }
	if l, err = net.Listen("unix", filepath.Join(dir, "s")); err != nil {
		cleanUp()
	}
	return l, cleanUp, err
}

// dial connects to a listener of the kind.
func (k Kind) dial(addr string) (net.Conn, error) {
	network := "tcp"
	if k == Unix {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		return nil, err
	}
	return k.client(conn)
}

// bottom returns what lies under a connection of any kind.
func bottom(conn net.Conn) net.Conn {
	switch conn := conn.(type) {
	case wrapped:
		return conn.Conn
	case *tls.Conn:
		return conn.NetConn()
	}
	return conn
}

// certified returns the configuration of a server that has a certificate.
var certified = sync.OnceValues(func() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}, nil
})

// About names the kind, as the end of a heading.
func (k Kind) About() string {
	switch k {
	case TCP:
		return "on TCP"
	case Unix:
		return "on a Unix socket"
	case Wrapped:
		return "on TCP in a type of its own"
	}
	return "on TLS"
}
