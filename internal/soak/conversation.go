package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
)

// A conversation is one connection: its client sends numbered messages, its
// server sends each back, and both know what must come next.
type conversation struct {
	c         *counters
	transport int
	frames    bool   // messages are netstrings, else lines
	seed      uint64 // of the messages
	accepted  chan net.Conn

	client, server *party
	broken         atomic.Bool // by intention
}

// A party is one end of a conversation.
type party struct {
	t    *conversation
	ns   *bufsock.NetstringSocket
	conn *bufsocktest.Conn // below the socket, or nil
	raw  net.Conn          // below all

	sent, received atomic.Int64 // messages, and in the same order
	consumed       atomic.Int64 // bytes
	heard          int64        // bytes, when the last error came that was to pass
}

// converse holds a conversation, until stop is set or it has been long enough.
func (n *network) converse(r *rand.Rand, stop *atomic.Bool) {
	t := &conversation{
		c: n.c, transport: r.IntN(3), frames: r.IntN(2) == 0, seed: r.Uint64(),
		accepted: make(chan net.Conn, 1),
	}
	a, b, err := n.connect(t)
	if err != nil {
		log.Fatalf("soak: connecting: %v", err)
	}
	rawClient, rawServer := a, b
	if t.transport == overTLS {
		if a, b, err = n.secure(a, b); err != nil {
			log.Fatalf("soak: TLS handshake: %v", err)
		}
	}
	t.client, t.server = t.party(r, a, rawClient), t.party(r, b, rawServer)
	n.c.conversations.Add(1)
	n.c.open.Add(1)
	defer n.c.open.Add(-1)

	length := int64(1 + r.IntN(3000))
	breakAt := int64(-1)
	if r.IntN(20) == 0 {
		breakAt = r.Int64N(length)
	}
	var parties sync.WaitGroup
	for _, f := range []func(*rand.Rand){
		func(r *rand.Rand) { t.client.sendAll(r, length, breakAt, stop) },
		func(r *rand.Rand) { t.client.receiveAll(r, nil) },
		func(r *rand.Rand) { t.server.answer(r) },
	} {
		own := rand.New(rand.NewPCG(r.Uint64(), 0))
		parties.Go(func() { f(own) })
	}
	parties.Wait()
	t.judge()
}

// party puts a socket, and faults or none, on an end of the connection.
func (t *conversation) party(r *rand.Rand, conn, raw net.Conn) *party {
	p := &party{t: t, raw: raw}
	if seed, f, ok := faults(r); ok {
		p.conn = bufsocktest.NewConn(conn, seed, f)
		conn = p.conn
	}
	p.ns = bufsock.NewNetstringSocket(conn, bufsock.WithMaxSize(bufsock.NoLimit))
	return p
}

// message returns a message by its number: that, and random digits.
func (t *conversation) message(number int64) []byte {
	r := rand.New(rand.NewPCG(t.seed, uint64(number)))
	size := r.IntN(200)
	switch r.IntN(100) {
	case 0:
		size = r.IntN(100_000)
	case 1, 2, 3, 4, 5:
		size = r.IntN(5000)
	}
	msg := fmt.Appendf(make([]byte, 0, size+20), "%d ", number)
	return append(msg, bytes.Repeat([]byte{'0' + byte(r.IntN(10))}, size)...)
}

// sendAll sends the messages of the client, and then the end of the stream; or
// breaks the connection when it is at message breakAt.
func (p *party) sendAll(r *rand.Rand, length, breakAt int64, stop *atomic.Bool) {
	for number := range length {
		if stop.Load() {
			break
		}
		if number == breakAt {
			p.abort()
			return
		}
		if !p.send(r, number) {
			return
		}
	}
	p.end()
}

// end sends the end of the stream. On TLS that is a message, for which crypto/tls
// allows five seconds: if they do not do, the peer will not be told.
func (p *party) end() {
	e, ok := errors.AsType[net.Error](p.ns.Socket().CloseWrite())
	if ok && e.Timeout() {
		p.t.c.unended.Add(1)
		p.abort()
	}
}

// abort closes the connection as a crash would.
func (p *party) abort() {
	p.t.broken.Store(true)
	if c, ok := p.raw.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	p.raw.Close()
}

// send sends a message, however often that must be tried.
func (p *party) send(r *rand.Rand, number int64) bool {
	p.sent.Add(1)
	opts, cancel := p.hurry(r, p.t.transport != overTLS) // where a timeout ends the session
	defer cancel()
	s, msg := p.ns.Socket(), p.t.message(number)
	var err error
	switch {
	case p.t.frames:
		err = p.ns.WriteNetstring(msg, opts...)
	case r.IntN(2) == 0:
		_, err = s.Send(append(msg, '\n'), opts...)
	default:
		_, err = s.SendBuffers([][]byte{msg, {'\n'}}, opts...)
	}
	for err != nil {
		if !p.t.c.passes(err) {
			p.raw.Close() // the other calls need not wait
			return false
		}
		err = s.Flush(bufsock.WithTimeout(bufsock.NoTimeout))
	}
	return true
}

