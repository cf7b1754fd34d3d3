package bufsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"time"
)

// Sentinel errors, to be tested with [errors.Is].
var (
	// ErrWouldBlock is matched by the *TimeoutError of a call made with
	// [NonBlocking] that could not finish without waiting.
	ErrWouldBlock = errors.New("bufsock: operation would block")

	// ErrInvalidArgument is matched by the error of a call that was given
	// something it cannot work with: an empty delimiter, a negative size, an
	// option that does not apply to it. Such a call has touched nothing.
	ErrInvalidArgument = errors.New("bufsock: invalid argument")

	// ErrBroken is matched by the error of every send behind one that ended the
	// sending side: an error of the connection that is no timeout, or, on TLS, a
	// timeout or cancel in the middle of a write. Such a send has sent nothing
	// and added nothing to the send buffer, which still holds what was unsent.
	ErrBroken = errors.New("bufsock: the sending side is broken")

	// ErrBufferedData is matched by the error of [BufferedSocket.Upgrade] when
	// a buffer of the socket still holds bytes.
	ErrBufferedData = errors.New("bufsock: buffered data")

	// ErrNetstringProtocol is matched by *NetstringProtocolError,
	// *NetstringInvalidSizeError and *NetstringMessageTooLongError.
	ErrNetstringProtocol = errors.New("bufsock: netstring protocol violated")
)

// Error is implemented by every error type of this package, so that
// [errors.As] finds any of them. All are returned as pointers and never
// wrapped; a plain err.(net.Error), as crypto/tls and net/http use it, works.
//
// Timeout reports whether the error is a *TimeoutError. Temporary reports the
// same, but for a timeout that has ended a TLS session: a receive that timed out
// may be made again and goes on, a send goes on with [BufferedSocket.Flush].
type Error interface {
	net.Error
	sealed()
}

// A TimeoutError says that a call did not finish in time. Nothing is lost. A
// receive has consumed nothing; one that discards has dropped what it returned
// as its count. What a send did not send is in the send buffer; but Buffer has
// added nothing, and Write keeps nothing of its argument. It matches
// [os.ErrDeadlineExceeded].
type TimeoutError struct {
	Op    string        // the method, such as "RecvUntil"
	After time.Duration // the timeout of the call, also if a deadline came first; or its idle timeout

	// Buffered is, of a receive, how many bytes have been received and are
	// kept in the receive buffer; of a send, how many bytes are unsent and are
	// kept in the send buffer.
	Buffered int

	// Err tells more: ErrWouldBlock after a NonBlocking call,
	// context.DeadlineExceeded and the context's cause after the deadline of a
	// context, else the connection's own error or os.ErrDeadlineExceeded.
	Err error

	early    bool // a deadline came before the timeout
	ended    bool // that of the context
	idle     bool // After is the idle timeout
	endedTLS bool // nothing can be sent on the connection any more
	want     want
}

func (e *TimeoutError) Error() string {
	what := fmt.Sprintf("timed out after %v", e.After)
	switch {
	case errors.Is(e.Err, ErrWouldBlock):
		what = "would block"
	case e.ended:
		what = e.Err.Error()
	case e.idle && !e.early:
		what = fmt.Sprintf("idle for %v", e.After)
	case e.early:
		what = "deadline exceeded"
	}
	if e.endedTLS {
		what += ", which ended the session"
	}
	return fmt.Sprintf("bufsock: %s: %s%s (%s)", e.Op, what, e.want.describe(" while waiting for "), buffered(e.Buffered))
}

// Timeout returns true.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary reports whether the connection stays usable. It does, but for a TLS
// session that a timeout in the middle of a write or a handshake has ended.
func (e *TimeoutError) Temporary() bool { return !e.endedTLS }

// Is reports whether target is [os.ErrDeadlineExceeded].
func (e *TimeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }

// Unwrap returns e.Err.
func (e *TimeoutError) Unwrap() error { return e.Err }

func (e *TimeoutError) sealed() {}

// A ConnectionClosedError says that the stream ended before the call had what it
// was asked for: by the peer, or by our own CloseRead. It matches [io.EOF] if the stream ended between
// messages, with nothing left over, and [io.ErrUnexpectedEOF] if it ended
// inside one. What was left over stays in the receive buffer.
type ConnectionClosedError struct {
	Op       string // the method, such as "RecvUntil"
	Buffered int    // bytes left over
	Err      error  // io.EOF or io.ErrUnexpectedEOF

	want  want
	local bool // it is our CloseRead that ended it
}

func (e *ConnectionClosedError) Error() string {
	how := "connection closed by peer"
	if e.local {
		how = "reading side closed by CloseRead"
	}
	return fmt.Sprintf("bufsock: %s: %s%s (%s)", e.Op, how, e.want.describe(" before "), buffered(e.Buffered))
}

// Timeout returns false.
func (e *ConnectionClosedError) Timeout() bool { return false }

// Temporary returns false.
func (e *ConnectionClosedError) Temporary() bool { return false }

// Unwrap returns e.Err.
func (e *ConnectionClosedError) Unwrap() error { return e.Err }

