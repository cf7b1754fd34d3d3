package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/bufsock/bufsock/bench"
)

// printResults prints the results of a workload for a terminal.
func printResults(out io.Writer, w *bench.Workload, results []*bench.Result) {
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "\n%s: %s, ns per %s\n", w.Name, w.About, w.Unit)
	for _, r := range results {
		for _, s := range w.Sides {
			if t := r.Times[s.Name]; t != nil {
				fmt.Fprintf(tw, "%s\t%.5g\t (%.5g to %.5g)\t  %s\t\n", bytesText(r.Size), bench.Median(t), bench.Quantile(t, 0.1), bench.Quantile(t, 0.9), s.Name)
			} else {
				fmt.Fprintf(tw, "%s\t%v\t\t  %s\t\n", bytesText(r.Size), r.Missing[s.Name], s.Name)
			}
		}
	}
	tw.Flush()
	fmt.Fprintln(out, "ratios")
	for _, p := range w.Pairs {
		for _, r := range results {
			ratios := r.Ratios(p)
			if ratios == nil {
				continue
			}
			goal, verdict := "", ""
			if i := slices.Index(w.Sizes, r.Size); p.Goals != nil && p.Goals[i] > 0 {
				goal = fmt.Sprintf("%.2f", p.Goals[i])
				if bench.Median(ratios) > p.Goals[i] {
					verdict = "over"
				}
			}
			fmt.Fprintf(tw, "%s\t%.3f\t (%.3f to %.3f)\tgoal %s\t%s\t  %s : %s\t\n", bytesText(r.Size), bench.Median(ratios), bench.Quantile(ratios, 0.1), bench.Quantile(ratios, 0.9), goal, verdict, p.Subject, p.Peer)
		}
	}
	tw.Flush()
}
