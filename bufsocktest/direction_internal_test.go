package bufsocktest

import (
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// drawn returns how often each value comes, of many.
func drawn(f func() int) map[int]int {
	counts := map[int]int{}
	for range 2000 {
		counts[f()]++
	}
	return counts
}

// values wants the values from first to last, all of them and no others.
func values(t *testing.T, first, last int, counts map[int]int) {
	t.Helper()
	require.Len(t, counts, last-first+1, "%v", counts)
	for v := first; v <= last; v++ {
		require.Contains(t, counts, v)
	}
}

func TestChoices(t *testing.T) {
	f := Faults{CutReads: 1, Delays: 1, MaxDelay: 3}
	d := newDirection(&f, "read", rand.New(rand.NewPCG(1, 2)), nil)
	values(t, 0, 0, drawn(func() int { return d.cut(cutRead, 0) }))
	values(t, 0, 0, drawn(func() int { return d.cut(cutRead, 1) }))
	values(t, 1, 1, drawn(func() int { return d.cut(cutRead, 2) }))
	values(t, 1, 2, drawn(func() int { return d.cut(cutRead, 3) }))
	values(t, 0, 0, drawn(func() int { return d.cut(cutWrite, 3) }))
	values(t, 1, 3, drawn(func() int { return int(d.delay()) }))
	values(t, 0, 0, drawn(func() int { return d.part(0) }))
	parts := drawn(func() int { return d.part(9) })
	values(t, 0, 9, parts)
	require.InDelta(t, 2000/4+2000*3/4/10, parts[9], 100, "one of four is whole, and more by chance")

	cuts := drawn(func() int { return d.cut(cutRead, 100) })
	values(t, 1, 99, cuts)
	early := 0
	for place := 1; place < 8; place++ {
		early += cuts[place]
	}
	require.InDelta(t, 2000/2+2000/2*7/99, early, 100, "half of the cuts are early, and more by chance")
}

// Data with an error of its own, and no data, are left as they are.
func TestErrorsOfTheConnectionStay(t *testing.T) {
	for name, f := range map[string]Faults{
		"errors": {ErrorsWithData: 1},
		"ends":   {EndsWithData: 1},
	} {
		s := pieces("abc")
		s.joined = true
		c := NewConn(newPlayer(s.place, s.steps()), 1, f)
		n, err := c.Read(nil)
		require.NoError(t, err, name)
		require.Zero(t, n)
		n, err = c.Read(make([]byte, 9))
		require.Equal(t, io.EOF, err, name)
		require.Equal(t, 3, n)
		require.Zero(t, c.Counts(), name)
	}
}

func TestDelaysAreShort(t *testing.T) {
	f := Faults{Delays: 1}
	f.complete()
	require.Equal(t, time.Millisecond, f.MaxDelay)
}

// A deadline that was ignored does not take effect after a later one.
func TestIgnoredDeadlinesGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []time.Time
		f := Faults{IgnoredDeadlines: 1, IgnoredFor: time.Second}
		d := newDirection(&f, "read", rand.New(rand.NewPCG(1, 2)), func(t time.Time) error {
			set = append(set, t)
			return nil
		})
		early, late := time.Now(), time.Now().Add(time.Hour)
		require.NoError(t, d.setDeadline(early))
		d.chances[ignoredDeadline] = 0
		require.NoError(t, d.setDeadline(late))
		time.Sleep(time.Minute)
		require.Equal(t, []time.Time{late}, set)
	})
}
