package bufsock_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/bufsock/bufsock"
)

// A message is preceded by its length, in two bytes. If it does not come in time
// nothing of it is consumed, and the same call goes on. The max size bounds
// whatever the peer announces.
func ExampleBufferedSocket_RecvFunc() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(10*time.Millisecond), bufsock.WithMaxSize(4096))
	defer s.Close()
	var message []byte
	read := func(m *bufsock.Message) error {
		header, err := m.Next(2)
		if err != nil {
			return err
		}
		body, err := m.Next(int(binary.BigEndian.Uint16(header)))
		message = bytes.Clone(body)
		return err
	}

	io.WriteString(peer, "\x00\x07a\r\nb")
	err := s.RecvFunc(read)
	fmt.Println("in time:", !errors.Is(err, os.ErrDeadlineExceeded))
	io.WriteString(peer, "\x00\r\n")
	err = s.RecvFunc(read, bufsock.WithTimeout(time.Minute))
	fmt.Printf("%q %v\n", message, err)
	// Output:
	// in time: false
	// "a\r\nb\x00\r\n" <nil>
}

// An MQTT packet is a byte, a size of seven bits in each byte, and so many bytes.
func ExampleMessage_ReadByte() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	peer.Write(append([]byte{0x30, 0xc8, 0x01}, bytes.Repeat([]byte("x"), 200)...))

	err := s.RecvFunc(func(m *bufsock.Message) error {
		kind, err := m.ReadByte()
		if err != nil {
			return err
		}
		size, err := binary.ReadUvarint(m)
		if err != nil {
			return err
		}
		if size > 1<<20 {
			return fmt.Errorf("a packet of %d bytes", size)
		}
		payload, err := m.Next(int(size))
		fmt.Printf("%#x: %d bytes\n", kind, len(payload))
		return err
	})
	fmt.Println(err)
	// Output:
	// 0x30: 200 bytes
	// <nil>
}

// Requests that came together are answered in one write, before the server waits
// for another.
func ExampleWithFlush() {
	conn, peer := loopback()
	io.WriteString(conn, "1\n2\n3\n")
	go func() {
		s := bufsock.NewBufferedSocket(peer, bufsock.WithFlush())
		for line, err := range s.Messages([]byte("\n")) {
			if err != nil {
				return
			}
			s.Buffer(fmt.Appendf(nil, "got %s\n", line))
		}
	}()
	answers := make([]byte, 100)
	n, err := io.ReadAtLeast(conn, answers, len("got 1\n")) // one read
	fmt.Printf("%q %v\n", answers[:n], err)
	conn.Close()
	// Output: "got 1\ngot 2\ngot 3\n" <nil>
}

// A server refuses a line and does not read the rest. Shutdown sees that the peer
// gets the reason, where Close could make the kernel reset the connection.
func ExampleBufferedSocket_Shutdown() {
	conn, peer := loopback()
	go func() {
		s := bufsock.NewBufferedSocket(peer, bufsock.WithMaxSize(100))
		if _, err := s.RecvUntil([]byte("\n")); err != nil {
			s.Send([]byte("line too long\n"))
		}
		s.Shutdown()
	}()
	conn.Write(bytes.Repeat([]byte("x"), 1<<20))
	answer, err := io.ReadAll(conn)
	fmt.Printf("%q %v\n", answer, err)
	conn.Close()
	// Output: "line too long\n" <nil>
}

// All words until the stream ends.
func ExampleBufferedSocket_Tokens() {
	conn, peer := loopback()
	s := bufsock.NewBufferedSocket(conn)
	defer s.Close()
	io.WriteString(peer, "to be  or\nnot")
	peer.Close()

	for word, err := range s.Tokens(bufio.ScanWords) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%q ", word)
	}
	// Output: "to" "be" "or" "not"
}
