package bufsock_test

import (
	"bytes"
	"io"
	"net"
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
