package bufsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// These stand for the errors that explain puts in their place, which tell of
// the call.
var (
	errTimeUp     = errors.New("time is up")
	errClosed     = errors.New("closed by Close")
	errReadClosed = errors.New("closed by CloseRead")
	errUnsent     = errors.New("to be flushed before a wait")
)

// A half is one direction of a socket: the turn of the call that works on it,
// its bytes, and what ends its waits.
//
// Who has the turn may read the bytes as it likes, and changes them with mu
// held. Others read them with mu held; all that they change is to add what a
// send that has failed could not send.
type half struct {
	turn
	sends  bool   // the direction is that of sends
	inside inside // what a send does without the lock
	data   *buffer
	direct *direct       // what the call has read into memory of the caller, or nil
	left   chan struct{} // closed when a send has come out of the connection
	alarm  alarm
	user   atomic.Int64 // the user's deadline, an instant
}

// A call is a request that has the turn, or waits for it. The state of a wait
// is here and not on the stack, which may stay small.
type call struct {
	request
	s *BufferedSocket
	h *half
	l *link // nil while the call does not have the turn

	until   instant     // when the call must end; never until the clock has been read
	watch   *watch      // over ctx
	unwatch func() bool // ends it
	cause   error       // the connection's own timeout error
	direct  direct      // what has been read into dst
	sent    int         // how many bytes a send has sent so far
	taken   int         // how many bytes a receive consumes when it ends

	idling bool // until is the end of the wait for the first byte
	armed  bool // there is something to settle
	tried  bool // the connection has been asked
	found  bool // and had something, the last time
	full   bool // and more than there was room for, perhaps
	out    bool // the time is up: nothing is left but a last try
	last   bool // it is that of Shutdown
	ended  bool // its timeout has ended a TLS session

	// Of tries at the descriptor.
	try     func(fd uintptr) bool
	probing bool   // the try must not wait
	flush   bool   // it must wait, and flush before
	flushed bool   // which has been done
	tries   int32  // that did not wait
	piece   []byte // what to write instead of the buffer
	moved   int    // bytes that the try has moved
	failed  error  // what it found instead

	// Of tries that do not wait.
	total int     // the bytes that they have moved
	burst instant // until when they may go on
}

var calls = sync.Pool{New: func() any {
	c := new(call)
	c.try = c.attempt()
	return c
}}

// newCall returns a call for the request. release must follow.
func (s *BufferedSocket) newCall(r *request, h *half) *call {
	c := calls.Get().(*call)
	c.request, c.s, c.h = *r, s, h
	c.idling = c.idleTimeout() != 0
	return c
}

func (c *call) release() {
	*c = call{try: c.try}
	calls.Put(c)
}

// unlockToWait returns a call for a request that what is buffered does not
// answer. If nobody has the turn, it is the call's own from now on, and end must
// follow. The caller has the lock of h and gives it away.
func (s *BufferedSocket) unlockToWait(r *request, h *half) *call {
	idle := h.isIdle()
	h.busy = h.busy || idle
	h.mu.Unlock()
	c := s.newCall(r, h)
	if idle {
		c.l = s.link.Load()
	}
	return c
}

// enter gets the turn. Unless there is an error, leave must follow.
func (c *call) enter() error {
	if c.l == nil {
		if err := c.h.enter(c); err != nil {
			return err
		}
	}
	c.own()
	return nil
}

// own prepares a call that has got the turn.
func (c *call) own() {
	c.l = c.s.link.Load()
	switch {
	case c.h.sends:
	case c.h.data.len() > 0:
		if c.idling {
			c.begin()
		}
	case c.l.polls && c.ctx == nil && c.timeout != 0 && c.given&optConn == 0:
		// It will mostly have to wait, and where it does there is less stack.
		if c.h.alarm.timer == nil {
			c.makeTimer()
		}
		_ = c.startWait()
	}
}

// start returns when the request began, if that will be asked.
func (r *request) start() instant {
	if r.timeout > 0 {
		return now()
	}
	return never
}

// takeOver is enter for a request that has the turn and now has to wait.
func (c *call) takeOver(begun instant) {
	c.idling = c.idling && c.h.data.len() == 0
	if !c.idling {
		c.until = begun.plus(c.timeout) // never, if nobody asked for the start
	}
	c.own()
}

// leave consumes what the call has taken and gives its turn back.
func (c *call) leave() {
	defer c.h.leave(c.taken)
	c.settle()
	c.l = nil
}

// leave consumes n bytes, ends the turn, and gives back memory that is not
// needed.
func (h *half) leave(n int) {
	h.mu.Lock()
	h.restoreDirect()
	h.comeOut()
	h.data.unpin()
	h.data.consume(n)
	h.pass()
	h.unlock()
}

// end consumes n bytes and ends a turn that was taken without a call: that of c,
// which has taken it over in order to wait, or nil.
func (h *half) end(c *call, n int) {
	if c == nil {
		h.leave(n)
		return
	}
	defer c.end()
	c.consume(n)
}

// consume has the call consume n bytes when it ends, unless it panics until then.
func (c *call) consume(n int) {
	c.settle()
	c.taken = n
}

// unlock gives back memory that is not needed, and unlocks h.
func (h *half) unlock() {
	if !h.busy && (h.data.wasteful() || h.state.Load() == closed) {
		h.tidy()
	}
	h.mu.Unlock()
}

// tidy gives back memory that is not needed. Nobody may have the turn.
func (h *half) tidy() {
	if h.data != nil && h.state.Load() == closed {
		h.data.free()
		h.data = nil
	}
	h.data = h.data.tidy()
}

