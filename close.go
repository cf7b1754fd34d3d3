package bufsock

import (
	"errors"
	"io"
	"math"
	"net"
	"time"
)

// Close closes the connection. Calls that are blocked return an error that
// matches [net.ErrClosed], as do all calls from then on. Both buffers are
// emptied; what is in the send buffer is not sent, so call Flush first. Close
// does not wait for other calls, and may be called again: it then returns nil.
// On TLS it says goodbye, for which crypto/tls gives a peer that does not read
// five seconds.
//
// A TCP connection that is closed before all that came was received is reset,
// and the peer may then lose the answer that was sent last: see
// [BufferedSocket.Shutdown].
func (s *BufferedSocket) Close() error {
	if !s.shut(closed) {
		return nil
	}
	l := s.link.Load()
	s.endBlockedCalls(l)
	err := l.conn.Close()
	if l.gate != nil && !l.wakes {
		wakeAll(l, &s.send) // whom crypto/tls leaves to the connection below
	}
	return err
}

// shut moves both directions on to the state, and reports whether that is news.
func (s *BufferedSocket) shut(to state) bool {
	news := s.recv.shut(to)
	s.send.shut(to)
	if gate := s.link.Load().gate; gate != nil && to == closed {
		gate.shut(to)
	}
	return news
}

// Shutdown ends the dialogue so that the peer gets all that was sent: it sends
// the send buffer, closes the writing side, drops what still comes until the
// peer ends the stream, and closes the connection. Close alone may make the
// kernel reset a connection on which the peer is still sending, which can take
// the last answer away from it.
//
// It returns nil if everything was sent and the end of the peer's stream was
// seen, else the first error, such as a *TimeoutError, or a
// *MessageTooLongError if more than max-size bytes came; the socket's own max
// size does not apply. Whatever it returns, the socket is closed. Where the
// connection has no CloseWrite, or after CloseRead, it sends and closes, and
// nil means that everything was sent.
//
// From its start no other call begins: they fail with an error that matches
// [net.ErrClosed]. A send under way is waited for, a receive under way is
// ended. If it fails on TLS, the connection below is closed, without a farewell
// that would have to wait. It takes [WithTimeout], [WithContext] and [WithMaxSize].
func (s *BufferedSocket) Shutdown(opts ...Option) error {
	r := request{op: "Shutdown"}
	if err := r.prepareSize(s, 0, opts, optSend|optMaxSize); err != nil {
		return err
	}
	r.given |= optConn // it is never idle
	if !s.shut(closing) {
		return &closedError{r.op}
	}
	defer s.Close()
	in, out := s.newCall(&r, &s.recv), s.newCall(&r, &s.send)
	defer in.release()
	defer out.release()
	in.last, out.last = true, true
	out.startClock()
	in.until = out.until
	// A handshake that is due reads, too. A receive that waits for it ends with it.
	l := s.link.Load()
	shaken := l.gate == nil || l.shaken.Load()
	if shaken {
		s.recv.stop(l)
	}
	err := out.sayFarewell()
	if !shaken {
		s.recv.stop(l)
	}
	if err == nil {
		err = in.awaitFarewell()
	}
	if err != nil { // a farewell has been said, or would have to wait
		l.closeBelow()
	}
	return err
}

// sayFarewell sends what is buffered and closes the writing side.
func (c *call) sayFarewell() error {
	if err := c.enter(); err != nil {
		return c.explain(err, want{})
	}
	defer c.leave()
	err := c.mayWrite()
	if err == nil {
		err = c.drain()
	}
	if err == nil {
		err = c.halfClose()
	}
	return c.explain(err, want{})
}

// halfClose closes the writing side if the connection can. TLS has a farewell
// to write, with a deadline of its own.
func (c *call) halfClose() error {
	l := c.l
	switch {
	case l.gate == nil:
		if err := l.closeWrite(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		return nil
	case !hasShakenHands(l.conn):
		return nil
	}
	ctx, cancel := c.context()
	defer cancel()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = l.closeWrite()
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		l.closeBelow()
		<-done
		return errTimeUp
	}
}

// awaitFarewell drops what comes until the peer ends the stream, where the
// writing side has been closed.
func (c *call) awaitFarewell() error {
	w := want{kind: wantEnd}
	if err := c.enter(); err != nil {
		return c.explain(err, w)
	}
	defer c.leave()
	if !c.l.writeClosed.Load() || c.l.readClosed.Load() {
		return nil
	}
	err := c.h.restart(c.l)
	c.drop(math.MaxInt)
	for n := 0; err == nil; err = c.fill() {
		if n = plus(n, c.drop(math.MaxInt)); n > c.limit() {
			return c.tooLong(nil)
		}
	}
	if err == io.EOF {
		return nil
	}
	return c.explain(err, w)
}

// closeBelow closes the connection under TLS, which has a farewell to write.
func (l *link) closeBelow() {
	if c, ok := l.conn.(interface{ NetConn() net.Conn }); ok && l.gate != nil {
		c.NetConn().Close()
	}
}

// maxAwaitDeadline is how long Close waits for the deadline methods of a
// connection that is not known.
const maxAwaitDeadline = 100 * time.Millisecond

// endBlockedCalls wakes the calls that are inside the connection. Those of
// package net its own Close ends; of others some do not, and that of TLS takes
// its time for a farewell.
func (s *BufferedSocket) endBlockedCalls(l *link) {
	s.recv.stopTimer()
	s.send.stopTimer()
	switch {
	case l.gate != nil:
		wakeAll(l, &s.recv)
	case !l.wakes:
		wakeAll(l, &s.recv, &s.send)
	}
}

// wakeAll wakes the calls of the directions.
func wakeAll(l *link, halves ...*half) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, h := range halves {
			if h.isBusy() {
				h.stop(l)
			}
		}
	}()
	timer := time.NewTimer(maxAwaitDeadline)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
