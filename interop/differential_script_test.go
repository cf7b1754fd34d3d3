//go:build unix

package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A script is what a peer does, and what is called meanwhile. Times are in
// microseconds since its beginning; below zero they mean never.
type script struct {
	Timeout  int64      `json:"timeout"` // of the socket at first
	MaxSize  int64      `json:"maxsize"` // of the socket at first
	Segments []segment  `json:"segments"`
	Joined   bool       `json:"joined"` // one read takes all that has arrived
	End      int64      `json:"end"`    // of the stream, behind the segments
	Reset    bool       `json:"reset"`  // that is a reset
	Room     [][2]int64 `json:"room"`   // when the peer takes more, and how many bytes
	Breaks   int64      `json:"breaks"` // when sending begins to fail
	Steps    []*step    `json:"steps"`

	seed     uint64
	readSize int
}

// A segment is a piece of the stream that one read takes.
type segment struct {
	At   int64  `json:"at"` // when it arrives
	Data latin1 `json:"data"`
}

// absent, as a timeout or a max size, is not given; none is no limit.
const (
	absent = -2
	none   = -1
)

// A step is a call, by its name in boltons.
type step struct {
	Op      string `json:"op"`
	Size    int    `json:"size"`
	Text    latin1 `json:"text"` // the delimiter, or what is sent
	Timeout int64  `json:"timeout"`
	MaxSize int64  `json:"maxsize"`
	Flag    bool   `json:"flag"` // with the delimiter, or blocking

	pause       int64 // before the call
	appending   bool  // with AppendTo
	sockTimeout int64 // of the socket, at that time
	sockMaxSize int64 // of the socket, at that time
	closed      bool  // the socket has been closed

	At     int64  `json:"at"`
	Effect effect `json:"effect"` // on bufsock
}

// An effect is what comes of a call.
type effect struct {
	Kind     string `json:"kind"` // of the error, or "ok"
	Value    latin1 `json:"value"`
	Clock    int64  `json:"clock"` // when the call returned
	Sent     latin1 `json:"sent"`
	Taken    int    `json:"taken"`    // from the connection, by all calls
	Received latin1 `json:"received"` // the receive buffer
	Unsent   latin1 `json:"unsent"`   // the send buffer
}

// consumed returns how many bytes of the stream all calls have consumed.
func (e *effect) consumed() int { return e.Taken - len(e.Received) }

func (e *effect) equal(other *effect) bool {
	return e.Kind == other.Kind && bytes.Equal(e.Value, other.Value) && e.Clock == other.Clock &&
		bytes.Equal(e.Sent, other.Sent) && e.sameState(other)
}

func (e *effect) sameState(other *effect) bool {
	return e.Taken == other.Taken && bytes.Equal(e.Received, other.Received) && bytes.Equal(e.Unsent, other.Unsent)
}

// timeout returns the timeout that holds for the call.
func (st *step) timeout() int64 {
	if st.Timeout == absent {
		return st.sockTimeout
	}
	return st.Timeout
}

// maxSize returns the max size that holds for the call.
func (st *step) maxSize() int {
	size := st.MaxSize
	if size == absent {
		size = st.sockMaxSize
	}
	if size == none {
		return math.MaxInt
	}
	return int(size)
}

// conserves reports whether the call has lost, repeated or invented nothing, of
// what came before it and of the stream.
func (st *step) conserves(before *effect, stream []byte) bool {
	e := &st.Effect
	if st.closed || st.Op == "close" {
		return len(e.Received)+len(e.Unsent) == 0
	}
	out := slices.Clone(before.Unsent)
	switch {
	case e.Kind == "ErrBroken":
	case st.Op == "send" || st.Op == "buffer":
		out = append(out, st.Text...)
	case st.Op == "write_ns" && e.Kind != "NetstringMessageTooLongError":
		out = bufsock.AppendNetstring(out, st.Text)
	}
	return bytes.Equal(e.Received, stream[e.consumed():e.Taken]) && bytes.Equal(out, slices.Concat(e.Sent, e.Unsent)) &&
		(e.Kind == "ok" || e.consumed() == before.consumed())
}

// latin1 is bytes that travel as a string of JSON, each as one character.
type latin1 []byte

