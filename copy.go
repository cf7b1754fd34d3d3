package bufsock

import (
	"io"
	"math"
	"net"
	"os"
	"runtime"
)

// WriteTo implements [io.WriterTo]: it writes what is in the receive buffer to
// w, and then what comes until the end of the stream, which is no error.
// The kernel copies, where it can, from TCP and Unix sockets to TCP ones, and
// from TCP to a *net.UnixConn. Only the read deadline bounds it, and the write
// deadline of a w that is a *BufferedSocket.
//
// Bytes that w did not take stay in the receive buffer. The one exception in
// this package: if a copy that the kernel makes, as Linux can, ends because w
// failed, bytes that were inside the kernel are lost.
//
// Copies between the same sockets take turns, whichever way and by whichever
// method, as long as none of the sockets is hidden in a type of your own.
func (s *BufferedSocket) WriteTo(w io.Writer) (int64, error) {
	return s.copyTo("WriteTo", w, unlimited)
}

// unlimited is the limit of a copy that has none.
const unlimited = math.MaxInt64

// copyTo copies at most so many bytes. It gets the turn to receive, and that to
// send of a w that is a socket behind it: whoever holds both has got them in this
// order.
func (s *BufferedSocket) copyTo(op string, w io.Writer, limit int64) (n int64, err error) {
	c, err := s.receive(&request{op: op, timeout: NoTimeout, given: optConn})
	defer c.end()
	if err != nil {
		return 0, c.explainConn(err)
	}
	for {
		m, err := c.writeBuffered(w, limit-n)
		n += int64(m)
		if err != nil || n == limit {
			return n, err
		}
		if limit == unlimited {
			var copied int64
			copied, err = c.kernelCopy(w)
			n += copied
		}
		if err == nil {
			err = c.fill()
		}
		switch {
		case isEnd(err):
			return n, nil
		case err != nil:
			return n, c.explainConn(err)
		}
	}
}

// writeBuffered writes what is buffered, up to the limit, to w and consumes what
// w took.
func (c *call) writeBuffered(w io.Writer, limit int64) (n int, err error) {
	data := c.h.data.head(int(min(limit, math.MaxInt)))
	if len(data) == 0 {
		return 0, nil
	}
	defer func() { n = c.drop(max(n, 0)) }()
	n, err = w.Write(data)
	switch {
	case err == nil && n != len(data):
		err = io.ErrShortWrite
	case c.goOn() == errClosed:
		err = &closedError{c.op}
	}
	return n, err
}

// kernelCopy has the kernel copy to w, if it can, and returns why it stopped: at
// the end of the stream that is io.EOF. If io.Copy itself made the copy, bytes
// that w does not take would be lost.
func (c *call) kernelCopy(w io.Writer) (n int64, err error) {
	if runtime.GOOS != "linux" || !c.l.polls || c.l.ended != nil || c.l.next != nil || c.h.deadlinePassed() {
		return 0, nil
	}
	target, ok := w.(*BufferedSocket)
	if !ok {
		conn, _ := w.(net.Conn)
		if !c.l.splicesTo(conn) || writeDeadlinePassed(conn) {
			return 0, nil
		}
		return c.splice(conn, nil)
	}
	out := target.newCall(&request{op: c.op, timeout: NoTimeout}, &target.send)
	defer out.release()
	if err := out.enter(); err != nil {
		return 0, out.explain(err, want{})
	}
	defer out.leave()
	if _, toTCP := out.l.conn.(*net.TCPConn); !toTCP || out.h.deadlinePassed() {
		return 0, nil
	}
	if err := out.flushAll(); err != nil {
		return 0, out.explainConn(err)
	}
	return c.splice(out.l.conn, out)
}

// splicesTo reports whether the kernel makes a copy to conn.
func (l *link) splicesTo(conn net.Conn) bool {
	switch conn := conn.(type) {
	case *net.TCPConn:
		return true
	case *net.UnixConn:
		_, fromTCP := l.conn.(*net.TCPConn)
		return fromTCP && descriptor(conn) != nil
	}
	return false
}

// writeDeadlinePassed reports whether conn, which is not ours, would fail behind
// a copy that the kernel had begun.
func writeDeadlinePassed(conn net.Conn) bool {
	raw := descriptor(conn)
	return raw == nil || raw.Write(func(uintptr) bool { return true }) != nil
}

// splice copies to conn, which is that of the call out or of nobody's here.
func (c *call) splice(conn net.Conn, out *call) (n int64, err error) {
	if err := c.goOn(); err != nil {
		return 0, err
	}
	if out != nil {
		out.h.enterConn(copying)
		defer out.h.leaveConn()
	}
	n, err = io.Copy(conn, c.l.conn)
	c.l.taken += uint64(n)
	c.l.counts = c.l.counts && err == nil // else the kernel may have taken more
	if stop := c.goOn(); stop != nil {
		return n, stop
	}
	switch {
	case out != nil && out.goOn() != nil:
		return n, &closedError{c.op}
	case err == nil:
		return n, c.heardEnd(io.EOF)
	case isDeadlineError(err):
		c.cause = err
		return n, errTimeUp
	}
	blame(c, conn, out, err)
	return n, err
}

