//go:build unix

package bufsock_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResetComesAsItIsAndAgain(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	s := bufsock.NewBufferedSocket(&wire{reads: []read{{"a\nb", reset}}})
	msg, err := s.RecvUntil([]byte("\n"))
	require.NoError(t, err)
	require.Equal(t, "a", string(msg))
	for range 2 { // the script would go on with io.EOF, as a kernel does
		_, err = s.RecvUntil([]byte("\n"))
		require.True(t, err == error(reset), "%v", err)
		_, err = s.RecvClose()
		require.True(t, err == error(reset), "%v", err)
	}
	require.Equal(t, "b", string(s.RecvBuffer()))
}

// A descriptor may have been made blocking, so that nothing but the peer ends a
// call. Behind Close it ends with net.ErrClosed all the same, and not with the reset
// that it has met.
func TestCallsOnABlockingDescriptorEndBehindClose(t *testing.T) {
	for name, call := range map[string]func(*bufsock.BufferedSocket) error{
		"Send":          func(s *bufsock.BufferedSocket) error { _, err := s.Send(make([]byte, 1000)); return err },
		"Send of much":  func(s *bufsock.BufferedSocket) error { _, err := s.Send(make([]byte, 100_000)); return err },
		"Write":         func(s *bufsock.BufferedSocket) error { _, err := s.Write(make([]byte, 1000)); return err },
		"Buffer, Flush": func(s *bufsock.BufferedSocket) error { return errors.Join(s.Buffer(make([]byte, 1000)), s.Flush()) },
		"RecvSize":      func(s *bufsock.BufferedSocket) error { _, err := s.RecvSize(1); return err },
		"Read":          func(s *bufsock.BufferedSocket) error { _, err := s.Read(make([]byte, 1)); return err },
		"RecvClose":     func(s *bufsock.BufferedSocket) error { _, err := s.RecvClose(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			local, remote := blockingPair(t)
			s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(bufsock.NoTimeout))
			result := make(chan error, 1)
			go func() {
				var err error
				for err == nil {
					err = call(s)
				}
				result <- err
			}()
			time.Sleep(20 * time.Millisecond) // if that is too short, less is tested
			closed := make(chan error, 1)
			go func() { closed <- s.Close() }() // waits for the call, too
			require.Eventually(t, func() bool {
				return errors.Is(s.SetReadDeadline(time.Time{}), net.ErrClosed) && errors.Is(s.SetWriteDeadline(time.Time{}), net.ErrClosed)
			}, 10*time.Second, time.Millisecond)
			require.NoError(t, remote.Close())
			require.ErrorIs(t, <-result, net.ErrClosed)
			require.NoError(t, <-closed)
		})
	}
}

// blockingPair returns a connection whose descriptor is blocking, and its peer, at
// which bytes wait, so that its Close is a reset.
func blockingPair(t *testing.T) (local *net.UnixConn, remote net.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	var ends [2]net.Conn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socketpair")
		ends[i], err = net.FileConn(file)
		require.NoError(t, err)
		require.NoError(t, file.Close())
	}
	local, remote = ends[0].(*net.UnixConn), ends[1]
	_, err = local.Write([]byte("unread"))
	require.NoError(t, err)
	raw, err := local.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = syscall.SetNonblock(int(fd), false) }))
	require.NoError(t, err)
	t.Cleanup(func() { remote.Close() })
	return local, remote
}

func TestHalfClose(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		blocked := make(chan error)
		go func() { _, err := s.RecvUntil(lf); blocked <- err }()
		require.NoError(t, s.Buffer([]byte("unsent")))
		require.NoError(t, s.CloseWrite())
		rest, err := io.ReadAll(remote)
		require.NoError(t, err)
		require.Empty(t, rest, "the send buffer is not flushed")
		_, err = remote.Write([]byte("answer\n"))
		require.NoError(t, err)
		require.NoError(t, <-blocked, "the other side goes on")
		require.ErrorIs(t, s.Flush(), syscall.EPIPE)
		require.Equal(t, "unsent", string(s.SendBuffer()))

		_, err = remote.Write([]byte("kept"))
		require.NoError(t, err)
		_, err = s.Peek(4)
		require.NoError(t, err)
		require.NoError(t, s.CloseRead())
		_, err = s.RecvUntil(lf)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		_, err = s.RecvClose()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "the end of the peer's stream was not seen")
		require.IsType(t, (*bufsock.ConnectionClosedError)(nil), err)
		msg, err := s.Recv(10)
		require.NoError(t, err, "what had come")
		require.Equal(t, "kept", string(msg))
		_, err = s.Recv(10)
		require.Equal(t, io.EOF, err)
	})
}

