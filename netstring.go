package bufsock

import (
	"cmp"
	"io"
	"iter"
	"math"
	"net"
	"slices"
	"strconv"
	"time"
)

// A NetstringSocket frames messages as netstrings, on a [BufferedSocket]: the
// size of the payload in ASCII digits, a colon, the payload, a comma.
//
// The grammar is that of D. J. Bernstein's "Netstrings" (1997), and strict: one
// or more digits, no leading zero but in "0:,". Anything else fails at the
// first wrong byte. A frame is read whole or not at all; a timeout anywhere in
// it consumes nothing.
//
// It is safe for use by any number of goroutines, as its socket is, whose
// timeout and max size it shares.
type NetstringSocket struct {
	s *BufferedSocket

	// What DiscardNetstring still has to drop of a frame, payload and comma, of
	// which connection of the socket; size is that of the whole payload. Guarded
	// by the turn of s.recv.
	pending, size int
	link          *link
}

// NewNetstringSocket returns a netstring socket on conn. It takes the options
// of [NewBufferedSocket] and panics as that does. A conn that is a
// *BufferedSocket is used as it is, and the options change it.
func NewNetstringSocket(conn net.Conn, opts ...Option) *NetstringSocket {
	const op = "NewNetstringSocket"
	s, ok := conn.(*BufferedSocket)
	switch {
	case !ok:
		s = newSocket(op, conn, opts)
	case s == nil:
		panic("bufsock: " + op + ": nil connection")
	default:
		s.configure(op, opts)
	}
	return &NetstringSocket{s: s}
}

// Socket returns the socket that carries the netstrings.
func (ns *NetstringSocket) Socket() *BufferedSocket { return ns.s }

// Timeout is [BufferedSocket.Timeout] of the socket.
func (ns *NetstringSocket) Timeout() time.Duration { return ns.s.Timeout() }

// SetTimeout is [BufferedSocket.SetTimeout] of the socket.
func (ns *NetstringSocket) SetTimeout(d time.Duration) { ns.s.SetTimeout(d) }

// MaxSize is [BufferedSocket.MaxSize] of the socket. It bounds the payload.
func (ns *NetstringSocket) MaxSize() int { return ns.s.MaxSize() }

// SetMaxSize is [BufferedSocket.SetMaxSize] of the socket.
func (ns *NetstringSocket) SetMaxSize(n int) { ns.s.SetMaxSize(n) }

// Close is [BufferedSocket.Close] of the socket.
func (ns *NetstringSocket) Close() error { return ns.s.Close() }

// Shutdown is [BufferedSocket.Shutdown] of the socket.
func (ns *NetstringSocket) Shutdown(opts ...Option) error { return ns.s.Shutdown(opts...) }

// ReadNetstring reads a netstring and returns its payload. Memory follows the
// bytes that have come, never the size that was announced; a large payload is
// read straight into the memory of [AppendTo] if that has room.
//
// It returns a *NetstringInvalidSizeError, a *NetstringMessageTooLongError or a
// *NetstringProtocolError at the first byte that shows it. If the stream ends
// it returns a *ConnectionClosedError, which matches [io.EOF] between frames
// and [io.ErrUnexpectedEOF] inside one. It takes [WithTimeout],
// [WithIdleTimeout], [WithContext], [WithMaxSize], [WithFlush] and [AppendTo].
// A call that fails has consumed nothing, and the same call goes on; a frame
// too long can be read with a larger max size, or skipped with
// [NetstringSocket.DiscardNetstring].
func (ns *NetstringSocket) ReadNetstring(opts ...Option) ([]byte, error) {
	return ns.read("ReadNetstring", opts)
}

func (ns *NetstringSocket) read(op string, opts []Option) ([]byte, error) {
	payload, c, err := ns.atHand(op, opts)
	if c != nil {
		return ns.recv(c)
	}
	return payload, err
}

// atHand returns the payload of a frame that is buffered, or a call to wait for
// it with.
func (ns *NetstringSocket) atHand(op string, opts []Option) ([]byte, *call, error) {
	h := &ns.s.recv
	h.mu.Lock()
	r := request{op: op}
	if err := r.prepare(ns.s, opts, optMessage|optMaxSize); err != nil {
		h.mu.Unlock()
		return r.dst, nil, err
	}
	f := frame{op: op, max: r.limit(), limit: r.limit()}
	if h.isIdle() && ns.pending == 0 && f.parse(h.data.bytes()) {
		msg := r.dst
		if f.err == nil {
			msg = r.deliver(h.data.bytes()[f.header : f.header+f.size])
			h.data.consume(f.header + f.size + 1)
		}
		h.unlock()
		return msg, nil, f.err
	}
	return nil, ns.s.unlockToWait(&r, h), nil
}

