package bufsock

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"net"
	"runtime"
	"slices"
)

// directSize is how much of a message must still be missing for RecvSize to
// read it straight into the caller's memory.
const directSize = 16 << 10

// maxEmptyReads is how many reads in a row may return neither bytes nor an
// error, as in bufio.
const maxEmptyReads = 100

// Recv returns at least 1 and at most size bytes: those in the receive buffer,
// else those of one read of the connection, the rest of which is buffered.
//
// At the end of the stream the error is [io.EOF] itself, every time, and not a
// *ConnectionClosedError, because no message can have been cut. Recv of
// size 0 returns an empty slice at once. It takes [WithTimeout], [WithContext]
// and [AppendTo]. A call that fails has consumed nothing.
func (s *BufferedSocket) Recv(size int, opts ...Option) ([]byte, error) {
	c := call{request: request{op: "Recv"}}
	if err := c.prepareSize(s, size, opts); err != nil {
		return c.dst, err
	}
	h := &s.recv
	if size == 0 {
		return c.empty(h)
	}
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	for ; err == nil; err = s.fill(&c) {
		if n := min(size, h.data.len()); n > 0 {
			return c.take(h.data, n, n), nil
		}
	}
	if err == io.EOF {
		return c.dst, io.EOF
	}
	return c.dst, s.explain(&c, h, err, want{})
}

// RecvSize returns exactly size bytes. The max size does not apply, because
// the caller named the size; memory is allocated as the bytes come.
//
// It returns a *ConnectionClosedError if the stream ends before. RecvSize of 0
// returns an empty slice at once. It takes [WithTimeout], [WithContext] and
// [AppendTo]; a large message is read straight into dst if it has room. A call
// that fails has consumed nothing: what has come is in the receive buffer, and
// the same call goes on.
func (s *BufferedSocket) RecvSize(size int, opts ...Option) ([]byte, error) {
	r := request{op: "RecvSize"}
	if err := r.prepareSize(s, size, opts); err != nil {
		return r.dst, err
	}
	h := &s.recv
	if size == 0 {
		return r.empty(h)
	}
	h.mu.Lock()
	if h.idle() && h.data.len() >= size {
		msg := r.take(h.data, size, size)
		h.unlock()
		return msg, nil
	}
	h.mu.Unlock()
	return s.awaitSize(&r, size)
}

func (s *BufferedSocket) awaitSize(r *request, size int) ([]byte, error) {
	c := call{request: *r}
	h := &s.recv
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	for ; err == nil; err = s.fill(&c) {
		missing := size - h.data.len()
		if missing <= 0 {
			return c.take(h.data, size, size), nil
		}
		if missing >= directSize && cap(c.dst)-len(c.dst) >= size && c.timeout != 0 && !c.canceled() {
			if err = s.fillDirect(&c, size); err == nil {
				return c.dst[:len(c.dst)+size], nil
			}
			if err != errTimeUp || h.try == nil {
				break
			}
			// The time is up, but fill can look for what has arrived.
		}
	}
	return c.dst, s.explain(&c, h, err, want{kind: wantSize, size: size})
}

// RecvUntil returns the bytes before the next delimiter and consumes both. With
// [WithDelimiter] it returns the delimiter, too.
//
// If no delimiter ends within the first max-size bytes it returns a
// *MessageTooLongError, as soon as that is certain; if the stream ends before a
// delimiter, a *ConnectionClosedError. It takes [WithTimeout], [WithContext],
// [WithMaxSize], [WithDelimiter] and [AppendTo]. A call that fails has consumed
// nothing, and the same call goes on with the search where it was.
func (s *BufferedSocket) RecvUntil(delim []byte, opts ...Option) ([]byte, error) {
	r := request{op: "RecvUntil"}
	if err := r.prepare(s, opts, optMessage|optMaxSize|optDelimiter); err != nil {
		return r.dst, err
	}
	return s.recvUntil(&r, delim)
}

