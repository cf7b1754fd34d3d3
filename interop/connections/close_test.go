package connections

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

func halfClose(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Send([]byte("last"))
		ended <- errors.Join(err, s.CloseWrite())
	}()
	requireRead(t, l.b, "last")
	mustEnd(t, "the peer's Read", func() {
		_, err := l.b.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
	mustEnd(t, "CloseWrite", func() { require.NoError(t, <-ended) })
	write(t, l.b, "answer")
	requireRecv(t, s, "answer")
	mustEnd(t, "Send", func() {
		_, err := s.Send([]byte("more"))
		require.Error(t, err)
	})
}

func noHalfClose(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	require.ErrorIs(t, s.CloseWrite(), errors.ErrUnsupported)
	write(t, l.b, "half")
	requireRecv(t, s, "half")
	sent := make(chan error, 1)
	go func() { _, err := s.Send([]byte("sent")); sent <- err }()
	requireRead(t, l.b, "sent")
	mustEnd(t, "Send", func() { require.NoError(t, <-sent) })
}

// closeRead: receives get what is buffered and then an end, for which the peer is
// not to blame.
func closeRead(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	write(t, l.b, "rest")
	mustEnd(t, "Peek", func() {
		_, err := s.Peek(4)
		require.NoError(t, err)
	})
	waiting := make(chan error, 1)
	go func() {
		_, err := s.RecvSize(100, forEver)
		waiting <- err
	}()
	time.Sleep(short)
	mustEnd(t, "CloseRead", func() { require.NoError(t, s.CloseRead()) })
	mustEnd(t, "a waiting receive", func() {
		err := <-waiting
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		_, ok := errors.AsType[*bufsock.ConnectionClosedError](err)
		require.True(t, ok, "%T: %v", err, err)
	})
	requireCutShort(t, s)
	requireRecv(t, s, "rest")
	for range 3 {
		mustEnd(t, "Recv", func() {
			_, err := s.Recv(1)
			require.Equal(t, io.EOF, err)
		})
	}
	requireCutShort(t, s)
}

// requireCutShort wants RecvClose to fail: the peer has not ended its stream.
func requireCutShort(t *testing.T, s *bufsock.BufferedSocket) {
	t.Helper()
	mustEnd(t, "RecvClose", func() {
		_, err := s.RecvClose(forEver)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

func noHalfCloseRead(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	require.ErrorIs(t, s.CloseRead(), errors.ErrUnsupported)
	write(t, l.b, "half")
	requireRecv(t, s, "half")
}

// end ends the peer's stream behind some bytes.
func end(t *testing.T, l *link, last string) {
	go func() {
		_, _ = l.b.Write([]byte(last))
		_ = l.b.Close()
	}()
}

func peersEnd(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	end(t, l, "line\ntail")
	mustEnd(t, "receives at the end", func() {
		line, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "line", string(line))
		for range 2 {
			_, err = s.RecvUntil([]byte("\n"))
			e, ok := errors.AsType[*bufsock.ConnectionClosedError](err)
			require.True(t, ok, "%T: %v", err, err)
			require.ErrorIs(t, e, io.ErrUnexpectedEOF)
			require.Equal(t, 4, e.Buffered)
		}
		tail, err := s.RecvClose()
		require.NoError(t, err)
		require.Equal(t, "tail", string(tail))
		for range 2 {
			_, err = s.Recv(1)
			require.Equal(t, io.EOF, err)
			_, err = s.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
			_, err = s.RecvSize(1)
			require.ErrorIs(t, err, io.EOF)
			tail, err = s.RecvClose()
			require.NoError(t, err)
			require.Empty(t, tail)
		}
	})
}

// otherEndIsAnError: an end that is no io.EOF cannot be told from a break.
func otherEndIsAnError(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	written := write(t, l.b, "line\ntail")
	mustEnd(t, "receives at the end", func() {
		line, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "line", string(line))
		_, err = s.Peek(4)
		require.NoError(t, err)
	})
	written()
	require.NoError(t, l.b.Close())
	requireBreak(t, s, "tail")
}

// closeEndsAll: after Close every call fails with net.ErrClosed, and the peer
// sees an end.
func closeEndsAll(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	write(t, l.b, "unread")
	mustEnd(t, "Peek", func() {
		_, err := s.Peek(1)
		require.NoError(t, err)
	})
	require.NoError(t, s.Buffer([]byte("unsent")))
	rest := make(chan []byte, 1)
	go func() {
		p, _ := io.ReadAll(l.b)
		rest <- p
	}()
	mustEnd(t, "Close", func() {
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
	})
	require.Zero(t, s.Buffered())
	require.Empty(t, s.SendBuffer())
	for name, call := range afterClose(s) {
		mustEnd(t, name, func() {
			err := call()
			require.ErrorIs(t, err, net.ErrClosed, name)
			_, ok := errors.AsType[net.Error](err)
			require.True(t, ok, name)
		})
	}
	mustEnd(t, "the peer's Read", func() { require.Empty(t, <-rest) })
}

func afterClose(s *bufsock.BufferedSocket) map[string]func() error {
	return map[string]func() error{
		"Recv":      func() error { _, err := s.Recv(1); return err },
		"RecvSize":  func() error { _, err := s.RecvSize(1); return err },
		"RecvUntil": func() error { _, err := s.RecvUntil([]byte("\n")); return err },
		"RecvClose": func() error { _, err := s.RecvClose(); return err },
		"Peek":      func() error { _, err := s.Peek(1); return err },
		"Discard":   func() error { _, err := s.Discard(1); return err },
		"Read":      func() error { _, err := s.Read(make([]byte, 1)); return err },
		"WriteTo":   func() error { _, err := s.WriteTo(&bytes.Buffer{}); return err },
		"Send":      func() error { _, err := s.Send([]byte("x")); return err },
		"Buffer":    func() error { return s.Buffer([]byte("x")) },
		"Flush":     func() error { return s.Flush() },
		"Write":     func() error { _, err := s.Write([]byte("x")); return err },
		"ReadFrom":  func() error { _, err := s.ReadFrom(strings.NewReader("x")); return err },
	}
}

// closeWhile runs calls, closes the socket when they are blocked, and wants net.ErrClosed
// of all of them.
func closeWhile(t *testing.T, s *bufsock.BufferedSocket, settle time.Duration, calls map[string]func() error) {
	type result struct {
		name string
		err  error
	}
	results := make(chan result, len(calls))
	for name, call := range calls {
		go func() { results <- result{name, call()} }()
	}
	time.Sleep(settle) // if that is too short, less is tested
	mustEnd(t, "Close", func() { _ = s.Close() })
	for range calls {
		select {
		case r := <-results:
			require.ErrorIs(t, r.err, net.ErrClosed, r.name)
			delete(calls, r.name)
		case <-time.After(patience):
			names := []string{}
			for name := range calls {
				names = append(names, name)
			}
			require.Fail(t, "Close has not ended "+strings.Join(names, ", "))
		}
	}
}

// closeEndsReceives: one call waits for bytes, the others for their turn.
func closeEndsReceives(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	closeWhile(t, s, short, map[string]func() error{
		"RecvSize":  func() error { _, err := s.RecvSize(1, forEver); return err },
		"RecvUntil": func() error { _, err := s.RecvUntil([]byte("\n"), forEver); return err },
		"RecvClose": func() error { _, err := s.RecvClose(forEver); return err },
		"Read":      func() error { _, err := s.Read(make([]byte, 1)); return err },
	})
}

// closeWaits: nothing ends calls on a blocking descriptor but the peer.
func closeWaits(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	time.AfterFunc(moment, func() { _ = l.b.Close() })
	closeWhile(t, s, short, map[string]func() error{
		"RecvSize": func() error { _, err := s.RecvSize(1); return err },
	})
}

func closeEndsSends(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	send := func() (err error) {
		for err == nil {
			_, err = s.Send(make([]byte, chunk), forEver)
		}
		return err
	}
	closeWhile(t, s, moment, map[string]func() error{
		"Send": send, "another Send": send,
		"Write": func() (err error) {
			for err == nil {
				_, err = s.Write(make([]byte, chunk))
			}
			return err
		},
	})
}

// closeEndsSendsOtherwise: Close ends what the connection's own Close ends.
func closeEndsSendsOtherwise(t *testing.T, k *kind, l *link) {
	if !k.has(closeLeavesWrites) {
		closeEndsSends(t, k, l)
		return
	}
	s := k.socket(l.a)
	time.AfterFunc(2*moment, func() { _ = l.b.Close() })
	sent := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = s.Send(make([]byte, chunk))
		}
		sent <- err
	}()
	time.Sleep(moment)
	mustEnd(t, "Close", func() { _ = s.Close() })
	mustEnd(t, "a send whose peer has gone", func() { require.ErrorIs(t, <-sent, net.ErrClosed) })
}

// gettersDoNotWait for a receive and a send that are blocked.
func gettersDoNotWait(t *testing.T, k *kind, l *link) {
	s := k.socket(l.a)
	write(t, l.b, "ha")
	mustEnd(t, "Peek", func() {
		_, err := s.Peek(2)
		require.NoError(t, err)
	})
	go func() { _, _ = s.RecvSize(1<<20, forEver) }()
	go func() {
		var err error
		for err == nil {
			_, err = s.Send(make([]byte, chunk), forEver)
		}
	}()
	time.Sleep(moment)
	for name, get := range map[string]func(){
		"Buffered":   func() { require.Equal(t, 2, s.Buffered()) },
		"RecvBuffer": func() { require.Equal(t, "ha", string(s.RecvBuffer())) },
		"SendBuffer": func() { s.SendBuffer() },
		"Timeout":    func() { s.SetTimeout(s.Timeout()) },
		"MaxSize":    func() { s.SetMaxSize(s.MaxSize()) },
		"NetConn":    func() { require.Equal(t, l.a, s.NetConn()) },
		"LocalAddr":  func() { s.LocalAddr(); s.RemoteAddr() },
	} {
		mustEnd(t, name, get)
	}
}
