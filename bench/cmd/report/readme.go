package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/bufsock/bufsock/bench"
)

// write writes README.md and the charts to the directory.
func (r *report) write(dir string) error {
	var text bytes.Buffer
	r.writeText(&text)
	if err := os.WriteFile(filepath.Join(dir, "README.md"), text.Bytes(), 0o644); err != nil {
		return err
	}
	return r.writeCharts(filepath.Join(dir, "charts"))
}

const introduction = `# Speed and memory

bufsock beside what else there is: bufio as most programs use it, with a
deadline for each message, and bare; bufio.Scanner and net/textproto; the bare
connection; netpoll; a netstring package; and boltons, the Python library that
bufsock is modelled on. All of it over TCP on loopback.

This page and its charts are written by

` + "```sh\ngo run ./cmd/report -rounds %d\n```" + `

in this directory, which took %v. A part of it, on the terminal:

` + "```sh\ngo run ./cmd/report -only 'lines/(16|64)$'\n```" + `

The same as benchmarks of Go, which time each side for itself:

` + "```sh\ngo test -bench . ./...\n```" + `

## How to read it

The sides of a comparison take turns of about %v each, %d times, A B, B A and so
on. In a turn the other end of the connection sends so many messages as fast as
it can, and the side receives them, or the other way round; between turns
nothing is under way. A **ratio** is the time of bufsock divided by that of the
other side in the same round: below 1 bufsock is faster. Shown are the median of
the rounds and, as the **spread**, their tenth and ninetieth percentile. The
**goal** is what bufsock sets itself. Where it misses one,
[PROFILES.md](PROFILES.md) shows what the time goes into. It is written by
` + "`go run ./cmd/report -profiles`" + `.

All sides read 32 KiB at a time, save where something else is said. bufsock
always works with its timeout, its limit and its locks. What a peer leaves out
of that is said below each table.

With messages of 1 KiB and more most of the time is that of the kernel, which
copies, and of whoever is faster, who waits for the other end. Then a ratio is
nearer to 1 than what the sides do themselves.

`

func (r *report) writeText(out io.Writer) {
	fmt.Fprintf(out, introduction, r.plan.Rounds, r.took.Round(time.Second), r.plan.Turn, r.plan.Rounds)
	fmt.Fprintf(out, "Measured on %s.\n\n", machine())
	fmt.Fprintf(out, "![time per line: bufsock in blue, its peers in grey](charts/%s.svg)\n\n", r.table[0].Name)
	r.writePeersAhead(out)
	fmt.Fprintf(out, "![time of a round trip on each kind of connection](charts/%s.svg)\n\n", pingPongChart)
	fmt.Fprintf(out, "![time of a round trip on each kind of connection](charts/%s.svg)\n\n", pingPongChart)
	for _, s := range r.table {
		writeSection(out, s)
	}
	writeWrites(out, r.writes)
	fmt.Fprintf(out, "# Growth\n\nThe same with %d rounds, for more and more of something.\n\n", r.growthPlan.Rounds)
	for _, s := range r.growth {
		fmt.Fprintf(out, "## %s\n\n", heading(s.About))
		fmt.Fprintf(out, "![%s](charts/%s.svg)\n\n", s.About, s.Name)
		fmt.Fprintf(out, "%s\n\n", growthText(s))
		writeTimes(out, s)
		writeLess(out, s)
	}
	writeMemory(out, r)
}

// writePeersAhead says where a peer was faster in nine of ten rounds.
func (r *report) writePeersAhead(out io.Writer) {
	fmt.Fprintf(out, "## Where a peer is faster\n\nIn nine of ten rounds, and how many times as long bufsock took:\n\n")
	found := false
	for _, s := range slices.Concat(r.table, r.growth) {
		for _, p := range s.Pairs {
			var where []string
			for _, result := range s.results {
				if ratios := result.Ratios(p); ratios != nil && bench.Quantile(ratios, 0.1) > 1 {
					where = append(where, fmt.Sprintf("%s (%s ×)", s.scaleText(result.Size), ratioText(bench.Median(ratios))))
				}
			}
			peer := s.Side(p.Peer)
			if where == nil || peer.Less == "" { // or another way of bufsock's own
				continue
			}
			found = true
			fmt.Fprintf(out, "- %s: %s against %s, with %s. %s.\n", s.Name, code(p.Peer), code(p.Subject),
				strings.Join(where, ", "), heading(peer.Less))
		}
	}
	if !found {
		fmt.Fprintln(out, "- nowhere")
	}
	fmt.Fprintln(out)
}

