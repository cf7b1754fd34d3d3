package bufsock_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// This file makes the random calls of model_test.go, and random sends, and
// compares what a socket does with the model.

// kind names an error as a verdict does, and "later" one that says to try
// again.
func kind(err error) string {
	switch {
	case err == nil:
		return ""
	case err == io.EOF:
		return "eof"
	case errors.Is(err, errFull):
		return "full"
	case errors.Is(err, bufsock.ErrBroken):
		return "broken"
	case errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrNoDeadline),
		errors.Is(err, bufsocktest.ErrPassing), err == io.ErrNoProgress, err == io.ErrShortWrite, isOddTimeout(err):
		return "later"
	case errors.Is(err, errGone):
		return "reset"
	}
	switch err.(type) {
	case *net.OpError:
		return "reset" // the connection is broken
	case *bufsock.MessageTooLongError:
		return "too long"
	case *bufsock.ConnectionClosedError:
		return "closed"
	case *bufsock.NetstringInvalidSizeError:
		return "bad size"
	case *bufsock.NetstringMessageTooLongError:
		return "frame too long"
	case *bufsock.NetstringProtocolError:
		return "no comma"
	}
	return err.Error()
}

// isOddTimeout reports whether err is a timeout that matches nothing, as the
// methods of net.Conn return it.
func isOddTimeout(err error) bool {
	e, ok := err.(interface{ Timeout() bool })
	_, known := err.(net.Error)
	return ok && !known && e.Timeout()
}

// errGone is a reset of a connection whose errors are not those of the operating
// system.
var errGone = errors.New("gone")

// An ending is what a connection has reported of its end.
type ending struct {
	failure error // behind which nothing has come but, perhaps, the end
	isNone  bool  // it was reported behind a failure, and so is no end
}

// note looks at what a Read returns.
func (e *ending) note(n int, err error) {
	if n > 0 {
		e.failure = nil
	}
	switch {
	case errors.Is(err, bufsocktest.ErrPassing):
		e.failure = err
	case err == io.EOF && e.failure != nil:
		e.isNone = true
	}
}

// impatience returns options that make a call likely to fail in the middle.
func impatience(r *rand.Rand) (opts []bufsock.Option, cancel func()) {
	return within(r, 200*time.Microsecond)
}

// within returns options that end a call within d, or none.
func within(r *rand.Rand, d time.Duration) (opts []bufsock.Option, cancel func()) {
	d = time.Duration(r.Int64N(int64(d)))
	switch r.IntN(6) {
	case 0:
		return []bufsock.Option{bufsock.WithTimeout(bufsock.NonBlocking)}, func() {}
	case 1, 2:
		return []bufsock.Option{bufsock.WithTimeout(d)}, func() {}
	case 3:
		ctx, cancel := context.WithCancel(context.Background())
		if r.IntN(2) == 0 {
			cancel()
		} else {
			time.AfterFunc(d, cancel)
		}
		return []bufsock.Option{bufsock.WithContext(ctx)}, cancel
	case 4:
		ctx, cancel := context.WithTimeout(context.Background(), d)
		return []bufsock.Option{bufsock.WithContext(ctx)}, cancel
	}
	return nil, func() {}
}

// patience returns no options.
func patience(*rand.Rand) ([]bufsock.Option, func()) { return nil, func() {} }

// A reading compares random receives from a socket with the plain bytes.
type reading struct {
	t    testing.TB
	r    *rand.Rand
	ns   *bufsock.NetstringSocket
	rest []byte // what is left of the stream

	impatience func(*rand.Rand) ([]bufsock.Option, func())
	conn       *scriptConn // below the socket, or nil
	passed     func() int  // how many bytes came out of the connection, or nil
	sent       func() int  // how many bytes of the stream the peer has sent, if it may stop
	noEnd      func() bool // the connection has ended behind an error that was to pass; or nil

	taken  int   // consumed so far
	err    error // of the last receive
	broken bool  // the connection is, with an error
}

// receive makes a request until there is a verdict, wants the right one, and
// returns it.
func (rd *reading) receive(req request) verdict {
	if rd.conn != nil {
		rd.conn.asked = -1
	}
	got := rd.attempt(req)
	if got.err == "reset" && rd.passed == nil {
		return got // how much of the stream is lost cannot be told
	}
	want := rd.judge(req, got)
	require.Equalf(rd.t, want.err, got.err, "%s of %.60q (%d)", req.name, rd.rest, len(rd.rest))
	if req.inexact && want.err == "" {
		require.Truef(rd.t, bytes.HasPrefix(want.msg, got.msg), "%s: %.40q is not the next of %.40q", req.name, got.msg, rd.rest)
		require.True(rd.t, len(got.msg) > 0 || len(want.msg) == 0, "nothing received")
		want.consumed = len(got.msg)
	} else {
		require.Equalf(rd.t, string(want.msg), string(got.msg), "%s of %.60q", req.name, rd.rest)
		require.Equalf(rd.t, want.n, got.n, "%s of %.60q", req.name, rd.rest)
	}
	if rd.conn != nil && rd.conn.asked >= 0 {
		require.Lessf(rd.t, rd.conn.asked-rd.taken, want.shown, "%s of %.60q: it waits although it is certain", req.name, rd.rest)
	}
	rd.consume(want.consumed)
	return got
}

