package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock/bench"
	"github.com/stretchr/testify/require"
)

// madeUpMissed is a pair of which the subject takes 100 ns, and the peer 50 ns,
// with 1,000 samples each.
func madeUpMissed() *missed {
	const subject, peer = "bufsock RecvUntil", "bufio ReadBytes"
	w := bench.Lines().Aimed(16)
	return &missed{
		section: newReport(bench.Plan{}).table[0],
		result:  &bench.Result{Workload: &w, Size: 16, Times: map[string]bench.Times{subject: {100, 100, 100}, peer: {50, 50, 50}}},
		pair:    bench.Pair{Subject: subject, Peer: peer, Goals: []float64{1.5}},
		sides: map[string]*bench.Profile{
			subject: {
				Samples:   1000,
				Parts:     map[bench.Part]int{bench.Locks: 500, bench.OwnCode: 290, bench.Kernel: 200, bench.Searching: 10},
				Functions: map[string]int{"bufsock.a": 90, "bufsock.b": 200},
			},
			peer: {
				Samples: 1000,
				Parts:   map[bench.Part]int{bench.Kernel: 404, bench.PeerCode: 520, bench.Copying: 60, bench.Searching: 16},
			},
		},
	}
}

func textOf(write func(out *bytes.Buffer)) string {
	var out bytes.Buffer
	write(&out)
	return out.String()
}

func TestProfileOfAPair(t *testing.T) {
	m := madeUpMissed()
	got := textOf(func(out *bytes.Buffer) { m.write(out) })
	require.Equal(t, "### `bufsock RecvUntil` against `bufio ReadBytes`\n\n"+
		"Ratio **2.00**, from 2.00 to 2.00, goal 1.50: 100 ns and 50 ns per line.\n\n"+
		"| part | `bufsock RecvUntil` | `bufio ReadBytes` |\n| --- | ---: | ---: |\n"+
		"| locks and atomic operations | 50 ns | |\n"+
		"| bufsock's own code | 29 ns | |\n"+
		"| system calls, and the kernel in them | 20 ns | 20.2 ns |\n"+
		"| searching and comparing bytes | 1 ns | 0.80 ns |\n"+
		"| own code of bufio and other peers | | 26 ns |\n"+
		"| copying and clearing memory | | 3 ns |\n"+
		"| samples | 1,000 | 1,000 |\n\n"+
		"Most of its own code: `bufsock.b` 20 ns, `bufsock.a` 9 ns.\n\n"+
		"Beyond the peer: locks and atomic operations 50 ns, bufsock's own code 29 ns. "+
		"Less than the peer: own code of bufio and other peers 26 ns, copying and clearing memory 3 ns.\n\n", got)
}

func TestDifferencesAreWhatSamplesTell(t *testing.T) {
	tests := map[string]struct {
		subject, peer int // samples of the part, of 100 on each side
		want          string
	}{
		"many more samples":         {90, 20, "Beyond the peer: the clock 80 ns."},
		"fewer samples":             {1, 90, "Less than the peer: the clock 44 ns."},
		"as long with half a share": {20, 40, "No part differs by more than the samples can tell."},
		"more, by few samples":      {5, 4, "No part differs by more than the samples can tell."},
		"three beside none":         {3, 0, "No part differs by more than the samples can tell."},
		"six beside none":           {6, 0, "Beyond the peer: the clock 6 ns."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := madeUpMissed()
			for side, samples := range map[string]int{m.pair.Subject: tt.subject, m.pair.Peer: tt.peer} {
				m.sides[side] = &bench.Profile{Samples: 100, Parts: map[bench.Part]int{bench.ClockReads: samples}}
			}
			require.Equal(t, tt.want+"\n\n", textOf(func(out *bytes.Buffer) { m.writeDifferences(out) }))
		})
	}
}

// A side that has no profile leaves its column empty, and is not compared.
func TestProfileOfASideIsMissing(t *testing.T) {
	m := madeUpMissed()
	delete(m.sides, m.pair.Peer)
	m.none = map[string]error{m.pair.Peer: bench.ErrNoProfile}
	got := textOf(func(out *bytes.Buffer) { m.write(out) })
	require.Contains(t, got, "`bufio ReadBytes` has no profile: it works in a process or in goroutines of its own.\n")
	require.Contains(t, got, "| system calls, and the kernel in them | 20 ns | |\n")
	require.Contains(t, got, "| samples | 1,000 | |\n")
	require.NotContains(t, got, "own code of bufio")
	require.NotContains(t, got, "the peer:")
}

