package bufsock

import (
	"errors"
	"io"
	"net"
	"os"
	"reflect"
)

// errHandshakeCut stands for the end of a context that is of no concern to later
// calls.
var errHandshakeCut = errors.New("the call that did the TLS handshake had to end")

// hasShakenHands reports whether a *tls.Conn has done its handshake. To ask it
// in its own terms would burden programs without TLS with all of crypto/tls.
func hasShakenHands(conn net.Conn) bool {
	state := reflect.ValueOf(conn).MethodByName("ConnectionState")
	if !state.IsValid() || state.Type().NumIn() != 0 || state.Type().NumOut() != 1 {
		return false
	}
	result := reflect.Indirect(state.Call(nil)[0])
	if result.Kind() != reflect.Struct {
		return false
	}
	complete := result.FieldByName("HandshakeComplete")
	return complete.Kind() == reflect.Bool && complete.Bool()
}

// shakeHands does the handshake if it is due. The deadline of one direction
// would not bound it, so it gets the call's as a context, and a turn of its
// own, because the other direction may be at it.
func (c *call) shakeHands() error {
	l := c.l
	if l.gate == nil || l.shaken.Load() || c.h.deadlinePassed() {
		return nil
	}
	if err := l.gate.enter(c); err != nil {
		return err
	}
	defer l.gate.leave()
	if l.shaken.Load() {
		return nil
	}
	if c.canceled() && !hasShakenHands(l.conn) {
		return errTimeUp // a handshake begun now would only end the session
	}
	c.s.recv.lift(l)
	c.s.send.lift(l)
	ctx, cancel := c.context()
	defer cancel()
	err := l.conn.(handshaker).HandshakeContext(ctx)
	switch {
	case err == nil:
		l.shaken.Store(true)
		return nil
	case l.gate.state.Load() == closed:
		return errClosed
	}
	c.ended = true
	if c.h.sends && l.broken == nil {
		l.broken = err
		if ctx.Err() != nil {
			l.broken = errHandshakeCut
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // this is no end of a stream
	}
	if ctx.Err() != nil || isDeadlineError(err) && c.h.deadlinePassed() {
		if errors.Is(err, os.ErrDeadlineExceeded) { // and not the context, which was not the caller's
			c.cause = err
		}
		return errTimeUp
	}
	return err
}
