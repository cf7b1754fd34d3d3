package connections

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// half receives the first half of a message, of which no more will come.
func half(t *testing.T, k *kind, l *link) *bufsock.BufferedSocket {
	s := k.socket(l.a)
	written := write(t, l.b, "half")
	mustEnd(t, "Peek", func() {
		got, err := s.Peek(4)
		require.NoError(t, err)
		require.Equal(t, "half", string(got))
	})
	written()
	return s
}

// requireBreak wants receives to return what had come, and then an error each time,
// which is neither an end nor a timeout.
func requireBreak(t *testing.T, s *bufsock.BufferedSocket, kept string) {
	t.Helper()
	receives := map[string]func() error{
		"RecvClose": func() error { _, err := s.RecvClose(); return err },
		"RecvSize":  func() error { _, err := s.RecvSize(100); return err },
		"RecvUntil": func() error { _, err := s.RecvUntil([]byte("\n")); return err },
	}
	for range 2 {
		requireEachBroken(t, receives)
	}
	require.Equal(t, kept, string(s.RecvBuffer()))
	requireRecv(t, s, kept)
	receives["Recv"] = func() error { _, err := s.Recv(1); return err }
	receives["Read"] = func() error { _, err := s.Read(make([]byte, 1)); return err }
	receives["WriteTo"] = func() error { _, err := io.Copy(&bytes.Buffer{}, s); return err }
	for range 2 {
		requireEachBroken(t, receives)
	}
}

func requireEachBroken(t *testing.T, receives map[string]func() error) {
	t.Helper()
	for name, receive := range receives {
		mustEnd(t, name, func() {
			err := receive()
			require.Error(t, err, name)
			require.NotEqual(t, io.EOF, err, name)
			require.NotErrorIs(t, err, net.ErrClosed, name)
			require.False(t, isDeadline(err), "%s: %v", name, err)
			_, ok := errors.AsType[*bufsock.ConnectionClosedError](err)
			require.False(t, ok, "%s: %v", name, err)
		})
	}
}

func brokenMetByReceive(t *testing.T, k *kind, l *link) {
	s := half(t, k, l)
	l.breakOff()
	requireBreak(t, s, "half")
}

// brokenMetBySend: the kernel gives the error to the send, and then reports an
// end to reads.
func brokenMetBySend(t *testing.T, k *kind, l *link) {
	s := half(t, k, l)
	l.breakOff()
	mustEnd(t, "Send", func() {
		var err error
		for err == nil {
			_, err = s.Send([]byte("x"))
		}
		require.False(t, isDeadline(err), "%v", err)
		require.NotErrorIs(t, err, bufsock.ErrBroken)
	})
	requireBroken(t, s, true)
	requireBreak(t, s, "half")
}

// An endlessReader has bytes as long as they are wanted.
type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) {
	n := min(len(p), chunk)
	clear(p[:n])
	return n, nil
}

func brokenMetByReadFrom(t *testing.T, k *kind, l *link) {
	s := half(t, k, l)
	l.breakOff()
	mustEnd(t, "io.Copy", func() {
		_, err := io.Copy(s, endlessReader{})
		require.Error(t, err)
	})
	requireBreak(t, s, "half")
}

func brokenMetByWriteTo(t *testing.T, k *kind, l *link) {
	s := half(t, k, l)
	l.breakOff()
	var got bytes.Buffer
	mustEnd(t, "io.Copy", func() {
		_, err := io.Copy(&got, s)
		require.Error(t, err)
	})
	require.Equal(t, "half", got.String())
	requireBreak(t, s, "")
}

// brokenOtherwise: what the connection says to be an end is one.
func brokenOtherwise(t *testing.T, k *kind, l *link) {
	s := half(t, k, l)
	if l.breakOff == nil {
		require.NoError(t, l.b.Close())
		if k.has(otherEnd) {
			requireBreak(t, s, "half")
			return
		}
	} else {
		l.breakOff()
	}
	mustEnd(t, "receives", func() {
		got, err := s.RecvClose(forEver)
		if err != nil { // now and then it reports more
			got = s.RecvBuffer()
		}
		require.Equal(t, "half", string(got))
	})
}
