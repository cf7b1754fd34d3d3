//go:build unix

package bufsock

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"syscall"
)

// movedEOF says that a read of the descriptor found the end of the stream.
const movedEOF = math.MinInt32

// maxWrite bounds one write to the descriptor, as package net does.
const maxWrite = 1 << 30

// descriptor gives access to the descriptor of a TCP or Unix stream socket, or
// returns nil. Other types are left alone even if they have a descriptor: their
// Read and Write may do more than read and write it.
func descriptor(conn net.Conn) syscall.RawConn {
	var c syscall.Conn
	switch conn := conn.(type) {
	case *net.TCPConn:
		c = conn
	case *net.UnixConn:
		if a := conn.LocalAddr(); a == nil || a.Network() != "unix" {
			return nil
		}
		c = conn
	default:
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// poll moves h.moved bytes between the buffer of h and the descriptor: as many
// as one read or write takes. It tries first and waits, with the deadline of
// the call set, only if it must.
func (s *BufferedSocket) poll(c *call, h *half) error {
	for {
		until, err := s.pace(c, h, true)
		if err != nil {
			return err
		}
		if until != probe {
			s.watch(c, h)
		}
		h.until, h.moved = until, 0
		err = s.unlockedTry(h)
		switch {
		case h.moved > 0:
			return nil
		case h.closed:
			return errClosed
		case h.moved == movedEOF:
			return io.EOF
		case h.moved < 0:
			return s.opError(h, os.NewSyscallError(s.opName(h), syscall.Errno(-h.moved)))
		case err == nil:
			return errTimeUp // it was a probe
		case !s.isTimeout(c, h, err):
			return s.opError(h, errors.Unwrap(err))
		case c.out || !c.expired():
			return errTimeUp // by the user's deadline
		}
	}
}

func (s *BufferedSocket) unlockedTry(h *half) error {
	raw, try := s.raw, h.try
	h.mu.Unlock()
	defer h.mu.Lock()
	if h == &s.recv {
		return raw.Read(try)
	}
	return raw.Write(try)
}

// tryRead reads what the descriptor holds, at most the read size. It takes
// memory only for the moment, unless there are bytes to keep.
func (s *BufferedSocket) tryRead(fd uintptr) (done bool) {
	h := &s.recv
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return true
	}
	p := h.space(int(s.readSize))
	n, err := syscall.Read(int(fd), p)
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), p)
	}
	if n > 0 {
		h.data.commit(n)
		h.moved = int32(n)
		return true
	}
	h.data = h.data.tidy()
	if err == nil {
		h.moved = movedEOF
		return true
	}
	return s.tried(h, err)
}

// tryWrite writes the head of the send buffer.
func (s *BufferedSocket) tryWrite(fd uintptr) (done bool) {
	h := &s.send
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return true
	}
	p := h.data.bytes()
	p = p[:min(len(p), maxWrite)]
	n, err := syscall.Write(int(fd), p)
	for err == syscall.EINTR {
		n, err = syscall.Write(int(fd), p)
	}
	if n > 0 {
		h.data.consume(n)
		h.moved = int32(n)
		return true
	}
	return s.tried(h, err)
}

// tried looks at the error of a try. If the descriptor was not ready and the
// call may wait, it returns false, and the poller calls again when it is.
func (s *BufferedSocket) tried(h *half, err error) (done bool) {
	if err == syscall.EAGAIN {
		return h.until == probe || s.arm(h) != nil
	}
	if errno, ok := err.(syscall.Errno); ok {
		h.moved = -int32(errno)
	}
	return true
}

// opError dresses an error as the connection itself does.
func (s *BufferedSocket) opError(h *half, err error) error {
	return &net.OpError{
		Op:     s.opName(h),
		Net:    s.conn.LocalAddr().Network(),
		Source: s.conn.LocalAddr(),
		Addr:   s.conn.RemoteAddr(),
		Err:    err,
	}
}

func (s *BufferedSocket) opName(h *half) string {
	if h == &s.recv {
		return "read"
	}
	return "write"
}

// isReset reports whether err says that the connection is dead. The kernel says
// so once, and then reports an end of the stream.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, syscall.ETIMEDOUT)
}
