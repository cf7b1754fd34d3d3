package bufsocktest_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// names are those of the probabilities in Faults.
var names = func() (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[bufsocktest.Faults]()) {
		if f.Type.Kind() == reflect.Float64 {
			names = append(names, f.Name)
		}
	}
	return names
}()

// set sets the probability of a fault.
func set(f *bufsocktest.Faults, name string, chance float64) {
	reflect.ValueOf(f).Elem().FieldByName(name).SetFloat(chance)
}

// count returns how often a fault has occurred.
func count(c *bufsocktest.Conn, name string) int {
	return int(reflect.ValueOf(c.Counts()).FieldByName(name).Int())
}

// always are faults of which one occurs whenever it may.
func always(name string) bufsocktest.Faults {
	f := bufsocktest.Faults{MaxDelay: time.Second, LateBy: time.Second, IgnoredFor: time.Second}
	set(&f, name, 1)
	return f
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
var faults = map[string]func(t *testing.T, c *bufsocktest.Conn, peer net.Conn){
	"CutReads": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		go peer.Write([]byte("0123456789"))
		n, err := c.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Less(t, n, 10)
		n, err = c.Read(make([]byte, 1))
		require.NoError(t, err)
		require.Equal(t, 1, n, "one byte cannot be cut")
	},
	"EmptyReads": func(t *testing.T, c *bufsocktest.Conn, _ net.Conn) {
		n, err := c.Read(make([]byte, 10))
		require.NoError(t, err)
		require.Zero(t, n)
	},
	"ErrorsWithData": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		go peer.Write(make([]byte, 100))
		seen := map[bool]bool{}
		for range 100 {
			n, err := c.Read(make([]byte, 1))
			require.Equal(t, 1, n)
			seen[isTimeout(err)] = true
			require.True(t, isTimeout(err) || errors.Is(err, bufsocktest.ErrPassing), "%v", err)
		}
		require.Len(t, seen, 2, "an error and a timeout")
	},
	"EndsWithData": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
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
	"CutWrites": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
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
	"ShortWrites": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		var total int64
		seen := map[bool]bool{}
		for range 20 {
			n, err := c.Write(make([]byte, 1000))
			require.ErrorIs(t, err, bufsocktest.ErrPassing)
			seen[n < 1000] = true
			total += int64(n)
		}
		require.Len(t, seen, 2, "on its way, and at its end")
		_, sent := c.Transferred()
		require.Equal(t, total, sent)
	},
	"Delays": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
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
	"EarlyTimeouts": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
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
	"LateDeadlines": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		for _, d := range []time.Duration{-time.Hour, time.Minute} {
			start := time.Now()
			require.NoError(t, c.SetReadDeadline(start.Add(d)))
			_, err := c.Read(make([]byte, 1))
			require.True(t, isTimeout(err))
			require.Equal(t, max(d, 0)+time.Second, time.Since(start))
		}
	},
	"IgnoredDeadlines": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
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
	"RefusedDeadlines": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		for _, set := range []func(time.Time) error{c.SetDeadline, c.SetReadDeadline, c.SetWriteDeadline} {
			require.ErrorIs(t, set(time.Now()), os.ErrNoDeadline)
		}
		go peer.Write([]byte("x"))
		_, err := c.Read(make([]byte, 1))
		require.NoError(t, err, "no deadline is set")
	},
	"OddTimeouts": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		require.NoError(t, c.SetDeadline(time.Now()))
		seen := map[bool]bool{}
		for range 20 {
			for _, transfer := range []func([]byte) (int, error){c.Read, c.Write} {
				_, err := transfer(make([]byte, 1))
				e, tells := err.(interface{ Timeout() bool })
				require.Equal(t, tells, !errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
				require.True(t, !tells || e.Timeout())
				_, isNetError := errors.AsType[net.Error](errors.Join(err))
				_, isBare := err.(net.Error)
				require.False(t, isBare)
				require.Equal(t, !tells, isNetError, "only what it wraps is one")
				seen[tells] = true
			}
		}
		require.Len(t, seen, 2, "errors of both kinds")
	},
	"DeafCloses": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		start := time.Now()
		ended := make(chan error, 2)
		for _, transfer := range []func([]byte) (int, error){c.Read, c.Write} {
			go func() {
				_, err := transfer(make([]byte, 10))
				ended <- err
			}()
		}
		synctest.Wait()
		require.NoError(t, c.Close())
		require.ErrorIs(t, c.Close(), net.ErrClosed)
		require.Equal(t, 1, c.Counts().DeafCloses)
		for _, transfer := range []func([]byte) (int, error){c.Read, c.Write} {
			_, err := transfer(make([]byte, 1))
			require.ErrorIs(t, err, net.ErrClosed, "a call made after Close")
		}
		synctest.Wait()
		require.Empty(t, ended)

		_, err := io.ReadFull(peer, make([]byte, 10))
		require.NoError(t, err, "a blocked Write goes on")
		require.NoError(t, <-ended)
		require.NoError(t, c.SetReadDeadline(start.Add(time.Hour)))
		require.True(t, isTimeout(<-ended))
		require.Equal(t, time.Hour, time.Since(start))
		_, err = peer.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err, "closed when the last call has ended")
		require.Error(t, c.SetDeadline(time.Time{}))
	},
	"Resets": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		for range 2 {
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, bufsocktest.ErrReset)
			require.EqualError(t, err, "read bufsocktest: "+bufsocktest.ErrReset.Error())
			_, err = c.Write(make([]byte, 1))
			require.ErrorIs(t, err, bufsocktest.ErrReset)
			require.IsType(t, (*net.OpError)(nil), err)
		}
		_, err := peer.Read(make([]byte, 1))
		require.Error(t, err)
		require.NoError(t, c.SetDeadline(time.Now()))
		require.NoError(t, c.Close())
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	},
	"ForgottenResets": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		_, err := c.Write(make([]byte, 1))
		require.ErrorIs(t, err, bufsocktest.ErrReset)
		for range 2 {
			_, err = c.Read(make([]byte, 1))
			require.Equal(t, io.EOF, err)
			_, err = c.Write(make([]byte, 1))
			require.Error(t, err)
			require.NotErrorIs(t, err, bufsocktest.ErrReset)
			require.IsType(t, (*net.OpError)(nil), err)
		}
		require.NoError(t, c.Close())
	},
}

