// Package bufsock wraps a [net.Conn] for people who parse a protocol: it
// receives until a delimiter, an exact size or the end of the stream, with a
// limit on every message and one timeout on every call, and it loses nothing
// when something goes wrong.
//
// [NewBufferedSocket] wraps a connection, [Dial] opens one.
//
//	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(5*time.Second))
//	line, err := s.RecvUntil([]byte("\r\n"))
//
// Most programs want one of these:
//
//   - a line, or anything else that ends in a delimiter:
//     [BufferedSocket.RecvUntil], and [BufferedSocket.Messages] to range over
//     them;
//   - a body of known size: [BufferedSocket.RecvSize];
//   - a look at what comes: [BufferedSocket.Peek];
//   - whole messages without a protocol of one's own: [NetstringSocket];
//   - to send: [BufferedSocket.Send], or [BufferedSocket.Buffer] several times
//     and then [BufferedSocket.Flush];
//   - another ending: [BufferedSocket.RecvUntilAny] of several delimiters,
//     [BufferedSocket.RecvSplit] by a [bufio.SplitFunc],
//     [BufferedSocket.RecvClose] at the end of the stream;
//   - no allocation per message: [AppendTo].
//
// # Three laws
//
// Conservation: no byte is lost, repeated or reordered, whatever happens: a
// timeout, a cancellation, the end of the stream, a reset, a limit, a bad
// argument, a panic in a callback. (The one exception is named at WriteTo: a
// copy that the kernel makes.) The bytes taken from the connection are the
// bytes returned, those that a Discard call said it has dropped and those in
// the receive buffer. Any other receive that fails consumes
// nothing, and the same call made again goes on where it was, without searching
// again what it has searched. A send that fails leaves exactly the unsent bytes
// in the send buffer.
//
// Segmentation independence: results and errors depend on the bytes of the
// stream, never on how the network cut them. Exempt are Recv and Read, which
// return what is there, the moment at which a timeout falls, and the counts of
// buffered bytes in errors. Limits are exact. A message that is too long or
// malformed fails as soon as that can be known, without waiting for more.
//
// One deadline per call: the timeout bounds the whole call, with the wait for
// another goroutine's call, every refill and every partial write. It does not
// start again when bytes trickle in.
//
// # Timeouts
//
// Every Recv… and Send… call has a timeout: the one given with [WithTimeout],
// else that of the socket, which is [DefaultTimeout] unless set. With
// [NoTimeout] it waits for ever, with [NonBlocking] it does not wait: it takes
// what the kernel holds or has room for, and fails with a *TimeoutError that
// matches [ErrWouldBlock] if that is not enough. On TCP and Unix sockets on
// Unix systems that is one non-blocking attempt; on other connections (a
// tls.Conn, a net.Pipe) and on other systems it waits at most a millisecond.
//
// [WithContext] ends a call when a context is done. Bytes that have arrived win
// over the cancellation, and the connection stays usable. A call that has to
// wait with a context that can be canceled allocates a little. To shut a server
// down without cutting an answer off, give the context to receives and not to
// sends, and ask it before each receive, because a busy peer has bytes there
// always:
//
//	for ctx.Err() == nil {
//		request, err := ns.ReadNetstring(bufsock.WithContext(ctx))
//		if err != nil {
//			return err
//		}
//		// and the answer
//	}
//
// Deadlines set with SetDeadline, SetReadDeadline and SetWriteDeadline bound
// these calls, too, whichever ends first, and are left as they were set. They
// alone bound Read, Write, WriteTo and ReadFrom, as those of any net.Conn. To
// give several calls one deadline and no other, set it and the timeout to
// [NoTimeout]. Set deadlines on the socket and not on the connection below it,
// whose deadlines the socket changes while a call waits.
//
// A call that is answered from the buffer touches no deadline and makes no
// system call.
//
// A TLS handshake is best done before the connection is wrapped, and must be if
// a type of your own around the tls.Conn hides it. If it is left to the first
// receive or send it counts against the timeout of that call and the deadlines
// that are set when it begins, and if it does not end in time, the session has
// ended.
//
// Each call is whole or not at all. A message that takes several calls, such as
// a line with a size and then the bytes, is not: after a timeout in its middle
// go on with the call that failed, or bound all of them with the deadline of
// one context and give up the connection if that ends.
//
// # Limits
//
// The max size bounds a message: that of RecvUntil and RecvUntilAny with its
// delimiter, the token of RecvSplit, everything that RecvClose returns, the
// payload of a netstring. It is [DefaultMaxSize] unless set. It does not apply
// to RecvSize, Peek and Discard, whose caller names the size.
//
// A message too long is not consumed: read it with a larger limit, or skip it
// with [BufferedSocket.DiscardUntil] or [NetstringSocket.DiscardNetstring].
//
// # Errors
//
//   - [*TimeoutError]: the call's time was up. The same receive made again goes
//     on; a send goes on with Flush.
//   - [*ConnectionClosedError]: the peer ended the stream. It matches [io.EOF]
//     between messages and [io.ErrUnexpectedEOF] inside one.
//   - [*MessageTooLongError]: the limit.
//   - [*NetstringProtocolError], [*NetstringInvalidSizeError] and
//     [*NetstringMessageTooLongError]: not a netstring, or too long.
//   - The cause of the context, if that was canceled.
//   - An error that matches [net.ErrClosed], after Close.
//   - An error that matches [ErrInvalidArgument], and nothing was touched.
//   - An error that matches [ErrBufferedData], of Upgrade, or
//     [errors.ErrUnsupported], of CloseRead, CloseWrite and SyscallConn.
//   - What the function given to RecvSplit or Upgrade returned.
//
// What else the connection reports, such as a reset, is returned as it is.
// Error texts quote at most 32 foreign bytes and never show a payload.
//
// # Goroutines
//
// Any number of goroutines may call anything. One receive and one send run at a
// time, each side for itself, and the others wait their turn within their own
// timeout. They get it in the order in which they came, but a few that come
// later and find the socket free may go first. A blocked receive never holds up
// a send, nor a blocked send a receive. Close, CloseRead, CloseWrite, the
// setters, the deadline methods, RecvBuffer, Buffered and SendBuffer do not
// wait for either, but for CloseWrite on TLS.
//
// # Handing the connection on
//
// A socket is a [net.Conn]: give it to [crypto/tls.Client], [crypto/tls.Server]
// or a reader of another protocol in the middle of a stream, and they get what
// is buffered first, then what comes. The connection below it has lost those
// bytes to the socket: do not go on with that.
//
// For STARTTLS use [BufferedSocket.Upgrade], which puts TLS under the same
// socket and refuses plaintext that came ahead of its time. To turn a
// connection that begins with a line in plaintext, such as a PROXY header, into
// TLS, wrap the socket with tls.Server instead: there the bytes behind the line
// belong to TLS.
//
// # Against hostile peers
//
// What a peer can make a socket do is bounded by what you set:
//
//   - Memory: the receive buffer holds no more than a message of max size and
//     one read, in memory of at most a few times that. A size that was only
//     announced costs nothing, but RecvSize and Peek will go on as far as the
//     caller told them to: check a size that came from the peer.
//   - Time: a timeout bounds a message, also one that comes byte by byte. It
//     does not bound a dialogue; a deadline set with SetDeadline, or one
//     context for all calls of it, does.
//   - A peer that does not read: Send ends with its timeout, and keeps what is
//     unsent. Close the connection then, rather than Buffer more.
//   - Malformed netstrings fail at the first wrong byte, sizes over the limit
//     while their digits arrive.
//   - Error texts may be logged: foreign bytes are quoted, at most 32 of them,
//     and payloads are not shown.
//
// How many connections there may be is for the caller to bound.
//
// # When not to use it
//
// To read a stream that cannot stall, such as a file, use [bufio]. To parse a
// protocol that has a library, use the library.
package bufsock

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Defaults, and the special values of timeouts and sizes.
const (
	DefaultTimeout = 10 * time.Second
	DefaultMaxSize = 32 << 10 // bytes

	NoTimeout   time.Duration = -1 // wait for ever, as any negative duration
	NonBlocking time.Duration = 0  // never wait
	NoLimit                   = -1 // no max size, as any negative size
)

