package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bufsock/bufsock/bench"
)

const (
	profileTime  = 2 * time.Second // of a side
	topFunctions = 6
	topHeap      = 8
)

// A profilePage is what PROFILES.md says.
type profilePage struct {
	length time.Duration // of a profile
	took   time.Duration
	costs  bench.Costs
	lines  []*missed
	idle   []*missedIdle
}

// missed is a pair that has missed its goal.
type missed struct {
	section *section
	result  *bench.Result
	pair    bench.Pair
	sides   map[string]*bench.Profile
	none    map[string]error // why a side has no profile
}

// missedIdle is an idle connection that has missed its goal.
type missedIdle struct {
	idleGoal
	heap []bench.HeapPart
}

// runProfiles measures what has a goal and matches, takes profiles where one
// was missed, and prints them, or writes them to PROFILES.md and prints how the
// goals were met.
func runProfiles(out io.Writer, only string, plan bench.Plan, printOnly bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if err := checkDirectory("PROFILES.md"); err != nil && !printOnly {
		return err
	}
	goals := out
	if printOnly {
		goals = io.Discard
	}
	page, err := takeProfiles(goals, match, plan)
	if err != nil {
		return err
	}
	if printOnly {
		page.writeText(out)
		return nil
	}
	var text bytes.Buffer
	page.writeText(&text)
	return os.WriteFile("PROFILES.md", text.Bytes(), 0o644)
}

func takeProfiles(goals io.Writer, match *regexp.Regexp, plan bench.Plan) (page *profilePage, err error) {
	aims, kinds := newReport(plan).aims(match), idleKinds(match)
	if len(aims)+len(kinds) == 0 {
		return nil, fmt.Errorf("-only: %q matches no goal", match)
	}
	page = &profilePage{length: profileTime}
	if page.costs, err = bench.MeasureCosts(); err != nil {
		return nil, err
	}
	p := newProgress(len(aims) + len(kinds))
	for _, a := range aims {
		p.step("%s, %s", a.Name, a.section.sizeText(a.size()))
		if err := page.addAim(&a, plan, p, goals); err != nil {
			return nil, err
		}
	}
	for _, kind := range kinds {
		p.step("memory of idle connections, %s", kind)
		if err := page.addIdle(kind, p, goals); err != nil {
			return nil, err
		}
	}
	page.took = time.Since(p.start)
	return page, nil
}

// addAim measures and adds the pairs that have missed their goals. Pairs share
// the profiles of their sides.
func (page *profilePage) addAim(a *aim, plan bench.Plan, p *progress, goals io.Writer) error {
	result, err := a.Measure(a.size(), plan, func(round int) { p.show("round %d", round) })
	if err != nil {
		return err
	}
	p.clear()
	printGoals(goals, a.section, result)
	sides, none := map[string]*bench.Profile{}, map[string]error{}
	for _, pair := range a.Pairs {
		ratios := result.Ratios(pair)
		if ratios == nil || verdict(bench.Median(ratios), pair.Goals[0]) == "ok" {
			continue
		}
		for _, name := range []string{pair.Subject, pair.Peer} {
			if sides[name] != nil || none[name] != nil {
				continue
			}
			p.show("profile of %s", name)
			profile, err := a.Profile(a.Side(name), a.size(), plan, page.length)
			switch {
			case errors.Is(err, bench.ErrNoProfile):
				none[name] = err
			case err != nil:
				return err
			default:
				sides[name] = profile
			}
		}
		page.lines = append(page.lines, &missed{a.section, result, pair, sides, none})
	}
	return nil
}

func (page *profilePage) addIdle(kind bench.Kind, p *progress, goals io.Writer) error {
	costs, err := measureIdleGoal(kind)
	if err != nil {
		return err
	}
	p.clear()
	printIdleGoal(goals, costs)
	if goal, _ := bench.IdleGoal(kind); verdict(costs.own.Beyond(&costs.bare), goal) == "ok" {
		return nil
	}
	heap, err := bench.IdleHeap(kind, idleForGoals)
	page.idle = append(page.idle, &missedIdle{*costs, heap})
	return err
}

