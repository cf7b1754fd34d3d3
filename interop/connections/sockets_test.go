package connections

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// dial connects to l and returns both ends.
func dial(t testing.TB, l net.Listener) (client, server net.Conn) {
	dialed := make(chan net.Conn, 1)
	go func() {
		d := net.Dialer{}
		d.SetMultipathTCP(false)
		conn, err := d.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Error(err)
		}
		dialed <- conn
	}()
	server, err := l.Accept()
	require.NoError(t, err)
	client = <-dialed
	require.NotNil(t, client)
	closeLater(t, client, server)
	return client, server
}

func listen(t testing.TB, network, address string) net.Listener {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), network, address)
	require.NoError(t, err)
	closeLater(t, l)
	return l
}

// tcpPair returns two ends of a TCP connection whose buffers are small, so that
// sends soon block.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	client, server := dial(t, listen(t, "tcp", "127.0.0.1:0"))
	return small(t, client), small(t, server)
}

func small(t testing.TB, conn net.Conn) *net.TCPConn {
	tcp := conn.(*net.TCPConn)
	require.NoError(t, tcp.SetReadBuffer(32<<10))
	require.NoError(t, tcp.SetWriteBuffer(32<<10))
	return tcp
}

// resetTCP returns a function that resets the connection of b.
func resetTCP(b *net.TCPConn) func() {
	return func() {
		_ = b.SetLinger(0)
		_ = b.Close()
	}
}

func openTCP(t testing.TB) *link {
	a, b := tcpPair(t)
	return &link{a, b, resetTCP(b)}
}

// openMPTCP opens a connection of Multipath TCP, which Go's listeners take by
// default where the kernel can.
func openMPTCP(t testing.TB) *link {
	config := net.ListenConfig{}
	config.SetMultipathTCP(true)
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closeLater(t, l)
	dialer := net.Dialer{}
	dialer.SetMultipathTCP(true)
	client, err := dialer.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	closeLater(t, client, server)
	a, b := small(t, server), small(t, client)
	if is, err := a.MultipathTCP(); err != nil || !is {
		missing(t, "this kernel has no Multipath TCP")
	}
	return &link{a, b, resetTCP(b)}
}

// missing skips the test, or fails it where BUFSOCK_INTEROP=require is set.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("BUFSOCK_INTEROP") == "require" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// openUnix opens a connection of a Unix socket that is a file.
func openUnix(t testing.TB) *link {
	dir, err := os.MkdirTemp("", "")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return unixLink(dial(t, listen(t, "unix", filepath.Join(dir, "s"))))
}

var abstractNames atomic.Int32

// openAbstractUnix opens a connection of a Unix socket that has a name in no
// file system.
func openAbstractUnix(t testing.TB) *link {
	name := fmt.Sprintf("@bufsock-connections-%d-%d", os.Getpid(), abstractNames.Add(1))
	return unixLink(dial(t, listen(t, "unix", name)))
}

// unixLink breaks off as Unix sockets can: by a Close that leaves bytes unread.
func unixLink(client, server net.Conn) *link {
	return &link{server, client, func() {
		_, _ = server.Write([]byte("unread"))
		_ = client.Close()
	}}
}

func openSocketPair(t testing.TB) *link {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socketpair")
		ends[i], err = net.FileConn(file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
	closeLater(t, ends[0], ends[1])
	return unixLink(ends[0], ends[1])
}

// A filer is a connection that shows its descriptor as a file.
type filer interface{ File() (*os.File, error) }

// afterFile opens a connection, and then a file of it.
func afterFile(open func(testing.TB) *link) func(testing.TB) *link {
	return func(t testing.TB) *link {
		l := open(t)
		file, err := l.a.(filer).File()
		require.NoError(t, err)
		require.NoError(t, file.Close())
		return l
	}
}

// afterFd asks the file for its descriptor, too, which makes it, and that of the
// connection, blocking.
func afterFd(open func(testing.TB) *link) func(testing.TB) *link {
	return func(t testing.TB) *link {
		l := open(t)
		file, err := l.a.(filer).File()
		require.NoError(t, err)
		file.Fd()
		require.NoError(t, file.Close())
		// Nothing but the peer ends a blocked call, Close included.
		t.Cleanup(func() { l.b.Close() })
		return l
	}
}
