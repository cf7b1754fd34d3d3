package faulty

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// A direction is one side of a Conn: its faults, its bytes, its deadline.
type direction struct {
	config *Config
	op     string
	set    func(time.Time) error // of the connection

	mu     sync.Mutex
	rng    *rand.Rand
	counts [numFaults]int
	passed int64
	kept   []byte

	pending *time.Timer // sets a deadline that was ignored
	changes int         // of the deadline
}

// canHit decides whether a fault is to occur.
func (d *direction) canHit(f Fault) bool {
	chance := d.config.Chances[f]
	if chance == 0 {
		return false // and the other faults stay as they were
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.Float64() < chance
}

// hit decides whether a fault occurs, and counts it.
func (d *direction) hit(f Fault) bool {
	if !d.canHit(f) {
		return false
	}
	d.count(f)
	return true
}

func (d *direction) count(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[f]++
}

func (d *direction) occurred(f Fault) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[f]
}

// below returns a random number from 0 to n-1.
func (d *direction) below(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// cut returns a random place inside n bytes, often near their beginning, or 0.
func (d *direction) cut(f Fault, n int) int {
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
	if d.config.MaxDelay <= 0 || !d.hit(Delay) {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return 1 + time.Duration(d.rng.Int64N(int64(d.config.MaxDelay)))
}

// pass counts bytes that were transferred, and keeps them.
func (d *direction) pass(p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passed += int64(len(p))
	if d.config.Keep {
		d.kept = append(d.kept, p...)
	}
}

func (d *direction) total() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passed
}

func (d *direction) content() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.kept)
}

// error dresses err as a connection does.
func (d *direction) error(err error) error {
	return &net.OpError{Op: d.op, Net: "faulty", Err: err}
}

// setDeadline sets the deadline of the connection, now or later.
func (d *direction) setDeadline(t time.Time) error {
	late, ignored := false, d.hit(IgnoredDeadline)
	if !t.IsZero() {
		late = d.hit(LateDeadline)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	if d.pending != nil {
		d.pending.Stop()
		d.pending = nil
	}
	if late {
		if now := time.Now(); t.Before(now) {
			t = now
		}
		t = t.Add(d.config.Late)
	}
	if !ignored {
		return d.set(t)
	}
	change := d.changes
	d.pending = time.AfterFunc(d.config.Ignore, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.changes == change {
			d.set(t)
		}
	})
	return nil
}

// stop lets no ignored deadline be set any more.
func (d *direction) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changes++
	if d.pending != nil {
		d.pending.Stop()
	}
}