func (e *ConnectionClosedError) sealed() {}

// A MessageTooLongError says that a message cannot end within the max size of
// the call. The message has not been consumed: a call with a larger max size
// reads it, [BufferedSocket.DiscardUntil] skips it.
type MessageTooLongError struct {
	Op        string // the method, such as "RecvUntil"
	MaxSize   int    // the limit, in bytes
	Buffered  int    // bytes in the receive buffer
	Delimiter []byte // what was looked for; nil if that is not one delimiter
}

func (e *MessageTooLongError) Error() string {
	looked := ""
	if e.Delimiter != nil {
		looked = " without " + quote(e.Delimiter)
	}
	return fmt.Sprintf("bufsock: %s: message too long: more than max size %d%s (%s); raise the max size or discard the message",
		e.Op, e.MaxSize, looked, buffered(e.Buffered))
}

// Timeout returns false.
func (e *MessageTooLongError) Timeout() bool { return false }

// Temporary returns false.
func (e *MessageTooLongError) Temporary() bool { return false }

func (e *MessageTooLongError) sealed() {}

// A NetstringProtocolError says that the payload of a netstring is not
// followed by a comma. ReadNetstring has consumed nothing. DiscardNetstring has
// dropped the payload, and where a DiscardNetstring before it had begun with the
// frame so has ReadNetstring.
type NetstringProtocolError struct {
	Size  int  // the size announced
	Found byte // the byte in the place of the comma

	op       string
	buffered int
}

func (e *NetstringProtocolError) Error() string {
	return fmt.Sprintf("bufsock: %s: expected a comma after a payload of %s, found %s (%s)",
		e.op, byteCount(e.Size), quote([]byte{e.Found}), had(e.op, e.buffered))
}

// Timeout returns false.
func (e *NetstringProtocolError) Timeout() bool { return false }

// Temporary returns false.
func (e *NetstringProtocolError) Temporary() bool { return false }

// Is reports whether target is [ErrNetstringProtocol].
func (e *NetstringProtocolError) Is(target error) bool { return target == ErrNetstringProtocol }

func (e *NetstringProtocolError) sealed() {}

// A NetstringInvalidSizeError says that the bytes where a netstring must begin
// are not a size and a colon: one or more ASCII digits, with no leading zero
// but in "0:". Nothing has been consumed.
type NetstringInvalidSizeError struct {
	Prefix []byte // the bytes up to and with the first wrong one

	op       string
	buffered int
}

func (e *NetstringInvalidSizeError) Error() string {
	return fmt.Sprintf("bufsock: %s: expected the size of a netstring in digits and a colon, found %s (%s)",
		e.op, quote(e.Prefix), had(e.op, e.buffered))
}

// Timeout returns false.
func (e *NetstringInvalidSizeError) Timeout() bool { return false }

// Temporary returns false.
func (e *NetstringInvalidSizeError) Temporary() bool { return false }

// Is reports whether target is [ErrNetstringProtocol].
func (e *NetstringInvalidSizeError) Is(target error) bool { return target == ErrNetstringProtocol }

func (e *NetstringInvalidSizeError) sealed() {}

// A NetstringMessageTooLongError says that a netstring announces a payload
// over the max size, or that a payload to be written is over it. Nothing has
// been consumed or sent: a call with a larger max size reads the frame, and
// [NetstringSocket.DiscardNetstring] skips it, unless no int can hold its
// size.
type NetstringMessageTooLongError struct {
	// Size is the size in bytes. When reading, it is what the digits announce
	// up to the first one that passes the limit, because the call does not
	// wait for more; math.MaxInt64 where that is no int64.
	Size    int64
	MaxSize int // the limit, in bytes; math.MaxInt where only the size of an int limits

	op       string
	buffered int
}

func (e *NetstringMessageTooLongError) Error() string {
	switch {
	case e.op == opWrite:
		return fmt.Sprintf("bufsock: %s: netstring too long: a payload of %s, max size %d",
			e.op, byteCount(int(e.Size)), e.MaxSize)
	case e.MaxSize == math.MaxInt:
		return fmt.Sprintf("bufsock: %s: netstring too long: the size of its payload is over that of an int (%s)",
			e.op, had(e.op, e.buffered))
	}
	return fmt.Sprintf("bufsock: %s: netstring too long: a payload of %d or more bytes, max size %d (%s)",
		e.op, e.Size, e.MaxSize, had(e.op, e.buffered))
}

// Timeout returns false.
func (e *NetstringMessageTooLongError) Timeout() bool { return false }

// Temporary returns false.
func (e *NetstringMessageTooLongError) Temporary() bool { return false }

// Is reports whether target is [ErrNetstringProtocol].
func (e *NetstringMessageTooLongError) Is(target error) bool { return target == ErrNetstringProtocol }

func (e *NetstringMessageTooLongError) sealed() {}

// A closedError is what every call returns after Close. It matches
// net.ErrClosed, whatever the connection itself would say.
type closedError struct{ op string }

