//go:build !windows && !plan9

package bufsocktest

import "syscall"

// What the operating system says of a connection that was reset, and of one that
// is written to afterwards.
const (
	errReset      = syscall.ECONNRESET
	errBrokenPipe = syscall.EPIPE
)