// judge returns the verdict on what is left of the stream. That is less than
// was thought if the connection has broken, or the peer has stopped sending.
func (rd *reading) judge(req request, got verdict) verdict {
	if got.err == "reset" && !rd.broken {
		rd.broken = true
		rd.endAt(rd.passed())
	}
	want := req.judge(rd.rest)
	if rd.sent != nil && (want.shown == atEnd || want.err != got.err) {
		rd.endAt(rd.sent())
		want = req.judge(rd.rest)
	}
	if rd.broken && want.shown == atEnd {
		want.err, want.msg = "reset", nil
		if !req.drops {
			want.consumed = 0
		}
	}
	return want
}

// endAt notes that no more than n bytes of the whole stream will come.
func (rd *reading) endAt(n int) {
	require.LessOrEqual(rd.t, rd.taken, n, "more bytes were received than have come")
	rd.rest = rd.rest[:min(n-rd.taken, len(rd.rest))]
}

// consume notes n bytes as consumed, and wants the socket to hold the others
// that have come.
func (rd *reading) consume(n int) {
	rd.rest = rd.rest[n:]
	rd.taken += n
	if rd.passed != nil {
		require.Equal(rd.t, rd.passed(), rd.taken+rd.ns.Socket().Buffered(), "bytes received, and consumed or buffered")
	}
}

// hopeless is when calls that say to try again are not believed any more.
const hopeless = time.Minute

// attempt makes a request again and again as long as it says so.
func (rd *reading) attempt(req request) verdict {
	got := verdict{err: "later"}
	done, start := 0, time.Now()
	for got.err == "later" {
		require.Lessf(rd.t, time.Since(start), hopeless, "%s does not come to an end: %v", req.name, rd.err)
		opts, cancel := rd.impatience(rd.r)
		var dst []byte
		if !req.bare && rd.r.IntN(2) == 0 {
			dst = append(make([]byte, 0, 3+rd.r.IntN(50_000)), "dst"...)
			opts = append(opts, bufsock.AppendTo(dst))
		}
		msg, n, err := req.call(rd.ns, done, opts...)
		cancel()
		require.Truef(rd.t, bytes.HasPrefix(msg, dst), "%s: dst is gone: %.20q", req.name, msg)
		got, rd.err = verdict{msg: msg[len(dst):], n: n, err: kind(err)}, err
		if rd.noEnd != nil && errors.Is(err, bufsocktest.ErrPassing) && rd.noEnd() {
			got.err = "reset" // this error does not pass any more
		}
		if req.drops {
			done += n
			got.n = done
		} else if err != nil {
			rd.keeps(req, got.msg, err)
		}
	}
	return got
}

// keeps wants a receive that failed to have returned and consumed nothing.
func (rd *reading) keeps(req request, msg []byte, err error) {
	require.Emptyf(rd.t, msg, "%s: a message with the error %v", req.name, err)
	left := rd.ns.Socket().RecvBuffer()
	require.Truef(rd.t, bytes.HasPrefix(rd.rest, left),
		"%s: the buffer is not the next of the stream: %.40q, not %.40q", req.name, left, rd.rest)
}

// finish wants the rest of the stream.
func (rd *reading) finish() { rd.receive(recvClose(bufsock.NoLimit)) }

// A scriptConn hands out a stream in pieces, and then io.EOF.
type scriptConn struct {
	net.Conn
	stream  []byte
	size    int                 // how many bytes a Read returns at most
	next    func() (int, error) // or, if not nil, that and an error, for each Read
	withEOF bool                // the last bytes come together with io.EOF
	ending  ending

	taken int // bytes of the stream
	asked int // taken when the last Read was made
}

func (c *scriptConn) Read(p []byte) (int, error) {
	c.asked = c.taken
	size, err := c.size, error(nil)
	if c.next != nil {
		size, err = c.next()
	}
	n := copy(p[:min(len(p), size)], c.stream)
	c.stream = c.stream[n:]
	c.taken += n
	if err == bufsocktest.ErrPassing && len(c.stream) == 0 {
		err = nil // behind it the end would not be one
	}
	if err == nil && len(c.stream) == 0 && (n == 0 && size > 0 || n > 0 && c.withEOF) {
		err = io.EOF
	}
	c.ending.note(n, err)
	return n, err
}

