package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/bufsock/bufsock/bench"
)

// printSection prints the results of a workload for a terminal.
func printSection(out io.Writer, s *section) {
	fmt.Fprintf(out, "\n%s: %s; time per %s, 10 %% to 90 %% of the rounds\n", s.Name, s.About, s.Unit)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range s.results {
		for _, side := range s.Sides {
			if err := r.Missing[side.Name]; err != nil {
				fmt.Fprintf(tw, "  %s\t%s\t%v\n", s.sizeText(r.Size), side.Name, err)
				continue
			}
			t := r.Times[side.Name]
			fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", s.sizeText(r.Size), side.Name, timeText(bench.Median(t)), spreadText(t, timeText))
		}
	}
	tw.Flush()
	for _, p := range s.Pairs {
		for _, r := range s.results {
			if ratios := r.Ratios(p); ratios != nil {
				fmt.Fprintf(tw, "  %s\t%s\t: %s\t%s\t%s\t%s\n", s.sizeText(r.Size), p.Subject, p.Peer,
					ratioText(bench.Median(ratios)), spreadText(ratios, ratioText), goalText(p, r))
			}
		}
	}
	tw.Flush()
}

// goalText is the goal of a pair and whether it was reached.
func goalText(p bench.Pair, r *bench.Result) string {
	goal, ok := r.Workload.Goal(p, r.Size)
	switch {
	case !ok:
		return ""
	case bench.Median(r.Ratios(p)) > goal:
		return "OVER " + ratioText(goal)
	}
	return "goal " + ratioText(goal)
}

func printWrites(out io.Writer, all []writes) {
	fmt.Fprintln(out, "\nwrites: system calls that write")
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, w := range all {
		fmt.Fprintf(tw, "  %s\t%.1f\tper %s\n", w.side, w.calls, w.unit)
	}
	tw.Flush()
}

func printIdle(out io.Writer, t *idleTable) {
	fmt.Fprintf(out, "\nmemory: per connection of %s, %s, that wait after one line\n", countText(t.count), t.kind.About())
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	bare := &t.costs[0]
	for _, c := range t.costs {
		fmt.Fprintf(tw, "  %s\theap %.0f B\tstack %.0f B\tbeyond the bare one: %+.0f B\tresident %.0f B\n", c.Side, c.Heap, c.Stack, c.Beyond(bare), c.Resident)
	}
	tw.Flush()
}

func printHeld(out io.Writer, held []bench.HeldMemory) {
	fmt.Fprintf(out, "\nmemory: held by a connection that once received %s\n", bytesText(largeMessage))
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, h := range held {
		fmt.Fprintf(tw, "  %s\t%s\n", h.Side, bytesText(h.Heap))
	}
	tw.Flush()
}
