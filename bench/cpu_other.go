//go:build !linux

package bench

import (
	"fmt"
	"time"
)

const (
	processClock = iota
	threadClock
)

func processorTime(uintptr) (time.Duration, error) {
	return 0, fmt.Errorf("%w: the clock cpu is that of Linux; there is -clock wall", ErrMissing)
}
