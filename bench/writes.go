package bench

import (
	"fmt"
	"os"
	"strings"
)

// WriteCalls returns how many system calls that write the side makes for a
// unit of the size. Only Linux counts them.
func (s *Side) WriteCalls(size int) (float64, error) {
	const n = 200
	session, err := s.Start(size, nil)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	before, err := writeCalls()
	if err != nil {
		return 0, err
	}
	if _, err := session.Do(n); err != nil {
		return 0, err
	}
	after, err := writeCalls()
	return float64(after-before) / n, err
}

// writeCalls returns how many system calls that write the process has made.
func writeCalls() (n int, err error) {
	counts, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, fmt.Errorf("%w: system calls are counted on Linux only: %v", ErrMissing, err)
	}
	for line := range strings.Lines(string(counts)) {
		if value, ok := strings.CutPrefix(line, "syscw: "); ok {
			_, err := fmt.Sscan(value, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("%w: /proc/self/io does not count system calls", ErrMissing)
}
