//go:build !linux

package bufsock

import (
	"io"
	"syscall"
)

// infoOf cannot say on this system.
func infoOf(syscall.RawConn) tcpInfo { return tcpInfo{} }

func takenBefore(syscall.RawConn) (uint64, bool) { return 0, false }

func (l *link) resetError() error { return io.ErrUnexpectedEOF }
