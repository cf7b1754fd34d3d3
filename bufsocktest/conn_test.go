package bufsocktest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

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

func TestResetOfTCP(t *testing.T) {
	local, peer := tcpPair(t)
	_, err := bufsocktest.NewConn(local, 1, always("Resets")).Read(make([]byte, 1))
	require.ErrorIs(t, err, bufsocktest.ErrReset)
	_, err = peer.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotEqual(t, io.EOF, err, "a reset is not an end")
}

// The error of a reset is that of the system, so that a program takes it for one.
func TestResetIsThatOfTheSystem(t *testing.T) {
	local, peer := tcpPair(t)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	require.NoError(t, peer.Close())
	_, err := local.Read(make([]byte, 1))
	require.Error(t, err)
	require.ErrorIs(t, err, bufsocktest.ErrReset)
}

func TestResetError(t *testing.T) {
	f := always("Resets")
	f.ResetError = errors.New("gone")
	local, _ := net.Pipe()
	_, err := bufsocktest.NewConn(local, 1, f).Write(nil)
	require.Equal(t, f.ResetError, err)
}

// A reset that one side meets ends the blocked call of the other.
func TestResetEndsBlockedCalls(t *testing.T) {
	for name, want := range map[string]error{"Resets": bufsocktest.ErrReset, "ForgottenResets": io.EOF} {
		synctest.Test(t, func(t *testing.T) {
			f := bufsocktest.Faults{}
			set(&f, name, 0.5)
			local, _ := net.Pipe()
			c := bufsocktest.NewConn(local, 2, f) // whose first Read is spared, and first Write not
			ended := make(chan error)
			go func() {
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}()
			synctest.Wait()
			require.Zero(t, c.Counts())
			_, err := c.Write(make([]byte, 1))
			require.ErrorIs(t, err, bufsocktest.ErrReset)
			require.ErrorIs(t, <-ended, want)
		})
	}
}

// passing are the faults after which a connection goes on.
func passing() bufsocktest.Faults {
	f := bufsocktest.Faults{MaxDelay: time.Microsecond}
	for _, name := range names {
		switch name {
		case "HalfCloses", "DeafCloses", "Resets", "ForgottenResets":
		default:
			set(&f, name, 0.3)
		}
	}
	return f
}

// Whatever the errors say, what passed is what was sent and received.
func TestEveryByteIsCounted(t *testing.T) {
	for seed := range uint64(20) {
		a, b := net.Pipe()
		from, to := bufsocktest.NewConn(a, seed, passing()), bufsocktest.NewConn(b, seed+100, passing())
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
		in, out := from.Transferred()
		require.EqualValues(t, 0, in)
		require.EqualValues(t, len(stream), out)
		in, out = to.Transferred()
		require.EqualValues(t, len(stream), in)
		require.EqualValues(t, 0, out)
	}
}

func isReset(c *bufsocktest.Conn) bool {
	n := c.Counts()
	return n.Resets+n.ForgottenResets > 0
}

// Also where the connection breaks in the middle, what was written is what the
// peer can read, and no more was read than written.
func TestEveryByteIsCountedUntilAReset(t *testing.T) {
	for seed := range uint64(200) {
		f := passing()
		f.Resets, f.ForgottenResets, f.DeafCloses = 0.01, 0.01, 0.5
		a, b := net.Pipe()
		from, to := bufsocktest.NewConn(a, seed, f), bufsocktest.NewConn(b, seed+1000, f)
		var sending sync.WaitGroup
		sending.Go(func() {
			for rest := make([]byte, 5000); len(rest) > 0 && !isReset(from) && !isReset(to); {
				n, _ := from.Write(rest[:min(len(rest), 500)])
				rest = rest[n:]
			}
			from.Close()
		})
		var got int64
		buf := make([]byte, 100)
		for {
			n, err := to.Read(buf)
			got += int64(n)
			if err == io.EOF || errors.Is(err, bufsocktest.ErrReset) {
				break
			}
		}
		to.Close()
		sending.Wait()
		in, _ := to.Transferred()
		_, out := from.Transferred()
		require.Equal(t, got, in, "seed %d", seed)
		require.Equal(t, out, in, "seed %d: a net.Pipe keeps nothing", seed)
	}
}

// The same seed gives the same faults to the same calls, whatever the other
// direction does.
func TestFaultsComeFromTheSeed(t *testing.T) {
	reads := func(seed uint64, writes int) (results []string) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		c := bufsocktest.NewConn(a, seed, passing())
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
	t.Run("pipe", func(t *testing.T) {
		nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
			a, b = net.Pipe()
			a = bufsocktest.NewConn(a, 1, bufsocktest.Faults{})
			return a, b, func() { a.Close(); b.Close() }, nil
		})
	})
	t.Run("TCP", func(t *testing.T) {
		nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
			a, b = tcpPair(t)
			a, b = bufsocktest.NewConn(a, 1, bufsocktest.Faults{}), bufsocktest.NewConn(b, 2, bufsocktest.Faults{})
			return a, b, func() { a.Close(); b.Close() }, nil
		})
	})
}

func TestConnHandsOn(t *testing.T) {
	local, peer := tcpPair(t)
	c := bufsocktest.NewConn(local, 1, bufsocktest.Faults{})
	require.Equal(t, local, c.NetConn())
	require.Equal(t, local.LocalAddr(), c.LocalAddr())
	require.Equal(t, local.RemoteAddr(), c.RemoteAddr())
	require.NoError(t, c.CloseWrite())
	_, err := peer.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.NoError(t, c.CloseRead())
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err, "an end, or that of Windows")

	pipe, _ := net.Pipe()
	c = bufsocktest.NewConn(pipe, 1, bufsocktest.Faults{})
	require.ErrorIs(t, c.CloseWrite(), errors.ErrUnsupported)
	require.ErrorIs(t, c.CloseRead(), errors.ErrUnsupported)
}

// A Write that is to stop at once is none for the connection below, and every
// count is right, also of the smallest writes.
func TestShortWritesAreCounted(t *testing.T) {
	for name, data := range map[string]string{"ShortWrites": "xx", "EarlyTimeouts": "x"} {
		below := &sink{}
		c := bufsocktest.NewConn(below, 1, always(name))
		total, seen := 0, map[int]bool{}
		for range 100 {
			n, err := c.Write([]byte(data))
			require.Error(t, err)
			total += n
			seen[n] = true
		}
		require.Equal(t, map[int]bool{0: true, 1: true}, seen)
		require.Equal(t, total, below.calls, "no empty writes")
		_, out := c.Transferred()
		require.EqualValues(t, total, out)
	}
	c := bufsocktest.NewConn(&sink{}, 1, always("ShortWrites"))
	n, err := c.Write([]byte("x"))
	require.NoError(t, err, "it could only be none at all")
	require.Equal(t, 1, n)
}

// A sink is a connection that counts.
type sink struct {
	net.Conn
	calls, deadlines int
}

func (s *sink) Write(p []byte) (int, error)      { s.calls++; return len(p), nil }
func (s *sink) SetReadDeadline(time.Time) error  { s.deadlines++; return nil }
func (s *sink) SetWriteDeadline(time.Time) error { s.deadlines++; return nil }
func (s *sink) Close() error                     { return nil }

func TestIgnoredDeadlinesEndWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := &sink{}
		c := bufsocktest.NewConn(below, 1, always("IgnoredDeadlines"))
		require.NoError(t, c.SetDeadline(time.Now()))
		require.NoError(t, c.Close())
		time.Sleep(time.Minute)
		require.Zero(t, below.deadlines)
	})
}
