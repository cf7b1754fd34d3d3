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
// [ErrInvalidArgument] or [net.ErrClosed], also if the time was up before it
// was the call's turn. Bytes that were all sent are never reported as a
// timeout.
//
// It takes [WithTimeout] and [WithContext]. A timeout while writing ends a TLS
// session: see [crypto/tls.Conn.SetWriteDeadline].
func (s *BufferedSocket) Send(data []byte, opts ...Option) (int, error) {
	c := call{request: request{op: "Send"}}
	if err := c.prepare(s, opts, optWait); err != nil {
		return 0, err
	}
	err := s.sendAll(&c, nil, [][]byte{data})
	return c.sent, err
}

// SendBuffers is [BufferedSocket.Send] for data in pieces, which are sent in
// one vectored write where the connection can. bufs is left as it was.
func (s *BufferedSocket) SendBuffers(bufs [][]byte, opts ...Option) (int, error) {
	c := call{request: request{op: "SendBuffers"}}
	if err := c.prepare(s, opts, optWait); err != nil {
		return 0, err
	}
	err := s.sendAll(&c, nil, bufs)
	return c.sent, err
}

// Buffer adds a copy of data to the send buffer, which the next Send, Flush or
// Write sends first. It waits for its turn within the timeout of the socket;
// if it fails, nothing was added.
func (s *BufferedSocket) Buffer(data []byte) error {
	h := &s.send
	h.mu.Lock()
	if h.idle() {
		h.add(data)
		h.mu.Unlock()
		return nil
	}
	h.mu.Unlock()
	c := call{request: request{op: "Buffer", timeout: s.Timeout()}}
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	if err != nil {
		return s.explain(&c, h, err, want{})
	}
	h.add(data)
	return nil
}

// Flush sends the send buffer. If it fails, the unsent bytes are still there,
// and Flush goes on from there. It takes [WithTimeout] and [WithContext]. A
// timeout while writing ends a TLS session.
func (s *BufferedSocket) Flush(opts ...Option) error {
	c := call{request: request{op: "Flush"}}
	if err := c.prepare(s, opts, optWait); err != nil {
		return err
	}
	h := &s.send
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	if err == nil {
		err = s.drain(&c)
	}
	return s.explain(&c, h, err, want{})
}

// SendBuffer returns a copy of the send buffer: bytes that have been given to
// Buffer, or to a Send that failed, and have not been sent. It does not wait
// for a blocked call.
func (s *BufferedSocket) SendBuffer() []byte { return s.send.snapshot() }

// Write implements [net.Conn]: it sends the send buffer and then p, of which
// nothing is kept. It returns how many bytes of p were sent. Only the write
// deadline bounds it; errors are those of the connection, a timeout included,
// or a *TimeoutError if the connection was not asked because the deadline had
// passed.
func (s *BufferedSocket) Write(p []byte) (int, error) {
	c := call{request: request{op: "Write", timeout: NoTimeout}}
	h := &s.send
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	before := h.data.len()
	if err == nil {
		err = s.transmit(&c, [][]byte{p})
	}
	return max(c.sent-before, 0), s.explainConn(&c, h, err)
}

// ReadFrom implements [io.ReaderFrom]: it sends the send buffer and then what r
// returns until its end. To TCP and Unix sockets the kernel copies where it
// can. Only the write deadline bounds it, but neither that nor Close ends a
// read of r; other sends wait while r is read. If it fails, what was taken from
// r and not sent is not kept.
func (s *BufferedSocket) ReadFrom(r io.Reader) (int64, error) {
	c := call{request: request{op: "ReadFrom", timeout: NoTimeout}}
	h := &s.send
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	for err == nil && h.data.len() > 0 { // not only what was there at first
		err = s.drain(&c)
	}
	if err == nil && s.handshake != nil {
		err = s.begin(&c, h)
	}
	if err != nil {
		return 0, s.explainConn(&c, h, err)
	}
	return s.unlockedCopy(&c, h, s.conn, r)
}

