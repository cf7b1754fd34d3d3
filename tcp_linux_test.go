package bufsock_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A reset of which the kernel has told somebody else, as it does once, is known
// by the bytes that it counts, also if some were read before the socket. Kernels
// that are emulated do not count.
func TestAResetThatTheKernelHasToldOf(t *testing.T) {
	outcome := func(before int, unread string) error {
		local, remote := tcpPair(t)
		_, err := io.WriteString(remote, strings.Repeat("S", before)+unread)
		require.NoError(t, err)
		_, err = io.ReadFull(local, make([]byte, before))
		require.NoError(t, err)
		s := bufsock.NewBufferedSocket(local)
		_, err = io.WriteString(remote, "half")
		require.NoError(t, err)
		_, err = s.Peek(len(unread) + len("half"))
		require.NoError(t, err)
		breakOff(t, remote)
		takeError(t, local)
		_, first := s.RecvClose()
		_, again := s.RecvClose()
		require.Equal(t, errors.Is(first, syscall.ECONNRESET), errors.Is(again, syscall.ECONNRESET))
		return again
	}
	known := errors.Is(outcome(0, ""), syscall.ECONNRESET)
	if runtime.GOARCH == "amd64" {
		require.True(t, known)
	}
	for _, before := range []int{0, 1, 2, 70_000} {
		for _, unread := range []string{"", "unread "} {
			require.Equal(t, known, errors.Is(outcome(before, unread), syscall.ECONNRESET), "%d bytes before", before)
		}
	}
}

// An end is one, whatever was read before the socket.
func TestAnEndBehindBytesFromBefore(t *testing.T) {
	for _, before := range []int{0, 1, 2} {
		for _, ended := range []bool{false, true} { // before the socket is
			local, remote := tcpPair(t)
			_, err := io.WriteString(remote, strings.Repeat("S", before)+"whole")
			require.NoError(t, err)
			_, err = io.ReadFull(local, make([]byte, before))
			require.NoError(t, err)
			if ended {
				require.NoError(t, remote.Close())
			}
			s := bufsock.NewBufferedSocket(local)
			if !ended {
				require.NoError(t, remote.Close())
			}
			require.NoError(t, s.CloseWrite()) // it looks dead then
			msg, err := s.RecvClose()
			require.NoError(t, err)
			require.Equal(t, "whole", string(msg))
		}
	}
}

// takeError takes the error of a reset out of the kernel, once it is there.
func takeError(t *testing.T, conn net.Conn) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	for code := 0; code == 0; {
		require.NoError(t, raw.Control(func(fd uintptr) {
			code, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		}))
		require.NoError(t, err)
	}
}
