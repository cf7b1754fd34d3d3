package bufsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"time"
)

// An instant is a moment on the monotonic clock, counted from epoch.
type instant int64

const (
	never instant = 0  // as the end of a wait: there is none
	probe instant = -1 // as the end of a wait: do not wait, only try
)

// epoch lies decades back, so that the moments of a faked clock, which has no
// monotonic reading and may begin long ago, are above never, too.
var epoch = time.Now().Add(-50 * 365 * 24 * time.Hour)

func now() instant { return instant(time.Since(epoch)) }

// plus returns the moment d later, or never if that is out of reach.
func (t instant) plus(d time.Duration) instant { return max(t+instant(d), never) }

func (t instant) time() time.Time { return epoch.Add(time.Duration(t)) }

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)

// grace is how long a NonBlocking call may wait on a connection that offers
// no other way to learn what has arrived.
const grace = time.Millisecond

// These stand for the errors that explain puts in their place, which tell of
// the call.
var (
	errTimeUp = errors.New("time is up")
	errClosed = errors.New("closed by Close")
)

// A half is one direction of a socket: its buffer, the turn of the call that
// works on it, and the deadline of that call.
//
// A call holds mu from beginning to end, except while it waits: then it sets
// busy, which keeps other calls in the queue, and lets go of mu, so that it
// is never held for long. The deadline of the connection, in this direction,
// is set with mu held.
//
// While a half is busy its call may be reading into or writing from the memory
// of data without mu, so nobody else moves queued bytes or gives memory back.
// All that another call does is to add the bytes of a send that has failed.
type half struct {
	mu     sync.Mutex
	data   *buffer
	queue  *waiter               // calls waiting for their turn, a ring; the last of them
	try    func(fd uintptr) bool // moves bytes between data and the descriptor, if there is one
	until  instant               // when the waiting call must end, never, or probe
	moved  int32                 // by the last try: bytes, or a result below zero
	busy   bool                  // a call has the turn and has let go of mu
	armed  bool                  // the connection's deadline is the call's, not the user's
	kicked bool                  // it lies in the past, to end the call
	closed bool
}

// A waiter is a call in the queue.
type waiter struct {
	next      *waiter
	wake      chan struct{} // has a token when there is something to look at
	granted   bool          // the turn is its own
	overtaken int8          // how often another call may have gone first
}

// maxOvertaken is how often a waiter may be overtaken. Waking it for each
// message would cost more than most messages do.
const maxOvertaken = 16

// push adds a waiter at the end of the queue.
func (h *half) push() *waiter {
	w := &waiter{wake: make(chan struct{}, 1)}
	if h.queue == nil {
		w.next = w
	} else {
		w.next = h.queue.next
		h.queue.next = w
	}
	h.queue = w
	return w
}

// remove takes w out of the queue.
func (h *half) remove(w *waiter) {
	before := w
	for before.next != w {
		before = before.next
	}
	before.next = w.next
	switch {
	case before == w:
		h.queue = nil
	case h.queue == w:
		h.queue = before
	}
}

func (w *waiter) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// notifyAll makes all waiters look at the state of the half again.
func (h *half) notifyAll() {
	if h.queue == nil {
		return
	}
	for w := h.queue.next; ; w = w.next {
		w.notify()
		if w == h.queue {
			return
		}
	}
}

// passTurn ends a turn. The first in the queue may take the next one when it
// has woken up, unless a call has come in between, or is given it.
func (h *half) passTurn() {
	h.busy = false
	if h.queue == nil {
		return
	}
	w := h.queue.next
	if w.overtaken++; w.overtaken > maxOvertaken {
		h.remove(w)
		w.granted, h.busy = true, true
	}
	w.notify()
}

// mayTakeTurn reports whether w is the next.
func (h *half) mayTakeTurn(w *waiter) bool { return !h.busy && h.queue.next == w }

