package bench

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A digest tells what a side has seen.
type digest struct {
	bytes int
	sum   uint32
}

func (d *digest) add(b []byte) {
	d.bytes += len(b)
	d.sum = crc32.Update(d.sum, crc32.IEEETable, b)
}

// payloads are what the sides of a workload see of a unit, given the size.
var payloads = map[string]func(size int) []byte{
	"lines":              text,
	"lines-tls":          text,
	"lines-wrapped":      text,
	"crlf":               text,
	"split":              text,
	"resp":               func(size int) []byte { return append([]byte("SETuser:100"), text(size)...) },
	"resp-array":         func(size int) []byte { return bytes.Repeat(text(size), arrayBulks) },
	"memcached":          text,
	"netstrings":         text,
	"netstrings-written": netstringOf,
	"bulk-received":      text,
	"bulk-sent":          text,
	"buffered":           func(size int) []byte { return bytes.Repeat(text(size), pieces) },
	"ping-pong-tcp":      shorter,
	"ping-pong-unix":     shorter,
	"ping-pong-wrapped":  shorter,
	"ping-pong-tls":      shorter,
	"answers-tcp":        shorter,
	"answers-tls":        shorter,
	"nothing-there":      func(int) []byte { return nil },
	"proxy":              func(size int) []byte { return bytes.Repeat(text(mebi), size/mebi) },
	"message-size":       text,
	"late-delimiter":     text,
	"buffered-messages":  func(int) []byte { return text(16) },
	"delimiters":         func(int) []byte { return text(64) },
	"connections":        func(int) []byte { return nil }, // its clients check themselves
	"contention":         func(int) []byte { return text(64) },
}

// shorter is the text of a line whose size counts its end.
func shorter(size int) []byte { return text(size - 1) }

func TestSidesSeeEveryByte(t *testing.T) {
	for _, w := range append(Workloads(), Growth()...) {
		for _, size := range w.Sizes[:min(len(w.Sizes), 2)] {
			for _, side := range w.Sides {
				t.Run(fmt.Sprintf("%s/%d/%s", w.Name, size, side.Name), func(t *testing.T) {
					n, want := expected(&w, &side, size)
					require.Equal(t, want, see(t, &side, size, n))
				})
			}
		}
	}
}

// expected returns how often the side is to do the work in a test, and what it
// sees then.
func expected(w *Workload, side *Side, size int) (n int, want digest) {
	n = 21
	received, payload := n, payloads[w.Name](size)
	switch {
	case w.Name == "proxy":
		n, received = 1, 1
	case w.Name == "buffered-messages":
		received = (n + size - 1) / size * size // whole batches
	case w.Name == "bulk-sent" && side.Name == writeNetstring:
		payload = netstringOf(size)
	}
	for range received {
		want.add(payload)
	}
	return n, want
}

// see runs the side and returns what it has seen.
func see(t *testing.T, side *Side, size, n int) digest {
	var (
		mu sync.Mutex
		d  digest
	)
	session, err := side.Start(size, func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		d.add(b)
	})
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	took, err := session.Do(n)
	require.NoError(t, err)
	require.Positive(t, took)
	session.Close()
	return d
}

func TestPairsNameSides(t *testing.T) {
	for _, w := range append(Workloads(), Growth()...) {
		for _, p := range w.Pairs {
			require.NotNil(t, w.Side(p.Subject), "%s: %s", w.Name, p.Subject)
			require.NotNil(t, w.Side(p.Peer), "%s: %s", w.Name, p.Peer)
			if p.Goals != nil {
				require.Len(t, p.Goals, len(w.Sizes), "%s: %s", w.Name, p.Subject)
			}
		}
	}
}

func TestMeasure(t *testing.T) {
	w := Buffered()
	rounds := []int{}
	r, err := w.Measure(64, Plan{Rounds: 3, Turn: time.Millisecond}, func(round int) { rounds = append(rounds, round) })
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 3}, rounds)
	ratios := r.Ratios(w.Pairs[0])
	require.Len(t, ratios, 3)
	for i, ratio := range ratios {
		require.Positive(t, ratio)
		require.Equal(t, r.Times[bufferFlush][i]/r.Times[bufioWriter][i], ratio)
	}
	require.Nil(t, r.Ratios(Pair{Subject: bufferFlush, Peer: "another"}))
}

// Sides take their turns A B, B A; one that is missing is left out.
func TestMeasureAlternates(t *testing.T) {
	var order string
	side := func(name string) Side {
		return Side{Name: name, Start: func(int, func([]byte)) (*Session, error) {
			do := func(n int) (time.Duration, error) {
				order += name
				return time.Duration(n) * time.Millisecond, nil
			}
			return &Session{do: do, close: func() { order += "-" + name }}, nil
		}}
	}
	missing := Side{Name: "M", Start: func(int, func([]byte)) (*Session, error) { return nil, ErrMissing }}
	w := Workload{Sides: []Side{side("A"), missing, side("B")}}
	r, err := w.Measure(1, Plan{Rounds: 3, Turn: 4 * time.Millisecond}, func(int) { order += " " })
	require.NoError(t, err)
	require.Equal(t, " AAABBB AB BA AB-B-A", order)
	require.Equal(t, Times{1e6, 1e6, 1e6}, r.Times["A"])
	require.ErrorIs(t, r.Missing["M"], ErrMissing)
	require.Nil(t, r.Ratios(Pair{Subject: "A", Peer: "M"}))

	order, w.Starts = "", 2
	_, err = w.Measure(1, Plan{Rounds: 3, Turn: 4 * time.Millisecond}, func(int) { order += " " })
	require.NoError(t, err)
	require.Equal(t, " AAABBB AB BA-A-B AAABBB AB BA-A-B", order, "two rounds for each start")

	w.Sides[0].Start = func(int, func([]byte)) (*Session, error) { return nil, errNoComma }
	_, err = w.Measure(1, Plan{Rounds: 1, Turn: time.Millisecond}, func(int) {})
	require.ErrorIs(t, err, errNoComma)
}