const (
	defaultReadSize = 32 << 10
	maxReadSize     = 1 << 30
)

// An Option changes one thing about a socket, when it is passed to a
// constructor, or about one call. It is a plain value; passing options
// allocates nothing. Of two that set the same thing the later one counts.
//
// A constructor panics if it is given an option that is meant for calls, or a
// bad value. A call returns an error that matches [ErrInvalidArgument] if it
// has no use for an option, rather than ignore what was asked.
type Option struct {
	// Four words, which the compiler keeps in registers: as in [log/slog.Value],
	// a slice is taken apart.
	what any   // an optionKind, or a context.Context, or the memory of AppendTo
	n    int64 // the number, or the length of the slice
	cap  int64 // the capacity of the slice
}

type (
	memory     *byte
	optionKind uint8
)

// These are bits, so that a call can say which of them it takes.
const (
	optTimeout optionKind = 1 << iota
	optMaxSize
	optReadSize
	optContext
	optDelimiter
	optAppend

	optWait    = optTimeout | optContext
	optMessage = optWait | optAppend
	optNew     = optTimeout | optMaxSize | optReadSize
)

func (o *Option) kind() optionKind {
	switch what := o.what.(type) {
	case memory:
		return optAppend
	case optionKind:
		return what
	case context.Context:
		return optContext
	}
	return 0
}

