//go:build unix

package bufsock

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

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

// attempt returns a function that moves bytes between the buffer and the
// descriptor without waiting. If there are none to move and the call may wait it
// returns false, and is called again when there are. It should need little
// stack, as it is the deepest that a call that waits comes. A read that finds
// nothing has memory only for the moment.
func (c *call) attempt() func(fd uintptr) (done bool) {
	return func(fd uintptr) bool {
		if c.goOn() != nil {
			return true
		}
		n, err := 0, error(syscall.EINTR)
		for err == syscall.EINTR {
			switch {
			case c.h.sends:
				n, err = c.attemptWrite(int(fd))
			case c.h.data != nil:
				n, err = c.attemptReadMore(int(fd))
			default:
				b := newBuffer(int(c.s.readSize.Load()))
				n, err = syscall.Read(int(fd), b.mem[:c.s.readSize.Load()])
				c.h.begin(b, n)
			}
		}
		if n > 0 {
			c.moved = n
			return true
		}
		if err == syscall.EAGAIN {
			return c.probing || c.mustFlush() || c.mustNotWait()
		}
		c.fail(err)
		return true
	}
}

// begin makes b, into which n bytes were read, the buffer, if there are any.
// Nobody else has seen it before.
func (h *half) begin(b *buffer, n int) {
	if n <= 0 {
		b.free()
		return
	}
	b.w = n
	h.mu.Lock()
	h.data = b
	h.mu.Unlock()
}

// fail notes what a try has found instead of bytes.
//
//go:noinline
func (c *call) fail(err error) {
	if err == nil {
		c.failed = io.EOF
		return
	}
	c.failed = c.l.opError(c.h.verb(), os.NewSyscallError(c.h.verb(), err))
}

// mustNotWait prepares the wait, unless that fails.
func (c *call) mustNotWait() bool {
	c.failed = c.startWait()
	return c.failed != nil
}

func (c *call) mustFlush() bool {
	c.flush = !c.flushed && c.wantsFlush()
	return c.flush
}

// attemptReadMore reads what the descriptor holds, at most the read size, behind
// what is buffered.
func (c *call) attemptReadMore(fd int) (int, error) {
	n, err := syscall.Read(fd, c.h.space(int(c.s.readSize.Load())))
	if n > 0 {
		c.h.commit(n)
	}
	return n, err
}

// attemptWrite writes the piece, or else the head of the send buffer.
func (c *call) attemptWrite(fd int) (int, error) {
	if c.piece != nil {
		n, err := syscall.Write(fd, c.piece)
		c.noteErrno(err)
		return n, err
	}
	h := c.h
	h.mu.Lock()
	p := h.data.bytes()
	h.inside = writing
	h.mu.Unlock()
	n, err := syscall.Write(fd, p[:min(len(p), maxWrite)])
	c.noteErrno(err)
	h.mu.Lock()
	h.comeOut()
	if n > 0 {
		h.data.consume(n)
	}
	h.mu.Unlock()
	return n, err
}

// noteErrno notes an error before the send comes out of the connection.
func (c *call) noteErrno(err error) {
	if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
		c.l.noteSystemError(c.l.opError("write", os.NewSyscallError("write", err)))
	}
}

// peek reports whether the descriptor has something to read, the end of the
// stream included, whatever its deadline is. An error may be reported by the
// kernel only once.
func peek(raw syscall.RawConn) (arrived bool, err error) {
	refused := raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK)
	})
	switch {
	case refused != nil || err == syscall.EAGAIN || err == syscall.EINTR:
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// isErrno reports whether err is or wraps an error of the operating system.
func isErrno(err error) bool {
	_, ok := errors.AsType[syscall.Errno](err)
	return ok
}

// isGivenUp reports whether err says that the kernel has given the connection up.
func isGivenUp(err error) bool { return errors.Is(err, syscall.ETIMEDOUT) }

// isBrokenPipe reports whether err says that the peer does not receive any more.
func isBrokenPipe(err error) bool { return errors.Is(err, syscall.EPIPE) }
