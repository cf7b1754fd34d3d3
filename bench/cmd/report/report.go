package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/bufsock/bufsock/bench"
)

// What is measured of memory.
const (
	idleConnections = 2_000  // of each kind
	idleCrowd       = 50_000 // on TCP, in several processes where one may not have so many
	largeMessage    = 64 << 20
)

// A report is what was measured.
type report struct {
	plan, growthPlan bench.Plan
	took             time.Duration
	table, growth    []*section
	writes           []writes
	idle             []*idleTable // by kind of connection
	crowd            *idleTable
	held             []bench.HeldMemory
}

// An idleTable is what idle connections of a kind cost, with so many of them.
// The first are the bare ones.
type idleTable struct {
	kind  bench.Kind
	count int
	costs []bench.IdleCost
}

// A section is a workload with its results, in the order of its sizes.
type section struct {
	bench.Workload
	results []*bench.Result
}

// writes tells how many system calls a side makes for a unit.
type writes struct {
	workload, side, unit string
	size                 int
	calls                float64
}

func newReport(plan bench.Plan) *report {
	r := &report{plan: plan, growthPlan: plan}
	r.growthPlan.Rounds = max(1, plan.Rounds/8)
	for _, w := range bench.Workloads() {
		r.table = append(r.table, &section{Workload: w})
	}
	for _, w := range bench.Growth() {
		r.growth = append(r.growth, &section{Workload: w})
	}
	return r
}

// measure measures what matches, and prints it as it comes.
func (r *report) measure(match *regexp.Regexp, out io.Writer) error {
	p := newProgress(r.steps(match))
	defer func() { r.took = time.Since(p.start) }()
	for _, s := range slices.Concat(r.table, r.growth) {
		if err := s.measure(match, r.planOf(s), p); err != nil {
			return err
		}
		if len(s.results) > 0 {
			p.clear()
			printSection(out, s)
		}
	}
	if match.MatchString("writes") {
		if err := r.countWrites(p); err != nil {
			return err
		}
		p.clear()
		printWrites(out, r.writes)
	}
	return r.measureMemory(match, p, out)
}

func (r *report) planOf(s *section) bench.Plan {
	if s.Scale != "" {
		return r.growthPlan
	}
	return r.plan
}

// steps returns how many steps there are to measure what matches.
func (r *report) steps(match *regexp.Regexp) int {
	n := 0
	for _, s := range slices.Concat(r.table, r.growth) {
		n += len(s.matching(match))
	}
	for _, name := range append(idleNames(), "writes", "memory-crowd", "memory-held") {
		if match.MatchString(name) {
			n++
		}
	}
	return n
}

// idleNames are the names of the measurements of idle connections.
func idleNames() (names []string) {
	for _, kind := range bench.Kinds() {
		names = append(names, idleName(kind))
	}
	return names
}

func idleName(kind bench.Kind) string { return "memory-" + string(kind) }

func (s *section) matching(match *regexp.Regexp) []int {
	return slices.DeleteFunc(slices.Clone(s.Sizes), func(size int) bool {
		return !match.MatchString(fmt.Sprintf("%s/%d", s.Name, size))
	})
}

func (s *section) measure(match *regexp.Regexp, plan bench.Plan, p *progress) error {
	for _, size := range s.matching(match) {
		p.step("%s, %s", s.Name, s.sizeText(size))
		result, err := s.Measure(size, plan, func(round int) {
			p.show("round %d of %d", round, plan.Rounds)
		})
		if err != nil {
			return err
		}
		s.results = append(s.results, result)
	}
	return nil
}

// countWrites counts the system calls of the sides that send small messages.
func (r *report) countWrites(p *progress) error {
	p.step("system calls that write")
	for _, s := range r.table {
		if s.Name != "buffered" && s.Name != "netstrings-written" {
			continue
		}
		for _, side := range s.Sides {
			calls, err := side.WriteCalls(s.Sizes[0])
			if errors.Is(err, bench.ErrMissing) {
				p.show("%v", err)
				return nil
			}
			if err != nil {
				return err
			}
			r.writes = append(r.writes, writes{s.Name, side.Name, s.Unit, s.Sizes[0], calls})
		}
	}
	return nil
}

// measureMemory measures of the memory what matches, and prints it as it comes.
func (r *report) measureMemory(match *regexp.Regexp, p *progress, out io.Writer) (err error) {
	for _, kind := range bench.Kinds() {
		if !match.MatchString(idleName(kind)) {
			continue
		}
		table, err := measureIdle(kind, idleConnections, bench.IdleSides(), p)
		if err != nil {
			return err
		}
		r.idle = append(r.idle, table)
		p.clear()
		printIdle(out, table)
	}
	if match.MatchString("memory-crowd") {
		sides := bench.IdleSides()
		if r.crowd, err = measureIdle(bench.TCP, idleCrowd, sides[:len(sides)-1], p); err != nil {
			return err
		}
		p.clear()
		printIdle(out, r.crowd)
	}
	if match.MatchString("memory-held") {
		p.step("memory after a large message")
		if r.held, err = bench.AfterLargeMessage(largeMessage, func(side string) { p.show("%s", side) }); err != nil {
			return err
		}
		p.clear()
		printHeld(out, r.held)
	}
	return nil
}

func measureIdle(kind bench.Kind, count int, sides []string, p *progress) (*idleTable, error) {
	p.step("memory of %s idle connections, %s", countText(count), kind)
	costs, err := bench.IdleConnections(kind, count, sides, func(side string) { p.show("%s", side) })
	return &idleTable{kind, count, costs}, err
}

// A progress is a line on standard error that tells what is being done. It is
// written again and again on a terminal, else once for every step.
type progress struct {
	start       time.Time
	done, steps int
	now         string
	terminal    bool
}

func newProgress(steps int) *progress {
	info, err := os.Stderr.Stat()
	return &progress{
		start: time.Now(), steps: steps,
		terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
}

// step begins the next step.
func (p *progress) step(format string, args ...any) {
	p.done++
	p.now = fmt.Sprintf("[%d of %d, %v] ", p.done, p.steps, time.Since(p.start).Round(time.Second)) + fmt.Sprintf(format, args...)
	if !p.terminal {
		fmt.Fprintln(os.Stderr, p.now)
	}
}

// show tells how far the step is.
func (p *progress) show(format string, args ...any) {
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\033[K%s: %s", p.now, fmt.Sprintf(format, args...))
	}
}

// clear makes room for a line on standard output.
func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
