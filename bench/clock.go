package bench

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// A Clock says what the time of a turn is.
type Clock string

// Of the clocks, the wall's is what counts in the end. But it counts what other
// programs take of the processors, too, and on a busy machine that hides small
// differences.
const (
	Wall Clock = "wall"
	CPU  Clock = "cpu" // the time on processors, without that of the other end if it can be told apart
)

// measure takes the turn and returns what the clock says that it took.
func (c Clock) measure(w *Workload, t *turn) (time.Duration, error) {
	if c != CPU || w.OwnTime || t.side.elsewhere {
		return t.session.Do(t.n)
	}
	spent := t.session.processor
	if spent == nil {
		spent = func() (time.Duration, error) { return processorTime(processClock) }
	}
	before, err := spent()
	if err != nil {
		return 0, err
	}
	if _, err := t.session.Do(t.n); err != nil {
		return 0, err
	}
	after, err := spent()
	return max(after-before, 1), err
}

// muchGarbage is what may lie about in a turn. It does not begin a collection.
const muchGarbage = 256 << 10

// A sweeper sees that the garbage of one side is not the burden of the next.
type sweeper struct {
	sample []metrics.Sample
	swept  uint64
}

func newSweeper() *sweeper {
	return &sweeper{sample: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}}
}

func (s *sweeper) sweep() {
	metrics.Read(s.sample)
	if now := s.sample[0].Value.Uint64(); now-s.swept > muchGarbage {
		runtime.GC()
		s.swept = now
	}
}