func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }
func (c *scriptConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "script", Net: "script"} }

// A writing compares random sends on a socket with all that was given to them.
type writing struct {
	t     testing.TB
	r     *rand.Rand
	ns    *bufsock.NetstringSocket
	given []byte // to be sent, in order
	sent  int    // how many of them the socket has said to have sent
	gone  bool   // the last send was one that keeps nothing
	over  bool   // nothing can be sent any more

	impatience func(*rand.Rand) ([]bufsock.Option, func())
	patient    bool          // write deadlines are not set, either
	passed     func() []byte // what the connection has been given, or nil
}

// send makes a random send, wants it to keep what it has not sent, and returns
// the kind of its error. When nothing can be sent any more it wants it to fail
// at once, and to send and keep nothing.
func (w *writing) send(size int) string {
	s := w.ns.Socket()
	before := len(s.SendBuffer())
	given := len(w.given)
	opts, cancel := w.impatience(w.r)
	n, err := w.attempt(randomBytes(w.r, size), opts)
	cancel()
	require.Equal(w.t, w.over, errors.Is(err, bufsock.ErrBroken), "%v", err)
	if w.over {
		require.LessOrEqual(w.t, n, 0)
		w.given = w.given[:given]
	}
	w.over = w.over || err != nil && kind(err) != "later"
	unsent := s.SendBuffer()
	if n < 0 { // the call does not say it
		n = len(w.given) - w.sent - len(unsent)
	}
	w.sent += n
	if _, timeout := err.(*bufsock.TimeoutError); timeout && n > 0 && !w.gone {
		require.NotEmpty(w.t, unsent, "%v, though all was sent", err)
	}
	require.GreaterOrEqual(w.t, len(w.given), w.sent)
	require.True(w.t, bytes.Equal(w.given[w.sent:], unsent),
		"%v: the send buffer is not what is unsent: %d bytes, not %d; %d before", err, len(unsent), len(w.given)-w.sent, before)
	if w.passed != nil {
		require.True(w.t, bytes.Equal(w.given[:w.sent], w.passed()), "%v: sent %d bytes, not %d", err, len(w.passed()), w.sent)
	}
	return kind(err)
}

// sendMany makes sixty sends, of fewer than most bytes, and sends the rest of
// them. It reports whether the connection broke.
func (w *writing) sendMany(most int) (broken bool) {
	for range 60 {
		size := w.r.IntN(500)
		if w.r.IntN(4) == 0 {
			size = w.r.IntN(most)
		}
		if kind := w.send(size); kind != "" && kind != "later" {
			broken = true
		}
	}
	return w.finish() != "" || broken
}

// attempt makes a send and adds what it was given to w. It returns how many
// bytes were sent, or -1.
func (w *writing) attempt(data []byte, opts []bufsock.Option) (int, error) {
	s := w.ns.Socket()
	w.gone = false
	cut := w.r.IntN(len(data) + 1)
	switch w.r.IntN(7) {
	case 0:
		w.given = append(w.given, data...)
		return s.Send(data, opts...)
	case 1:
		w.given = append(w.given, data...)
		return s.SendBuffers([][]byte{data[:cut], nil, data[cut:]}, opts...)
	case 2:
		w.given = append(w.given, data...)
		return 0, s.Buffer(data)
	case 3:
		return -1, s.Flush(opts...)
	case 4:
		w.given = bufsock.AppendNetstring(w.given, data)
		return -1, w.ns.WriteNetstring(data, append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
	}
	w.gone = true
	copied := w.r.IntN(2) == 0
	patience := time.Duration(w.r.IntN(500)) * time.Microsecond
	if w.patient {
		patience = 0
	}
	return -1, withDeadline(s, s.SetWriteDeadline, patience, func() error {
		var n int64
		var err error
		if copied {
			n, err = s.ReadFrom(bytes.NewReader(data))
		} else {
			var m int
			m, err = s.Write(data)
			n = int64(m)
		}
		w.given = append(w.given, data[:n]...)
		return err
	})
}

// finish sends what is unsent, and returns the kind of the error if that fails.
func (w *writing) finish() string {
	start := time.Now()
	err := w.ns.Socket().Flush(bufsock.WithTimeout(bufsock.NoTimeout))
	for kind(err) == "later" {
		require.Less(w.t, time.Since(start), hopeless, "Flush does not come to an end: %v", err)
		err = w.ns.Socket().Flush(bufsock.WithTimeout(bufsock.NoTimeout))
	}
	return kind(err)
}
