package bufsock

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"sync/atomic"
	"syscall"
	"time"
)

// A link is a connection under a socket: what kind it is, found out once, and
// how it is doing. Both directions look at it when they need to know.
type link struct {
	conn net.Conn
	raw  syscall.RawConn // the descriptor of a TCP or Unix socket, also under a *tls.Conn, or nil
	gate *turn           // to the handshake of TLS, or nil

	polls       bool // raw is that of conn, and may be used without it
	takesVector bool // it has a vectored write
	wakes       bool // a new deadline wakes a Read or Write that waits
	counts      bool // taken begins where the count of the kernel does; guarded by the turn of recv

	shaken      atomic.Bool             // the handshake is done
	readClosed  atomic.Bool             // by our CloseRead
	readClosing atomic.Bool             // the same, or it is at work
	writeClosed atomic.Bool             // by our CloseWrite
	failure     atomic.Pointer[failure] // what an end of the stream stands for

	taken  uint64 // bytes that have been read; guarded by the turn of recv
	ended  error  // of the stream, for good, so that it is not asked again; guarded by the turn of recv
	filled int    // the size of the last read, if it got all that, or zero; guarded by the turn of recv
	next   error  // came together with bytes; guarded by the turn of recv
	broken error  // why nothing can be sent any more; guarded by the turn of send
}

// A failure is an error behind which an end of the stream is none. The
// connection reports it once, and perhaps to a send.
type failure struct {
	err  error
	told bool // a receive has returned it, so that bytes that come now clear it
}

// newLink describes conn, and lifts deadlines that were set on it before, say
// for a handshake. Of a connection that is not known that is left to the first
// call, which can report what it says.
func newLink(conn net.Conn) *link {
	l := &link{conn: conn}
	if h, ok := conn.(handshaker); ok {
		l.gate = new(turn)
		l.describeTLS(h)
	} else {
		l.raw, l.wakes = describe(conn)
		l.polls, l.takesVector = l.raw != nil, isSocket(conn)
	}
	if l.polls {
		l.taken, l.counts = takenBefore(l.raw)
	}
	if l.wakes {
		_ = conn.SetReadDeadline(time.Time{}) // if that fails, so will the first call
		_ = conn.SetWriteDeadline(time.Time{})
	}
	return l
}

// describe returns the descriptor of conn, if it is one of package net's that
// can be used without it, and whether conn is one of package net's at all.
func describe(conn net.Conn) (raw syscall.RawConn, wakes bool) {
	if isSocket(conn) {
		return descriptor(conn), true
	}
	return nil, isType(conn, "net", "pipe")
}

func isSocket(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// describeTLS looks below a *tls.Conn, which sets deadlines there and holds
// bytes of its own.
func (l *link) describeTLS(conn handshaker) {
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok && isType(conn, "crypto/tls", "Conn") {
		l.raw, l.wakes = describe(c.NetConn())
	}
}

// isType reports whether conn is a pointer to the type. To ask for it in its
// own terms would burden programs without TLS with all of crypto/tls, and
// cannot be done where the type is not exported.
func isType(conn net.Conn, pkg, name string) bool {
	t := reflect.TypeOf(conn)
	return t.Kind() == reflect.Pointer && t.Elem().Name() == name && t.Elem().PkgPath() == pkg
}

// kept returns what is known without asking the connection: that the stream has
// ended, or an error that came together with bytes.
func (c *call) kept() error {
	l := c.l
	if l.ended != nil {
		return l.ended
	}
	if err := l.next; err != nil {
		l.next = nil
		return c.heard(0, err)
	}
	return nil
}

// heard notes what a read of the connection has returned, and returns the error
// for the receive. Bytes that come with an error win.
func (c *call) heard(n int, err error) error {
	l := c.l
	switch {
	case n > 0:
		l.next = err
		return nil
	case err == io.EOF || err == io.ErrUnexpectedEOF || errors.Is(err, net.ErrClosed):
		return c.heardEnd(err)
	case err != nil:
		l.failure.Store(&failure{err, true})
		if l.readClosing.Load() {
			return errReadClosed
		}
	}
	return err
}

// goesOn notes that n bytes have come: a failure that a receive has reported is
// none then.
func (l *link) goesOn(n int) {
	l.taken += uint64(n)
	if f := l.failure.Load(); f != nil && f.told {
		l.failure.CompareAndSwap(f, nil)
	}
}

// noteFilled notes whether a read may have left something.
func (l *link) noteFilled(n, size int) {
	l.filled = 0
	if n == size {
		l.filled = size
	}
}

// heardEnd returns what the end of the stream stands for: err, unless it stands
// for a failure, behind which there may be more.
func (c *call) heardEnd(err error) error {
	l := c.l
	if l.readClosing.Load() {
		return errReadClosed
	}
	if l.failure.Load() == nil {
		c.question()
	}
	f := l.failure.Load()
	if f == nil {
		l.ended = err
		return err
	}
	if !f.told {
		l.failure.CompareAndSwap(f, &failure{f.err, true})
	}
	return f.err
}

// question finds out whether the end of the stream is one, where no call has
// told yet: the kernel may know, or a send that is inside the connection.
func (c *call) question() {
	l := c.l
	info := l.tcpInfo()
	counted := info.counted && l.counts
	hasFIN := info.received == l.taken+1 // which counts as a byte
	if counted && hasFIN {
		return
	}
	c.s.awaitSender(info.state)
	if counted && info.received == l.taken {
		l.failure.CompareAndSwap(nil, &failure{err: l.resetError()})
	}
}

// An inside says what a send does that is inside the connection, without the
// lock.
type inside uint8

const (
	outside inside = iota
	writing
	copying // and perhaps waiting for what it copies
)

// enterConn and leaveConn are around all that a send does with the connection
// and without the lock. While it is inside it may have met the error that a
// receive needs to know of.
func (h *half) enterConn(how inside) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inside = how
}

