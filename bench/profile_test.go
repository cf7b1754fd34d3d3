package bench

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
)

var profilePlan = Plan{Turn: time.Millisecond, Clock: CPU}

const profileLength = 300 * time.Millisecond

// timesTwo is a side whose session looks at the clock and then waits for a
// goroutine that locks a mutex as long, in a role.
func timesTwo(other context.Context, processor func() (time.Duration, error)) Side {
	return Side{Name: "two", Start: func(int, func([]byte)) (*Session, error) {
		do := func(n int) (time.Duration, error) {
			start := time.Now()
			for time.Since(start) < time.Duration(n)*time.Microsecond {
			}
			locked := make(chan struct{})
			go func() {
				defer close(locked)
				mark(other)
				lockFor(time.Duration(n) * time.Microsecond)
			}()
			<-locked
			return time.Since(start), nil
		}
		return &Session{do: do, close: func() {}, processor: processor}, nil
	}}
}

func lockFor(length time.Duration) {
	var mu sync.Mutex
	for start := time.Now(); time.Since(start) < length; {
		for range 1000 {
			mu.Lock()
			mu.Unlock() //nolint:staticcheck // nothing to protect
		}
	}
}

func TestProfileCountsWhatIsMeasured(t *testing.T) {
	ownClock := func() (time.Duration, error) { return processorTime(processClock) }
	tests := map[string]struct {
		role      context.Context
		processor func() (time.Duration, error)
		ownTime   bool
		want      Part // of the other goroutine; none: it does not count
	}{
		"a goroutine of the session":                     {working, nil, false, Locks},
		"the other end":                                  {answerer, nil, false, OtherEnd},
		"the other end, in threads of its own":           {separate, ownClock, false, ""},
		"the other end, in threads that are not told":    {separate, nil, false, OtherEnd},
		"the other end, where the session takes time":    {answerer, nil, true, ""},
		"what comes before, where it takes time":         {preparing, nil, true, ""},
		"a goroutine that has nothing to do with it":     {context.Background(), nil, false, ""},
		"a goroutine of the session that takes its time": {working, nil, true, Locks},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			side := timesTwo(tt.role, tt.processor)
			w := &Workload{OwnTime: tt.ownTime, Sides: []Side{side}}
			p, err := w.Profile(&side, 1, profilePlan, profileLength)
			if errors.Is(err, ErrMissing) {
				t.Skip(err)
			}
			require.NoError(t, err)
			require.Greater(t, p.Parts[ClockReads], p.Samples/10, "%v", p.Parts)
			for _, part := range []Part{Locks, OtherEnd} {
				if part == tt.want {
					require.Greater(t, p.Parts[part], p.Samples/10, "%v", p.Parts)
				} else {
					require.LessOrEqual(t, p.Parts[part], p.Samples/20+1, "%v", p.Parts)
				}
			}
			total := 0
			for _, samples := range p.Parts {
				total += samples
			}
			require.Equal(t, p.Samples, total)
		})
	}
}

func TestProfileOfAServerOfItsOwn(t *testing.T) {
	w := Connections()
	p, err := w.Profile(w.Side(serveBufsock), 2, profilePlan, profileLength)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.Positive(t, p.Parts[Kernel])
	require.Positive(t, p.Parts[OtherEnd], "the clients")
}

func TestProfileOfASideElsewhere(t *testing.T) {
	w := Lines()
	_, err := w.Profile(w.Side(netpollUntil), 16, profilePlan, profileLength)
	require.ErrorIs(t, err, ErrNoProfile)
}

func TestBackgroundIsOfTheRuntime(t *testing.T) {
	tests := map[string]struct {
		stack []string
		want  bool
	}{
		"the collector":                   {[]string{"runtime.scanobject", "runtime.gcDrain", "runtime.gcBgMarkWorker"}, true},
		"the scheduler":                   {[]string{"internal/runtime/syscall/linux.Syscall6", "runtime.netpoll", "runtime.schedule"}, true},
		"a thread of the other end":       {[]string{"runtime.futex", "runtime.stoplockedm", "runtime.schedule"}, false},
		"another goroutine":               {[]string{"runtime.mallocgc", "main.main", "runtime.main"}, false},
		"the goroutine of the profile":    {[]string{"runtime.memmove", "runtime/pprof.profileWriter"}, false},
		"an assembler function of a call": {[]string{"memeqbody", "bytes.Equal", "main.main"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, isBackground(tt.stack)) })
	}
}

