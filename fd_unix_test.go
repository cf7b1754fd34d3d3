//go:build unix

package bufsock_test

import (
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/bufsock/bufsock"
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
		msg, err := s.RecvClose()
		require.NoError(t, err)
		require.Equal(t, "kept", string(msg))
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
