// Report measures bufsock against its peers, prints tables of what it found,
// and writes README.md and charts of the module that it is in:
//
//	go run ./cmd/report
//
// With -n it prints only; with -only it measures a part, and prints only.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/bufsock/bufsock/bench"
)

func main() {
	var (
		only   = flag.String("only", "", "measure only workloads that match this `regexp`, and sizes: lines, 'lines/(16|64)$'")
		rounds = flag.Int("rounds", 25, "how often each side has its turn")
		turn   = flag.Duration("turn", 30*time.Millisecond, "about how long a turn takes")
		print  = flag.Bool("n", false, "print only, write no files")
	)
	flag.Parse()
	if err := run(*only, bench.Plan{Rounds: *rounds, Turn: *turn}, *print); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(only string, plan bench.Plan, print bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	for _, w := range bench.Workloads() {
		var results []*bench.Result
		for _, size := range w.Sizes {
			if !match.MatchString(fmt.Sprintf("%s/%d", w.Name, size)) {
				continue
			}
			r, err := w.Measure(size, plan, func(round int) {
				fmt.Fprintf(os.Stderr, "\r\033[K%s, %s: round %d of %d", w.Name, bytesText(size), round, plan.Rounds)
			})
			fmt.Fprint(os.Stderr, "\r\033[K")
			if err != nil {
				return err
			}
			results = append(results, r)
		}
		if len(results) > 0 {
			printResults(os.Stdout, &w, results)
		}
	}
	return nil
}

func bytesText(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
