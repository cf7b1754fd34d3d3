package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bufsock/bufsock/bench"
)

// sizeText is a size of the workload with its unit.
func (s *section) sizeText(size int) string {
	if s.Scale == "" || strings.HasPrefix(s.Scale, "bytes") {
		return bytesText(float64(size))
	}
	return countText(size)
}

// bytesText is a number of bytes in the largest unit that is not above it.
func bytesText(n float64) string {
	unit := "B"
	for _, next := range []string{"KiB", "MiB", "GiB"} {
		if n < 1024 && n > -1024 {
			break
		}
		n, unit = n/1024, next
	}
	return digits(n) + " " + unit
}

// timeText is a time in nanoseconds in the largest unit that is not above it.
func timeText(ns float64) string {
	unit := "ns"
	for _, next := range []string{"µs", "ms", "s"} {
		if ns < 1000 {
			break
		}
		ns, unit = ns/1000, next
	}
	return digits(ns) + " " + unit
}

// digits is x with three digits that count, or all before the point.
func digits(x float64) string {
	precision := 0
	switch abs := max(x, -x); {
	case abs == float64(int(abs)) || abs >= 99.95:
	case abs >= 9.995:
		precision = 1
	default:
		precision = 2
	}
	return strconv.FormatFloat(x, 'f', precision, 64)
}

// countText is a number with a comma before each three digits.
func countText(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// spreadText is what four of five values lie between.
func spreadText(values []float64, format func(float64) string) string {
	return format(bench.Quantile(values, 0.1)) + " to " + format(bench.Quantile(values, 0.9))
}

func ratioText(r float64) string {
	if r >= 0.0995 {
		return fmt.Sprintf("%.2f", r)
	}
	return fmt.Sprintf("%.3f", r)
}
