//go:build !race

package bufsocktest_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// A stream of 1 KiB, cut at every place, takes not longer than a second; the
// race detector is slower.
func TestRunTakesLittleTime(t *testing.T) {
	stream := bytes.Repeat([]byte("x"), 1<<10)
	best := time.Hour
	for range 3 { // in case the machine has other things to do
		start := time.Now()
		bufsocktest.Run(t, stream, func(t *testing.T, conn net.Conn) {
			if got, err := io.ReadAll(conn); err != nil || len(got) != len(stream) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
		best = min(best, time.Since(start))
	}
	t.Logf("%v", best)
	require.Less(t, best, time.Second)
}
