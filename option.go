package bufsock

import (
	"context"
	"math"
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
	optionKind uint16
)

// These are bits, so that a call can say which of them it takes.
const (
	optTimeout optionKind = 1 << iota
	optMaxSize
	optReadSize
	optContext
	optDelimiter
	optAppend
	optIdle
	optFlush
	optConn // not an option: marks the methods of net.Conn, which do not flush and are never idle

	optSend    = optTimeout | optContext
	optReceive = optSend | optIdle | optFlush
	optMessage = optReceive | optAppend
	optNew     = optTimeout | optMaxSize | optReadSize | optIdle | optFlush
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
	case optIdle:
		return "WithIdleTimeout"
	case optFlush:
		return "WithFlush"
	}
	return "the zero Option"
}

// WithTimeout sets the timeout of the socket, in a constructor, or of the
// call: [NoTimeout], [NonBlocking], or a duration that bounds the whole call.
//
// A negative duration is no timeout. So do not compute one from a moment that
// may have passed: use [WithContext] or SetDeadline for that.
func WithTimeout(d time.Duration) Option { return Option{what: optTimeout, n: int64(d)} }

// WithIdleTimeout sets how long a receive waits for the first byte of its
// message when nothing is buffered, in a constructor for all receives of the
// socket, or for the call. Then its timeout begins: such a call has two
// bounds, one behind the other, and neither starts again. A server gives an
// hour to a client that is quiet, and ten seconds to a line that has begun:
//
//	s := bufsock.NewBufferedSocket(conn, bufsock.WithIdleTimeout(time.Hour))
//
// A negative duration is no bound: the wait for the first byte may last for
// ever. Zero is not valid. Without this option the timeout covers both, and so
// does that of a call that is given [WithTimeout] alone: it sets the idle
// timeout of the socket aside. The wait for another goroutine's receive counts
// as idle, too. A [NonBlocking] call never waits.
func WithIdleTimeout(d time.Duration) Option { return Option{what: optIdle, n: int64(d)} }

// WithFlush makes a receive that must wait for bytes send the send buffer
// first, within its timeout, and only then wait; an idle wait begins behind
// it. In a constructor it holds for all receives of the socket.
//
// So a server that answers with [BufferedSocket.Buffer] makes one write for
// all requests that came together, and never waits with an answer in hand. A
// receive that is answered from the buffer sends nothing, nor does one of what
// has come, as far as that can be known without waiting, or a [NonBlocking]
// one. If another goroutine's send has the turn, it sends what is
// buffered, and the receive goes on without it. If sending fails, the receive
// fails with that error and has consumed nothing.
func WithFlush() Option { return Option{what: optFlush} }

// WithMaxSize sets the max size of the socket, in a constructor, or of the
// call, in bytes; [NoLimit] for none. Zero admits only empty results.
func WithMaxSize(n int) Option { return Option{what: optMaxSize, n: int64(n)} }

// WithReadSize sets how many bytes are asked of the connection per read, from 1
// byte to 1 GiB; 32 KiB is the default. The first read of a wait may ask for
// less, and one of a large message straight into the memory of [AppendTo] for
// more. It is for constructors only.
func WithReadSize(n int) Option { return Option{what: optReadSize, n: int64(n)} }

// WithContext ends the call when ctx is done, also while it waits for its turn
// or for a TLS handshake. The error matches the cause of ctx; if the deadline
// of ctx has passed, it is a *TimeoutError that matches
// [context.DeadlineExceeded]. The call's timeout holds as well, whichever ends
// first: that is a *TimeoutError, too, so ask ctx.Err where it matters which.
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

// A request is what a call of a method was asked for. What is buffered may be
// the answer to it, and then there is no more to a call than this: it should
// stay small.
type request struct {
	op      string
	timeout time.Duration
	idle    time.Duration   // for the first byte, if it is given; negative: no bound
	max     int             // the max size, or NoLimit
	ctx     context.Context // nil: none
	dst     []byte          // what to append the message to; nil: new memory
	given   optionKind      // the options of this call
}

// prepare reads the options of a call, of which it takes those in accept.
func (r *request) prepare(s *BufferedSocket, opts []Option, accept optionKind) (err error) {
	r.timeout = time.Duration(s.timeout.Load())
	r.max = int(s.maxSize.Load())
	for i := range opts {
		o := &opts[i]
		kind := o.kind()
		switch kind & accept {
		case optAppend:
			r.dst = unsafe.Slice((*byte)(o.what.(memory)), o.cap)[:o.n]
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
		case optIdle:
			if o.n == 0 {
				err = invalid(r.op, "WithIdleTimeout of 0; to not wait use WithTimeout(NonBlocking)")
			}
			r.idle = time.Duration(o.n)
		case optDelimiter, optFlush:
		default:
			err = invalid(r.op, "%v does not apply to this call", kind)
		}
		r.given |= kind
	}
	return err
}

// prepareSize prepares a call that is given a size. A max size applies to it
// only if the call was given one.
func (r *request) prepareSize(s *BufferedSocket, size int, opts []Option, accept optionKind) error {
	if err := r.prepare(s, opts, accept); err != nil {
		return err
	}
	if size < 0 {
		return invalid(r.op, "negative size %d", size)
	}
	if r.given&optMaxSize == 0 {
		r.max = NoLimit
	}
	return nil
}

// limit returns the max size as a number to compare with.
func (r *request) limit() int {
	if r.max < 0 {
		return math.MaxInt
	}
	return r.max
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
		case kind == optIdle && o.n == 0:
			panic("bufsock: " + op + ": WithIdleTimeout wants a duration that is not 0")
		}
	}
	for _, o := range opts {
		switch o.kind() {
		case optTimeout:
			s.SetTimeout(time.Duration(o.n))
		case optMaxSize:
			s.SetMaxSize(int(o.n))
		case optReadSize:
			s.readSize.Store(int32(o.n))
		case optIdle:
			s.idle.Store(o.n)
		case optFlush:
			s.flush.Store(true)
		}
	}
}