func (b latin1) MarshalText() ([]byte, error) {
	text := make([]byte, 0, len(b)+len(b)/4)
	for _, c := range b {
		text = utf8.AppendRune(text, rune(c))
	}
	return text, nil
}

func (b *latin1) UnmarshalText(text []byte) error {
	*b = make(latin1, 0, len(text))
	for _, r := range string(text) {
		*b = append(*b, byte(r))
	}
	return nil
}

// describe tells what the peer does and the first steps, as bufsock ran them.
func (sc *script) describe(steps int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "timeout %s, max size %s, read size %d, over a socket pair: %v\n",
		limitText(sc.Timeout), limitText(sc.MaxSize), sc.readSize, sc.Joined)
	for _, seg := range sc.Segments {
		fmt.Fprintf(&b, "%9dus arrives %.200q\n", seg.At, string(seg.Data))
	}
	fmt.Fprintf(&b, "%9dus the stream ends, by a reset: %v\n%9dus sending breaks\n", sc.End, sc.Reset, sc.Breaks)
	for _, room := range sc.Room {
		fmt.Fprintf(&b, "%9dus the peer takes %d bytes\n", room[0], room[1])
	}
	for _, st := range sc.Steps[:steps] {
		fmt.Fprintf(&b, "%v\n%13s%v\n", st, "", &st.Effect)
	}
	return b.String()
}

func (st *step) String() string {
	return fmt.Sprintf("%9dus %s(size %d, text %.200q, timeout %s, max size %s, flag %v)",
		st.At, st.Op, st.Size, string(st.Text), limitText(st.Timeout), limitText(st.MaxSize), st.Flag)
}

func (e *effect) String() string {
	return fmt.Sprintf("%s %.200q at %dus; sent %.200q, unsent %.200q; taken %d, buffered %.200q",
		e.Kind, string(e.Value), e.Clock, string(e.Sent), string(e.Unsent), e.Taken, string(e.Received))
}

func limitText(n int64) string {
	switch n {
	case absent:
		return "-"
	case none:
		return "none"
	}
	return strconv.FormatInt(n, 10)
}

// A scriptWriter writes a random script. Calls begin at multiples of 10 ms and
// have timeouts of as much. What arrives meanwhile does so 3 ms later, so that
// it does not in the very moment in which a timeout ends, nor in the millisecond
// that a NonBlocking call may take.
type scriptWriter struct {
	*rand.Rand
	sc         *script
	netstrings bool // the stream is mostly netstrings
	steady     bool // the peer takes a little whenever a timeout may end
}

const (
	millisecond = 1000
	grid        = 10 * millisecond
)

func newScript(seed uint64) *script {
	sc := &script{seed: seed, Segments: []segment{}, Room: [][2]int64{}, End: -1, Breaks: -1}
	w := &scriptWriter{Rand: rand.New(rand.NewPCG(seed, 0)), sc: sc}
	w.netstrings = w.IntN(3) == 0
	sc.Joined = w.IntN(5) == 0
	sc.Timeout = choose[int64](w, 10_000*millisecond, 10_000*millisecond, 10_000*millisecond, 3*grid, 3*grid, 3*grid, 0, none)
	sc.readSize = choose(w, 32<<10, 1+w.IntN(20), 1+w.IntN(300))
	if sc.Joined {
		sc.Timeout, sc.readSize = 0, 32<<10
	}
	sc.MaxSize = choose[int64](w, 32<<10, 32<<10, none, w.Int64N(100))
	w.writeStream()
	w.writeRoom()
	timeout, maxSize, closed := sc.Timeout, sc.MaxSize, false
	for range 5 + w.IntN(14) {
		st := w.step(maxSize)
		st.sockTimeout, st.sockMaxSize, st.closed = timeout, maxSize, closed
		switch st.Op {
		case "settimeout":
			timeout = st.Timeout
		case "setblocking":
			timeout = 0
			if st.Flag {
				timeout = none
			}
		case "setmaxsize":
			maxSize = st.MaxSize
		case "close":
			closed = true
		}
		sc.Steps = append(sc.Steps, st)
	}
	return sc
}

func choose[T any](w *scriptWriter, choices ...T) T { return choices[w.IntN(len(choices))] }

