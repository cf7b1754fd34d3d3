package bufsock

import (
	"bufio"
	"iter"
	"slices"
)

// RecvSplit returns the next token that split finds, and consumes what split
// advances over. It serves for everything that is not a delimiter or a size:
// [bufio.ScanWords], a regular expression, a framing of one's own. For a
// message of several parts [BufferedSocket.RecvFunc] is simpler and does not
// begin at its first byte again with every read.
//
// split is called as a [bufio.Scanner] calls it, with the bytes received so
// far, but never more than max-size of them; atEOF is true only at the end of
// the stream, never on a timeout. The same bytes are shown to it from the same
// place, with more behind them, until it returns a token, also after a call
// that failed. What it skips before a token is consumed with the token. A token
// with an advance of 0 is a look at it: nothing is consumed. split runs without
// a lock but in the turn of this call, so it must not receive from the socket
// itself. What it is shown is valid until it returns; a token is copied. If it
// panics, nothing is consumed. The timeout begins when split has found no token
// in what is there, so that one at hand costs no look at the clock.
//
// A token need not be one message: a split function that advances over all
// whole lines at hand, and returns them as one token, makes one call of many
// messages.
//
// At the end of the stream a token that comes with [bufio.ErrFinalToken], or
// when no byte is left, is the last, and what is left is consumed with it.
//
// If there is no token in the first max-size bytes RecvSplit returns a
// *MessageTooLongError; if the stream ends without one, a
// *ConnectionClosedError; if split returns an error, that error, and
// [bufio.ErrFinalToken] only if there is no token with it; if split advances
// out of the data, an error that matches [bufio.ErrNegativeAdvance] or
// [bufio.ErrAdvanceTooFar]. It takes [WithTimeout], [WithIdleTimeout],
// [WithContext], [WithMaxSize], [WithFlush] and [AppendTo]. A call that fails
// has consumed nothing.
func (s *BufferedSocket) RecvSplit(split bufio.SplitFunc, opts ...Option) ([]byte, error) {
	msg, _, err := s.recvSplit("RecvSplit", split, opts)
	return msg, err
}

// Tokens returns an iterator over the tokens that split finds. Each step is one
// [BufferedSocket.RecvSplit] with opts, with a timeout of its own; with
// [AppendTo] each token is appended to the same dst and is valid until the next
// step.
//
// [bufio.ErrFinalToken] ends the loop, behind its token if it has one, and so
// does the end of the stream where no byte is left. Anything else is yielded as
// an error, once, and ends the loop. Ranging again goes on where it stopped.
func (s *BufferedSocket) Tokens(split bufio.SplitFunc, opts ...Option) iter.Seq2[[]byte, error] {
	opts = slices.Clone(opts)
	return iterate(func() ([]byte, bool, error) { return s.recvSplit("Tokens", split, opts) })
}

// recvSplit returns a token, and whether split has called it the final one.
func (s *BufferedSocket) recvSplit(op string, split bufio.SplitFunc, opts []Option) (msg []byte, final bool, err error) {
	h := &s.recv
	h.mu.Lock()
	r := request{op: op}
	err = r.prepare(s, opts, optMessage|optMaxSize)
	if err == nil && split == nil {
		err = invalid(op, "nil split function")
	}
	if err != nil {
		h.mu.Unlock()
		return r.dst, false, err
	}
	if h.isIdle() {
		h.busy = true
		h.mu.Unlock()
		return s.splitAtHand(&r, split)
	}
	h.mu.Unlock()
	c, err := s.receive(&r)
	defer c.end()
	if err != nil {
		return r.dst, false, c.explain(err, want{kind: wantToken})
	}
	var t token
	t.next(s, &c.request, split, false)
	t.await(c, split)
	c.consume(t.size)
	return t.msg, t.final, t.err
}

// splitAtHand looks for a token in what is buffered before it prepares what a
// wait needs. It has the turn and ends it.
func (s *BufferedSocket) splitAtHand(r *request, split bufio.SplitFunc) (msg []byte, final bool, err error) {
	var t token
	var c *call
	defer func() { s.recv.end(c, t.size) }() // also if split panics
	if t.next(s, r, split, false); !t.done() {
		c = s.newCall(r, &s.recv)
		c.takeOver(r.start())
		t.await(c, split)
	}
	return t.msg, t.final, t.err
}

// A token is what split has found: no message and no error if it needs more.
type token struct {
	msg     []byte
	err     error
	skipped int  // bytes before the token
	size    int  // bytes to consume
	found   bool // there is a message
	final   bool // and none behind it
}

func (t *token) done() bool { return t.found || t.err != nil }

// await waits for a token, which split has not found yet.
func (t *token) await(c *call, split bufio.SplitFunc) {
	var err error
	for !t.done() && err == nil {
		if n := c.h.data.len(); n > 0 && n >= c.limit() {
			t.err = c.tooLong(nil)
			return
		}
		err = c.fill()
		if err == nil || isEnd(err) {
			t.next(c.s, &c.request, split, err != nil)
		}
	}
	if t.done() {
		return
	}
	t.err = c.explain(err, want{kind: wantToken})
	if e, ok := t.err.(*ConnectionClosedError); ok && isEnd(err) {
		e.Err = endOfStream(e.Buffered > t.skipped)
	}
}

// next asks split for a token, behind the bytes that it has skipped. The caller
// has the turn, and consumes both.
func (t *token) next(s *BufferedSocket, r *request, split bufio.SplitFunc, atEOF bool) {
	h := &s.recv
	t.msg = r.dst
	if s.splitEnded {
		return
	}
	data := h.data.bytes()
	if data == nil {
		data = []byte{} // as split may return it as an empty token
	}
	n := min(len(data), r.limit())
	data = data[:n:n] // what split appends must not overwrite the bytes behind
	for t.skipped < n || atEOF {
		advance, part, err := split(data[t.skipped:], atEOF)
		final := err == bufio.ErrFinalToken
		if final && part != nil {
			err = nil
			if atEOF {
				advance = n - t.skipped
			}
		}
		switch {
		case h.state.Load() != open:
			t.err = &closedError{r.op}
		case err != nil:
			t.err = err
		case advance < 0:
			t.err = badSplit(r.op, bufio.ErrNegativeAdvance)
		case advance > n-t.skipped:
			t.err = badSplit(r.op, bufio.ErrAdvanceTooFar)
		case part != nil:
			t.found, t.final, t.msg = true, final, r.deliver(part)
			t.size = t.skipped + advance
			s.splitEnded = atEOF && (final || t.skipped == n)
		case advance > 0:
			t.skipped += advance
			continue
		}
		return
	}
}

func badSplit(op string, err error) error { return &usageError{op, err.Error(), err} }
