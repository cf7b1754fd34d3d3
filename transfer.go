package bufsock

import (
	"errors"
	"io"
	"net"
	"time"
)

// Calls that do not wait may go on as long as they find something, until they
// have both moved so much and taken so long. That is enough for what a kernel
// holds, also in the smallest of reads, and ends with a peer that sends without
// end.
const (
	burstSize = 1 << 20
	burstTime = 50 * time.Millisecond
	burstTurn = 256 // tries between two looks at the clock
)

// mayProbe reports whether a call that does not wait may have another try.
func (c *call) mayProbe() bool {
	if c.tries++; c.tries%burstTurn != 0 {
		return true
	}
	t := now()
	if c.burst == never {
		c.burst = t.plus(burstTime)
	}
	return c.total < burstSize || t < c.burst
}

// poll moves bytes between the buffer and the descriptor: as many as one read
// or write takes. It tries first and waits only if it must. The last try of a
// call whose time is up does not wait.
func (c *call) poll() (err error) {
	c.flushed = false
	for again := true; again; {
		if !c.mayTry() {
			return errTimeUp
		}
		if c.h.sends {
			err = c.l.raw.Write(c.try)
		} else {
			err = c.l.raw.Read(c.try)
		}
		again, err = c.conclude(err)
	}
	return err
}

// mayTry prepares a try.
func (c *call) mayTry() bool {
	if !c.out && c.timeout != 0 && (c.tried || c.ctx != nil) && c.expired() {
		c.giveUp()
	}
	c.tried = true
	c.probing = c.out || c.timeout == 0
	c.moved, c.failed, c.flush = 0, nil, false
	return !c.probing || c.mayProbe()
}

// conclude says what a try has come to, given what the descriptor has returned for
// it, and whether to try again.
func (c *call) conclude(refused error) (again bool, err error) {
	switch {
	case c.moved > 0:
		c.total = plus(c.total, c.moved)
		if !c.h.sends {
			c.l.goesOn(c.moved)
		}
		return false, nil
	case c.failed != nil:
		if c.goOn() == errClosed {
			return false, errClosed
		}
		return false, c.judge(c.failed)
	case c.flush:
		err = c.flushFirst()
		return err == nil, err
	}
	if err := c.goOn(); err != nil {
		return false, err
	}
	switch {
	case refused == nil:
		return false, errTimeUp // it was a probe
	case !isDeadlineError(refused):
		return false, c.judge(c.l.opError(c.h.verb(), errors.Unwrap(refused)))
	case c.out || !c.expired():
		return false, errTimeUp // by the user's deadline
	}
	return true, nil
}

// judge notes an error that the connection has returned.
func (c *call) judge(err error) error {
	if c.h.sends {
		c.l.noteSend(err)
		return err
	}
	return c.heard(0, err)
}

func (h *half) verb() string {
	if h.sends {
		return "write"
	}
	return "read"
}

// transfer makes one Read or Write of the connection, of p. Bytes may have
// been transferred even if it returns an error.
func (c *call) transfer(p []byte) (int, error) {
	if err := c.ready(); err != nil {
		return 0, err
	}
	if c.h.sends {
		c.h.enterConn(writing)
		defer c.h.leaveConn()
		n, err := c.l.conn.Write(p)
		return c.result(n, len(p), err)
	}
	var n int
	var err error
	if c.mayGlimpse() {
		n, err = c.readArrived(p)
	} else {
		n, err = c.l.conn.Read(p)
	}
	return c.result(n, len(p), err)
}

// ready is asked before each transfer. It says until when that may wait, or
// that there is no time left:
//
//	time left    until the end of the call's time
//	NonBlocking  for the grace, which is the only way to learn what is there
//	time up      the same, if the connection has not been asked yet, and as
//	             long as it has something
//
// If the user's deadline has passed there will be no transfer: crypto/tls would
// take even an attempt for the end of the session.
func (c *call) ready() error {
	if !c.out && (c.tried || c.ctx != nil) && c.expired() {
		// Bytes that have come between two reads win over a cancel, and over any
		// end where that costs no wait.
		canceled := c.canceled()
		c.giveUp()
		c.tried = c.tried && (!canceled || c.h.sends) && !c.mayGlimpse()
		if canceled {
			c.until = now() // whatever its timeout is
		}
	}
	if c.out || c.timeout == 0 {
		if err := c.mayTransfer(); err != nil {
			return err
		}
	}
	if err := c.shakeHands(); err != nil {
		return err
	}
	if !c.out && !c.flushed && c.wantsFlush() {
		return errUnsent
	}
	if c.h.deadlinePassed() {
		return errTimeUp
	}
	if err := c.startWait(); err != nil {
		return err
	}
	return c.goOn()
}

// mayTransfer gives a call that does not wait the grace, once and again as long
// as the connection fills all the memory that it is given, or has a record of
// TLS for every read.
func (c *call) mayTransfer() error {
	t := now()
	switch {
	case !c.tried || (c.full || c.found && c.mayGlimpse()) && t < c.burst:
		if !c.tried {
			c.burst = t.plus(burstTime)
		}
		return c.extend(t.plus(grace))
	case !c.found || t >= c.until:
		return errTimeUp
	}
	return nil
}