func (s *BufferedSocket) recvUntil(r *request, delim []byte) ([]byte, error) {
	if len(delim) == 0 {
		return r.dst, invalid(r.op, "empty delimiter")
	}
	h := &s.recv
	h.mu.Lock()
	if b := h.data; h.idle() && b != nil && b.searched == 0 {
		// Mostly the first byte of the delimiter is where it begins.
		data := b.head(r.limit())
		if i := bytes.IndexByte(data, delim[0]); i >= 0 && begins(data[i:], delim) {
			n := i + len(delim)
			if r.keepDelim {
				i = n
			}
			msg := r.deliver(data[:i])
			b.consume(n)
			if b.wasteful() {
				h.tidy()
			}
			h.mu.Unlock()
			return msg, nil
		}
	}
	h.mu.Unlock()
	return s.awaitUntil(r, delim)
}

func (s *BufferedSocket) awaitUntil(r *request, delim []byte) ([]byte, error) {
	c := call{request: *r}
	h := &s.recv
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	limit := c.limit()
	from := h.data.resume(delim)
	for ; err == nil; err = s.fill(&c) {
		data := h.data.head(limit)
		start := min(from, len(data))
		if i := bytes.Index(data[start:], delim); i >= 0 {
			return c.takeMessage(h.data, start+i, len(delim)), nil
		}
		if !canStillEnd(data, delim, limit) {
			err = s.tooLong(&c, bytes.Clone(delim))
			break
		}
		from = max(from, len(data)-len(delim)+1)
	}
	if h.data.suspend(searchOne, from) {
		h.data.key = append(h.data.key, delim...)
	}
	return c.dst, s.explain(&c, h, err, wantDelim(delim))
}

// begins is bytes.HasPrefix for a prefix of a few bytes.
func begins(data, prefix []byte) bool {
	if len(data) < len(prefix) {
		return false
	}
	for i, b := range prefix {
		if data[i] != b {
			return false
		}
	}
	return true
}

// canStillEnd reports whether delim, of which there is no match in data, can
// end within the first limit bytes of a stream that begins with data.
func canStillEnd(data, delim []byte, limit int) bool {
	last := limit - len(delim) // where a match may begin at the latest; below zero: nowhere
	if last >= len(data) {
		return true
	}
	for i := max(0, len(data)-len(delim)+1); i <= last; i++ {
		if bytes.HasPrefix(delim, data[i:]) {
			return true
		}
	}
	return false
}

// RecvUntilAny is [BufferedSocket.RecvUntil] for the delimiter that comes first
// of several, and says which: its index in delims. That is the match that ends
// first, and of those that end together the longest. If it fails, which is -1.
func (s *BufferedSocket) RecvUntilAny(delims [][]byte, opts ...Option) (msg []byte, which int, err error) {
	c := call{request: request{op: "RecvUntilAny"}}
	if err := c.prepare(s, opts, optMessage|optMaxSize|optDelimiter); err != nil {
		return c.dst, -1, err
	}
	if len(delims) == 0 {
		return c.dst, -1, invalid(c.op, "no delimiter")
	}
	for _, d := range delims {
		if len(d) == 0 {
			return c.dst, -1, invalid(c.op, "empty delimiter")
		}
	}
	h := &s.recv
	err = s.enter(&c, h)
	defer s.leave(&c, h)
	limit := c.limit()
	m := newMatcher(delims)
	from := 0
	if h.data.suspended(searchAny) && m.isKey(h.data.key) {
		from = h.data.searched
	}
	for ; err == nil; err = s.fill(&c) {
		data := h.data.bytes()
		data = data[:min(len(data), limit)]
		if end, which := m.find(data, from); which >= 0 {
			n := len(delims[which])
			return c.takeMessage(h.data, end-n, n), which, nil
		}
		from = max(from, len(data))
		if !m.canStillEnd(data, limit) {
			err = s.tooLong(&c, nil)
			break
		}
	}
	if h.data.suspend(searchAny, from) {
		h.data.key = m.appendKey(h.data.key)
	}
	return c.dst, -1, s.explain(&c, h, err, want{kind: wantAny, size: len(delims)})
}

