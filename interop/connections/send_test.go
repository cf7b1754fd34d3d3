package connections

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// sendUntilBlocked sends until a call times out. It returns how many bytes of data
// went into calls, and the error.
func sendUntilBlocked(t *testing.T, s *bufsock.BufferedSocket, data []byte, opts ...bufsock.Option) (given int, err error) {
	mustEnd(t, "sends with a timeout", func() {
		for given < len(data) && err == nil {
			_, err = s.Send(data[given:given+chunk], opts...)
			given += chunk
		}
	})
	require.Error(t, err, "large is not large enough")
	return given, err
}

// sendTimeoutKeepsAll: what was not sent stays, and the peer gets all bytes once.
func sendTimeoutKeepsAll(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	data := pattern(large)
	given, err := sendUntilBlocked(t, s, data, within(moment))
	requireTimeout(t, err)
	e, _ := errors.AsType[*bufsock.TimeoutError](err)
	require.True(t, e.Temporary())
	require.Positive(t, e.Buffered)
	kept := s.SendBuffer()
	require.Len(t, kept, e.Buffered)
	require.Equal(t, data[given-len(kept):given], kept)
	read := make(chan error, 1)
	go func() { read <- compare(l.b, data[:given]) }()
	mustEnd(t, "Flush", func() { require.NoError(t, s.Flush()) })
	mustEnd(t, "the peer", func() { require.NoError(t, <-read) })
	require.Empty(t, s.SendBuffer())
}

// sendTimeoutOtherwise: the timeout is refused, or not kept, or ends the sending
// side, or the connection has lost count.
func sendTimeoutOtherwise(t *testing.T, k *kind, l *link) {
	s := bufsock.NewBufferedSocket(l.a, forEver)
	switch {
	case k.has(noWriteDeadlines):
		mustEnd(t, "a send with a timeout", func() {
			_, err := s.Send([]byte("half"), within(time.Hour))
			requireRefusal(t, err)
		})
		flushed := make(chan error, 1)
		go func() { flushed <- s.Flush() }()
		requireRead(t, l.b, "half")
		mustEnd(t, "Flush", func() { require.NoError(t, <-flushed) })
	case k.has(ignoresDeadlines):
		data := pattern(large)
		read := make(chan error, 1)
		time.AfterFunc(2*short, func() { read <- compare(l.b, data) })
		mustEnd(t, "a send that nothing ends", func() {
			_, err := s.Send(data, within(short))
			for isTimeout(err) {
				err = s.Flush(within(short))
			}
			require.NoError(t, err)
		})
		mustEnd(t, "the peer", func() { require.NoError(t, <-read) })
	case k.has(fullCount):
		// The call has sent all, as far as it can know.
		for range 5 {
			mustEnd(t, "a send with a timeout", func() { _, _ = s.Send(make([]byte, chunk), within(short)) })
		}
	case k.has(writeTimeoutEnds):
		_, err := sendUntilBlocked(t, s, pattern(large), within(moment))
		k.requireTimedOut(t, err)
		requireBroken(t, s, k.tls || !isTimeout(err))
	case k.has(finalTimeouts):
		finalTimeoutEndsSends(t, k, l)
	default:
		_, err := sendUntilBlocked(t, s, pattern(large), within(moment))
		requireTimeout(t, err)
		go func() { _, _ = io.Copy(io.Discard, l.b) }()
		mustEnd(t, "Flush", func() {
			// What it repeats or leaves out may be the end of a session.
			if err := s.Flush(); err != nil && !k.has(deadlineEnds) {
				require.NoError(t, err)
			}
		})
	}
}

// finalTimeoutEndsSends: what says to be final ends the sending side, and it alone.
func finalTimeoutEndsSends(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	_, err := sendUntilBlocked(t, s, pattern(large), within(moment))
	requireTimeout(t, err)
	e, _ := errors.AsType[*bufsock.TimeoutError](err)
	require.False(t, e.Temporary())
	require.Positive(t, e.Buffered)
	require.Equal(t, e.Buffered, s.Unsent())
	requireBroken(t, s, true)
	write(t, l.b, "half")
	mustEnd(t, "a receive with a timeout", func() {
		_, err := s.RecvSize(5, within(moment))
		k.requireTimedOut(t, err)
	})
	requireRecv(t, s, "half")
}

// requireBroken wants the sending side to be over: at once where the
// error said it, and elsewhere from the connection's next error on.
func requireBroken(t *testing.T, s *bufsock.BufferedSocket, atOnce bool) {
	t.Helper()
	if !atOnce {
		mustEnd(t, "Flush", func() {
			err := s.Flush()
			require.Error(t, err)
		})
	}
	kept := s.SendBuffer()
	for name, send := range map[string]func() error{
		"Send":   func() error { _, err := s.Send([]byte("more")); return err },
		"Write":  func() error { _, err := s.Write([]byte("more")); return err },
		"Flush":  func() error { return s.Flush() },
		"Buffer": func() error { return s.Buffer([]byte("more")) },
	} {
		mustEnd(t, name, func() {
			err := send()
			require.ErrorIs(t, err, bufsock.ErrBroken, name)
			require.False(t, isTimeout(err), name)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, name)
		})
	}
	require.Equal(t, kept, s.SendBuffer())
}
