package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/bufsock/bufsock/bufsocktest"
)

// counters count what happens on all connections.
type counters struct {
	open, conversations atomic.Int64
	messages, bytes     atomic.Int64 // received
	faults              atomic.Int64
	timeouts, cancels   atomic.Int64
	broken              atomic.Int64 // connections, by a reset or a half-close
	unended             atomic.Int64 // of them, those of TLS whose end could not be sent in time

	lost, doubled, damaged atomic.Int64 // messages
	unaccounted            atomic.Int64 // bytes that a socket took and neither returned nor kept
}

// faulty reports whether something happened that must not.
func (c *counters) faulty() bool {
	return c.lost.Load()+c.doubled.Load()+c.damaged.Load()+c.unaccounted.Load() > 0
}

// passes counts an error after which the same call is to be made again, and
// reports whether it is one.
func (c *counters) passes(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	switch {
	case ok && e.Timeout():
		c.timeouts.Add(1)
	case errors.Is(err, context.Canceled):
		c.cancels.Add(1)
	case errors.Is(err, bufsocktest.ErrPassing), err == io.ErrNoProgress, err == io.ErrShortWrite:
	default:
		return false
	}
	return true
}

// report prints a line per second.
func (c *counters) report(w io.Writer, ended <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	start := time.Now()
	var last int64
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		messages := c.messages.Load()
		fmt.Fprintf(w, "%6.0fs  %5d open  %9d messages (%6d/s)  %6d MB  %8d timeouts  %7d cancels  %5d broken  %d wrong  %6d goroutines  %4d MB heap\n",
			time.Since(start).Seconds(), c.open.Load(), messages, messages-last, c.bytes.Load()>>20,
			c.timeouts.Load(), c.cancels.Load(), c.broken.Load(),
			c.lost.Load()+c.doubled.Load()+c.damaged.Load(), runtime.NumGoroutine(), m.HeapAlloc>>20)
		last = messages
	}
}

// table prints what there was in all.
func (c *counters) table(w io.Writer, before, after usage) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer t.Flush()
	for _, row := range []struct {
		name string
		n    int64
	}{
		{"connections", c.conversations.Load()},
		{"of them reset or half-closed", c.broken.Load()},
		{"of these without an end of TLS", c.unended.Load()},
		{"messages", c.messages.Load()},
		{"bytes", c.bytes.Load()},
		{"timeouts", c.timeouts.Load()},
		{"cancels", c.cancels.Load()},
		{"faults of connections", c.faults.Load()},
		{"messages lost", c.lost.Load()},
		{"messages doubled", c.doubled.Load()},
		{"messages damaged", c.damaged.Load()},
		{"bytes unaccounted for", c.unaccounted.Load()},
		{"goroutines before", int64(before.goroutines)},
		{"goroutines after", int64(after.goroutines)},
		{"heap before, KiB", int64(before.heap >> 10)},
		{"heap after, KiB", int64(after.heap >> 10)},
	} {
		fmt.Fprintf(t, "%s\t%d\t\n", row.name, row.n)
	}
}