func TestResetIsNotAnEnd(t *testing.T) {
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local)
	_, err := remote.Write([]byte("abc"))
	require.NoError(t, err)
	_, err = s.Peek(3)
	require.NoError(t, err)
	require.NoError(t, remote.(*net.TCPConn).SetLinger(0))
	remote.Close()
	for range 3 {
		_, err = s.RecvUntil(lf)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.IsType(t, (*net.OpError)(nil), err)
		_, err = s.RecvClose()
		require.ErrorIs(t, err, syscall.ECONNRESET, "the kernel would say io.EOF the second time")
	}
	require.Equal(t, "abc", string(s.RecvBuffer()))
}

// Nor is it for receives after a send has met it: a kernel reports it once.
func TestResetThatASendMetIsNotAnEnd(t *testing.T) {
	for name, send := range map[string]func(s *bufsock.BufferedSocket) error{
		"Send":    func(s *bufsock.BufferedSocket) error { _, err := s.Send([]byte("x")); return err },
		"of much": func(s *bufsock.BufferedSocket) error { _, err := s.Send(make([]byte, 100_000)); return err },
		"Write":   func(s *bufsock.BufferedSocket) error { _, err := s.Write([]byte("x")); return err },
	} {
		t.Run(name, func(t *testing.T) {
			local, remote := tcpPair(t)
			s := bufsock.NewBufferedSocket(local)
			_, err := remote.Write([]byte("half of a mess"))
			require.NoError(t, err)
			require.NoError(t, remote.(*net.TCPConn).SetLinger(0))
			require.NoError(t, remote.Close())
			for err == nil {
				err = send(s)
			}
			require.ErrorIs(t, err, syscall.ECONNRESET)
			_, err = s.Peek(len("half of a mess"))
			require.NoError(t, err, "what came before")
			for range 2 {
				msg, err := s.RecvClose()
				require.ErrorIs(t, err, syscall.ECONNRESET)
				require.Empty(t, msg)
				_, err = s.RecvUntil(lf)
				require.ErrorIs(t, err, syscall.ECONNRESET)
			}
			n, err := s.Read(make([]byte, 100))
			require.NoError(t, err)
			require.Equal(t, 14, n)
			_, err = s.Read(make([]byte, 100))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			other, _ := tcpPair(t)
			_, err = s.WriteTo(other)
			require.ErrorIs(t, err, syscall.ECONNRESET, "a copy finds no end, either")
			if name == "Write" { // nothing is unsent: another connection has an end of its own
				require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return segments("x"), nil }))
				msg, err := s.RecvClose()
				require.NoError(t, err)
				require.Equal(t, "x", string(msg))
			}
		})
	}
}

func TestSyscallConn(t *testing.T) {
	sockets(t, func(t *testing.T, local, _ net.Conn) {
		raw, err := bufsock.NewBufferedSocket(local).SyscallConn()
		require.NoError(t, err)
		called := false
		require.NoError(t, raw.Control(func(uintptr) { called = true }))
		require.True(t, called)
	})
}

