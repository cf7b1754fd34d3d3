package bufsock_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// The property tests in this file hold the three laws on connections that go
// wrong: below the socket, and at the other end of a connection that the socket
// reads and writes through its descriptor.

// passingFaults returns the probabilities of those after which a connection goes
// on.
func passingFaults(f *bufsocktest.Faults) []*float64 {
	return []*float64{
		&f.CutReads, &f.EmptyReads, &f.ErrorsWithData, &f.EndsWithData,
		&f.CutWrites, &f.ShortWrites, &f.Delays, &f.EarlyTimeouts,
		&f.LateDeadlines, &f.IgnoredDeadlines, &f.RefusedDeadlines,
	}
}

// finalFaults returns the probabilities of those that end a stream.
func finalFaults(f *bufsocktest.Faults) []*float64 {
	return []*float64{&f.HalfCloses, &f.Resets, &f.ForgottenResets}
}

// resets returns how often a connection was reset.
func resets(c *faultyConn) int { return c.Counts().Resets + c.Counts().ForgottenResets }

// A faultyConn is a connection with faults that keeps what it transfers.
type faultyConn struct {
	*bufsocktest.Conn
	mu      sync.Mutex
	in, out []byte
	ending  ending
}

// randomFaults puts some of the faults on conn, and in one of three cases a
// final one.
func randomFaults(r *rand.Rand, conn net.Conn) *faultyConn {
	seed := r.Uint64()
	f := bufsocktest.Faults{
		MaxDelay:   100 * time.Microsecond,
		LateBy:     200 * time.Microsecond,
		IgnoredFor: 200 * time.Microsecond,
	}
	for _, chance := range passingFaults(&f) {
		if r.IntN(2) == 0 {
			*chance = 0.3 * r.Float64()
		}
	}
	f.Delays /= 5
	if r.IntN(4) == 0 {
		// A timeout that no deadline of the call explains must say what it is.
		f.OddTimeouts, f.EarlyTimeouts, f.ErrorsWithData = 1, 0, 0
		f.LateDeadlines, f.IgnoredDeadlines, f.RefusedDeadlines = 0, 0, 0
	}
	if r.IntN(3) == 0 {
		final := finalFaults(&f)
		*final[r.IntN(len(final))] = 0.01
		f.ResetError = []error{nil, errGone}[r.IntN(2)]
	}
	return &faultyConn{Conn: bufsocktest.NewConn(conn, seed, f)}
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in = append(c.in, p[:n]...)
	c.ending.note(n, err)
	return n, err
}

// hasNoEnd reports whether the end that Read has returned is none.
func (c *faultyConn) hasNoEnd() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending.isNone
}

func (c *faultyConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, p[:n]...)
	return n, err
}

// received returns what Read has returned.
func (c *faultyConn) received() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in
}

// sent returns what Write has written.
func (c *faultyConn) sent() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out
}

func TestFaultsWhileReceiving(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			repeat(t, 30, func(t *testing.T, r *rand.Rand) { receiveWithFaults(t, r, transport) })
		})
	}
}

// receiveWithFaults makes random receives on a connection that goes wrong.
// What came out of it must have been returned, or be in the receive buffer.
func receiveWithFaults(t *testing.T, r *rand.Rand, transport transport) {
	local, remote := transport.pair(t)
	conn := randomFaults(r, local)
	defer conn.Close()
	stream := randomBytes(r, r.IntN(3000))
	feeder := rand.New(rand.NewPCG(r.Uint64(), 1))
	var feeding sync.WaitGroup
	feeding.Go(func() { feed(feeder, remote, stream) })
	defer feeding.Wait()
	defer conn.Close()

	rd := &reading{
		t: t, r: r, rest: stream,
		ns:         bufsock.NewNetstringSocket(conn),
		impatience: impatience,
		passed:     func() int { in, _ := conn.Transferred(); return int(in) },
		noEnd:      conn.hasNoEnd,
	}
	for range 100 {
		rd.receive(anyRequest(r))
	}
	rd.finish()
	received := conn.received()
	require.Equal(t, string(stream[:len(received)]), string(received))
}

func TestFaultsOfThePeerWhileReceiving(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			repeat(t, 30, func(t *testing.T, r *rand.Rand) { receiveFromFaults(t, r, transport) })
		})
	}
}

// receiveFromFaults makes random receives from a peer that stutters, and may
// stop or break down.
func receiveFromFaults(t *testing.T, r *rand.Rand, transport transport) {
	local, remote := transport.pair(t)
	defer local.Close()
	peer := randomFaults(r, remote)
	stream := randomBytes(r, r.IntN(3000))
	feeder := rand.New(rand.NewPCG(r.Uint64(), 1))
	var feeding sync.WaitGroup
	feeding.Go(func() { feed(feeder, peer, stream) })
	defer feeding.Wait()
	defer local.Close()

	s := bufsock.NewBufferedSocket(local)
	rd := &reading{
		t: t, r: r, rest: stream,
		ns:         bufsock.NewNetstringSocket(s),
		impatience: impatience,
		sent: func() int {
			remote.Close() // it has ended, or the test is to fail
			feeding.Wait()
			_, out := peer.Transferred()
			return int(out)
		},
	}
	for range 100 {
		req := anyRequest(r)
		for req.unsure { // where the stream has ended is only known afterwards
			req = anyRequest(r)
		}
		if rd.receive(req).err == "reset" {
			return // and what has come is lost, or in the receive buffer
		}
	}
	rd.finish()
}

