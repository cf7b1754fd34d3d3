package bufsock_test

import (
	"bytes"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A copy that passes through the receive buffer has bytes there while its
// destination is stalled; one that the kernel makes has none.
func TestKernelCopiesAfterTheBufferIsDrained(t *testing.T) {
	wrap := func(conn net.Conn) io.Writer { return bufsock.NewBufferedSocket(conn) }
	bare := func(conn net.Conn) io.Writer { return conn }
	type pair = func(testing.TB) (net.Conn, net.Conn)
	for name, test := range map[string]struct {
		from, to pair
		writer   func(net.Conn) io.Writer
	}{
		"TCP to TCP":       {tcpPair, tcpPair, wrap},
		"TCP to bare TCP":  {tcpPair, tcpPair, bare},
		"TCP to bare Unix": {tcpPair, unixPair, bare},
		"Unix to TCP":      {unixPair, tcpPair, wrap},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits to be stalled
			source, from := test.from(t)
			to, target := test.to(t)
			s := bufsock.NewBufferedSocket(from)

			sent := []byte("header\nbody behind it")
			_, err := source.Write(sent)
			require.NoError(t, err)
			_, err = s.RecvUntil([]byte("\n"))
			require.NoError(t, err)
			require.NotZero(t, s.Buffered())
			copied := make(chan error, 1)
			go func() {
				_, err := io.Copy(test.writer(to), s)
				copied <- err
				to.Close()
			}()

			block := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
			require.NoError(t, source.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
			for err == nil {
				var n int
				n, err = source.Write(block)
				sent = append(sent, block[:n]...)
			}
			assert.Zero(t, s.Buffered(), "while the destination is stalled")

			require.NoError(t, source.Close())
			got, err := io.ReadAll(target)
			require.NoError(t, err)
			require.NoError(t, <-copied)
			require.True(t, bytes.Equal(sent[len("header\n"):], got), "the bytes differ")
		})
	}
}

// A copy that ends because its destination is broken leaves the source as it is,
// open or at its end.
func TestCopiesThatBreakAtTheDestination(t *testing.T) {
	for name, tt := range map[string]struct {
		want  error
		ended bool
	}{
		"reset":                         {syscall.ECONNRESET, false},
		"broken":                        {syscall.EPIPE, false},
		"broken, the source at its end": {syscall.EPIPE, true},
	} {
		t.Run(name, func(t *testing.T) {
			source, from := tcpPair(t)
			to, target := tcpPair(t)
			require.NoError(t, target.(*net.TCPConn).SetLinger(0))
			require.NoError(t, target.Close())
			if tt.want == syscall.EPIPE { // the kernel tells of the reset once
				_, err := to.Read(make([]byte, 1))
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			_, err := source.Write([]byte("x")) // which the copy loses
			require.NoError(t, err)
			if tt.ended {
				require.NoError(t, source.Close())
			}
			s := bufsock.NewBufferedSocket(from, bufsock.WithTimeout(time.Minute))
			_, err = s.WriteTo(to)
			require.ErrorIs(t, err, tt.want)
			if tt.ended {
				_, err = s.Recv(1)
				require.Equal(t, io.EOF, err)
				return
			}
			_, err = source.Write([]byte("y"))
			require.NoError(t, err)
			msg, err := s.Recv(1)
			require.NoError(t, err)
			require.Equal(t, "y", string(msg))
		})
	}
}

// Of a copy that the kernel makes from a Unix socket the state of the target tells
// whose an error is.
func TestAResetOfAUnixSocketThatACopyMet(t *testing.T) {
	for name, copyTo := range map[string]func(s *bufsock.BufferedSocket, target net.Conn) (int64, error){
		"WriteTo a socket": func(s *bufsock.BufferedSocket, target net.Conn) (int64, error) {
			return s.WriteTo(bufsock.NewBufferedSocket(target))
		},
		"WriteTo a connection": func(s *bufsock.BufferedSocket, target net.Conn) (int64, error) { return s.WriteTo(target) },
		"ReadFrom of the target": func(s *bufsock.BufferedSocket, target net.Conn) (int64, error) {
			return bufsock.NewBufferedSocket(target).ReadFrom(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			local, remote := unixPair(t)
			target, end := tcpPair(t)
			go io.Copy(io.Discard, end)
			s := bufsock.NewBufferedSocket(local)
			_, err := s.Send([]byte("never read"))
			require.NoError(t, err)
			_, err = remote.Write([]byte("hello"))
			require.NoError(t, err)
			require.NoError(t, remote.Close())
			_, met := copyTo(s, target)
			require.Error(t, met)
			for range 2 {
				_, err = s.RecvClose()
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
		})
	}
}