// A reset that a copy by the kernel meets is not forgotten, and one of the other
// connection is not taken for it.
func TestResetDuringACopy(t *testing.T) {
	for _, mine := range []bool{true, false} {
		local, remote := tcpPair(t)
		to, far := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		copied := make(chan error)
		go func() { _, err := io.Copy(to, s); copied <- err }()
		_, err := remote.Write([]byte("x"))
		require.NoError(t, err)
		_, err = io.ReadFull(far, make([]byte, 1)) // the kernel is at it
		require.NoError(t, err)
		broken := far
		if mine {
			broken = remote
		}
		require.NoError(t, broken.(*net.TCPConn).SetLinger(0))
		require.NoError(t, broken.Close())
		if mine {
			require.ErrorIs(t, <-copied, syscall.ECONNRESET)
			_, err = s.Recv(1)
			require.ErrorIs(t, err, syscall.ECONNRESET, "not io.EOF")
			continue
		}
		for {
			_, err := remote.Write([]byte("y"))
			require.NoError(t, err)
			select {
			case err := <-copied:
				require.Error(t, err)
			default:
				continue
			}
			break
		}
		_, err = remote.Write([]byte("z"))
		require.NoError(t, err)
		_, err = s.Recv(1)
		require.NoError(t, err, "this connection is well")
	}
}

func TestErrorsOfTheDescriptorNameTheOperation(t *testing.T) {
	local, remote := tcpPair(t)
	require.NoError(t, remote.(*net.TCPConn).SetLinger(0))
	require.NoError(t, remote.Close())
	s := bufsock.NewBufferedSocket(local)
	_, err := s.Recv(1)
	require.IsType(t, (*net.OpError)(nil), err)
	require.Equal(t, "read", err.(*net.OpError).Op)
	_, err = s.Send([]byte("x"))
	require.IsType(t, (*net.OpError)(nil), err)
	require.Equal(t, "write", err.(*net.OpError).Op)
}

func TestErrorsThatEndTheStream(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ECONNRESET, syscall.ECONNABORTED, syscall.ETIMEDOUT} {
		s := bufsock.NewBufferedSocket(&wire{reads: []read{{"", errno}}})
		for range 2 {
			_, err := s.Recv(1)
			require.Equal(t, errno, err)
		}
	}
}

// A buffered connection lets a test say how much the kernel shall hold: by
// default some kernels hold only 8 KiB for a Unix socket.
type buffered interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}

func TestNonBlockingReadsAllThatTheKernelHolds(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		payload := bytes.Repeat([]byte("0123456789abcdef"), 100_000/16)
		require.NoError(t, local.(buffered).SetReadBuffer(2*len(payload)))
		require.NoError(t, remote.(buffered).SetWriteBuffer(2*len(payload)))
		_, err := remote.Write(payload) // returns when the kernel holds it
		require.NoError(t, err)
		s := bufsock.NewBufferedSocket(local)
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		for i, opt := range []bufsock.Option{
			bufsock.WithTimeout(bufsock.NonBlocking),
			bufsock.WithContext(canceled), // bytes that have arrived win
		} {
			half := len(payload) / 2
			var opts []bufsock.Option
			if i == 1 {
				opts = append(opts, bufsock.AppendTo(make([]byte, 0, half)))
			}
			msg, err := s.RecvSize(half, append(opts, opt)...)
			require.NoError(t, err)
			require.Equal(t, payload[i*half:][:half], msg)
		}
	})
}

func TestNonBlockingFillsTheKernel(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
		n, err := s.Send(data, bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		require.Positive(t, n)
		require.Equal(t, len(data), n+len(s.SendBuffer()))
		require.Equal(t, err.(*bufsock.TimeoutError).Buffered, len(s.SendBuffer()))
		received := make(chan []byte)
		go func() {
			msg, _ := bufsock.NewBufferedSocket(remote).RecvSize(len(data), bufsock.WithTimeout(time.Minute))
			received <- msg
		}()
		require.NoError(t, s.Flush(bufsock.WithTimeout(time.Minute)))
		require.True(t, bytes.Equal(data, <-received))
	})
}

// However small the reads are, what the kernel holds is received: by one call,
// or by a few on a slow machine, each of which has tried for long.
func TestNonBlockingWithSmallReads(t *testing.T) {
	const size = 5000
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		_, err := remote.Write(make([]byte, size)) // returns when the kernel holds it
		require.NoError(t, err)
		s := bufsock.NewBufferedSocket(local, bufsock.WithReadSize(1))
		_, err = s.Peek(size, bufsock.WithTimeout(bufsock.NonBlocking))
		require.NoError(t, err, "however many reads that takes")
	})
}