func TestFaultsWhileSending(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			repeat(t, 20, func(t *testing.T, r *rand.Rand) { sendWithFaults(t, r, transport) })
		})
	}
}

// sendWithFaults makes random sends on a connection that goes wrong. What went
// into it must be what the socket says to have sent, all else be in the send
// buffer; and the peer must receive it.
func sendWithFaults(t *testing.T, r *rand.Rand, transport transport) {
	local, remote := transport.pair(t)
	conn := randomFaults(r, local)
	defer conn.Close()
	received := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(remote)
		received <- b
	}()

	w := &writing{
		t: t, r: r,
		ns:         bufsock.NewNetstringSocket(conn),
		impatience: impatience,
		passed:     conn.sent,
	}
	if transport.name == "TLS" {
		w.impatience, w.patient = patience, true // a write that timed out ends a session
	}
	broken := w.sendMany(40_000)
	require.Equal(t, conn.Counts().HalfCloses+resets(conn) > 0, broken)
	w.ns.Close()
	got := <-received
	if resets(conn) > 0 {
		require.True(t, bytes.HasPrefix(conn.sent(), got), "a reset loses the end alone")
		return
	}
	require.True(t, bytes.Equal(conn.sent(), got), "sent %d bytes, received %d", len(conn.sent()), len(got))
}

func TestFaultsOfThePeerWhileSending(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			repeat(t, 20, func(t *testing.T, r *rand.Rand) { sendToFaults(t, r, transport) })
		})
	}
}

// sendToFaults makes random sends to a peer that reads in fits and starts, and
// may break down. What it has received must be what the socket says to have
// sent, or the beginning of that if it broke down.
func sendToFaults(t *testing.T, r *rand.Rand, transport transport) {
	local, remote := transport.pair(t)
	defer local.Close()
	peer := randomFaults(r, remote)
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 20_000)
		for {
			if _, err := peer.Read(buf); err != nil && kind(err) != "later" {
				return
			}
		}
	})
	defer reading.Wait()
	defer local.Close()

	w := &writing{t: t, r: r, ns: bufsock.NewNetstringSocket(local), impatience: impatience}
	if transport.name == "TLS" {
		w.impatience, w.patient = patience, true
	}
	broken := w.sendMany(40_000)
	sent := w.given[:len(w.given)-len(w.ns.Socket().SendBuffer())]
	w.ns.Close()
	reading.Wait()
	got := peer.received()
	if resets(peer) > 0 {
		require.True(t, bytes.HasPrefix(sent, got), "sent %d bytes, received %d others", len(sent), len(got))
		return
	}
	require.False(t, broken)
	require.True(t, bytes.Equal(w.given, got), "given %d bytes, received %d", len(w.given), len(got))
}

// endless are calls that a stream of "9999999:xxx…" and a peer that reads bit
// by bit do not satisfy.
var endless = map[string]func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error{
	"RecvSize": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().RecvSize(1<<20, opts...)
		return err
	},
	"RecvSize into memory": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().RecvSize(1<<20, append(opts, bufsock.AppendTo(make([]byte, 0, 1<<20)))...)
		return err
	},
	"RecvUntil": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().RecvUntil(lf, append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
		return err
	},
	"RecvUntilAny": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, _, err := ns.Socket().RecvUntilAny([][]byte{crlf, []byte("xy")}, append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
		return err
	},
	"RecvSplit": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().RecvSplit(func([]byte, bool) (int, []byte, error) { return 0, nil, nil },
			append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
		return err
	},
	"RecvClose": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().RecvClose(append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
		return err
	},
	"Peek": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().Peek(1<<20, opts...)
		return err
	},
	"Discard": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().Discard(1<<20, opts...)
		return err
	},
	"DiscardUntil": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().DiscardUntil(lf, opts...)
		return err
	},
	"ReadNetstring": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.ReadNetstring(append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
		return err
	},
	"DiscardNetstring": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.DiscardNetstring(opts...)
		return err
	},
	"Send": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().Send(make([]byte, 8<<20), opts...)
		return err
	},
	"SendBuffers": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		_, err := ns.Socket().SendBuffers([][]byte{make([]byte, 4<<20), make([]byte, 4<<20)}, opts...)
		return err
	},
	"Flush": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		return ns.Socket().Flush(opts...) // of much that was buffered
	},
	"WriteNetstring": func(ns *bufsock.NetstringSocket, opts ...bufsock.Option) error {
		return ns.WriteNetstring(make([]byte, 8<<20), append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
	},
}

func endlessSocket(t *testing.T, conn net.Conn, name string) *bufsock.NetstringSocket {
	ns := bufsock.NewNetstringSocket(conn)
	if name == "Flush" {
		require.NoError(t, ns.Socket().Buffer(make([]byte, 8<<20)))
	}
	return ns
}

