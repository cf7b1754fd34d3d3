package bufsock

import (
	"bufio"
	"bytes"
	"io"
	"iter"
	"slices"
)

// maxEmptyReads is how many reads in a row may return neither bytes nor an
// error, as in bufio.
const maxEmptyReads = 100

// waitSize is how much a read asks for that may have to wait for the first
// byte with its memory in hand.
const waitSize = 512

// Recv returns at least 1 and at most size bytes: those in the receive buffer,
// else those of one read of the connection, the rest of which is buffered.
//
// At the end of the stream the error is [io.EOF] itself, every time, and not a
// *ConnectionClosedError, because no message can have been cut. Recv of
// size 0 returns an empty slice at once. It takes [WithTimeout],
// [WithIdleTimeout], [WithContext], [WithFlush] and [AppendTo]. A call that
// fails has consumed nothing.
func (s *BufferedSocket) Recv(size int, opts ...Option) ([]byte, error) {
	r := request{op: "Recv"}
	if err := r.prepareSize(s, size, opts, optMessage); err != nil {
		return r.dst, err
	}
	if size == 0 {
		return r.empty(&s.recv)
	}
	c, err := s.receive(&r)
	defer c.end()
	if err == nil {
		err = c.await(1)
	}
	if isEnd(err) {
		return r.dst, io.EOF
	}
	if err != nil {
		return r.dst, c.explain(err, want{})
	}
	n := min(size, c.h.data.len())
	return c.take(n, n), nil
}

// RecvSize returns exactly size bytes. The max size of the socket does not
// apply, because the caller named the size; memory is allocated as the bytes
// come. If the call is given [WithMaxSize], a size over that is a
// *MessageTooLongError at once: use it for a size that came from the peer.
//
// It returns a *ConnectionClosedError if the stream ends before. RecvSize of 0
// returns an empty slice at once. It takes [WithTimeout], [WithIdleTimeout],
// [WithContext], [WithMaxSize], [WithFlush] and [AppendTo]; a large message is
// read straight into dst if it has room. A call that fails has consumed
// nothing: what has come is in the receive buffer, and the same call goes on.
func (s *BufferedSocket) RecvSize(size int, opts ...Option) ([]byte, error) {
	msg, c, err := s.sizeAtHand("RecvSize", size, size, opts)
	if c != nil {
		return c.recvSize(size, size)
	}
	return msg, err
}

// sizeAtHand returns a message that is buffered, of which it consumes n bytes, or
// a call to wait for it with.
func (s *BufferedSocket) sizeAtHand(op string, size, n int, opts []Option) ([]byte, *call, error) {
	h := &s.recv
	h.mu.Lock()
	r := request{op: op}
	err := r.prepareSize(s, size, opts, optMessage|optMaxSize)
	switch {
	case err != nil:
		h.mu.Unlock()
		return r.dst, nil, err
	case size == 0:
		h.mu.Unlock()
		msg, err := r.empty(h)
		return msg, nil, err
	case h.isOpen() && size > r.limit():
		defer h.mu.Unlock()
		return r.dst, nil, &MessageTooLongError{op, r.max, h.buffered(), nil}
	case h.isIdle() && h.data.len() >= size:
		msg := r.deliver(h.data.bytes()[:size])
		h.data.consume(n)
		h.unlock()
		return msg, nil, nil
	}
	return nil, s.unlockToWait(&r, h), nil
}

// Peek returns a copy of the next size bytes and consumes nothing. The max size
// of the socket does not apply; size may exceed any buffer, which then grows as
// the bytes come. If the call is given [WithMaxSize], a size over that is a
// *MessageTooLongError at once.
//
// It returns a *ConnectionClosedError if the stream ends before. Peek of 0
// returns an empty slice at once; Peek(1, WithTimeout(NonBlocking)) tells a
// closed connection from a quiet one, and Peek(1) waits until there is
// something to receive, which RecvBuffer then shows. It takes [WithTimeout],
// [WithIdleTimeout], [WithContext], [WithMaxSize], [WithFlush] and [AppendTo].
func (s *BufferedSocket) Peek(size int, opts ...Option) ([]byte, error) {
	msg, c, err := s.sizeAtHand("Peek", size, 0, opts)
	if c != nil {
		return c.recvSize(size, 0)
	}
	return msg, err
}