// sendAll sends the send buffer, the header and the pieces. Of the pieces it
// keeps what it could not send; the header is copied in any case.
func (s *BufferedSocket) sendAll(c *call, header []byte, pieces [][]byte) error {
	h := &s.send
	err := s.enter(c, h)
	defer s.leave(c, h)
	if err != nil {
		h.keep(h.data.len(), [][]byte{header}, 0)
		h.keep(h.data.len(), pieces, 0)
		return s.explain(c, h, err, want{})
	}
	h.add(header)
	size := h.data.len()
	for _, p := range pieces {
		size += len(p)
	}
	limit := copySizeNoVector
	if takesVector(s.conn) {
		limit = copySize
	}
	if size <= limit || c.timeout == 0 && h.try != nil {
		for _, p := range pieces {
			h.add(p)
		}
		err = s.drain(c)
	} else {
		err = s.transmitOrKeep(c, pieces)
	}
	return s.explain(c, h, err, want{})
}

// add appends a copy of p to the buffer. The caller has the turn.
func (h *half) add(p []byte) {
	if len(p) == 0 {
		return
	}
	if h.data == nil {
		h.data = newBuffer(max(len(p), copySize))
	}
	h.data.append(p)
}

// keep adds a copy of the pieces, without their first sent bytes, behind the
// first at bytes of the buffer. Another call may have the turn, and be writing
// the bytes that are there.
func (h *half) keep(at int, pieces [][]byte, sent int) {
	unsent := -sent
	for _, p := range pieces {
		unsent += len(p)
	}
	if h.closed || unsent <= 0 {
		return
	}
	if h.data == nil {
		h.data = newBuffer(unsent)
	}
	space := h.data.insert(at, unsent)
	for _, p := range pieces {
		n := min(sent, len(p))
		sent -= n
		space = space[copy(space, p[n:]):]
	}
}

// drain sends what is in the send buffer now.
func (s *BufferedSocket) drain(c *call) error {
	h := &s.send
	if h.try == nil {
		return s.transmit(c, nil)
	}
	// A try may go beyond the goal, if another send has failed in the meantime.
	goal := c.sent + h.data.len()
	for c.sent < goal {
		if err := s.poll(c, h); err != nil {
			return err
		}
		c.sent = min(c.sent+int(h.moved), goal)
	}
	return nil
}

// transmitOrKeep is transmit that adds to the send buffer what it could not
// send of the pieces, also if the connection panics.
func (s *BufferedSocket) transmitOrKeep(c *call, pieces [][]byte) error {
	before := s.send.data.len()
	defer func() { s.send.keep(max(before-c.sent, 0), pieces, max(c.sent-before, 0)) }()
	return s.transmit(c, pieces)
}

// transmit sends the send buffer and the pieces through the connection's own
// methods. What was sent of the buffer is consumed.
func (s *BufferedSocket) transmit(c *call, pieces [][]byte) error {
	h := &s.send
	head := h.data.len()
	if takesVector(s.conn) && (head > 0 && len(pieces) > 0 || len(pieces) > 1) {
		n, err := s.transmitVector(c, pieces)
		c.sent += n
		h.data.consume(min(n, head))
		return err
	}
	if head > 0 {
		n, err := s.transmitOne(c, h.data.bytes())
		h.data.consume(n)
		if err != nil {
			return err
		}
	}
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		if _, err := s.transmitOne(c, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *BufferedSocket) transmitOne(c *call, p []byte) (int, error) {
	n, err := s.transfer(c, &s.send, p)
	c.sent += n
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

// takesVector reports whether conn has a vectored write.
func takesVector(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// A vector is a list of pieces that the kernel is given at once.
type vector struct {
	all, rest net.Buffers
}

var vectors = sync.Pool{New: func() any { return new(vector) }}

// transmitVector sends the send buffer and the pieces in one vectored write.
func (s *BufferedSocket) transmitVector(c *call, pieces [][]byte) (int, error) {
	h := &s.send
	v := vectors.Get().(*vector)
	v.all = append(append(v.all[:0], h.data.bytes()), pieces...)
	size := 0
	for _, p := range v.all {
		size += len(p)
	}
	defer func() {
		clear(v.all)
		vectors.Put(v)
	}()
	if err := s.begin(c, h); err != nil {
		return 0, err
	}
	n, err := s.unlockedVector(v)
	return s.judge(c, h, n, size, err)
}

// unlockedVector lets go of the lock for the vectored write.
func (s *BufferedSocket) unlockedVector(v *vector) (int, error) {
	conn := s.conn
	s.send.mu.Unlock()
	defer s.send.mu.Lock()
	v.rest = v.all
	n, err := v.rest.WriteTo(conn)
	return int(n), err
}
