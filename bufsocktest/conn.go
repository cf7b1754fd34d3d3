package bufsocktest

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

var _ net.Conn = (*Conn)(nil)

// A Conn is a connection on top of another, with faults. Whatever goes wrong,
// no byte is lost, repeated or changed by it: what a Read or Write says to have
// transferred has been transferred, with an error or without.
//
// It is safe for use by any number of goroutines, as every net.Conn.
type Conn struct {
	conn   net.Conn
	faults Faults
	in     direction
	out    direction
	closed chan struct{} // when the connection below is

	mu      sync.Mutex // guards the rest
	calls   int        // of Read and Write, under way
	closing bool       // by Close
	down    bool       // the connection below is closed, or will be at once
	broken  bool       // by a reset
	forgets bool       // the reset, once it has been told
	told    bool
}

// NewConn returns a connection on top of conn that goes wrong, repeatably, by
// seed: the faults of a direction depend on the seed and the calls that are made
// for that direction, and on nothing else. It panics if conn is nil, a
// probability is not from 0 to 1, or a duration negative.
//
// It works in and out of the bubbles of testing/synctest. In one, wait for the
// goroutines that use it before the test ends: no time passes afterwards that
// could end a delay.
func NewConn(conn net.Conn, seed uint64, faults Faults) *Conn {
	if conn == nil {
		panic("bufsocktest: expected a connection, got nil")
	}
	faults.complete()
	c := &Conn{conn: conn, faults: faults, closed: make(chan struct{})}
	c.in = newDirection(&c.faults, "read", rand.New(rand.NewPCG(seed, 0)), conn.SetReadDeadline)
	c.out = newDirection(&c.faults, "write", rand.New(rand.NewPCG(seed, 1)), conn.SetWriteDeadline)
	return c
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	d := &c.in
	defer c.leave()
	if err := c.enter(d); err != nil {
		return 0, err
	}
	switch {
	case d.hit(earlyTimeout):
		return 0, d.timeout(d.error(os.ErrDeadlineExceeded))
	case d.hit(emptyRead):
		return 0, nil
	}
	if n := d.cut(cutRead, len(p)); n > 0 {
		p = p[:n]
	}
	n, err := c.conn.Read(p)
	if n > 0 && err == nil && d.hit(endWithData) {
		for n < len(p) && err == nil {
			var m int
			m, err = c.conn.Read(p[n:])
			n += m
		}
	}
	d.pass(n)
	if n > 0 && err == nil && d.hit(errorWithData) {
		err = d.error([]error{ErrPassing, os.ErrDeadlineExceeded}[d.below(2)])
	}
	return n, d.timeout(c.outcome(d, err))
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	d := &c.out
	defer c.leave()
	if err := c.enter(d); err != nil {
		return 0, err
	}
	var short error
	switch {
	case d.canHit(halfClose) && c.CloseWrite() == nil:
		d.count(halfClose)
	case len(p) > 1 && d.hit(shortWrite):
		p, short = p[:d.below(len(p))], io.ErrShortWrite
	case d.hit(earlyTimeout):
		p, short = p[:d.part(len(p))], d.error(os.ErrDeadlineExceeded)
	}
	if short != nil && len(p) == 0 {
		return 0, d.timeout(short)
	}
	n, err := c.write(d, p)
	if err == nil {
		err = short
	}
	return n, d.timeout(c.outcome(d, err))
}

// write writes p, at once or in pieces.
func (c *Conn) write(d *direction, p []byte) (n int, err error) {
	for {
		piece := p[n:]
		if cut := d.cut(cutWrite, len(piece)); cut > 0 {
			piece = piece[:cut]
		}
		m, err := c.conn.Write(piece)
		d.pass(m)
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// enter begins a Read or Write, which may be delayed or reset the connection.
// leave must follow, whatever it returns.
func (c *Conn) enter(d *direction) error {
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	if wait := d.delay(); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.closed:
		}
	}
	switch {
	case d.hit(reset):
		return c.abort(d, false)
	case d.hit(forgottenReset):
		return c.abort(d, true)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return d.error(net.ErrClosed)
	}
	return c.outcomeLocked(d, nil)
}

// leave ends a Read or Write. If a Close was deaf to it, and to no other, the
// connection is closed now.
func (c *Conn) leave() {
	c.mu.Lock()
	c.calls--
	last := c.closing && !c.down && c.calls == 0
	c.down = c.down || last
	c.mu.Unlock()
	if last {
		_ = c.closeBelow() // Close has returned long ago
	}
}

// abort closes the connection as a crash of the host or the network would, and
// returns the error of the call that met it.
func (c *Conn) abort(d *direction, forgets bool) error {
	c.mu.Lock()
	first, open := !c.broken, !c.down
	c.broken, c.down = true, true
	if first {
		c.forgets = forgets
	}
	err := c.outcomeLocked(d, nil)
	c.mu.Unlock()
	if open {
		if l, ok := c.conn.(interface{ SetLinger(int) error }); ok {
			_ = l.SetLinger(0) // else the peer sees an end
		}
		_ = c.closeBelow()
	}
	return err
}

// outcome returns err, or after a reset what a call reports then.
func (c *Conn) outcome(d *direction, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outcomeLocked(d, err)
}

func (c *Conn) outcomeLocked(d *direction, err error) error {
	switch {
	case !c.broken:
		return err
	case c.closing:
		return d.error(net.ErrClosed)
	case c.forgets && c.told && d == &c.in:
		return io.EOF
	case c.forgets && c.told:
		return d.error(os.NewSyscallError(d.op, errBrokenPipe))
	}
	c.told = true
	if c.faults.ResetError != nil {
		return c.faults.ResetError
	}
	return d.error(os.NewSyscallError(d.op, ErrReset))
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	again, down := c.closing, c.down
	c.closing = true
	deaf := !again && !down && c.calls > 0 && c.in.canHit(deafClose)
	if deaf {
		c.in.count(deafClose)
	}
	c.down = down || !deaf && !again
	c.mu.Unlock()
	switch {
	case again:
		return &net.OpError{Op: "close", Net: "bufsocktest", Err: net.ErrClosed}
	case deaf, down:
		return nil
	}
	return c.closeBelow()
}

// closeBelow closes the connection below, once.
func (c *Conn) closeBelow() error {
	close(c.closed)
	c.in.stop()
	c.out.stop()
	return c.conn.Close()
}

// CloseWrite closes the writing side. The error matches errors.ErrUnsupported
// if the connection below has no such method.
func (c *Conn) CloseWrite() error {
	if conn, ok := c.conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return c.out.error(errors.ErrUnsupported)
}

// CloseRead closes the reading side. The error matches errors.ErrUnsupported if
// the connection below has no such method.
func (c *Conn) CloseRead() error {
	if conn, ok := c.conn.(interface{ CloseRead() error }); ok {
		return conn.CloseRead()
	}
	return c.in.error(errors.ErrUnsupported)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.in, t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.out, t) }

// setDeadline sets a deadline. After a reset there is none, and no error, as
// when the kernel has been told of one.
func (c *Conn) setDeadline(d *direction, t time.Time) error {
	err := d.setDeadline(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken && !c.closing {
		return nil
	}
	return err
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.conn }

// Transferred returns how many bytes Read has returned and Write has written.
func (c *Conn) Transferred() (in, out int64) { return c.in.total(), c.out.total() }

// Counts returns how often which fault has occurred.
func (c *Conn) Counts() Counts {
	var counts Counts
	c.in.addTo(&counts)
	c.out.addTo(&counts)
	return counts
}
