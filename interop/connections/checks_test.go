package connections

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A check is a promise of bufsock, tried on an end of each kind of connection.
type check struct {
	name string
	run  func(t *testing.T, k *kind, l *link)

	// Where a kind has one of these limits, the promise cannot be kept, and otherwise
	// wants what is left of it.
	unless    []limit
	otherwise func(t *testing.T, k *kind, l *link)
}

// checks are what the table in README.md says to hold.
var checks = []check{
	{"bulk", bothWaysAtOnce, nil, nil},
	{"lines", linesWithTimeouts, []limit{noReadDeadlines, ignoresDeadlines, readTimeoutEnds}, linesWithoutTimeouts},
	{"timeout", timeoutKeepsAll, []limit{noReadDeadlines, ignoresDeadlines, readTimeoutEnds}, timeoutOtherwise},
	{"cancel", cancelKeepsAll, []limit{noReadDeadlines, ignoresDeadlines, readTimeoutEnds, notWoken}, cancelOtherwise},
	{"timeouts and cancels by the hundred", hundredsKeepAll, []limit{noReadDeadlines, ignoresDeadlines, readTimeoutEnds, notWoken}, linesWithoutTimeouts},
	{"NonBlocking", nonBlocking, []limit{noReadDeadlines, ignoresDeadlines, readTimeoutEnds}, nonBlockingOtherwise},
	{"deadline of another goroutine", deadlineOfAnother, []limit{noReadDeadlines, ignoresDeadlines, notWoken}, deadlineOfAnotherOtherwise},
	{"deadlines before", deadlinesBefore, []limit{noReadDeadlines, ignoresDeadlines, deadlineEnds}, deadlinesBeforeOtherwise},
	{"send timeout", sendTimeoutKeepsAll, []limit{noWriteDeadlines, ignoresDeadlines, writeTimeoutEnds, finalTimeouts, fullCount, miscounts}, sendTimeoutOtherwise},
	{"half-close", halfClose, []limit{noCloseWrite}, noHalfClose},
	{"CloseRead", closeRead, []limit{noCloseRead}, noHalfCloseRead},
	{"the peer's end", peersEnd, []limit{otherEnd}, otherEndIsAnError},
	{"Close", closeEndsAll, nil, nil},
	{"Close ends receives", closeEndsReceives, []limit{ignoresDeadlines}, closeWaits},
	{"Close ends sends", closeEndsSends, []limit{ignoresDeadlines, noWriteDeadlines, writeNotWoken}, closeEndsSendsOtherwise},
	{"getters", gettersDoNotWait, nil, nil},
	{"broken off, met by a receive", brokenMetByReceive, []limit{unbreakable, breakIsEnd}, brokenOtherwise},
	{"broken off, met by a send", brokenMetBySend, []limit{unbreakable, breakIsEnd}, brokenOtherwise},
	{"broken off, met by a copy into it", brokenMetByReadFrom, []limit{unbreakable, breakIsEnd}, brokenOtherwise},
	{"broken off, met by a copy out of it", brokenMetByWriteTo, []limit{unbreakable, breakIsEnd}, brokenOtherwise},
}

func TestChecks(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range checks {
				t.Run(c.name, func(t *testing.T) {
					run := c.run
					if k.has(c.unless...) {
						run = c.otherwise
					}
					run(t, k, k.open(t))
				})
			}
		})
	}
}

// socket returns a socket on top of conn, with a default timeout if conn can
// keep one.
func (k *kind) socket(conn net.Conn) *bufsock.BufferedSocket {
	timeout := time.Duration(bufsock.NoTimeout)
	if !k.has(noReadDeadlines, noWriteDeadlines, ignoresDeadlines) {
		timeout = patience
	}
	return bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(timeout))
}

func within(d time.Duration) bufsock.Option { return bufsock.WithTimeout(d) }

var forEver = bufsock.WithTimeout(bufsock.NoTimeout)

// requireRecv wants size bytes, which are want, without a timeout.
func requireRecv(t *testing.T, s *bufsock.BufferedSocket, want string) {
	t.Helper()
	mustEnd(t, "RecvSize", func() {
		got, err := s.RecvSize(len(want), forEver)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	})
}

// requireTimedOut is requireTimeout for a kind whose own error may hide it. The timer
// of an earlier deadline may end a later call of bufconn, before its time is up;
// an error that says to be final is then taken at its word.
func (k *kind) requireTimedOut(t *testing.T, err error) {
	t.Helper()
	switch {
	case k.has(otherTimeout):
		require.Error(t, err)
	case k.has(finalTimeouts):
		require.True(t, isTimeout(err), "%T: %v", err, err)
	default:
		requireTimeout(t, err)
	}
}

func requireTimeout(t *testing.T, err error) {
	t.Helper()
	_, ok := errors.AsType[*bufsock.TimeoutError](err)
	require.True(t, ok, "want a *TimeoutError, got %T: %v", err, err)
}

// requireRefusal wants the connection's own error about deadlines.
func requireRefusal(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	require.False(t, isTimeout(err), "%T: %v", err, err)
	require.NotErrorIs(t, err, net.ErrClosed)
}

// write writes data to conn in the background, as some kinds wait for a reader. It
// returns a function that waits for it to be done.
func write(t *testing.T, conn net.Conn, data string) (wait func()) {
	t.Helper()
	written := make(chan error, 1)
	report := func(err error) {
		if err != nil {
			t.Errorf("the peer cannot write %q: %v", data, err)
		}
	}
	t.Cleanup(func() {
		select {
		case err := <-written:
			report(err)
		default: // the test has not waited for it, or it is reported
		}
	})
	go func() {
		_, err := conn.Write([]byte(data))
		written <- err
	}()
	return func() { mustEnd(t, "a Write of the peer", func() { report(<-written) }) }
}