// writeStream writes what arrives, when and in which pieces.
func (w *scriptWriter) writeStream() {
	var stream latin1
	for range w.IntN(40) {
		stream = append(stream, w.message()...)
	}
	switch w.IntN(6) {
	case 0:
		stream = stream[:w.IntN(len(stream)+1)]
	case 1:
		stream = stream[:max(len(stream)-1, 0)]
	}
	at, largest := int64(0), choose(w, 2, 20, 200, 10_000)
	for len(stream) > 0 {
		n := min(1+w.IntN(largest), len(stream))
		w.sc.Segments = append(w.sc.Segments, segment{at, stream[:n:n]})
		stream = stream[n:]
		at = w.later(at)
	}
	if w.IntN(3) == 0 {
		w.sc.End = w.later(at)
		w.sc.Reset = !w.sc.Joined && w.IntN(6) == 0
	}
}

// writeRoom writes how much the peer takes, and when. That may be the moment in
// which a timeout ends.
func (w *scriptWriter) writeRoom() {
	if w.sc.Joined || w.IntN(2) == 0 {
		w.sc.Room = [][2]int64{{0, 1 << 30}}
		return
	}
	at := int64(0)
	w.steady = w.IntN(2) == 0
	for range w.IntN(30) {
		if w.steady {
			w.sc.Room = append(w.sc.Room, [2]int64{at, 1 + w.Int64N(6)})
			at += grid
		} else {
			w.sc.Room = append(w.sc.Room, [2]int64{at, 1 + w.Int64N(30)})
			at = w.later(at)
		}
	}
	if w.IntN(3) == 0 {
		w.sc.Breaks = at/grid*grid + 3*millisecond
	}
}

// later returns the moment at or a later one.
func (w *scriptWriter) later(at int64) int64 {
	if w.IntN(3) > 0 {
		return at
	}
	return at/grid*grid + w.Int64N(5)*grid + 3*millisecond
}

var scriptAlphabet = []byte("ab\r\n$,:0123 \x00\xff")

func (w *scriptWriter) bytes(n int) latin1 {
	b := make(latin1, n)
	for i := range b {
		b[i] = scriptAlphabet[w.IntN(len(scriptAlphabet))]
	}
	return b
}

// message returns what a call may be content with, or fail on.
func (w *scriptWriter) message() latin1 {
	switch n := w.IntN(80); {
	case n == 0:
		return w.bytes(w.IntN(3000))
	case w.netstrings && n == 1:
		return latin1(choose(w, "+3:abc,", "03:abc,", " 3:abc,", "3 :abc,", "1_1:hello world,", "3:abcd",
			"-1:,", ":,", "00:,", "99999999999999999999:", "123456", "7:", "3;abc,"))
	case w.netstrings && n < 78:
		return bufsock.AppendNetstring(nil, w.bytes(w.IntN(25)))
	case n < 40:
		return append(w.bytes(w.IntN(12)), '\r', '\n')
	}
	return w.bytes(w.IntN(25))
}

var scriptDelimiters = []string{"\n", "\r\n", "$$", "ab", "aab", "b", "\r\n\r\n", "aba", "\x00", ",", "0123456789012345678"}

// step writes a call, of a socket that has the max size.
func (w *scriptWriter) step(maxSize int64) *step {
	st := &step{Timeout: absent, MaxSize: absent, appending: w.IntN(4) == 0}
	if w.IntN(3) == 0 {
		st.pause = w.Int64N(6) * grid
	}
	choice := w.IntN(100)
	switch {
	case w.netstrings && choice < 60 && w.IntN(10) > 0:
		choice = 85
	case !w.netstrings && choice >= 82 && choice < 89 && w.IntN(4) > 0:
		choice = w.IntN(60)
	}
	switch {
	case choice < 60:
		w.receive(st, choice)
	case choice < 70:
		st.Op, st.Text, st.Timeout = "send", w.payload(), w.timeout()
	case choice < 76:
		st.Op, st.Text = "buffer", w.payload()
	case choice < 82:
		st.Op, st.Timeout = "flush", w.timeout()
	case choice < 89:
		st.Op, st.Timeout, st.MaxSize = "read_ns", w.timeout(), w.maxSize()
		if st.maxSize() == math.MaxInt || st.MaxSize == absent && maxSize == none {
			st.MaxSize = w.Int64N(100) // boltons cannot do without
		}
	case choice < 93 && maxSize != none:
		st.Op, st.Text, st.Timeout = "write_ns", w.payload(), w.timeout()
	case choice < 95:
		st.Op, st.MaxSize = "setmaxsize", choose[int64](w, none, w.Int64N(100), 32<<10, 32<<10)
	case choice == 99 && w.IntN(3) == 0:
		st.Op = "close"
	case choice < 97 || w.sc.Joined:
		st.Op, st.Flag = "setblocking", !w.sc.Joined && w.IntN(2) == 0
	default:
		st.Op = "settimeout"
		for st.Timeout == absent {
			st.Timeout = w.timeout()
		}
	}
	return st
}

