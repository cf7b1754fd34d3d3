package bufsock

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// An instant is a moment on the monotonic clock, counted from epoch.
type instant int64

const never instant = 0 // as the end of a wait: there is none

// epoch lies decades back, so that the moments of a faked clock, which has no
// monotonic reading and may begin long ago, are above never, too.
var epoch = time.Now().Add(-50 * 365 * 24 * time.Hour)

func now() instant { return instant(time.Since(epoch)) }

// plus returns the moment d later, or never if that is out of reach.
func (t instant) plus(d time.Duration) instant { return max(t+instant(d), never) }

func (t instant) time() time.Time { return epoch.Add(time.Duration(t)) }

// instantOf returns t as an instant, and never for the zero time.
func instantOf(t time.Time) instant {
	if t.IsZero() {
		return never
	}
	return max(instant(t.Sub(epoch)), never+1)
}

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)

// grace is how long a NonBlocking call may wait on a connection that offers
// no other way to learn what has arrived.
const grace = time.Millisecond

// An alarm ends the waits of one direction. It is the one place that sets the
// deadline of the connection there, which is, in this order:
//
//	past                 if the call must end, or its direction has
//	the call's own end   if that comes first, on a connection whose Read a
//	                     later deadline may not wake
//	the user's           else
//
// So on a connection that a deadline does wake nothing is set for a call until
// its time is up. A timer tells that; it is left armed behind the call, and if
// it fires too early for the next one it is set anew.
type alarm struct {
	mu      sync.Mutex  // held in calls of the connection's deadline methods
	user    *time.Time  // the user's deadline; nil if there was never one
	timer   *time.Timer // nil until the first wait
	rings   instant     // when it fires, or never
	until   instant     // the end of the call under way, or never
	call    uint32      // the number of that call, so that none is ended for another
	active  bool        // there is one
	kicked  bool        // it has been woken, and the deadline lies in the past
	stopped bool        // and stays there: the direction has ended
	looking bool        // it lies there for a look at what TLS holds
	lifted  bool        // deadlines from before the socket, or an earlier call, are gone
	panic   *any        // what foreign code panicked with where no caller is
}

// startWait arranges that the call ends when it must. It is called before the
// first wait; what it has begun settle ends.
func (c *call) startWait() error {
	if c.armed {
		return nil
	}
	if c.timeout != 0 {
		c.startClock()
	}
	watched := !c.out && c.ctx != nil && c.ctx.Done() != nil
	if c.l.wakes && c.until == never && !watched {
		return nil
	}
	c.armed = true
	number, err := c.h.arm(c.s, c.l, c.until, watched)
	if err == nil && watched {
		c.watchContext(number)
	}
	return err
}

// watchContext sees that the end of the context ends the call of the number.
func (c *call) watchContext(number uint32) {
	s, h := c.s, c.h
	c.watch = &watch{Context: c.ctx, end: func() { s.cancel(h, number) }}
	c.unwatch = context.AfterFunc(c.watch, c.watch.end)
}

// A watch is the context of a call as package context gets to see it, which may
// ask it on a goroutine of its own. If it panics, that ends the call, and is
// kept for it.
type watch struct {
	context.Context
	end      func()
	panicked atomic.Pointer[any]
}

func (w *watch) Done() <-chan struct{} {
	defer w.recovered()
	return w.Context.Done()
}

func (w *watch) Err() (err error) {
	defer w.recovered()
	err = context.Canceled //nolint:wastedassign // returned if it panics
	return w.Context.Err()
}

func (w *watch) Value(key any) any {
	defer w.recovered()
	return w.Context.Value(key)
}

func (w *watch) recovered() {
	if p := recover(); p != nil {
		w.panicked.CompareAndSwap(nil, &p)
		w.end()
	}
}

// pass panics with what the context has panicked with.
func (w *watch) pass() {
	if p := w.panicked.Load(); p != nil {
		panic(*p)
	}
}

// arm sets the alarm for a new call that ends at until.
func (h *half) arm(s *BufferedSocket, l *link, until instant, watched bool) (number uint32, err error) {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	a.call++
	a.active, a.until = true, until
	bounded := until != never || watched // by a context alone, too: it must not wait in vain
	switch {
	case l.wakes:
		h.setTimer(s)
	case bounded || !a.lifted:
		err = h.applyDeadline(l)
		a.lifted = err == nil
	}
	if !bounded {
		err = nil // of no concern to a call without a timeout
	}
	return a.call, ignoreClosed(err)
}

// lift gives the connection the user's deadline, if it may have one from before.
// A failure is left to the first call that needs a deadline.
func (h *half) lift(l *link) {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	if !l.wakes && !a.lifted {
		a.lifted = h.applyDeadline(l) == nil
	}
}

// extend gives the call under way another end.
func (c *call) extend(until instant) error {
	c.until = until
	if !c.armed {
		return nil
	}
	a := &c.h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	kicked := a.kicked // by the end that it had before; a cancel will be seen
	a.until, a.kicked = until, false
	if c.l.wakes {
		c.h.setTimer(c.s)
	}
	if c.l.wakes && !kicked {
		return nil
	}
	return ignoreClosed(c.h.applyDeadline(c.l))
}

