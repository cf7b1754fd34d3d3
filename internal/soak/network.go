package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bufsock/bufsock/bufsocktest"
)

// A network has the servers that clients talk to.
type network struct {
	c              *counters
	listeners      []net.Listener // TCP, Unix, TCP for TLS
	client, server *tls.Config
	dir            string // of the Unix socket
	accepting      sync.WaitGroup

	conversations sync.Map // *conversation by its id, for the server to find
	last          atomic.Int64
}

const (
	overTCP = iota
	overUnix
	overTLS
)

// listen starts the servers.
func listen(c *counters) (*network, error) {
	n := &network{c: c}
	var err error
	if n.server, n.client, err = tlsConfigs(); err != nil {
		return nil, err
	}
	if n.dir, err = os.MkdirTemp("", "soak"); err != nil {
		return nil, err
	}
	for _, a := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", filepath.Join(n.dir, "s")}, {"tcp", "127.0.0.1:0"}} {
		l, err := net.Listen(a[0], a[1])
		if err != nil {
			n.close()
			return nil, err
		}
		n.listeners = append(n.listeners, l)
		n.accepting.Go(func() { n.accept(l) })
	}
	return n, nil
}

func (n *network) close() {
	for _, l := range n.listeners {
		l.Close()
	}
	n.accepting.Wait()
	os.RemoveAll(n.dir)
}

// accept gives each connection to the conversation that the client names in
// its first bytes, before there are TLS or faults.
func (n *network) accept(l net.Listener) {
	var greeting sync.WaitGroup
	defer greeting.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		greeting.Go(func() {
			name := make([]byte, idSize)
			if _, err := io.ReadFull(conn, name); err == nil {
				if v, ok := n.conversations.LoadAndDelete(string(name)); ok {
					v.(*conversation).accepted <- conn
					return
				}
			}
			conn.Close()
		})
	}
}

// idSize is the length of the name of a conversation.
const idSize = 12

// connect returns the two ends of a new connection.
func (n *network) connect(t *conversation) (client, server net.Conn, err error) {
	id := strconv.FormatInt(1e11+n.last.Add(1), 10)
	n.conversations.Store(id, t)
	defer n.conversations.Delete(id)
	addr := n.listeners[t.transport].Addr()
	client, err = net.Dial(addr.Network(), addr.String())
	if err != nil {
		return nil, nil, err
	}
	if _, err := client.Write([]byte(id)); err != nil {
		client.Close()
		return nil, nil, err
	}
	select {
	case server = <-t.accepted:
		return client, server, nil
	case <-time.After(grace):
		client.Close()
		return nil, nil, errors.New("the server does not accept")
	}
}

// secure does the handshakes of TLS.
func (n *network) secure(client, server net.Conn) (net.Conn, net.Conn, error) {
	c, s := tls.Client(client, n.client), tls.Server(server, n.server)
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.HandshakeContext(ctx) }()
	return c, s, errors.Join(c.HandshakeContext(ctx), <-done)
}

// faults returns what goes wrong on one end of a connection: nothing on two of
// five, so that descriptors are read and written directly, too.
func faults(r *rand.Rand) (seed uint64, f bufsocktest.Faults, ok bool) {
	seed = r.Uint64()
	f = bufsocktest.Faults{
		CutReads: 0.1, EmptyReads: 0.05, ErrorsWithData: 0.02,
		CutWrites: 0.05, ShortWrites: 0.02,
		Delays: 0.02, MaxDelay: 2 * time.Millisecond, EarlyTimeouts: 0.02,
		LateDeadlines: 0.05, LateBy: 2 * time.Millisecond,
		IgnoredDeadlines: 0.05, IgnoredFor: 2 * time.Millisecond,
	}
	if r.IntN(5) == 0 {
		*[]*float64{&f.Resets, &f.HalfCloses}[r.IntN(2)] = 0.002
	}
	return seed, f, r.IntN(5) > 1
}

// tlsConfigs returns the configurations of a server and of a client that
// trusts it.
func tlsConfigs() (server, client *tls.Config, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"soak.test"},
		NotAfter:     time.Now().Add(365 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	server = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return server, &tls.Config{RootCAs: roots, ServerName: "soak.test"}, nil
}
