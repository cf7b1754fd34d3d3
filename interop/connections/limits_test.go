package connections

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A limit is something that a connection does not do as net.Conn has it, or that
// sockets do and it does not. TestLimits shows each on the connection alone, and that no
// kind is excused for one that it does not have.
type limit string

const (
	noCloseWrite      limit = "no CloseWrite"
	noCloseRead       limit = "no CloseRead"
	noReadDeadlines   limit = "refuses read deadlines"
	noWriteDeadlines  limit = "refuses write deadlines"
	ignoresDeadlines  limit = "takes deadlines and does not keep them"
	deadlineEnds      limit = "a deadline that passes ends the connection, also without a call"
	notWoken          limit = "a deadline does not end a Read that has begun"
	writeNotWoken     limit = "a deadline does not end a Write that has begun"
	readTimeoutEnds   limit = "a Read that times out ends the connection"
	writeTimeoutEnds  limit = "a Write that times out ends the connection"
	fullCount         limit = "a Write that times out returns the full count"
	miscounts         limit = "a Write that times out returns a wrong count"
	closeLeavesReads  limit = "Close does not end a blocked Read"
	closeLeavesWrites limit = "Close does not end a blocked Write"
	otherEnd          limit = "the peer's end is an error other than io.EOF"
	otherTimeout      limit = "a call that times out returns another error"
	oddTimeout        limit = "its timeout error is no net.Error"
	finalTimeouts     limit = "says of every timeout that it is not temporary"
	unbreakable       limit = "nothing can break it off"
	breakIsEnd        limit = "broken off, it reports an end"
	forgetsBreak      limit = "a reset that a Write has met is an end for Read"
)

// A probe reports whether a connection has a limit. What must not end gets only a
// moment if expected is set.
type probe func(t testing.TB, l *link, expected bool) bool

var probes = []struct {
	limit
	probe
	unless []limit // then it cannot be told, and the kind does not have it
}{
	{noCloseWrite, lacksCloseWrite, nil},
	{noCloseRead, lacksCloseRead, nil},
	{noReadDeadlines, refusesReadDeadlines, nil},
	{noWriteDeadlines, refusesWriteDeadlines, nil},
	{ignoresDeadlines, doesNotTimeOut, []limit{noReadDeadlines}},
	{deadlineEnds, endsByDeadline, []limit{noReadDeadlines, ignoresDeadlines}},
	{notWoken, isNotWoken, []limit{noReadDeadlines, ignoresDeadlines}},
	{writeNotWoken, isWriteNotWoken, []limit{noWriteDeadlines, ignoresDeadlines}},
	{readTimeoutEnds, endsByReadTimeout, []limit{noReadDeadlines, ignoresDeadlines}},
	{writeTimeoutEnds, endsByWriteTimeout, []limit{noWriteDeadlines, ignoresDeadlines}},
	{fullCount, countsAll, []limit{noWriteDeadlines, ignoresDeadlines}},
	{miscounts, countsWrong, []limit{noWriteDeadlines, ignoresDeadlines, writeTimeoutEnds}},
	{closeLeavesReads, leavesReads, nil},
	{closeLeavesWrites, leavesWrites, nil},
	{otherEnd, endsOtherwise, nil},
	{otherTimeout, timesOutOtherwise, []limit{noReadDeadlines, ignoresDeadlines}},
	{oddTimeout, timesOutOddly, []limit{noReadDeadlines, ignoresDeadlines, otherTimeout}},
	{finalTimeouts, timesOutForGood, []limit{noReadDeadlines, noWriteDeadlines, ignoresDeadlines, otherTimeout}},
	{unbreakable, cannotBreak, nil},
	{breakIsEnd, endsWhenBroken, []limit{unbreakable}},
	{forgetsBreak, forgetsTheBreak, []limit{unbreakable, breakIsEnd}},
}

// TestLimits is the control: it has no bufsock in it.
func TestLimits(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range probes {
				if k.has(p.unless...) {
					require.False(t, k.has(p.limit), "%s: cannot be told", p.limit)
					continue
				}
				// A race between bytes and a timeout may go well.
				expected, got := k.has(p.limit), false
				for range 5 {
					if got = p.probe(t, k.open(t), expected); got == expected {
						break
					}
				}
				if got != expected {
					t.Errorf("%s: %q: the connection alone says %t, the table %t", k.name, p.limit, got, expected)
				}
			}
		})
	}
}

// hangs reports whether f does not return.
func hangs(expected bool, f func()) bool {
	if expected {
		return !ended(4*moment, f)
	}
	return !ended(patience, f)
}

