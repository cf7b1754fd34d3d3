package bufsock

import (
	"io"
	"net"
	"sync"
)

// Data of up to so many bytes, with what is buffered, is copied into the send
// buffer and sent from there: because that costs less than a vectored write, or
// less than several writes where there is no vectored one, as on TLS. Larger
// data is not copied, unless a NonBlocking call has to be tried on a
// descriptor.
const (
	copySize         = 16 << 10
	copySizeNoVector = 64 << 10
)

// Send sends the send buffer and then data, and returns how many bytes it has
// sent of both.
//
// If it fails, the unsent bytes are in the send buffer, those of data included,
// and [BufferedSocket.Flush] goes on from there. Do not send data again: that
// would duplicate it. This holds for every failure but an error that matches
// [ErrInvalidArgument], [net.ErrClosed] or [ErrBroken], also if the time was up
// before it was the call's turn. Bytes that were all sent are never reported as
// a timeout.
//
// An error that is no timeout is the end of the sending side, and so is a
// timeout or cancel in the middle of a write on TLS: from then on every send
// fails with an error that matches [ErrBroken]. The peer may have said why, so
// receive before you close.
//
// It takes [WithTimeout] and [WithContext]. It is tried even if the context is
// done.
func (s *BufferedSocket) Send(data []byte, opts ...Option) (int, error) {
	c, err := s.newSend(opts)
	switch {
	case err != nil:
		return 0, err
	case c.enterAlone(len(data)):
		return c.sendAlone(data)
	}
	return c.sendAll(nil, [][]byte{data})
}

func (s *BufferedSocket) newSend(opts []Option) (*call, error) {
	r := request{op: "Send"}
	if err := r.prepare(s, opts, optSend); err != nil {
		return nil, err
	}
	return s.newCall(&r, &s.send), nil
}