// giveUp takes w out of the queue and has another look at it in its place.
func (h *half) giveUp(w *waiter) {
	next := h.mayTakeTurn(w)
	h.remove(w)
	if next {
		h.passTurn()
	}
}

// A request is what a call of a method was asked for. What is buffered may be
// the answer to it, and then there is no more to a call than this: it should
// stay small.
type request struct {
	op        string
	timeout   time.Duration
	max       int             // the max size, or NoLimit
	ctx       context.Context // nil: none
	dst       []byte          // what to append the message to; nil: new memory
	keepDelim bool            // return the delimiter, too
}

// A call is a request that may have to wait.
type call struct {
	request

	until  instant // when the call must end; never until the clock has been read
	turn   bool    // the half is busy with this call
	tried  bool    // the connection has been asked
	found  bool    // and had something, though the time was up
	probes int     // how often the descriptor has been tried without waiting
	out    bool    // the time is up: nothing is left but one last try
	cause  error   // the connection's own timeout error
	sent   int     // how many bytes a send has sent so far

	stop  func() bool   // ends the watch over ctx
	fired chan struct{} // closed when the watch has fired
}

// enter locks h and gets the turn. Whatever it returns, leave must follow.
func (s *BufferedSocket) enter(c *call, h *half) error {
	h.mu.Lock()
	if h.busy {
		if err := s.queueUp(c, h); err != nil {
			return err
		}
	}
	if h.closed {
		return errClosed
	}
	return nil
}

// leave gives back what the call has taken: the connection's deadline, memory,
// the turn, the lock.
func (s *BufferedSocket) leave(c *call, h *half) {
	if c.turn {
		s.settle(c, h)
		h.passTurn()
	}
	h.unlock()
}

// idle reports whether a request can be answered without waiting for a turn.
func (h *half) idle() bool { return !h.busy && !h.closed }

// unlock gives back memory that is not needed, and unlocks h.
func (h *half) unlock() {
	if !h.busy && (h.closed || h.data.wasteful()) {
		h.tidy()
	}
	h.mu.Unlock()
}

// hold gets the turn and keeps it without the lock, until release.
func (s *BufferedSocket) hold(c *call, h *half) error {
	if err := s.enter(c, h); err != nil {
		defer s.leave(c, h)
		return s.explain(c, h, err, want{})
	}
	c.turn, h.busy = true, true
	h.mu.Unlock()
	return nil
}

func (s *BufferedSocket) release(c *call, h *half) {
	h.mu.Lock()
	s.leave(c, h)
}

// tidy gives back memory that is not needed. Nobody may have the turn.
func (h *half) tidy() {
	if h.closed && h.data != nil {
		h.data.free()
		h.data = nil
	}
	h.data = h.data.tidy()
}

// queueUp waits for the turn.
func (s *BufferedSocket) queueUp(c *call, h *half) error {
	w := h.push()
	for {
		d, finite := s.patience(c, h)
		if finite && d <= 0 {
			h.giveUp(w)
			return errTimeUp
		}
		w.sleep(c, h, d, finite)
		switch {
		case w.granted:
			c.turn = true
			return nil
		case h.closed:
			h.giveUp(w)
			return errClosed
		case h.mayTakeTurn(w):
			h.remove(w)
			c.turn, h.busy = true, true
			return nil
		case c.canceled():
			h.giveUp(w)
			return errTimeUp
		}
	}
}

// sleep lets go of the lock until there is something to look at: a token, the
// end of the context, or the end of the call's time.
func (w *waiter) sleep(c *call, h *half, d time.Duration, finite bool) {
	var timeout <-chan time.Time
	if finite {
		timer := time.NewTimer(d)
		defer timer.Stop()
		timeout = timer.C
	}
	var done <-chan struct{}
	if c.ctx != nil {
		done = c.ctx.Done()
	}
	h.mu.Unlock()
	defer h.mu.Lock()
	select {
	case <-w.wake:
	case <-timeout:
	case <-done:
	}
}

