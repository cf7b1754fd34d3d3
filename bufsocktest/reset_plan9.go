package bufsocktest

import "syscall"

// What the operating system says of a connection that was reset, and of one that
// is written to afterwards.
var (
	errReset      = syscall.NewError("i/o on hungup channel")
	errBrokenPipe = errReset
)
