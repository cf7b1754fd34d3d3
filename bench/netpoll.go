package bench

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/cloudwego/netpoll"
)

// netpollSide is receiving for netpoll, which brings connections and an event
// loop of its own.
func netpollSide(name string, wire func(size int) []byte, open func(netpoll.Connection) loop) Side {
	const less = "no limit or lock; reads ahead without bound; the message is valid until Release"
	return Side{Name: name, Less: less, elsewhere: true, Start: func(size int, seen func([]byte)) (*Session, error) {
		src, err := send(TCP, wire(size))
		if err != nil {
			return nil, err
		}
		conn, err := netpoll.DialConnection("tcp", src.addr(), Timeout)
		if err != nil {
			src.close()
			return nil, fmt.Errorf("netpoll: %w", err)
		}
		if err := conn.SetReadTimeout(Timeout); err != nil {
			conn.Close()
			src.close()
			return nil, fmt.Errorf("netpoll: %w", err)
		}
		return src.session(open(conn), seen, conn.Close), nil
	}}
}

func until(conn netpoll.Connection) loop {
	r := conn.Reader()
	return func(n int, seen func([]byte)) error {
		for range n {
			line, err := r.Until('\n')
			if err != nil {
				return err
			}
			if seen != nil {
				seen(line[:len(line)-1])
			}
			if err := r.Release(); err != nil {
				return err
			}
		}
		return nil
	}
}

func untilAndNext(conn netpoll.Connection) loop {
	r := conn.Reader()
	return func(n int, seen func([]byte)) error {
		for range n {
			head, err := r.Until(':')
			if err != nil {
				return err
			}
			size, err := strconv.Atoi(string(head[:len(head)-1]))
			if err != nil || size < 0 {
				return fmt.Errorf("bad size %q", head)
			}
			frame, err := r.Next(size + 1)
			if err != nil {
				return err
			}
			if !bytes.HasSuffix(frame, []byte(",")) {
				return errNoComma
			}
			if seen != nil {
				seen(frame[:size])
			}
			if err := r.Release(); err != nil {
				return err
			}
		}
		return nil
	}
}
