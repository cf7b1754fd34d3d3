package interop_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A relay stands between a client and a program. What the client sends it
// passes on as it comes, and what the program sends in pieces. Behind some of
// them it stops until a receive of the client has timed out.
type relay struct {
	addr     string
	timeouts int             // of insist
	timedOut chan struct{}   // wakes the relay
	ended    <-chan struct{} // when the test has
	pace     pace
	came     output // from the program
}

// A pace says how many of the bytes that are at hand are the next piece, and
// whether the relay stops behind it.
type pace func(atHand int) (n int, stop bool)

// inPieces is the pace of pieces of 1 to 9 bytes, the same each time, with a
// stop behind so many of them.
func inPieces(each int) pace {
	random, pieces := rand.New(rand.NewPCG(1, 2)), 0
	return func(atHand int) (int, bool) {
		pieces++
		return min(atHand, 1+random.IntN(9)), pieces%each == 0
	}
}

// cutAt is the pace of one stop, behind as many bytes as place says. The
// relay takes the number from it; without one it does not stop.
func cutAt(place *atomic.Int64) pace {
	return func(atHand int) (int, bool) {
		n := int(place.Load())
		switch {
		case n <= 0:
			return atHand, false
		case n <= atHand:
			place.Store(0)
			return n, true
		}
		place.Add(int64(-atHand))
		return atHand, false
	}
}

// startRelay starts a relay to addr for one client.
func startRelay(t *testing.T, addr string, pace pace) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &relay{addr: l.Addr().String(), timedOut: make(chan struct{}), ended: t.Context().Done(), pace: pace}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { l.Close() })
	running.Go(func() {
		client, err := l.Accept()
		if err != nil {
			return // nobody has come
		}
		program, err := net.Dial("tcp", addr)
		if !assert.NoError(t, err) {
			client.Close()
			return
		}
		t.Cleanup(func() { client.Close(); program.Close() })
		running.Go(func() { passOn(program, client) })
		r.run(client, program)
	})
	return r
}

// passOn passes on all bytes, and then the end.
func passOn(to, from net.Conn) {
	_, _ = to.(*net.TCPConn).ReadFrom(from) // how it ends the other side sees
	_ = to.(*net.TCPConn).CloseWrite()
}

// run passes on what the program sends, at the pace.
func (r *relay) run(client, program net.Conn) {
	defer client.(*net.TCPConn).CloseWrite()
	buf := make([]byte, 64<<10)
	for {
		atHand, err := program.Read(buf)
		_, _ = r.came.Write(buf[:atHand]) // never fails
		for b := buf[:atHand]; len(b) > 0; {
			n, stop := r.pace(len(b))
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
			b = b[n:]
			if stop && !r.awaitTimeout() {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// awaitTimeout returns false at the end of the test.
func (r *relay) awaitTimeout() bool {
	select {
	case <-r.timedOut:
		return true
	case <-r.ended:
		return false
	}
}

// dial connects a client.
func (r *relay) dial(t *testing.T, opts ...bufsock.Option) *bufsock.BufferedSocket {
	t.Helper()
	return dial(t, r.addr, opts...)
}

// insist calls receive with a timeout of a millisecond, again and again until
// it returns something else than that. It gives up when nothing more has come
// for a long time.
func (r *relay) insist(receive func(bufsock.Option) error) error {
	came, since := -1, time.Now()
	for {
		err := receive(bufsock.WithTimeout(time.Millisecond))
		timeout, ok := errors.AsType[*bufsock.TimeoutError](err)
		if !ok {
			return err
		}
		r.timeouts++
		select {
		case r.timedOut <- struct{}{}:
		default: // it has not stopped
		}
		if timeout.Buffered != came {
			came, since = timeout.Buffered, time.Now()
		}
		if time.Since(since) > patience {
			return err
		}
	}
}

// recvFunc is RecvFunc, called with a timeout of a millisecond until the message
// is there.
func (r *relay) recvFunc(s *bufsock.BufferedSocket, read func(m *bufsock.Message) error, opts ...bufsock.Option) error {
	return r.insist(func(timeout bufsock.Option) error {
		return s.RecvFunc(read, append(slices.Clip(opts), timeout)...)
	})
}
