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
	r := newReport(plan)
	found := false
	for _, s := range slices.Concat(r.table, r.growth) {
		for _, size := range s.matching(match) {
			w := s.Aimed(size)
			if len(w.Pairs) == 0 {
				continue
			}
			found = true
			result, err := w.Measure(size, plan, func(int) {})
			if err != nil {
				return err
			}
			printGoals(out, s, result)
		}
	}
	for _, kind := range bench.Kinds() {
		if !match.MatchString(idleName(kind)) {
			continue
		}
		found = true
		if err := printIdleGoal(out, kind); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("-only: %q matches no goal", only)
	}
	return nil
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

// printIdleGoal prints what an idle connection of the kind costs.
func printIdleGoal(out io.Writer, kind bench.Kind) error {
	costs, err := bench.IdleConnections(kind, idleForGoals, bench.IdleSides()[:2], func(string) {})
	if err != nil {
		return err
	}
	bare, own := &costs[0], &costs[1]
	goal, stack := bench.IdleGoal(kind)
	what := "heap"
	if stack {
		what += " and stack"
	}
	fmt.Fprintf(out, "%-6s  %.0f B  goal %.0f B  memory-%s: %s of an idle connection beyond a bare one  (heap %.0f : %.0f B, stack %.0f : %.0f B)\n",
		verdict(own.Beyond(bare), goal), own.Beyond(bare), goal, kind, what, own.Heap, bare.Heap, own.Stack, bare.Stack)
	return nil
}

func verdict(value, goal float64) string {
	if value > goal {
		return "MISSED"
	}
	return "ok"
}
