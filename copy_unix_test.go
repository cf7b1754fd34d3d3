//go:build unix

package bufsock_test

import (
	"bytes"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// cutByReset returns a socket whose peer has sent half a message and was gone
// with a reset, which a send has met.
func cutByReset(t *testing.T, transport transport) *bufsock.BufferedSocket {
	local, remote := transport.pair(t)
	s := bufsock.NewBufferedSocket(local)
	_, err := remote.Write([]byte("half a mess"))
	require.NoError(t, err)
	_, err = s.Peek(11)
	require.NoError(t, err)
	breakOff(t, remote)
	for err == nil {
		_, err = s.Write([]byte("x"))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
	return s
}

// A copy of what was cut is no success, whoever makes it and whatever it is
// written to.
func TestACopyOfACutStreamFails(t *testing.T) {
	targets := map[string]func(t *testing.T) (io.Writer, func() string){
		"a buffer": func(*testing.T) (io.Writer, func() string) { b := &bytes.Buffer{}; return b, b.String },
	}
	for name, transport := range map[string]transport{"TCP": {"TCP", tcpPair}, "Unix": {"Unix", unixPair}, "a wrapped TCP": wrappedTransport} {
		for kind, wrap := range map[string]func(net.Conn) io.WriteCloser{
			"connection": func(c net.Conn) io.WriteCloser { return c },
			"socket":     func(c net.Conn) io.WriteCloser { return bufsock.NewBufferedSocket(c) },
		} {
			targets[name+" "+kind] = func(t *testing.T) (io.Writer, func() string) {
				local, remote := transport.pair(t)
				w := wrap(local)
				return w, func() string {
					w.Close()
					b, err := io.ReadAll(remote)
					require.NoError(t, err)
					return string(b)
				}
			}
		}
	}
	for _, transport := range []transport{{"TCP", tcpPair}, wrappedTransport, {"TLS", tlsPair}} {
		for name, target := range targets {
			t.Run(transport.name+" to "+name, func(t *testing.T) {
				s := cutByReset(t, transport)
				w, got := target(t)
				n, err := io.Copy(w, s)
				require.ErrorIs(t, err, syscall.ECONNRESET)
				require.EqualValues(t, 11, n)
				_, err = io.Copy(w, s)
				require.ErrorIs(t, err, syscall.ECONNRESET, "again")
				require.Equal(t, "half a mess", got())
				_, err = s.Recv(1)
				require.ErrorIs(t, err, syscall.ECONNRESET)
			})
		}
	}
}

// The reset that a copy by the kernel meets at its target is not one of its
// source, and the reset of its source is not one of its target.
func TestAResetDuringACopyIsThatOfItsSide(t *testing.T) {
	type sides struct{ source, target *bufsock.BufferedSocket }
	for _, c := range copyings[:2] {
		for _, broken := range []string{"source", "target"} {
			t.Run(c.name+", reset of the "+broken, func(t *testing.T) {
				local, remote := tcpPair(t)
				to, far := tcpPair(t)
				s := sides{bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(to)}
				copied := make(chan error)
				go func() { _, err := c.call(s.source, s.target); copied <- err }()
				_, err := remote.Write([]byte("x"))
				require.NoError(t, err)
				_, err = io.ReadFull(far, make([]byte, 1)) // the copy is at it
				require.NoError(t, err)
				if broken == "source" {
					breakOff(t, remote)
					require.ErrorIs(t, <-copied, syscall.ECONNRESET)
					_, err = s.source.RecvClose()
					require.ErrorIs(t, err, syscall.ECONNRESET)
					_, err = s.target.Send([]byte("y"))
					require.NoError(t, err, "the target is well")
					_, err = io.ReadFull(far, make([]byte, 1))
					require.NoError(t, err)
					require.NoError(t, far.Close())
					_, err = s.target.RecvClose()
					require.NoError(t, err)
					return
				}
				breakOff(t, far)
				for err = nil; err == nil; { // once, most likely: bytes left would tell that the source is well
					_, e := remote.Write([]byte("y"))
					require.NoError(t, e)
					select {
					case err = <-copied:
					case <-time.After(100 * time.Millisecond):
					}
				}
				_, err = s.target.RecvClose()
				require.ErrorIs(t, err, syscall.ECONNRESET, "the target is reset")
				_, err = s.target.Send([]byte("x"))
				require.Error(t, err)
				require.NoError(t, remote.Close())
				_, err = s.source.RecvClose()
				require.NoError(t, err, "the source is well, and ends")
			})
		}
	}
}

// An error of a file that the kernel would copy from is none of the connection.
func TestErrorsOfAFileAreNotOfTheConnection(t *testing.T) {
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local)
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for name, r := range map[string]io.Reader{"a file": f, "a part of one": io.LimitReader(f, 10)} {
		_, err = s.ReadFrom(r)
		require.ErrorIs(t, err, os.ErrClosed, name)
	}
	_, err = s.Send([]byte("on"))
	require.NoError(t, err)
	on := make([]byte, 2)
	_, err = io.ReadFull(remote, on)
	require.NoError(t, err)
	require.Equal(t, "on", string(on))
}
