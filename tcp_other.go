//go:build !linux

package bufsock

import "syscall"

// stateOf cannot say on this system.
func stateOf(syscall.RawConn) tcpState { return tcpUnknown }
