// Package bench compares bufsock with what else there is to receive and send
// messages in Go, and with the Python library that it is modelled on. All of it
// runs over TCP connections on loopback, on Unix systems.
//
// A [Workload] is something to do with messages. Its sides are the ways to do
// it: those of bufsock and those of its peers. Both the benchmarks of this
// package and the command report run what [Workloads] lists.
package bench

import (
	"net"
	"slices"
	"time"

	"github.com/bufsock/bufsock"
)

// Timeout is that of every call and every deadline: long enough never to end.
const Timeout = 10 * time.Second

// readSize is how many bytes all sides ask of the connection at a time, save
// where their name says something else. It is the default of bufsock.
const readSize = 32 << 10

// A Workload is something to do with messages.
type Workload struct {
	Name  string // one word, such as "lines"
	About string // what is done, as the end of a heading
	Unit  string // what the time of a measurement is per, such as "line"
	Sizes []int  // of a message, in bytes, unless Scale says something else
	Scale string // what Sizes are a scale of, for a workload of [Growth]
	Sides []Side
	Pairs []Pair

	OwnTime bool // sides leave out a part of what they do
	Starts  int  // how often the sides are started anew, because each start has luck of its own; zero: once
}

// A Side is one way to do a workload.
type Side struct {
	Name string

	// Less says what a peer leaves out that bufsock does. It is empty for the
	// sides of bufsock.
	Less string

	// Start opens what the side needs for one of the sizes. If seen is not nil
	// it is called with what the side receives: the payload of every message,
	// or the bytes of the stream.
	Start func(size int, seen func([]byte)) (*Session, error)

	elsewhere bool // it works in other processes or goroutines, too
}

// A Pair is two sides whose times are compared.
type Pair struct {
	Subject, Peer string

	// Goals are, for each size of the workload, the largest ratio of the
	// subject's time to that of the peer that the project accepts, or zero.
	Goals []float64
}

// Goal returns the goal of the pair at a size, and whether there is one.
func (w *Workload) Goal(p Pair, size int) (float64, bool) {
	i := slices.Index(w.Sizes, size)
	if i < 0 || p.Goals == nil || p.Goals[i] == 0 {
		return 0, false
	}
	return p.Goals[i], true
}

// Aimed returns the workload at one size, with nothing but the pairs that have
// a goal for it.
func (w Workload) Aimed(size int) Workload {
	var pairs []Pair
	var sides []Side
	named := map[string]bool{}
	for _, p := range w.Pairs {
		if goal, ok := w.Goal(p, size); ok {
			pairs = append(pairs, Pair{p.Subject, p.Peer, []float64{goal}})
			named[p.Subject], named[p.Peer] = true, true
		}
	}
	for _, side := range w.Sides {
		if named[side.Name] {
			sides = append(sides, side)
		}
	}
	w.Sizes, w.Pairs, w.Sides = []int{size}, pairs, sides
	return w
}

// A Session is a side at work.
type Session struct {
	do        func(n int) (time.Duration, error)
	close     func()
	batch     int                           // the work comes in so many units; zero: in any number
	processor func() (time.Duration, error) // its time on a processor so far; nil: that of this process
	server    *child                        // the process that does the work of the side; nil: this one
}

// Do does the work n times and returns how long that took.
func (s *Session) Do(n int) (time.Duration, error) { return s.do(n) }

// Close ends the session. What was sent has then been seen.
func (s *Session) Close() { s.close() }

// Workloads returns the workloads that compare times.
func Workloads() []Workload {
	return []Workload{
		Lines(), LinesOn(TLS), LinesOn(Wrapped), LinesCRLF(), Split(),
		RESP(), RESPArray(), Memcached(), Netstrings(), NetstringsWritten(),
		BulkReceived(), BulkSent(), Buffered(),
		PingPong(TCP), PingPong(Unix), PingPong(Wrapped), PingPong(TLS),
		Answers(TCP), Answers(TLS), NothingThere(), Proxy(),
	}
}

// Side returns the side with the name, or nil.
func (w *Workload) Side(name string) *Side {
	for i := range w.Sides {
		if w.Sides[i].Name == name {
			return &w.Sides[i]
		}
	}
	return nil
}

// A loop does the work n times on the connection that it was made for.
type loop func(n int, seen func([]byte)) error

// An opener makes the loop of a side for a connection, and for messages of
// size bytes.
type opener func(conn net.Conn, size int) loop

// timed is the loop as the work of a session.
func (l loop) timed(seen func([]byte)) func(n int) (time.Duration, error) {
	return func(n int) (time.Duration, error) {
		start := time.Now()
		err := l(n, seen)
		return time.Since(start), err
	}
}

// socket returns a socket for messages of size bytes, whose max size is that of
// bufsock unless they need more.
func socket(conn net.Conn, size int) *bufsock.BufferedSocket {
	limit := max(bufsock.DefaultMaxSize, size+len(crlf))
	return bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(Timeout), bufsock.WithMaxSize(limit))
}
