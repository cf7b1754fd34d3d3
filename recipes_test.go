package bufsock_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// The recipes of README.md, and others.

// greet receives the line with which a server begins.
func greet(ctx context.Context, address string) ([]byte, error) {
	s, err := bufsock.Dial(ctx, "tcp", address, bufsock.WithTimeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	greeting, err := s.RecvUntil([]byte("\r\n")) // at most 32 KiB, at most 5 s
	if timeout, ok := errors.AsType[*bufsock.TimeoutError](err); ok {
		log.Printf("%d bytes so far, none lost", timeout.Buffered) // RecvUntil again would go on
	}
	return greeting, err
}

// command sends a command to Redis and receives the reply. After a timeout the
// reply is still to come: call reply, again if need be, before the next command.
func command(s *bufsock.BufferedSocket, args ...string) (string, error) {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := s.Send(b); err != nil {
		return "", err
	}
	return reply(s)
}

// reply receives a reply of Redis: a line, or a line that tells a size and then
// a value of any bytes. Its parts are one message, of at most 1 MiB.
func reply(s *bufsock.BufferedSocket) (reply string, err error) {
	err = s.RecvFunc(func(m *bufsock.Message) error {
		line, err := m.Until([]byte("\r\n"))
		reply = string(line)
		digits, isValue := strings.CutPrefix(reply, "$")
		if err != nil || !isValue || digits == "-1" { // -1: there is no such value
			return err
		}
		size, err := strconv.ParseUint(digits, 10, 30)
		if err != nil {
			return err
		}
		value, err := m.Next(int(size) + len("\r\n"))
		reply = strings.TrimSuffix(string(value), "\r\n")
		return err
	}, bufsock.WithMaxSize(1<<20))
	return reply, err
}

// shout answers lines of up to 512 bytes. A client may be silent for an hour, but
// has ten seconds for a line that it has begun.
func shout(conn net.Conn) error {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithIdleTimeout(time.Hour), bufsock.WithMaxSize(512))
	defer s.Close()
	for line, err := range s.Messages([]byte("\n")) {
		if _, ok := errors.AsType[*bufsock.MessageTooLongError](err); ok {
			s.Send([]byte("line too long\n"))
			s.Shutdown() // Close alone could take the answer away in a reset
		}
		if err != nil {
			return err
		}
		if _, err := s.Send(append(bytes.ToUpper(line), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// startTLS goes on with TLS. Upgrade refuses plaintext that came ahead of it.
func startTLS(ctx context.Context, s *bufsock.BufferedSocket, config *tls.Config) error {
	return s.Upgrade(func(conn net.Conn) (net.Conn, error) {
		t := tls.Client(conn, config)
		return t, t.HandshakeContext(ctx)
	})
}

// isClean says whether a connection can be used for another request: it is open,
// and nothing has come, which would be taken for the answer.
func isClean(s *bufsock.BufferedSocket) bool {
	_, err := s.Peek(1, bufsock.WithTimeout(bufsock.NonBlocking))
	return errors.Is(err, bufsock.ErrWouldBlock)
}

// serve answers requests, which are netstrings of up to 1 MiB.
func serve(conn net.Conn, answer func([]byte) []byte) error {
	ns := bufsock.NewNetstringSocket(conn, bufsock.WithMaxSize(1<<20))
	defer ns.Close()
	for request, err := range ns.Messages() {
		if err != nil {
			return err
		}
		if err := ns.WriteNetstring(answer(request)); err != nil {
			return err
		}
	}
	return nil
}

// accept reads the line that a proxy sends, of at most 107 bytes. What came
// behind it belongs to TLS, so TLS gets the socket and not conn.
func accept(conn net.Conn, config *tls.Config) (proxy []byte, t *tls.Conn, err error) {
	s := bufsock.NewBufferedSocket(conn)
	proxy, err = s.RecvUntil([]byte("\r\n"), bufsock.WithMaxSize(107))
	return proxy, tls.Server(s, config), err
}

func Example_respClient() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "+OK\r\n$6\r\na\r\n") // and the rest later

	got, err := command(s, "SET", "key", "a\r\nb\x00\xff")
	fmt.Printf("%q %v\n", got, err)
	s.SetTimeout(10 * time.Millisecond)
	got, err = command(s, "GET", "key")
	fmt.Printf("%q, a timeout: %v\n", got, errors.Is(err, os.ErrDeadlineExceeded))
	io.WriteString(peer, "b\x00\xff\r\n")
	s.SetTimeout(bufsock.DefaultTimeout)
	got, err = reply(s)
	fmt.Printf("%q %v\n", got, err)
	// Output:
	// "+OK" <nil>
	// "", a timeout: true
	// "a\r\nb\x00\xff" <nil>
}

func Example_lineServer() {
	conn, peer := loopback()
	go shout(peer)
	fmt.Fprintf(conn, "hello\nworld\n%s\n", strings.Repeat("x", 1000))
	answers, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		fmt.Println(err)
	}
	fmt.Printf("%s", answers)
	// Output:
	// HELLO
	// WORLD
	// line too long
}

func Example_netstringService() {
	conn, peer := loopback()
	go serve(peer, bytes.ToUpper)
	ns := bufsock.NewNetstringSocket(conn)
	defer ns.Close()
	if err := ns.WriteNetstring([]byte("hello, world")); err != nil {
		log.Fatal(err)
	}
	reply, err := ns.ReadNetstring()
	fmt.Printf("%s %v\n", reply, err)
	// Output: HELLO, WORLD <nil>
}

func Example_startTLS() {
	conn, peer := loopback()
	config := serveSTARTTLS(peer)
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	s.Send([]byte("STARTTLS\r\n"))
	if reply, err := s.RecvUntil([]byte("\r\n")); err != nil || !bytes.HasPrefix(reply, []byte("220 ")) {
		log.Fatalf("STARTTLS: %q, %v", reply, err)
	}
	if err := startTLS(context.Background(), s, config); err != nil {
		log.Fatal(err)
	}
	line, err := s.RecvUntil([]byte("\r\n"))
	fmt.Printf("%q %v\n", line, err)
	// Output: "250 this is TLS" <nil>
}

func Example_proxyLine() {
	cert, roots := selfSigned("www.example.com")
	conn, peer := loopback()
	go func() {
		io.WriteString(conn, "PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n")
		tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "www.example.com"}).Handshake()
	}()
	proxy, t, err := accept(peer, &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %v\n", proxy, t.Handshake())
	// Output: PROXY TCP4 192.0.2.1 192.0.2.2 5000 443, <nil>
}

func Example_pool() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	fmt.Println("quiet:", isClean(s))

	io.WriteString(peer, "421 closing\r\n")
	s.Peek(1) // it is there
	fmt.Println("something has come:", isClean(s))

	s.RecvUntil([]byte("\r\n"))
	peer.Close()
	s.Peek(1)
	fmt.Println("closed:", isClean(s))
	// Output:
	// quiet: true
	// something has come: false
	// closed: false
}

// Each block of Go in README.md is here, word for word.
func TestRecipesAreThoseOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	recipes, err := os.ReadFile("recipes_test.go")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	require.Len(t, blocks, 2)
	for _, block := range blocks {
		require.Contains(t, string(recipes), string(block[1]))
	}
}

func Example() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
		if conn, err := l.Accept(); err == nil {
			io.WriteString(conn, "220 mail.example.com\r\n")
		}
	}()
	greeting, err := greet(context.Background(), l.Addr().String())
	fmt.Printf("%q %v\n", greeting, err)
	// Output: "220 mail.example.com" <nil>
}