func (ns *NetstringSocket) recv(c *call) ([]byte, error) {
	defer c.end()
	f := frame{op: c.op, max: c.limit(), limit: c.limit()}
	err := c.enter()
	if err == nil {
		err = ns.await(c, &f)
	}
	if err != nil {
		return c.dst, ns.explain(c, err)
	}
	return c.takePart(f.header, f.size, f.header+f.size+1), nil
}

// await waits for a frame, behind the rest of one that is to be dropped.
func (ns *NetstringSocket) await(c *call, f *frame) error {
	if ns.isPending() {
		if _, err := ns.discardPending(c); err != nil {
			return err
		}
	}
	for !f.parse(c.h.data.bytes()) {
		if f.header > 0 {
			return ns.awaitPayload(c, f)
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	return f.err
}

// awaitPayload waits for the rest of a frame whose header is there.
func (ns *NetstringSocket) awaitPayload(c *call, f *frame) error {
	if err := c.readDirect(f.header, f.size); err != nil {
		return err
	}
	end := f.header + f.size - c.h.direct.len()
	if err := c.await(end + 1); err != nil {
		return err
	}
	f.check(c.h.data.bytes()[end], c.h.size())
	return f.err
}

// DiscardNetstring drops a netstring, of whatever size, in bounded memory, and
// returns how many bytes of its payload it has dropped. It returns the errors
// of [NetstringSocket.ReadNetstring], but no *NetstringMessageTooLongError
// unless the size exceeds that of an int.
//
// If it fails inside the payload, what was dropped is dropped, and counted.
// DiscardNetstring called again drops what is left of that frame, and no other;
// ReadNetstring and Messages drop it before they read, even if they then fail.
// Only this NetstringSocket knows of it: until then do not receive from the
// socket in another way. It takes [WithTimeout], [WithIdleTimeout],
// [WithContext] and [WithFlush].
func (ns *NetstringSocket) DiscardNetstring(opts ...Option) (int, error) {
	r := request{op: "DiscardNetstring", max: NoLimit}
	if err := r.prepare(ns.s, opts, optReceive); err != nil {
		return 0, err
	}
	c, err := ns.s.receive(&r)
	defer c.end()
	f := frame{op: r.op, max: math.MaxInt, limit: math.MaxInt}
	for err == nil && !ns.isPending() {
		f.parse(c.h.data.bytes())
		switch {
		case f.header > 0:
			ns.pending, ns.size, ns.link = f.size+1, f.size, c.l
			c.drop(f.header)
		case f.err != nil:
			return 0, f.err
		default:
			err = c.fill()
		}
	}
	n := 0
	if err == nil {
		n, err = ns.discardPending(c)
	}
	return n, ns.explain(c, err)
}

// isPending reports whether there is the rest of a frame to drop. That of a
// connection before an Upgrade will not come any more.
func (ns *NetstringSocket) isPending() bool {
	return ns.pending > 0 && ns.link == ns.s.link.Load()
}

// discardPending drops the rest of a frame and returns how many bytes of its
// payload that were.
func (ns *NetstringSocket) discardPending(c *call) (n int, err error) {
	if c.idling {
		c.begin() // in the middle of a message
	}
	for {
		m := c.drop(ns.pending - 1)
		ns.pending -= m
		n += m
		if data := c.h.data.bytes(); len(data) > 0 { // behind the payload
			ns.pending = 0
			if data[0] != ',' {
				return n, &NetstringProtocolError{ns.size, data[0], c.op, len(data)}
			}
			c.drop(1)
			return n, nil
		}
		if err := c.fill(); err != nil {
			return n, err
		}
	}
}

// explain is that of the call, which may have dropped a part of a frame.
func (ns *NetstringSocket) explain(c *call, err error) error {
	explained := c.explain(err, want{kind: wantNetstring})
	if e, ok := explained.(*ConnectionClosedError); ok && ns.isPending() {
		e.Err = io.ErrUnexpectedEOF
	}
	return explained
}

// Messages returns an iterator over the payloads that come. Each step is one
// [NetstringSocket.ReadNetstring] with opts, with a timeout of its own; with
// [AppendTo] each payload is appended to the same dst and is valid until the
// next step.
//
// The end of the stream after a frame ends the loop. Anything else is yielded
// as an error, once, and ends the loop. Ranging again goes on where it stopped.
func (ns *NetstringSocket) Messages(opts ...Option) iter.Seq2[[]byte, error] {
	opts = slices.Clone(opts)
	return iterate(func() ([]byte, bool, error) {
		payload, err := ns.read("Messages", opts)
		return payload, false, err
	})
}

// WriteNetstring sends the send buffer and then payload as a netstring. A
// payload over the max size is refused with a *NetstringMessageTooLongError
// before anything is sent.
//
// After any other failure but one that matches [ErrInvalidArgument] or
// [net.ErrClosed], what is unsent of the send buffer and of the frame is in the
// send buffer, and [BufferedSocket.Flush] of the socket goes on from there, as
// after [BufferedSocket.Send]; do not write the payload again. It takes
// [WithTimeout], [WithContext] and [WithMaxSize]. A timeout while writing ends
// a TLS session.
func (ns *NetstringSocket) WriteNetstring(payload []byte, opts ...Option) error {
	r := request{op: opWrite}
	if err := r.prepare(ns.s, opts, optSend|optMaxSize); err != nil {
		return err
	}
	if len(payload) > r.limit() {
		return cmp.Or[error](ns.s.send.isClosed(r.op), &NetstringMessageTooLongError{Size: int64(len(payload)), MaxSize: r.max, op: r.op})
	}
	var header [maxDigits + 1]byte
	_, err := ns.s.newCall(&r, &ns.s.send).sendAll(appendHeader(header[:0], len(payload)), [][]byte{payload, comma})
	return err
}

var comma = []byte{','}

// Operations whose errors have texts of their own.
const (
	opWrite = "WriteNetstring"
	opCut   = "CutNetstring"
)

// maxDigits is how many digits the size of a netstring has at most.
const maxDigits = 19

func appendHeader(dst []byte, size int) []byte {
	return append(strconv.AppendInt(dst, int64(size), 10), ':')
}

// AppendNetstring appends payload to dst as a netstring.
func AppendNetstring(dst, payload []byte) []byte {
	var memory [maxDigits + 1]byte
	header := appendHeader(memory[:0], len(payload))
	dst = slices.Grow(dst, len(header)+len(payload)+len(comma))
	return append(append(append(dst, header...), payload...), ',')
}

// CutNetstring cuts the first netstring off b. The payload is a part of b and
// shares its memory; rest is what follows the comma.
//
// If b ends before the netstring does, the error is [io.ErrUnexpectedEOF]; if
// it does not begin with a netstring, it is that of
// [NetstringSocket.ReadNetstring]. No max size applies, but a size must fit an
// int. On an error rest is b.
func CutNetstring(b []byte) (payload, rest []byte, err error) {
	f := frame{op: opCut, max: math.MaxInt, limit: math.MaxInt}
	switch done := f.parse(b); {
	case f.err != nil:
		return nil, b, f.err
	case !done:
		return nil, b, io.ErrUnexpectedEOF
	}
	end := f.header + f.size
	return b[f.header:end:end], b[end+1:], nil
}

// A frame is what is known of a netstring.
type frame struct {
	op    string
	max   int  // the max size, for the error
	limit int  // the same, to compare with
	whole bool // which bounds header and comma, too

	header int // the length of the digits and the colon; 0 as long as they are not there
	size   int // that of the payload
	err    error
}

// parse looks at the beginning of a stream, and reports whether there is a
// frame, or an error, which is set as soon as the bytes show it.
func (f *frame) parse(b []byte) bool {
	if f.header == 0 {
		if f.header, f.size, f.err = f.parseHeader(b); f.err != nil {
			return true
		}
	}
	end := f.header + f.size
	if f.header == 0 || len(b) <= end {
		return false
	}
	f.check(b[end], len(b))
	return true
}

// check looks at the byte behind the payload.
func (f *frame) check(found byte, buffered int) {
	if found != ',' {
		f.err = &NetstringProtocolError{f.size, found, f.op, buffered}
	}
}

// parseHeader reads the size that b begins with. A wrong byte is an error, and
// so is a size over the limit as soon as its digits show it.
func (f *frame) parseHeader(b []byte) (header, size int, err error) {
	for i, d := range b {
		switch {
		case d == ':' && i > 0:
			return i + 1, size, nil
		case d < '0' || d > '9', i > 0 && b[0] == '0':
			return 0, 0, &NetstringInvalidSizeError{append([]byte{}, b[:i+1]...), f.op, len(b)}
		}
		n := int64(math.MaxInt64)
		if digit := int64(d - '0'); int64(size) <= (math.MaxInt64-digit)/10 {
			n = int64(size)*10 + digit
		}
		// Header, payload and comma must have a length that is an int.
		limit := min(f.limit, math.MaxInt-maxDigits-2)
		if f.whole {
			limit -= i + 3 // so many digits, the colon and the comma
		}
		if n > int64(limit) {
			return 0, 0, &NetstringMessageTooLongError{n, f.max, f.op, len(b)}
		}
		size = int(n)
	}
	return 0, 0, nil
}
