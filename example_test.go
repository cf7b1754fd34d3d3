package bufsock_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bufsock/bufsock"
)

// Lines end in "\r\n" and may be 512 bytes long, as in IRC.
func ExampleBufferedSocket_RecvUntil() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(512))
	defer s.Close()
	io.WriteString(peer, "NICK anna\r\nJOIN #go\r\n")

	for range 2 {
		line, err := s.RecvUntil([]byte("\r\n"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q\n", line)
	}
	// Output:
	// "NICK anna"
	// "JOIN #go"
}

// A call that times out has consumed nothing. Made again, it goes on.
func ExampleBufferedSocket_RecvUntil_timeout() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()

	io.WriteString(peer, "Hello, ")
	_, err := s.RecvUntil([]byte("\n"), bufsock.WithTimeout(10*time.Millisecond))
	if timeout, ok := errors.AsType[*bufsock.TimeoutError](err); ok {
		fmt.Println("nothing after", timeout.After)
	}

	io.WriteString(peer, "world\n")
	line, err := s.RecvUntil([]byte("\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", line)
	// Output:
	// nothing after 10ms
	// Hello, world
}

// A device asks for a login and a password, and then gives a shell.
func ExampleBufferedSocket_RecvUntilAny() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "router 7\r\nlogin: password: \r\nrouter 7# ")

	prompts := [][]byte{[]byte("login: "), []byte("password: "), []byte("# ")}
	answers := []string{"admin\r\n", "secret\r\n"}
	for {
		_, which, err := s.RecvUntilAny(prompts)
		if err != nil {
			log.Fatal(err)
		}
		if which == len(answers) {
			fmt.Println("logged in")
			return
		}
		fmt.Printf("%q: send %q\n", prompts[which], answers[which])
		if _, err := s.Send([]byte(answers[which])); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// "login: ": send "admin\r\n"
	// "password: ": send "secret\r\n"
	// logged in
}

// A server of VNC begins with its version, in twelve bytes.
func ExampleBufferedSocket_RecvSize() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "RFB 003.008\n\x01\x02")

	version, err := s.RecvSize(12)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", version)
	// Output: "RFB 003.008\n"
}

// A size that came from the peer needs a limit: a head of four bytes tells it, and
// head and body are received together, so that no timeout comes between them.
func ExampleWithMaxSize() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "\x00\x00\x00\x05hello"+"\x40\x00\x00\x00 and so on")

	for {
		head, err := s.Peek(4)
		if err != nil {
			log.Fatal(err)
		}
		size := int(binary.BigEndian.Uint32(head))
		frame, err := s.RecvSize(4+size, bufsock.WithMaxSize(1<<20))
		if tooLong, ok := errors.AsType[*bufsock.MessageTooLongError](err); ok {
			fmt.Println("at once: more than", tooLong.MaxSize)
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", frame[4:])
	}
	// Output:
	// hello
	// at once: more than 1048576
}

// Any split function of package bufio tells where a message ends.
func ExampleBufferedSocket_RecvSplit() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "to be  or\nnot")
	peer.Close()

	for {
		word, err := s.RecvSplit(bufio.ScanWords)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q ", word)
	}
	// Output: "to" "be" "or" "not"
}

// A receive ends when its context does. The connection stays usable.
func ExampleWithContext() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()

	ctx, cancel := context.WithCancel(context.Background())
	go cancel() // whatever makes the answer unwanted
	_, err := s.RecvUntil([]byte("\n"), bufsock.WithContext(ctx))
	fmt.Println(errors.Is(err, context.Canceled))

	io.WriteString(peer, "still here\n")
	line, err := s.RecvUntil([]byte("\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", line)
	// Output:
	// true
	// still here
}

// The loop ends with the stream. What is unfinished then is an error.
func ExampleBufferedSocket_Messages() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "one\ntwo\nthr")
	peer.Close()

	for line, err := range s.Messages([]byte("\n")) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("%s\n", line)
	}
	// Output:
	// one
	// two
	// bufsock: Messages: connection closed by peer before "\n" (3 bytes buffered)
}

// One buffer serves for all lines. It grows if one of them is longer.
func ExampleAppendTo() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "12\n30\n0\n")

	buf := make([]byte, 0, 128)
	for string(buf) != "0" {
		var err error
		buf, err = s.RecvUntil([]byte("\n"), bufsock.AppendTo(buf[:0]))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", buf) // valid until the next call
	}
	// Output:
	// 12
	// 30
	// 0
}

// A message over the limit stays in the stream until it is skipped.
func ExampleBufferedSocket_DiscardUntil() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(16))
	defer s.Close()
	io.WriteString(peer, strings.Repeat("x", 100)+"\nshort\n")

	_, err := s.RecvUntil([]byte("\n"))
	if long, ok := errors.AsType[*bufsock.MessageTooLongError](err); ok {
		n, err := s.DiscardUntil([]byte("\n"))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("over the limit of %d, skipped %d bytes\n", long.MaxSize, n)
	}
	line, err := s.RecvUntil([]byte("\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", line)
	// Output:
	// over the limit of 16, skipped 101 bytes
	// short
}

