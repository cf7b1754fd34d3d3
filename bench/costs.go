package bench

import (
	"context"
	"sync"
	"time"
)

// Costs are the nanoseconds that things take on this machine of which a profile
// has no more than the share.
type Costs struct {
	Lock  float64 // and unlock a sync.Mutex that nobody else wants
	Since float64 // time.Since, one look at the clock
	Now   float64 // time.Now, two looks: at the monotonic clock and at that of the wall

	// LocksFound is the share of the samples of a loop of such locks that a
	// profile gives to locks.
	LocksFound float64
}

// MeasureCosts takes about a second.
func MeasureCosts() (Costs, error) {
	var mu sync.Mutex
	epoch := time.Now()
	found, err := locksFound(&mu)
	return Costs{
		LocksFound: found,
		Lock:       fastest(func() { mu.Lock(); mu.Unlock() }), //nolint:staticcheck // nothing to protect
		Since:      fastest(func() { _ = time.Since(epoch) }),
		Now:        fastest(func() { _ = time.Now() }),
	}, err
}

// locksFound takes a profile of the loop.
func locksFound(mu *sync.Mutex) (share float64, err error) {
	p := newProfile()
	err = p.take(&Workload{OwnTime: true}, &Session{}, func() error {
		mark(working)
		defer mark(context.Background())
		for start := time.Now(); time.Since(start) < time.Second; {
			for range 100_000 {
				mu.Lock()
				mu.Unlock() //nolint:staticcheck // nothing to protect
			}
		}
		return nil
	})
	return float64(p.Parts[Locks]) / float64(max(1, p.Samples)), err
}

// fastest returns the nanoseconds of a call, from the try that was disturbed
// least. The call itself, some two nanoseconds, is left out.
func fastest(f func()) float64 {
	return max(0, fastestCall(f)-fastestCall(func() {}))
}

func fastestCall(f func()) float64 {
	const n = 100_000
	best := time.Hour
	for range 9 {
		start := time.Now()
		for range n {
			f()
		}
		best = min(best, time.Since(start))
	}
	return float64(best.Nanoseconds()) / n
}