// String returns the name of an option that some calls do not take, as all take
// WithTimeout.
func (k optionKind) String() string {
	switch k {
	case optMaxSize:
		return "WithMaxSize"
	case optReadSize:
		return "WithReadSize"
	case optContext:
		return "WithContext"
	case optDelimiter:
		return "WithDelimiter"
	case optAppend:
		return "AppendTo"
	}
	return "the zero Option"
}

// WithTimeout sets the timeout of the socket, in a constructor, or of the
// call: [NoTimeout], [NonBlocking], or a duration that bounds the whole call.
//
// A negative duration is no timeout. So do not compute one from a moment that
// may have passed: use [WithContext] or SetDeadline for that.
func WithTimeout(d time.Duration) Option { return Option{what: optTimeout, n: int64(d)} }

// WithMaxSize sets the max size of the socket, in a constructor, or of the
// call, in bytes; [NoLimit] for none. Zero admits only empty results.
func WithMaxSize(n int) Option { return Option{what: optMaxSize, n: int64(n)} }

// WithReadSize sets how many bytes are asked of the connection per read, from 1
// byte to 1 GiB; 32 KiB is the default. It is for constructors only.
func WithReadSize(n int) Option { return Option{what: optReadSize, n: int64(n)} }

// WithContext ends the call when ctx is done, also while it waits for its turn
// or for a TLS handshake. The error matches the cause of ctx; if the deadline
// of ctx has passed, it is a *TimeoutError that matches
// [context.DeadlineExceeded]. The call's timeout holds as well, whichever ends
// first.
func WithContext(ctx context.Context) Option {
	if ctx == nil {
		return Option{what: optContext}
	}
	return Option{what: ctx}
}

// WithDelimiter makes RecvUntil, RecvUntilAny and Messages keep the delimiter
// at the end of the message.
func WithDelimiter() Option { return Option{what: optDelimiter} }

// AppendTo makes the call append the message to dst and return that, as the
// built-in append does, instead of allocating. To use memory again and again:
//
//	line, err = s.RecvUntil(delim, bufsock.AppendTo(line[:0]))
//
// If the call fails it returns dst as it was; the memory behind dst, up to its
// capacity, may have been written to.
func AppendTo(dst []byte) Option {
	return Option{what: memory(unsafe.SliceData(dst)), n: int64(len(dst)), cap: int64(cap(dst))}
}

// A BufferedSocket is a net.Conn with a receive buffer, a send buffer, a limit
// on every message and a timeout on every call. Create it with
// [NewBufferedSocket] or [Dial].
//
// A slice that a call returns is the caller's own; an empty message is empty
// and not nil, and with an error there is none. While a socket waits for bytes
// on TCP or a Unix socket and has none, it holds no buffer.
//
// It is safe for use by any number of goroutines; see the package
// documentation for how calls are ordered.
//
// A type that embeds a *BufferedSocket and has a Read or Write of its own must
// have WriteTo and ReadFrom, too: io.Copy prefers these. Embedding it as a
// net.Conn avoids that.
type BufferedSocket struct {
	conn    net.Conn        // changed with both locks held
	raw     syscall.RawConn // its descriptor, or nil; changed with conn
	timeout atomic.Int64
	maxSize atomic.Int64
	user    atomic.Pointer[userDeadlines]
	recv    half
	send    half
	reset   atomic.Pointer[error] // a reset of the descriptor that a call has met
	end     error                 // what further reads return; guarded by recv

	readSize   int32
	generation int16 // how often conn was changed
	splitEnded bool  // there is no token behind the last one; guarded by recv
	handshake  *half // the gate to a handshake that is due, or nil; changed with conn
}

