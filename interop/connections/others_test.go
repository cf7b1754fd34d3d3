package connections

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudwego/netpoll"
	coder "github.com/coder/websocket"
	"github.com/creack/pty"
	"github.com/stretchr/testify/require"
	"go.bug.st/serial"
	"golang.org/x/net/websocket"
	"golang.org/x/sys/unix"
)

// A fileConn is a terminal as a net.Conn.
type fileConn struct{ *os.File }

type fileAddr string

func (a fileAddr) Network() string { return "tty" }
func (a fileAddr) String() string  { return string(a) }

func (c fileConn) LocalAddr() net.Addr  { return fileAddr(c.Name()) }
func (c fileConn) RemoteAddr() net.Addr { return fileAddr(c.Name()) }

// openPtyFiles returns the two ends of a pseudo terminal that takes all bytes as
// they are. Package pty leaves the descriptors blocking, so that deadlines would not
// work: these are copies that do not block.
func openPtyFiles(t testing.TB) (master, slave *os.File) {
	m, s, err := pty.Open()
	require.NoError(t, err)
	defer m.Close()
	defer s.Close()
	mode, err := unix.IoctlGetTermios(int(s.Fd()), unix.TCGETS)
	require.NoError(t, err)
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
	mode.Cflag = mode.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	mode.Cc[unix.VMIN], mode.Cc[unix.VTIME] = 1, 0
	require.NoError(t, unix.IoctlSetTermios(int(s.Fd()), unix.TCSETS, mode))
	reopen := func(f *os.File) *os.File {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.SetNonblock(fd, true))
		return os.NewFile(uintptr(fd), f.Name())
	}
	master, slave = reopen(m), reopen(s)
	closeLater(t, master, slave)
	return master, slave
}

func openPty(t testing.TB) *link {
	master, slave := openPtyFiles(t)
	return &link{a: fileConn{master}, b: fileConn{slave}}
}

// A serialConn is a serial port as a net.Conn. A port has a timeout for reads, which
// does not end one that has begun, so it waits in short steps; and nothing
// for writes.
type serialConn struct {
	serial.Port
	name fileAddr

	mu       sync.Mutex
	deadline time.Time
}

func (c *serialConn) LocalAddr() net.Addr  { return c.name }
func (c *serialConn) RemoteAddr() net.Addr { return c.name }

func (c *serialConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

func (c *serialConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

func (c *serialConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *serialConn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		step := 5 * time.Millisecond
		if !c.deadline.IsZero() {
			step = min(step, time.Until(c.deadline))
		}
		c.mu.Unlock()
		if step <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		if err := c.SetReadTimeout(step); err != nil {
			return 0, err
		}
		if n, err := c.Port.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
}

func openSerial(t testing.TB) *link {
	master, slave := openPtyFiles(t)
	port, err := serial.Open(slave.Name(), &serial.Mode{BaudRate: 115200})
	require.NoError(t, err)
	require.NoError(t, slave.Close())
	closeLater(t, port)
	return &link{a: &serialConn{Port: port, name: fileAddr(slave.Name())}, b: fileConn{master}}
}

// serveHTTP serves handler on a listener of its own.
func serveHTTP(t testing.TB, handler http.Handler) (address string) {
	l := smallListener(t)
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	closeLater(t, server)
	return l.Addr().String()
}

// dialSmall is for a client that makes its own connection: it returns a function that
// dials, and one that resets what was dialed.
func dialSmall(t testing.TB) (dialer func(ctx context.Context, network, address string) (net.Conn, error), reset func()) {
	var dialed *net.TCPConn
	dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := smallDialer{t}.DialContext(ctx, network, address)
		if err == nil {
			dialed = conn.(*net.TCPConn)
			closeLater(t, conn)
		}
		return conn, err
	}
	return dialer, func() { resetTCP(dialed)() }
}

func openWebsocket(t testing.TB) *link {
	conns, done := make(chan *websocket.Conn, 1), make(chan struct{})
	t.Cleanup(func() { close(done) })
	address := serveHTTP(t, websocket.Handler(func(conn *websocket.Conn) {
		conns <- conn
		<-done
	}))
	config, err := websocket.NewConfig("ws://"+address, "http://"+address)
	require.NoError(t, err)
	dialer, reset := dialSmall(t)
	below, err := dialer(context.Background(), "tcp", address)
	require.NoError(t, err)
	b, err := websocket.NewClient(config, below)
	require.NoError(t, err)
	a := <-conns
	a.PayloadType, b.PayloadType = websocket.BinaryFrame, websocket.BinaryFrame
	closeLater(t, a, b)
	return &link{a, b, reset}
}

func openCoderWebsocket(t testing.TB) *link {
	conns, done := make(chan *coder.Conn, 1), make(chan struct{})
	t.Cleanup(func() { close(done) })
	address := serveHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := coder.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
		}
		conns <- conn
		<-done
	}))
	dialer, reset := dialSmall(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, _, err := coder.Dial(ctx, "ws://"+address, &coder.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dialer}},
	})
	require.NoError(t, err)
	server := <-conns
	require.NotNil(t, server)
	t.Cleanup(func() { _, _ = client.CloseNow(), server.CloseNow() })
	background := context.Background()
	return &link{
		coder.NetConn(background, server, coder.MessageBinary),
		coder.NetConn(background, client, coder.MessageBinary),
		reset,
	}
}

func openNetpoll(t testing.TB) *link {
	l := smallListener(t)
	accepted := accepting(t, l.Accept)
	a, err := netpoll.DialConnection("tcp", l.Addr().String(), patience)
	require.NoError(t, err)
	b := accepted().(*net.TCPConn)
	require.NoError(t, unix.SetsockoptInt(a.(interface{ Fd() int }).Fd(), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 32<<10))
	closeLater(t, a, b)
	return &link{a, b, resetTCP(b)}
}