// fullListener returns an address at which connecting does not end.
func fullListener(t *testing.T) string {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(fd, 0))
	name, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 100 {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			require.True(t, err.(net.Error).Timeout(), "%v", err)
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	require.Fail(t, "the queue of the listener does not fill")
	return ""
}

// An error that is no timeout of the call is the dialer's own, also if it says
// that it is a timeout.
func TestDialReturnsTheErrorOfTheDialer(t *testing.T) {
	resolver := net.DefaultResolver
	defer func() { net.DefaultResolver = resolver }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.ErrDeadlineExceeded}
	}}
	addresses := [][2]string{{"tcp", "name.bufsock.test:80"}}
	if runtime.GOOS == "linux" { // elsewhere it waits
		addresses = append(addresses, [2]string{"unix", fullUnixListener(t)})
	}
	for _, a := range addresses {
		for _, timeout := range []time.Duration{time.Hour, bufsock.NoTimeout} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := bufsock.Dial(ctx, a[0], a[1], bufsock.WithTimeout(timeout))
			require.IsType(t, (*net.OpError)(nil), err)
			require.True(t, err.(net.Error).Timeout() || errors.Is(err, syscall.EAGAIN), "%v", err)
		}
	}
}

// fullUnixListener returns the name of a Unix listener whose queue is full.
func fullUnixListener(t *testing.T) string {
	dir, err := os.MkdirTemp("", "")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}))
	require.NoError(t, syscall.Listen(fd, 0))
	for range 100 {
		conn, err := net.Dial("unix", name)
		if err != nil {
			require.ErrorIs(t, err, syscall.EAGAIN)
			return name
		}
		t.Cleanup(func() { conn.Close() })
	}
	require.Fail(t, "the queue of the listener does not fill")
	return ""
}

func TestDialIsBounded(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // elsewhere a listener whose queue is full may refuse
	}
	address := fullListener(t)
	for timeout, text := range map[time.Duration]string{
		bufsock.NonBlocking:   "bufsock: Dial: would block (0 bytes buffered)",
		20 * time.Millisecond: "bufsock: Dial: timed out after 20ms (0 bytes buffered)",
	} {
		s, err := bufsock.Dial(t.Context(), "tcp", address, bufsock.WithTimeout(timeout))
		require.Nil(t, s)
		require.EqualError(t, err, text)
		require.Equal(t, timeout, err.(*bufsock.TimeoutError).After)
		require.Equal(t, timeout == 0, errors.Is(err, bufsock.ErrWouldBlock))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	_, err := bufsock.Dial(ctx, "tcp", address, bufsock.WithTimeout(20*time.Millisecond))
	require.EqualError(t, err, "bufsock: Dial: timed out after 20ms (0 bytes buffered)")

	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = bufsock.Dial(ctx, "tcp", address, bufsock.WithTimeout(bufsock.NoTimeout))
	require.EqualError(t, err, "bufsock: Dial: context deadline exceeded (0 bytes buffered)")
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = bufsock.Dial(announced{ctx, time.Now().Add(20 * time.Millisecond)}, "tcp", address, bufsock.WithTimeout(bufsock.NoTimeout))
	require.EqualError(t, err, "bufsock: Dial: context deadline exceeded (0 bytes buffered)")

	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = bufsock.Dial(ctx, "tcp", address, bufsock.WithTimeout(bufsock.NoTimeout))
	require.EqualError(t, err, "bufsock: Dial: canceled (0 bytes buffered): context canceled")
}

// An announced context has a deadline that passes before it is done, as that of
// any context may for a moment.
type announced struct {
	context.Context
	deadline time.Time
}

func (c announced) Deadline() (time.Time, bool) { return c.deadline, true }

// An eventful context does something when it is found to be done.
type eventful struct {
	context.Context
	event func()
}

func (c *eventful) Err() error {
	err := c.Context.Err()
	if err != nil && c.event != nil {
		c.event()
		c.event = nil
	}
	return err
}