func TestTopIsOfOwnCode(t *testing.T) {
	p := newProfile()
	p.add(OwnCode, bufsockPackage+"newLink", 2)
	p.add(OwnCode, bufsockPackage+"newCall", 2)
	p.add(OwnCode, bufsockPackage+"Dial", 3)
	p.add(PeerCode, "bufio.NewReader", 9)
	require.Equal(t, []string{"bufsock.Dial", "bufsock.newCall", "bufsock.newLink"}, p.Top(6))
	require.Equal(t, []string{"bufsock.Dial"}, p.Top(1))
	require.Equal(t, 16, p.Samples)
}

// encoded returns a profile with one sample: leaf was inlined in caller, which
// root has called.
func encoded(t *testing.T, kind string) []byte {
	functions := []*profile.Function{{ID: 1, Name: "leaf"}, {ID: 2, Name: "caller"}, {ID: 3, Name: "root"}}
	inlined := &profile.Location{ID: 1, Line: []profile.Line{{Function: functions[0]}, {Function: functions[1]}}}
	outer := &profile.Location{ID: 2, Line: []profile.Line{{Function: functions[2]}}}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: kind, Unit: "bytes"}},
		Function:   functions,
		Location:   []*profile.Location{inlined, outer},
		Sample: []*profile.Sample{{
			Location: []*profile.Location{inlined, outer}, Value: []int64{3, 40},
			Label: map[string][]string{roleLabel: {"session"}},
		}},
	}
	var raw bytes.Buffer
	require.NoError(t, p.Write(&raw))
	return raw.Bytes()
}

func TestSamplesHaveInlinedFunctions(t *testing.T) {
	var got []any
	require.NoError(t, eachSample(encoded(t, "cpu"), func(role string, stack []string, n int) { got = append(got, role, stack, n) }))
	require.Equal(t, []any{"session", []string{"leaf", "caller", "root"}, 3}, got)

	got = nil
	require.NoError(t, eachHeapSample(encoded(t, "inuse_space"), func(stack []string, inUse int) { got = append(got, stack, inUse) }))
	require.Equal(t, []any{[]string{"leaf", "caller", "root"}, 40}, got)

	require.Error(t, eachSample([]byte("no profile"), nil))
	require.Error(t, eachHeapSample([]byte("no profile"), nil))
}

func TestHeapIsOfBufsockAndWhatItCalls(t *testing.T) {
	tests := map[string]struct {
		stack []string
		want  string
	}{
		"bufsock":                         {[]string{bufsockPackage + "newLink", benchPackage + "echoLines"}, "bufsock.newLink"},
		"what it calls":                   {[]string{"time.newTimer", bufsockPackage + "newLink"}, "time.newTimer"},
		"the benchmark, which is no part": {[]string{benchPackage + "echoLines"}, ""},
		"package net, for the benchmark":  {[]string{"net.newFD", benchPackage + "serveLines.func1"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			function, ok := heapHolder(tt.stack)
			require.Equal(t, tt.want, function)
			require.Equal(t, tt.want != "", ok)
		})
	}
}

func TestHeapPartsAreOfAConnection(t *testing.T) {
	h := heapHolders{"once": 9, "large": 400, "b": 100, "a": 100, "freed": -500}
	require.Equal(t, []HeapPart{{"large", 40}, {"a", 10}, {"b", 10}}, h.parts(10))
}

// The profile has what the heap has grown by.
func TestIdleHeap(t *testing.T) {
	const count = 200
	parts, err := IdleHeap(TCP, count)
	require.NoError(t, err)
	costs, err := IdleConnections(TCP, count, IdleSides()[:2], func(string) {})
	require.NoError(t, err)
	total := 0.0
	for _, p := range parts {
		total += p.Bytes
	}
	require.InEpsilon(t, costs[1].Heap-costs[0].Heap, total, 0.3)
	require.True(t, slices.IsSortedFunc(parts, func(a, b HeapPart) int { return int(b.Bytes - a.Bytes) }))
}

func TestMeasureCosts(t *testing.T) {
	costs, err := MeasureCosts()
	require.NoError(t, err)
	for _, ns := range []float64{costs.Lock, costs.Since, costs.Now} {
		require.Positive(t, ns)
		require.Less(t, ns, 10e3)
	}
	require.Greater(t, costs.LocksFound, 0.5)
	require.LessOrEqual(t, costs.LocksFound, 1.0)
}
