package bufsock

import (
	"bytes"
	"cmp"
)

// A Message is a message of several parts that is being received: see
// [BufferedSocket.RecvFunc], whose function is given one. Its methods are the
// steps. A step waits for what it needs, within the timeout and the limit of
// that call. One that fails takes nothing, and another may be tried instead.
//
// What a step returns is a view of the receive buffer: it is not copied, must
// not be changed, has no capacity beyond its length, and is valid until the
// function returns, also when later steps wait and after a Close.
//
// At the end of the stream a step returns a *ConnectionClosedError that matches
// [io.EOF] if nothing of the message has come, else [io.ErrUnexpectedEOF]. A
// step that cannot be done within the max size returns a *MessageTooLongError,
// without waiting for what it needs.
//
// A Message is for one goroutine. Once the function has returned its steps
// return an error that matches [ErrInvalidArgument], until the next RecvFunc on
// that socket, which may use the same Message again; no other socket does.
type Message struct {
	s       *BufferedSocket
	c       *call // of a message that has had to wait, or nil
	r       request
	begun   instant // when the function began
	limit   int     // how many bytes may be taken and peeked at
	data    []byte  // what is at hand of them, from the first on
	off     int     // how many are taken
	live    bool    // the function has not returned
	took    bool    // and has returned nil
	resumes bool    // a search that came to nothing may go on where it was
}

// RecvFunc receives a message of several parts: it calls read, whose steps, the
// methods of m, take one part after the other. If read returns nil, everything
// that they took is consumed. If it returns an error, or panics, nothing is,
// and its error is returned as it is. The same call made again runs read from
// the first byte of the message again, without waiting for what has come; the
// part that was searched in vain is not searched again.
//
//	var value []byte
//	err := s.RecvFunc(func(m *bufsock.Message) error {
//		line, err := m.Until([]byte("\r\n"))
//		if err != nil {
//			return err
//		}
//		size, err := strconv.ParseUint(string(line), 10, 30)
//		if err != nil {
//			return err
//		}
//		body, err := m.Next(int(size))
//		value = bytes.Clone(body)
//		return err
//	})
//
// The whole is one receive: no other comes in between, the timeout or the
// context bounds all steps together, and the max size all bytes taken and
// peeked at. With [NonBlocking] it is a whole message if one is there. It takes
// [WithTimeout], [WithIdleTimeout], [WithContext], [WithMaxSize] and
// [WithFlush]. No call allocates when the bytes are there, after the first on a
// socket.
//
// read may be recursive, and may send on the socket, such as a line that asks
// for the rest. It may run again, and then sends again unless a variable outside
// of it tells that it has; other effects are best left to the code behind the
// call. For an error that the peer reports, which is a message, it returns nil.
// It must not receive from the socket but through m: that waits for its own turn.
func (s *BufferedSocket) RecvFunc(read func(m *Message) error, opts ...Option) error {
	if read == nil {
		return invalid("RecvFunc", "nil function")
	}
	m, err := s.beginMessage(opts)
	if err != nil {
		return err
	}
	defer m.end()
	err = read(m)
	m.took = err == nil
	return err
}

// beginMessage gets the turn for a message.
func (s *BufferedSocket) beginMessage(opts []Option) (*Message, error) {
	h := &s.recv
	h.mu.Lock()
	idle := h.isIdle()
	if idle {
		h.busy = true
	}
	h.mu.Unlock()
	if !idle {
		return s.awaitMessage(opts)
	}
	m := s.newMessage()
	if err := m.r.prepare(s, opts, optReceive|optMaxSize); err != nil {
		m.end()
		return nil, err
	}
	m.begin()
	return m, nil
}