type (
	closeWriter interface{ CloseWrite() error }
	closeReader interface{ CloseRead() error }
)

func lacksCloseWrite(_ testing.TB, l *link, _ bool) bool {
	_, ok := l.a.(closeWriter)
	return !ok
}

func lacksCloseRead(_ testing.TB, l *link, _ bool) bool {
	_, ok := l.a.(closeReader)
	return !ok
}

func refusesReadDeadlines(_ testing.TB, l *link, _ bool) bool {
	return l.a.SetReadDeadline(time.Now().Add(time.Hour)) != nil
}

func refusesWriteDeadlines(_ testing.TB, l *link, _ bool) bool {
	return l.a.SetWriteDeadline(time.Now().Add(time.Hour)) != nil
}

// timeOut makes a Read that times out, and returns its error.
func timeOut(t testing.TB, l *link) (err error) {
	require.NoError(t, l.a.SetReadDeadline(time.Now().Add(short)))
	mustEnd(t, "a Read with a deadline", func() { _, err = l.a.Read(make([]byte, 1)) })
	require.Error(t, err)
	return err
}

func doesNotTimeOut(t testing.TB, l *link, expected bool) bool {
	require.NoError(t, l.a.SetReadDeadline(time.Now().Add(short)))
	return hangs(expected, func() { _, _ = l.a.Read(make([]byte, 1)) })
}

func endsByDeadline(t testing.TB, l *link, _ bool) bool {
	require.NoError(t, l.a.SetReadDeadline(time.Now().Add(-time.Second)))
	time.Sleep(short)
	require.NoError(t, l.a.SetReadDeadline(time.Time{}))
	return !passes(l.b, l.a)
}

// passes reports whether a byte that is written to from comes out of to.
func passes(from, to net.Conn) (ok bool) {
	go func() { _, _ = from.Write([]byte("x")) }()
	return ended(patience, func() {
		p := make([]byte, 1)
		n, err := to.Read(p)
		ok = n == 1 && err == nil && p[0] == 'x'
	}) && ok
}

func isNotWoken(t testing.TB, l *link, expected bool) bool {
	time.AfterFunc(short, func() { _ = l.a.SetReadDeadline(time.Now()) })
	return hangs(expected, func() { _, _ = l.a.Read(make([]byte, 1)) })
}

func isWriteNotWoken(_ testing.TB, l *link, expected bool) bool {
	time.AfterFunc(moment, func() { _ = l.a.SetWriteDeadline(time.Now()) })
	return hangs(expected, func() { _, _ = writeToError(l.a) })
}

// writeToError writes until there is an error, and returns how many bytes the last
// Write has counted.
func writeToError(conn net.Conn) (last int, err error) {
	for data := make([]byte, chunk); err == nil; {
		last, err = conn.Write(data)
	}
	return last, err
}

func endsByReadTimeout(t testing.TB, l *link, _ bool) bool {
	_ = timeOut(t, l)
	if l.a.SetReadDeadline(time.Time{}) != nil {
		return true
	}
	return !passes(l.b, l.a)
}

// writeOn lets a Write time out, and writes on behind the bytes that it has
// counted. It reports whether that fails, or comes out wrong at the other end.
func writeOn(t testing.TB, l *link) (ends, wrong bool) {
	data := pattern(large / 2) // only SSH, which has no deadlines, takes more
	require.NoError(t, l.a.SetWriteDeadline(time.Now().Add(moment)))
	n, err := writeChunks(t, l.a, data)
	require.Error(t, err, "%d bytes written: large is not large enough", n)
	if l.a.SetWriteDeadline(time.Time{}) != nil {
		return true, false
	}
	written, read := make(chan error, 1), make(chan error, 1)
	go func() {
		// What comes behind the data shows that some of it is missing.
		_, err := writeChunks(t, l.a, append(data[n:len(data):len(data)], make([]byte, large/8)...))
		written <- err
	}()
	go func() {
		read <- compare(l.b, data)
		_, _ = io.Copy(io.Discard, l.b)
	}()
	for {
		select {
		case err := <-written:
			if err != nil {
				return true, false
			}
		case err := <-read:
			return err != nil && err != errDiffers, err == errDiffers
		case <-time.After(patience):
			return false, true // the peer waits for the rest of a frame
		}
	}
}

var errDiffers = errors.New("other bytes than expected")

