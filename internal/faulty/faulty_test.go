package faulty_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock/internal/faulty"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// always is a config in which one fault occurs whenever it may.
func always(f faulty.Fault) faulty.Config {
	return faulty.Config{
		Seed:     1,
		Chances:  map[faulty.Fault]float64{f: 1},
		MaxDelay: time.Second,
		Late:     time.Second,
		Ignore:   time.Second,
		Keep:     true,
	}
}

func tcpPair(t testing.TB) (net.Conn, net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	b, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// faults shows each fault: f is given a connection with that fault alone, in a
// bubble with a faked clock, and the connection's other end.
var faults = map[faulty.Fault]func(t *testing.T, c *faulty.Conn, peer net.Conn){
	faulty.CutRead: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		go peer.Write([]byte("0123456789"))
		n, err := c.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Less(t, n, 10)
		n, err = c.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, n, "one byte cannot be cut")
	},
	faulty.EmptyRead: func(t *testing.T, c *faulty.Conn, _ net.Conn) {
		n, err := c.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Zero(t, n)
	},
	faulty.ErrorWithData: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		go peer.Write(make([]byte, 100))
		seen := map[bool]bool{}
		for range 100 {
			n, err := c.Read(make([]byte, 1))
			require.Equal(t, 1, n)
			seen[isTimeout(err)] = true
			require.True(t, isTimeout(err) || errors.Is(err, faulty.ErrPassing), "%v", err)
		}
		require.Len(t, seen, 2, "an error and a timeout")
	},
	faulty.EndWithData: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		go func() {
			peer.Write([]byte("01234"))
			peer.Write([]byte("56789"))
			peer.Write([]byte("abc"))
			peer.Close()
		}()
		n, err := c.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Equal(t, 10, n)
		n, err = c.Read(make([]byte, 10))
		require.Equal(t, io.EOF, err)
		require.Equal(t, 3, n)
	},
	faulty.CutWrite: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		go func() {
			c.Write([]byte("0123456789"))
			c.Close()
		}()
		buf := make([]byte, 10)
		n, err := peer.Read(buf)
		require.NoError(t, err)
		require.Less(t, n, 10)
		rest, err := io.ReadAll(peer)
		require.NoError(t, err)
		require.Equal(t, "0123456789", string(buf[:n])+string(rest))
	},
	faulty.ShortWrite: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		var total int64
		seen := map[bool]bool{}
		for range 20 {
			n, err := c.Write(make([]byte, 1000))
			require.ErrorIs(t, err, faulty.ErrPassing)
			seen[n < 1000] = true
			total += int64(n)
		}
		require.Len(t, seen, 2, "on its way, and at its end")
		_, sent := c.Passed()
		require.Equal(t, total, sent)
	},
	faulty.Delay: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Nanosecond)))
		start := time.Now()
		_, err := c.Read(make([]byte, 1))
		require.True(t, isTimeout(err))
		require.Greater(t, time.Since(start), time.Nanosecond)
		require.LessOrEqual(t, time.Since(start), time.Second)

		start = time.Now()
		go c.Close()
		_, err = c.Read(make([]byte, 1))
		require.Error(t, err)
		require.Zero(t, time.Since(start), "Close ends a delay")
	},
	faulty.EarlyTimeout: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		n, err := c.Read(make([]byte, 1))
		require.True(t, isTimeout(err))
		require.Zero(t, n)
		seen := map[bool]bool{}
		for range 20 {
			n, err = c.Write(make([]byte, 1000))
			require.True(t, isTimeout(err))
			seen[n < 1000] = true
		}
		require.Len(t, seen, 2, "on its way, and at its end")
	},
	faulty.LateDeadline: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		for _, d := range []time.Duration{-time.Hour, time.Minute} {
			start := time.Now()
			require.NoError(t, c.SetReadDeadline(start.Add(d)))
			_, err := c.Read(make([]byte, 1))
			require.True(t, isTimeout(err))
			require.Equal(t, max(d, 0)+time.Second, time.Since(start))
		}
	},
	faulty.IgnoredDeadline: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		start := time.Now()
		require.NoError(t, c.SetDeadline(start))
		_, err := c.Read(make([]byte, 1))
		require.True(t, isTimeout(err))
		require.Equal(t, time.Second, time.Since(start))
		require.NoError(t, c.SetDeadline(time.Time{}))
		_, err = c.Read(make([]byte, 1))
		require.True(t, isTimeout(err), "lifted, it still holds")
		time.Sleep(time.Second)
		synctest.Wait()
		go peer.Write([]byte("x"))
		_, err = c.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(start))
		require.NoError(t, c.SetDeadline(start.Add(time.Hour)))
		time.Sleep(time.Minute)
		go peer.Write([]byte("x"))
		_, err = c.Read(make([]byte, 1))
		require.NoError(t, err, "the later one alone counts")
	},
	faulty.Reset: func(t *testing.T, c *faulty.Conn, peer net.Conn) {
		for range 2 {
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, faulty.ErrReset)
			_, err = c.Write(make([]byte, 1))
			require.ErrorIs(t, err, faulty.ErrReset)
		}
		_, err := peer.Read(make([]byte, 1))
		require.Error(t, err)
		require.NoError(t, c.SetDeadline(time.Now()))
		require.NoError(t, c.Close())
	},
}