// recvSize returns the first size bytes and consumes n, which is all of them or
// none.
func (c *call) recvSize(size, n int) ([]byte, error) {
	defer c.end()
	err := c.enter()
	if err == nil {
		err = c.awaitSize(size, n)
	}
	if err != nil {
		return c.dst, c.explain(err, want{kind: wantSize, size: size})
	}
	return c.take(size, n), nil
}

func (c *call) awaitSize(size, n int) error {
	if n > 0 {
		if err := c.readDirect(0, size); err != nil {
			return err
		}
	}
	return c.await(size - c.h.direct.len())
}

// RecvUntil returns the bytes before the next delimiter and consumes both. With
// [WithDelimiter] it returns the delimiter, too.
//
// If no delimiter ends within the first max-size bytes it returns a
// *MessageTooLongError, as soon as that is certain; if the stream ends before a
// delimiter, a *ConnectionClosedError. It takes [WithTimeout],
// [WithIdleTimeout], [WithContext], [WithMaxSize], [WithDelimiter], [WithFlush]
// and [AppendTo]; a large message is read straight into dst if it has room. A
// call that fails has consumed nothing, and the same call goes on with the
// search where it was.
func (s *BufferedSocket) RecvUntil(delim []byte, opts ...Option) ([]byte, error) {
	msg, c, err := s.untilAtHand("RecvUntil", delim, opts)
	if c != nil {
		return c.recvUntil(delim)
	}
	return msg, err
}

// untilAtHand returns a message that is buffered, or a call to wait for it with.
func (s *BufferedSocket) untilAtHand(op string, delim []byte, opts []Option) ([]byte, *call, error) {
	h := &s.recv
	h.mu.Lock() // first, because a lock waits for what was written before
	r := request{op: op}
	err := r.prepare(s, opts, optMessage|optMaxSize|optDelimiter)
	if err == nil && len(delim) == 0 {
		err = invalid(op, "empty delimiter")
	}
	if err != nil {
		h.mu.Unlock()
		return r.dst, nil, err
	}
	if b := h.data; h.isIdle() && b != nil && b.searched == 0 {
		// Mostly the first byte of the delimiter is where it begins.
		data := b.head(r.limit())
		if i := bytes.IndexByte(data, delim[0]); i >= 0 && begins(data[i:], delim) {
			n := i + len(delim)
			if r.given&optDelimiter != 0 {
				i = n
			}
			msg := r.deliver(data[:i])
			b.consume(n)
			if b.wasteful() {
				h.tidy()
			}
			h.mu.Unlock()
			return msg, nil, nil
		}
	}
	return nil, s.unlockToWait(&r, h), nil
}

func (c *call) recvUntil(delim []byte) ([]byte, error) {
	defer c.end()
	i := 0
	err := c.enter()
	if err == nil {
		i, err = c.awaitDelimiter(0, delim)
	}
	if err != nil {
		return c.dst, c.explainUntil(err, delim)
	}
	return c.takeMessage(i, len(delim)), nil
}

