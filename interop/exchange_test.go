package interop_test

import (
	"io"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// dial connects to a program, or to a relay.
func dial(t *testing.T, addr string, opts ...bufsock.Option) *bufsock.BufferedSocket {
	t.Helper()
	s, err := bufsock.Dial(t.Context(), "tcp", addr, append([]bufsock.Option{bufsock.WithTimeout(patience)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// An exchange is what a program answers to something that is sent to it, and
// whether it then ends the connection.
type exchange struct {
	name, send, want string
	ends             bool
}

// check sends on a new connection and compares the answer. If that is not the
// end, what comes next is the answer to probe, so that there was no other.
func (x exchange) check(t *testing.T, s *bufsock.BufferedSocket, probe, answer string) {
	t.Helper()
	_, err := s.Send([]byte(x.send))
	require.NoError(t, err, x.name)
	got, err := s.RecvSize(len(x.want))
	require.NoError(t, err, "%s: %.80q", x.name, s.RecvBuffer())
	require.Equal(t, x.want, string(got), x.name)
	if x.ends {
		_, err = s.Recv(1)
		require.ErrorIs(t, err, io.EOF, x.name)
		return
	}
	_, err = s.Send([]byte(probe))
	require.NoError(t, err, x.name)
	got, err = s.RecvSize(len(answer))
	require.NoError(t, err, "%s: %.80q", x.name, s.RecvBuffer())
	require.Equal(t, answer, string(got), x.name)
}

// requireSilence holds that nothing comes for a while.
func requireSilence(t *testing.T, s *bufsock.BufferedSocket) {
	t.Helper()
	got, err := s.Peek(1, bufsock.WithTimeout(100*time.Millisecond))
	_, ok := err.(*bufsock.TimeoutError)
	require.True(t, ok, "%q, %v", got, err)
}
