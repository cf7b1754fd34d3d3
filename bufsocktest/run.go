package bufsocktest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
)

// Run plays stream to f once for each way in which a network can cut it, each in
// a subtest that names it:
//
//	whole
//	byte by byte
//	cut at 1, cut at 2, …  // in two pieces, at every place
//	random places 1, …     // the same at every run
//
// and each of them once more, with "end with data" behind its name: the last
// bytes and the end of the stream come together, as a Read may return them. All
// bytes are there at once, and time stands still, but each Read returns those of
// one piece.
//
// f is called with a [Player] as conn, which it need not close. Under whichever
// cut it fails, the subtest prints the one line that repeats it. After ten cuts
// under which f has failed Run ends. Call it once in a test or a subtest, so that
// the names are those above.
//
// Each subtest is a bubble of testing/synctest, with a clock of its own, so that
// Run cannot be called in one; f must not use other connections, call t.Run or
// t.Parallel, or leave goroutines that go on when conn is closed. A stream of n
// bytes makes about 2n calls: some hundred bytes, a message or three, are enough
// to find what depends on cuts.
func Run(t *testing.T, stream []byte, f func(t *testing.T, conn net.Conn)) {
	t.Helper()
	playAll(t, cuts(stream), f)
}

// An Interruption is what happens to the connection in the middle of a stream.
type Interruption int

const (
	// Pause: no more bytes come until a Read has failed because its deadline had
	// passed; then the rest is there. A reader without a deadline waits for a
	// day, of the time in the bubble, and goes on.
	Pause Interruption = iota
	// Reset: a Read returns an error that matches [ErrReset], once, as TCP does.
	// Behind it a Read returns io.EOF, which is not the end of the stream, and
	// a Write fails with a broken pipe.
	Reset
	// End: a Read returns io.EOF. The peer has ended the stream there.
	End
)

var interruptions = [...]string{"pause", "reset", "end"}

// String returns the name of the interruption, such as "pause".
func (i Interruption) String() string {
	if i < 0 || int(i) >= len(interruptions) {
		return fmt.Sprintf("Interruption(%d)", int(i))
	}
	return interruptions[i]
}

// Interrupt is [Run] with something between two pieces: at every place once, from
// before the first byte to behind the last one. Its subtests are called
// "pause at 0", "pause at 1" and so on. It panics if there is no such
// Interruption.
//
// What f should find depends on the place, which [Player.Place] tells: after an
// End behind the last byte all is well, and so it is between two messages where
// the protocol may end. A Pause behind the last byte comes before the end of the
// stream.
func Interrupt(t *testing.T, stream []byte, what Interruption, f func(t *testing.T, conn net.Conn)) {
	t.Helper()
	playAll(t, interrupted(stream, what), f)
}

// A scene is one way in which a stream comes.
type scene struct {
	name   string
	place  int
	pieces [][]byte
	what   Interruption // behind place bytes, or none
	joined bool         // the last bytes and the end come together
}

// none is no Interruption.
const none Interruption = -1

const (
	randoms = 20 // scenes with random places
	enough  = 10 // failures
)

// cuts returns the scenes of Run.
func cuts(stream []byte) []scene {
	n := len(stream)
	all := []scene{{name: "whole", pieces: [][]byte{stream}}}
	if n > 1 {
		all = append(all, scene{name: "byte by byte", pieces: split(stream, func(int) bool { return true })})
	}
	for place := 1; place < n; place++ {
		all = append(all, scene{name: fmt.Sprintf("cut at %d", place), pieces: [][]byte{stream[:place], stream[place:]}})
	}
	for i := range randoms {
		if n < 3 {
			break // there is no place left
		}
		r := rand.New(rand.NewPCG(uint64(i), uint64(n)))
		rare := 2 << (2 * (i % 4)) // a cut every 2, 8, 32 or 128 bytes
		all = append(all, scene{
			name:   fmt.Sprintf("random places %d", i+1),
			pieces: split(stream, func(int) bool { return r.IntN(rare) == 0 }),
		})
	}
	twice := make([]scene, 0, 2*len(all))
	for _, s := range all {
		s.place, s.what = n, none
		twice = append(twice, s)
		if s.joined = true; n > 0 {
			s.name += ", end with data"
			twice = append(twice, s)
		}
	}
	return twice
}