// receive writes a call that receives.
func (w *scriptWriter) receive(st *step, choice int) {
	st.Timeout = w.timeout()
	switch {
	case choice < 30:
		st.Op, st.Text, st.MaxSize, st.Flag = "recv_until", latin1(choose(w, scriptDelimiters...)), w.maxSize(), w.IntN(3) == 0
		if w.IntN(50) == 0 {
			st.Text = nil
		}
	case choice < 55:
		st.Op, st.Size = choose(w, "recv_size", "peek", "recv"), choose(w, w.IntN(12), w.IntN(50), w.IntN(50), w.IntN(300))
		if w.IntN(30) == 0 {
			st.Size = choose(w, 0, -1, -3, 5000, 18_000, 18_000)
		}
	default:
		st.Op, st.MaxSize = "recv_close", w.maxSize()
	}
}

func (w *scriptWriter) timeout() int64 {
	switch n := w.IntN(20); {
	case n < 13 || w.sc.Joined:
		return absent
	case n < 14:
		return 0
	case n < 15:
		return none
	case n < 16:
		return 1
	}
	return (1 + w.Int64N(8)) * grid
}

func (w *scriptWriter) maxSize() int64 {
	return choose[int64](w, absent, absent, absent, absent, none, w.Int64N(12), w.Int64N(100))
}

func (w *scriptWriter) payload() latin1 {
	if w.IntN(300) == 0 && !w.sc.Joined && !w.steady {
		return w.bytes(w.IntN(100_000))
	}
	return w.bytes(w.IntN(choose(w, 10, 50)))
}

// A world is where a script runs: it has a clock, and knows what the
// connection has given and taken.
type world interface {
	pass(pause int64) // lets time pass, at least so much
	now() int64
	taken() int
	sent() latin1 // since it was asked last
}

// run makes the calls on a socket of bufsock.
func (sc *script) run(conn net.Conn, w world) {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(duration(sc.Timeout)),
		bufsock.WithMaxSize(int(sc.MaxSize)), bufsock.WithReadSize(sc.readSize))
	defer s.Close()
	for _, st := range sc.Steps {
		w.pass(st.pause)
		st.At = w.now()
		value, err := st.call(s)
		st.Effect = effect{
			Kind: kindOf(err), Value: value, Clock: w.now(),
			Sent: w.sent(), Taken: w.taken(),
			Received: s.RecvBuffer(), Unsent: s.SendBuffer(),
		}
		// On a connection without a descriptor NonBlocking is a millisecond.
		if e := &st.Effect; st.timeout() == 0 && e.Clock-st.At <= millisecond {
			e.Clock = st.At
		}
	}
}

func duration(microseconds int64) time.Duration {
	if microseconds == none {
		return bufsock.NoTimeout
	}
	return time.Duration(microseconds) * time.Microsecond
}

// call makes the call on a socket of bufsock.
func (st *step) call(s *bufsock.BufferedSocket) (value []byte, err error) {
	switch opts := st.options(); st.Op {
	case "recv":
		return s.Recv(st.Size, opts...)
	case "recv_size":
		return s.RecvSize(st.Size, opts...)
	case "peek":
		return s.Peek(st.Size, opts...)
	case "recv_until":
		return s.RecvUntil(st.Text, opts...)
	case "recv_close":
		return s.RecvClose(opts...)
	case "read_ns":
		return bufsock.NewNetstringSocket(s).ReadNetstring(opts...)
	case "write_ns":
		return nil, bufsock.NewNetstringSocket(s).WriteNetstring(st.Text, opts...)
	case "flush":
		return nil, s.Flush(opts...)
	case "send":
		n, err := s.Send(st.Text, opts...)
		if err != nil {
			return nil, err
		}
		return decimal(int64(n)), nil
	}
	return st.set(s)
}

