//go:build !linux

package bench

import (
	"fmt"
	"time"
)

const processClock = 0

func threadClock(int) uintptr { return 0 }

func threadID() int { return 0 }

func processorTime(uintptr) (time.Duration, error) {
	return 0, fmt.Errorf("%w: the clock cpu is that of Linux; there is -clock wall", ErrMissing)
}

func quietly(f func()) { f() }
