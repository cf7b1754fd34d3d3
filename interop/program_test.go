package interop_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long a program may take for anything that is not instant. It
// is meant to be out of reach of a busy machine, not to measure.
const patience = 20 * time.Second

// program returns the path of an installed program. If it is missing, it skips
// the test, or fails it where BUFSOCK_INTEROP=require is set.
func program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	// Not on everybody's PATH, but where Debian keeps daemons.
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/lib/postfix/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	missing := fmt.Sprintf("%s is not installed; it is in the Debian package %s", name, debianPackage)
	if os.Getenv("BUFSOCK_INTEROP") == "require" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// ports holds those that freePort has returned.
var ports sync.Map

// freePort returns a port of 127.0.0.1 that nobody listens on, for a program
// that cannot choose one itself. It is below those that the kernel gives to
// clients, so that none of them takes it in the meantime.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	t.Fatal("no free port from 10000 to 32000 on 127.0.0.1")
	return 0
}

// freeAddr returns 127.0.0.1 with a port of freePort.
func freeAddr(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + strconv.Itoa(freePort(t))
}

// writeFile writes a file that everybody can read and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

// output collects what a program prints.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed, and replaced, by each Write
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	s, _ := o.snapshot()
	return s
}

// snapshot returns what has been printed, and a channel that is closed when
// there is more.
func (o *output) snapshot() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.buf.String(), o.changed
}

// A process is a program that runs until the test ends.
type process struct {
	name   string
	cmd    *exec.Cmd
	output output        // both its standard output and standard error
	exited chan struct{} // closed when the program has ended
	err    error         // how it ended; valid once exited is closed
	addr   string        // of an example: the address it listens on
}

// start starts a program, which the end of the test terminates. If the test
// fails, the program's output is shown.
func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{name: filepath.Base(path), cmd: exec.Command(path, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.WaitDelay = patience // should its children outlive it
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.terminate(t)
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.name, p.output.String())
		}
	})
	return p
}

func (p *process) terminate(t *testing.T) {
	if p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-p.exited:
			return
		case <-time.After(patience):
			t.Errorf("%s does not end on SIGTERM", p.name)
		}
	}
	_ = p.cmd.Process.Kill() // fails if it has ended, which is as well
	<-p.exited
}

// interrupt sends SIGINT, as Ctrl-C does.
func (p *process) interrupt(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt), p.name)
}

// wait waits until the program has ended and returns the error of exec.Cmd.Wait.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("%s is still running", p.name)
	}
	return p.err
}

// waitOutput waits until the program has printed a match of the regular
// expression, and returns that and its groups.
func (p *process) waitOutput(t *testing.T, expr string) []string {
	t.Helper()
	re, late := regexp.MustCompile(expr), time.After(patience)
	for ended := false; ; {
		text, changed := p.output.snapshot()
		if match := re.FindStringSubmatch(text); match != nil {
			return match
		}
		if ended {
			t.Fatalf("%s ended (%v) without printing %s", p.name, p.err, expr)
		}
		select {
		case <-changed:
		case <-p.exited: // and all it printed has been written
			ended = true
		case <-late:
			t.Fatalf("%s has not printed %s", p.name, expr)
		}
	}
}

// waitListen waits until the program accepts connections at addr. Beware: the
// program sees a connection on which nothing is sent.
func (p *process) waitListen(t *testing.T, network, addr string) {
	t.Helper()
	late := time.After(patience)
	for {
		conn, err := net.Dial(network, addr)
		if err == nil {
			require.NoError(t, conn.Close())
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-p.exited:
			t.Fatalf("%s ended: %v", p.name, p.err)
		case <-late:
			t.Fatalf("%s does not listen: %v", p.name, err)
		}
	}
}

// examplesDir is where the examples are built; TestMain sets and removes it.
var examplesDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bufsock-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	examplesDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// buildExamples builds all examples, once, with the race detector if the tests
// have it, too.
var buildExamples = sync.OnceValue(func() error {
	args := []string{"build", "-o", examplesDir + string(filepath.Separator)}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	out, err := exec.Command("go", append(args, "../examples/...")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build ../examples/...: %w\n%s", err, out)
	}
	return nil
})

// startExample builds and starts a program of the examples folder and waits
// until it says where it listens. Give it the flags that make it listen on
// 127.0.0.1:0 or on a socket in a directory of the test.
func startExample(t *testing.T, name string, args ...string) *process {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("ends programs by signals")
	}
	require.NoError(t, buildExamples())
	p := start(t, filepath.Join(examplesDir, name), args...)
	t.Cleanup(func() {
		p.terminate(t)
		assert.NoError(t, p.err, "%s did not end well: it panicked, or has a data race", name)
	})
	p.addr = p.waitOutput(t, `listening.*? addr=(\S+)\n`)[1]
	return p
}

// A result is how a program that ran to its end did.
type result struct {
	stdout, stderr string
	code           int // the exit status
}

// runProgram runs a program with stdin as its input until its end, whatever its
// exit status. It fails the test if the program does not end.
func runProgram(t *testing.T, stdin, path string, args ...string) result {
	t.Helper()
	r, err := runWith(strings.NewReader(stdin), path, args...)
	require.NoError(t, err)
	return r
}

// runWith is runProgram for any input and any goroutine.
func runWith(stdin io.Reader, path string, args ...string) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	if _, isExit := errors.AsType[*exec.ExitError](err); isExit && ctx.Err() == nil {
		err = nil
	}
	if err != nil {
		return result{}, fmt.Errorf("%s %q: %w\n%s", path, args, err, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, nil
}

// An outcome is what a function returned.
type outcome[T any] struct {
	value T
	err   error
}

// goDo calls f in a goroutine. f must not use the test to fail.
func goDo[T any](f func() (T, error)) <-chan outcome[T] {
	c := make(chan outcome[T], 1)
	go func() {
		v, err := f()
		c <- outcome[T]{v, err}
	}()
	return c
}

// await returns what a function called by goDo has returned without an error.
func await[T any](t *testing.T, c <-chan outcome[T]) T {
	t.Helper()
	select {
	case o := <-c:
		require.NoError(t, o.err)
		return o.value
	case <-time.After(patience):
		t.Fatal("still waiting")
	}
	panic("unreachable")
}
