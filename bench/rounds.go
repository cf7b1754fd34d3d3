package bench

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// A Plan says how long to measure.
type Plan struct {
	Rounds int           // how often each side has its turn; zero: by Time
	Turn   time.Duration // about how long a turn takes
	Time   time.Duration // about how long each side takes in all, if Rounds is zero
	Clock  Clock         // the zero value is Wall
}

// minRounds is how many rounds there are at least, however long they take.
const minRounds = 7

// rounds returns how many rounds there are, given how long a turn of the slowest
// side takes.
func (p Plan) rounds(slowest time.Duration) int {
	if p.Rounds > 0 {
		return p.Rounds
	}
	return max(minRounds, int(p.Time/slowest))
}

// Times are the nanoseconds per unit of a side, one for each round.
type Times []float64

// A Result is what the sides of a workload took for messages of one size.
type Result struct {
	Workload *Workload
	Size     int
	Times    map[string]Times // by the name of the side
	Missing  map[string]error // why sides could not run
}

// Measure runs the sides of the workload by turns, so that whatever disturbs
// the machine disturbs all of them. It calls progress before each round.
func (w *Workload) Measure(size int, plan Plan, progress func(round int)) (*Result, error) {
	r := &Result{w, size, map[string]Times{}, map[string]error{}}
	starts := max(1, w.Starts)
	for start := range starts {
		if err := w.measureOnce(r, plan, start, progress); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// measureOnce starts the sides and has them take their share of the rounds.
func (w *Workload) measureOnce(r *Result, plan Plan, start int, progress func(round int)) error {
	progress(0)
	runs, err := w.start(r, plan)
	defer func() {
		for _, t := range runs {
			t.session.Close()
		}
	}()
	if err != nil {
		return err
	}
	slowest := plan.Turn
	for _, t := range runs {
		slowest = max(slowest, t.took)
	}
	starts := max(1, w.Starts)
	rounds := (plan.rounds(slowest) + starts - 1) / starts
	sweeper := newSweeper()
	for round := range rounds {
		progress(start*rounds + round + 1)
		for _, t := range runs {
			sweeper.sweep()
			ns, err := t.measure(w, plan.Clock)
			if err != nil {
				return sideError(w, &t.side, err)
			}
			r.Times[t.side.Name] = append(r.Times[t.side.Name], ns)
		}
		slices.Reverse(runs) // A B, B A: what drifts cancels
	}
	return nil
}

// start starts the sides that this machine can run, and chooses how much they
// do in a turn. All that it returns must be closed, also with an error.
func (w *Workload) start(r *Result, plan Plan) (runs []*turn, err error) {
	for _, side := range w.Sides {
		session, err := side.Start(r.Size, nil)
		if errors.Is(err, ErrMissing) {
			r.Missing[side.Name] = err
			continue
		}
		if err != nil {
			return runs, sideError(w, &side, err)
		}
		t := &turn{side: side, session: session}
		runs = append(runs, t)
		if err := t.calibrate(w, plan); err != nil {
			return runs, sideError(w, &side, err)
		}
	}
	return runs, nil
}

// A turn is what a side does in a round: n units.
type turn struct {
	side    Side
	session *Session
	n       int
	took    time.Duration // about how long that takes
}

// calibrate chooses n for turns as long as planned. It goes by the fastest of
// three tries, so that one that the machine has held up does not make n too
// small.
func (t *turn) calibrate(w *Workload, plan Plan) error {
	batch := max(1, t.session.batch)
	for t.n = batch; ; t.n *= 2 {
		each := math.MaxFloat64
		for range 3 {
			ns, err := t.measure(w, Wall) // by another, one that mostly waits would do so for minutes
			if err != nil {
				return err
			}
			each = min(each, ns)
		}
		if each*float64(t.n) >= float64(plan.Turn)/4 {
			t.n = max(1, int(float64(plan.Turn)/each/float64(batch))) * batch
			t.took = time.Duration(float64(t.n) * each)
			return nil
		}
	}
}

// measure takes the turn and returns the nanoseconds per unit.
func (t *turn) measure(w *Workload, clock Clock) (float64, error) {
	took, err := clock.measure(w, t)
	return float64(took.Nanoseconds()) / float64(t.n), err
}

// Ratios returns the subject's times divided by those of the peer, round by
// round, and nil if one of them did not run.
func (r *Result) Ratios(p Pair) []float64 {
	subject, peer := r.Times[p.Subject], r.Times[p.Peer]
	if subject == nil || peer == nil {
		return nil
	}
	ratios := make([]float64, len(subject))
	for i := range ratios {
		ratios[i] = subject[i] / peer[i]
	}
	return ratios
}

// Quantile returns the value that a share q of the values, from 0 to 1, is
// below.
func Quantile(values []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(values))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

// Median returns the value in the middle.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Doubt returns how far the median may be from that of endless rounds: half of
// the range that holds it 19 times of 20.
func Doubt(values []float64) float64 {
	half := 0.98 / math.Sqrt(float64(len(values)))
	return (Quantile(values, min(0.5+half, 1)) - Quantile(values, max(0.5-half, 0))) / 2
}

func sideError(w *Workload, side *Side, err error) error {
	return fmt.Errorf("%s: %s: %w", w.Name, side.Name, err)
}