// A call whose time is up looks once more for what has arrived.
func TestBytesThatArriveAtTheLastMomentWin(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		for op, call := range waiting {
			if strings.Contains("Send SendBuffers Flush WriteNetstring RecvClose Messages Tokens", op) {
				continue
			}
			ctx, cancel := context.WithCancel(t.Context())
			last := &eventful{ctx, func() {
				_, err := remote.Write([]byte("0:,\n\r\n"))
				assert.NoError(t, err)
				awaitReadable(t, local)
			}}
			time.AfterFunc(time.Millisecond, cancel)
			require.NoError(t, call(s, bufsock.WithContext(last), bufsock.WithTimeout(bufsock.NoTimeout)), op)
			_, err := s.Discard(s.Buffered())
			require.NoError(t, err)
		}
	})
}

// arrivedRecords returns a connection of TLS for which the kernel holds records,
// and nothing else.
func arrivedRecords(t *testing.T, records ...string) net.Conn {
	local, remote := tcpPair(t)
	require.NoError(t, local.(*net.TCPConn).SetReadBuffer(1<<20))
	written := 0
	serverConfig, clientConfig := tlsConfigs()
	server := tls.Server(&hooked{Conn: remote, write: func(p []byte) (int, error) {
		written += len(p)
		return remote.Write(p)
	}}, serverConfig)
	go server.Write([]byte("x"))
	client := tls.Client(local, clientConfig)
	_, err := io.ReadFull(client, make([]byte, 1)) // and the session ticket before it
	require.NoError(t, err)
	written = 0
	for _, record := range records {
		_, err := server.Write([]byte(record))
		require.NoError(t, err)
	}
	awaitArrived(t, local, written)
	return client
}

// awaitArrived waits until the kernel holds so many bytes.
func awaitArrived(t *testing.T, local net.Conn, size int) {
	raw, err := local.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	buf := make([]byte, size)
	require.NoError(t, raw.Read(func(fd uintptr) bool {
		n, _, _ := syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK)
		return n == size // else the kernel is at it
	}))
}

// Bytes that have arrived win over a cancellation, in however many records, and
// also if the handshake was done before the connection was wrapped.
func TestArrivedRecordsWinOverTheContext(t *testing.T) {
	s := bufsock.NewBufferedSocket(arrivedRecords(t, "a ", "li", "ne", "\n"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	msg, err := s.RecvUntil(lf, bufsock.WithContext(ctx))
	require.NoError(t, err)
	require.Equal(t, "a line", string(msg))
	_, err = s.RecvUntil(lf, bufsock.WithContext(ctx))
	require.ErrorIs(t, err, context.Canceled)
}

// However many they are: each takes a read, and there is time for all that a
// kernel holds.
func TestManyArrivedRecordsWinOverTheContext(t *testing.T) {
	const records, burst = 10_000, 50 * time.Millisecond
	s := bufsock.NewBufferedSocket(arrivedRecords(t, slices.Repeat([]string{"x"}, records)...))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := elapsed(func() error { _, err := s.Peek(records, bufsock.WithContext(ctx)); return err })
	if d < burst { // else the machine is busy with other things
		require.NoError(t, err)
	}
}

// A fading context is canceled when it is asked for the nth time.
type fading struct {
	context.Context
	n      int
	cancel context.CancelFunc
}

func (f *fading) Err() error {
	if f.n--; f.n == 0 {
		f.cancel()
	}
	return f.Context.Err()
}

// Nor does a cancel between two reads win over what has arrived.
func TestArrivedRecordsWinOverACancelBetweenTwoReads(t *testing.T) {
	for n := 1; n < 20; n++ {
		s := bufsock.NewBufferedSocket(arrivedRecords(t, "a ", "li", "ne", "\n"))
		ctx, cancel := context.WithCancel(t.Context())
		msg, err := s.RecvUntil(lf, bufsock.WithContext(&fading{ctx, n, cancel}))
		require.NoError(t, err, "at the question %d", n)
		require.Equal(t, "a line", string(msg))
		cancel()
	}
}

// Nor does an end that comes before the first read has begun.
func TestArrivedRecordsWinOverAnEndBeforeTheFirstRead(t *testing.T) {
	for range 20 {
		s := bufsock.NewBufferedSocket(arrivedRecords(t, "a ", "li", "ne", "\n"))
		msg, err := s.RecvUntil(lf, bufsock.WithTimeout(time.Nanosecond))
		require.NoError(t, err)
		require.Equal(t, "a line", string(msg))
	}
}

// That holds for a large message that is read straight into the caller's memory,
// too, whether its size is known or not.
func TestLargeMessagesThatArriveAtTheLastMomentWin(t *testing.T) {
	message := append(make([]byte, 80_000), '\n')
	for op, receive := range map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error{
		"RecvSize": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
			_, err := s.RecvSize(len(message), opts...)
			return err
		},
		"RecvUntil": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
			_, err := s.RecvUntil(lf, opts...)
			return err
		},
	} {
		t.Run(op, func(t *testing.T) {
			sockets(t, func(t *testing.T, local, remote net.Conn) {
				s := bufsock.NewBufferedSocket(local, bufsock.WithMaxSize(bufsock.NoLimit))
				const begun = 70_000
				go remote.Write(message[:begun])
				_, err := s.Peek(begun)
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				last := &eventful{ctx, func() {
					_, err := remote.Write(message[begun:])
					assert.NoError(t, err)
					awaitReadable(t, local)
				}}
				time.AfterFunc(time.Millisecond, cancel)
				dst := make([]byte, 0, 200_000)
				require.NoError(t, receive(s, bufsock.AppendTo(dst), bufsock.WithContext(last), bufsock.WithTimeout(bufsock.NoTimeout)))
			})
		})
	}
}

