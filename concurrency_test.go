package bufsock_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// The tests in this file have many goroutines call everything at once on one
// connection, for the race detector and for what it cannot see: messages that
// are lost, doubled, torn or out of order, calls that do not end in time, and
// deadlocks.

const (
	// overtime is how much later than its time a call may end on a machine that
	// is busy with other things.
	overtime = 10 * time.Second
	// deadlocked is when a test is given up.
	deadlocked = 2 * time.Minute
	// patienceOfACrowd is the timeout of calls that are given none.
	patienceOfACrowd = 2 * time.Second
	// pace is for how long a goroutine lets the others go on when it has failed.
	pace = 100 * time.Microsecond
)

// watchdog ends the program, with all its stacks, unless it is stopped in time.
func watchdog(t *testing.T) (stop func() bool) {
	name := t.Name()
	return time.AfterFunc(deadlocked, func() {
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		panic(name + " did not end within " + deadlocked.String())
	}).Stop
}

// A crowd is a number of goroutines that send messages to each other over the
// two ends of a connection.
type crowd struct {
	t         *testing.T
	size      int // of every message
	senders   int // at each end
	receivers int // at each end
	each      int // messages of each sender, or more until there were minUpgrades

	impatient bool // sends have short timeouts, too
	passing   bool // an error may end a Write, which then keeps nothing
	deadlines bool // are set and lifted all the time
	upgrades  bool // of one end, again and again

	ends     [2]*end
	working  sync.WaitGroup
	missing  atomic.Int64  // messages that have not been received, and senders at work
	received atomic.Int64  // messages
	enough   int64         // messages, if not all have to be received
	upgraded atomic.Int64  // how often
	done     chan struct{} // closed when enough was received, or the test has failed
	finish   func()        // closes done
	stopping atomic.Bool   // the ends are about to be closed
}

// An end is one end of the connection and what was received there.
type end struct {
	s     *bufsock.BufferedSocket
	given atomic.Int64 // messages to send
	mu    sync.Mutex
	seen  map[messageID]int
}

type messageID struct{ sender, number int }

const minUpgrades = 3

func newCrowd(t *testing.T, transport transport) *crowd {
	a, b := transport.pair(t)
	c := &crowd{
		t: t, size: 64, senders: 6, receivers: 3, each: 400,
		impatient: transport.name != "TLS", // where a write that timed out ends the session
		passing:   transport.name == "Faulty",
		done:      make(chan struct{}),
	}
	c.finish = sync.OnceFunc(func() { close(c.done) })
	for i, conn := range []net.Conn{a, b} {
		s := bufsock.NewBufferedSocket(conn, bufsock.WithReadSize(700), bufsock.WithTimeout(patienceOfACrowd))
		c.ends[i] = &end{s: s, seen: map[messageID]int{}}
	}
	return c
}

// fail notes an error and ends the test.
func (c *crowd) fail(format string, args ...any) {
	c.t.Errorf(format, args...)
	c.finish()
}

// start starts all goroutines.
func (c *crowd) start(seed uint64) {
	c.missing.Store(int64(2 * c.senders))
	random := func(n int) *rand.Rand {
		seed++
		return rand.New(rand.NewPCG(seed, uint64(n)))
	}
	for i, e := range c.ends {
		for id := range c.senders {
			r := random(id)
			c.working.Go(func() { c.sendAll(e, id, r) })
		}
		for range c.receivers {
			r := random(0)
			c.working.Go(func() { c.receiveAll(e, r) })
		}
		r := random(0)
		c.working.Go(func() { c.disturb(e, i, r) })
	}
}

// message returns the message of a sender: who, which, and as much of a digit as
// makes it up to size.
func (c *crowd) message(id messageID) []byte {
	msg := fmt.Appendf(make([]byte, 0, c.size), "%d %d ", id.sender, id.number)
	digit := '0' + byte((id.sender+id.number)%10)
	msg = append(msg, bytes.Repeat([]byte{digit}, c.size-1-len(msg))...)
	return append(msg, '\n')
}

// sendAll sends the messages of a sender, each by another call.
func (c *crowd) sendAll(e *end, id int, r *rand.Rand) {
	defer c.arrived()
	for number := 0; number < c.each || c.upgrades && c.upgraded.Load() < minUpgrades; number++ {
		if number >= c.each {
			time.Sleep(20 * time.Millisecond) // an upgrade wants the buffers to be empty
		}
		c.missing.Add(1)
		e.given.Add(1)
		err := c.send(e, c.message(messageID{id, number}), r)
		for kind(err) == "later" && !c.stopping.Load() {
			time.Sleep(pace)
			err = e.s.Flush()
		}
		if err != nil {
			c.ended("sender", err)
			return
		}
		if c.upgrades { // which need buffers that are empty at times
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		}
	}
}