// A matcher finds the first of several delimiters.
type matcher struct {
	delims [][]byte
	last   [4]uint64 // the set of their last bytes
}

func newMatcher(delims [][]byte) matcher {
	m := matcher{delims: delims}
	for _, d := range delims {
		b := d[len(d)-1]
		m.last[b>>6] |= 1 << (b & 63)
	}
	return m
}

// find returns where the first match ends that ends behind from.
func (m *matcher) find(data []byte, from int) (end, which int) {
	for i := from; i < len(data); i++ {
		b := data[i]
		if m.last[b>>6]&(1<<(b&63)) == 0 {
			continue
		}
		if which = m.longestAt(data[:i+1]); which >= 0 {
			return i + 1, which
		}
	}
	return 0, -1
}

// longestAt returns the longest delimiter that data ends with, or -1.
func (m *matcher) longestAt(data []byte) int {
	which, n := -1, 0
	for i, d := range m.delims {
		if len(d) > n && bytes.HasSuffix(data, d) {
			which, n = i, len(d)
		}
	}
	return which
}

func (m *matcher) canStillEnd(data []byte, limit int) bool {
	return slices.ContainsFunc(m.delims, func(d []byte) bool { return canStillEnd(data, d, limit) })
}

// appendKey appends what tells this search from others: the delimiters, each
// with its length before it.
func (m *matcher) appendKey(key []byte) []byte {
	for _, d := range m.delims {
		key = append(binary.AppendUvarint(key, uint64(len(d))), d...)
	}
	return key
}

// isKey reports whether key is the key of this search.
func (m *matcher) isKey(key []byte) bool {
	for _, d := range m.delims {
		n, k := binary.Uvarint(key)
		if n != uint64(len(d)) || !bytes.HasPrefix(key[k:], d) {
			return false
		}
		key = key[k+len(d):]
	}
	return len(key) == 0
}

// RecvSplit returns the next token that split finds, and consumes what split
// advances over. It serves for everything that is not a delimiter or a size:
// [bufio.ScanWords], a regular expression, a framing of one's own.
//
// split is called as a [bufio.Scanner] calls it, with the bytes received so
// far, but never more than max-size of them; atEOF is true only at the end of
// the stream, never on a timeout. What it skips before a token is consumed with
// the token, and shown again only if the call fails and is made again. split
// runs without a lock but in the turn of this call, so it must not receive from
// the socket itself. What it is shown is valid until it returns; a token is
// copied. If it panics, nothing is consumed.
//
// At the end of the stream a token that comes with [bufio.ErrFinalToken], or
// when no byte is left, is the last, and what is left is consumed with it.
//
// If there is no token in the first max-size bytes RecvSplit returns a
// *MessageTooLongError; if the stream ends without one, a
// *ConnectionClosedError; if split returns an error, that error, and
// [bufio.ErrFinalToken] only if there is no token with it; if split advances
// out of the data, an error that matches [bufio.ErrNegativeAdvance] or
// [bufio.ErrAdvanceTooFar]. It takes [WithTimeout], [WithContext],
// [WithMaxSize] and [AppendTo]. A call that fails has consumed nothing.
func (s *BufferedSocket) RecvSplit(split bufio.SplitFunc, opts ...Option) ([]byte, error) {
	c := call{request: request{op: "RecvSplit"}}
	if err := c.prepare(s, opts, optMessage|optMaxSize); err != nil {
		return c.dst, err
	}
	if split == nil {
		return c.dst, invalid(c.op, "nil split function")
	}
	h := &s.recv
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	if c.until == never && c.timeout > 0 {
		c.until = now().plus(c.timeout) // split may take its time
	}
	if err == nil && s.splitEnded {
		return c.dst, s.explain(&c, h, io.EOF, want{kind: wantToken})
	}
	skipped := 0
	for ; err == nil; err = s.fill(&c) {
		msg, err := s.nextToken(&c, split, false, &skipped)
		if msg != nil || err != nil {
			return msg, err
		}
		if n := h.data.len(); n > 0 && n >= c.limit() {
			return c.dst, s.tooLong(&c, nil)
		}
	}
	if err != io.EOF {
		return c.dst, s.explain(&c, h, err, want{kind: wantToken})
	}
	msg, err := s.nextToken(&c, split, true, &skipped)
	if msg == nil && err == nil {
		n := h.data.len()
		return c.dst, &ConnectionClosedError{c.op, n, endOfStream(n > skipped), want{kind: wantToken}}
	}
	return msg, err
}

