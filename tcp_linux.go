package bufsock

import (
	"encoding/binary"
	"os"
	"syscall"
	"unsafe"
)

// What <linux/tcp.h> says of struct tcp_info.
const (
	tcpInfoState    = 0   // a byte
	tcpInfoReceived = 128 // tcpi_bytes_received, of 8 bytes
	tcpTimeWait     = 6   // TCP_TIME_WAIT
	tcpClose        = 7   // TCP_CLOSE
	tcpCloseWait    = 8   // TCP_CLOSE_WAIT
	tcpLastAck      = 9   // TCP_LAST_ACK
	tcpClosing      = 11  // TCP_CLOSING
)

// infoOf asks the kernel of a TCP connection.
func infoOf(raw syscall.RawConn) (info tcpInfo) {
	_ = raw.Control(func(fd uintptr) {
		var b [tcpInfoReceived + 8]byte
		var state byte
		switch getTCPInfo(fd, &b) {
		case len(b):
			state = b[tcpInfoState]
		case 4: // qemu takes each option for an int
			state = byte(binary.NativeEndian.Uint32(b[:]))
		default:
			return
		}
		info.state = tcpAlive
		switch state {
		case tcpClose:
			info.state = tcpDead
		case tcpTimeWait, tcpCloseWait, tcpLastAck, tcpClosing:
			info.state = tcpEnded
		}
		// The end of the stream is an option of MPTCP, which TCP does not count.
		// Kernels that do not count leave zero.
		protocol, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_PROTOCOL)
		info.received = binary.NativeEndian.Uint64(b[tcpInfoReceived:])
		info.counted = err == nil && protocol == syscall.IPPROTO_TCP && info.received > 0
	})
	return info
}

// takenBefore returns how many bytes have been read from a TCP connection, and
// whether that is known.
func takenBefore(raw syscall.RawConn) (n uint64, known bool) {
	for range 3 { // if something comes in between
		info := infoOf(raw)
		if info.received == 0 {
			return 0, true
		}
		n = info.received - unread(raw)
		if info.state == tcpEnded {
			n-- // the end counts as a byte
		}
		if infoOf(raw) == info {
			return n, info.state != tcpDead
		}
	}
	return 0, false
}

// unread returns how many bytes a descriptor holds.
func unread(raw syscall.RawConn) uint64 {
	var n int32
	_ = raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	})
	return uint64(n)
}

// getTCPInfo returns how much of the struct there is.
func getTCPInfo(fd uintptr, b *[tcpInfoReceived + 8]byte) int {
	size := uint32(len(b))
	_, _, errno := syscall.Syscall6(sysGetsockopt, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(b)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return int(size)
}

// resetError is what a read returns when the connection has been reset.
func (l *link) resetError() error {
	return l.opError("read", os.NewSyscallError("read", syscall.ECONNRESET))
}