func TestAimed(t *testing.T) {
	w := Workload{
		Sizes: []int{1, 2},
		Sides: []Side{{Name: "A"}, {Name: "B"}, {Name: "C"}, {Name: "D"}},
		Pairs: []Pair{{"A", "B", nil}, {"A", "C", []float64{0, 3}}, {"A", "D", []float64{4, 0}}},
	}
	aimed := w.Aimed(2)
	require.Equal(t, []int{2}, aimed.Sizes)
	require.Equal(t, []Pair{{"A", "C", []float64{3}}}, aimed.Pairs)
	require.Equal(t, []Side{{Name: "A"}, {Name: "C"}}, aimed.Sides)
	require.Len(t, w.Sides, 4)
}

// What waits costs no time on a processor, what works does.
func TestClockCPU(t *testing.T) {
	w := Workload{Sides: []Side{
		{Name: "waits", Start: func(int, func([]byte)) (*Session, error) {
			do := func(n int) (time.Duration, error) {
				time.Sleep(time.Duration(n) * time.Millisecond)
				return time.Duration(n) * time.Millisecond, nil
			}
			return &Session{do: do, close: func() {}}, nil
		}},
		{Name: "works", Start: func(int, func([]byte)) (*Session, error) {
			do := func(n int) (time.Duration, error) {
				start := time.Now()
				for time.Since(start) < time.Duration(n)*time.Millisecond {
				}
				return time.Duration(n) * time.Millisecond, nil
			}
			return &Session{do: do, close: func() {}}, nil
		}},
	}}
	r, err := w.Measure(1, Plan{Rounds: 3, Turn: 4 * time.Millisecond, Clock: CPU}, func(int) {})
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.Less(t, Median(r.Times["waits"]), Median(r.Times["works"])/3)
	require.Positive(t, Median(r.Times["waits"]))
}

func TestDoubt(t *testing.T) {
	values := make([]float64, 101)
	for i := range values {
		values[i] = float64(i)
	}
	require.InDelta(t, 9.75, Doubt(values), 0.1)
	require.Zero(t, Doubt([]float64{7, 7, 7}))
}

func TestCalibrateIgnoresStalls(t *testing.T) {
	calls := 0
	turn := turn{session: &Session{do: func(n int) (time.Duration, error) {
		if calls++; calls%2 == 1 {
			return time.Second, nil
		}
		return time.Duration(n) * time.Microsecond, nil
	}}}
	require.NoError(t, turn.calibrate(&Workload{}, Plan{Turn: 15 * time.Millisecond}))
	require.Equal(t, 15_000, turn.n)
}

func TestInBatches(t *testing.T) {
	do := inBatches(10, func(n int) (time.Duration, error) {
		require.Equal(t, 30, n)
		return 300, nil
	})
	took, err := do(21)
	require.NoError(t, err)
	require.Equal(t, time.Duration(210), took)
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.125: 1.5, 0.25: 2, 0.5: 3, 1: 5} {
		require.Equal(t, want, Quantile(values, q), "%v", q)
	}
	require.Equal(t, []float64{5, 1, 4, 2, 3}, values)
	require.Equal(t, 7.0, Median([]float64{7}))
}

func TestWriteCalls(t *testing.T) {
	tests := map[string]struct {
		workload Workload
		side     string
		want     float64
	}{
		"100 pieces in one write":           {Buffered(), bufferFlush, 1},
		"a netstring in one write":          {NetstringsWritten(), writeNetstring, 1},
		"a netstring of the peer, in four":  {NetstringsWritten(), markdingoEncoder, 4},
		"a netstring of the peer, buffered": {NetstringsWritten(), markdingoBuffered, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.workload.Side(tt.side).WriteCalls(tt.workload.Sizes[0])
			require.NoError(t, err)
			// The runtime writes now and then to wake a thread.
			require.InDelta(t, tt.want, got, 0.4)
		})
	}
}

func TestIdleConnections(t *testing.T) {
	costs, err := IdleConnections(TCP, 200, IdleSides(), func(string) {})
	require.NoError(t, err)
	require.Len(t, costs, 4)
	heap := map[string]float64{}
	for _, c := range costs {
		heap[c.Side] = c.Heap
		require.Greater(t, c.Stack, 1000.0, c.Side)
		require.Less(t, c.Stack, 32e3, c.Side)
	}
	require.Less(t, heap[serveBare], 2000.0)
	require.Less(t, heap[serveBufsock]-heap[serveBare], 2000.0)
	require.InDelta(t, 4<<10, heap[serveBufio4K]-heap[serveBare], 1000)
	require.InDelta(t, 32<<10, heap[serveBufio32K]-heap[serveBare], 3000)
}

func TestAfterLargeMessage(t *testing.T) {
	const size = 4 << 20
	held, err := AfterLargeMessage(size, func(string) {})
	require.NoError(t, err)
	heap := map[string]float64{}
	for _, h := range held {
		heap[h.Side] = h.Heap
	}
	require.Less(t, heap[recvUntil], float64(size)/4)
	require.Greater(t, heap[bufioScanner], float64(size)/2, "a Scanner keeps its buffer")
}
