//go:build !linux

package bufsock

import (
	"io"
	"syscall"
)

// infoOf cannot say on this system.
func infoOf(syscall.RawConn) tcpInfo { return tcpInfo{} }

func (l *link) resetError() error { return io.ErrUnexpectedEOF }
