// This file holds what several test files share.

package bufsock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A transport makes connected pairs of one kind of connection.
type transport struct {
	name string
	pair func(t testing.TB) (local, remote net.Conn)
}

var transports = []transport{
	{"TCP", tcpPair},
	{"Unix", unixPair},
	{"Pipe", pipePair},
	{"TLS", tlsPair},
}

func tcpPair(t testing.TB) (net.Conn, net.Conn) { return dialPair(t, "tcp", "127.0.0.1:0") }

func unixPair(t testing.TB) (net.Conn, net.Conn) {
	// The name of a socket must be short, about 100 bytes: t.TempDir() is too long.
	dir, err := os.MkdirTemp("", "")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dialPair(t, "unix", filepath.Join(dir, "s"))
}

func pipePair(t testing.TB) (net.Conn, net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func dialPair(t testing.TB, network, address string) (net.Conn, net.Conn) {
	l, err := net.Listen(network, address)
	require.NoError(t, err)
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	require.NoError(t, err)
	b, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// A wire is a connection whose reads and writes are scripted. What is not
// scripted it does not have.
type wire struct {
	net.Conn
	reads  []read   // results of Read, one each; then io.EOF
	asked  []int    // how much each Read asked for
	limits []int    // how much each Write takes; then everything
	writes []string // what each Write took
	err    error    // returned by a Write that is cut short
}

type read struct {
	data string
	err  error
}

// segments returns a wire that delivers the segments, then the end.
func segments(segments ...string) *wire {
	w := &wire{}
	for _, s := range segments {
		w.reads = append(w.reads, read{data: s})
	}
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	w.asked = append(w.asked, len(p))
	if len(w.reads) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.reads[0].data)
	w.reads[0].data = w.reads[0].data[n:]
	if w.reads[0].data != "" {
		return n, nil
	}
	err := w.reads[0].err
	w.reads = w.reads[1:]
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n := len(p)
	var err error
	if len(w.limits) > 0 {
		if w.limits[0] < n {
			n, err = w.limits[0], w.err
		}
		w.limits = w.limits[1:]
	}
	w.writes = append(w.writes, string(p[:n]))
	return n, err
}

func (w *wire) Close() error { return nil }

func (w *wire) SetReadDeadline(time.Time) error { return nil }

func (w *wire) SetWriteDeadline(time.Time) error { return nil }

var crlf = []byte("\r\n")

// errTooLong stands for a *MessageTooLongError in tables.
var errTooLong = errors.New("too long")

// assertErrorIs wants err to match target, or nil if that is nil.
func assertErrorIs(t *testing.T, err, target error) {
	t.Helper()
	switch target {
	case nil:
		assert.NoError(t, err)
	case errTooLong:
		assert.IsType(t, (*bufsock.MessageTooLongError)(nil), err)
	default:
		assert.ErrorIs(t, err, target)
	}
	if closed, ok := err.(*bufsock.ConnectionClosedError); ok {
		assert.NotEqual(t, errors.Is(closed, io.EOF), errors.Is(closed, io.ErrUnexpectedEOF), "one or the other")
	}
}

func panicOf(f func()) (msg string) {
	defer func() { msg, _ = recover().(string) }()
	f()
	return ""
}

// answers are calls that a buffer of 3:a\r\n,def\r\n4:wxyz, answers, or that
// fail at the end of the stream behind it.
var answers = map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error){
	"RecvUntil 1 byte": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\n"), opts...)
	},
	"RecvUntil 2 bytes": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil(crlf, opts...)
	},
	"RecvUntil 3 bytes": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\r\nd"), opts...)
	},
	"RecvUntil behind a false start": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\r\n4"), opts...)
	},
	"RecvUntil at the end": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("z,"), opts...)
	},
	"RecvUntil without a match": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("\n\r"), opts...)
	},
	"RecvUntil beyond the end": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return s.RecvUntil([]byte("z,!"), opts...)
	},
	"Messages": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (all []byte, last error) {
		for msg, err := range s.Messages(crlf, opts...) {
			all, last = fmt.Appendf(all, "%q ", msg), err
		}
		return all, last
	},
	"ReadNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, error) {
		return bufsock.NewNetstringSocket(s).ReadNetstring(opts...)
	},
	"netstring Messages": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (all []byte, last error) {
		for msg, err := range bufsock.NewNetstringSocket(s).Messages(opts...) {
			all, last = fmt.Appendf(all, "%q ", msg), err
		}
		return all, last
	},
}

