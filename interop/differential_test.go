//go:build unix

package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestLikeBoltons makes the same random calls on a socket of bufsock and on
// one of boltons.socketutils, while the same bytes arrive at the same times and
// the peer takes bytes at the same times. It compares what comes of every call:
// the result or the kind of error, how long the call took, the bytes taken from
// the connection and sent, and both buffers. Every difference must be one that
// the rules below explain, and each of them must be needed.
//
// After a difference boltons goes on from where bufsock is, so that each script
// runs to its end. BUFSOCK_SEED=n runs the one script n, BUFSOCK_ROUNDS=x runs x
// times as many, be it 20 or 0.25.
func TestLikeBoltons(t *testing.T) {
	const enough = 20_000 // to need every rule many times
	first, scripts := rand.Uint64()/2, uint64(enough)
	if hasRaceDetector() {
		scripts /= 10 // there is one goroutine, and little to detect
	}
	if v := os.Getenv("BUFSOCK_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		first, scripts = seed, 1
	}
	if v := os.Getenv("BUFSOCK_ROUNDS"); v != "" {
		factor, err := strconv.ParseFloat(v, 64)
		require.NoError(t, err)
		scripts = max(1, uint64(float64(scripts)*factor))
	}
	python := pythonWithBoltons(t)
	y := &tally{rules: map[string]int{}}
	workers := min(scripts, uint64(max(2, runtime.NumCPU())))
	t.Run("scripts", func(t *testing.T) {
		for i := range workers {
			t.Run(strconv.FormatUint(i, 10), func(t *testing.T) {
				t.Parallel()
				y.work(t, startBoltons(t, python), first+scripts*i/workers, first+scripts*(i+1)/workers)
			})
		}
	})
	t.Logf("%d scripts, seeds from %d: of %d calls %.1f %% came to the same on both, in %d scripts all of them",
		y.scripts, first, y.calls, 100*float64(y.same)/float64(y.calls), y.alike)
	for _, r := range rules {
		t.Logf("%7d times: %s", y.rules[r.name], r.name)
		if scripts >= enough && !t.Failed() {
			assert.NotZero(t, y.rules[r.name], "no difference needs the rule: %s", r.name)
		}
	}
}

// A tally counts what the comparison finds.
type tally struct {
	mu                          sync.Mutex
	scripts, alike, calls, same int
	rules                       map[string]int
}

// work runs the scripts with the seeds from first to end.
func (y *tally) work(t *testing.T, child *boltonsChild, first, end uint64) {
	const batch = 200
	for first < end {
		var scripts []*script
		for ; first < end && len(scripts) < batch; first++ {
			scripts = append(scripts, newScript(first))
		}
		runScripts(t, scripts)
		for i, there := range child.run(t, scripts) {
			if err := y.compare(scripts[i], there); err != nil {
				t.Fatalf("%v\nto repeat: BUFSOCK_SEED=%d go test -run '^TestLikeBoltons$' ./interop", err, scripts[i].seed)
			}
		}
	}
}

// runScripts runs scripts on bufsock.
func runScripts(t *testing.T, scripts []*script) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		for _, sc := range scripts {
			if !sc.Joined {
				conn := &scriptConn{sc: sc, start: time.Now()}
				sc.run(conn, conn)
			}
		}
	})
	for _, sc := range scripts {
		if sc.Joined {
			pair := newSocketPair(t, sc)
			sc.run(pair.local, pair)
			pair.close()
		}
	}
}

// A boltonsChild is a Python program that runs scripts on boltons.
type boltonsChild struct {
	in  *bufio.Writer
	out *bufio.Reader
}

func startBoltons(t *testing.T, python string) *boltonsChild {
	t.Helper()
	cmd := exec.Command(python, "boltons.py", "scripts")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // the end of its input is that of the program
		_, _ = io.Copy(io.Discard, out)
		assert.NoError(t, cmd.Wait(), "boltons.py")
	})
	return &boltonsChild{bufio.NewWriterSize(in, 1<<16), bufio.NewReaderSize(out, 1<<16)}
}

// run returns what comes of each call of each script.
func (c *boltonsChild) run(t *testing.T, scripts []*script) [][]effect {
	t.Helper()
	written := make(chan error, 1)
	go func() {
		enc := json.NewEncoder(c.in)
		var err error
		for _, sc := range scripts {
			err = errors.Join(err, enc.Encode(sc))
		}
		written <- errors.Join(err, c.in.Flush())
	}()
	all := make([][]effect, len(scripts))
	for i, sc := range scripts {
		line, err := c.out.ReadBytes('\n')
		require.NoError(t, err, "boltons.py ended; seed %d", sc.seed)
		require.NoError(t, json.Unmarshal(line, &all[i]), "seed %d", sc.seed)
		require.Len(t, all[i], len(sc.Steps), "seed %d", sc.seed)
	}
	require.NoError(t, <-written)
	return all
}