// shut is that of the turn; at the end it empties the buffer.
func (h *half) shut(to state) bool {
	news := h.turn.shut(to)
	h.mu.Lock()
	h.unlock()
	return news
}

// isOpen reports whether a call may begin. It is asked with mu held.
func (h *half) isOpen() bool { return h.state.Load() == open }

// isIdle reports whether a request can be answered without waiting for a turn.
// It is asked with mu held.
func (h *half) isIdle() bool { return !h.busy && h.isOpen() }

// isClosed returns an error after Close.
func (h *half) isClosed(op string) error {
	if !h.isOpen() {
		return &closedError{op}
	}
	return nil
}

// idleTimeout returns how long the call may wait for the first byte: for ever if
// it is negative, and if it is zero the timeout covers that.
func (c *call) idleTimeout() time.Duration {
	switch {
	case c.h.sends || c.timeout == 0:
		return 0
	case c.given&optIdle != 0:
		return c.idle
	case c.given&(optTimeout|optConn) != 0:
		return 0
	}
	return time.Duration(c.s.idle.Load())
}

// patience returns how long the call may wait for its turn.
func (c *call) patience() (d time.Duration, finite bool) {
	c.startClock()
	until := c.until
	if user := c.h.deadline(); user != never && (until == never || user < until) {
		until = user
	}
	if until == never {
		return 0, false
	}
	return time.Duration(until - now()), true
}

// startClock decides when the call must end, if that was not needed yet.
func (c *call) startClock() {
	if c.until != never {
		return
	}
	switch {
	case c.idling:
		c.until = c.idleEnd()
	case c.timeout >= 0:
		c.until = now().plus(c.timeout)
	}
}

// idleEnd returns when a wait for the first byte must end that begins now.
func (c *call) idleEnd() instant {
	if d := c.idleTimeout(); d > 0 {
		return now().plus(d)
	}
	return never
}

// begin ends the wait for the first byte: from now on the timeout counts.
func (c *call) begin() {
	c.idling, c.out = false, false
	until := never
	if c.timeout > 0 {
		until = now().plus(c.timeout)
	}
	_ = c.extend(until) // what refuses that has refused the idle timeout
}

// goOn says whether the call may go on. It is asked after every moment without
// the turn, and after everything that may have taken its time.
func (c *call) goOn() error {
	state := c.h.state.Load()
	switch {
	case state == closed, state == closing && !c.last && !c.h.sends:
		return errClosed
	case !c.h.sends && c.l.readClosed.Load():
		return errReadClosed
	}
	return nil
}

func (r *request) canceled() bool { return r.ctx != nil && r.ctx.Err() != nil }

// expired reports whether the call's own time is up, its context's included.
func (c *call) expired() bool {
	return c.until != never && now() >= c.until || c.canceled()
}

// giveUp leaves nothing but a last try, for what has arrived, to a call whose
// time is up.
func (c *call) giveUp() {
	c.out = true
	c.settle()
}

// isEnd reports whether err says that the stream has ended, by the peer or by
// our own CloseRead.
func isEnd(err error) bool { return err == io.EOF || err == errReadClosed }

// explain returns the error that the caller of the method gets for err.
func (c *call) explain(err error, w want) error {
	switch err {
	case nil:
		return nil
	case errClosed:
		return &closedError{c.op}
	}
	if err == io.EOF && c.h.sends {
		return err
	}
	n := c.h.size()
	switch err {
	case io.EOF:
		return &ConnectionClosedError{Op: c.op, Buffered: n, Err: endOfStream(n > 0), want: w}
	case io.ErrUnexpectedEOF:
		if c.l.gate != nil { // inside a record of TLS
			return &ConnectionClosedError{Op: c.op, Buffered: n, Err: err, want: w}
		}
	case errReadClosed:
		cut := n > 0 || w.kind == wantEnd
		return &ConnectionClosedError{Op: c.op, Buffered: n, Err: endOfStream(cut), want: w, local: true}
	case errTimeUp:
		return c.timeUp(n, w)
	}
	return err
}

// explainUntil is explain for a wait for a delimiter.
func (c *call) explainUntil(err error, delim []byte) error { return c.explain(err, wantDelim(delim)) }

// explainConn is explain for the methods of net.Conn, which return errors of
// the connection as they are.
func (c *call) explainConn(err error) error {
	switch err {
	case io.EOF, io.ErrUnexpectedEOF:
		return err
	case errReadClosed:
		return io.EOF
	case errTimeUp:
		if _, ok := errors.AsType[net.Error](c.cause); ok { // else nobody would see a timeout
			return c.cause
		}
	}
	return c.explain(err, want{})
}

func (c *call) timeUp(n int, w want) error {
	e := &TimeoutError{Op: c.op, After: max(c.timeout, NoTimeout), Buffered: n, want: w, endedTLS: c.ended}
	e.early = !c.out && !c.expired()
	if c.idling {
		e.idle, e.After = true, max(c.idleTimeout(), NoTimeout)
	}
	switch {
	case c.canceled():
		cause := context.Cause(c.ctx)
		if !errors.Is(c.ctx.Err(), context.DeadlineExceeded) {
			return &canceledError{c.op, n, cause, w}
		}
		e.Err, e.ended = cause, true
		if !errors.Is(cause, context.DeadlineExceeded) {
			e.Err = fmt.Errorf("%w: %w", context.DeadlineExceeded, cause)
		}
	case c.timeout == 0:
		e.Err = ErrWouldBlock
	case c.cause != nil:
		e.Err = c.cause
	default:
		e.Err = os.ErrDeadlineExceeded
	}
	return e
}

// plus adds counts that are not below zero, up to what an int can hold.
func plus(a, b int) int {
	if a > math.MaxInt-b {
		return math.MaxInt
	}
	return a + b
}