// occupy has a receive take the turn, and returns a function that ends it
// with nothing consumed. It is for bubbles of synctest.
func occupy(t *testing.T, s *bufsock.BufferedSocket) (release func()) {
	done := make(chan struct{})
	enough := errors.New("enough")
	go func() {
		_, err := s.RecvSplit(func([]byte, bool) (int, []byte, error) {
			<-done
			return 0, nil, enough
		}, bufsock.WithTimeout(bufsock.NoTimeout))
		if !errors.Is(err, net.ErrClosed) {
			assert.Equal(t, enough, err)
		}
	}()
	synctest.Wait()
	return func() { close(done) }
}

// A counting connection returns what count says.
type counting struct {
	*wire
	count func(p []byte) (int, error)
}

func (c counting) Read(p []byte) (int, error) { return c.count(p) }

func (c counting) Write(p []byte) (int, error) { return c.count(p) }

// goroutines returns a function that wants the number of goroutines to come
// back to what it is now.
func goroutines(t *testing.T) (check func()) {
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			require.True(t, time.Now().Before(deadline), "a goroutine is left behind")
		}
	}
}

// zeros is a reader without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A hooked connection calls functions where it has them, in the place of the
// methods of the connection below.
type hooked struct {
	net.Conn
	read          func(p []byte) (int, error)
	write         func(p []byte) (int, error)
	readDeadline  func(t time.Time) error
	writeDeadline func(t time.Time) error
	closed        func() error
}

func (c *hooked) Read(p []byte) (int, error) {
	if c.read != nil {
		return c.read(p)
	}
	return c.Conn.Read(p)
}

func (c *hooked) Write(p []byte) (int, error) {
	if c.write != nil {
		return c.write(p)
	}
	return c.Conn.Write(p)
}

func (c *hooked) SetReadDeadline(t time.Time) error {
	if c.readDeadline != nil {
		return c.readDeadline(t)
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *hooked) SetWriteDeadline(t time.Time) error {
	if c.writeDeadline != nil {
		return c.writeDeadline(t)
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *hooked) Close() error {
	if c.closed != nil {
		return c.closed()
	}
	return c.Conn.Close()
}

// A shaker is a connection whose handshake is a function.
type shaker struct {
	net.Conn
	shake func(ctx context.Context) error
}

func (s shaker) HandshakeContext(ctx context.Context) error { return s.shake(ctx) }

type (
	readerFunc func(p []byte) (int, error)
	writerFunc func(p []byte) (int, error)
)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var lf = []byte("\n")

// Every call that waits, on a peer that neither reads nor writes.
var waiting = map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error{
	"Recv": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Recv(1, opts...)
		return err
	},
	"RecvSize": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvSize(1, opts...)
		return err
	},
	"RecvUntil": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvUntil(lf, opts...)
		return err
	},
	"RecvUntilAny": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, _, err := s.RecvUntilAny([][]byte{lf, crlf}, opts...)
		return err
	},
	"RecvSplit": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvSplit(bufio.ScanLines, opts...)
		return err
	},
	"RecvClose": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.RecvClose(opts...)
		return err
	},
	"Peek": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Peek(1, opts...)
		return err
	},
	"Discard": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Discard(1, opts...)
		return err
	},
	"DiscardUntil": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.DiscardUntil(lf, opts...)
		return err
	},
	"Messages": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (err error) {
		for _, err = range s.Messages(lf, opts...) {
		}
		return err
	},
	"Tokens": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) (err error) {
		for _, err = range s.Tokens(bufio.ScanLines, opts...) {
		}
		return err
	},
	"RecvFunc": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		return s.RecvFunc(func(m *bufsock.Message) error {
			_, err := m.Until(lf)
			return err
		}, opts...)
	},
	"ReadNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := bufsock.NewNetstringSocket(s).ReadNetstring(opts...)
		return err
	},
	"DiscardNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := bufsock.NewNetstringSocket(s).DiscardNetstring(opts...)
		return err
	},
	"Send": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.Send([]byte("abc"), opts...)
		return err
	},
	"SendBuffers": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		_, err := s.SendBuffers([][]byte{[]byte("abc")}, opts...)
		return err
	},
	"Flush": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		if len(s.SendBuffer()) == 0 {
			s.Buffer([]byte("abc"))
		}
		return s.Flush(opts...)
	},
	"WriteNetstring": func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error {
		return bufsock.NewNetstringSocket(s).WriteNetstring([]byte("abc"), opts...)
	},
}