func (h *half) leaveConn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.comeOut()
}

// comeOut is leaveConn for who has the lock.
func (h *half) comeOut() {
	h.inside = outside
	if h.left != nil {
		close(h.left)
		h.left = nil
	}
}

// How long a receive that has found the end of the stream waits for a send that
// is inside the connection. A TCP connection that is dead ends every write at
// once.
const (
	maxAwaitSender     = 100 * time.Millisecond
	maxAwaitDeadSender = 10 * time.Second
)

// awaitSender waits for a send that is inside the connection, because an error
// that it has met may be what ended the stream.
func (s *BufferedSocket) awaitSender(state tcpState) {
	h := &s.send
	h.mu.Lock()
	how := h.inside
	if how == outside {
		h.mu.Unlock()
		return
	}
	if h.left == nil {
		h.left = make(chan struct{})
	}
	left := h.left
	h.mu.Unlock()

	patience := maxAwaitSender
	switch {
	case state == tcpAlive, state == tcpEnded:
		return // and so the end is one
	case state == tcpDead && how == writing:
		patience = maxAwaitDeadSender
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-left:
	case <-timer.C:
	}
}

// A tcpState is the state of a TCP connection.
type tcpState uint8

const (
	tcpUnknown tcpState = iota
	tcpAlive            // the peer's direction goes on
	tcpEnded            // it has ended, and nothing else
	tcpDead             // reset, given up, or ended in both directions
)

// A tcpInfo is what the kernel says of a TCP connection.
type tcpInfo struct {
	state    tcpState
	received uint64 // bytes, and one for the peer's end of its stream
	counted  bool   // received is known
}

// tcpInfo asks the kernel, if it is TCP at the bottom.
func (l *link) tcpInfo() tcpInfo {
	if l.raw == nil {
		return tcpInfo{}
	}
	return infoOf(l.raw)
}

// stateOf asks for the state of a connection that may be nobody's here.
func stateOf(conn net.Conn) tcpState {
	if raw := descriptor(conn); raw != nil {
		return infoOf(raw).state
	}
	return tcpUnknown
}

// noteSend notes what an error of a send tells: that nothing can be sent any
// more, and, if it is one of the operating system, that an end of the stream is
// none. A broken pipe tells of the sending side alone.
func (l *link) noteSend(err error) {
	if l.broken == nil {
		l.broken = err
	}
	l.noteSystemError(err)
}

func (l *link) noteSystemError(err error) {
	if l.failure.Load() == nil && !l.writeClosed.Load() && isSystemError(err) {
		l.failure.CompareAndSwap(nil, &failure{err: readError(err)})
	}
}

// isSystemError reports whether err tells that the connection is dead, and not
// only its sending side.
func isSystemError(err error) bool {
	_, op := errors.AsType[*net.OpError](err)
	return (op || isErrno(err)) && !isBrokenPipe(err) && !errors.Is(err, net.ErrClosed)
}

// readError dresses an error that a send has met as one of a read, in which its
// cause is found.
func readError(err error) error {
	var e net.OpError
	cause := err
	if op, ok := errors.AsType[*net.OpError](err); ok {
		e = *op
		cause = op.Err
	}
	if call, ok := cause.(*os.SyscallError); ok {
		cause = os.NewSyscallError("read", call.Err)
	}
	if _, bare := err.(*net.OpError); e.Err != nil && !bare {
		cause = &dressed{cause, err}
	}
	e.Op, e.Err = "read", cause
	return &e
}

// A dressed error has the text of an error in it and matches both.
type dressed struct {
	error
	all error
}

func (e *dressed) Unwrap() []error { return []error{e.error, e.all} }

// opError dresses an error of the descriptor as package net does.
func (l *link) opError(op string, err error) error {
	local := l.conn.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: l.conn.RemoteAddr(), Err: err}
}

// isDeadlineError reports whether err says that a deadline has passed, by its
// Timeout, as not each such error is a net.Error, or by what it matches. The
// kernel's ETIMEDOUT says so, too, of a connection that it has given up, and
// quic-go of one that was idle for too long.
func isDeadlineError(err error) bool {
	if err == nil || isGivenUp(err) || errors.Is(err, net.ErrClosed) {
		return false
	}
	e, ok := errors.AsType[timeouter](err)
	return ok && e.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

type timeouter interface {
	error
	Timeout() bool
}

// isTemporary reports whether a connection goes on after a timeout. That of a
// *tls.Conn does not after one in the middle of a write, nor if a handshake has
// failed, and this deprecated method is how it says so.
func isTemporary(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return !ok || e.Temporary()
}

// A handshaker is a connection that does a handshake before it transfers bytes,
// in both directions: a *tls.Conn.
type handshaker interface {
	net.Conn
	HandshakeContext(context.Context) error
}
