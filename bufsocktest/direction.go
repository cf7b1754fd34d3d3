package bufsocktest

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// A direction is one side of a Conn: its faults, its bytes, its deadline.
type direction struct {
	faults  *Faults
	chances [numFaults]float64
	op      string
	set     func(time.Time) error // of the connection

	mu     sync.Mutex
	rng    *rand.Rand
	counts [numFaults]int
	passed int64

	changes int // of the deadline
}

func newDirection(f *Faults, op string, rng *rand.Rand, set func(time.Time) error) direction {
	return direction{faults: f, chances: f.chances(), op: op, rng: rng, set: set}
}

// canHit decides whether a fault is to occur.
func (d *direction) canHit(f fault) bool {
	chance := d.chances[f]
	if chance == 0 {
		return false // and the other faults stay as they were
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64() < chance
}

// hit decides whether a fault occurs, and counts it.
func (d *direction) hit(f fault) bool {
	if !d.canHit(f) {
		return false
	}
	d.count(f)
	return true
}

func (d *direction) count(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[f]++
}

// addTo adds what has occurred to c.
func (d *direction) addTo(c *Counts) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for f, n := range countsOf(c) {
		*n += d.counts[f]
	}
}

// below returns a random number from 0 to n-1.
func (d *direction) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// cut returns a random place inside n bytes, often near their beginning, or 0.
func (d *direction) cut(f fault, n int) int {
	if n < 2 || !d.hit(f) {
		return 0
	}
	if d.below(2) == 0 {
		n = min(n, 8)
	}
	return 1 + d.below(n-1)
}

// part returns how many of n bytes to write, at times all.
func (d *direction) part(n int) int {
	if d.below(4) == 0 {
		return n
	}
	return d.below(n + 1)
}

// delay returns for how long to wait.
func (d *direction) delay() time.Duration {
	if !d.hit(delay) {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return 1 + time.Duration(d.rng.Int64N(int64(d.faults.MaxDelay)))
}

// pass counts bytes that were transferred.
func (d *direction) pass(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passed += int64(n)
}

func (d *direction) total() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

// error dresses err as a connection does.
func (d *direction) error(err error) error {
	return &net.OpError{Op: d.op, Net: "bufsocktest", Err: err}
}

// timeout returns err, or if that tells of a deadline maybe an odd error.
func (d *direction) timeout(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && d.hit(oddTimeout) {
		return oddTimeouts[d.below(len(oddTimeouts))]
	}
	return err
}

// setDeadline sets the deadline of the connection, now or later.
func (d *direction) setDeadline(t time.Time) error {
	if d.hit(refusedDeadline) {
		return &net.OpError{Op: "set", Net: "bufsocktest", Err: os.ErrNoDeadline}
	}
	late, ignored := false, d.hit(ignoredDeadline)
	if !t.IsZero() {
		late = d.hit(lateDeadline)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	if late {
		if now := time.Now(); t.Before(now) {
			t = now
		}
		t = t.Add(d.faults.LateBy)
	}
	if !ignored {
		return d.set(t)
	}
	change := d.changes
	time.AfterFunc(d.faults.IgnoredFor, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.changes == change { // else a later one counts
			_ = d.set(t) // whoever set it was told that it was set
		}
	})
	return nil
}

// stop lets no ignored deadline be set any more.
func (d *direction) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
}
