package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock/bench"
	"github.com/stretchr/testify/require"
)

// madeUp returns a whole report with made-up times: of the side i of a workload
// 100 + 50*i ns, a little more in every round.
func madeUp() *report {
	r := newReport(bench.Plan{Rounds: 3, Turn: time.Millisecond})
	r.took = time.Minute
	for _, s := range slices.Concat(r.table, r.growth) {
		for _, size := range s.Sizes {
			result := &bench.Result{Workload: &s.Workload, Size: size, Times: map[string]bench.Times{}, Missing: map[string]error{}}
			for i, side := range s.Sides {
				if strings.HasPrefix(side.Name, "boltons") {
					result.Missing[side.Name] = errors.New("no Python")
					continue
				}
				ns := 100 + 50*float64(i)
				result.Times[side.Name] = bench.Times{ns, ns + 1, ns + 2}
			}
			s.results = append(s.results, result)
		}
	}
	r.writes = []writes{{"buffered", "bufsock Buffer, Flush", "100 pieces", 64, 1}}
	costs := func(kind bench.Kind) []bench.IdleCost {
		return []bench.IdleCost{
			{Kind: kind, Side: "bare", Heap: 800, Stack: 2048, Resident: 3500},
			{Kind: kind, Side: "bufsock", Heap: 1420.4, Stack: 4096, Resident: 7500},
		}
	}
	for _, kind := range bench.Kinds() {
		r.idle = append(r.idle, &idleTable{kind, 2000, costs(kind)})
	}
	r.crowd = &idleTable{bench.TCP, 50_000, costs(bench.TCP)}
	r.held = []bench.HeldMemory{{Side: "bufsock RecvUntil", Heap: -3}, {Side: "bufio Scanner", Heap: 128 << 20}}
	return r
}

func TestText(t *testing.T) {
	var out bytes.Buffer
	madeUp().writeText(&out)
	text := out.String()
	for _, want := range []string{
		"| 16 B | `bufsock RecvUntil` | 101 ns | `SetReadDeadline + bufio ReadBytes` | 201 ns | **0.50** | 0.50 to 0.50 | ≤ 0.28, missed |",
		"| 1 KiB | `bufsock RecvUntil` | 101 ns | `SetReadDeadline + bufio ReadBytes` | 201 ns | **0.50** | 0.50 to 0.50 | ≤ 0.90 |",
		"- `boltons recv_until`, with 16 B: no Python\n",
		"- `bufio ReadSlice`: no deadline or lock; the line is valid until the next read\n",
		"![connections served at once",
		"From 1 to 64 delimiters, ns per line: ",
		"![time of a round trip on each kind of connection](charts/ping-pong.svg)",
		"On TCP, with 2,000 of them:",
		"| `bufsock` | 1,420 B | 4,096 B | 2,668 B | ≤ 600 B, missed |",
		"| `bufsock` | 1,420 B | 4,096 B | 620 B | ≤ 800 B of heap |",
		"| `bufsock` | 1,420 B | 4,096 B | 7,500 B |",
		"| `bufio Scanner` | 128 MiB |",
		"| `bufsock RecvUntil` | 0 B |",
		"| `bufsock Buffer, Flush` | 1.0 | 100 pieces |",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "NaN")
	require.NotContains(t, text, "%!")
	ahead := text[strings.Index(text, "## Where a peer is faster"):]
	require.Contains(t, ahead[:strings.Index(ahead, "## Lines")], "- nowhere\n", "a side of bufsock is the first of each workload")
}

func TestTextSaysWhereAPeerIsFaster(t *testing.T) {
	r := madeUp()
	lines := r.table[0]
	lines.results[1].Times["bufio ReadSlice"] = bench.Times{50, 50, 50}
	for _, s := range r.table {
		if s.Name == "nothing-there" { // whose peer is bufsock on another connection
			s.results[0].Times[s.Pairs[0].Peer] = bench.Times{50, 50, 50}
		}
	}
	var out bytes.Buffer
	r.writeText(&out)
	require.Contains(t, out.String(), "- lines: `bufio ReadSlice` against `bufsock RecvUntil, AppendTo`, with 64 B (3.02 ×). "+
		"No deadline or lock; the line is valid until the next read.\n")
	require.NotContains(t, out.String(), "- nowhere")
	require.NotContains(t, out.String(), "- nothing-there")
}

