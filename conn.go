package bufsock

import (
	"net"
	"syscall"
	"time"
)

// Read implements [net.Conn]: it returns what is in the receive buffer, else
// what one read of the connection puts into p. Only the read deadline bounds
// it. At the end of the stream it returns [io.EOF]; errors are those of the
// connection, a timeout included, or a *TimeoutError if the connection was not
// asked because the deadline had passed. It does not flush.
func (s *BufferedSocket) Read(p []byte) (int, error) {
	c, err := s.receive(&request{op: "Read", timeout: NoTimeout, given: optConn})
	defer c.end()
	n := 0
	if err == nil && len(p) > 0 {
		n, err = c.readBufferedOr(p)
	}
	return n, c.explainConn(err)
}

// readBufferedOr reads what is buffered, else from the connection.
func (c *call) readBufferedOr(p []byte) (int, error) {
	if c.h.data.len() > 0 {
		return c.drop(copy(p, c.h.data.bytes())), nil
	}
	if err := c.goOn(); err != nil {
		return 0, err
	}
	if err := c.kept(); err != nil {
		return 0, err
	}
	return c.read(p)
}

// Write implements [net.Conn]: it sends the send buffer and then p, of which
// nothing is kept, in one write. It returns how many bytes of p were sent. Only
// the write deadline bounds it; errors are those of the connection, a timeout
// included, or a *TimeoutError if the connection was not asked because the
// deadline had passed. After an error that ends the sending side, as described
// at [BufferedSocket.Send], it matches [ErrBroken].
func (s *BufferedSocket) Write(p []byte) (int, error) {
	c := s.newCall(&request{op: "Write", timeout: NoTimeout}, &s.send)
	defer c.release()
	err := c.enter()
	if err != nil {
		return 0, c.explainConn(err)
	}
	defer c.leave()
	if err := c.mayWrite(); err != nil {
		return 0, c.explainConn(err)
	}
	head := c.h.queued()
	err = c.writeJoined(head, p)
	return max(c.sent-len(head), 0), c.explainConn(err)
}

// writeJoined sends the head, which is what was queued, and p in one write,
// because some peers take what one read returns for a whole command.
func (c *call) writeJoined(head, p []byte) error {
	if len(head) == 0 || c.l.takesVector {
		return c.transmit(head, [][]byte{p})
	}
	both := newBuffer(len(head) + len(p))
	defer both.free()
	both.append(head)
	both.append(p)
	n, err := c.transmitOne(both.bytes())
	c.h.consume(min(n, len(head)))
	return err
}

// LocalAddr returns the local address of the connection.
func (s *BufferedSocket) LocalAddr() net.Addr { return s.NetConn().LocalAddr() }

// RemoteAddr returns the remote address of the connection.
func (s *BufferedSocket) RemoteAddr() net.Addr { return s.NetConn().RemoteAddr() }

// SetDeadline sets the read and the write deadline; see [net.Conn].
func (s *BufferedSocket) SetDeadline(t time.Time) error {
	if err := s.setUserDeadline("SetDeadline", &s.recv, t); err != nil {
		return err
	}
	return s.setUserDeadline("SetDeadline", &s.send, t)
}

// SetReadDeadline sets the deadline of receives, those that are blocked
// included; the zero time means none. It bounds Read and WriteTo alone, and
// the Recv… calls together with their timeout. Bytes in the receive buffer are
// returned even if it has passed.
func (s *BufferedSocket) SetReadDeadline(t time.Time) error {
	return s.setUserDeadline("SetReadDeadline", &s.recv, t)
}

// SetWriteDeadline sets the deadline of sends, those that are blocked
// included; the zero time means none. It bounds Write and ReadFrom alone, and
// the Send… calls together with their timeout.
func (s *BufferedSocket) SetWriteDeadline(t time.Time) error {
	return s.setUserDeadline("SetWriteDeadline", &s.send, t)
}

// SyscallConn gives access to the descriptor of the connection, for socket
// options. The error matches [errors.ErrUnsupported] if there is none. What is
// read and written through it bypasses the buffers.
func (s *BufferedSocket) SyscallConn() (syscall.RawConn, error) {
	if err := s.recv.isClosed("SyscallConn"); err != nil {
		return nil, err
	}
	conn := s.NetConn()
	if c, ok := conn.(syscall.Conn); ok {
		raw, err := c.SyscallConn()
		if err != nil {
			return nil, err
		}
		return rawConn{raw}, nil
	}
	return nil, unsupported("SyscallConn", conn)
}

// A rawConn has the three methods only. By the others that net has given to
// its own, package os would find the descriptor and, in io.Copy from a file,
// write to it past the send buffer.
type rawConn struct{ syscall.RawConn }

// CloseRead closes the reading side of the connection, and ends a receive that
// waits. From then on receives return what is in the receive buffer, and then
// report the end of the stream, at once; RecvClose, which promises that the
// peer has ended it, fails. The error matches [errors.ErrUnsupported] if the
// connection cannot do that.
func (s *BufferedSocket) CloseRead() error {
	if err := s.recv.isClosed("CloseRead"); err != nil {
		return err
	}
	l := s.link.Load()
	c, ok := l.conn.(interface{ CloseRead() error })
	if !ok {
		return unsupported("CloseRead", l.conn)
	}
	// An end that a receive finds from now on may be ours.
	l.readClosing.Store(true)
	defer func() { l.readClosing.Store(l.readClosed.Load()) }()
	if err := c.CloseRead(); err != nil {
		return err
	}
	l.readClosed.Store(true)
	s.recv.stop(l)
	return nil
}

// CloseWrite closes the writing side of the connection: the peer reads the end
// of the stream. What is in the send buffer is not sent, so call Flush first. A
// TLS connection waits for a write under way.
// The error matches [errors.ErrUnsupported] if the connection cannot do that.
func (s *BufferedSocket) CloseWrite() error {
	if err := s.send.isClosed("CloseWrite"); err != nil {
		return err
	}
	return s.link.Load().closeWrite()
}

// closeWrite closes the writing side, after which errors of sends are our own.
func (l *link) closeWrite() error {
	c, ok := l.conn.(interface{ CloseWrite() error })
	if !ok {
		return unsupported("CloseWrite", l.conn)
	}
	before := l.writeClosed.Swap(true)
	err := c.CloseWrite()
	if err != nil {
		l.writeClosed.Store(before)
	}
	return err
}