// enterAlone gets the turn to write n bytes to a descriptor, if nothing is
// buffered and nobody else sends.
func (c *call) enterAlone(n int) bool {
	h := c.h
	if n == 0 || n > copySize {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := c.s.link.Load() // an Upgrade that has a turn may change it
	if !h.isIdle() || h.data.len() > 0 || !l.polls || l.broken != nil {
		return false
	}
	h.busy, h.inside = true, writing
	c.l = l
	return true
}

// sendAlone writes data from where it is. The kernel mostly takes it at once;
// what it does not take goes through the buffer.
func (c *call) sendAlone(data []byte) (int, error) {
	defer c.end()
	c.piece, c.probing = data, true
	_ = c.l.raw.Write(c.try) // drain will meet it again
	c.piece, c.sent = nil, c.moved
	if c.sent == len(data) {
		return c.sent, nil
	}
	return c.sendRest(data)
}

// sendRest sends what is missing of data, before what others have buffered in
// the meantime.
func (c *call) sendRest(data []byte) (int, error) {
	c.h.leaveConn()
	c.h.keep(0, [][]byte{data}, c.sent)
	err := c.goOn() // says it if Close has ended the try
	switch {
	case err != nil:
	case c.failed != nil:
		err = c.judge(c.failed)
	default:
		err = c.drainTo(len(data))
	}
	return c.sent, c.explain(err, want{})
}

// SendBuffers is [BufferedSocket.Send] for data in pieces, which are sent in
// one vectored write where the connection can. bufs is left as it was.
func (s *BufferedSocket) SendBuffers(bufs [][]byte, opts ...Option) (int, error) {
	r := request{op: "SendBuffers"}
	if err := r.prepare(s, opts, optSend); err != nil {
		return 0, err
	}
	return s.newCall(&r, &s.send).sendAll(nil, bufs)
}

// Buffer adds a copy of data to the send buffer, which the next Send, Flush or
// Write sends first. It waits for its turn within the timeout of the socket;
// if it fails, nothing was added.
func (s *BufferedSocket) Buffer(data []byte) error {
	h := &s.send
	h.mu.Lock()
	if h.isIdle() && s.link.Load().broken == nil {
		h.add(data)
		h.mu.Unlock()
		return nil
	}
	h.mu.Unlock()
	return s.awaitBuffer(data)
}

// awaitBuffer is Buffer where the turn must be waited for.
func (s *BufferedSocket) awaitBuffer(data []byte) error {
	h := &s.send
	c := s.newCall(&request{op: "Buffer", timeout: s.Timeout()}, h)
	defer c.release()
	err := c.enter()
	if err != nil {
		return c.explain(err, want{})
	}
	defer c.leave()
	if err = c.mayWrite(); err == nil {
		h.mu.Lock()
		h.add(data)
		h.mu.Unlock()
	}
	return err
}

// Flush sends the send buffer. If it fails, the unsent bytes are still there,
// and Flush goes on from there, but for an error that ends the sending side: see
// [BufferedSocket.Send]. It takes [WithTimeout] and [WithContext].
func (s *BufferedSocket) Flush(opts ...Option) error {
	r := request{op: "Flush"}
	if err := r.prepare(s, opts, optSend); err != nil {
		return err
	}
	c := s.newCall(&r, &s.send)
	defer c.release()
	err := c.enter()
	if err != nil {
		return c.explain(err, want{})
	}
	defer c.leave()
	if err = c.mayWrite(); err == nil {
		err = c.drain()
	}
	return c.explain(err, want{})
}

// SendBuffer returns a copy of the send buffer: bytes that have been given to
// Buffer, or to a Send that failed, and have not been sent. It does not wait
// for a blocked call.
func (s *BufferedSocket) SendBuffer() []byte { return s.send.snapshot() }

// Unsent returns the number of bytes in the send buffer. It does not wait for a
// blocked call.
func (s *BufferedSocket) Unsent() int { return s.send.size() }

// sendAll sends the send buffer, the header and the pieces. Of the pieces it
// keeps what it could not send; the header is copied in any case.
func (c *call) sendAll(header []byte, pieces [][]byte) (int, error) {
	h := c.h
	defer c.release()
	err := c.enter()
	if err != nil {
		if err != errClosed { // as Shutdown sends what is kept
			h.keepBehind(header, pieces)
		}
		return 0, c.explain(err, want{})
	}
	defer c.leave()
	if err := c.mayWrite(); err != nil {
		return 0, err
	}
	h.mu.Lock()
	h.add(header)
	size := h.data.len()
	for _, p := range pieces {
		size += len(p)
	}
	small := size <= c.copySize() || c.timeout == 0 && c.l.polls
	if small {
		for _, p := range pieces {
			h.add(p)
		}
	}
	h.mu.Unlock()
	if small {
		err = c.drainTo(size)
	} else {
		err = c.transmitOrKeep(pieces)
	}
	return c.sent, c.explain(err, want{})
}

// mayWrite returns an error if the sending side is over.
func (c *call) mayWrite() error {
	if cause := c.l.broken; cause != nil {
		return newBrokenError(c.op, cause)
	}
	return nil
}

func (c *call) copySize() int {
	if c.l.takesVector {
		return copySize
	}
	return copySizeNoVector
}

// add appends a copy of p to the buffer. The caller has the turn and the lock.
func (h *half) add(p []byte) {
	if len(p) == 0 {
		return
	}
	if h.data == nil {
		h.data = newBuffer(max(len(p), copySize))
	}
	h.data.append(p)
}

// keepBehind adds a copy of the header and the pieces behind whatever the buffer
// holds.
func (h *half) keepBehind(header []byte, pieces [][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.insert(h.data.len(), [][]byte{header}, 0)
	h.insert(h.data.len(), pieces, 0)
}

// keep adds a copy of the pieces, without their first sent bytes, behind the
// first at bytes of the buffer. The caller has the turn, so that nobody else
// takes bytes away.
func (h *half) keep(at int, pieces [][]byte, sent int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.insert(at, pieces, sent)
}

// insert is keep for who has the lock. Another call may have the turn, and be
// writing the bytes that are there.
func (h *half) insert(at int, pieces [][]byte, sent int) {
	unsent := -sent
	for _, p := range pieces {
		unsent += len(p)
	}
	if h.state.Load() == closed || unsent <= 0 {
		return
	}
	if h.data == nil {
		h.data = newBuffer(unsent)
	}
	space := h.data.insert(min(at, h.data.len()), unsent)
	for _, p := range pieces {
		n := min(sent, len(p))
		sent -= n
		space = space[copy(space, p[n:]):]
	}
}

// consume takes n sent bytes away from the buffer.
func (h *half) consume(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data.consume(n)
}

// queued returns what is buffered now. It stays valid while the call has the
// turn and does not consume it.
func (h *half) queued() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.data.bytes()
}

// drain sends what is in the send buffer now.
func (c *call) drain() error { return c.drainTo(c.sent + len(c.h.queued())) }

// drainTo sends what is in the send buffer until so many bytes are sent. A try
// may go beyond the goal, if other sends have failed meanwhile and left theirs
// there.
func (c *call) drainTo(goal int) error {
	if !c.l.polls {
		return c.transmit(c.h.queued()[:goal-c.sent], nil)
	}
	for c.sent < goal {
		if err := c.poll(); err != nil {
			return err
		}
		c.sent = min(c.sent+c.moved, goal)
	}
	return nil
}

// transmitOrKeep is transmit that adds to the send buffer what it could not
// send of the pieces, also if the connection panics.
func (c *call) transmitOrKeep(pieces [][]byte) error {
	head := c.h.queued()
	defer func() { c.h.keep(max(len(head)-c.sent, 0), pieces, max(c.sent-len(head), 0)) }()
	return c.transmit(head, pieces)
}

// transmit sends the head, which is what was queued, and the pieces through the
// connection's own methods. What was sent of the head is consumed. Sends that
// fail meanwhile may have added to the buffer behind it.
func (c *call) transmit(head []byte, pieces [][]byte) error {
	if c.l.takesVector && (len(head) > 0 && len(pieces) > 0 || len(pieces) > 1) {
		n, err := c.transmitVector(head, pieces)
		c.sent += n
		c.h.consume(min(n, len(head)))
		return err
	}
	if len(head) > 0 {
		n, err := c.transmitOne(head)
		c.h.consume(n)
		if err != nil {
			return err
		}
	}
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		if _, err := c.transmitOne(p); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) transmitOne(p []byte) (int, error) {
	n, err := c.transfer(p)
	c.sent += n
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

// A vector is a list of pieces that the kernel is given at once.
type vector struct {
	all, rest net.Buffers
}

var vectors = sync.Pool{New: func() any { return new(vector) }}

// transmitVector sends the head and the pieces in one vectored write.
func (c *call) transmitVector(head []byte, pieces [][]byte) (int, error) {
	v := vectors.Get().(*vector)
	v.all = append(append(v.all[:0], head), pieces...)
	v.rest = v.all
	size := 0
	for _, p := range v.all {
		size += len(p)
	}
	defer func() {
		clear(v.all)
		vectors.Put(v)
	}()
	if err := c.ready(); err != nil {
		return 0, err
	}
	c.h.enterConn(writing)
	defer c.h.leaveConn()
	n, err := v.rest.WriteTo(c.l.conn)
	return c.result(int(n), size, err)
}
