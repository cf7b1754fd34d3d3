package main

import (
	"flag"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"

	"github.com/bufsock/bufsock/bench"
)

// Turns are long enough for the garbage collector to run within those that give
// it work.
const (
	goalTurn = 10 * time.Millisecond
	goalTime = 400 * time.Millisecond // of a side
)

// goalPlan returns the plan for the goals; flags that were given count.
func goalPlan(rounds int, turn time.Duration, clock bench.Clock) bench.Plan {
	plan := bench.Plan{Turn: goalTurn, Time: goalTime, Clock: clock}
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "rounds":
			plan.Rounds = rounds
		case "turn":
			plan.Turn = turn
		}
	})
	return plan
}

// idleForGoals is how many idle connections are enough for the goals.
const idleForGoals = 1000

// runGoals measures what has a goal and matches, and prints a line for each.
func runGoals(out io.Writer, only string, plan bench.Plan) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	aims, kinds := newReport(plan).aims(match), idleKinds(match)
	if len(aims)+len(kinds) == 0 {
		return fmt.Errorf("-only: %q matches no goal", only)
	}
	for _, a := range aims {
		result, err := a.Measure(a.size(), plan, func(int) {})
		if err != nil {
			return err
		}
		printGoals(out, a.section, result)
	}
	for _, kind := range kinds {
		costs, err := measureIdleGoal(kind)
		if err != nil {
			return err
		}
		printIdleGoal(out, costs)
	}
	return nil
}

// An aim is a workload at one size, with nothing but the pairs that have a goal.
type aim struct {
	bench.Workload
	section *section
}

func (a *aim) size() int { return a.Sizes[0] }

// aims returns what has a goal and matches.
func (r *report) aims(match *regexp.Regexp) (aims []aim) {
	for _, s := range slices.Concat(r.table, r.growth) {
		for _, size := range s.matching(match) {
			if w := s.Aimed(size); len(w.Pairs) > 0 {
				aims = append(aims, aim{w, s})
			}
		}
	}
	return aims
}

// idleKinds returns the kinds whose idle connections match.
func idleKinds(match *regexp.Regexp) []bench.Kind {
	return slices.DeleteFunc(bench.Kinds(), func(kind bench.Kind) bool { return !match.MatchString(idleName(kind)) })
}

// printGoals prints a line for each pair: the median with its doubt, what four
// of five rounds lie between, and the goal.
func printGoals(out io.Writer, s *section, r *bench.Result) {
	for _, p := range r.Workload.Pairs {
		ratios := r.Ratios(p)
		if ratios == nil {
			continue
		}
		fmt.Fprintf(out, "%-6s  %s ± %.3f  (%s)  goal %s  %s, %s: %s : %s  (%s : %s)\n",
			verdict(bench.Median(ratios), p.Goals[0]),
			ratioText(bench.Median(ratios)), bench.Doubt(ratios), spreadText(ratios, ratioText), ratioText(p.Goals[0]),
			s.Name, s.sizeText(r.Size), p.Subject, p.Peer,
			timeText(bench.Median(r.Times[p.Subject])), timeText(bench.Median(r.Times[p.Peer])))
	}
}

// An idleGoal is what an idle connection of a kind costs, and a bare one.
type idleGoal struct{ own, bare bench.IdleCost }

func measureIdleGoal(kind bench.Kind) (*idleGoal, error) {
	costs, err := bench.IdleConnections(kind, idleForGoals, bench.IdleSides()[:2], func(string) {})
	if err != nil {
		return nil, err
	}
	return &idleGoal{own: costs[1], bare: costs[0]}, nil
}

// what the goal is for.
func (g *idleGoal) what() string {
	if _, stack := bench.IdleGoal(g.own.Kind); stack {
		return "heap and stack"
	}
	return "heap"
}

func printIdleGoal(out io.Writer, g *idleGoal) {
	bare, own := &g.bare, &g.own
	goal, _ := bench.IdleGoal(own.Kind)
	fmt.Fprintf(out, "%-6s  %.0f B  goal %.0f B  memory-%s: %s of an idle connection beyond a bare one  (heap %.0f : %.0f B, stack %.0f : %.0f B)\n",
		verdict(own.Beyond(bare), goal), own.Beyond(bare), goal, own.Kind, g.what(), own.Heap, bare.Heap, own.Stack, bare.Stack)
}

func verdict(value, goal float64) string {
	if value > goal {
		return "MISSED"
	}
	return "ok"
}