// patience returns how long the call may wait for its turn.
func (s *BufferedSocket) patience(c *call, h *half) (d time.Duration, finite bool) {
	if c.timeout >= 0 {
		t := now()
		if c.until == never {
			c.until = t.plus(c.timeout)
		}
		if c.until != never {
			d, finite = time.Duration(c.until-t), true
		}
	}
	if t := s.userDeadline(h); !t.IsZero() {
		if left := time.Until(t); !finite || left < d {
			d, finite = left, true
		}
	}
	return d, finite
}

func (r *request) canceled() bool { return r.ctx != nil && r.ctx.Err() != nil }

// expired reports whether the call's own time is up, its context's included.
func (c *call) expired() bool {
	return c.canceled() || c.until != never && now() >= c.until
}

// A call may make so many probes, as long as they find something, before it
// looks at the clock; a NonBlocking one goes on for burst. That is enough for
// all that a kernel holds.
const (
	maxProbes = 256
	burst     = 50 * time.Millisecond
)

// pace is asked before each try at the connection. It keeps the turn for the
// call and says until when the try may wait, or that there is no time left:
//
//	time left    until the end of the call's time
//	NonBlocking  probe where that can be done, else wait for the grace
//	time up      the same, if the connection has not been asked yet, and as
//	             long as such tries find something
func (s *BufferedSocket) pace(c *call, h *half, probing bool) (instant, error) {
	c.turn, h.busy = true, true
	if !c.out && c.expired() {
		c.out = true
		c.until = now().plus(grace)
		s.settle(c, h)
	}
	if probing && (c.out || c.timeout == 0) {
		return c.probe()
	}
	switch {
	case c.out && c.tried && (!c.found || now() >= c.until):
		return 0, errTimeUp
	case c.until == never && c.timeout == 0:
		c.until = now().plus(grace)
	case c.until == never && c.timeout > 0:
		c.until = now().plus(c.timeout)
	}
	return c.until, nil
}

// probe allows a probe, unless a peer that sends without end has kept the call
// at it for too long.
func (c *call) probe() (instant, error) {
	c.probes++
	switch {
	case c.probes == maxProbes && c.out:
		c.until = now().plus(grace)
	case c.probes == maxProbes:
		c.until = now().plus(burst)
	case c.probes > maxProbes && now() >= c.until:
		return 0, errTimeUp
	}
	return probe, nil
}

// watch arranges that the end of the call's context ends the call.
func (s *BufferedSocket) watch(c *call, h *half) {
	if c.out || c.ctx == nil || c.stop != nil || c.ctx.Done() == nil {
		return
	}
	fired := make(chan struct{})
	c.fired = fired
	c.stop = context.AfterFunc(c.ctx, func() {
		h.mu.Lock()
		h.armed, h.kicked = true, true
		s.setConnDeadline(h, past)
		h.mu.Unlock()
		close(fired)
	})
}

// settle ends the watch and gives the connection the user's deadline back.
func (s *BufferedSocket) settle(c *call, h *half) {
	if c.stop != nil {
		if !c.stop() {
			h.mu.Unlock()
			<-c.fired
			h.mu.Lock()
		}
		c.stop = nil
	}
	h.until = never
	if h.armed {
		h.armed, h.kicked = false, false
		s.setConnDeadline(h, s.userDeadline(h))
	}
}

// arm gives the connection the deadline of the call, if it is the earlier one.
func (s *BufferedSocket) arm(h *half) error {
	if h.armed || h.until == never {
		return nil
	}
	t := h.until.time()
	if user := s.userDeadline(h); !user.IsZero() && user.Before(t) {
		return nil
	}
	h.armed = true
	err := s.setConnDeadline(h, t)
	if errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) {
		return nil // the read or write itself says it better
	}
	return err
}