// set is call for calls that do not wait.
func (st *step) set(s *bufsock.BufferedSocket) (value []byte, err error) {
	switch st.Op {
	case "buffer":
		return nil, s.Buffer(st.Text)
	case "setmaxsize":
		s.SetMaxSize(int(st.MaxSize))
		return decimal(int64(s.MaxSize())), nil
	case "settimeout":
		s.SetTimeout(duration(st.Timeout))
	case "setblocking":
		s.SetBlocking(st.Flag)
	case "close":
		return nil, s.Close()
	default:
		panic("no such call: " + st.Op)
	}
	if s.Timeout() == bufsock.NoTimeout {
		return decimal(none), nil
	}
	return decimal(s.Timeout().Microseconds()), nil
}

func decimal(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

func (st *step) options() (opts []bufsock.Option) {
	if st.Timeout != absent {
		opts = append(opts, bufsock.WithTimeout(duration(st.Timeout)))
	}
	if st.MaxSize != absent {
		opts = append(opts, bufsock.WithMaxSize(int(st.MaxSize)))
	}
	if st.appending && (strings.HasPrefix(st.Op, "re") || st.Op == "peek") {
		opts = append(opts, bufsock.AppendTo(make([]byte, 0, 20_000)))
	}
	if st.Op == "recv_until" && st.Flag {
		opts = append(opts, bufsock.WithDelimiter())
	}
	return opts
}

// errStuck ends a call that would wait for ever.
var errStuck = errors.New("stuck")

// kindOf names an error.
func kindOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case err == io.EOF:
		return "io.EOF"
	case err == errStuck:
		return "stuck"
	case errors.Is(err, bufsock.ErrWouldBlock):
		return "would block"
	case errors.Is(err, bufsock.ErrInvalidArgument):
		return "ErrInvalidArgument"
	case errors.Is(err, net.ErrClosed):
		return "net.ErrClosed"
	case errors.Is(err, syscall.ECONNRESET):
		return "ECONNRESET"
	case errors.Is(err, bufsock.ErrBroken):
		return "ErrBroken"
	case errors.Is(err, syscall.EPIPE):
		return "EPIPE"
	}
	kind := strings.TrimPrefix(fmt.Sprintf("%T", err), "*bufsock.")
	if e, ok := err.(*bufsock.ConnectionClosedError); ok {
		kind += ": " + e.Err.Error()
	}
	return kind
}

// A scriptConn is a connection whose peer does what the script says, in the
// virtual time of a synctest bubble. It cuts the segments of the script where
// it was read.
type scriptConn struct {
	net.Conn    // nil
	sc          *script
	start       time.Time
	next        int // segment
	given       int // bytes of the stream
	filled      int // bytes of the room
	written     latin1
	readBefore  time.Time // the deadlines
	writeBefore time.Time
}

func (c *scriptConn) now() int64 { return time.Since(c.start).Microseconds() }
func (c *scriptConn) taken() int { return c.given }

func (c *scriptConn) sleepUntil(at int64) { time.Sleep(time.Until(c.start.Add(duration(at)))) }

func (c *scriptConn) pass(pause int64) {
	c.sleepUntil((c.now()+grid-1)/grid*grid + pause)
}

func (c *scriptConn) sent() latin1 {
	written := c.written
	c.written = nil
	return written
}

func (c *scriptConn) SetReadDeadline(t time.Time) error  { c.readBefore = t; return nil }
func (c *scriptConn) SetWriteDeadline(t time.Time) error { c.writeBefore = t; return nil }
func (c *scriptConn) Close() error                       { return nil }

// wait waits until the moment at, or until the deadline.
func (c *scriptConn) wait(at int64, deadline time.Time) error {
	end := deadline.Sub(c.start).Microseconds()
	switch {
	case !deadline.IsZero() && (at < 0 || end < at || end <= c.now()):
		time.Sleep(time.Until(deadline))
		return os.ErrDeadlineExceeded
	case at < 0:
		return errStuck
	}
	c.sleepUntil(at)
	return nil
}

