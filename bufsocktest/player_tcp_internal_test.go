//go:build linux

package bufsocktest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Everything is as with a TCP connection: the types of the errors, what they
// wrap, what they match and say. Other systems have other texts.
func TestPlayerFailsAsTCPDoes(t *testing.T) {
	type conn interface {
		net.Conn
		CloseRead() error
		CloseWrite() error
	}
	past := time.Unix(1, 0)
	calls := map[string]func(c conn) (int, error){
		"Read":            func(c conn) (int, error) { return c.Read(make([]byte, 1)) },
		"Read of nothing": func(c conn) (int, error) { return c.Read(nil) },
		"Write":           func(c conn) (int, error) { return c.Write([]byte("x")) },
		"Close":           func(c conn) (int, error) { return 0, c.Close() },
		"CloseRead":       func(c conn) (int, error) { return 0, c.CloseRead() },
		"CloseWrite":      func(c conn) (int, error) { return 0, c.CloseWrite() },
		"SetDeadline":     func(c conn) (int, error) { return 0, c.SetDeadline(time.Time{}) },
		"SetReadDeadline": func(c conn) (int, error) { return 0, c.SetReadDeadline(past) },
	}
	for before, prepare := range map[string]func(c conn){
		"nothing":          func(c conn) {},
		"a deadline":       func(c conn) { c.SetDeadline(past) },
		"a read deadline":  func(c conn) { c.SetReadDeadline(past) },
		"a write deadline": func(c conn) { c.SetWriteDeadline(past) },
		"a lifted one":     func(c conn) { c.SetDeadline(past); c.SetDeadline(time.Time{}) },
		"CloseRead":        func(c conn) { c.CloseRead() },
		"CloseWrite":       func(c conn) { c.CloseWrite() },
		"Close":            func(c conn) { c.Close() },
	} {
		for name, call := range calls {
			if before == "CloseWrite" && (name == "CloseRead" || name == "CloseWrite") {
				continue // both ends have ended, and the kernel has nothing left to close
			}
			t.Run(name+" after "+before, func(t *testing.T) {
				tcp := endedTCP(t)
				p := newPlayer(0, []step{{err: io.EOF}})
				prepare(tcp)
				prepare(p)
				n, want := call(tcp)
				m, got := call(p)
				require.Equal(t, n, m)
				require.Equal(t, describe(want, tcp), describe(got, p))
			})
		}
	}
}

// endedTCP returns a connection whose peer has sent the end of the stream.
func endedTCP(t *testing.T) *net.TCPConn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	peer, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, peer.(*net.TCPConn).CloseWrite())
	t.Cleanup(func() { c.Close(); peer.Close() })
	return c.(*net.TCPConn)
}

// describe tells what there is to say of an error, but for addresses.
func describe(err error, c net.Conn) []string {
	var all []string
	for ; err != nil; err = errors.Unwrap(err) {
		e, isNetError := err.(net.Error)
		all = append(all, fmt.Sprintf("%T %v %v %v", err, isNetError && e.Timeout(),
			errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed)))
		if op, ok := err.(*net.OpError); ok {
			own := op.Source != nil && op.Source.String() == c.LocalAddr().String()
			peer := op.Addr != nil && op.Addr.String() == c.RemoteAddr().String()
			self := op.Addr != nil && op.Addr.String() == c.LocalAddr().String()
			all = append(all, fmt.Sprint(op.Op, op.Net, own, peer, self, op.Err))
		}
	}
	return all
}