// transfer makes one Read or Write of the connection, of p. Bytes may have
// been transferred even if it returns an error.
func (s *BufferedSocket) transfer(c *call, h *half, p []byte) (int, error) {
	if err := s.begin(c, h); err != nil {
		return 0, err
	}
	n, err := s.unlocked(h, p)
	return s.judge(c, h, n, len(p), err)
}

// begin sets the deadline for a transfer. If the user's has passed there will
// be none: crypto/tls would take even an attempt for the end of the session.
func (s *BufferedSocket) begin(c *call, h *half) error {
	until, err := s.pace(c, h, false)
	if err != nil {
		return err
	}
	if s.handshake != nil && !s.userDeadlinePassed(h) {
		if err := s.shakeHands(c, h); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() && s.userDeadlinePassed(h) {
				c.cause, err = err, errTimeUp
			}
			return err
		}
	}
	s.watch(c, h)
	if s.userDeadlinePassed(h) {
		return errTimeUp
	}
	h.until = until
	return s.arm(h)
}

// A handshaker is a connection that does a handshake before it transfers bytes,
// in both directions: a *tls.Conn.
type handshaker interface {
	net.Conn
	HandshakeContext(context.Context) error
}

// hasShakenHands reports whether a *tls.Conn has done its handshake. To ask it
// in its own terms would burden programs without TLS with all of crypto/tls.
func hasShakenHands(conn handshaker) bool {
	state := reflect.ValueOf(conn).MethodByName("ConnectionState")
	if !state.IsValid() || state.Type().NumIn() != 0 || state.Type().NumOut() != 1 {
		return false
	}
	result := reflect.Indirect(state.Call(nil)[0])
	if result.Kind() != reflect.Struct {
		return false
	}
	complete := result.FieldByName("HandshakeComplete")
	return complete.Kind() == reflect.Bool && complete.Bool()
}

// shakeHands does the handshake if it is due. The deadline of one direction
// would not bound it, so it gets the call's as a context, and a turn of its
// own.
func (s *BufferedSocket) shakeHands(c *call, h *half) error {
	conn, gate, until := s.conn.(handshaker), s.handshake, c.until
	if user := s.userDeadline(h); !user.IsZero() {
		if t := now().plus(time.Until(user)); until == never || t < until {
			until = t
		}
	}
	h.mu.Unlock()
	defer h.mu.Lock()
	g := call{request: request{timeout: c.timeout, ctx: c.ctx}, until: until}
	if until != never {
		g.timeout = max(g.timeout, 0)
	}
	err := s.enter(&g, gate)
	defer s.leave(&g, gate)
	if err != nil || gate.moved > 0 {
		return err
	}
	if c.canceled() && !hasShakenHands(conn) {
		return errTimeUp // a handshake begun now would only end the session
	}
	ctx := c.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	if until != never {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until.time())
		defer cancel()
	}
	g.turn, gate.busy = true, true
	err = gate.unlockedHandshake(ctx, conn)
	switch {
	case err == nil:
		gate.moved = 1 // done
	case gate.closed:
		err = errClosed
	case ctx.Err() != nil:
		err = errTimeUp
	}
	return err
}

// unlockedHandshake lets go of the lock for the handshake, which may panic: it
// calls functions of a tls.Config.
func (h *half) unlockedHandshake(ctx context.Context, conn handshaker) error {
	h.mu.Unlock()
	defer h.mu.Lock()
	return conn.HandshakeContext(ctx)
}

// unlocked lets go of the lock for the Read or Write.
func (s *BufferedSocket) unlocked(h *half, p []byte) (int, error) {
	conn := s.conn
	h.mu.Unlock()
	defer h.mu.Lock()
	if h == &s.recv {
		return conn.Read(p)
	}
	return conn.Write(p)
}