const profileIntroduction = `# Profiles of what misses its goal

Where the time goes, of bufsock and of its peer, in each comparison that misses
its goal, and what holds the memory of idle connections that miss theirs. The
goals are those of [README.md](README.md). This page is written by

` + "```sh\ngo run ./cmd/report -profiles\n```" + `

in this directory, which took %v. A part of it, on the terminal:

` + "```sh\ngo run ./cmd/report -profiles -only 'lines/16$'\n```" + `

## How to read it

The sides are measured as with ` + "`-goals`" + `: by turns, in time on processors. A pair
whose median ratio is above its goal is on this page; one that is near its goal
may be on it in one run and not in the next. Each of its sides then works for %v
more under a CPU profile, in turns of the same length. The time of a **part** is
the measured time multiplied by its share of the samples, so that the parts of a
side add up to its time.

A sample belongs to the part of the innermost function that has one; a function
that was inlined is one, too. Helpers of the runtime and atomic operations within
the runtime, the pool and package net count with who calls them. Deadlines,
timers, a collection of garbage, and the choice of the next goroutine count with
all that they call.

Samples count if they are of the goroutine that does the work, or of what the
runtime does for it in the background. The other end of the connection has
threads of its own, which are left out of the times; in round trips it is a part
of them, and one of the table. Where the server is a process of its own the
profile is that of the server, and its clients are the other end.

A part that was found n times is known to about √n samples. The sentences below
the tables name the parts that differ by more than twice that. A tick of the
clock finds the processor at the instruction behind the one that took the time.
Mostly that is of the same function, but a part of what a locked instruction
takes may count with who called for it; and what an interrupt takes counts with
the function that it came in. So here is what these things take alone, measured
in the same run:

| | |
| --- | ---: |
| Lock and Unlock of a sync.Mutex that nobody else wants | %s |
| time.Since, which looks at the clock | %s |
| time.Now, which looks at two | %s |

Of a loop that does nothing but Lock and Unlock a profile gives %.0f %% to locks.

Measured on %s.

`

func (page *profilePage) writeText(out io.Writer) {
	fmt.Fprintf(out, profileIntroduction, page.took.Round(time.Second), page.length,
		timeText(page.costs.Lock), timeText(page.costs.Since), timeText(page.costs.Now), 100*page.costs.LocksFound, machine())
	if len(page.lines)+len(page.idle) == 0 {
		fmt.Fprint(out, "Every goal was reached.\n")
	}
	var last *bench.Result
	for _, m := range page.lines {
		if m.result != last {
			fmt.Fprintf(out, "## %s: %s\n\n", heading(m.section.About), m.section.scaleText(m.result.Size))
		}
		last = m.result
		m.write(out)
	}
	for _, m := range page.idle {
		m.write(out)
	}
}

// write writes the profiles of a pair.
func (m *missed) write(out io.Writer) {
	ratios := m.result.Ratios(m.pair)
	fmt.Fprintf(out, "### %s against %s\n\n", code(m.pair.Subject), code(m.pair.Peer))
	fmt.Fprintf(out, "Ratio **%s**, from %s, goal %s: %s and %s per %s.\n\n",
		ratioText(bench.Median(ratios)), spreadText(ratios, ratioText), ratioText(m.pair.Goals[0]),
		timeText(m.time(m.pair.Subject)), timeText(m.time(m.pair.Peer)), m.section.Unit)
	for _, name := range []string{m.pair.Subject, m.pair.Peer} {
		if err := m.none[name]; err != nil {
			fmt.Fprintf(out, "%s has no profile: it %v.\n\n", code(name), err)
		}
	}
	m.writeParts(out)
	m.writeTop(out)
	m.writeDifferences(out)
}

// time is the nanoseconds per unit of a side.
func (m *missed) time(side string) float64 { return bench.Median(m.result.Times[side]) }

// partTime returns the nanoseconds per unit of a part of a side, how far off they
// may be, and whether the side has a profile.
func (m *missed) partTime(side string, part bench.Part) (ns, doubt float64, ok bool) {
	p := m.sides[side]
	if p == nil || p.Samples == 0 {
		return 0, 0, false
	}
	each := m.time(side) / float64(p.Samples)
	n := float64(p.Parts[part])
	return n * each, math.Sqrt(max(n, 1)) * each, true
}

// parts returns the parts of both sides, the largest of the subject first.
func (m *missed) parts() (parts []bench.Part) {
	for _, side := range []string{m.pair.Subject, m.pair.Peer} {
		if p := m.sides[side]; p != nil {
			for part, samples := range p.Parts {
				if samples > 0 && !slices.Contains(parts, part) {
					parts = append(parts, part)
				}
			}
		}
	}
	slices.SortFunc(parts, func(a, b bench.Part) int {
		subjectA, _, _ := m.partTime(m.pair.Subject, a)
		subjectB, _, _ := m.partTime(m.pair.Subject, b)
		peerA, _, _ := m.partTime(m.pair.Peer, a)
		peerB, _, _ := m.partTime(m.pair.Peer, b)
		return cmp.Or(cmp.Compare(subjectB, subjectA), cmp.Compare(peerB, peerA), cmp.Compare(a, b))
	})
	return parts
}

