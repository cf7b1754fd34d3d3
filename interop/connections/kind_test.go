package connections

import (
	"bufio"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A link is a connection with its two ends. The end a is under test, and is of
// the kind that is named; b may be something simpler, as where a is what a
// listener's wrapper makes of a TCP connection.
type link struct {
	a, b net.Conn

	// breakOff breaks the connection in b's place: resets it, or takes away what
	// carries it. It is nil where nothing of the sort exists.
	breakOff func()
}

// A kind is a kind of connection.
type kind struct {
	name   string
	module string // where it is from, if not from the standard library
	open   func(t testing.TB) *link
	cannot []limit // what it cannot do, with or without bufsock
	tls    bool    // says of its write timeouts that they are not temporary

	// notNettest names the tests of nettest that fail with and without bufsock.
	notNettest []string
}

func (k *kind) has(limits ...limit) bool {
	for _, l := range k.cannot {
		for _, other := range limits {
			if l == other {
				return true
			}
		}
	}
	return false
}

// version returns the version in go.mod of the module that the kind is from.
func (k *kind) version(t testing.TB) string {
	if k.module == "" {
		return ""
	}
	file, err := os.Open("go.mod")
	require.NoError(t, err)
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(strings.TrimPrefix(lines.Text(), "require "))
		if len(fields) >= 2 && fields[0] == k.module {
			return fields[1]
		}
	}
	require.Fail(t, "not in go.mod: "+k.module)
	return ""
}

// Times. None of them is a measure of speed: what takes patience has hung, and
// what is said not to end is given a moment in which to end after all.
const (
	patience = 20 * time.Second
	moment   = 150 * time.Millisecond
	short    = 20 * time.Millisecond
)

// large is more than any kind takes while nobody reads: SSH has a window of 2 MiB.
const large = 4 << 20

// ended reports whether f returns within d. If not, what f says later is of no
// more interest: its test may be over by then.
func ended(d time.Duration, f func()) bool {
	var abandoned atomic.Bool
	done := make(chan struct{})
	go func() {
		defer func() {
			if r := recover(); r != nil && !abandoned.Load() {
				panic(r)
			}
		}()
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		abandoned.Store(true)
		return false
	}
}

// mustEnd fails the test, and ends it, if f does not return or has failed it.
func mustEnd(t testing.TB, what string, f func()) {
	t.Helper()
	if !ended(patience, f) {
		require.Fail(t, what+" has not ended")
	}
	if t.Failed() {
		t.FailNow()
	}
}

// closeLater closes c at the end of the test, and does not wait for it: some
// connections wait for a blocked write or for their peer.
func closeLater(t testing.TB, closers ...interface{ Close() error }) {
	t.Cleanup(func() {
		for _, c := range closers {
			ended(moment, func() { _ = c.Close() })
		}
	})
}

// pattern returns n bytes in which no two places of a few megabytes look alike.
func pattern(n int) []byte {
	p := make([]byte, 0, n+4)
	for i := uint32(0); len(p) < n; i++ {
		x := i * 2654435761
		p = append(p, byte(x>>24), byte(x>>16), byte(x>>8), byte(x))
	}
	return p[:n]
}
