package bufsocktest

import "syscall"

// What the operating system says of a connection that was reset, and of one that
// is written to afterwards. Windows never says syscall.ECONNRESET or EPIPE, which
// Go has made up for it.
const (
	errnoReset = syscall.WSAECONNRESET
	errnoPipe  = syscall.ERROR_BROKEN_PIPE
)