// split cuts the stream at the places that cut says.
func split(stream []byte, cut func(place int) bool) (pieces [][]byte) {
	last := 0
	for place := 1; place < len(stream); place++ {
		if cut(place) {
			pieces = append(pieces, stream[last:place])
			last = place
		}
	}
	return append(pieces, stream[last:])
}

// interrupted returns the scenes of Interrupt.
func interrupted(stream []byte, what Interruption) []scene {
	if what < 0 || int(what) >= len(interruptions) {
		panic(fmt.Sprintf("bufsocktest: expected Pause, Reset or End, got %v", what))
	}
	all := make([]scene, 0, len(stream)+1)
	for place := range len(stream) + 1 {
		all = append(all, scene{
			name:   fmt.Sprintf("%v at %d", what, place),
			place:  place,
			pieces: [][]byte{stream[:place], stream[place:]},
			what:   what,
		})
	}
	return all
}

// steps returns what a Read meets, one after the other.
func (s *scene) steps() (steps []step) {
	for i, piece := range s.pieces {
		if i == 1 {
			switch s.what {
			case Pause:
				steps = append(steps, step{pause: true})
			case Reset:
				return append(steps, step{err: ErrReset}, step{err: io.EOF})
			case End:
				return append(steps, step{err: io.EOF})
			}
		}
		if len(piece) > 0 {
			steps = append(steps, step{data: piece})
		}
	}
	if s.joined {
		steps[len(steps)-1].err = io.EOF
	}
	return append(steps, step{err: io.EOF})
}

// playAll plays the scenes until f has failed in too many.
func playAll(t *testing.T, scenes []scene, f func(t *testing.T, conn net.Conn)) {
	t.Helper()
	failures := 0
	for i, s := range scenes {
		if !t.Run(s.name, func(t *testing.T) { s.play(t, f) }) {
			failures++
		}
		if left := len(scenes) - i - 1; failures == enough && left > 0 {
			t.Logf("%d failures are enough: %d more ways to cut the stream were not tried", failures, left)
			return
		}
	}
}

// play calls f with a connection, in a bubble.
func (s *scene) play(t *testing.T, f func(t *testing.T, conn net.Conn)) {
	defer func() {
		if p := recover(); p != nil { // all of the bubble is blocked
			fmt.Fprintln(os.Stderr, s.report(t))
			panic(p)
		}
		if t.Failed() {
			t.Log(s.report(t))
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		conn := newPlayer(s.place, s.steps())
		defer func() {
			_ = conn.Close() // f may have done so
			if p := recover(); p != nil {
				fmt.Fprintln(os.Stderr, s.report(t)) // nobody would print a log
				panic(p)
			}
		}()
		f(t, conn)
	})
}

// report tells how to repeat a failure.
func (s *scene) report(t *testing.T) string {
	text := "to repeat: " + command(t.Name())
	if strings.HasPrefix(s.name, "random") {
		sizes := make([]int, len(s.pieces))
		for i, piece := range s.pieces {
			sizes[i] = len(piece)
		}
		text = fmt.Sprintf("the sizes of the pieces: %v\n%s", sizes, text)
	}
	return text
}

// command returns the line that runs one test and nothing else.
func command(test string) string {
	names := strings.Split(test, "/")
	for i, name := range names {
		names[i] = "^" + regexp.QuoteMeta(name) + "$"
	}
	line := "go test -run '" + strings.ReplaceAll(strings.Join(names, "/"), "'", `'\''`) + "'"
	if info, ok := debug.ReadBuildInfo(); ok {
		line += packagePath(info)
	}
	return line
}

// packagePath returns a space and the path of the package that a program tests,
// or nothing if it has none, as a list of files.
func packagePath(info *debug.BuildInfo) string {
	if info.Main.Path == "" {
		return ""
	}
	return " " + strings.TrimSuffix(info.Path, ".test")
}