// boltonsKinds are the names that errors of boltons have in bufsock.
var boltonsKinds = map[string]string{
	"Timeout":                 "TimeoutError",
	"ConnectionClosed":        "ConnectionClosedError",
	"MessageTooLong":          "MessageTooLongError",
	"NetstringInvalidSize":    "NetstringInvalidSizeError",
	"NetstringMessageTooLong": "NetstringMessageTooLongError",
	"ConnectionResetError":    "ECONNRESET",
	"BrokenPipeError":         "EPIPE",
	"EBADF":                   "net.ErrClosed",
	"Stuck":                   "stuck",
}

// compare compares what came of each call of a script on bufsock and, there, on
// boltons. It returns an error if the rules do not explain a difference.
func (y *tally) compare(sc *script, there []effect) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	var stream []byte
	for _, seg := range sc.Segments {
		stream = append(stream, seg.Data...)
	}
	before := &effect{}
	same, broken := 0, false
	for i, st := range sc.Steps {
		d := &difference{st, before, st.Effect, there[i], broken}
		broken = broken || st.Effect.Kind == "ErrBroken"
		if kind, ok := boltonsKinds[d.there.Kind]; ok {
			d.there.Kind = kind
		}
		if d.here.equal(&d.there) {
			same++
		}
		for _, r := range rules {
			if !d.here.equal(&d.there) && r.explains(d) {
				y.rules[r.name]++
			}
		}
		if !d.here.equal(&d.there) {
			return fmt.Errorf("no rule explains the difference\n%sboltons:     %v", sc.describe(i+1), &there[i])
		}
		if !st.conserves(before, stream) {
			return fmt.Errorf("bytes were lost, repeated or invented\n%s", sc.describe(i+1))
		}
		before = &st.Effect
	}
	y.scripts++
	y.calls += len(sc.Steps)
	y.same += same
	if same == len(sc.Steps) {
		y.alike++
	}
	return nil
}

// A difference is a call of which not the same has come.
type difference struct {
	*step
	before *effect // of the call before
	here   effect  // on bufsock; a rule makes it equal in what it explains
	there  effect  // on boltons
	broken bool    // a call before has found that nothing can be sent
}

// A rule explains a kind of difference. Its name is what bufsock promises.
type rule struct {
	name     string
	explains func(*difference) bool
}

var rules = []rule{
	{"would-block is a *TimeoutError", func(d *difference) bool {
		return d.kinds("would block", "BlockingIOError") && d.adoptKind()
	}},
	{"the end between messages and inside one can be told apart", func(d *difference) bool {
		kind := "ConnectionClosedError: unexpected EOF"
		if len(d.here.Received) == 0 {
			kind = "ConnectionClosedError: EOF"
		}
		return d.kinds(kind, "ConnectionClosedError") && d.adoptKind()
	}},
	{"at the end of the stream the error of Recv is io.EOF itself", func(d *difference) bool {
		return d.Op == "recv" && d.kinds("io.EOF", "ok") && len(d.there.Value) == 0 && d.adoptKind()
	}},
	{"max-size bytes without a delimiter fail at once", func(d *difference) bool {
		return d.Op == "recv_until" && d.here.Kind == "MessageTooLongError" && d.there.failed() &&
			!canEnd(d.here.Received, d.Text, d.maxSize()) && d.isAhead() && d.adopt()
	}},
	{"RecvSize(0) does not wait", func(d *difference) bool {
		return d.Op == "recv_size" && d.Size == 0 && d.here.Kind == "ok" && d.didNothing() && d.isAhead() && d.adopt()
	}},
	{"an empty delimiter is an error", func(d *difference) bool {
		return d.Op == "recv_until" && len(d.Text) == 0 && d.here.Kind == "ErrInvalidArgument" && d.didNothing() && d.adopt()
	}},
	{"a negative size is an error", func(d *difference) bool {
		return d.Size < 0 && d.here.Kind == "ErrInvalidArgument" && d.didNothing() && d.adopt()
	}},
	{"bytes that were all sent are never reported as a timeout", func(d *difference) bool {
		return d.kinds("ok", "TimeoutError") && len(d.there.Sent) > 0 && len(d.there.Unsent) == 0 && d.inTime() &&
			d.adoptKind() && d.adoptValue()
	}},
	{"the timeout of a call covers flush, and the write of a netstring", func(d *difference) bool {
		return (d.Op == "flush" || d.Op == "write_ns") && d.inTime() &&
			d.Timeout != absent && (d.here.outOfTime() || d.there.outOfTime()) && d.adopt()
	}},
	{"the timeout of a call covers payload and comma", func(d *difference) bool {
		return d.Op == "read_ns" && d.prefixIsGone() && d.inTime() &&
			(d.here.outOfTime() && d.there.Clock > d.here.Clock || // there it began anew
				d.Timeout != absent && d.Timeout != d.sockTimeout && d.there.outOfTime()) && d.adopt()
	}},
	{"a frame survives a timeout", func(d *difference) bool {
		return d.Op == "read_ns" && d.here.outOfTime() && d.here.Kind == d.there.Kind && d.prefixIsGone() && d.adoptReceived()
	}},
	{"a frame that fails is not consumed", func(d *difference) bool {
		return d.Op == "read_ns" && d.here.Kind == d.there.Kind && d.prefixIsGone() && d.isAhead() && d.adopt()
	}},
	{"the end of the stream is not taken for a wrong comma", func(d *difference) bool {
		return d.Op == "read_ns" && d.kinds("ConnectionClosedError: unexpected EOF", "NetstringProtocolError") &&
			d.prefixIsGone() && d.here.Clock == d.there.Clock && d.here.Taken == d.there.Taken && d.adopt()
	}},
	{"sizes are ASCII digits, strictly", func(d *difference) bool {
		return d.Op == "read_ns" && d.here.Kind == "NetstringInvalidSizeError" && isMalformed(d.here.Received) &&
			d.prefixIsGone() && d.adopt()
	}},
	{"what is no netstring, or too long, fails at the first byte that shows it", func(d *difference) bool {
		wrong := d.here.Kind == "NetstringInvalidSizeError" && isMalformed(d.here.Received) ||
			d.here.Kind == "NetstringMessageTooLongError" && isOversized(d.here.Received, d.maxSize())
		return d.Op == "read_ns" && wrong && d.there.failed() && d.isAhead() && d.adopt()
	}},
	{"behind an error that ended the sending side nothing is sent or added", func(d *difference) bool {
		if d.here.Kind == "ErrBroken" {
			return d.didNothing() && len(d.here.Sent) == 0 && d.adopt()
		}
		return d.broken && !d.closed && bytes.HasPrefix(d.there.Unsent, d.here.Unsent) && d.adoptUnsent()
	}},
	{"after Close every call fails with net.ErrClosed", func(d *difference) bool {
		return d.closed && (d.here.Kind == "net.ErrClosed" || d.here.Kind == "ErrInvalidArgument") &&
			d.here.consumed() == d.here.Taken && len(d.here.Unsent) == 0 && d.adopt()
	}},
}

