// Report measures bufsock against its peers, prints what it found, and writes
// it to README.md and charts of the module, in whose directory it is run:
//
//	go run ./cmd/report
//
// With -only it measures a part. Then, and with -n, it only prints. With -goals
// it prints whether each goal was reached, within minutes:
//
//	go run ./cmd/report -goals -only 'ping-pong|resp'
//
// With -profiles it writes PROFILES.md: where the time, or the memory, goes of
// what misses its goal.
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
	bench.RunChild()
	var (
		only      = flag.String("only", "", "measure what matches the `regexp`: lines, 'lines/(16|64)$', memory; print only")
		rounds    = flag.Int("rounds", 81, "how often each side has its turn; for growth an eighth of that")
		turn      = flag.Duration("turn", 15*time.Millisecond, "about how long a turn takes")
		printOnly = flag.Bool("n", false, "print only, write no files")
		goals     = flag.Bool("goals", false, "measure what has a goal, in short turns, and print a line for each")
		profiles  = flag.Bool("profiles", false, "profile what misses its goal; print only with -only or -n, else write PROFILES.md")
		clock     = flag.String("clock", "cpu", "with -goals: wall, or cpu, which other programs disturb less")
	)
	flag.Parse()
	var err error
	switch noFiles := *printOnly || *only != ""; {
	case *goals:
		err = runGoals(os.Stdout, *only, goalPlan(*rounds, *turn, bench.Clock(*clock)))
	case *profiles:
		err = runProfiles(os.Stdout, *only, goalPlan(*rounds, *turn, bench.CPU), noFiles)
	default:
		err = run(*only, bench.Plan{Rounds: *rounds, Turn: *turn}, noFiles)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func run(only string, plan bench.Plan, printOnly bool) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if plan.Rounds < 1 || plan.Turn <= 0 {
		return fmt.Errorf("-rounds %d, -turn %v: must be above zero", plan.Rounds, plan.Turn)
	}
	if err := checkDirectory("README.md"); err != nil && !printOnly {
		return err
	}
	r := newReport(plan)
	if r.steps(match) == 0 {
		return fmt.Errorf("-only: %q matches no workload", only)
	}
	if err := r.measure(match, os.Stdout); err != nil {
		return err
	}
	if printOnly {
		return nil
	}
	return r.write(".")
}

// checkDirectory returns an error if this is not the directory that the page is
// for.
func checkDirectory(page string) error {
	if _, err := os.Stat("go.mod"); err != nil {
		return fmt.Errorf("%w: run it in the directory of the module, where %s is written", err, page)
	}
	return nil
}