// compare reads want from r.
func compare(r io.Reader, want []byte) error {
	for p := make([]byte, 32<<10); len(want) > 0; {
		n, err := r.Read(p[:min(len(p), len(want))])
		if !bytes.Equal(p[:n], want[:n]) {
			return errDiffers
		}
		if want = want[n:]; err != nil && len(want) > 0 {
			return err
		}
	}
	return nil
}

// chunk is how much goes into one Write: some kinds take any single one without a reader.
const chunk = 16 << 10

// writeChunks writes data to w until there is an error.
func writeChunks(t testing.TB, w io.Writer, data []byte) (n int, err error) {
	mustEnd(t, "a Write of many", func() {
		for n < len(data) && err == nil {
			var m int
			m, err = w.Write(data[n:min(n+chunk, len(data))])
			n += m
		}
	})
	return n, err
}

func endsByWriteTimeout(t testing.TB, l *link, _ bool) bool {
	ends, _ := writeOn(t, l)
	return ends
}

func countsAll(t testing.TB, l *link, _ bool) bool {
	require.NoError(t, l.a.SetWriteDeadline(time.Now().Add(moment)))
	last := 0
	mustEnd(t, "a Write with a deadline", func() { last, _ = writeToError(l.a) })
	return last == chunk
}

func countsWrong(t testing.TB, l *link, _ bool) bool {
	_, wrong := writeOn(t, l)
	return wrong
}

func leavesReads(_ testing.TB, l *link, expected bool) bool {
	time.AfterFunc(short, func() { _ = l.a.Close() })
	return hangs(expected, func() { _, _ = l.a.Read(make([]byte, 1)) })
}

func leavesWrites(_ testing.TB, l *link, expected bool) bool {
	time.AfterFunc(moment, func() { _ = l.a.Close() })
	return hangs(expected, func() { _, _ = writeToError(l.a) })
}

func endsOtherwise(t testing.TB, l *link, _ bool) bool {
	go func() {
		_, _ = l.b.Write([]byte("x"))
		_ = l.b.Close()
	}()
	var err error
	mustEnd(t, "a Read at the end", func() {
		for err == nil {
			_, err = l.a.Read(make([]byte, 1))
		}
	})
	return err != io.EOF
}

func timesOutOtherwise(t testing.TB, l *link, _ bool) bool { return !isTimeout(timeOut(t, l)) }

func timesOutOddly(t testing.TB, l *link, _ bool) bool {
	e, ok := timeOut(t, l).(net.Error)
	return !ok || !e.Timeout()
}

// timesOutForGood: TLS says so of a Write, and is right; but not of a Read.
func timesOutForGood(t testing.TB, l *link, _ bool) bool {
	if !isFinal(timeOut(t, l)) {
		return false
	}
	require.NoError(t, l.a.SetWriteDeadline(time.Now().Add(short)))
	var err error
	mustEnd(t, "a Write with a deadline", func() { _, err = writeToError(l.a) })
	return isTimeout(err) && isFinal(err)
}

func isFinal(err error) bool {
	e, ok := err.(interface{ Temporary() bool })
	return ok && !e.Temporary()
}

func cannotBreak(_ testing.TB, l *link, _ bool) bool { return l.breakOff == nil }

func endsWhenBroken(t testing.TB, l *link, _ bool) bool {
	breakInHalf(t, l)
	return readToError(t, l.a) == io.EOF
}

// breakInHalf breaks the connection off when half of a message has come.
func breakInHalf(t testing.TB, l *link) {
	written := make(chan error, 1)
	go func() {
		_, err := l.b.Write([]byte("half"))
		written <- err
	}()
	requireRead(t, l.a, "half")
	require.NoError(t, <-written)
	l.breakOff()
}

func readToError(t testing.TB, conn net.Conn) (err error) {
	mustEnd(t, "a Read of what is broken off", func() {
		for err == nil {
			_, err = conn.Read(make([]byte, 100))
		}
	})
	return err
}

func forgetsTheBreak(t testing.TB, l *link, _ bool) bool {
	breakInHalf(t, l)
	mustEnd(t, "a Write to what is broken off", func() {
		for {
			if _, err := l.a.Write([]byte("x")); err != nil {
				return
			}
		}
	})
	return readToError(t, l.a) == io.EOF
}

// isTimeout reports whether err is a timeout, whatever its type.
func isTimeout(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && e.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

// isDeadline reports whether err tells of a deadline of ours, as a timeout of the
// kernel does not.
func isDeadline(err error) bool {
	_, ok := errors.AsType[*bufsock.TimeoutError](err)
	return ok || errors.Is(err, os.ErrDeadlineExceeded)
}