// RecvUntilAny is [BufferedSocket.RecvUntil] for the delimiter that comes first
// of several, and says which: its index in delims. That is the match that ends
// first, and of those that end together the longest. If it fails, which is -1.
//
// So of "\r", "\n" and "\r\n" the last never matches, as "\r" ends before it.
// For any line end search for "\n" alone and cut a "\r" off.
func (s *BufferedSocket) RecvUntilAny(delims [][]byte, opts ...Option) (msg []byte, which int, err error) {
	r := request{op: "RecvUntilAny"}
	if err := r.prepare(s, opts, optMessage|optMaxSize|optDelimiter); err != nil {
		return r.dst, -1, err
	}
	if err := checkDelimiters(r.op, delims); err != nil {
		return r.dst, -1, err
	}
	c, err := s.receive(&r)
	defer c.end()
	end := 0
	if err == nil {
		end, which, err = c.awaitAny(0, delims)
	}
	if err != nil {
		return r.dst, -1, c.explain(err, want{kind: wantAny, size: len(delims)})
	}
	n := len(delims[which])
	return c.takeMessage(end-n, n), which, nil
}

// RecvClose returns all bytes until the end of the stream. If more than
// max-size bytes come it returns a *MessageTooLongError. It takes
// [WithTimeout], [WithIdleTimeout], [WithContext], [WithMaxSize], [WithFlush]
// and [AppendTo]. A call that fails has consumed nothing.
//
// A connection that was broken off is no end of the stream: its error is
// returned, every time. But on TLS a peer that closes the connection without
// saying so first, at the edge of a record, cannot be told from one that has
// ended: crypto/tls reports [io.EOF] for both. Where it matters the protocol
// must say where a message ends.
func (s *BufferedSocket) RecvClose(opts ...Option) ([]byte, error) {
	r := request{op: "RecvClose"}
	if err := r.prepare(s, opts, optMessage|optMaxSize); err != nil {
		return r.dst, err
	}
	c, err := s.receive(&r)
	defer c.end()
	if err == nil {
		err = c.awaitEnd()
	}
	if err != nil {
		return r.dst, c.explain(err, want{kind: wantEnd})
	}
	n := c.h.data.len()
	return c.take(n, n), nil
}

// Discard drops the next size bytes, in bounded memory, and returns how many
// it has dropped: on an error, those that came before it. It returns a
// *ConnectionClosedError if the stream ends before, which matches [io.EOF] only
// if nothing was dropped. It takes [WithTimeout], [WithIdleTimeout],
// [WithContext] and [WithFlush].
func (s *BufferedSocket) Discard(size int, opts ...Option) (int, error) {
	r := request{op: "Discard"}
	if err := r.prepareSize(s, size, opts, optReceive); err != nil {
		return 0, err
	}
	if size == 0 {
		return 0, s.recv.isClosed(r.op)
	}
	c, err := s.receive(&r)
	defer c.end()
	n := 0
	for ; err == nil; err = c.fill() {
		n += c.drop(size - n)
		if n == size {
			return n, nil
		}
	}
	return n, c.explainDiscard(n, err, want{kind: wantSize, size: size})
}

// DiscardUntil drops everything up to and with the next delimiter, in bounded
// memory, and returns how many bytes it has dropped, the delimiter included: on
// an error, those that came before it. A beginning of the delimiter at the end
// of what has come stays in the buffer, and the same call goes on. A number
// over [math.MaxInt] is returned as that.
//
// After a timeout call DiscardUntil again, until it returns no error: RecvUntil
// would take the rest of the message for one.
//
// No max size applies: this is the way past a message that was too long. It
// returns a *ConnectionClosedError if the stream ends before a delimiter, which
// matches [io.EOF] only if nothing came. It takes [WithTimeout],
// [WithIdleTimeout], [WithContext] and [WithFlush].
func (s *BufferedSocket) DiscardUntil(delim []byte, opts ...Option) (int, error) {
	r := request{op: "DiscardUntil"}
	if err := r.prepare(s, opts, optReceive); err != nil {
		return 0, err
	}
	if len(delim) == 0 {
		return 0, invalid(r.op, "empty delimiter")
	}
	c, err := s.receive(&r)
	defer c.end()
	n, from := 0, 0
	if err == nil {
		from = c.h.data.resume(0, delim)
	}
	for ; err == nil; err = c.fill() {
		data := c.h.data.bytes()
		if i := bytes.Index(data[from:], delim); i >= 0 {
			return plus(n, c.drop(from+i+len(delim))), nil
		}
		n = plus(n, c.drop(len(data)-beginning(data, delim)))
		from = 0
	}
	return n, c.explainDiscard(n, err, wantDelim(delim))
}

