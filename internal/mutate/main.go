// Mutate tests the tests of a package: it changes the package in one place
// after another, and each time some test should fail.
//
//	go run ./internal/mutate                      # the package at ., all of it
//	go run ./internal/mutate -only buffer.go -v   # one file
//	go run ./internal/mutate -budget 10m          # a random sample
//
// A mutant is one such change: a condition always or never true, an operand of
// it left out, a comparison or an operator turned, a number one higher or
// lower, one argument in the place of a min or max, a statement, a case or a
// field of a literal removed, a result replaced. A mutant that some test fails
// for, or hangs for, is killed. The score is killed / (killed + survived), and
// the exit status is 1 if it is under 95 %.
//
// All mutants of functions are compiled into one test binary, which runs the
// one that an environment variable names. Tests that do not pass in that binary
// as it is, because they count allocations, run in a build of each mutant that
// the others let live, as do all tests for mutants outside of functions.
// Nothing in the directory of the package is written to.
//
// A mutant that behaves as the original does cannot be killed. The file
// internal/mutate/equivalents.txt lists those, with the reasons. They do not
// count; with -equivalents they are run, and must survive.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/build"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var (
	dir         = flag.String("dir", ".", "the `directory` of the package")
	only        = flag.String("only", "", "mutate this `file` alone")
	from        = flag.String("from", "", "run only the mutants that this `file`, say the output of a run, describes")
	budget      = flag.Duration("budget", 0, "begin no more mutants after this `time`, and take them at random")
	parallel    = flag.Int("j", 2, "run so many at a time")
	list        = flag.Bool("list", false, "list the mutants and do not run them")
	verbose     = flag.Bool("v", false, "print each mutant with what became of it")
	equivalents = flag.Bool("equivalents", false, "run the accepted equivalents instead of the others")
)

const wanted = 0.95 // the least score

func main() {
	log.SetFlags(0)
	log.SetPrefix("mutate: ")
	flag.Parse()
	ok, err := mutate(os.Stdout)
	if err != nil {
		log.Fatal(err)
	}
	if !ok {
		os.Exit(1)
	}
}

// mutate does it all, and reports whether the score is good enough.
func mutate(w io.Writer) (ok bool, err error) {
	if *dir, err = filepath.Abs(*dir); err != nil { // the go command runs there
		return false, err
	}
	p, err := build.ImportDir(*dir, 0)
	if err != nil {
		return false, err
	}
	var paths []string
	for _, name := range p.GoFiles {
		paths = append(paths, filepath.Join(p.Dir, name))
	}
	all, err := find(paths, *only)
	if err != nil {
		return false, err
	}
	chosen, stale, err := choose(all)
	if err != nil {
		return false, err
	}
	for key := range stale {
		fmt.Fprintln(w, "accepted as an equivalent, and no mutant:", key)
	}
	if *list {
		for _, m := range chosen {
			fmt.Fprintln(w, m.key)
		}
		return len(stale) == 0, nil
	}
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(tmp)
	r, err := newRunner(w, tmp, all)
	if err != nil {
		return false, err
	}
	r.runAll(w, chosen)
	return report(w, paths, chosen) && len(stale) == 0, nil
}

// choose returns the mutants to run, and the accepted equivalents that are not
// among all.
func choose(all []*mutant) (chosen []*mutant, stale map[string]bool, err error) {
	text, err := os.ReadFile(filepath.Join(*dir, "internal", "mutate", "equivalents.txt"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	var described []byte
	if *from != "" {
		if described, err = os.ReadFile(*from); err != nil {
			return nil, nil, err
		}
	}
	accepted := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		// The others are comments, and reasons, which are indented.
		if strings.HasPrefix(line, *only) && line != "\n" && line[0] != '#' && line[0] != '\t' {
			accepted[strings.TrimSpace(line)] = true
		}
	}
	for _, m := range all {
		if accepted[m.key] == *equivalents && (*from == "" || bytes.Contains(described, []byte("\t"+m.key+"\t"))) {
			chosen = append(chosen, m)
		}
		delete(accepted, m.key)
	}
	// Those that need a build of their own run last.
	slices.SortStableFunc(chosen, func(a, b *mutant) int {
		switch {
		case a.fn == nil && b.fn != nil:
			return 1
		case a.fn != nil && b.fn == nil:
			return -1
		}
		return 0
	})
	if *budget > 0 {
		rand.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	}
	return chosen, accepted, nil
}

// report prints the scores of the files and of all.
func report(w io.Writer, paths []string, mutants []*mutant) (ok bool) {
	fmt.Fprintf(w, "\n%-16s %8s %8s %8s %8s %8s\n", "file", "mutants", "killed", "hung", "survived", "score")
	var score float64
	for _, path := range append(paths, "all") {
		n := map[string]int{}
		for _, m := range mutants {
			if m.file.path == path || path == "all" {
				n[m.result]++
			}
		}
		ran := n[killed] + n[hung] + n[survived]
		if ran == 0 {
			continue
		}
		score = float64(ran-n[survived]) / float64(ran)
		fmt.Fprintf(w, "%-16s %8d %8d %8d %8d %7.1f%%\n", filepath.Base(path), ran, n[killed], n[hung], n[survived], 100*score)
	}
	if *equivalents {
		return score == 0
	}
	return score >= wanted
}
