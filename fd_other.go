//go:build !unix

package bufsock

import (
	"errors"
	"net"
	"syscall"
)

// descriptor returns nil: on this system sockets cannot be read through their
// descriptor without waiting, and the connection's own methods are used.
func descriptor(net.Conn) syscall.RawConn { return nil }

func (s *BufferedSocket) poll(*call, *half) error { return errors.ErrUnsupported }

// isReset is for systems that report a reset only once.
func isReset(error) bool { return false }

func (s *BufferedSocket) tryRead(uintptr) bool  { return true }
func (s *BufferedSocket) tryWrite(uintptr) bool { return true }