// nextToken asks split for a token, behind the bytes that it has skipped, and
// takes both. Without a token it returns neither a message nor an error.
func (s *BufferedSocket) nextToken(c *call, split bufio.SplitFunc, atEOF bool, skipped *int) (msg []byte, err error) {
	h := &s.recv
	data := h.data.bytes()
	if data == nil {
		data = []byte{} // as split may return it as an empty token
	}
	n := min(len(data), c.limit())
	data = data[:n:n] // what split appends must not overwrite the bytes behind
	for *skipped < n || atEOF {
		advance, token, err := s.unlockedSplit(c, split, data[*skipped:], atEOF)
		final := err == bufio.ErrFinalToken && token != nil
		if final {
			err = nil
		}
		if final && atEOF {
			advance = n - *skipped
		}
		switch {
		case h.closed:
			return c.dst, &closedError{c.op}
		case err != nil:
			return c.dst, err
		case advance < 0:
			return c.dst, badSplit(c.op, bufio.ErrNegativeAdvance)
		case advance > len(data)-*skipped:
			return c.dst, badSplit(c.op, bufio.ErrAdvanceTooFar)
		case token != nil:
			msg := c.deliver(token)
			s.splitEnded = atEOF && (final || *skipped == n)
			h.data.consume(*skipped + advance)
			return msg, nil
		case advance == 0:
			return nil, nil
		}
		*skipped += advance
	}
	return nil, nil
}

func badSplit(op string, err error) error { return &usageError{op, err.Error(), err} }

// unlockedSplit calls split in the turn of the call, without the lock.
func (s *BufferedSocket) unlockedSplit(c *call, split bufio.SplitFunc, data []byte, atEOF bool) (int, []byte, error) {
	c.turn, s.recv.busy = true, true
	s.recv.mu.Unlock()
	defer s.recv.mu.Lock()
	return split(data, atEOF)
}

// RecvClose returns all bytes until the end of the stream. If more than
// max-size bytes come it returns a *MessageTooLongError. It takes
// [WithTimeout], [WithContext], [WithMaxSize] and [AppendTo]. A call that fails
// has consumed nothing.
func (s *BufferedSocket) RecvClose(opts ...Option) ([]byte, error) {
	c := call{request: request{op: "RecvClose"}}
	if err := c.prepare(s, opts, optMessage|optMaxSize); err != nil {
		return c.dst, err
	}
	h := &s.recv
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	for ; err == nil; err = s.fill(&c) {
		if h.data.len() > c.limit() {
			return c.dst, s.tooLong(&c, nil)
		}
	}
	if err == io.EOF {
		n := h.data.len()
		return c.take(h.data, n, n), nil
	}
	return c.dst, s.explain(&c, h, err, want{kind: wantEnd})
}

// Peek returns a copy of the next size bytes and consumes nothing. The max size
// does not apply; size may exceed any buffer, which then grows as the bytes
// come.
//
// It returns a *ConnectionClosedError if the stream ends before. Peek of 0
// returns an empty slice at once; Peek(1, WithTimeout(NonBlocking)) tells a
// closed connection from a quiet one, and Peek(1) waits until there is
// something to receive, which RecvBuffer then shows. It takes [WithTimeout],
// [WithContext] and [AppendTo].
func (s *BufferedSocket) Peek(size int, opts ...Option) ([]byte, error) {
	c := call{request: request{op: "Peek"}}
	if err := c.prepareSize(s, size, opts); err != nil {
		return c.dst, err
	}
	h := &s.recv
	if size == 0 {
		return c.empty(h)
	}
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	for ; err == nil; err = s.fill(&c) {
		if h.data.len() >= size {
			return c.take(h.data, size, 0), nil
		}
	}
	return c.dst, s.explain(&c, h, err, want{kind: wantSize, size: size})
}