// trickle writes to conn bit by bit, and reads bit by bit what comes. It pauses
// for pause, and ends after a while or when the connection does.
func trickle(conn net.Conn, pause func() time.Duration, pieces, size int) {
	var wg sync.WaitGroup
	wg.Go(func() {
		piece := []byte("9999999:")
		for range pieces {
			if _, err := conn.Write(piece); err != nil {
				return
			}
			piece = []byte("x")
			time.Sleep(pause())
		}
	})
	wg.Go(func() {
		buf := make([]byte, size)
		for range pieces {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			time.Sleep(pause())
		}
	})
	wg.Wait()
}

// A bound is a random limit to the time of a call.
type bound struct {
	end  time.Duration // when the call must end
	opts []bufsock.Option
}

// randomBound must be used at once.
func randomBound(t *testing.T, r *rand.Rand) bound {
	random := func() time.Duration { return time.Millisecond + time.Duration(r.Int64N(int64(time.Second))) }
	d := random()
	b := bound{end: d, opts: []bufsock.Option{bufsock.WithTimeout(d)}}
	switch d := random(); r.IntN(4) {
	case 0:
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(d, cancel)
		b.opts = append(b.opts, bufsock.WithContext(ctx))
		b.end = min(b.end, d)
	case 1:
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		b.opts = append(b.opts, bufsock.WithContext(ctx))
		b.end = min(b.end, d)
	}
	return b
}

// TestFaultsOneDeadlinePerCall has several calls at once on a connection on
// which bytes trickle in and out, reads come up empty, deadlines fire late and
// everything is delayed. Each call must end at its time, and later only by what
// the connection itself is late.
func TestFaultsOneDeadlinePerCall(t *testing.T) {
	for name, call := range endless {
		t.Run(name, func(t *testing.T) {
			repeat(t, 20, func(t *testing.T, r *rand.Rand) {
				synctest.Test(t, func(t *testing.T) { callInTime(t, r, name, call) })
			})
		})
	}
}

func callInTime(t *testing.T, r *rand.Rand, name string, call func(*bufsock.NetstringSocket, ...bufsock.Option) error) {
	local, remote := net.Pipe()
	faults, late := lateFaults(r)
	ns := endlessSocket(t, bufsocktest.NewConn(local, r.Uint64(), faults), name)
	var calls, trickling sync.WaitGroup
	pause := shortPauses(r.Uint64())
	trickling.Go(func() { trickle(remote, pause, 1000, 1) })

	user := time.Hour
	if r.IntN(4) == 0 {
		user = time.Duration(r.Int64N(int64(time.Second)))
		require.NoError(t, ns.Socket().SetDeadline(time.Now().Add(user)))
	}
	for range 1 + r.IntN(4) {
		b := randomBound(t, r)
		calls.Go(func() {
			d, err := elapsed(func() error { return call(ns, b.opts...) })
			end := min(b.end, user)
			if kind(err) != "later" || d < end || d > end+late {
				t.Errorf("took %v, not %v and at most %v more: %v", d, end, late, err)
			}
		})
	}
	calls.Wait()
	ns.Close()
	remote.Close()
	trickling.Wait()
}

// lateFaults returns faults, and how much later than its time a call may end
// because of them.
func lateFaults(r *rand.Rand) (f bufsocktest.Faults, late time.Duration) {
	f = bufsocktest.Faults{CutReads: 0.2, CutWrites: 0.2, EmptyReads: 0.2}
	late = time.Millisecond // what a last try may take
	if r.IntN(2) == 0 {
		f.Delays, f.MaxDelay = 0.2, 20*time.Millisecond
		late += 2 * f.MaxDelay // of the read that a cancel falls into, and of the try behind it
	}
	if r.IntN(2) == 0 {
		f.LateDeadlines, f.LateBy = 0.5, 30*time.Millisecond
		late += 2 * f.LateBy // a cancel that comes in the meantime is late again
	}
	return f, late
}

// shortPauses returns a function for any number of goroutines.
func shortPauses(seed uint64) func() time.Duration {
	r := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(r.Int64N(int64(20 * time.Millisecond)))
	}
}

// TestFaultsOneDeadlineOnDescriptors is the same in real time, and so with
// much patience, for sockets that are read and written through a descriptor.
func TestFaultsOneDeadlineOnDescriptors(t *testing.T) {
	const timeout, patience = 30 * time.Millisecond, 5 * time.Second
	for name, call := range endless {
		t.Run(name, func(t *testing.T) {
			sockets(t, func(t *testing.T, local, remote net.Conn) {
				var trickling sync.WaitGroup
				trickling.Go(func() {
					trickle(remote, func() time.Duration { return time.Millisecond }, 10_000, 4096)
				})
				ns := endlessSocket(t, local, name)
				d, err := elapsed(func() error { return call(ns, bufsock.WithTimeout(timeout)) })
				require.IsType(t, (*bufsock.TimeoutError)(nil), err)
				require.GreaterOrEqual(t, d, timeout)
				require.Less(t, d, patience)
				ns.Close()
				remote.Close()
				trickling.Wait()
			})
		})
	}
}