// writeSection writes the comparisons of a workload.
func writeSection(out io.Writer, s *section) {
	fmt.Fprintf(out, "## %s\n\n", heading(s.About))
	fmt.Fprintf(out, "| size | bufsock | per %s | against | per %s | ratio | spread | goal |\n", s.Unit, s.Unit)
	fmt.Fprintf(out, "| ---: | --- | ---: | --- | ---: | ---: | --- | ---: |\n")
	for _, p := range s.Pairs {
		for _, r := range s.results {
			ratios := r.Ratios(p)
			if ratios == nil {
				continue
			}
			fmt.Fprintf(out, "| %s | %s | %s | %s | %s | **%s** | %s | %s |\n", s.sizeText(r.Size),
				code(p.Subject), timeText(bench.Median(r.Times[p.Subject])),
				code(p.Peer), timeText(bench.Median(r.Times[p.Peer])),
				ratioText(bench.Median(ratios)), spreadText(ratios, ratioText), goalCell(p, r))
		}
	}
	fmt.Fprintln(out)
	writeLess(out, s)
}

// goalCell is the goal of a pair, and a word if it was missed.
func goalCell(p bench.Pair, r *bench.Result) string {
	goal, ok := r.Workload.Goal(p, r.Size)
	if !ok {
		return ""
	}
	text := "≤ " + ratioText(goal)
	if bench.Median(r.Ratios(p)) > goal {
		text += ", missed"
	}
	return text
}

// writeLess says what the peers of a workload leave out, and which did not run.
func writeLess(out io.Writer, s *section) {
	var lines []string
	for _, side := range s.Sides {
		if side.Less != "" {
			lines = append(lines, code(side.Name)+": "+side.Less)
		}
	}
	for _, r := range s.results {
		for _, side := range s.Sides {
			if err := r.Missing[side.Name]; err != nil {
				lines = append(lines, fmt.Sprintf("%s, with %s: %v", code(side.Name), s.scaleText(r.Size), err))
			}
		}
	}
	for _, line := range lines {
		fmt.Fprintf(out, "- %s\n", line)
	}
	if lines != nil {
		fmt.Fprintln(out)
	}
}

// writeTimes writes the times of all sides, a row for each size.
func writeTimes(out io.Writer, s *section) {
	fmt.Fprintf(out, "| %s |", s.Scale)
	for _, side := range s.Sides {
		fmt.Fprintf(out, " %s |", code(side.Name))
	}
	for _, p := range s.Pairs {
		fmt.Fprintf(out, " ratio to %s |", code(p.Peer))
	}
	fmt.Fprintf(out, "\n|%s\n", strings.Repeat(" ---: |", 1+len(s.Sides)+len(s.Pairs)))
	for _, r := range s.results {
		fmt.Fprintf(out, "| %s |", s.sizeText(r.Size))
		for _, side := range s.Sides {
			cell := ""
			if t := r.Times[side.Name]; t != nil {
				cell = timeText(bench.Median(t))
			}
			fmt.Fprintf(out, " %s |", cell)
		}
		for _, p := range s.Pairs {
			cell := ""
			if ratios := r.Ratios(p); ratios != nil {
				cell = ratioText(bench.Median(ratios))
			}
			fmt.Fprintf(out, " %s |", cell)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "\nTimes are medians, per %s.\n\n", s.Unit)
}

// growthText says in a sentence how the sides of bufsock grow.
func growthText(s *section) string {
	show := curves[s.Name]
	var parts []string
	first, last := s.results[0], s.results[len(s.results)-1]
	for _, side := range s.Sides {
		from, to := first.Times[side.Name], last.Times[side.Name]
		if from == nil || to == nil {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s from %s to %s", code(side.Name),
			digits(show.value(first.Size, bench.Median(from))), digits(show.value(last.Size, bench.Median(to)))))
	}
	return fmt.Sprintf("From %s to %s, %s: %s.", s.sizeText(first.Size), s.scaleText(last.Size), show.label, strings.Join(parts, "; "))
}