// settle ends what startWait has begun, and gives the connection the user's
// deadline back.
func (c *call) settle() {
	if !c.armed {
		return
	}
	c.armed = false
	if w := c.watch; w != nil {
		c.unwatch()
		c.watch, c.unwatch = nil, nil
		defer w.pass()
	}
	if p := c.h.disarm(c.l); p != nil {
		panic(*p)
	}
}

// disarm ends the call under way. Kicks that come later find it gone.
func (h *half) disarm(l *link) (panicked *any) {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	restore := a.kicked || !l.wakes && a.until != never
	a.active, a.kicked, a.until = false, false, never
	panicked, a.panic = a.panic, nil
	if restore {
		a.lifted = false
		a.lifted = h.applyDeadline(l) == nil // else the next call does it
	}
	return panicked
}

// setTimer sees that the timer fires at the end of the call under way, or
// earlier. The caller has the lock of the alarm.
func (h *half) setTimer(s *BufferedSocket) {
	a := &h.alarm
	if a.until == never || a.rings != never && a.rings <= a.until {
		return
	}
	a.rings = a.until
	d := time.Duration(a.until - now())
	if a.timer == nil {
		a.timer = time.AfterFunc(d, func() { s.ring(h) })
		return
	}
	a.timer.Reset(d)
}

// makeTimer is what setTimer does for the first call, in fewer frames.
func (c *call) makeTimer() {
	c.startClock()
	if c.until == never {
		return
	}
	s, h := c.s, c.h
	h.alarm.mu.Lock()
	defer h.alarm.mu.Unlock()
	h.alarm.rings = c.until
	h.alarm.timer = time.AfterFunc(time.Duration(c.until-now()), func() { s.ring(h) })
}

// ring is what the timer does: it ends the call under way if its time is up.
func (s *BufferedSocket) ring(h *half) {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rings = never
	switch {
	case !a.active || a.until == never:
	case now() < a.until:
		h.setTimer(s)
	default:
		h.kick(s.link.Load())
	}
}

// cancel ends the call of the number, unless it has ended.
func (s *BufferedSocket) cancel(h *half, number uint32) {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.active && a.call == number {
		h.kick(s.link.Load())
	}
}

// kick wakes the call under way.
func (h *half) kick(l *link) {
	h.alarm.kicked = true
	h.wake(l)
}

// wake gives the connection the deadline that is due, where no caller is: a
// panic is kept for the call under way.
func (h *half) wake(l *link) {
	defer func() {
		if p := recover(); p != nil {
			h.alarm.panic = &p
		}
	}()
	_ = h.applyDeadline(l)
}

// stop ends the call under way and all that follow, until restart.
func (h *half) stop(l *link) {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	h.wake(l)
}

// look puts the deadline into the past while a call looks at what TLS holds.
func (h *half) look(l *link, looking bool) {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looking = looking
	_ = h.applyDeadline(l)
}

// stopTimer lets no timer keep the socket alive, if nobody is just using it.
func (h *half) stopTimer() {
	a := &h.alarm
	if !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
		a.rings = never
	}
}

// restart lets calls wait again.
func (h *half) restart(l *link) error {
	a := &h.alarm
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = false
	return ignoreClosed(h.applyDeadline(l))
}

// applyDeadline gives the connection the deadline that is due. The caller has
// the lock of the alarm.
func (h *half) applyDeadline(l *link) error {
	a := &h.alarm
	t, user := time.Time{}, h.deadline()
	if user != never {
		t = *a.user
	}
	switch {
	case a.kicked || a.stopped || a.looking:
		t = past
	case !l.wakes && a.until != never && (user == never || a.until < user):
		t = a.until.time()
	}
	return h.setDeadline(l, t)
}

func (h *half) setDeadline(l *link, t time.Time) error {
	if h.sends {
		return l.conn.SetWriteDeadline(t)
	}
	return l.conn.SetReadDeadline(t)
}

// deadline returns the deadline that the user has set, or never.
func (h *half) deadline() instant { return instant(h.user.Load()) }

func (h *half) keepDeadline(t time.Time) {
	*h.alarm.user = t
	h.user.Store(int64(instantOf(t)))
}

func (h *half) deadlinePassed() bool {
	t := h.deadline()
	return t != never && now() >= t
}

// setUserDeadline keeps t as the user's deadline and passes it on, to calls
// under way as well.
func (s *BufferedSocket) setUserDeadline(op string, h *half, t time.Time) error {
	if err := h.isClosed(op); err != nil {
		return err
	}
	h.alarm.mu.Lock()
	defer h.alarm.mu.Unlock()
	if h.alarm.user == nil {
		h.alarm.user = new(time.Time)
	}
	before := *h.alarm.user
	h.keepDeadline(t)
	if err := h.applyDeadline(s.link.Load()); err != nil {
		h.keepDeadline(before)
		return err
	}
	h.alarm.lifted = true
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notifyAll()
	return nil
}

// context returns a context that ends when the call must.
func (c *call) context() (_ context.Context, cancel context.CancelFunc) {
	c.startClock()
	ctx, until := context.Background(), c.until
	if c.ctx != nil {
		w := &watch{Context: c.ctx, end: func() {}}
		defer func() {
			before := cancel
			cancel = func() {
				before()
				w.pass()
			}
		}()
		ctx = w
	}
	if user := c.h.deadline(); user != never && (until == never || user < until) {
		until = user
	}
	if until == never {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, until.time())
}