// hurry returns options that end a call early, or let it take its time.
func (p *party) hurry(r *rand.Rand, allowed bool) ([]bufsock.Option, func()) {
	d := time.Duration(r.IntN(50_000)) * time.Microsecond
	if !allowed {
		return []bufsock.Option{bufsock.WithTimeout(bufsock.NoTimeout)}, func() {}
	}
	switch r.IntN(8) {
	case 0:
		return []bufsock.Option{bufsock.WithTimeout(bufsock.NonBlocking)}, func() {}
	case 1, 2:
		return []bufsock.Option{bufsock.WithTimeout(d)}, func() {}
	case 3:
		ctx, cancel := context.WithCancel(context.Background())
		timer := time.AfterFunc(d, cancel)
		return []bufsock.Option{bufsock.WithContext(ctx)}, func() { timer.Stop(); cancel() }
	case 4:
		ctx, cancel := context.WithTimeout(context.Background(), d)
		return []bufsock.Option{bufsock.WithContext(ctx)}, cancel
	}
	return nil, func() {}
}

// answer sends back what comes, until the client has ended or the connection.
func (p *party) answer(r *rand.Rand) {
	p.receiveAll(r, func(number int64) bool { return p.send(r, number) })
	p.end()
	p.ns.Close()
}

// receiveAll receives messages until the stream ends, wants each to be the
// next, and hands on its number.
func (p *party) receiveAll(r *rand.Rand, next func(number int64) bool) {
	c := p.t.c
	for {
		msg, err := p.receive(r)
		if err != nil && c.passes(err) && !p.isLast(err) {
			continue
		}
		if err != nil {
			break
		}
		number := p.received.Load()
		if !bytes.Equal(msg, p.t.message(number)) && !p.misplaced(msg, number) {
			p.raw.Close() // there is nothing more to find out
			break
		}
		number = p.received.Add(1) - 1
		c.messages.Add(1)
		c.bytes.Add(int64(len(msg)))
		p.consumed.Add(int64(p.wireSize(msg)))
		if next != nil && !next(number) {
			break
		}
	}
	if p.conn == nil {
		return
	}
	in, _ := p.conn.Transferred()
	if kept := int64(p.ns.Socket().Buffered()); in != p.consumed.Load()+kept {
		c.unaccounted.Add(max(in-p.consumed.Load()-kept, 1))
	}
}

// isLast reports whether an error stands for the end of the stream: one that was
// to pass, and behind which nothing has come.
func (p *party) isLast(err error) bool {
	if !errors.Is(err, bufsocktest.ErrPassing) {
		return false
	}
	before := p.heard
	p.heard, _ = p.conn.Transferred()
	return p.heard == before
}

// wireSize returns the length of a message with what frames it.
func (p *party) wireSize(msg []byte) int {
	if p.t.frames {
		return len(bufsock.AppendNetstring(nil, msg))
	}
	return len(msg) + 1
}

// misplaced counts a message that is not the one due, and reports whether it is
// a later one.
func (p *party) misplaced(msg []byte, due int64) bool {
	var number int64
	_, err := fmt.Sscanf(string(msg), "%d ", &number)
	switch {
	case err != nil || number < 0 || !bytes.Equal(msg, p.t.message(number)):
		p.t.c.damaged.Add(1)
		return false
	case number < due:
		p.t.c.doubled.Add(1)
		return false
	}
	p.t.c.lost.Add(number - due)
	p.received.Store(number)
	return true
}

// receive receives a message by one of the calls that can.
func (p *party) receive(r *rand.Rand) (msg []byte, err error) {
	opts, cancel := p.hurry(r, true)
	defer cancel()
	s, kind := p.ns.Socket(), r.IntN(5)
	switch {
	case kind == 4:
		err = s.RecvFunc(func(m *bufsock.Message) error {
			var err error
			msg, err = p.join(m)
			return err
		}, opts...)
	case p.t.frames && kind > 0:
		return p.ns.ReadNetstring(opts...)
	case p.t.frames:
		for msg, err = range p.ns.Messages(opts...) {
			return msg, err
		}
		return nil, io.EOF
	case kind == 0:
		msg, _, err = s.RecvUntilAny([][]byte{[]byte("\r\n"), []byte("\n")}, opts...)
	case kind == 1:
		msg, err = s.RecvSplit(splitLine, opts...)
	case kind == 2:
		for msg, err = range s.Messages([]byte("\n"), opts...) {
			return msg, err
		}
		return nil, io.EOF
	default:
		msg, err = s.RecvUntil([]byte("\n"), opts...)
	}
	return msg, err
}

// join receives a message in parts: the number, which is known to end in a space,
// and the rest of the line, or the netstring.
func (p *party) join(m *bufsock.Message) ([]byte, error) {
	if p.t.frames {
		payload, err := m.Netstring()
		return bytes.Clone(payload), err
	}
	number, err := m.Until([]byte(" "))
	if err != nil {
		return nil, err
	}
	rest, err := m.Until([]byte("\n"))
	if err != nil {
		return nil, err
	}
	return slices.Concat(number, []byte(" "), rest), nil
}

func splitLine(data []byte, _ bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	return 0, nil, nil
}

// judge looks at a conversation that has ended. Unless the connection was
// broken by intention, all that was sent has been received.
func (t *conversation) judge() {
	broken := t.broken.Load()
	for _, p := range []*party{t.client, t.server} {
		p.ns.Close()
		p.raw.Close()
		if p.conn == nil {
			continue
		}
		counts := p.conn.Counts()
		t.c.faults.Add(int64(counts.Total()))
		broken = broken || counts.Resets+counts.HalfCloses > 0
	}
	if broken {
		t.c.broken.Add(1)
		return
	}
	t.c.lost.Add(t.client.sent.Load() - t.server.received.Load())
	t.c.lost.Add(t.server.sent.Load() - t.client.received.Load())
}