var (
	_ net.Conn      = (*BufferedSocket)(nil)
	_ io.WriterTo   = (*BufferedSocket)(nil)
	_ io.ReaderFrom = (*BufferedSocket)(nil)
	_ syscall.Conn  = (*BufferedSocket)(nil)
)

// NewBufferedSocket returns a socket on conn. It takes the options
// [WithTimeout], [WithMaxSize] and [WithReadSize], and panics if conn is nil,
// or an option is not for constructors or has a bad value.
//
// The connection must be one of a stream: packets would be cut. It must not be
// read or written by others from then on, and deadlines set on it before are
// not kept.
func NewBufferedSocket(conn net.Conn, opts ...Option) *BufferedSocket {
	return newSocket("NewBufferedSocket", conn, opts)
}

func newSocket(op string, conn net.Conn, opts []Option) *BufferedSocket {
	if conn == nil {
		panic("bufsock: " + op + ": nil connection")
	}
	s := unconnected(op, opts)
	liftDeadlines(conn)
	s.use(conn)
	return s
}

// unconnected returns a socket without a connection.
func unconnected(op string, opts []Option) *BufferedSocket {
	s := &BufferedSocket{readSize: defaultReadSize}
	s.timeout.Store(int64(DefaultTimeout))
	s.maxSize.Store(DefaultMaxSize)
	s.configure(op, opts)
	return s
}

// Dial connects to the address and returns a socket on the connection. The
// timeout of the socket bounds connecting, too, as does ctx. See [net.Dial]
// for network and address, and [NewBufferedSocket] for opts.
//
// If the time is up it returns a *TimeoutError, if ctx is canceled an error
// that matches its cause, else the error of [net.Dialer.DialContext].
func Dial(ctx context.Context, network, address string, opts ...Option) (*BufferedSocket, error) {
	if ctx == nil {
		return nil, invalid("Dial", "nil context")
	}
	s := unconnected("Dial", opts)
	timeout := s.Timeout()
	d := net.Dialer{Timeout: timeout}
	switch {
	case timeout < 0:
		d.Timeout = 0
	case timeout == 0:
		d.Timeout = grace
	}
	conn, err := d.DialContext(ctx, network, address)
	if err == nil {
		s.use(conn)
		return s, nil
	}
	c := call{request: request{op: "Dial", timeout: timeout, ctx: ctx}, cause: err, out: true}
	e, ok := errors.AsType[net.Error](err)
	timedOut := ok && e.Timeout() && !errors.Is(err, syscall.ETIMEDOUT)
	if d, ok := ctx.Deadline(); timedOut && ok && time.Until(d) <= 0 {
		<-ctx.Done() // the poller was faster than the timer of the context
	}
	if timedOut || c.canceled() {
		return nil, c.timeUp(0, want{})
	}
	return nil, err
}

// configure applies the options of a constructor, all or none.
func (s *BufferedSocket) configure(op string, opts []Option) {
	for _, o := range opts {
		kind := o.kind()
		switch {
		case kind&optNew == 0:
			panic("bufsock: " + op + ": " + kind.String() + " does not apply to constructors")
		case kind == optReadSize && (o.n < 1 || o.n > maxReadSize):
			panic("bufsock: " + op + ": WithReadSize wants 1 byte to 1 GiB")
		}
	}
	for _, o := range opts {
		switch o.kind() {
		case optTimeout:
			s.SetTimeout(time.Duration(o.n))
		case optMaxSize:
			s.SetMaxSize(int(o.n))
		case optReadSize:
			s.recv.mu.Lock()
			s.readSize = int32(o.n)
			s.recv.mu.Unlock()
		}
	}
}

// liftDeadlines lifts the deadlines that were set on conn before, say for a
// handshake. Of a type that is not known all but this is left to the first
// call.
func liftDeadlines(conn net.Conn) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn, handshaker:
		_ = conn.SetReadDeadline(time.Time{}) // if that fails, so will the first call
		_ = conn.SetWriteDeadline(time.Time{})
	}
}

