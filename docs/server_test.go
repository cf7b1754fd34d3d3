package docs_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"time"
)

// patience is how long a snippet may take. It is meant to be out of reach of a
// busy machine, not to measure.
const patience = 30 * time.Second

const serverName = "mail.example.com"

// A turn is a part of what a server does: it waits for what it must hear from
// the client, answers, and starts TLS or hangs up.
type turn struct {
	hear, say        string
	startTLS, hangUp bool
}

// A server serves one client on a port of 127.0.0.1.
type server struct {
	listener *net.TCPListener
	ready    chan struct{} // closed when it has sent what it sends unasked
	ended    chan error    // sent to once: nil if the client did its part
}

// startServer starts the server of a snippet.
func startServer(name string) (*server, error) {
	turns, ok := servers[name]
	if !ok {
		turns, ok = guideServers[name]
	}
	if !ok {
		return nil, fmt.Errorf("there is no server %q", name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{l.(*net.TCPListener), make(chan struct{}), make(chan error, 1)}
	go func() {
		defer l.Close()
		s.ended <- s.serve(turns)
	}()
	return s, nil
}

func (s *server) addr() string { return s.listener.Addr().String() }

// serve accepts a client and takes the turns.
func (s *server) serve(turns []turn) error {
	ready := sync.OnceFunc(func() { close(s.ready) })
	defer ready()
	if err := s.listener.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	conn, err := s.listener.Accept()
	if err != nil {
		return err
	}
	defer func() { conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for i, turn := range turns {
		if i > 0 || turn.hear != "" {
			ready()
		}
		if conn, err = turn.take(conn); err != nil {
			return fmt.Errorf("turn %d of the server: %w", i, err)
		}
	}
	ready()
	return untilEnd(conn)
}

// take takes the turn. It returns the connection to go on with.
func (t turn) take(conn net.Conn) (net.Conn, error) {
	heard := make([]byte, len(t.hear))
	if n, err := io.ReadFull(conn, heard); err != nil {
		return conn, fmt.Errorf("heard %q instead of %q, and then: %w", heard[:n], t.hear, err)
	}
	if string(heard) != t.hear {
		return conn, fmt.Errorf("heard %q instead of %q", heard, t.hear)
	}
	if _, err := io.WriteString(conn, t.say); err != nil {
		return conn, err
	}
	switch {
	case t.startTLS:
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{identity().certificate}})
	case t.hangUp:
		return conn, conn.(*net.TCPConn).CloseWrite()
	}
	return conn, nil
}

// untilEnd waits until the client closes the connection, and returns an error
// if it says more before.
func untilEnd(conn net.Conn) error {
	more, err := io.ReadAll(conn)
	if len(more) > 0 {
		return fmt.Errorf("heard %q after the end", more)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // the client closed TLS without saying so
	}
	return err
}

// connect connects to the server of a snippet, when it has sent what it sends
// unasked. The function that it returns closes the connection, waits for the
// end of the server, and panics if the client did not do its part.
func connect(name string) (conn net.Conn, end func()) {
	s, err := startServer(name)
	check(err)
	conn, err = net.Dial("tcp", s.addr())
	check(err)
	<-s.ready
	return conn, func() {
		conn.Close()
		if err := <-s.ended; err != nil {
			panic(fmt.Sprintf("server %q: %v", name, err))
		}
	}
}

// An id is how the servers prove who they are, and how clients verify that.
type id struct {
	certificate tls.Certificate
	roots       *x509.CertPool
	pem         []byte // the certificate, for Python
}

var identity = sync.OnceValue(func() id {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: serverName},
		DNSNames:              []string{serverName},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	leaf, err := x509.ParseCertificate(der)
	check(err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	var text bytes.Buffer
	check(pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return id{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, text.Bytes()}
})
