package bufsock

import (
	"cmp"
	"context"
	"io"
	"net"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"
)

// A BufferedSocket is a net.Conn with a receive buffer, a send buffer, a limit
// on every message and a timeout on every call. Create it with
// [NewBufferedSocket] or [Dial].
//
// A slice that a call returns is the caller's own; an empty message is empty
// and not nil, and with an error there is none. A message of 4 MiB or more may
// stand in memory of up to twice its size, because one copy is saved that way.
// While a socket waits for bytes and has none, it holds no buffer on TCP and
// Unix sockets, and at most 512 bytes on other connections.
//
// It is safe for use by any number of goroutines; see the package
// documentation for how calls are ordered.
//
// A type that embeds a *BufferedSocket and has a Read or Write of its own must
// have WriteTo and ReadFrom, too: io.Copy prefers these. Embedding it as a
// net.Conn avoids that.
type BufferedSocket struct {
	link    atomic.Pointer[link] // the connection; changed by who has both turns
	timeout atomic.Int64
	maxSize atomic.Int64
	idle    atomic.Int64 // the idle timeout; negative: no bound; zero: none
	recv    half
	send    half
	message *Message // of RecvFunc, used again; guarded by the turn of recv

	readSize   atomic.Int32
	flush      atomic.Bool // receives that wait flush
	splitEnded bool        // there is no token behind the last one; guarded by the turn of recv
}

var (
	_ net.Conn      = (*BufferedSocket)(nil)
	_ io.WriterTo   = (*BufferedSocket)(nil)
	_ io.ReaderFrom = (*BufferedSocket)(nil)
	_ syscall.Conn  = (*BufferedSocket)(nil)
)

// NewBufferedSocket returns a socket on conn. It takes the options
// [WithTimeout], [WithMaxSize], [WithReadSize], [WithIdleTimeout] and
// [WithFlush], and panics if conn is nil, or an option is not for constructors
// or has a bad value.
//
// The connection must be one of a stream: packets would be cut. It must not be
// read or written by others from then on, and deadlines set on it before are
// not kept.
func NewBufferedSocket(conn net.Conn, opts ...Option) *BufferedSocket {
	return newSocket("NewBufferedSocket", conn, opts)
}

func newSocket(op string, conn net.Conn, opts []Option) *BufferedSocket {
	if v := reflect.ValueOf(conn); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		panic("bufsock: " + op + ": nil connection")
	}
	s := unconnected(op, opts)
	s.link.Store(newLink(conn))
	return s
}

// unconnected returns a socket without a connection.
func unconnected(op string, opts []Option) *BufferedSocket {
	s := new(BufferedSocket)
	s.send.sends = true
	s.readSize.Store(defaultReadSize)
	s.timeout.Store(int64(DefaultTimeout))
	s.maxSize.Store(DefaultMaxSize)
	s.configure(op, opts)
	return s
}

// Dial connects to the address and returns a socket on the connection. The
// timeout of the socket bounds connecting, too, as does ctx. See [net.Dial]
// for network and address, and [NewBufferedSocket] for opts.
//
// If the time is up it returns a *TimeoutError, if ctx is canceled an error
// that matches its cause, else the error of [net.Dialer.DialContext].
func Dial(ctx context.Context, network, address string, opts ...Option) (*BufferedSocket, error) {
	if ctx == nil {
		return nil, invalid("Dial", "nil context")
	}
	s := unconnected("Dial", opts)
	c := call{request: request{op: "Dial", timeout: s.Timeout(), ctx: ctx}}
	d := net.Dialer{Timeout: max(c.timeout, 0)}
	switch {
	case c.timeout == 0:
		d.Timeout = grace
		c.until = now().plus(grace)
	case c.timeout > 0:
		c.until = now().plus(c.timeout)
	}
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		s.link.Store(newLink(conn))
		return s, nil
	}
	if t, ok := ctx.Deadline(); ok && time.Until(t) <= 0 {
		<-ctx.Done() // the dialer was faster than the timer of the context
	}
	if c.expired() {
		c.out, c.cause = true, err
		return nil, c.timeUp(0, want{})
	}
	return nil, err
}

// Timeout returns the timeout of calls that are given none.
func (s *BufferedSocket) Timeout() time.Duration { return time.Duration(s.timeout.Load()) }

// SetTimeout sets the timeout of calls that are given none: [NoTimeout], or
// any negative duration, [NonBlocking], or a duration that bounds the whole
// call. It does not change that of a call under way, and does not bound Read,
// Write, WriteTo and ReadFrom: deadlines do.
func (s *BufferedSocket) SetTimeout(d time.Duration) { s.timeout.Store(int64(max(d, NoTimeout))) }