func TestCharts(t *testing.T) {
	dir := t.TempDir()
	r := madeUp()
	require.NoError(t, r.write(dir))
	for _, s := range slices.Concat(r.table[:1], r.growth) {
		svg, err := os.ReadFile(filepath.Join(dir, "charts", s.Name+".svg"))
		require.NoError(t, err)
		words := map[string]bool{}
		decoder := xml.NewDecoder(bytes.NewReader(svg))
		for {
			token, err := decoder.Token()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, s.Name)
			if text, ok := token.(xml.CharData); ok {
				words[string(text)] = true
			}
		}
		for _, side := range s.Sides {
			if s.Scale != "" || !strings.HasPrefix(side.Name, "boltons") { // off the scale of the bars
				require.Contains(t, slices.Collect(maps.Keys(words)), side.Name)
			}
		}
		require.NotContains(t, string(svg), "#-", "a colour that is none")
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	require.NoError(t, err)
	for _, link := range regexp.MustCompile(`\((charts/.*?)\)`).FindAllStringSubmatch(string(readme), -1) {
		require.FileExists(t, filepath.Join(dir, link[1]))
	}
}

func TestMeasureAPart(t *testing.T) {
	r := newReport(bench.Plan{Rounds: 2, Turn: time.Millisecond})
	var out bytes.Buffer
	require.NoError(t, r.measure(regexp.MustCompile("^(ping-pong-tcp|crlf/64$)"), &out))
	require.Contains(t, out.String(), "ping-pong-tcp: a line there and back, on TCP")
	require.Contains(t, out.String(), "64 B  bufsock RecvUntil")
	require.NotContains(t, out.String(), "16 B")
}

func TestRunRefuses(t *testing.T) {
	plan := bench.Plan{Rounds: 1, Turn: time.Millisecond}
	require.ErrorContains(t, run("(", plan, true), "-only")
	require.ErrorContains(t, run("no such", plan, true), "matches no workload")
	require.ErrorContains(t, run("", bench.Plan{Rounds: 0, Turn: 1}, true), "-rounds 0")
	require.ErrorContains(t, run("", plan, false), "go.mod", "this is not the directory of the module")
}

func TestFormat(t *testing.T) {
	for n, want := range map[float64]string{0: "0 B", 16: "16 B", 1024: "1 KiB", 1536: "1.50 KiB", 64 << 20: "64 MiB", -7946: "-7.76 KiB"} {
		require.Equal(t, want, bytesText(n))
	}
	for ns, want := range map[float64]string{9.876: "9.88 ns", 49.16: "49.2 ns", 301: "301 ns", 1234: "1.23 µs", 55.8e6: "55.8 ms", 2e9: "2 s", 304_580: "305 µs"} {
		require.Equal(t, want, timeText(ns))
	}
	for n, want := range map[int]string{1: "1", 999: "999", 1000: "1,000", 1_000_000: "1,000,000"} {
		require.Equal(t, want, countText(n))
	}
	require.Equal(t, "0.027", ratioText(0.0271))
	require.Equal(t, "0.10", ratioText(0.0999))
	require.Equal(t, "12.35", ratioText(12.345))
}

func TestTicks(t *testing.T) {
	labels := func(low, high float64) (linear, log string) {
		for _, tick := range linearTicks(low, high) {
			linear += " " + tick.Label
		}
		for _, tick := range logTicks(max(low, 1), high) {
			log += " " + tick.Label
		}
		return linear, log
	}
	linear, log := labels(0, 5.7)
	require.Equal(t, " 0 1 2 3 4 5", linear)
	require.Equal(t, " 1 2 5", log)
	linear, log = labels(0, 1100)
	require.Equal(t, " 0 200 400 600 800 1000", linear)
	require.Equal(t, " 1 10 100 1000", log)
}