func (c *crowd) send(e *end, msg []byte, r *rand.Rand) error {
	kinds := 5
	if c.deadlines || c.passing {
		kinds = 3 // not Write
	}
	n := r.IntN(kinds)
	cut := r.IntN(len(msg))
	return c.inTime("send", r, func(opts []bufsock.Option) (err error) {
		if !c.impatient {
			opts = []bufsock.Option{bufsock.WithTimeout(bufsock.NoTimeout)}
		}
		switch n {
		case 0:
			_, err = e.s.Send(msg, opts...)
		case 1:
			_, err = e.s.SendBuffers([][]byte{msg[:cut], msg[cut:]}, opts...)
		case 2:
			for err = e.s.Buffer(msg); kind(err) == "later"; { // nothing was added
				err = e.s.Buffer(msg)
			}
			if err == nil {
				err = e.s.Flush(opts...)
			}
		case 3:
			_, err = e.s.Write(msg)
		case 4:
			_, err = e.s.ReadFrom(bytes.NewReader(msg))
		}
		return err
	})
}

// inTime makes a call and wants it to end when it must.
func (c *crowd) inTime(name string, r *rand.Rand, call func([]bufsock.Option) error) error {
	const hurry = 3 * time.Millisecond
	opts, cancel := within(r, hurry)
	defer cancel()
	limit := patienceOfACrowd
	if opts != nil {
		limit = hurry
	}
	d, err := elapsed(func() error { return call(opts) })
	if d > limit+overtime {
		c.fail("%s took %v and was to take %v at most: %v", name, d, limit, err)
	}
	return err
}

// receiveAll receives messages until the connection ends, each by another call,
// and wants those of one sender in their order.
func (c *crowd) receiveAll(e *end, r *rand.Rand) {
	last := map[int]int{}
	buf := make([]byte, 0, c.size)
	for {
		msg, err := c.receive(e.s, buf, r)
		if kind(err) == "later" {
			time.Sleep(pace)
			continue
		}
		if err != nil {
			c.ended("receiver", err)
			return
		}
		if msg == nil {
			continue // it was a Peek
		}
		id, ok := c.check(msg)
		if !ok {
			return
		}
		before, ok := last[id.sender]
		if ok && id.number <= before || c.receivers == 1 && ok && id.number != before+1 {
			c.fail("sender %d: message %d came after %d", id.sender, id.number, before)
		}
		last[id.sender] = id.number
		e.mu.Lock()
		e.seen[id]++
		e.mu.Unlock()
		if c.received.Add(1) == c.enough {
			c.finish()
		}
		c.arrived()
	}
}

// arrived notes that a message is not missing any more, or a sender has ended.
func (c *crowd) arrived() {
	if c.missing.Add(-1) == 0 {
		c.finish()
	}
}

// receive makes one of the calls that receive a message. After a Peek there is
// none.
func (c *crowd) receive(s *bufsock.BufferedSocket, buf []byte, r *rand.Rand) (msg []byte, err error) {
	n := r.IntN(8)
	err = c.inTime("receive", r, func(opts []bufsock.Option) (err error) {
		with := append(opts, bufsock.WithMaxSize(c.size))
		switch n {
		case 0:
			msg, err = s.RecvUntil(lf, append(with, bufsock.WithDelimiter(), bufsock.AppendTo(buf[:0]))...)
		case 1:
			msg, _, err = s.RecvUntilAny([][]byte{crlf, lf}, append(with, bufsock.WithDelimiter())...)
		case 2:
			msg, err = s.RecvSize(c.size, opts...)
		case 3:
			msg, err = s.RecvSize(c.size, append(opts, bufsock.AppendTo(buf[:0]))...)
		case 4:
			msg, err = s.RecvSplit(c.split, with...)
		case 5:
			for msg, err = range s.Messages(lf, append(with, bufsock.WithDelimiter())...) {
				break
			}
			if msg == nil && err == nil {
				err = io.EOF
			}
		case 6:
			msg, err = s.Peek(c.size, opts...)
			if err == nil {
				c.check(msg)
				msg = nil
			}
		case 7:
			err = s.RecvFunc(func(m *bufsock.Message) (err error) {
				msg, err = c.join(m, buf[:0])
				return err
			}, with...)
		}
		return err
	})
	return msg, err
}

// join receives a message as the parts that it has, of which none may come from
// another.
func (c *crowd) join(m *bufsock.Message, buf []byte) ([]byte, error) {
	sender, err := m.Until(space)
	if err != nil {
		return nil, err
	}
	number, err := m.Until(space)
	if err != nil {
		return nil, err
	}
	rest, err := m.Next(c.size - m.Offset())
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(buf, "%s %s %s", sender, number, rest), nil
}

var space = []byte(" ")

func (c *crowd) split(data []byte, _ bool) (int, []byte, error) {
	if len(data) < c.size {
		return 0, nil, nil
	}
	return c.size, data[:c.size], nil
}

// check wants a whole message and tells which.
func (c *crowd) check(msg []byte) (id messageID, ok bool) {
	if _, err := fmt.Sscanf(string(msg), "%d %d ", &id.sender, &id.number); err != nil || !bytes.Equal(msg, c.message(id)) {
		c.fail("a torn message: %.40q (%d bytes)", msg, len(msg))
		return id, false
	}
	return id, true
}

