package docs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net"
	"strings"
	"time"

	"github.com/bufsock/bufsock"
)

// Each example talks to the server of its name. What follows its snippet line
// is a Go block of boltons.md, to the letter.

// servers say what the server of each snippet does.
var servers = map[string][]turn{
	"lines": {{say: "220 mail.example.com\r\n250 OK\r\n.\r\n"}},
	"size":  {{say: "\x00\x00\x00\x05a\r\nb\x00"}},
	"close": {{say: "HTTP/1.0 200 OK\r\nServer: none\r\n\r\nhello"}, {hangUp: true}},
	"peek":  {{say: "PING\r\n"}},
	"send":  {{hear: "GET a\r\nGET b\r\nQUIT\r\n"}},
	"errors": {
		{say: "first\n" + strings.Repeat("x", 100) + "\nsec"},
		{hear: "NOOP\n", say: "ond\nunfin"},
		{hangUp: true},
	},
	"poll":       {{hear: "NEXT\n", say: "a line\n"}},
	"netstrings": {{hear: "8:question,", say: "6:answer,"}},
	"starttls":   {{hear: "STARTTLS\r\n", say: "220 go ahead\r\n"}, {startTLS: true}, {say: "250 this is TLS\r\n"}},
	"stop":       nil,
}

// check ends the program with an error, as an exception ends a Python program.
func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func Example_lines() {
	conn, end := connect("lines")
	defer end()
	// snippet:lines
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(5*time.Second), bufsock.WithMaxSize(512))
	defer s.Close()
	for {
		line, err := s.RecvUntil([]byte("\r\n"), bufsock.WithTimeout(30*time.Second))
		if err != nil {
			log.Fatal(err)
		}
		if string(line) == "." {
			break
		}
		fmt.Println(string(line))
	}
	// Output:
	// 220 mail.example.com
	// 250 OK
}

func Example_size() {
	conn, end := connect("size")
	defer end()
	// snippet:size
	s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(4+4096))
	var message []byte
	check(s.RecvFunc(func(m *bufsock.Message) error {
		header, err := m.Next(4)
		if err != nil {
			return err
		}
		body, err := m.Next(int(binary.BigEndian.Uint32(header)))
		message = bytes.Clone(body)
		return err
	}))
	fmt.Printf("%x\n", message)
	// Output: 610d0a6200
}

func Example_close() {
	conn, end := connect("close")
	defer end()
	// snippet:close
	s := bufsock.NewBufferedSocket(conn)
	_, err := s.RecvUntil([]byte("\r\n\r\n")) // the header
	check(err)
	body, err := s.RecvClose(bufsock.WithMaxSize(1 << 20))
	check(err)
	fmt.Println(string(body))
	// Output: hello
}

func Example_peek() {
	conn, end := connect("peek")
	defer end()
	// snippet:peek
	s := bufsock.NewBufferedSocket(conn)
	first, err := s.Peek(1)
	check(err)
	line, err := s.RecvUntil([]byte("\r\n"))
	check(err)
	if first[0] == '*' {
		fmt.Println("array of", string(line[1:]))
	} else {
		fmt.Println("inline", string(line))
	}
	// Output: inline PING
}

func Example_send() {
	conn, end := connect("send")
	defer end()
	// snippet:send
	s := bufsock.NewBufferedSocket(conn)
	check(s.Buffer([]byte("GET a\r\n")))
	check(s.Buffer([]byte("GET b\r\n")))
	fmt.Println(len(s.SendBuffer()), "bytes buffered")
	check(s.Flush())
	n, err := s.Send([]byte("QUIT\r\n"))
	check(err)
	fmt.Println(n, "bytes sent")
	// Output:
	// 14 bytes buffered
	// 6 bytes sent
}

func Example_errors() {
	conn, end := connect("errors")
	defer end()
	// snippet:errors
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(200*time.Millisecond), bufsock.WithMaxSize(64))
	for {
		line, err := s.RecvUntil([]byte("\n"))
		switch e := err.(type) {
		case nil:
			fmt.Println(string(line))
		case *bufsock.TimeoutError: // nothing is lost
			fmt.Println(e.Buffered, "bytes of a line so far")
			s.SetTimeout(5 * time.Second)
			_, err = s.Send([]byte("NOOP\n"))
			check(err)
		case *bufsock.MessageTooLongError: // skipped in bounded memory
			n, err := s.DiscardUntil([]byte("\n"))
			check(err)
			fmt.Println("skipped", n, "bytes")
		case *bufsock.ConnectionClosedError:
			fmt.Println("closed,", e.Buffered, "bytes left")
			return
		default:
			log.Fatal(err)
		}
	}
	// Output:
	// first
	// skipped 101 bytes
	// 3 bytes of a line so far
	// second
	// closed, 5 bytes left
}

func Example_poll() {
	conn, end := connect("poll")
	defer end()
	// snippet:poll
	s := bufsock.NewBufferedSocket(conn)
	_, err := s.RecvUntil([]byte("\n"), bufsock.WithTimeout(bufsock.NonBlocking))
	if errors.Is(err, bufsock.ErrWouldBlock) { // a *TimeoutError
		fmt.Println("no line yet")
	} else {
		check(err)
	}
	_, err = s.Send([]byte("NEXT\n"))
	check(err)
	_, err = s.Peek(1, bufsock.WithTimeout(5*time.Second)) // waits until there is a byte
	check(err)
	line, err := s.RecvUntil([]byte("\n"), bufsock.WithTimeout(bufsock.NonBlocking))
	check(err)
	fmt.Println(string(line))
	// Output:
	// no line yet
	// a line
}

func Example_netstrings() {
	conn, end := connect("netstrings")
	defer end()
	// snippet:netstrings
	ns := bufsock.NewNetstringSocket(conn, bufsock.WithTimeout(5*time.Second), bufsock.WithMaxSize(1000))
	check(ns.WriteNetstring([]byte("question")))
	payload, err := ns.ReadNetstring()
	check(err)
	fmt.Println(string(payload))
	// Output: answer
}

func Example_starttls() {
	conn, end := connect("starttls")
	defer end()
	config := &tls.Config{RootCAs: identity().roots, ServerName: serverName}
	// snippet:starttls
	s := bufsock.NewBufferedSocket(conn)
	_, err := s.Send([]byte("STARTTLS\r\n"))
	check(err)
	answer, err := s.RecvUntil([]byte("\r\n"))
	check(err)
	if !bytes.HasPrefix(answer, []byte("220 ")) {
		log.Fatal("no STARTTLS")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	check(s.Upgrade(func(conn net.Conn) (net.Conn, error) {
		t := tls.Client(conn, config)
		return t, t.HandshakeContext(ctx)
	})) // or ErrBufferedData, if plaintext came after the answer
	line, err := s.RecvUntil([]byte("\r\n"))
	check(err)
	fmt.Println(string(line))
	// Output: 250 this is TLS
}

func Example_stop() {
	conn, end := connect("stop")
	defer end()
	// snippet:stop
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(bufsock.NoTimeout))
	go s.Close()
	_, err := s.RecvUntil([]byte("\n"))
	if !errors.Is(err, net.ErrClosed) { // not closed here, but by the peer
		log.Fatal(err)
	}
	fmt.Println("stopped")
	// Output: stopped
}
