package bufsocktest

import "syscall"

// What the operating system says of a connection that was reset, and of one that
// is written to afterwards. Windows never says syscall.ECONNRESET or EPIPE, which
// Go has made up for it.
const (
	errReset      = syscall.WSAECONNRESET
	errBrokenPipe = syscall.ERROR_BROKEN_PIPE
)
