package bufsocktest

import (
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

var _ net.Conn = (*Player)(nil)

// A Player is the connection that [Run] and [Interrupt] give to f. It plays the
// stream, a piece after the other: no Read returns bytes of two pieces. What f
// writes is swallowed, for Sent.
//
// Deadlines, Close, CloseRead and CloseWrite work as those of a net.TCPConn do,
// and errors read as its errors do. It is safe for use by any number of
// goroutines.
type Player struct {
	place int

	mu      sync.Mutex
	steps   []step        // what is to be read; the last one stays
	resume  time.Time     // when a pause ends that no deadline ends
	changed chan struct{} // closed, and replaced, to wake what is blocked

	sent                []byte
	readBy, writeBy     time.Time // deadlines
	isClosed, isReset   bool
	readEnded, sentLast bool // by CloseRead and CloseWrite
}

// A step is what a Read meets: bytes, an error, or both together.
type step struct {
	data  []byte
	err   error
	pause bool // nothing, until a deadline has passed
}

// patience is how long a reader without a deadline waits in a pause.
const patience = 24 * time.Hour

// newPlayer returns a connection that plays the steps, of which the last is an
// error, and is interrupted behind so many bytes.
func newPlayer(place int, steps []step) *Player {
	return &Player{place: place, steps: steps, changed: make(chan struct{})}
}

// Place returns how many bytes come before the interruption: the whole stream,
// if there is none.
func (p *Player) Place() int { return p.place }

// Sent returns a copy of all that was written to the connection.
func (p *Player) Sent() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.sent)
}

// Read implements net.Conn.
func (p *Player) Read(b []byte) (int, error) {
	for {
		n, wait, err := p.read(b)
		if wait == nil {
			return n, err
		}
		wait()
	}
}

// read reads what is there, or returns a function that waits for a reason to
// try again.
func (p *Player) read(b []byte) (n int, wait func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case p.isClosed:
		return 0, nil, p.error("read", net.ErrClosed)
	case len(b) == 0:
		return 0, nil, nil
	case p.readEnded:
		return 0, nil, io.EOF
	case hasPassed(p.readBy, now):
		if p.steps[0].pause {
			p.next()
		}
		return 0, nil, p.error("read", os.ErrDeadlineExceeded)
	}
	if p.steps[0].pause {
		if p.resume.IsZero() {
			p.resume = now.Add(patience)
		}
		if !p.readBy.IsZero() || now.Before(p.resume) {
			return 0, p.waitLocked(now), nil
		}
		p.next()
	}
	n, err = p.take(b)
	return n, nil, err
}

// waitLocked returns a function that waits until the deadline passes or a pause
// without one ends, or something changes.
func (p *Player) waitLocked(now time.Time) func() {
	until, changed := p.resume, p.changed
	if !p.readBy.IsZero() {
		until = p.readBy
	}
	return func() {
		timer := time.NewTimer(until.Sub(now))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-changed:
		}
	}
}

// take takes what the present step has, up to the end of b.
func (p *Player) take(b []byte) (int, error) {
	s := &p.steps[0]
	n := copy(b, s.data)
	s.data = s.data[n:]
	if len(s.data) > 0 {
		return n, nil
	}
	err := s.err
	p.next()
	if err == nil || err == io.EOF {
		return n, err
	}
	p.isReset = true
	return n, p.error("read", os.NewSyscallError("read", err))
}

// next goes on to the next step, if there is one.
func (p *Player) next() {
	if len(p.steps) > 1 {
		p.steps = p.steps[1:]
	}
}

// Write implements net.Conn.
func (p *Player) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.isClosed:
		return 0, p.error("write", net.ErrClosed)
	case hasPassed(p.writeBy, time.Now()):
		return 0, p.error("write", os.ErrDeadlineExceeded)
	case p.isReset, p.sentLast:
		return 0, p.error("write", os.NewSyscallError("write", errBrokenPipe))
	}
	p.sent = append(p.sent, b...)
	return len(b), nil
}

// Close implements net.Conn.
func (p *Player) Close() error {
	return p.change("close", func() { p.isClosed = true })
}

// CloseRead closes the reading side: from now on a Read returns io.EOF.
func (p *Player) CloseRead() error {
	return p.change("close", func() { p.readEnded = true })
}

// CloseWrite closes the writing side: from now on a Write fails.
func (p *Player) CloseWrite() error {
	return p.change("close", func() { p.sentLast = true })
}

// SetDeadline implements net.Conn.
func (p *Player) SetDeadline(t time.Time) error {
	return p.change("set", func() { p.readBy, p.writeBy = t, t })
}

// SetReadDeadline implements net.Conn.
func (p *Player) SetReadDeadline(t time.Time) error {
	return p.change("set", func() { p.readBy = t })
}

// SetWriteDeadline implements net.Conn.
func (p *Player) SetWriteDeadline(t time.Time) error {
	return p.change("set", func() { p.writeBy = t })
}

// change changes the connection, unless it is closed, and wakes what is blocked.
func (p *Player) change(op string, f func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		return p.error(op, net.ErrClosed)
	}
	f()
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

// The addresses are of those that RFC 5737 keeps for documentation.
var (
	localAddr  = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 5678}
	remoteAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234}
)

// LocalAddr returns a TCP address, 192.0.2.2:5678.
func (p *Player) LocalAddr() net.Addr { return localAddr }

// RemoteAddr returns a TCP address, 192.0.2.1:1234.
func (p *Player) RemoteAddr() net.Addr { return remoteAddr }

// error dresses err as a net.TCPConn does.
func (p *Player) error(op string, err error) error {
	if op == "set" {
		return &net.OpError{Op: op, Net: "tcp", Addr: localAddr, Err: err}
	}
	return &net.OpError{Op: op, Net: "tcp", Source: localAddr, Addr: remoteAddr, Err: err}
}

func hasPassed(deadline, now time.Time) bool {
	return !deadline.IsZero() && !now.Before(deadline)
}