func writeWrites(out io.Writer, all []writes) {
	if len(all) == 0 {
		return // counted on Linux only
	}
	fmt.Fprint(out, "## System calls that write\n\n| | calls | per |\n| --- | ---: | --- |\n")
	for _, w := range all {
		fmt.Fprintf(out, "| %s | %.1f | %s |\n", code(w.side), w.calls, w.unit)
	}
	fmt.Fprintln(out)
}

func writeMemory(out io.Writer, r *report) {
	fmt.Fprintf(out, "# Memory\n\nWhat an idle connection costs. Each has served a line, and a goroutine waits for\n"+
		"the next. The goal is for what is needed beyond a bare connection, whose\n"+
		"goroutine reads one byte at a time: heap and stack, or the heap alone where the\n"+
		"stack is that of other code.\n\n![bytes per idle connection: heap and stack](charts/%s.svg)\n\n", idleChart)
	for _, t := range r.idle {
		writeIdle(out, t)
	}
	fmt.Fprintf(out, "With %s connections on TCP%s, and what of the server's memory is in RAM:\n\n", countText(r.crowd.count), processes(r.crowd.count))
	fmt.Fprint(out, "| | heap | stack | resident |\n| --- | ---: | ---: | ---: |\n")
	for _, c := range r.crowd.costs {
		fmt.Fprintf(out, "| %s | %s B | %s B | %s B |\n", code(c.Side), countText(int(c.Heap)), countText(int(c.Stack)), countText(int(c.Resident)))
	}
	fmt.Fprintf(out, "\nWhat a connection holds that has received one message of %s, which is not in\nuse any more:\n\n| | heap |\n| --- | ---: |\n", bytesText(largeMessage))
	for _, h := range r.held {
		fmt.Fprintf(out, "| %s | %s |\n", code(h.Side), bytesText(max(h.Heap, 0)))
	}
}

// writeIdle writes what idle connections of a kind cost.
func writeIdle(out io.Writer, t *idleTable) {
	bare := &t.costs[0]
	fmt.Fprintf(out, "%s, with %s of them:\n\n| | heap | stack | beyond the bare one | goal |\n| --- | ---: | ---: | ---: | ---: |\n",
		heading(t.kind.About()), countText(t.count))
	for _, c := range t.costs {
		fmt.Fprintf(out, "| %s | %s B | %s B | %s B | %s |\n", code(c.Side),
			countText(int(c.Heap)), countText(int(c.Stack)), countText(int(c.Beyond(bare))), idleGoalCell(&c, bare))
	}
	fmt.Fprintln(out)
}

// idleGoalCell is the goal of bufsock, and a word if it was missed.
func idleGoalCell(c, bare *bench.IdleCost) string {
	if !c.IsSubject() {
		return ""
	}
	goal, stack := bench.IdleGoal(c.Kind)
	text := fmt.Sprintf("≤ %.0f B", goal)
	if !stack {
		text += " of heap"
	}
	if c.Beyond(bare) > goal {
		text += ", missed"
	}
	return text
}

// processes says that the connections did not fit into one process.
func processes(count int) string {
	if n := bench.Fleets(count); n > 1 {
		return fmt.Sprintf(", in %d processes", n)
	}
	return ""
}

// scaleText is a size of the workload with its unit, or with what it counts.
func (s *section) scaleText(size int) string {
	if text := s.sizeText(size); s.Scale == "" || strings.HasPrefix(s.Scale, "bytes") {
		return text
	}
	if size == 1 {
		return "1 " + strings.Replace(s.Scale, "s", "", 1)
	}
	return s.sizeText(size) + " " + s.Scale
}

func heading(about string) string { return strings.ToUpper(about[:1]) + about[1:] }

func code(name string) string { return "`" + name + "`" }

// machine says what the numbers are from.
func machine() string {
	parts := []string{fmt.Sprintf("%s/%s with %d CPUs (%s)", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu()), runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/cloudwego/netpoll", "github.com/markdingo/netstring":
				parts = append(parts, m.Path+" "+m.Version)
			}
		}
	}
	return strings.Join(parts, ", ")
}

// cpu returns the name of the processor, where Linux tells it.
func cpu() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
