package bufsocktest_test

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
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
		for range 20 {
			n, err := c.Write(make([]byte, 1000))
			require.Equal(t, io.ErrShortWrite, err)
			require.Less(t, n, 1000)
			total += int64(n)
		}
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
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		time.AfterFunc(time.Hour, func() { peer.Write([]byte("x")) })
		_, err := c.Read(make([]byte, 1))
		require.NoError(t, err, "one that is lifted never fires")
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
			require.ErrorContains(t, set(time.Now()), "set bufsocktest: "+os.ErrNoDeadline.Error())
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

		require.NoError(t, c.SetDeadline(time.Time{}))
		go peer.Write([]byte("x"))
		_, err := c.Read(make([]byte, 1))
		require.NoError(t, err)
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
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, net.ErrClosed)
	},
	"Resets": func(t *testing.T, c *bufsocktest.Conn, peer net.Conn) {
		for range 2 {
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, bufsocktest.ErrReset)
			require.EqualError(t, err, "read bufsocktest: read: "+bufsocktest.ErrReset.Error())
			n, err := c.Write(make([]byte, 1))
			require.Zero(t, n)
			require.ErrorIs(t, err, bufsocktest.ErrReset)
			require.IsType(t, (*net.OpError)(nil), err)
		}
		_, err := peer.Read(make([]byte, 1))
		require.Error(t, err)
		require.NoError(t, c.SetDeadline(time.Now()))
		require.NoError(t, c.Close())
		require.Error(t, c.SetDeadline(time.Now()))
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

		again, _ := net.Pipe()
		c = bufsocktest.NewConn(again, 1, always("ForgottenResets"))
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, bufsocktest.ErrReset)
		_, err = c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
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

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout() && errors.Is(err, os.ErrDeadlineExceeded)
}

func TestNewConnRefuses(t *testing.T) {
	pipe, _ := net.Pipe()
	for want, f := range map[string]bufsocktest.Faults{
		"expected probabilities from 0 to 1, got -0.5": {CutReads: -0.5},
		"expected probabilities from 0 to 1, got 1.5":  {OddTimeouts: 1.5},
		"expected probabilities from 0 to 1, got NaN":  {Resets: math.NaN()},
		"expected durations of 0 or more, got -1ns":    {LateBy: -1},
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
