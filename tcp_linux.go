package bufsock

import (
	"encoding/binary"
	"syscall"
)

// stateOf asks the kernel for the state of a TCP connection. It is the first
// byte of struct tcp_info.
func stateOf(raw syscall.RawConn) tcpState {
	const tcpClose = 7
	state := tcpUnknown
	_ = raw.Control(func(fd uintptr) {
		n, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
		if err != nil {
			return
		}
		var info [4]byte
		binary.NativeEndian.PutUint32(info[:], uint32(n))
		state = tcpAlive
		if info[0] == tcpClose {
			state = tcpDead
		}
	})
	return state
}
