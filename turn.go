package bufsock

import (
	"sync"
	"sync/atomic"
	"time"
)

// A turn is what one call has at a time, and others wait for. Its lock is held
// for moments only, and never while foreign code runs.
type turn struct {
	mu    sync.Mutex
	queue *waiter      // a ring; the last of those who wait
	busy  bool         // a call has the turn
	state atomic.Int32 // a state; changed with mu held
}

// A state is how far a socket has come with closing.
type state = int32

const (
	open    state = iota
	closing       // Shutdown alone goes on
	closed        // and now it does not, either
)

// A waiter is a call in the queue.
type waiter struct {
	next      *waiter
	wake      chan struct{} // has a token when there is something to look at
	granted   bool          // the turn is its own
	overtaken int8          // how often another call may have gone before it, since it is the first
}

// maxOvertaken is how often the first in the queue may be overtaken. Waking it
// for each message would cost more than most messages do.
const maxOvertaken = 16

// enter gets the turn for c, which ends it with pass.
func (t *turn) enter(c *call) error {
	t.mu.Lock()
	if !t.admits(c) {
		t.mu.Unlock()
		return errClosed
	}
	if !t.busy {
		t.busy = true
		t.mu.Unlock()
		return nil
	}
	w := t.push()
	t.mu.Unlock()
	return t.await(c, w)
}

// tryEnter gets the turn if nobody has it.
func (t *turn) tryEnter(c *call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	free := t.admits(c) && !t.busy
	if free {
		t.busy = true
	}
	return free
}

func (t *turn) isBusy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy
}

// admits reports whether c may have the turn at all.
func (t *turn) admits(c *call) bool {
	state := t.state.Load()
	return state == open || state == closing && c.last
}

// await waits for the turn, until the time of c is up. It asks the context
// without the lock, because that is foreign code and may panic.
func (t *turn) await(c *call, w *waiter) (err error) {
	entered := false
	defer func() {
		if !entered {
			t.giveUp(w)
		}
	}()
	for {
		d, finite := c.patience()
		if finite && d <= 0 {
			return errTimeUp
		}
		w.sleep(c, d, finite)
		if entered, err = t.claim(c, w); entered || err != nil {
			return err
		}
		if c.canceled() {
			return errTimeUp
		}
	}
}

// sleep waits for a token, the end of the context, or the end of the call's
// time.
func (w *waiter) sleep(c *call, d time.Duration, finite bool) {
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
	select {
	case <-w.wake:
	case <-timeout:
	case <-done:
	}
}

// claim takes the turn if it is that of w.
func (t *turn) claim(c *call, w *waiter) (entered bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.admits(c):
		return false, errClosed
	case w.granted:
		return true, nil
	case t.isNext(w):
		t.remove(w)
		t.busy = true
		return true, nil
	}
	return false, nil
}

// isNext reports whether w may take the turn now.
func (t *turn) isNext(w *waiter) bool { return !t.busy && t.queue.next == w }

// giveUp takes w out of the queue, and passes on what it has been given or
// woken up for.
func (t *turn) giveUp(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := w.granted || t.isNext(w)
	if !w.granted {
		t.remove(w)
	}
	if next {
		t.pass()
	}
}

// pass ends a turn. The first in the queue may take the next one when it has
// woken up, unless a call has come in between, or is given it. The caller has
// the lock.
func (t *turn) pass() {
	t.busy = false
	if t.queue == nil {
		return
	}
	w := t.queue.next
	if w.overtaken++; w.overtaken > maxOvertaken {
		t.remove(w)
		w.granted, t.busy = true, true
	}
	w.notify()
}

// leave is pass for who does not have the lock.
func (t *turn) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

// shut moves the turn on to the state, and reports whether that is news. Who
// waits for the turn is woken to see it.
func (t *turn) shut(to state) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Load() >= to {
		return false
	}
	t.state.Store(to)
	t.notifyAll()
	return true
}

// push adds a waiter at the end of the queue.
func (t *turn) push() *waiter {
	w := &waiter{wake: make(chan struct{}, 1)}
	if t.queue == nil {
		w.next = w
	} else {
		w.next = t.queue.next
		t.queue.next = w
	}
	t.queue = w
	return w
}

// remove takes w out of the queue.
func (t *turn) remove(w *waiter) {
	before := w
	for before.next != w {
		before = before.next
	}
	before.next = w.next
	switch {
	case before == w:
		t.queue = nil
	case t.queue == w:
		t.queue = before
	}
}

func (w *waiter) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// notifyAll makes all waiters look at the state of the turn again.
func (t *turn) notifyAll() {
	if t.queue == nil {
		return
	}
	for w := t.queue.next; ; w = w.next {
		w.notify()
		if w == t.queue {
			return
		}
	}
}

// enterBoth gets the turns of both calls. It never waits for one while it has
// the other.
func enterBoth(a, b *call) error {
	for {
		if err := a.enter(); err != nil {
			return err
		}
		if b.h.tryEnter(b) {
			return nil
		}
		a.leave()
		a, b = b, a
	}
}
