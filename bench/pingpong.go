package bench

import (
	"bufio"
	"net"
	"time"

	"github.com/bufsock/bufsock"
)

const (
	sendRecv          = "bufsock Send, RecvUntil"
	sendRecvNoTimeout = "bufsock, NoTimeout"
	bareWriteRead     = "bare Write, Read"
	writeReadSlice    = "Write, bufio ReadSlice"
	writeReadDeadline = "Write, bufio ReadSlice, deadlines"
)

// PingPong sends a short line and waits for it to come back, on a kind of
// connection.
func PingPong(kind Kind) Workload {
	side := func(name, less string, open opener) Side { return pinging(kind, name, less, open) }
	return Workload{
		Name: "ping-pong-" + string(kind), About: "a line there and back, " + kind.About(), Unit: "round trip",
		Sizes: []int{5},
		Sides: []Side{
			side(sendRecv, "", pingUntil(Timeout)),
			side(sendRecvNoTimeout, "", pingUntil(bufsock.NoTimeout)),
			side(writeReadDeadline, "SetWriteDeadline and SetReadDeadline each time; no lock; a timeout loses what was not sent", pingSliceWithDeadline),
			side(writeReadSlice, "no timeout or lock", pingSlice),
			side(bareWriteRead, "no timeout, limit or lock; takes any read for a message", ping),
		},
		Pairs: []Pair{
			{sendRecv, writeReadSlice, pingPongGoals[kind][0]},
			{sendRecv, writeReadDeadline, pingPongGoals[kind][1]},
			{sendRecvNoTimeout, writeReadSlice, []float64{1.02}},
			{sendRecv, bareWriteRead, nil},
		},
	}
}

// pingPongGoals are those of the first two pairs.
var pingPongGoals = map[Kind][2][]float64{
	TCP:     {{1.03}, {0.95}},
	Unix:    {{1.03}, {0.95}},
	Wrapped: {{1.10}, {1.00}},
	TLS:     {{1.05}, {0.95}},
}

func pinging(kind Kind, name, less string, open opener) Side {
	return Side{Name: name, Less: less, Start: func(size int, seen func([]byte)) (*Session, error) {
		srv, err := echo(kind, size)
		if err != nil {
			return nil, err
		}
		return srv.session(open, size, seen)
	}}
}

func line(size int) []byte { return append(text(size-1), '\n') }

func pingUntil(timeout time.Duration) opener {
	return func(conn net.Conn, size int) loop {
		s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(timeout))
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
}

func pingSlice(conn net.Conn, size int) loop {
	br := bufio.NewReaderSize(conn, readSize)
	msg := line(size)
	return func(n int, seen func([]byte)) error {
		for range n {
			if _, err := conn.Write(msg); err != nil {
				return err
			}
			reply, err := br.ReadSlice('\n')
			if err != nil {
				return err
			}
			if seen != nil {
				seen(reply[:len(reply)-1])
			}
		}
		return nil
	}
}

// pingSliceWithDeadline is what programs do that have a timeout for each of the
// two.
func pingSliceWithDeadline(conn net.Conn, size int) loop {
	br := bufio.NewReaderSize(conn, readSize)
	msg := line(size)
	return func(n int, seen func([]byte)) error {
		for range n {
			if err := conn.SetWriteDeadline(time.Now().Add(Timeout)); err != nil {
				return err
			}
			if _, err := conn.Write(msg); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
				return err
			}
			reply, err := br.ReadSlice('\n')
			if err != nil {
				return err
			}
			if seen != nil {
				seen(reply[:len(reply)-1])
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