func (m *missed) writeParts(out io.Writer) {
	fmt.Fprintf(out, "| part | %s | %s |\n| --- | ---: | ---: |\n", code(m.pair.Subject), code(m.pair.Peer))
	for _, part := range m.parts() {
		fmt.Fprintf(out, "| %s |", part)
		for _, side := range []string{m.pair.Subject, m.pair.Peer} {
			cell := ""
			if ns, _, ok := m.partTime(side, part); ok && ns > 0 {
				cell = " " + timeText(ns)
			}
			fmt.Fprintf(out, "%s |", cell)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprint(out, "| samples |")
	for _, side := range []string{m.pair.Subject, m.pair.Peer} {
		cell := ""
		if p := m.sides[side]; p != nil {
			cell = " " + countText(p.Samples)
		}
		fmt.Fprintf(out, "%s |", cell)
	}
	fmt.Fprint(out, "\n\n")
}

// writeTop names the functions of bufsock that take the most time themselves.
func (m *missed) writeTop(out io.Writer) {
	p := m.sides[m.pair.Subject]
	if p == nil {
		return
	}
	var texts []string
	for _, function := range p.Top(topFunctions) {
		ns := m.time(m.pair.Subject) * float64(p.Functions[function]) / float64(p.Samples)
		texts = append(texts, fmt.Sprintf("%s %s", code(function), timeText(ns)))
	}
	if texts != nil {
		fmt.Fprintf(out, "Most of its own code: %s.\n\n", strings.Join(texts, ", "))
	}
}

// writeDifferences says in which parts the subject takes more than the peer, and
// in which less.
func (m *missed) writeDifferences(out io.Writer) {
	if m.sides[m.pair.Subject] == nil || m.sides[m.pair.Peer] == nil {
		return
	}
	more, less := m.differences()
	var sentences []string
	if more != nil {
		sentences = append(sentences, "Beyond the peer: "+strings.Join(more, ", ")+".")
	}
	if less != nil {
		sentences = append(sentences, "Less than the peer: "+strings.Join(less, ", ")+".")
	}
	if sentences == nil {
		sentences = []string{"No part differs by more than the samples can tell."}
	}
	fmt.Fprintf(out, "%s\n\n", strings.Join(sentences, " "))
}

// differences are the parts that differ by more than the samples leave open, each
// with the time, the largest first.
func (m *missed) differences() (more, less []string) {
	type difference struct {
		part bench.Part
		ns   float64
	}
	var all []difference
	for _, part := range m.parts() {
		subject, doubt1, _ := m.partTime(m.pair.Subject, part)
		peer, doubt2, _ := m.partTime(m.pair.Peer, part)
		if ns := subject - peer; math.Abs(ns) > 2*math.Hypot(doubt1, doubt2) {
			all = append(all, difference{part, ns})
		}
	}
	slices.SortStableFunc(all, func(a, b difference) int { return cmp.Compare(math.Abs(b.ns), math.Abs(a.ns)) })
	for _, d := range all {
		text := fmt.Sprintf("%s %s", d.part, timeText(math.Abs(d.ns)))
		if d.ns > 0 {
			more = append(more, text)
		} else {
			less = append(less, text)
		}
	}
	return more, less
}

// write writes what of the heap of idle connections bufsock has allocated.
func (m *missedIdle) write(out io.Writer) {
	own, bare := &m.own, &m.bare
	goal, _ := bench.IdleGoal(own.Kind)
	fmt.Fprintf(out, "## An idle connection, %s\n\n", own.Kind.About())
	fmt.Fprintf(out, "**%s B** of %s beyond a bare connection, goal %.0f B: heap %s B and %s B, stack %s B and %s B.\n\n",
		countText(int(own.Beyond(bare))), m.what(), goal, countText(int(own.Heap)), countText(int(bare.Heap)),
		countText(int(own.Stack)), countText(int(bare.Stack)))
	fmt.Fprint(out, "| allocated by | heap |\n| --- | ---: |\n")
	total, rest := 0.0, 0.0
	for i, part := range m.heap {
		total += part.Bytes
		if i >= topHeap {
			rest += part.Bytes
			continue
		}
		fmt.Fprintf(out, "| %s | %.0f B |\n", code(part.Function), part.Bytes)
	}
	if rest > 0 {
		fmt.Fprintf(out, "| others | %.0f B |\n", rest)
	}
	fmt.Fprintf(out, "\nBufsock and what it calls hold %s B of the heap.\n\n", countText(int(total)))
}
