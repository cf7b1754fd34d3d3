// Package faulty makes connections go wrong in the ways that connections do, to
// test what is built on them.
//
// The faults come from a seed, so that what they show can be shown again. None
// of them loses, repeats or changes a byte: what a Conn says it has transferred
// it has transferred, with an error or without, and it keeps count.
package faulty

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// A Fault is one way in which a connection goes wrong.
type Fault int

const (
	// CutRead: a Read asks for fewer bytes than there is room for.
	CutRead Fault = iota
	// EmptyRead: a Read returns neither bytes nor an error.
	EmptyRead
	// ErrorWithData: a Read returns an error that passes together with bytes:
	// ErrPassing, or a timeout.
	ErrorWithData
	// EndWithData: a Read goes on until its room is full or the connection
	// fails, and returns the bytes together with that error, such as io.EOF.
	EndWithData
	// CutWrite: a Write becomes several, and the peer may read in between.
	CutWrite
	// ShortWrite: a Write stops on its way, or at its end, and returns
	// ErrPassing.
	ShortWrite
	// Delay: a Read or Write begins later, by Config.MaxDelay at most. No
	// deadline ends the delay; Close does.
	Delay
	// EarlyTimeout: a Read returns a timeout though no deadline has passed, and
	// so does a Write, on its way or at its end.
	EarlyTimeout
	// LateDeadline: a deadline that is set fires Config.Late too late, those
	// that have passed when they are set included.
	LateDeadline
	// IgnoredDeadline: a deadline that is set, or lifted, takes effect only
	// after Config.Ignore. Until then the one before holds.
	IgnoredDeadline
	// HalfClose: a Write closes the writing side instead, if that can be done,
	// and returns the error of a Write after that. The peer reads the end of the
	// stream.
	HalfClose
	// Reset: a Read or Write closes the connection, a TCP connection with a
	// reset, and returns ErrReset, as do all that follow.
	Reset

	numFaults
)

var names = [numFaults]string{
	"cut read", "empty read", "error with data", "end with data", "cut write", "short write",
	"delay", "early timeout", "late deadline", "ignored deadline", "half-close", "reset",
}

func (f Fault) String() string { return names[f] }

// Faults returns all faults.
func Faults() []Fault {
	all := make([]Fault, numFaults)
	for i := range all {
		all[i] = Fault(i)
	}
	return all
}

// ErrPassing is matched by an error after which the connection goes on.
var ErrPassing = errors.New("faulty: an error that passes")

// ErrReset is matched by every error after a Reset.
var ErrReset = errors.New("faulty: connection reset")

// A Config says what goes wrong, and how often. The zero Config is a connection
// without faults.
type Config struct {
	Seed    uint64
	Chances map[Fault]float64 // from 0 to 1, each time that the fault may occur

	MaxDelay time.Duration // of a Delay
	Late     time.Duration // of a LateDeadline
	Ignore   time.Duration // of an IgnoredDeadline

	Keep bool // for Received and Sent
}

// A Conn is a connection with faults. It is safe for use by any number of
// goroutines, as every net.Conn.
type Conn struct {
	net.Conn
	config Config
	in     direction
	out    direction

	once   sync.Once
	closed chan struct{}
	reset  chan struct{}
}

// New returns a connection that uses conn and has the faults of the config. The
// faults of either direction depend on the seed and the calls made for that
// direction.
func New(conn net.Conn, config Config) *Conn {
	c := &Conn{Conn: conn, config: config, closed: make(chan struct{}), reset: make(chan struct{})}
	c.in = direction{config: &c.config, op: "read", rng: rand.New(rand.NewPCG(config.Seed, 0)), set: conn.SetReadDeadline}
	c.out = direction{config: &c.config, op: "write", rng: rand.New(rand.NewPCG(config.Seed, 1)), set: conn.SetWriteDeadline}
	return c
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	d := &c.in
	if err := c.begin(d); err != nil {
		return 0, err
	}
	switch {
	case d.hit(EarlyTimeout):
		return 0, d.error(os.ErrDeadlineExceeded)
	case d.hit(EmptyRead):
		return 0, nil
	}
	if n := d.cut(CutRead, len(p)); n > 0 {
		p = p[:n]
	}
	n, err := c.Conn.Read(p)
	if n > 0 && err == nil && d.hit(EndWithData) {
		for n < len(p) && err == nil {
			var m int
			m, err = c.Conn.Read(p[n:])
			n += m
		}
	}
	d.pass(p[:n])
	if n > 0 && err == nil && d.hit(ErrorWithData) {
		err = d.error([]error{ErrPassing, os.ErrDeadlineExceeded}[d.below(2)])
	}
	return n, c.afterReset(d, err)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	d := &c.out
	if err := c.begin(d); err != nil {
		return 0, err
	}
	var short error
	switch {
	case d.canHit(HalfClose) && c.CloseWrite() == nil:
		d.count(HalfClose)
	case d.hit(ShortWrite):
		p, short = p[:d.part(len(p))], d.error(ErrPassing)
	case d.hit(EarlyTimeout):
		p, short = p[:d.part(len(p))], d.error(os.ErrDeadlineExceeded)
	}
	if short != nil && len(p) == 0 {
		return 0, short
	}
	n, err := c.write(d, p)
	if err == nil {
		err = short
	}
	return n, c.afterReset(d, err)
}

// write writes p, at once or in pieces.
func (c *Conn) write(d *direction, p []byte) (n int, err error) {
	for {
		piece := p[n:]
		if cut := d.cut(CutWrite, len(piece)); cut > 0 {
			piece = piece[:cut]
		}
		m, err := c.Conn.Write(piece)
		d.pass(piece[:m])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// begin delays a Read or Write, and may reset the connection.
func (c *Conn) begin(d *direction) error {
	if wait := d.delay(); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.closed:
		}
	}
	if d.hit(Reset) {
		c.abort()
	}
	return c.afterReset(d, nil)
}

// abort closes the connection as a crash of the host or the network would.
func (c *Conn) abort() {
	c.once.Do(func() {
		close(c.reset)
		close(c.closed)
	})
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		l.SetLinger(0)
	}
	c.Conn.Close()
}

// afterReset returns ErrReset instead of err after a reset.
func (c *Conn) afterReset(d *direction, err error) error {
	select {
	case <-c.reset:
		return d.error(ErrReset)
	default:
		return err
	}
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.in.stop()
	c.out.stop()
	return c.Conn.Close()
}

// CloseWrite closes the writing side. The error matches errors.ErrUnsupported
// if the connection has no such method.
func (c *Conn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return c.out.error(errors.ErrUnsupported)
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
	select {
	case <-c.reset:
		return nil
	default:
		return err
	}
}

// Count returns how often a fault has occurred.
func (c *Conn) Count(f Fault) int { return c.in.occurred(f) + c.out.occurred(f) }

// Passed returns how many bytes Read has returned and Write has written.
func (c *Conn) Passed() (in, out int64) { return c.in.total(), c.out.total() }

// Received returns the bytes that Read has returned, if Config.Keep is set.
func (c *Conn) Received() []byte { return c.in.content() }

// Sent returns the bytes that Write has written, if Config.Keep is set.
func (c *Conn) Sent() []byte { return c.out.content() }