// Discard drops the next size bytes, in bounded memory, and returns how many
// it has dropped: on an error, those that came before it. It returns a
// *ConnectionClosedError if the stream ends before, which matches [io.EOF] only
// if nothing was dropped. It takes [WithTimeout] and [WithContext].
func (s *BufferedSocket) Discard(size int, opts ...Option) (int, error) {
	c := call{request: request{op: "Discard"}}
	if err := c.prepare(s, opts, optWait); err != nil {
		return 0, err
	}
	if size < 0 {
		return 0, invalid(c.op, "negative size %d", size)
	}
	h := &s.recv
	if size == 0 {
		return 0, h.isClosed(c.op)
	}
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	n := 0
	for ; err == nil; err = s.fill(&c) {
		n += s.drop(size - n)
		if n == size {
			return n, nil
		}
	}
	return n, s.explainDiscard(&c, n, err, want{kind: wantSize, size: size})
}

// DiscardUntil drops everything up to and with the next delimiter, in bounded
// memory, and returns how many bytes it has dropped, the delimiter included: on
// an error, those that came before it. A beginning of the delimiter at the end
// of what has come stays in the buffer, and the same call goes on.
//
// After a timeout call DiscardUntil again, until it returns no error: RecvUntil
// would take the rest of the message for one.
//
// No max size applies: this is the way past a message that was too long. It
// returns a *ConnectionClosedError if the stream ends before a delimiter, which
// matches [io.EOF] only if nothing came. It takes [WithTimeout] and
// [WithContext].
func (s *BufferedSocket) DiscardUntil(delim []byte, opts ...Option) (int, error) {
	c := call{request: request{op: "DiscardUntil"}}
	if err := c.prepare(s, opts, optWait); err != nil {
		return 0, err
	}
	if len(delim) == 0 {
		return 0, invalid(c.op, "empty delimiter")
	}
	h := &s.recv
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	n := 0
	from := h.data.resume(delim)
	for ; err == nil; err = s.fill(&c) {
		data := h.data.bytes()
		if i := bytes.Index(data[from:], delim); i >= 0 {
			return n + s.drop(from+i+len(delim)), nil
		}
		n += s.drop(len(data) - beginning(data, delim))
		from = 0
	}
	return n, s.explainDiscard(&c, n, err, wantDelim(delim))
}

// beginning returns the length of the longest end of data that delim begins
// with and that is not all of it.
func beginning(data, delim []byte) int {
	n := min(len(data), len(delim)-1)
	for !bytes.HasPrefix(delim, data[len(data)-n:]) {
		n--
	}
	return n
}

// drop consumes at most n bytes and returns how many.
func (s *BufferedSocket) drop(n int) int {
	n = min(n, s.recv.data.len())
	s.recv.data.consume(n)
	return n
}

// explainDiscard is explain for a call that has dropped n bytes.
func (s *BufferedSocket) explainDiscard(c *call, n int, err error, w want) error {
	if err == io.EOF {
		left := s.recv.data.len()
		return &ConnectionClosedError{c.op, left, endOfStream(n+left > 0), w}
	}
	return s.explain(c, &s.recv, err, w)
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
	return func(yield func([]byte, error) bool) {
		s.iterate(opts, optMessage|optMaxSize|optDelimiter, yield, func(r *request) ([]byte, error) {
			return s.recvUntil(r, delim)
		})
	}
}