func (c *scriptConn) Read(p []byte) (int, error) {
	if c.next == len(c.sc.Segments) {
		err := c.wait(c.sc.End, c.readBefore)
		switch {
		case err != nil:
			return 0, err
		case c.sc.Reset:
			return 0, &net.OpError{Op: "read", Net: "script", Err: syscall.ECONNRESET}
		}
		return 0, io.EOF
	}
	seg := &c.sc.Segments[c.next]
	if err := c.wait(seg.At, c.readBefore); err != nil {
		return 0, err
	}
	n := copy(p, seg.Data)
	if rest := seg.Data[n:]; len(rest) > 0 {
		seg.Data = seg.Data[:n]
		c.sc.Segments = slices.Insert(c.sc.Segments, c.next+1, segment{seg.At, rest})
	}
	c.next++
	c.given += n
	return n, nil
}

func (c *scriptConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		room, change := c.room()
		switch {
		case c.sc.Breaks >= 0 && c.sc.Breaks <= c.now():
			return n, &net.OpError{Op: "write", Net: "script", Err: syscall.EPIPE}
		case room == 0:
			if err := c.wait(change, c.writeBefore); err != nil {
				return n, err
			}
		default:
			m := min(room, len(p)-n)
			c.written = append(c.written, p[n:n+m]...)
			c.filled += m
			n += m
		}
	}
	return n, nil
}

// room returns how many bytes the peer takes now, and when that changes.
func (c *scriptConn) room() (room int, change int64) {
	room = -c.filled
	for _, r := range c.sc.Room {
		if r[0] > c.now() {
			if c.sc.Breaks < 0 || r[0] < c.sc.Breaks {
				return room, r[0]
			}
			break
		}
		room += int(r[1])
	}
	return room, c.sc.Breaks
}

// A socketPair is a pair of Unix sockets, of which the peer writes the segments
// that are due before each call. All calls must be NonBlocking: its clock stands
// still while they run.
type socketPair struct {
	t             *testing.T
	sc            *script
	local, remote *net.UnixConn
	clock         int64
	next          int // segment
	written       int // bytes of the stream
	ended         bool
	lastTaken     int
	memory        [64 << 10]byte
}

func newSocketPair(t *testing.T, sc *script) *socketPair {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	p := &socketPair{t: t, sc: sc}
	for i, conn := range []**net.UnixConn{&p.local, &p.remote} {
		f := os.NewFile(uintptr(fds[i]), "socketpair")
		c, err := net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		*conn = c.(*net.UnixConn)
	}
	return p
}

func (p *socketPair) close() {
	p.local.Close()
	p.remote.Close()
}

func (p *socketPair) now() int64 { return p.clock }

func (p *socketPair) pass(pause int64) {
	p.clock += pause
	for ; p.next < len(p.sc.Segments) && p.sc.Segments[p.next].At <= p.clock; p.next++ {
		n, err := p.remote.Write(p.sc.Segments[p.next].Data)
		p.written += n
		if !errors.Is(err, syscall.EPIPE) { // the script has called close
			require.NoError(p.t, err)
		}
	}
	if p.next == len(p.sc.Segments) && p.sc.End >= 0 && p.sc.End <= p.clock && !p.ended {
		require.NoError(p.t, p.remote.CloseWrite())
		p.ended = true
	}
}

func (p *socketPair) taken() int {
	if unread, err := p.arrived(p.local, syscall.MSG_PEEK); err == nil {
		p.lastTaken = p.written - len(unread)
	}
	return p.lastTaken
}

func (p *socketPair) sent() latin1 {
	data, err := p.arrived(p.remote, 0)
	require.NoError(p.t, err)
	return bytes.Clone(data)
}

// arrived receives what has arrived on conn, without waiting.
func (p *socketPair) arrived(conn *net.UnixConn, flags int) (data []byte, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	n := 0
	err = raw.Control(func(fd uintptr) { n, _, _ = syscall.Recvfrom(int(fd), p.memory[:], flags) })
	return p.memory[:max(n, 0)], err
}
