package bench

import (
	"net"

	"github.com/bufsock/bufsock"
)

const (
	sendRecv      = "bufsock Send, RecvUntil"
	bareWriteRead = "bare Write, Read"
)

// PingPong sends a short line and waits for it to come back.
func PingPong() Workload {
	return Workload{
		Name: "ping-pong", About: "a line there and back", Unit: "round trip",
		Sizes: []int{5},
		Sides: []Side{
			pinging(sendRecv, "", pingUntil),
			pinging(bareWriteRead, "no timeout, limit or lock; takes any read for a message", ping),
		},
		Pairs: []Pair{{sendRecv, bareWriteRead, []float64{1.08}}},
	}
}

func pinging(name, less string, open opener) Side {
	return Side{name, less, func(size int, seen func([]byte)) (*Session, error) {
		srv, err := echo(size)
		if err != nil {
			return nil, err
		}
		return srv.session(open, size, seen)
	}}
}

func line(size int) []byte { return append(text(size-1), '\n') }

func pingUntil(conn net.Conn, size int) loop {
	s := socket(conn, size)
	msg := line(size)
	dst := make([]byte, 0, size)
	return func(n int, seen func([]byte)) (err error) {
		reply := dst
		for range n {
			if _, err := s.Send(msg); err != nil {
				return err
			}
			if reply, err = s.RecvUntil(lf, bufsock.AppendTo(reply[:0])); err != nil {
				return err
			}
			if seen != nil {
				seen(reply)
			}
		}
		return nil
	}
}

func ping(conn net.Conn, size int) loop {
	msg := line(size)
	reply := make([]byte, readSize)
	return func(n int, seen func([]byte)) error {
		for range n {
			if _, err := conn.Write(msg); err != nil {
				return err
			}
			m, err := conn.Read(reply)
			if err != nil {
				return err
			}
			if seen != nil {
				seen(reply[:m-1])
			}
		}
		return nil
	}
}
