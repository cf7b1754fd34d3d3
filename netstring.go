package bufsock

import (
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
	// by s.recv.
	pending, size int
	generation    int16
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

// ReadNetstring reads a netstring and returns its payload. Memory follows the
// bytes that have come, never the size that was announced.
//
// It returns a *NetstringInvalidSizeError, a *NetstringMessageTooLongError or a
// *NetstringProtocolError at the first byte that shows it. If the stream ends
// it returns a *ConnectionClosedError, which matches [io.EOF] between frames
// and [io.ErrUnexpectedEOF] inside one. It takes [WithTimeout], [WithContext],
// [WithMaxSize] and [AppendTo]. A call that fails has consumed nothing, and the
// same call goes on; a frame too long can be read with a larger max size, or
// skipped with [NetstringSocket.DiscardNetstring].
func (ns *NetstringSocket) ReadNetstring(opts ...Option) ([]byte, error) {
	r := request{op: "ReadNetstring"}
	if err := r.prepare(ns.s, opts, optMessage|optMaxSize); err != nil {
		return r.dst, err
	}
	return ns.read(&r)
}

func (ns *NetstringSocket) read(r *request) ([]byte, error) {
	h := &ns.s.recv
	h.mu.Lock()
	if h.idle() && !ns.isPending() {
		if msg, ok, err := r.takeNetstring(h); ok {
			h.unlock()
			return msg, err
		}
	}
	h.mu.Unlock()
	return ns.await(r)
}

func (ns *NetstringSocket) await(r *request) ([]byte, error) {
	c := call{request: *r}
	s, h := ns.s, &ns.s.recv
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	if err == nil && ns.isPending() {
		_, err = ns.discardPending(&c)
	}
	for ; err == nil; err = s.fill(&c) {
		if msg, ok, err := c.takeNetstring(h); ok {
			return msg, err
		}
	}
	return c.dst, ns.explain(&c, err)
}

// takeNetstring takes a frame. It returns false if more bytes are needed to
// say anything.
func (r *request) takeNetstring(h *half) (payload []byte, ok bool, err error) {
	data := h.data.bytes()
	header, size, err := parseHeader(r.op, data, r.limit())
	switch {
	case err != nil:
		return r.dst, true, err
	case header == 0 || len(data)-header <= size:
		return nil, false, nil
	case data[header+size] != ',':
		return r.dst, true, &NetstringProtocolError{size, data[header+size], r.op, len(data)}
	}
	payload = r.deliver(data[header : header+size])
	h.data.consume(header + size + 1)
	return payload, true, nil
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
// socket in another way. It takes [WithTimeout] and [WithContext].
func (ns *NetstringSocket) DiscardNetstring(opts ...Option) (int, error) {
	c := call{request: request{op: "DiscardNetstring"}}
	s, h := ns.s, &ns.s.recv
	if err := c.prepare(s, opts, optWait); err != nil {
		return 0, err
	}
	err := s.enter(&c, h)
	defer s.leave(&c, h)
	for err == nil && !ns.isPending() {
		header, size, bad := parseHeader(c.op, h.data.bytes(), math.MaxInt)
		switch {
		case bad != nil:
			return 0, bad
		case header > 0:
			ns.pending, ns.size, ns.generation = size+1, size, s.generation
			s.drop(header)
		default:
			err = s.fill(&c)
		}
	}
	n := 0
	if err == nil {
		n, err = ns.discardPending(&c)
	}
	return n, ns.explain(&c, err)
}

// isPending reports whether there is the rest of a frame to drop. That of a
// connection before an Upgrade will not come any more.
func (ns *NetstringSocket) isPending() bool {
	return ns.pending > 0 && ns.generation == ns.s.generation
}

// discardPending drops the rest of a frame and returns how many bytes of its
// payload that were.
func (ns *NetstringSocket) discardPending(c *call) (n int, err error) {
	s, h := ns.s, &ns.s.recv
	for {
		m := s.drop(ns.pending - 1)
		ns.pending -= m
		n += m
		if h.data.len() > 0 { // behind the payload
			ns.pending = 0
			if found := h.data.bytes()[0]; found != ',' {
				return n, &NetstringProtocolError{ns.size, found, c.op, h.data.len()}
			}
			s.drop(1)
			return n, nil
		}
		if err := s.fill(c); err != nil {
			return n, err
		}
	}
}

// explain is that of the socket, for a call that may have dropped a part of a
// frame.
func (ns *NetstringSocket) explain(c *call, err error) error {
	h := &ns.s.recv
	if err == io.EOF {
		n := h.data.len()
		return &ConnectionClosedError{c.op, n, endOfStream(n > 0 || ns.isPending()), want{kind: wantNetstring}}
	}
	return ns.s.explain(c, h, err, want{kind: wantNetstring})
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
	return func(yield func([]byte, error) bool) {
		ns.s.iterate(opts, optMessage|optMaxSize, yield, ns.read)
	}
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
	c := call{request: request{op: opWrite}}
	if err := c.prepare(ns.s, opts, optWait|optMaxSize); err != nil {
		return err
	}
	if len(payload) > c.limit() {
		return &NetstringMessageTooLongError{Size: int64(len(payload)), MaxSize: c.max, op: c.op}
	}
	var header [maxDigits + 1]byte
	return ns.s.sendAll(&c, appendHeader(header[:0], len(payload)), [][]byte{payload, comma})
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
	const op = opCut
	header, size, bad := parseHeader(op, b, math.MaxInt)
	switch {
	case bad != nil:
		return nil, b, bad
	case header == 0 || len(b)-header <= size:
		return nil, b, io.ErrUnexpectedEOF
	case b[header+size] != ',':
		return nil, b, &NetstringProtocolError{size, b[header+size], op, len(b)}
	}
	end := header + size
	return b[header:end:end], b[end+1:], nil
}

// parseHeader reads the size that b begins with. It returns the length of the
// digits and the colon, zero as long as they are not all there. A wrong byte is
// an error, and so is a size over the limit as soon as its digits show it. op
// is for the error.
func parseHeader(op string, b []byte, limit int) (header, size int, err error) {
	for i, d := range b {
		switch {
		case d == ':' && i > 0:
			return i + 1, size, nil
		case d < '0' || d > '9', i > 0 && b[0] == '0':
			return 0, 0, &NetstringInvalidSizeError{append([]byte{}, b[:i+1]...), op, len(b)}
		}
		n := int64(math.MaxInt64)
		if digit := int64(d - '0'); int64(size) <= (math.MaxInt64-digit)/10 {
			n = int64(size)*10 + digit
		}
		// Header, payload and comma must have a length that is an int.
		if n > int64(min(limit, math.MaxInt-maxDigits-2)) {
			return 0, 0, &NetstringMessageTooLongError{n, limit, op, len(b)}
		}
		size = int(n)
	}
	return 0, 0, nil
}
