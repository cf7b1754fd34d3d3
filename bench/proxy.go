package bench

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/bufsock/bufsock"
)

const (
	socketCopy = "bufsock io.Copy"
	bareCopy   = "bare io.Copy"
)

// header is the line that comes before what a proxy copies.
const header = "PROXY TCP4 127.0.0.1 127.0.0.1 4000 80\r\n"

// Proxy reads one line of a connection and copies the rest to another.
func Proxy() Workload {
	return Workload{
		Name: "proxy", About: "a header line, and then io.Copy from one connection to another", Unit: "stream",
		Sizes: []int{64 << 20},
		Sides: []Side{
			{Name: socketCopy, Start: proxying(copySockets)},
			{Name: bareCopy, Less: "no deadline, limit or lock; the length of the header must be known", Start: proxying(copyConns)},
		},
		Pairs: []Pair{{socketCopy, bareCopy, []float64{1.02}}},
	}
}

// copySockets copies between sockets, after a line.
func copySockets(dst, src *net.TCPConn) (int64, error) {
	from := bufsock.NewBufferedSocket(src, bufsock.WithTimeout(Timeout))
	to := bufsock.NewBufferedSocket(dst, bufsock.WithTimeout(Timeout))
	if _, err := from.RecvUntil(crlf); err != nil {
		return 0, err
	}
	return io.Copy(to, from)
}

// copyConns copies between connections, after a line of known length.
func copyConns(dst, src *net.TCPConn) (int64, error) {
	if _, err := io.ReadFull(src, make([]byte, len(header))); err != nil {
		return 0, err
	}
	return io.Copy(dst, src)
}

// proxying makes a session that opens connections for each stream, and takes
// the time from the header to the end of the stream.
func proxying(copy func(dst, src *net.TCPConn) (int64, error)) func(int, func([]byte)) (*Session, error) {
	return func(size int, seen func([]byte)) (*Session, error) {
		body := text(min(size, mebi))
		do := func(n int) (total time.Duration, err error) {
			for range n {
				took, err := proxyOnce(copy, body, size/len(body), seen)
				if err != nil {
					return 0, err
				}
				total += took
			}
			return total, nil
		}
		return &Session{do: do, close: func() {}}, nil
	}
}

func proxyOnce(copy func(dst, src *net.TCPConn) (int64, error), body []byte, times int, seen func([]byte)) (time.Duration, error) {
	source, err := serve(TCP, func(_ *server, conn net.Conn) {
		io.WriteString(conn, header)
		for range times {
			conn.Write(body)
		}
	})
	if err != nil {
		return 0, err
	}
	defer source.close()
	target, err := sink(seen)
	if err != nil {
		return 0, err
	}
	defer target.close()
	src, err := source.dial()
	if err != nil {
		return 0, err
	}
	defer src.Close()
	dst, err := target.dial()
	if err != nil {
		return 0, err
	}
	defer dst.Close()
	start := time.Now()
	n, err := copy(dst.(*net.TCPConn), src.(*net.TCPConn))
	took := time.Since(start)
	if want := int64(len(body) * times); err == nil && n != want {
		err = fmt.Errorf("copied %d bytes, want %d", n, want)
	}
	return took, err
}