func TestTextOfProfiles(t *testing.T) {
	m := madeUpMissed()
	page := &profilePage{
		length: 2 * time.Second, took: time.Minute,
		costs: bench.Costs{Lock: 10, Since: 20, Now: 30, LocksFound: 0.94},
		lines: []*missed{m, m},
		idle: []*missedIdle{{
			idleGoal{bench.IdleCost{Kind: bench.TCP, Heap: 1720, Stack: 2300}, bench.IdleCost{Kind: bench.TCP, Heap: 800, Stack: 2200}},
			[]bench.HeapPart{{Function: "bufsock.a", Bytes: 300}, {Function: "b", Bytes: 90}, {Function: "c", Bytes: 80}, {Function: "d", Bytes: 70}, {Function: "e", Bytes: 60}, {Function: "f", Bytes: 50}, {Function: "g", Bytes: 40}, {Function: "h", Bytes: 30}, {Function: "i", Bytes: 20}, {Function: "j", Bytes: 10}},
		}},
	}
	text := textOf(func(out *bytes.Buffer) { page.writeText(out) })
	for _, want := range []string{
		"which took 1m0s.",
		"then works for 2s\nmore under a CPU profile",
		"| Lock and Unlock of a sync.Mutex that nobody else wants | 10 ns |\n",
		"| time.Since, which looks at the clock | 20 ns |\n",
		"| time.Now, which looks at two | 30 ns |\n",
		"gives 94 % to locks.",
		"## Lines that end in LF, pipelined: 16 B\n",
		"## An idle connection, on TCP\n",
		"**1,020 B** of heap and stack beyond a bare connection, goal 600 B: heap 1,720 B and 800 B, stack 2,300 B and 2,200 B.\n",
		"| `bufsock.a` | 300 B |\n",
		"| `h` | 30 B |\n| others | 30 B |\n",
		"Bufsock and what it calls hold 750 B of the heap.\n",
	} {
		require.Contains(t, text, want)
	}
	require.Equal(t, 1, strings.Count(text, "\n## Lines"), "pairs of the same workload and size share a heading")
	require.NotContains(t, text, "%!")
	require.NotContains(t, text, "NaN")
	require.NotContains(t, text, "Every goal")

	page.lines, page.idle = nil, nil
	require.Contains(t, textOf(func(out *bytes.Buffer) { page.writeText(out) }), "Every goal was reached.\n")
}

// What has reached its goal is measured, and has no profile.
func TestProfilesAreOfWhatWasMissed(t *testing.T) {
	a := newReport(bench.Plan{}).aims(regexp.MustCompile("^lines-wrapped/16$"))[0]
	plan := bench.Plan{Rounds: 1, Turn: time.Millisecond, Clock: bench.Wall}
	for goal, want := range map[float64]int{1e9: 0, 1e-9: 1} {
		a.Pairs[0].Goals = []float64{goal}
		page := &profilePage{length: 200 * time.Millisecond}
		var goals bytes.Buffer
		require.NoError(t, page.addAim(&a, plan, newProgress(1), &goals))
		require.Len(t, page.lines, want)
		require.Contains(t, goals.String(), "lines-wrapped, 16 B: bufsock RecvUntil, AppendTo : bufio ReadSlice")
		for _, m := range page.lines {
			require.Positive(t, m.sides[a.Pairs[0].Subject].Samples)
			require.Positive(t, m.sides[a.Pairs[0].Peer].Samples)
		}
	}
}

func TestRunProfilesRefuses(t *testing.T) {
	plan := bench.Plan{Rounds: 1, Turn: time.Millisecond}
	require.ErrorContains(t, runProfiles(&bytes.Buffer{}, "(", plan, true), "-only")
	require.ErrorContains(t, runProfiles(&bytes.Buffer{}, "no such", plan, true), "matches no goal")
	require.ErrorContains(t, runProfiles(&bytes.Buffer{}, "", plan, false), "go.mod", "this is not the directory of the module")
}