// iterate yields what receive returns until there is an error or a clean end.
func (s *BufferedSocket) iterate(opts []Option, accept optionKind, yield func([]byte, error) bool, receive func(*request) ([]byte, error)) {
	for {
		r := request{op: "Messages"}
		err := r.prepare(s, opts, accept)
		msg := r.dst
		if err == nil {
			msg, err = receive(&r)
		}
		if isCleanEnd(err) || !yield(msg, err) || err != nil {
			return
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
func (s *BufferedSocket) Buffered() int {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	if s.recv.closed {
		return 0
	}
	return s.recv.data.len()
}

// snapshot returns a copy of the buffered bytes.
func (h *half) snapshot() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return []byte{}
	}
	return append([]byte{}, h.data.bytes()...)
}

// Read implements [net.Conn]: it returns what is in the receive buffer, else
// what one read of the connection puts into p. Only the read deadline bounds
// it. At the end of the stream it returns [io.EOF]; errors are those of the
// connection, a timeout included, or a *TimeoutError if the connection was not
// asked because the deadline had passed.
func (s *BufferedSocket) Read(p []byte) (int, error) {
	c := call{request: request{op: "Read", timeout: NoTimeout}}
	h := &s.recv
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	if err == nil {
		if len(p) == 0 {
			return 0, nil
		}
		if n := copy(p, h.data.bytes()); n > 0 {
			h.data.consume(n)
			return n, nil
		}
		var n int
		if n, err = s.receive(&c, p); err == nil {
			return n, nil
		}
	}
	return 0, s.explainConn(&c, h, err)
}

// explainConn is explain for the methods of net.Conn, which return errors of
// the connection as they are.
func (s *BufferedSocket) explainConn(c *call, h *half, err error) error {
	switch {
	case err == io.EOF:
		return err
	case err == errTimeUp && c.cause != nil:
		return c.cause
	}
	return s.explain(c, h, err, want{})
}

// WriteTo implements [io.WriterTo]: it writes what is in the receive buffer to
// w, and then what comes until the end of the stream, which is no error.
// Between TCP and Unix sockets the kernel copies where it can. Only the read
// deadline bounds it.
//
// Bytes that w did not take stay in the receive buffer. The one exception in
// this package: if a copy that the kernel makes, as Linux can, ends because w
// failed, bytes that were inside the kernel are lost.
func (s *BufferedSocket) WriteTo(w io.Writer) (n int64, err error) {
	c := call{request: request{op: "WriteTo", timeout: NoTimeout}}
	h := &s.recv
	err = s.enter(&c, h)
	defer s.leave(&c, h)
	for err == nil {
		switch {
		case h.data.len() > 0:
			m, err := s.unlockedWriteTo(&c, w)
			n += int64(m)
			if err != nil {
				return n, err
			}
		case s.end == nil && s.raw != nil && s.unlockedKernelCopies(&c, w):
			m, err := s.unlockedCopy(&c, h, w, s.conn)
			s.noteCopy(&c, err)
			return n + m, err
		default:
			err = s.fill(&c)
		}
	}
	if err == io.EOF {
		return n, nil
	}
	return n, s.explainConn(&c, h, err)
}

// unlockedWriteTo writes the receive buffer to w and consumes what w took.
func (s *BufferedSocket) unlockedWriteTo(c *call, w io.Writer) (n int, err error) {
	h := &s.recv
	data := h.data.bytes()
	c.turn, h.busy = true, true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		n = s.drop(n)
	}()
	n, err = w.Write(data)
	if err == nil && n != len(data) {
		err = io.ErrShortWrite
	}
	return max(n, 0), err
}

// noteCopy keeps the error of a copy that the kernel made, if it is a reset of
// this connection and not of the other: then a read finds the stream at its
// end.
func (s *BufferedSocket) noteCopy(c *call, err error) {
	if isReset(err) {
		c.timeout = NonBlocking
		if s.fill(c) == io.EOF {
			s.end = err
		}
	}
}

// unlockedKernelCopies is kernelCopies in the turn of the call, without the
// lock: w may be a socket, even s itself, that wants a lock of its own.
func (s *BufferedSocket) unlockedKernelCopies(c *call, w io.Writer) bool {
	h, conn := &s.recv, s.conn
	c.turn, h.busy = true, true
	h.mu.Unlock()
	defer h.mu.Lock()
	return kernelCopies(conn, w)
}