// result looks at what the connection returned for a transfer of size bytes.
func (c *call) result(n, size int, err error) (int, error) {
	c.tried, c.found, c.full = true, n > 0, n == size
	if !c.h.sends {
		c.l.noteFilled(n, size)
	}
	if n < 0 || n > size {
		return 0, c.judge(errors.New("bufsock: " + c.op + ": the connection returned an impossible count"))
	}
	c.total = plus(c.total, n)
	if n > 0 && !c.h.sends {
		c.l.goesOn(n)
	}
	if e := c.goOn(); e != nil && (e == errClosed || err != nil) {
		return n, e
	}
	switch {
	case err == nil, err == io.ErrShortWrite && c.h.sends:
		return n, err
	case !c.timedOut(err):
		if n > 0 && !c.h.sends {
			return n, c.heard(n, err)
		}
		return n, c.judge(err)
	}
	if c.h.sends && (c.l.gate != nil || !isTemporary(err)) && n < size {
		c.ended = true
		c.l.broken = err
	}
	if n == size && size > 0 {
		return n, nil // late, but done
	}
	c.cause = err
	return n, errTimeUp
}

// timedOut reports whether err says that a deadline has passed. A connection
// that is dead may say so, too, as one does whose TLS handshake has failed:
// then it is not temporary, and no deadline has passed.
func (c *call) timedOut(err error) bool {
	if !isDeadlineError(err) {
		return false
	}
	return isTemporary(err) || c.expired() || c.h.deadlinePassed()
}

// mayGlimpse reports whether the call does not wait and can know whether there is
// something on TLS.
func (c *call) mayGlimpse() bool {
	return (c.timeout == 0 || c.out) && c.canGlimpse()
}

func (c *call) canGlimpse() bool { return !c.h.sends && c.l.gate != nil && c.l.raw != nil }

// mayLook reports whether a read whose time was up before it could try, perhaps,
// is followed by one that does not wait.
func (c *call) mayLook() bool { return !c.out && c.canGlimpse() && c.expired() }

// readArrived is the read of a call that does not wait on TLS. Where a record
// may have come it must be read to know, within the grace; if that is over and
// there are bytes still, the machine was busy, and not the peer late.
func (c *call) readArrived(p []byte) (int, error) {
	n, err := c.readHeld(p)
	for n == 0 && isDeadlineError(err) && c.hasArrived() && now() < c.burst {
		if err := c.extend(now().plus(grace)); err != nil {
			return 0, err
		}
		n, err = c.l.conn.Read(p)
	}
	return n, err
}

// readHeld reads what crypto/tls holds, which it returns behind a deadline, too.
func (c *call) readHeld(p []byte) (int, error) {
	c.h.look(c.l, true)
	defer c.h.look(c.l, false)
	return c.l.conn.Read(p)
}

// hasArrived reports whether the descriptor under TLS has something to read.
func (c *call) hasArrived() bool {
	arrived, err := peek(c.l.raw)
	if err != nil {
		c.l.failure.CompareAndSwap(nil, &failure{err: readError(err)}) // it may be told only once
	}
	return arrived || err != nil
}

// wantsFlush reports whether the call is to send what is buffered before it
// waits.
func (c *call) wantsFlush() bool {
	return !c.h.sends && c.timeout != 0 && c.given&optConn == 0 &&
		(c.given&optFlush != 0 || c.s.flush.Load()) && c.s.Unsent() > 0
}

// readOrFlush is the read of a call that sends what is buffered before it waits,
// and need not wait for what has come.
func (c *call) readOrFlush(p []byte) (int, error) {
	if c.l.filled > 0 || c.canGlimpse() || c.l.polls && c.hasArrived() {
		if n, err := c.glance(p); err != errTimeUp {
			return n, err
		}
	}
	if err := c.flushFirst(); err != nil {
		return 0, err
	}
	return c.transfer(p)
}

// glance reads what has come. Where that cannot be known otherwise it waits for
// the grace, if the call has so much time.
func (c *call) glance(p []byte) (int, error) {
	c.startClock()
	if c.until != never && c.until < now().plus(grace) {
		return 0, errTimeUp
	}
	c.settle()
	look := c.s.newCall(&request{op: c.op, given: optConn}, c.h)
	defer look.release()
	look.l, look.last = c.l, c.last
	defer look.settle()
	return look.read(p)
}

// flushFirst sends what is buffered, within the call's time, unless a send has
// the turn, which does that.
func (c *call) flushFirst() error {
	c.flushed = true
	out := c.s.newCall(&request{op: c.op, timeout: c.timeout, ctx: c.ctx}, &c.s.send)
	defer out.release()
	if !out.h.tryEnter(out) {
		return c.goOn()
	}
	defer out.leave()
	out.own()
	if !c.idling {
		c.startClock()
		out.until = c.until
	}
	err := out.mayWrite()
	if err == nil {
		err = out.drain()
	}
	if err != nil {
		return out.explain(err, want{})
	}
	if c.idling {
		err = c.extend(c.idleEnd())
	}
	return err
}

// ignoreClosed drops an error that says that the connection is closed: the read
// or write itself says it better.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
