//go:build !unix

package bufsock

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// descriptor returns nil: on this system sockets cannot be read through their
// descriptor without waiting, and the connection's own methods are used.
func descriptor(net.Conn) syscall.RawConn { return nil }

func (c *call) attempt() func(uintptr) bool { return nil }

func peek(syscall.RawConn) (bool, error) { return false, errors.ErrUnsupported }

// isErrno reports whether err is or wraps an error of the operating system.
func isErrno(err error) bool {
	_, ok := errors.AsType[*os.SyscallError](err)
	return ok
}

// isGivenUp reports whether err says that the system has given the connection up.
func isGivenUp(err error) bool {
	return errors.Is(err, syscall.ETIMEDOUT) || isErrno(err) && !errors.Is(err, os.ErrDeadlineExceeded)
}

// isBrokenPipe returns false: this system does not tell.
func isBrokenPipe(error) bool { return false }