// SetBlocking sets the timeout to [NoTimeout] if blocking is true, else to
// [NonBlocking].
func (s *BufferedSocket) SetBlocking(blocking bool) {
	if blocking {
		s.SetTimeout(NoTimeout)
	} else {
		s.SetTimeout(NonBlocking)
	}
}

// MaxSize returns the max size of calls that are given none, in bytes, or
// [NoLimit].
func (s *BufferedSocket) MaxSize() int { return int(s.maxSize.Load()) }

// SetMaxSize sets the max size of calls that are given none, in bytes;
// [NoLimit], or any negative size, for no limit. It does not change that of a
// call under way.
func (s *BufferedSocket) SetMaxSize(n int) { s.maxSize.Store(int64(max(n, NoLimit))) }

// Upgrade puts another connection under the socket: the one that wrap returns
// for the present one, such as tls.Client(conn, config) after STARTTLS.
// Deadlines that were set on the socket hold for it, too.
//
// It waits for its turn on both sides, within the timeout of the socket, and
// fails with an error that matches [ErrBufferedData] if either buffer holds
// bytes: plaintext that came before the upgrade must never be read as if it had
// come through TLS (CVE-2011-0411). Plaintext that the kernel still holds goes
// to the handshake, which fails on it. While it waits for one side it does not
// hold up the other, and so may be overtaken on that.
//
// If Upgrade fails, or wrap panics, the socket stays on the present connection.
// After ErrBufferedData nothing has been read or written, and the dialogue can
// go on in plaintext. After an error of wrap close the socket: a part of a
// handshake may have been sent or read.
//
// wrap must use the connection that it is given, and not the socket, whose
// calls wait until wrap has returned; Close does not. No timeout bounds wrap.
// For TLS it should do the handshake, with [crypto/tls.Conn.HandshakeContext]
// and a context that ends. A server does best to write its answer to STARTTLS
// in wrap, to the connection that it is given: then a client that sent
// plaintext ahead gets none.
func (s *BufferedSocket) Upgrade(wrap func(net.Conn) (net.Conn, error)) error {
	if wrap == nil {
		return invalid("Upgrade", "nil function")
	}
	r := request{op: "Upgrade", timeout: s.Timeout(), given: optConn}
	in, out := s.newCall(&r, &s.recv), s.newCall(&r, &s.send)
	defer in.release()
	defer out.release()
	in.startClock()
	out.until = in.until
	if err := enterBoth(in, out); err != nil {
		return in.explain(err, want{})
	}
	defer in.leave()
	defer out.leave()

	received, unsent := s.Buffered(), s.Unsent()
	if received > 0 || unsent > 0 {
		return &usageError{r.op, "refused, because " + byteCount(received) + " received and " +
			byteCount(unsent) + " unsent belong to the present connection", ErrBufferedData}
	}
	conn, err := wrap(s.link.Load().conn)
	if err != nil {
		return cmp.Or(s.recv.isClosed(r.op), err)
	}
	if conn == nil {
		return invalid(r.op, "the function returned neither a connection nor an error")
	}
	if err := s.replace(conn); err == errClosed {
		conn.Close()
		return &closedError{r.op}
	} else if err != nil {
		return err
	}
	return nil
}

// replace puts the socket on conn. The caller has both turns.
func (s *BufferedSocket) replace(conn net.Conn) error {
	l, before := newLink(conn), s.link.Load()
	l.readClosing.Store(before.readClosing.Load())
	l.readClosed.Store(before.readClosed.Load())
	l.writeClosed.Store(before.writeClosed.Load())
	s.recv.alarm.mu.Lock()
	defer s.recv.alarm.mu.Unlock()
	s.send.alarm.mu.Lock()
	defer s.send.alarm.mu.Unlock()
	for _, h := range []*half{&s.recv, &s.send} {
		if err := h.handOver(l); err != nil {
			return err
		}
	}
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	if s.recv.state.Load() == closed {
		return errClosed
	}
	s.link.Store(l)
	s.splitEnded = false
	return nil
}

// handOver gives another connection the user's deadline. The caller has the
// lock of the alarm.
func (h *half) handOver(l *link) error {
	a := &h.alarm
	a.lifted, a.stopped = l.wakes, false
	if h.deadline() == never {
		return nil
	}
	a.lifted = true
	return h.applyDeadline(l)
}

// NetConn returns the wrapped connection. Bytes in the receive buffer are not
// seen by its Read, and deadlines set on it are not known to the socket.
func (s *BufferedSocket) NetConn() net.Conn { return s.link.Load().conn }