// use puts the socket on conn. Nobody else may be using it.
func (s *BufferedSocket) use(conn net.Conn) {
	s.conn, s.raw = conn, descriptor(conn)
	s.recv.try, s.send.try = nil, nil
	if s.raw != nil {
		s.recv.try, s.send.try = s.tryRead, s.tryWrite
	}
	s.end, s.splitEnded = nil, false
	s.reset.Store(nil)
	s.generation++
	s.handshake = nil
	if _, ok := conn.(handshaker); ok {
		s.handshake = new(half)
	}
}

// prepare reads the options of a call, of which it takes those in accept.
func (r *request) prepare(s *BufferedSocket, opts []Option, accept optionKind) error {
	r.timeout = time.Duration(s.timeout.Load())
	r.max = int(s.maxSize.Load())
	if len(opts) == 0 {
		return nil
	}
	return r.apply(opts, accept)
}

// apply sets what the options say.
func (r *request) apply(opts []Option, accept optionKind) (err error) {
	for i := range opts {
		o := &opts[i]
		kind := o.kind()
		switch kind & accept {
		case optTimeout:
			r.timeout = time.Duration(o.n)
		case optMaxSize:
			r.max = int(o.n)
		case optContext:
			ctx, ok := o.what.(context.Context)
			if !ok {
				err = invalid(r.op, "WithContext wants a context that is not nil")
			}
			r.ctx = ctx
		case optDelimiter:
			r.keepDelim = true
		case optAppend:
			r.dst = unsafe.Slice((*byte)(o.what.(memory)), o.cap)[:o.n]
		default:
			err = invalid(r.op, "%v does not apply to this call", kind)
		}
	}
	return err
}

// Timeout returns the timeout of calls that are given none.
func (s *BufferedSocket) Timeout() time.Duration { return time.Duration(s.timeout.Load()) }

// SetTimeout sets the timeout of calls that are given none: [NoTimeout], or
// any negative duration, [NonBlocking], or a duration that bounds the whole
// call. It does not change that of a call under way, and does not bound Read,
// Write, WriteTo and ReadFrom: deadlines do.
func (s *BufferedSocket) SetTimeout(d time.Duration) { s.timeout.Store(int64(max(d, NoTimeout))) }

// SetBlocking sets the timeout to [NoTimeout] if blocking is true, else to
// [NonBlocking].
func (s *BufferedSocket) SetBlocking(blocking bool) {
	if blocking {
		s.SetTimeout(NoTimeout)
	} else {
		s.SetTimeout(NonBlocking)
	}
}

// MaxSize returns the max size of calls that are given none, in bytes, or
// [NoLimit].
func (s *BufferedSocket) MaxSize() int { return int(s.maxSize.Load()) }

// SetMaxSize sets the max size of calls that are given none, in bytes;
// [NoLimit], or any negative size, for no limit. It does not change that of a
// call under way.
func (s *BufferedSocket) SetMaxSize(n int) { s.maxSize.Store(int64(max(n, NoLimit))) }

// limit returns the max size as a number to compare with.
func (r *request) limit() int {
	if r.max < 0 {
		return math.MaxInt
	}
	return r.max
}

// Close closes the connection. Calls that are blocked return an error that
// matches [net.ErrClosed], as do all calls from then on. Both buffers are
// emptied; what is in the send buffer is not sent, so call Flush first. Close
// does not wait for other calls, and may be called again: it then returns nil.
// On TLS it says goodbye, for which crypto/tls gives a peer that does not read
// five seconds.
//
// A TCP connection that is closed before all that came was received is reset,
// and the peer may then lose the answer that was sent last. To end a connection
// on which the peer may still be sending, call CloseWrite first, and then
// Discard a size that is larger than all that can come, with a timeout.
func (s *BufferedSocket) Close() error {
	first := s.recv.close()
	s.send.close()
	if !first {
		return nil
	}
	s.recv.mu.Lock()
	conn, gate := s.conn, s.handshake
	s.recv.mu.Unlock()
	if gate != nil {
		gate.close()
	}
	if _, ok := conn.(handshaker); ok {
		_ = conn.SetReadDeadline(past) // the farewell of TLS may take its time
	}
	return conn.Close()
}

// close marks the half as closed and reports whether it was not yet.
func (h *half) close() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.closed = true
	h.notifyAll()
	if !h.busy {
		h.tidy()
	}
	return true
}

// isClosed returns an error after Close.
func (h *half) isClosed(op string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return &closedError{op}
	}
	return nil
}