// awaitReadable returns when the kernel holds bytes for conn.
func awaitReadable(t *testing.T, conn net.Conn) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	for n := 0; n <= 0; runtime.Gosched() {
		require.NoError(t, raw.Control(func(fd uintptr) {
			n, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		}))
	}
}

// A message of which one part was read straight into dst when the time was up,
// and the other by the last look at what has arrived, is whole. A read ends
// behind bytes that a descriptor comes with.
func TestALastLookCompletesWhatWasReadDirectly(t *testing.T) {
	const half = 32 << 10
	message := bytes.Repeat([]byte("0123456789abcdef"), 2*half/16)
	for range 50 {
		local, remote := unixPair(t)
		_, _, err := remote.(*net.UnixConn).WriteMsgUnix(message[:half], syscall.UnixRights(syscall.Stdin), nil)
		require.NoError(t, err)
		_, err = remote.Write(message[half:])
		require.NoError(t, err)
		s := bufsock.NewBufferedSocket(local)
		msg, err := s.RecvSize(len(message), bufsock.AppendTo(make([]byte, 0, len(message))), bufsock.WithTimeout(1))
		require.NoError(t, err)
		require.True(t, bytes.Equal(message, msg), "not what was sent")
		require.Zero(t, s.Buffered())
		s.Close()
		remote.Close()
	}
}

// A large message that has come needs no flush before it is received, either, if
// it is read straight into dst.
func TestADirectReadOfWhatHasComeDoesNotFlush(t *testing.T) {
	const size = 60_000
	half := strings.Repeat("0123456789", size/20)
	tcp := func(t *testing.T) net.Conn {
		local, remote := tcpPair(t)
		require.NoError(t, local.(*net.TCPConn).SetReadBuffer(1<<20))
		_, err := io.WriteString(remote, half+half)
		require.NoError(t, err)
		awaitArrived(t, local, size)
		return local
	}
	tls := func(t *testing.T) net.Conn { return arrivedRecords(t, half, half) }
	for name, arrived := range map[string]func(*testing.T) net.Conn{"TCP": tcp, "TLS": tls} {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(arrived(t), bufsock.WithFlush())
			require.NoError(t, s.Buffer([]byte("answer")))
			msg, err := s.RecvSize(size, bufsock.AppendTo(make([]byte, 0, size)))
			require.NoError(t, err)
			require.True(t, string(msg) == half+half, "not what was sent")
			require.Equal(t, "answer", string(s.SendBuffer()))
		})
	}
}