// kernelCopies reports whether the kernel makes a copy from conn to w. If
// io.Copy made it, bytes that w does not take would be lost.
func kernelCopies(conn net.Conn, w io.Writer) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	switch w := w.(type) {
	case *net.TCPConn:
		return true
	case *net.UnixConn:
		_, fromTCP := conn.(*net.TCPConn)
		return fromTCP && descriptor(w) != nil
	case *BufferedSocket:
		_, toTCP := w.NetConn().(*net.TCPConn)
		return toTCP
	}
	return false
}

// prepareSize prepares a call that is given a size.
func (r *request) prepareSize(s *BufferedSocket, size int, opts []Option) error {
	if err := r.prepare(s, opts, optMessage); err != nil {
		return err
	}
	if size < 0 {
		return invalid(r.op, "negative size %d", size)
	}
	return nil
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

// take returns the first size bytes of b and consumes the first n.
func (r *request) take(b *buffer, size, n int) []byte {
	msg := r.deliver(b.bytes()[:size])
	b.consume(n)
	return msg
}

// takeMessage returns and consumes a message of size bytes and its delimiter.
func (r *request) takeMessage(b *buffer, size, delimiter int) []byte {
	n := size + delimiter
	if r.keepDelim {
		size = n
	}
	return r.take(b, size, n)
}

func (s *BufferedSocket) tooLong(c *call, delim []byte) error {
	return &MessageTooLongError{c.op, c.max, s.recv.data.len(), delim}
}

// space returns memory behind the buffered bytes, for about n more.
func (h *half) space(n int) []byte {
	if h.data == nil {
		h.data = newBuffer(n)
	}
	return h.data.reserve(n)
}

// fill adds at least one byte to the receive buffer, or says why it cannot. It
// lets go of the lock while it waits.
func (s *BufferedSocket) fill(c *call) error {
	if err := s.ended(); err != nil {
		return err
	}
	if s.recv.try != nil {
		return s.note(s.poll(c, &s.recv), false)
	}
	n, err := s.receive(c, s.recv.space(int(s.readSize)))
	s.recv.data.commit(n)
	return err
}

// fillDirect completes a message of size bytes in the room behind dst. If it
// fails, the bytes that came are added to the receive buffer.
func (s *BufferedSocket) fillDirect(c *call, size int) error {
	h := &s.recv
	p := c.dst[len(c.dst) : len(c.dst)+size]
	buffered := h.data.len()
	n := buffered
	defer func() {
		if n == size {
			s.drop(copy(p, h.data.bytes()))
		} else {
			h.add(p[buffered:n])
		}
	}()
	for n < size {
		m, err := s.receive(c, p[n:])
		if err != nil {
			return err
		}
		n += m
	}
	return nil
}

// receive reads at least one byte from the connection into p, or returns an
// error. Bytes that come with an error win; the error comes again.
func (s *BufferedSocket) receive(c *call, p []byte) (int, error) {
	if err := s.ended(); err != nil {
		return 0, err
	}
	for range maxEmptyReads {
		n, err := s.transfer(c, &s.recv, p)
		if err == errClosed {
			return 0, err
		}
		err = s.note(err, n > 0)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// note keeps the error of a read for later if bytes came with it, or if every
// further read must meet it, too. After a reset a kernel reports a regular end
// of the stream, also if it was a send that has met the reset.
func (s *BufferedSocket) note(err error, later bool) error {
	if reset := s.reset.Load(); reset != nil && err == io.EOF {
		err = *reset
	}
	if err != errTimeUp && (later || isFinal(err)) {
		s.end = err
	}
	return err
}

// ended returns the error that was kept.
func (s *BufferedSocket) ended() error {
	err := s.end
	if !isFinal(err) {
		s.end = nil
	}
	return err
}

// isFinal reports whether a connection cannot be read after err.
func isFinal(err error) bool {
	return err == io.EOF || err == io.ErrUnexpectedEOF || errors.Is(err, net.ErrClosed) || isReset(err)
}
