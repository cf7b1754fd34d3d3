package accept_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/bufsock/bufsock/examples/internal/accept"
	"github.com/stretchr/testify/require"
)

// A pipes accepts what is sent to it: connections, or errors to accept one.
type pipes struct {
	accepted chan any
	closed   chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan any), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case <-p.closed:
		return nil, net.ErrClosed
	case v := <-p.accepted:
		if err, ok := v.(error); ok {
			return nil, err
		}
		return v.(net.Conn), nil
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial makes a connection that is accepted, and returns its other end.
func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	p.accepted <- theirs
	t.Cleanup(func() { ours.Close() })
	return ours
}

// start runs accept.Until, which returns the error that is sent.
func start(t *testing.T, l net.Listener, limit int, serve func(context.Context, net.Conn)) (context.CancelFunc, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- accept.Until(ctx, l, limit, serve) }()
	return cancel, ended
}

func echo(_ context.Context, conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn) // the test ends it
}

func requireEcho(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err := conn.Write([]byte("x"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 1))
	require.NoError(t, err)
}

func TestServesAndWaitsForAll(t *testing.T) {
	l := newPipes()
	cancel, ended := start(t, l, 2, echo)
	a, b := l.dial(t), l.dial(t)
	requireEcho(t, a)
	requireEcho(t, b)
	cancel()
	<-l.closed
	requireEcho(t, a)
	a.Close()
	select {
	case err := <-ended:
		t.Fatal("ended before the last connection: ", err)
	case <-time.After(50 * time.Millisecond):
	}
	b.Close()
	require.NoError(t, <-ended)
}

func TestServesNoMoreThanTheLimit(t *testing.T) {
	l := newPipes()
	cancel, ended := start(t, l, 1, echo)
	a := l.dial(t)
	requireEcho(t, a)
	third := make(chan net.Conn)
	go func() { third <- l.dial(t) }()
	select {
	case <-third:
		t.Fatal("accepted one too many")
	case <-time.After(50 * time.Millisecond):
	}
	a.Close()
	b := <-third
	requireEcho(t, b)
	cancel()
	b.Close()
	require.NoError(t, <-ended)
}

func TestGoesOnAfterAnErrorThatPasses(t *testing.T) {
	l := newPipes()
	cancel, ended := start(t, l, 1, echo)
	l.accepted <- os.ErrPermission
	a := l.dial(t)
	requireEcho(t, a)
	a.Close()
	cancel()
	require.NoError(t, <-ended)
}

func TestEndsWhenOthersCloseTheListener(t *testing.T) {
	l := newPipes()
	_, ended := start(t, l, 1, echo)
	l.Close()
	require.True(t, errors.Is(<-ended, net.ErrClosed))
}

func TestEndsWhileFull(t *testing.T) {
	l := newPipes()
	cancel, ended := start(t, l, 1, func(ctx context.Context, conn net.Conn) {
		<-ctx.Done()
		conn.Close()
	})
	l.dial(t)
	cancel()
	require.NoError(t, <-ended)
}
