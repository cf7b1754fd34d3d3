package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// The roles of goroutines, as labels of their samples. Those that a goroutine
// starts have its role, too.
const roleLabel = "role"

var (
	working   = role("session")
	preparing = role("preparation")  // before what OwnTime is of
	answerer  = role("other end")    // whose time is part of the measurement
	separate  = role("another time") // the other end, with threads of its own
)

func role(name string) context.Context {
	return pprof.WithLabels(context.Background(), pprof.Labels(roleLabel, name))
}

// mark gives the goroutine a role.
func mark(role context.Context) { pprof.SetGoroutineLabels(role) }

func nameOf(role context.Context) string {
	name, _ := pprof.Label(role, roleLabel)
	return name
}

// ErrNoProfile is the error of a side that does its work in other processes or
// goroutines.
var ErrNoProfile = errors.New("works in a process or in goroutines of its own")

// A Profile says where the time of a side goes. It counts samples, which were
// taken at even intervals of the time on a processor.
type Profile struct {
	Samples   int
	Parts     map[Part]int
	Functions map[string]int // of bufsock, by the samples of their own code
}

func newProfile() *Profile { return &Profile{Parts: map[Part]int{}, Functions: map[string]int{}} }

// Profile has the side work for about so long, in turns as planned, and takes a
// profile of what its measured time holds.
func (w *Workload) Profile(side *Side, size int, plan Plan, length time.Duration) (*Profile, error) {
	if side.elsewhere {
		return nil, ErrNoProfile
	}
	session, err := side.Start(size, nil)
	if err != nil {
		return nil, sideError(w, side, err)
	}
	defer session.Close()
	t := &turn{side: *side, session: session}
	if err := t.calibrate(w, plan); err != nil {
		return nil, sideError(w, side, err)
	}
	work := func() error {
		mark(working)
		defer mark(context.Background())
		for start := time.Now(); time.Since(start) < length; {
			if _, err := session.Do(t.n); err != nil {
				return err
			}
		}
		return nil
	}
	p := newProfile()
	if session.server != nil {
		err = p.takeOfServer(session, work)
	} else {
		err = p.take(w, session, work)
	}
	if err != nil {
		return nil, sideError(w, side, err)
	}
	return p, nil
}

// take adds what this process does during work, of what the workload measures.
func (p *Profile) take(w *Workload, s *Session, work func() error) error {
	var raw bytes.Buffer
	mark(context.Background()) // what a drainer has left; package pprof starts a goroutine
	if err := startProfile(&raw); err != nil {
		return err
	}
	err := work()
	pprof.StopCPUProfile()
	if err != nil {
		return err
	}
	return eachSample(raw.Bytes(), func(role string, stack []string, n int) {
		part, function := attribute(stack)
		switch role {
		case nameOf(working):
		case nameOf(answerer):
			part = OtherEnd
			if w.OwnTime {
				return
			}
		case nameOf(separate):
			part = OtherEnd
			if w.OwnTime || s.processor != nil {
				return
			}
		default:
			if w.OwnTime || !isBackground(stack) {
				return
			}
		}
		p.add(part, function, n)
	})
}

// isBackground reports whether a stack without a role is of what the runtime
// does for goroutines that have one: collecting garbage, finding the next to
// run. The threads of the other end sleep in stoplockedm.
func isBackground(stack []string) bool {
	return !slices.ContainsFunc(stack, func(function string) bool {
		return !isRuntime(function) || function == "runtime.stoplockedm"
	})
}

// takeOfServer adds all that the server's process does during work, and what
// the clients' does as that of the other end.
func (p *Profile) takeOfServer(s *Session, work func() error) error {
	serverBefore, err1 := s.server.processor()
	allBefore, err2 := s.processor()
	_, err3 := s.server.ask("profile")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if err := work(); err != nil {
		return err
	}
	answer, err := s.server.ask("profiled")
	if err != nil {
		return err
	}
	server, err1 := s.server.processor()
	all, err2 := s.processor()
	raw, err3 := hex.DecodeString(answer)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	server, all = server-serverBefore, all-allBefore
	if err := eachSample(raw, func(_ string, stack []string, n int) {
		part, function := attribute(stack)
		p.add(part, function, n)
	}); err != nil {
		return err
	}
	p.add(OtherEnd, "", int(float64(p.Samples)*float64(all-server)/float64(server)))
	return nil
}

func (p *Profile) add(part Part, function string, samples int) {
	p.Samples += samples
	p.Parts[part] += samples
	if part == OwnCode {
		p.Functions[strings.TrimPrefix(function, "github.com/bufsock/")] += samples
	}
}

// Top returns the functions of bufsock that have the most own time, up to n.
func (p *Profile) Top(n int) []string {
	names := slices.SortedFunc(maps.Keys(p.Functions), func(a, b string) int {
		return cmp.Or(p.Functions[b]-p.Functions[a], strings.Compare(a, b))
	})
	return names[:min(n, len(names))]
}

// profileRate is how many samples are asked for in a second on a processor. Most
// kernels have 250 or 1000.
const profileRate = 1000

// startProfile starts a CPU profile. Package pprof knows one rate only, and then
// finds that there is one already, of which the runtime informs standard error.
func startProfile(out io.Writer) (err error) {
	quietly(func() {
		runtime.SetCPUProfileRate(profileRate)
		err = pprof.StartCPUProfile(out)
	})
	return err
}

// eachSample calls f with the samples of a profile: the role of the goroutine,
// its functions from the innermost on, those that were inlined, too, and how
// often this was found.
func eachSample(raw []byte, f func(role string, stack []string, n int)) error {
	p, err := profile.ParseData(raw)
	if err != nil {
		return err
	}
	for _, s := range p.Sample {
		var role string
		if names := s.Label[roleLabel]; names != nil {
			role = names[0]
		}
		f(role, stackOf(s), int(s.Value[0]))
	}
	return nil
}

// eachHeapSample is eachSample for a profile of the heap, with the bytes in use.
func eachHeapSample(raw []byte, f func(stack []string, inUse int)) error {
	p, err := profile.ParseData(raw)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == "inuse_space" })
	for _, s := range p.Sample {
		f(stackOf(s), int(s.Value[at]))
	}
	return nil
}

func stackOf(s *profile.Sample) (stack []string) {
	for _, location := range s.Location {
		for _, line := range location.Line {
			stack = append(stack, line.Function.Name)
		}
	}
	return stack
}
