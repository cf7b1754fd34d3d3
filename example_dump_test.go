package bufsock_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"github.com/bufsock/bufsock"
)

// A dump is a connection that tells what goes over it. It passes the half-closes
// on, which it would hide otherwise. It costs what a type around a connection
// costs: the socket cannot try the descriptor without waiting, holds up to 512
// bytes while it waits, and sets deadlines on it for each wait.
type dump struct {
	net.Conn
	to io.Writer
}

func (d dump) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	fmt.Fprintf(d.to, "< %q\n", p[:n])
	if err != nil {
		fmt.Fprintf(d.to, "< %v\n", err)
	}
	return n, err
}

func (d dump) Write(p []byte) (int, error) {
	n, err := d.Conn.Write(p)
	fmt.Fprintf(d.to, "> %q\n", p[:n])
	if err != nil {
		fmt.Fprintf(d.to, "> %v\n", err)
	}
	return n, err
}

func (d dump) CloseWrite() error {
	if c, ok := d.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (d dump) CloseRead() error {
	if c, ok := d.Conn.(interface{ CloseRead() error }); ok {
		return c.CloseRead()
	}
	return errors.ErrUnsupported
}

// What goes over the wire is seen by a connection around the connection.
func Example_wireDump() {
	conn, peer := loopback()
	io.WriteString(peer, "220 mail.example.com\r\n")
	s := bufsock.NewBufferedSocket(dump{conn, os.Stdout})
	if _, err := s.RecvUntil([]byte("\r\n")); err != nil {
		log.Fatal(err)
	}
	s.Send([]byte("QUIT\r\n"))
	io.ReadFull(peer, make([]byte, len("QUIT\r\n")))
	peer.Close()
	s.Shutdown()
	// Output:
	// < "220 mail.example.com\r\n"
	// > "QUIT\r\n"
	// < ""
	// < EOF
}