// disturb calls what does not send or receive.
func (c *crowd) disturb(e *end, side int, r *rand.Rand) {
	for !c.stopping.Load() {
		soon := time.Now().Add(time.Duration(r.IntN(4000)) * time.Microsecond)
		if c.deadlines {
			e.s.SetReadDeadline(soon)
			if c.impatient {
				e.s.SetWriteDeadline(soon)
			}
		}
		e.s.RecvBuffer()
		e.s.SendBuffer()
		e.s.Buffered()
		e.s.SetTimeout(patienceOfACrowd)
		e.s.SetMaxSize(c.size)
		e.s.RemoteAddr()
		if c.upgrades && side == 0 {
			err := c.inTime("Upgrade", r, func([]bufsock.Option) error { return e.s.Upgrade(rewrap) })
			switch {
			case err == nil:
				c.upgraded.Add(1)
			case kind(err) != "later" && !errors.Is(err, bufsock.ErrBufferedData):
				c.ended("upgrade", err)
				return
			}
		}
		time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		e.s.SetDeadline(time.Time{})
		time.Sleep(time.Duration(r.IntN(1000)) * time.Microsecond)
	}
}

// A wrapper is a connection around another, without its descriptor.
type wrapper struct{ net.Conn }

// rewrap puts a wrapper around a connection, or takes it away.
func rewrap(conn net.Conn) (net.Conn, error) {
	if w, ok := conn.(wrapper); ok {
		return w.Conn, nil
	}
	return wrapper{conn}, nil
}

// ended wants the connection to be closed if a call says so.
func (c *crowd) ended(who string, err error) {
	if !c.stopping.Load() {
		c.fail("%s: %v", who, err)
	}
}

// close closes the ends, and waits for all goroutines.
func (c *crowd) close() {
	c.stopping.Store(true)
	for _, e := range c.ends {
		c.working.Go(func() { e.s.Close() })
		c.working.Go(func() { e.s.Close() })
	}
	c.working.Wait()
}

// faultyTransport is TCP with faults at both ends, of the kind that pass.
var faultyTransport = transport{"Faulty", func(t testing.TB) (net.Conn, net.Conn) {
	a, b := tcpPair(t)
	seed := rand.Uint64()
	f := bufsocktest.Faults{MaxDelay: time.Millisecond, LateBy: time.Millisecond, IgnoredFor: time.Millisecond}
	for _, chance := range passingFaults(&f) {
		*chance = 0.05
	}
	f.EndsWithData = 0 // it waits for more than was asked for
	return bufsocktest.NewConn(a, seed, f), bufsocktest.NewConn(b, seed, f)
}}

// deafTransport is TCP whose own Close does not end calls that are blocked.
var deafTransport = transport{"Deaf", func(t testing.TB) (net.Conn, net.Conn) {
	a, b := tcpPair(t)
	f := bufsocktest.Faults{DeafCloses: 1, Delays: 0.05, CutReads: 0.1}
	return bufsocktest.NewConn(a, rand.Uint64(), f), bufsocktest.NewConn(b, rand.Uint64(), f)
}}

// TestCrowd wants every message to be received exactly once.
func TestCrowd(t *testing.T) {
	kinds := map[string]func(c *crowd){
		"deadlines": func(c *crowd) { c.deadlines = true },
		"upgrades":  func(c *crowd) { c.upgrades = true },
		"one receiver of large messages": func(c *crowd) {
			c.size, c.each, c.receivers = 30_000, 60, 1
		},
	}
	for _, transport := range append(transports, faultyTransport) {
		for name, set := range kinds {
			t.Run(transport.name+", "+name, func(t *testing.T) {
				repeat(t, 1, func(t *testing.T, r *rand.Rand) {
					defer watchdog(t)()
					check := goroutines(t)
					c := newCrowd(t, transport)
					set(c)
					c.start(r.Uint64())
					<-c.done
					c.close()
					c.complete()
					check()
				})
			})
		}
	}
}

// complete wants every message to have been received once at the other end.
func (c *crowd) complete() {
	for i, e := range c.ends {
		require.Len(c.t, e.seen, int(c.ends[1-i].given.Load()))
		for id, n := range e.seen {
			require.Equal(c.t, 1, n, "%+v", id)
		}
	}
}

// TestCrowdIsClosed closes the ends at any moment. All calls must end, and no
// message have been received twice.
func TestCrowdIsClosed(t *testing.T) {
	for _, transport := range append(transports, faultyTransport, deafTransport) {
		t.Run(transport.name, func(t *testing.T) {
			repeat(t, 5, func(t *testing.T, r *rand.Rand) {
				defer watchdog(t)()
				check := goroutines(t)
				c := newCrowd(t, transport)
				c.deadlines, c.upgrades = r.IntN(2) == 0, r.IntN(2) == 0
				c.enough = 1 + r.Int64N(int64(2*c.senders*c.each))
				c.start(r.Uint64())
				<-c.done
				c.close()
				for _, e := range c.ends {
					for id, n := range e.seen {
						require.Equal(t, 1, n, "%+v", id)
					}
					_, err := e.s.Send([]byte("x"))
					assertClosed(t, err)
				}
				check()
			})
		})
	}
}