func (d *difference) adopt() bool         { d.here = d.there; return true }
func (d *difference) adoptKind() bool     { d.here.Kind = d.there.Kind; return true }
func (d *difference) adoptValue() bool    { d.here.Value = d.there.Value; return true }
func (d *difference) adoptUnsent() bool   { d.here.Unsent = d.there.Unsent; return true }
func (d *difference) adoptReceived() bool { d.here.Received = d.there.Received; return true }

func (d *difference) kinds(here, there string) bool {
	return d.here.Kind == here && d.there.Kind == there
}

// isAhead reports whether bufsock has consumed nothing, and has not waited or
// read longer than boltons.
func (d *difference) isAhead() bool {
	return d.here.consumed() == d.before.consumed() && d.here.Clock <= d.there.Clock && d.here.Taken <= d.there.Taken
}

// didNothing reports whether the call has left bufsock as it was, at once.
func (d *difference) didNothing() bool {
	return d.here.Clock == d.At && d.here.sameState(d.before)
}

// inTime reports whether the call has kept its timeout.
func (d *difference) inTime() bool {
	return d.timeout() < 0 || d.here.Clock-d.At <= d.timeout()
}

// prefixIsGone reports whether boltons has consumed the size of a netstring.
func (d *difference) prefixIsGone() bool { return d.there.consumed() > d.before.consumed() }

func (e *effect) failed() bool { return e.Kind != "ok" }

// outOfTime reports whether more time would have helped the call.
func (e *effect) outOfTime() bool {
	return slices.Contains([]string{"TimeoutError", "would block", "BlockingIOError", "stuck"}, e.Kind)
}

// canEnd reports whether delim stands in the first limit bytes of data, or may
// yet come to stand there, by trying every place.
func canEnd(data, delim []byte, limit int) bool {
	for at := 0; at+len(delim) <= limit; at++ {
		if at >= len(data) {
			return true
		}
		here := data[at:min(at+len(delim), len(data))]
		if bytes.HasPrefix(delim, here) {
			return true
		}
	}
	return false
}

var (
	wholeSize = regexp.MustCompile(`^(0|[1-9][0-9]*):`)
	sizeSoFar = regexp.MustCompile(`^(0|[1-9][0-9]*)?$`)
	digits    = regexp.MustCompile(`^[0-9]*`)
)

// isMalformed reports whether data cannot be the beginning of a netstring.
func isMalformed(data []byte) bool { return !wholeSize.Match(data) && !sizeSoFar.Match(data) }

// isOversized reports whether data announces a payload of more than limit bytes.
func isOversized(data []byte, limit int) bool {
	size, err := strconv.ParseUint(string(digits.Find(data)), 10, 64)
	return err != nil || size > uint64(limit)
}