// awaitMessage is beginMessage where the turn must be waited for.
func (s *BufferedSocket) awaitMessage(opts []Option) (*Message, error) {
	r := request{op: "RecvFunc"}
	if err := r.prepare(s, opts, optReceive|optMaxSize); err != nil {
		return nil, err
	}
	c, err := s.receive(&r)
	if err != nil {
		defer c.end()
		return nil, c.explain(err, want{})
	}
	m := s.newMessage()
	m.r, m.c = r, c
	m.begin()
	return m, nil
}

// newMessage returns the message of the socket. The caller has the turn.
func (s *BufferedSocket) newMessage() *Message {
	if s.message == nil {
		s.message = &Message{s: s}
	}
	s.message.r.op = "RecvFunc"
	return s.message
}

func (m *Message) begin() {
	m.begun, m.limit = m.r.start(), m.r.limit()
	m.off, m.live = 0, true
	m.refresh()
}

// end consumes what was taken, if the function has returned nil, and gives the
// turn back.
func (m *Message) end() {
	h, c := &m.s.recv, m.c
	m.c, m.data, m.live = nil, nil, false
	if m.r.given != 0 {
		m.r = request{}
	}
	taken := 0
	if m.took {
		taken, m.took = m.off, false
	}
	h.end(c, taken)
}

// call returns the call of a step that has to wait.
func (m *Message) call() *call {
	if m.c == nil {
		m.c = m.s.newCall(&m.r, &m.s.recv)
		m.c.takeOver(m.begun)
	}
	m.s.recv.data.pin()
	return m.c
}

// refresh makes what has come visible to the steps. It is never nil, as no view
// is.
func (m *Message) refresh() {
	b := m.s.recv.data
	if m.data = b.head(m.limit); m.data == nil {
		m.data = []byte{}
	}
	m.resumes = b != nil && b.searched > 0
}

// part takes n bytes, of which skip behind them are not returned.
func (m *Message) part(n, skip int) []byte {
	from := m.off
	m.off += n + skip
	return m.data[from : from+n : from+n]
}

// ready returns an error if there is no message under way.
func (m *Message) ready(step string) error {
	if m.live {
		return nil
	}
	return invalid("Message."+step, "the function that it was given to has returned")
}

// Until returns the bytes before the next delimiter and takes both.
func (m *Message) Until(delim []byte) ([]byte, error) {
	if !m.live || len(delim) == 0 {
		return nil, cmp.Or(m.ready("Until"), invalid("Message.Until", "empty delimiter"))
	}
	if !m.resumes {
		data := m.data[m.off:]
		if i := bytes.IndexByte(data, delim[0]); i >= 0 && begins(data[i:], delim) {
			return m.part(i, len(delim)), nil
		}
	}
	return m.awaitUntil(delim)
}

func (m *Message) awaitUntil(delim []byte) ([]byte, error) {
	c := m.call()
	i, err := c.awaitDelimiter(m.off, delim)
	m.refresh()
	if err != nil {
		return nil, c.explain(err, wantDelim(delim))
	}
	return m.part(i-m.off, len(delim)), nil
}

// UntilAny is [Message.Until] for the delimiter that comes first of several, and
// says which, as [BufferedSocket.RecvUntilAny] does.
func (m *Message) UntilAny(delims [][]byte) (part []byte, which int, err error) {
	if err := m.ready("UntilAny"); err != nil {
		return nil, -1, err
	}
	if err := checkDelimiters("Message.UntilAny", delims); err != nil {
		return nil, -1, err
	}
	c := m.call()
	end, which, err := c.awaitAny(m.off, delims)
	m.refresh()
	if err != nil {
		return nil, -1, c.explain(err, want{kind: wantAny, size: len(delims)})
	}
	n := len(delims[which])
	return m.part(end-n-m.off, n), which, nil
}

// Next returns the next n bytes and takes them. Memory follows the bytes that
// come, never n alone, and the max size bounds an n that came from the peer. A
// negative n is an error that matches [ErrInvalidArgument].
func (m *Message) Next(n int) ([]byte, error) {
	if err := m.have("Next", n); err != nil {
		return nil, err
	}
	return m.part(n, 0), nil
}