func TestFaults(t *testing.T) {
	for _, f := range faulty.Faults() {
		t.Run(f.String(), func(t *testing.T) {
			if f == faulty.HalfClose {
				testHalfClose(t)
				return
			}
			synctest.Test(t, func(t *testing.T) {
				local, peer := net.Pipe()
				c := faulty.New(local, always(f))
				if f == faulty.ShortWrite || f == faulty.EarlyTimeout {
					go io.Copy(io.Discard, peer)
				}
				require.Contains(t, faults, f)
				faults[f](t, c, peer)
				for _, other := range faulty.Faults() {
					require.Equal(t, other == f, c.Count(other) > 0, "%v occurred", other)
				}
				c.Close()
				peer.Close()
			})
		})
	}
}

// A net.Pipe has no half-close.
func testHalfClose(t *testing.T) {
	local, peer := tcpPair(t)
	c := faulty.New(local, always(faulty.HalfClose))
	_, err := c.Write([]byte("x"))
	require.Error(t, err)
	require.Equal(t, 1, c.Count(faulty.HalfClose))
	_, err = peer.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	_, err = peer.Write([]byte("x"))
	require.NoError(t, err)
	n, err := c.Read(make([]byte, 1))
	require.NoError(t, err)
	require.Equal(t, 1, n)

	pipe, _ := net.Pipe()
	require.ErrorIs(t, faulty.New(pipe, faulty.Config{}).CloseWrite(), errors.ErrUnsupported)
}

func TestResetOfTCP(t *testing.T) {
	local, peer := tcpPair(t)
	_, err := faulty.New(local, always(faulty.Reset)).Read(make([]byte, 1))
	require.ErrorIs(t, err, faulty.ErrReset)
	_, err = peer.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotEqual(t, io.EOF, err, "a reset is not an end")
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout() && errors.Is(err, os.ErrDeadlineExceeded)
}

// passing are the faults after which a connection goes on.
func passing(seed uint64) faulty.Config {
	config := faulty.Config{Seed: seed, Chances: map[faulty.Fault]float64{}, MaxDelay: time.Microsecond, Keep: true}
	for _, f := range faulty.Faults() {
		if f != faulty.HalfClose && f != faulty.Reset {
			config.Chances[f] = 0.3
		}
	}
	return config
}

// Whatever the errors say, what passed is what was sent and received.
func TestEveryByteIsCounted(t *testing.T) {
	for seed := range uint64(20) {
		a, b := net.Pipe()
		from, to := faulty.New(a, passing(seed)), faulty.New(b, passing(seed+100))
		stream := make([]byte, 5000)
		for i := range stream {
			stream[i] = byte(i % 251)
		}
		go func() {
			for rest := stream; len(rest) > 0; {
				n, _ := from.Write(rest)
				rest = rest[n:]
			}
			from.Close()
		}()
		var got []byte
		buf := make([]byte, 100)
		for {
			n, err := to.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
		}
		require.True(t, bytes.Equal(stream, got), "seed %d", seed)
		require.Equal(t, stream, from.Sent())
		require.Equal(t, stream, to.Received())
		in, out := from.Passed()
		require.EqualValues(t, 0, in)
		require.EqualValues(t, len(stream), out)
		in, out = to.Passed()
		require.EqualValues(t, len(stream), in)
		require.EqualValues(t, 0, out)
	}
}

// The same seed gives the same faults to the same calls, whatever the other
// direction does.
func TestFaultsComeFromTheSeed(t *testing.T) {
	reads := func(seed uint64, writes int) (results []string) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		c := faulty.New(a, passing(seed))
		go func() {
			for {
				if _, err := b.Write(make([]byte, 1000)); err != nil {
					return
				}
			}
		}()
		go io.Copy(io.Discard, b)
		for range writes {
			c.Write(make([]byte, 10))
		}
		for range 100 {
			n, err := c.Read(make([]byte, 500))
			if err == nil {
				err = errors.New("no error")
			}
			results = append(results, string(rune('0'+n))+err.Error())
		}
		return results
	}
	first := reads(1, 0)
	require.Equal(t, first, reads(1, 5))
	require.NotEqual(t, first, reads(2, 0))
}

func TestWithoutFaultsItIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
		a, b = net.Pipe()
		a = faulty.New(a, faulty.Config{})
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}