// explainDiscard is explain for a call that has dropped n bytes.
func (c *call) explainDiscard(n int, err error, w want) error {
	explained := c.explain(err, w)
	if e, ok := explained.(*ConnectionClosedError); ok && n > 0 {
		e.Err = io.ErrUnexpectedEOF
	}
	return explained
}

// Messages returns an iterator over the messages that end in delim. Each step
// is one [BufferedSocket.RecvUntil] with opts, with a timeout of its own; with
// [AppendTo] each message is appended to the same dst and is valid until the
// next step.
//
// The end of the stream after a message ends the loop. Anything else is yielded
// as an error, once, and ends the loop: also an unfinished message at the end
// of the stream, as a *ConnectionClosedError; its bytes stay in the buffer.
// Ranging again goes on where the loop stopped; after a *MessageTooLongError
// call DiscardUntil first.
func (s *BufferedSocket) Messages(delim []byte, opts ...Option) iter.Seq2[[]byte, error] {
	delim, opts = bytes.Clone(delim), slices.Clone(opts)
	return iterate(func() ([]byte, bool, error) {
		msg, c, err := s.untilAtHand("Messages", delim, opts)
		if c != nil {
			msg, err = c.recvUntil(delim)
		}
		return msg, false, err
	})
}

// iterate yields what receive returns until it says that there is no more, or
// there is an error or a clean end.
func iterate(receive func() (msg []byte, final bool, err error)) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			msg, final, err := receive()
			if isCleanEnd(err) || err == bufio.ErrFinalToken || !yield(msg, err) || err != nil || final {
				return
			}
		}
	}
}

// isCleanEnd reports whether the stream ended between messages.
func isCleanEnd(err error) bool {
	e, ok := err.(*ConnectionClosedError)
	return ok && e.Err == io.EOF
}

// RecvBuffer returns a copy of the receive buffer: bytes that have been
// received and not yet consumed. It does not wait for a blocked call.
func (s *BufferedSocket) RecvBuffer() []byte { return s.recv.snapshot() }

// Buffered returns the number of bytes in the receive buffer. It does not wait
// for a blocked call.
func (s *BufferedSocket) Buffered() int { return s.recv.size() }

// size returns how many bytes are buffered.
func (h *half) size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.Load() == closed {
		return 0
	}
	return h.buffered()
}

// buffered is size for who has the lock, or the turn.
func (h *half) buffered() int { return h.data.len() + h.direct.len() }

// snapshot returns a copy of the buffered bytes.
func (h *half) snapshot() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.Load() == closed {
		return []byte{}
	}
	data := h.data.bytes()
	if d := h.direct; d != nil {
		return slices.Concat(data[:d.at], d.p, data[d.at:])
	}
	return append([]byte{}, data...)
}

// receive returns a call that has the turn to receive, or one that could not get
// it, with the reason. end must follow in any case.
func (s *BufferedSocket) receive(r *request) (*call, error) {
	c := s.newCall(r, &s.recv)
	return c, c.enter()
}

// end ends a call.
func (c *call) end() {
	defer c.release()
	if c.l != nil {
		c.leave()
	}
}