// Peek returns the next n bytes and does not take them.
func (m *Message) Peek(n int) ([]byte, error) {
	if err := m.have("Peek", n); err != nil {
		return nil, err
	}
	return m.data[m.off : m.off+n : m.off+n], nil
}

// have waits until n bytes are at hand.
func (m *Message) have(step string, n int) error {
	if n >= 0 && n <= len(m.data)-m.off && m.live {
		return nil
	}
	return m.await(step, n)
}

func (m *Message) await(step string, n int) error {
	if err := m.ready(step); err != nil {
		return err
	}
	if n < 0 {
		return invalid("Message."+step, "negative size %d", n)
	}
	c := m.call()
	if n > m.limit-m.off {
		return c.tooLong(nil)
	}
	err := c.await(m.off + n)
	m.refresh()
	return c.explain(err, want{kind: wantSize, size: n})
}

// Netstring returns the payload of a netstring and takes it with its header and
// comma, which count for the max size, too. Its errors are those of
// [NetstringSocket.ReadNetstring].
func (m *Message) Netstring() ([]byte, error) {
	if err := m.ready("Netstring"); err != nil {
		return nil, err
	}
	h := &m.s.recv
	f := frame{op: m.r.op, limit: m.limit - m.off, whole: true, max: m.r.limit()}
	if f.limit < len("0:,") { // whatever comes
		return nil, &NetstringMessageTooLongError{0, f.max, f.op, h.data.len()}
	}
	if !f.parse(h.data.bytes()[m.off:]) {
		c := m.call()
		for !f.parse(h.data.bytes()[m.off:]) {
			err := c.fill()
			m.refresh()
			if err != nil {
				return nil, c.explain(err, want{kind: wantNetstring})
			}
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	m.off += f.header
	return m.part(f.size, 1), nil
}

// Rest returns all bytes until the end of the stream and takes them. It is the
// one step for which the end is no error. [BufferedSocket.RecvClose] tells which
// ends cannot be told from a broken connection.
func (m *Message) Rest() ([]byte, error) {
	if err := m.ready("Rest"); err != nil {
		return nil, err
	}
	c := m.call()
	err := c.awaitEnd()
	m.refresh()
	if err != nil {
		return nil, c.explain(err, want{kind: wantEnd})
	}
	return m.part(len(m.data)-m.off, 0), nil
}

// ReadByte implements [io.ByteReader], for [encoding/binary.ReadUvarint]. At
// the end of the stream it returns [io.EOF] itself if nothing of the message has
// come, else [io.ErrUnexpectedEOF].
func (m *Message) ReadByte() (byte, error) {
	if err := m.have("ReadByte", 1); err != nil {
		return 0, bareEnd(err)
	}
	b := m.data[m.off]
	m.off++
	return b, nil
}

// Read implements [io.Reader], for [io.ReadFull] and [encoding/binary.Read]: it
// copies at least one byte to p and at most what is at hand. Unlike the other
// steps it depends on how the network cut the bytes.
//
// At the end of the stream it returns [io.EOF] itself if nothing of the message
// has come, else [io.ErrUnexpectedEOF], so that a message that was cut is never
// taken for one that has ended. So [io.ReadAll] fails; [Message.Rest] is for
// that. A reader that buffers, such as a bufio.Reader or a json.Decoder, may
// take bytes of the next message.
func (m *Message) Read(p []byte) (int, error) {
	if err := m.have("Read", min(len(p), 1)); err != nil {
		return 0, bareEnd(err)
	}
	n := copy(p, m.data[m.off:])
	m.off += n
	return n, nil
}

// bareEnd returns the error that package io knows for the end of the stream.
func bareEnd(err error) error {
	if e, ok := err.(*ConnectionClosedError); ok {
		return e.Err
	}
	return err
}

// Offset returns how many bytes have been taken.
func (m *Message) Offset() int { return m.off }
