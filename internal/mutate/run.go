package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What becomes of a mutant.
const (
	killed   = "killed"
	hung     = "hung"
	survived = "survived"
)

// A runner runs the tests against mutants.
type runner struct {
	tmp     string
	bin     string          // the tests, with all mutants
	slow    string          // a pattern: the tests that take their time
	timeout time.Duration   // of the others
	number  map[*mutant]int // by which the binary knows them

	mu      sync.Mutex
	killers map[*ast.FuncDecl][]string // tests that have killed mutants of a function
}

// newRunner builds the binary with all mutants, and runs it with none.
func newRunner(w io.Writer, tmp string, all []*mutant) (*runner, error) {
	r := &runner{
		tmp:     tmp,
		bin:     filepath.Join(tmp, "mutants.test"),
		number:  map[*mutant]int{},
		killers: map[*ast.FuncDecl][]string{},
	}
	for i, m := range all {
		r.number[m] = i + 1
	}
	overlay, err := r.overlay("all", r.schemata(all))
	if err != nil {
		return nil, err
	}
	if out, err := r.command(10*time.Minute, 0, "go", "test", "-c", "-vet=off", overlay, "-o", r.bin, "."); err != nil {
		return nil, fmt.Errorf("building the mutants: %w\n%s", err, out)
	}
	out, err := r.command(5*time.Minute, 0, r.bin, "-test.v")
	if err != nil {
		return nil, fmt.Errorf("without a mutant: %w: %q", err, failure.FindAllString(out, -1))
	}
	var slow []string
	for _, m := range regexp.MustCompile(`(?m)^--- PASS: (\S+) \((\S+s)\)$`).FindAllStringSubmatch(out, -1) {
		if d, err := time.ParseDuration(m[2]); err != nil || d > 80*time.Millisecond {
			slow = append(slow, m[1])
		}
	}
	r.slow = "^(" + strings.Join(slow, "|") + ")$"
	begin := time.Now()
	if out, err := r.command(5*time.Minute, 0, r.bin, "-test.skip", r.slow); err != nil {
		return nil, fmt.Errorf("without a mutant: %w: %q", err, failure.FindAllString(out, -1))
	}
	r.timeout = 10*time.Second + 4*time.Since(begin)
	fmt.Fprintf(w, "slow tests: %s\ntimeout of the others: %v\n", r.slow, r.timeout)
	return r, nil
}

// schemata returns the files with a switch at the beginning of each function,
// in which there is its body again for each of its mutants.
func (r *runner) schemata(all []*mutant) map[string]string {
	files := map[string]string{}
	for i := len(all) - 1; i >= 0; i-- { // from the end, so that offsets stay right
		m := all[i]
		if m.fn == nil {
			continue
		}
		first := i
		for first > 0 && all[first-1].fn == m.fn {
			first--
		}
		var b strings.Builder
		for _, m := range all[first : i+1] {
			fmt.Fprintf(&b, "case %d:\n%s\n", r.number[m], m.with(m.file.body(m.fn)))
			if m.fn.Type.Results == nil {
				b.WriteString("return\n")
			}
		}
		i = first
		path := m.file.path
		if files[path] == "" {
			files[path] = string(m.file.src)
		}
		from, _ := m.file.body(m.fn)
		files[path] = files[path][:from] + "\nswitch theMutant {\n" + b.String() + "}\n" + files[path][from:]
		files[filepath.Join(filepath.Dir(path), "the_mutant.go")] = "package " + m.file.syntax.Name.Name + chooser
	}
	return files
}

// variable names the mutant to the binary with all of them.
const variable = "BUFSOCK_MUTANT"

const chooser = `
import (
	"os"
	"strconv"
)

var theMutant, _ = strconv.Atoi(os.Getenv("` + variable + `"))
`

// overlay writes files to be used instead of those in the package, and returns
// the flag for the go command.
func (r *runner) overlay(name string, files map[string]string) (string, error) {
	replace := map[string]string{}
	for path, text := range files {
		replace[path] = filepath.Join(r.tmp, name+"-"+filepath.Base(path))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.tmp, name+".json")
	return "-overlay=" + path, os.WriteFile(path, text, 0o600)
}

// command runs a command in the directory of the package. The binary is told
// the number of a mutant, and its memory is limited where a shell can do that.
func (r *runner) command(timeout time.Duration, number int, args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout+5*time.Second)
	defer cancel()
	if args[0] == r.bin {
		args = append(args, "-test.timeout", timeout.String())
		if runtime.GOOS != "windows" {
			args = append([]string{"sh", "-c", `ulimit -v 6000000; exec "$@"`, "sh"}, args...)
		}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = *dir
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(number))
	cmd.WaitDelay = time.Second
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		text = append(text, timedOut...)
	}
	return string(text), err
}

// timedOut is what a test binary says when its time is up.
const timedOut = "panic: test timed out"

var (
	failure    = regexp.MustCompile(`--- FAIL: \S+|fatal error: .*|panic: .*`)
	failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
)

// try runs the tests with a mutant, and returns what became of it and which
// test did that.
func (r *runner) try(m *mutant) (result, by string) {
	runs := [][]string{
		{r.bin, "-test.failfast", "-test.skip", r.slow},
		{r.bin, "-test.failfast", "-test.run", r.slow},
	}
	if likely := r.likely(m.fn); likely != "" {
		runs = append([][]string{{r.bin, "-test.failfast", "-test.run", likely}}, runs...)
	}
	if m.fn == nil {
		overlay, err := r.overlay(strconv.Itoa(r.number[m]), map[string]string{m.file.path: m.with(0, len(m.file.src))})
		if err != nil {
			return err.Error(), ""
		}
		runs = [][]string{{"go", "test", "-vet=off", "-failfast", "-timeout=1m", overlay, "."}}
	}
	for i, args := range runs {
		timeout := r.timeout
		if i == len(runs)-1 {
			timeout = 90 * time.Second
		}
		out, err := r.command(timeout, r.number[m], args...)
		if strings.Contains(out, timedOut) {
			return hung, ""
		}
		if err != nil {
			r.noteKiller(m.fn, out)
			return killed, failure.FindString(out)
		}
	}
	return survived, ""
}

// likely returns a pattern of the tests that killed other mutants of fn. They
// are run first, because all of them together take long.
func (r *runner) likely(fn *ast.FuncDecl) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.killers[fn]) == 0 {
		return ""
	}
	return "^(" + strings.Join(r.killers[fn], "|") + ")$"
}

func (r *runner) noteKiller(fn *ast.FuncDecl, out string) {
	failed := failedTest.FindStringSubmatch(out)
	if fn == nil || failed == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.killers[fn], failed[1]) {
		r.killers[fn] = append(r.killers[fn], failed[1])
	}
}

func (r *runner) runAll(w io.Writer, mutants []*mutant) {
	begin := time.Now()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
	)
	for range *parallel {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			for next < len(mutants) && (*budget == 0 || time.Since(begin) < *budget) {
				m := mutants[next]
				next++
				mu.Unlock()
				result, by := r.try(m)
				mu.Lock()
				m.result = result
				if *verbose || result == survived {
					fmt.Fprintf(w, "%s\t%s\t%s\n", result, m.key, by)
				}
			}
		})
	}
	wg.Wait()
}