// await returns once n bytes are in the buffer.
func (c *call) await(n int) error {
	for c.h.data.len() < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// awaitEnd returns once all bytes until the end of the stream are there.
func (c *call) awaitEnd() error {
	for {
		if c.h.data.len() > c.limit() {
			return c.tooLong(nil)
		}
		if err := c.fill(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// fill adds at least one byte to the receive buffer, or says why it cannot.
func (c *call) fill() (err error) {
	if err := c.goOn(); err != nil {
		return err
	}
	if err := c.kept(); err != nil {
		return err
	}
	if c.h.data != nil && c.h.data.len() == 0 && c.h.direct == nil {
		c.h.giveBack() // while it waits
	}
	if c.l.polls {
		err = c.poll()
	} else {
		err = c.readMore()
	}
	if err == nil && c.idling {
		c.begin()
	}
	return err
}

// readMore reads from the connection into the receive buffer. A wait for the
// first byte holds little memory. If that was not enough more has come, perhaps,
// and is read at once; in a stream there mostly is more.
func (c *call) readMore() error {
	size := int(c.s.readSize.Load())
	switch mayWait := c.timeout != 0 && !c.out; {
	case c.h.data.len() > 0 || c.l.filled >= size || c.l.filled > 0 && !mayWait:
		return c.readInto(size, c.read)
	case c.l.filled > 0:
		if err := c.readInto(size, c.glance); err != errTimeUp {
			return err
		}
		c.h.giveBack()
	}
	return c.readInto(min(size, waitSize), c.read)
}

// readInto adds to the receive buffer what the function reads of so many bytes.
func (c *call) readInto(size int, read func([]byte) (int, error)) error {
	n, err := read(c.h.space(size))
	c.h.commit(n)
	return err
}

// giveBack gives memory back that is not needed.
func (h *half) giveBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data = h.data.tidy()
}

// space returns memory behind the buffered bytes, for n more.
func (h *half) space(n int) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.data == nil {
		h.data = newBuffer(n)
	}
	return h.data.reserve(n)
}

// commit adds n bytes that were written to the space.
func (h *half) commit(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.data.commit(n)
}

// read reads at least one byte from the connection into p, or returns an error.
func (c *call) read(p []byte) (int, error) {
	c.flushed = false
	for range maxEmptyReads {
		n, err := c.transfer(p)
		if err == errUnsent {
			n, err = c.readOrFlush(p)
		}
		if n == 0 && err == errTimeUp && c.mayLook() {
			n, err = c.transfer(p)
		}
		if n > 0 || err != nil {
			if n > 0 && err != errClosed {
				err = nil
			}
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// empty returns an empty message without waiting for the turn.
func (r *request) empty(h *half) ([]byte, error) {
	if err := h.isClosed(r.op); err != nil {
		return r.dst, err
	}
	return r.deliver(nil), nil
}

// deliver makes the message the caller's own.
func (r *request) deliver(msg []byte) []byte {
	if r.dst != nil {
		return append(r.dst, msg...)
	}
	own := make([]byte, len(msg))
	copy(own, msg)
	return own
}

// take returns the first size bytes and consumes the first n, which is all of
// them or more, or none. It is the last that a call does.
func (c *call) take(size, n int) []byte {
	return c.takePart(0, size, n)
}

// takePart returns size bytes from the place at and consumes the first n.
func (c *call) takePart(at, size, n int) []byte {
	c.consume(n)
	data := c.h.data
	switch {
	case c.h.direct != nil:
		return c.takeDirect(at, size)
	case c.dst == nil && data.mayHandOut(size):
		c.h.mu.Lock()
		defer c.h.mu.Unlock()
		c.taken = 0
		return data.handOut(at, size, n)
	}
	return c.deliver(data.bytes()[at : at+size])
}

// takeMessage returns and consumes a message of size bytes and its delimiter.
func (c *call) takeMessage(size, delimiter int) []byte {
	n := size + delimiter
	if c.given&optDelimiter != 0 {
		size = n
	}
	return c.take(size, n)
}

// drop consumes at most n bytes and returns how many.
func (c *call) drop(n int) int {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	n = min(n, c.h.data.len())
	c.h.data.consume(n)
	return n
}

func (c *call) tooLong(delim []byte) error {
	return &MessageTooLongError{c.op, c.limit(), c.h.size(), delim}
}
