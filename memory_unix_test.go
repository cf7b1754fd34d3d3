//go:build unix && !race

// Where a descriptor can be tried without waiting, a call that waits holds no
// buffer, and one that does not wait costs no deadline.

package bufsock_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

func TestNonBlockingFailureAllocatesItsError(t *testing.T) {
	local, remote := tcpPair(t)
	_, err := remote.Write([]byte("part of a line\r"))
	require.NoError(t, err)
	s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(bufsock.NonBlocking))
	_, err = s.Peek(15, bufsock.WithTimeout(time.Minute))
	require.NoError(t, err)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, err = s.RecvUntil(crlf) }), 1.0)
	require.ErrorIs(t, err, bufsock.ErrWouldBlock)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _, err = s.RecvUntilAny([][]byte{crlf, lf}) }), 1.0)
	require.ErrorIs(t, err, bufsock.ErrWouldBlock)
}

func TestBuffersAreUsedAgainWithTheMemoryForDelimiters(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would empty the pool
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
	part, end := []byte("part of a line"), []byte("\n")
	dst := make([]byte, 0, 100)
	wait := []bufsock.Option{bufsock.AppendTo(dst)}
	now := []bufsock.Option{bufsock.AppendTo(dst), bufsock.WithTimeout(bufsock.NonBlocking)}
	var errs [4]error
	allocs := testing.AllocsPerRun(100, func() {
		_, errs[0] = remote.Write(part)
		_, errs[1] = s.Peek(len(part), wait...)
		_, errs[2] = s.RecvUntil(lf, now...)
		remote.Write(end)
		_, errs[3] = s.RecvUntil(lf, wait...)
	})
	require.NoError(t, errors.Join(errs[0], errs[1], errs[3]))
	require.ErrorIs(t, errs[2], bufsock.ErrWouldBlock)
	require.LessOrEqual(t, allocs, 1.0, "the error")
}

// An idle connection costs hundreds of bytes, not kilobytes, also while a call
// waits on it.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const n, limit = 500, 1000
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	type pair struct{ local, remote net.Conn }
	var pairs []pair
	for range n {
		local, remote := tcpPair(t)
		pairs = append(pairs, pair{local, remote})
	}
	// park has n goroutines wait in f, each for its connection, and returns what
	// that takes.
	park := func(f func(net.Conn)) int64 {
		before := heap()
		var wg sync.WaitGroup
		for _, p := range pairs {
			wg.Go(func() { f(p.local) })
		}
		stacks := make([]byte, 4<<20)
		for bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("[IO wait")) < n {
			time.Sleep(time.Millisecond) // to list the stacks stops them all
		}
		stacks = nil
		size := grown(before)
		for _, p := range pairs {
			_, err := p.remote.Write([]byte("\n"))
			require.NoError(t, err)
		}
		wg.Wait()
		return size
	}
	bare := func(conn net.Conn) {
		one := make([]byte, 1)
		conn.Read(one)
	}
	park(bare)       // goroutines that have ended are used again
	const rounds = 3 // other tests may leave something for the collector: the median counts
	sockets := make([]*bufsock.BufferedSocket, 0, rounds*n)
	var created, again []int64
	for range rounds {
		var mu sync.Mutex
		baseline := park(bare)
		created = append(created, park(func(conn net.Conn) {
			s := bufsock.NewBufferedSocket(conn)
			s.Send([]byte("hello\n"))
			s.RecvUntil(lf)
			mu.Lock()
			defer mu.Unlock()
			sockets = append(sockets, s)
		})-baseline)
		waiting := sockets[len(sockets)-n:]
		again = append(again, park(func(conn net.Conn) {
			mu.Lock()
			s := waiting[0]
			waiting = waiting[1:]
			mu.Unlock()
			s.RecvUntil(lf)
		})-baseline)
	}
	slices.Sort(created)
	slices.Sort(again)
	require.Less(t, created[rounds/2]/n, int64(limit))
	require.Less(t, again[rounds/2]/n, int64(limit))
	t.Logf("bytes per connection: %d to create and wait, %d to wait again", created[rounds/2]/n, again[rounds/2]/n)
}

// A call that has dropped all that has come holds no more while it waits than
// others do, and neither does one behind a message that filled the first read.
func TestIdleCallsThatDropBytesAreSmall(t *testing.T) {
	const n, limit = 50, 8 << 10 // with the stack of a goroutine
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	type pair = func(testing.TB) (net.Conn, net.Conn)
	for kind, pair := range map[string]pair{"TCP": tcpPair, "wrapped TCP": wrappedPair, "pipe": pipePair} {
		for op, call := range map[string]func(s *bufsock.BufferedSocket){
			"Discard":      func(s *bufsock.BufferedSocket) { s.Discard(1 << 30) },
			"DiscardUntil": func(s *bufsock.BufferedSocket) { s.DiscardUntil(lf) },
			"io.Copy":      func(s *bufsock.BufferedSocket) { io.Copy(struct{ io.Writer }{io.Discard}, s) },
			"RecvSize":     func(s *bufsock.BufferedSocket) { s.RecvSize(512); s.RecvSize(1) },
		} {
			t.Run(kind+", "+op, func(t *testing.T) {
				var ends []net.Conn
				before := heap()
				var group sync.WaitGroup
				for range n {
					local, remote := pair(t)
					ends = append(ends, remote)
					s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
					group.Go(func() { call(s) })
					_, err := remote.Write(make([]byte, 512))
					require.NoError(t, err)
				}
				require.Eventually(t, func() bool { return grown(before)/n < limit }, 10*time.Second, time.Millisecond)
				for _, end := range ends {
					end.Close()
				}
				group.Wait()
			})
		}
	}
}