// A net.Pipe has no half-close.
var halfClose = func(t *testing.T) {
	local, peer := tcpPair(t)
	c := bufsocktest.NewConn(local, 1, always("HalfCloses"))
	_, err := c.Write([]byte("x"))
	require.Error(t, err)
	require.Equal(t, 1, c.Counts().HalfCloses)
	_, err = peer.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	_, err = peer.Write([]byte("x"))
	require.NoError(t, err)
	n, err := c.Read(make([]byte, 1))
	require.NoError(t, err)
	require.Equal(t, 1, n)

	pipe, _ := net.Pipe()
	c = bufsocktest.NewConn(pipe, 1, always("HalfCloses"))
	require.NoError(t, c.SetDeadline(time.Now()))
	_, err = c.Write([]byte("x"))
	require.True(t, isTimeout(err), "what cannot be done is not done")
	require.Zero(t, c.Counts())
}

func TestFaults(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			if name == "HalfCloses" {
				halfClose(t)
				return
			}
			synctest.Test(t, func(t *testing.T) {
				local, peer := net.Pipe()
				c := bufsocktest.NewConn(local, 1, always(name))
				if name == "ShortWrites" || name == "EarlyTimeouts" {
					go io.Copy(io.Discard, peer)
				}
				require.Contains(t, faults, name)
				faults[name](t, c, peer)
				for _, other := range names {
					require.Equal(t, other == name, count(c, other) > 0, "%v occurred", other)
				}
				require.Equal(t, count(c, name), c.Counts().Total())
				c.Close()
				peer.Close()
			})
		})
	}
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
	own := errors.Unwrap(bufsocktest.ErrReset)
	require.ErrorIs(t, err, own)
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

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout() && errors.Is(err, os.ErrDeadlineExceeded)
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
	require.Equal(t, io.EOF, err)

	pipe, _ := net.Pipe()
	c = bufsocktest.NewConn(pipe, 1, bufsocktest.Faults{})
	require.ErrorIs(t, c.CloseWrite(), errors.ErrUnsupported)
	require.ErrorIs(t, c.CloseRead(), errors.ErrUnsupported)
}

func TestNewConnRefuses(t *testing.T) {
	pipe, _ := net.Pipe()
	for want, f := range map[string]bufsocktest.Faults{
		"expected probabilities from 0 to 1, got -0.5": {CutReads: -0.5},
		"expected probabilities from 0 to 1, got 1.5":  {OddTimeouts: 1.5},
		"expected probabilities from 0 to 1, got NaN":  {Resets: math.NaN()},
		"expected durations of 0 or more, got -1s":     {LateBy: -time.Second},
	} {
		require.PanicsWithValue(t, "bufsocktest: "+want, func() { bufsocktest.NewConn(pipe, 1, f) })
	}
	require.PanicsWithValue(t, "bufsocktest: expected a connection, got nil",
		func() { bufsocktest.NewConn(nil, 1, bufsocktest.Faults{}) })
}

// A duration that was not given is a millisecond, so that the fault occurs.
func TestDurationsThatAreNotGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, f := range map[string]bufsocktest.Faults{
			"late": {LateDeadlines: 1}, "ignored": {IgnoredDeadlines: 1}, "delayed": {Delays: 1},
		} {
			local, _ := net.Pipe()
			c := bufsocktest.NewConn(local, 1, f)
			start := time.Now()
			require.NoError(t, c.SetReadDeadline(start.Add(-1)))
			_, err := c.Read(make([]byte, 1))
			require.True(t, isTimeout(err))
			require.Positive(t, time.Since(start), name)
			require.LessOrEqual(t, time.Since(start), time.Millisecond, name)
		}
	})
}
