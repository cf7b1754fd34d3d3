package connections

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// deadlineOfAnother: a deadline ends calls that have begun, of either family,
// and none after it has been taken back.
func deadlineOfAnother(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	time.AfterFunc(short, func() { _ = s.SetReadDeadline(time.Now()) })
	mustEnd(t, "Read", func() {
		_, err := s.Read(make([]byte, 1))
		require.True(t, isTimeout(err) || k.has(otherTimeout), "%T: %v", err, err)
		_, err = s.RecvSize(1)
		k.requireTimedOut(t, err)
	})
	if k.has(readTimeoutEnds) {
		require.NoError(t, s.SetReadDeadline(time.Time{}))
		requireOver(t, s)
		return
	}
	require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour)))
	time.AfterFunc(short, func() { _ = s.SetReadDeadline(time.Now()) })
	mustEnd(t, "RecvSize", func() {
		_, err := s.RecvSize(1, forEver)
		requireTimeout(t, err)
	})
	require.NoError(t, s.SetReadDeadline(time.Time{}))
	write(t, l.b, "half")
	requireRecv(t, s, "half")
	switch {
	case k.has(noWriteDeadlines):
		require.Error(t, s.SetWriteDeadline(time.Now()))
		return
	case k.has(writeNotWoken):
		return // TestLimits shows it
	}
	time.AfterFunc(moment, func() { _ = s.SetWriteDeadline(time.Now()) })
	_, err := writeChunks(t, s, make([]byte, large))
	require.True(t, isTimeout(err), "%T: %v", err, err)
}

func deadlineOfAnotherOtherwise(t *testing.T, k *kind, l *link) {
	s := bufsock.NewBufferedSocket(l.a, forEver)
	if k.has(noReadDeadlines) {
		require.Error(t, s.SetReadDeadline(time.Now()))
		require.Error(t, s.SetWriteDeadline(time.Now()))
		write(t, l.b, "half")
		requireRecv(t, s, "half")
		return
	}
	result := make(chan error, 1)
	go func() {
		_, err := s.Peek(1)
		result <- err
	}()
	time.Sleep(short)
	mustEnd(t, "SetReadDeadline", func() { _ = s.SetReadDeadline(time.Now()) })
	write(t, l.b, "half")
	mustEnd(t, "a receive that has something", func() {
		if err := <-result; err != nil {
			requireTimeout(t, err)
		}
	})
	require.NoError(t, s.SetReadDeadline(time.Time{}))
	requireRecv(t, s, "half")
}

// deadlinesBefore: what was set before a socket was put around the connection, by a
// server that read a header, say, does not end the socket's calls.
func deadlinesBefore(t *testing.T, k *kind, l *link) {
	for name, deadline := range map[string]time.Duration{"passed": -time.Hour, "near": short} {
		for method, receive := range map[string]func(*bufsock.BufferedSocket, []byte) (int, error){
			"RecvSize": func(s *bufsock.BufferedSocket, p []byte) (int, error) {
				got, err := s.RecvSize(len(p))
				return copy(p, got), err
			},
			"Read": func(s *bufsock.BufferedSocket, p []byte) (int, error) { return io.ReadFull(s, p) },
		} {
			setBoth(t, k, l.a, time.Now().Add(deadline))
			s := k.socket(l.a)
			time.AfterFunc(2*short, func() { _, _ = l.b.Write([]byte("half")) })
			mustEnd(t, method, func() {
				p := make([]byte, 4)
				_, err := receive(s, p)
				require.NoError(t, err, "%s, deadline %s", method, name)
				require.Equal(t, "half", string(p))
			})
		}
		setBoth(t, k, l.a, time.Now().Add(deadline))
		s := k.socket(l.a)
		time.Sleep(2 * short)
		sent := make(chan error, 1)
		go func() {
			_, err := s.Send([]byte("sent"))
			sent <- err
		}()
		requireRead(t, l.b, "sent")
		mustEnd(t, "Send", func() { require.NoError(t, <-sent) })
	}
}

func setBoth(t *testing.T, k *kind, conn net.Conn, deadline time.Time) {
	require.NoError(t, conn.SetReadDeadline(deadline))
	if !k.has(noWriteDeadlines) {
		require.NoError(t, conn.SetWriteDeadline(deadline))
	}
	if time.Until(deadline) < 0 {
		time.Sleep(short) // some kinds have a timer, which is to have run
	}
}

// deadlinesBeforeOtherwise: there can be none, or they are not kept, or have ended the
// connection before the socket sees it.
func deadlinesBeforeOtherwise(t *testing.T, k *kind, l *link) {
	if k.has(noReadDeadlines) {
		require.Error(t, l.a.SetDeadline(time.Now().Add(-time.Hour)))
	} else {
		require.NoError(t, l.a.SetDeadline(time.Now().Add(-time.Hour)))
		time.Sleep(short)
	}
	s := k.socket(l.a)
	if k.has(deadlineEnds) {
		requireOver(t, s)
		return
	}
	write(t, l.b, "half")
	requireRecv(t, s, "half")
}