// blame notes the error of a copy that the kernel made to conn, which is that of
// the call out or of nobody's here, at the side that it is of: the error does not
// say which. The state of a Unix socket cannot be asked for, but the other side
// of such a copy is TCP.
func blame(in *call, conn net.Conn, out *call, err error) {
	outDead := isBrokenPipe(err) || stateOf(conn) == tcpDead
	if out != nil && outDead {
		out.l.noteSend(err)
	}
	if isBrokenPipe(err) {
		return
	}
	switch in.l.tcpInfo().state {
	case tcpDead: // as one looks that has ended in both directions, too
		if outDead && in.l.writeClosed.Load() {
			return
		}
	case tcpUnknown:
		if outDead {
			return
		}
	default:
		return
	}
	in.l.failure.Store(&failure{readError(err), true})
}

// flushAll sends what is buffered, also what is added meanwhile.
func (c *call) flushAll() error {
	err := c.mayWrite()
	for err == nil && len(c.h.queued()) > 0 {
		err = c.drain()
	}
	return err
}

// ReadFrom implements [io.ReaderFrom]: it sends the send buffer and then what r
// returns until its end. To TCP and Unix sockets the kernel copies where it
// can. Other sends wait while r is read.
//
// Only the write deadline bounds it, and neither that nor Close ends a read of r
// that waits. If it fails, what was taken from r and not sent is lost. Not so if
// r is a *BufferedSocket, or an [io.LimitedReader] over one as [io.CopyN] has it:
// then it is as WriteTo of that socket, whose read deadline bounds it, too, and
// which keeps what was not sent.
func (s *BufferedSocket) ReadFrom(r io.Reader) (int64, error) {
	const op = "ReadFrom"
	if source, ok := r.(*BufferedSocket); ok {
		return s.copyFromSocket(op, source, unlimited)
	}
	if l, ok := r.(*io.LimitedReader); ok {
		if source, ok := l.R.(*BufferedSocket); ok {
			n, err := s.copyFromSocket(op, source, max(l.N, 0))
			l.N -= n
			return n, err
		}
	}
	return s.sendFrom(op, r)
}

// copyFromSocket sends what is buffered, and then what the source receives, with
// the turns in the order that all copies between sockets have.
func (s *BufferedSocket) copyFromSocket(op string, source *BufferedSocket, limit int64) (int64, error) {
	if _, err := s.sendFrom(op, nil); err != nil || limit == 0 {
		return 0, err
	}
	return source.copyTo(op, s, limit)
}

// sendFrom sends what is buffered, and what r returns until its end, if there is
// an r.
func (s *BufferedSocket) sendFrom(op string, r io.Reader) (int64, error) {
	c := s.newCall(&request{op: op, timeout: NoTimeout}, &s.send)
	defer c.release()
	if err := c.enter(); err != nil {
		return 0, c.explainConn(err)
	}
	defer c.leave()
	if err := c.flushAll(); err != nil || r == nil {
		return 0, c.explainConn(err)
	}
	n, err := c.copyFrom(r)
	if err != nil && c.goOn() != nil {
		err = &closedError{op}
	}
	return n, err
}

func (c *call) copyFrom(r io.Reader) (int64, error) {
	if c.h.deadlinePassed() { // before anything is taken from r
		return 0, c.explainConn(errTimeUp)
	}
	if isSocket(c.l.conn) && isKernelSource(r) {
		c.h.enterConn(copying)
		defer c.h.leaveConn()
		n, err := io.Copy(c.l.conn, r)
		if isBrokenPipe(err) || err != nil && !isDeadlineError(err) && c.l.tcpInfo().state == tcpDead {
			c.l.noteSend(err)
		}
		return n, err
	}
	w := &connWriter{c: c}
	n, err := w.copy(r)
	if w.err != nil {
		err = w.err
	}
	return n, err
}

// isKernelSource reports whether the kernel copies from r, in which case an
// error does not say whose it is. Where the state of a connection cannot be
// asked for, copies are made here.
func isKernelSource(r io.Reader) bool {
	if runtime.GOOS != "linux" {
		return false
	}
	if l, ok := r.(*io.LimitedReader); ok {
		r = l.R
	}
	switch r.(type) {
	case *os.File, *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// A connWriter is the connection as the destination of a copy. It keeps its own
// error, which is not that of the source.
type connWriter struct {
	c   *call
	err error
}

func (w *connWriter) copy(r io.Reader) (int64, error) {
	if r, ok := r.(io.WriterTo); ok {
		return r.WriteTo(w)
	}
	return io.Copy(w, r)
}

// Write implements [io.Writer].
func (w *connWriter) Write(p []byte) (int, error) {
	if len(p) == 0 || w.err != nil {
		return 0, w.err
	}
	n, err := w.c.transmitOne(p)
	w.err = w.c.explainConn(err)
	return n, w.err
}