func (e *closedError) Error() string   { return "bufsock: " + e.op + ": " + net.ErrClosed.Error() }
func (e *closedError) Timeout() bool   { return false }
func (e *closedError) Temporary() bool { return false }
func (e *closedError) Unwrap() error   { return net.ErrClosed }
func (e *closedError) sealed()         {}

// A brokenError is what every send returns behind the one that met its cause.
type brokenError struct {
	op    string
	cause error // nil if that was a timeout, which this error is not to be taken for
	text  string
}

func newBrokenError(op string, cause error) error {
	e := &brokenError{op: op, cause: cause, text: cause.Error()}
	if isDeadlineError(cause) {
		e.cause = nil
	}
	return e
}

func (e *brokenError) Error() string {
	return "bufsock: " + e.op + ": nothing can be sent any more since an earlier error: " + e.text
}
func (e *brokenError) Timeout() bool        { return false }
func (e *brokenError) Temporary() bool      { return false }
func (e *brokenError) Is(target error) bool { return target == ErrBroken }
func (e *brokenError) Unwrap() error        { return e.cause }
func (e *brokenError) sealed()              {}

// A canceledError ends a call whose context was canceled. It matches the
// context's cause and context.Canceled.
type canceledError struct {
	op       string
	buffered int
	cause    error
	want     want
}

func (e *canceledError) Error() string {
	return fmt.Sprintf("bufsock: %s: canceled%s (%s): %v", e.op, e.want.describe(" while waiting for "), buffered(e.buffered), e.cause)
}
func (e *canceledError) Timeout() bool   { return false }
func (e *canceledError) Temporary() bool { return false }
func (e *canceledError) Unwrap() []error { return []error{e.cause, context.Canceled} }
func (e *canceledError) sealed()         {}

// A usageError matches ErrInvalidArgument, ErrBufferedData or
// errors.ErrUnsupported and says what to do instead.
type usageError struct {
	op, text string
	kind     error
}

func (e *usageError) Error() string   { return "bufsock: " + e.op + ": " + e.text }
func (e *usageError) Timeout() bool   { return false }
func (e *usageError) Temporary() bool { return false }
func (e *usageError) Unwrap() error   { return e.kind }
func (e *usageError) sealed()         {}

func invalid(op, format string, args ...any) error {
	return &usageError{op, fmt.Sprintf(format, args...), ErrInvalidArgument}
}

func unsupported(op string, conn net.Conn) error {
	return &usageError{op, fmt.Sprintf("not supported by the connection (%T)", conn), errors.ErrUnsupported}
}

// Interface facts that the documentation promises.
var (
	_ Error = (*TimeoutError)(nil)
	_ Error = (*ConnectionClosedError)(nil)
	_ Error = (*MessageTooLongError)(nil)
	_ Error = (*NetstringProtocolError)(nil)
	_ Error = (*NetstringInvalidSizeError)(nil)
	_ Error = (*NetstringMessageTooLongError)(nil)
	_ Error = (*closedError)(nil)
	_ Error = (*canceledError)(nil)
	_ Error = (*brokenError)(nil)
	_ Error = (*usageError)(nil)
)

// A want is what a call was waiting for, kept for the text of its error. It
// holds a copy of the head of a delimiter in place, so that an error costs one
// allocation.
type want struct {
	kind  wantKind
	size  int
	delim [16]byte
}

type wantKind uint8

const (
	wantNothing   wantKind = iota
	wantSize               // size bytes
	wantDelimiter          // the delimiter whose length is size
	wantAny                // one of size delimiters
	wantToken              // a token of a bufio.SplitFunc
	wantEnd                // the end of the stream
	wantNetstring          // a whole netstring
)

func wantDelim(delim []byte) want {
	w := want{kind: wantDelimiter, size: len(delim)}
	copy(w.delim[:], delim)
	return w
}

// describe returns lead and what was wanted, or "" for nothing.
func (w *want) describe(lead string) string {
	switch w.kind {
	case wantSize:
		return lead + byteCount(w.size)
	case wantDelimiter:
		if w.size > len(w.delim) {
			return fmt.Sprintf("%s%q... (%s)", lead, w.delim[:], byteCount(w.size))
		}
		return lead + quote(w.delim[:w.size])
	case wantAny:
		return fmt.Sprintf("%sany of %d delimiters", lead, w.size)
	case wantToken:
		return lead + "a token"
	case wantEnd:
		return lead + "the end of the stream"
	case wantNetstring:
		return lead + "a whole netstring"
	}
	return ""
}

func buffered(n int) string { return byteCount(n) + " buffered" }

// had tells how many bytes a call that reads netstrings had.
func had(op string, n int) string {
	if op == opCut {
		return byteCount(n) + " given"
	}
	return buffered(n)
}

func byteCount(n int) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}

// maxQuoted is how many foreign bytes an error text shows at most.
const maxQuoted = 32

func quote(b []byte) string {
	if len(b) > maxQuoted {
		return fmt.Sprintf("%q... (%d bytes)", b[:maxQuoted], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// endOfStream returns what a ConnectionClosedError wraps: io.EOF between
// messages, io.ErrUnexpectedEOF inside one.
func endOfStream(inside bool) error {
	if inside {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}