// isSend reports whether one of waiting sends.
func isSend(op string) bool {
	return op == "Send" || op == "SendBuffers" || op == "Flush" || op == "WriteNetstring"
}

// elapsed returns the error of f and how long it took on the bubble's clock.
func elapsed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// bubble runs f for each waiting call in a synctest bubble, with a socket on
// one end of a net.Pipe.
func bubble(t *testing.T, f func(t *testing.T, s *bufsock.BufferedSocket, op string, call func(...bufsock.Option) error)) {
	for op, call := range waiting {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				defer local.Close()
				defer remote.Close()
				s := bufsock.NewBufferedSocket(local)
				f(t, s, op, func(opts ...bufsock.Option) error { return call(s, opts...) })
			})
		})
	}
}

// assertClosed wants a net.Error that matches net.ErrClosed.
func assertClosed(t *testing.T, err error) {
	t.Helper()
	assert.ErrorIs(t, err, net.ErrClosed)
	e, ok := err.(net.Error)
	assert.True(t, ok && !e.Timeout(), "%T", err)
	assert.ErrorContains(t, err, "bufsock: ")
}

// A recorder notes the deadlines that its connection is given.
type recorder struct {
	net.Conn
	mu    sync.Mutex
	read  []time.Time
	write []time.Time
}

func (r *recorder) SetReadDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = append(r.read, t)
	return r.Conn.SetReadDeadline(t)
}

func (r *recorder) SetWriteDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write = append(r.write, t)
	return r.Conn.SetWriteDeadline(t)
}

func (r *recorder) SetDeadline(time.Time) error { panic("deadlines are set apart") }

// expired returns a context whose deadline has passed.
func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	t.Cleanup(cancel)
	return ctx
}

func last(ts []time.Time) time.Time {
	if len(ts) == 0 {
		return time.Time{}
	}
	return ts[len(ts)-1]
}

// sockets are the transports with a descriptor that is tried without waiting.
func sockets(t *testing.T, f func(t *testing.T, local, remote net.Conn)) {
	for _, transport := range transports[:2] {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			f(t, local, remote)
		})
	}
}

// A misleading error says that it is a timeout, in one way or another.
type misleading struct {
	matches   error // what it matches
	temporary bool
}

// onlyMatches is an error that says nothing of itself.
type onlyMatches struct{ what error }

func (e onlyMatches) Error() string        { return "too late" }
func (e onlyMatches) Is(target error) bool { return target == e.what }

func (misleading) Error() string { return "misleading" }

func (misleading) Timeout() bool { return true }

func (e misleading) Temporary() bool { return e.temporary }

func (e misleading) Is(target error) bool { return target == e.matches }
