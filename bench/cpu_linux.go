package bench

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// processClock is that of the kernel for this process. That of getrusage stands
// still between two ticks.
const processClock = 2

// threadClock is that of a thread of this process.
func threadClock(id int) uintptr { return uintptr(^id<<3 | 6) }

func threadID() int { return syscall.Gettid() }

// quietly calls f while what goes to standard error is thrown away.
func quietly(f func()) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err == nil {
		defer null.Close()
		if saved, err := syscall.Dup(syscall.Stderr); err == nil {
			defer syscall.Close(saved)
			if syscall.Dup3(int(null.Fd()), syscall.Stderr, 0) == nil {
				defer syscall.Dup3(saved, syscall.Stderr, 0)
			}
		}
	}
	f()
}

// processorTime returns what a clock of the kernel says.
func processorTime(clock uintptr) (time.Duration, error) {
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("clock_gettime", errno)
	}
	return time.Duration(t.Nano()), nil
}