// Upgrade puts another connection under the socket: the one that wrap returns
// for the present one, such as tls.Client(conn, config) after STARTTLS.
// Deadlines that were set on the socket hold for it, too.
//
// It waits for its turn on both sides, within the timeout of the socket, and
// fails with an error that matches [ErrBufferedData] if either buffer holds
// bytes: plaintext that came before the upgrade must never be read as if it had
// come through TLS (CVE-2011-0411). Plaintext that the kernel still holds goes
// to the handshake, which fails on it.
//
// If Upgrade fails, or wrap panics, the socket stays on the present connection.
// After ErrBufferedData nothing has been read or written, and the dialogue can
// go on in plaintext. After an error of wrap close the socket: a part of a
// handshake may have been sent or read.
//
// wrap must use the connection that it is given, and not the socket, whose
// calls wait until wrap has returned; Close does not. No timeout bounds wrap.
// For TLS it should do the handshake, with [crypto/tls.Conn.HandshakeContext]
// and a context that ends. A server does best to write its answer to STARTTLS
// in wrap, to the connection that it is given: then a client that sent
// plaintext ahead gets none.
func (s *BufferedSocket) Upgrade(wrap func(net.Conn) (net.Conn, error)) error {
	if wrap == nil {
		return invalid("Upgrade", "nil function")
	}
	in := call{request: request{op: "Upgrade", timeout: s.Timeout()}}
	if err := s.hold(&in, &s.recv); err != nil {
		return err
	}
	defer s.release(&in, &s.recv)
	out := call{request: request{op: "Upgrade", timeout: in.timeout}, until: in.until}
	if err := s.hold(&out, &s.send); err != nil {
		return err
	}
	defer s.release(&out, &s.send)

	received, unsent := s.Buffered(), len(s.SendBuffer())
	if received > 0 || unsent > 0 {
		return &usageError{"Upgrade", "refused, because " + byteCount(received) + " received and " +
			byteCount(unsent) + " unsent belong to the present connection", ErrBufferedData}
	}
	conn, err := wrap(s.conn)
	if err != nil {
		return cmp.Or(s.recv.isClosed("Upgrade"), err)
	}
	if conn == nil {
		return invalid("Upgrade", "the function returned neither a connection nor an error")
	}
	err = s.replaceConn(conn)
	if _, closed := err.(*closedError); closed {
		conn.Close()
	}
	return err
}

// replaceConn puts the socket on conn. The caller has both turns.
func (s *BufferedSocket) replaceConn(conn net.Conn) error {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	s.send.mu.Lock()
	defer s.send.mu.Unlock()
	if s.recv.closed {
		return &closedError{"Upgrade"}
	}
	if d := s.user.Load(); d != nil {
		if err := errors.Join(conn.SetReadDeadline(d.read), conn.SetWriteDeadline(d.write)); err != nil {
			return err
		}
	} else {
		liftDeadlines(conn)
	}
	s.use(conn)
	return nil
}

// NetConn returns the wrapped connection. Bytes in the receive buffer are not
// seen by its Read, and deadlines set on it are not known to the socket.
func (s *BufferedSocket) NetConn() net.Conn {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.conn
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
		return rawConn{raw}, err
	}
	return nil, unsupported("SyscallConn", conn)
}

// A rawConn has the three methods only. By the others that net has given to
// its own, package os would find the descriptor and, in io.Copy from a file,
// write to it past the send buffer.
type rawConn struct{ syscall.RawConn }

// CloseRead closes the reading side of the connection. What is in the receive
// buffer can still be received. The error matches [errors.ErrUnsupported] if
// the connection cannot do that.
func (s *BufferedSocket) CloseRead() error {
	if err := s.recv.isClosed("CloseRead"); err != nil {
		return err
	}
	conn := s.NetConn()
	if c, ok := conn.(interface{ CloseRead() error }); ok {
		return c.CloseRead()
	}
	return unsupported("CloseRead", conn)
}

// CloseWrite closes the writing side of the connection: the peer reads the end
// of the stream. What is in the send buffer is not sent, so call Flush first. A
// TLS connection waits for a write under way.
// The error matches [errors.ErrUnsupported] if the connection cannot do that.
func (s *BufferedSocket) CloseWrite() error {
	if err := s.send.isClosed("CloseWrite"); err != nil {
		return err
	}
	conn := s.NetConn()
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return unsupported("CloseWrite", conn)
}