// After STARTTLS the same socket goes on with TLS. The handshake in wrap needs
// a time limit of its own.
func ExampleBufferedSocket_Upgrade() {
	conn, peer := loopback()
	config := serveSTARTTLS(peer)
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := s.Send([]byte("STARTTLS\r\n")); err != nil {
		log.Fatal(err)
	}
	if line, err := s.RecvUntil([]byte("\r\n")); err != nil || string(line) != "220 go ahead" {
		log.Fatalf("STARTTLS: %q, %v", line, err)
	}
	err := s.Upgrade(func(conn net.Conn) (net.Conn, error) {
		t := tls.Client(conn, config)
		return t, t.HandshakeContext(ctx)
	})
	if err != nil {
		log.Fatal(err)
	}
	line, err := s.RecvUntil([]byte("\r\n"))
	fmt.Printf("%q %v\n", line, err)
	// Output: "250 this is TLS" <nil>
}

// Whoever sits on the network may add plaintext to the answer to STARTTLS. It
// must not be read as if it had come through TLS.
func ExampleBufferedSocket_Upgrade_injection() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "220 go ahead\r\n250 injected\r\n")

	if _, err := s.RecvUntil([]byte("\r\n")); err != nil {
		log.Fatal(err)
	}
	err := s.Upgrade(func(conn net.Conn) (net.Conn, error) {
		return tls.Client(conn, &tls.Config{ServerName: "mail.example.com"}), nil
	})
	fmt.Println(errors.Is(err, bufsock.ErrBufferedData))
	// Output: true
}

// A socket is a net.Conn and can be handed on in the middle of the stream:
// here a PROXY header, of at most 107 bytes, is read before an HTTP request.
func ExampleBufferedSocket_handOn() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\n"+
		"GET /index.html HTTP/1.1\r\nHost: example.com\r\n\r\n")

	header, err := s.RecvUntil([]byte("\r\n"), bufsock.WithMaxSize(107))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", header)

	request, err := readRequest(s) // any function of a net.Conn or io.Reader
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(request.Method, request.URL)
	// Output:
	// PROXY TCP4 192.0.2.1 192.0.2.2 5000 80
	// GET /index.html
}

// A netstring carries any bytes. Both ends use the same type.
func ExampleNetstringSocket() {
	conn, peer := loopback()
	client, server := bufsock.NewNetstringSocket(conn), bufsock.NewNetstringSocket(peer)
	defer client.Close()
	defer server.Close()

	if err := client.WriteNetstring([]byte("any bytes: \x00,\r\n")); err != nil {
		log.Fatal(err)
	}
	question, err := server.ReadNetstring()
	if err != nil {
		log.Fatal(err)
	}
	if err := server.WriteNetstring(fmt.Appendf(nil, "got %q", question)); err != nil {
		log.Fatal(err)
	}
	answer, err := client.ReadNetstring()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer)
	// Output: got "any bytes: \x00,\r\n"
}

// Can a pool give out this connection? Only if nothing has come: an end, or
// bytes that would be taken for the answer to the next request. Asking does not
// wait, and takes nothing away.
func ExampleBufferedSocket_Peek() {
	conn, peer := net.Pipe()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()

	isClean := func() bool {
		_, err := s.Peek(1, bufsock.WithTimeout(bufsock.NonBlocking))
		return errors.Is(err, bufsock.ErrWouldBlock)
	}
	fmt.Println(isClean())
	peer.Close()
	fmt.Println(isClean())
	// Output:
	// true
	// false
}

// Small pieces are collected and sent at once.
func ExampleBufferedSocket_Flush() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()

	for _, command := range []string{"SET x 1\r\n", "INCR x\r\n", "GET x\r\n"} {
		if err := s.Buffer([]byte(command)); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(s.Unsent(), "bytes to send")
	if err := s.Flush(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Unsent(), "bytes to send")

	received := make([]byte, 24)
	if _, err := io.ReadFull(peer, received); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", received)
	// Output:
	// 24 bytes to send
	// 0 bytes to send
	// "SET x 1\r\nINCR x\r\nGET x\r\n"
}

// One question finds every error type of the package, wrapped or not.
func ExampleError() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "220 mail.exam")
	peer.Close()

	if _, err := s.RecvUntil([]byte("\r\n")); err != nil {
		err = fmt.Errorf("greeting: %w", err)
		if e, ok := errors.AsType[bufsock.Error](err); ok {
			fmt.Println("worth another try:", e.Timeout())
		}
		fmt.Println("in the middle of a line:", errors.Is(err, io.ErrUnexpectedEOF))
		fmt.Println(err)
	}
	// Output:
	// worth another try: false
	// in the middle of a line: true
	// greeting: bufsock: RecvUntil: connection closed by peer before "\r\n" (13 bytes buffered)
}

// loopback returns the two ends of a TCP connection.
func loopback() (conn, peer net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	if conn, err = net.Dial("tcp", l.Addr().String()); err != nil {
		log.Fatal(err)
	}
	if peer, err = l.Accept(); err != nil {
		log.Fatal(err)
	}
	return conn, peer
}

func readRequest(conn net.Conn) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(conn))
}

// serveSTARTTLS is a server on conn. It returns how a client verifies it.
func serveSTARTTLS(conn net.Conn) *tls.Config {
	cert, roots := selfSigned("mail.example.com")
	go func() {
		s := bufsock.NewBufferedSocket(conn)
		s.RecvUntil([]byte("\r\n"))
		s.Send([]byte("220 go ahead\r\n"))
		s.Upgrade(func(conn net.Conn) (net.Conn, error) {
			return tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}), nil
		})
		s.Send([]byte("250 this is TLS\r\n"))
	}()
	return &tls.Config{RootCAs: roots, ServerName: "mail.example.com"}
}

func selfSigned(name string) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{name},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}