// unlockedCopy copies from r to w until the end of r, in the turn of the call
// on h and without the lock.
func (s *BufferedSocket) unlockedCopy(c *call, h *half, w io.Writer, r io.Reader) (n int64, err error) {
	c.turn, h.busy = true, true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		if h.closed && err != nil {
			err = &closedError{c.op}
		}
	}()
	return io.Copy(w, r)
}

// judge looks at what the connection returned for a transfer of size bytes.
func (s *BufferedSocket) judge(c *call, h *half, n, size int, err error) (int, error) {
	c.tried, c.found = true, c.out && n > 0
	switch {
	case n < 0 || n > size:
		return 0, errors.New("bufsock: " + c.op + ": the connection returned an impossible count")
	case h.closed:
		return n, errClosed
	case s.isTimeout(c, h, err):
		if n == size {
			return n, nil // late, but done
		}
		c.cause = err
		return n, errTimeUp
	}
	return n, err
}

// isTimeout reports whether err says that a deadline has passed. A connection
// that is dead may say so, too, as ETIMEDOUT and a failed TLS handshake do:
// then it is not temporary, or not a matter of deadlines, and none has passed.
func (s *BufferedSocket) isTimeout(c *call, h *half, err error) bool {
	e, ok := errors.AsType[net.Error](err)
	if !ok || !e.Timeout() {
		return false
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && isTemporary(e) {
		return true
	}
	return c.expired() || s.userDeadlinePassed(h)
}

// isTemporary calls a deprecated method of net.Error, which tells a deadline that
// has passed from a connection that is dead.
func isTemporary(err interface{ Temporary() bool }) bool { return err.Temporary() }

// explain returns the error that the caller of the method gets for err.
func (s *BufferedSocket) explain(c *call, h *half, err error, w want) error {
	n := h.data.len()
	switch err {
	case errClosed:
		return &closedError{c.op}
	case io.EOF:
		return &ConnectionClosedError{c.op, n, endOfStream(n > 0), w}
	case errTimeUp:
		return c.timeUp(n, w)
	}
	if s.raw != nil && isReset(err) {
		reset := err // which err itself, on the heap in every call, is not to be
		s.reset.Store(&reset)
	}
	return err
}

func (c *call) timeUp(n int, w want) error {
	e := &TimeoutError{Op: c.op, After: max(c.timeout, NoTimeout), Buffered: n, want: w}
	e.early = !c.out && !c.expired()
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

// userDeadlines are the deadlines set with SetReadDeadline and
// SetWriteDeadline, each guarded by the lock of its half.
type userDeadlines struct{ read, write time.Time }

func (s *BufferedSocket) userDeadline(h *half) time.Time {
	switch d := s.user.Load(); {
	case d == nil:
		return time.Time{}
	case h == &s.recv:
		return d.read
	case h == &s.send:
		return d.write
	}
	return time.Time{} // of the gate to a handshake
}

func (s *BufferedSocket) userDeadlinePassed(h *half) bool {
	t := s.userDeadline(h)
	return !t.IsZero() && time.Until(t) <= 0
}

// setUserDeadline keeps t as the user's deadline and passes it on. If a call
// is waiting, the earlier of its deadline and t bounds it from now on.
func (s *BufferedSocket) setUserDeadline(op string, h *half, t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return &closedError{op}
	}
	effective := t
	if h.until > never && (t.IsZero() || h.until.time().Before(t)) {
		effective = h.until.time()
		h.armed = true
	}
	if !h.kicked {
		if err := s.setConnDeadline(h, effective); err != nil {
			return err
		}
	}
	d := s.user.Load()
	if d == nil {
		s.user.CompareAndSwap(nil, new(userDeadlines))
		d = s.user.Load()
	}
	if h == &s.recv {
		d.read = t
	} else {
		d.write = t
	}
	h.notifyAll()
	return nil
}

func (s *BufferedSocket) setConnDeadline(h *half, t time.Time) error {
	if h == &s.recv {
		return s.conn.SetReadDeadline(t)
	}
	return s.conn.SetWriteDeadline(t)
}
