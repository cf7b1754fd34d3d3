//go:build linux && !386

package bufsock

import "syscall"

const sysGetsockopt = syscall.SYS_GETSOCKOPT
