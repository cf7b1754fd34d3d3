package bench

import (
	"bufio"
	"io"
	"net"

	"github.com/bufsock/bufsock"
)

const mebi = 1 << 20

const (
	recvSizeAppendTo = "bufsock RecvSize, AppendTo"
	bareReadFull     = "bare io.ReadFull"
	sendMessage      = "bufsock Send"
	bareWrite        = "bare Write"
	bufferFlush      = "bufsock Buffer, Flush"
	bufioWriter      = "bufio.Writer, Flush"
)

// BulkReceived receives large messages of a size that is known.
func BulkReceived() Workload {
	return Workload{
		Name: "bulk-received", About: "messages of known size", Unit: "message",
		Sizes: []int{mebi},
		Sides: []Side{
			receiving(recvSizeAppendTo, "", text, receiveSize),
			receiving(bareReadFull, "no deadline or lock", text, readFull),
		},
		Pairs: []Pair{{recvSizeAppendTo, bareReadFull, []float64{1.03}}},
	}
}

func receiveSize(conn net.Conn, size int) loop {
	s := socket(conn, size)
	dst := make([]byte, 0, size)
	return func(n int, seen func([]byte)) (err error) {
		msg := dst
		for range n {
			if msg, err = s.RecvSize(size, bufsock.AppendTo(msg[:0])); err != nil {
				return err
			}
			if seen != nil {
				seen(msg)
			}
		}
		return nil
	}
}

func readFull(conn net.Conn, size int) loop {
	msg := make([]byte, size)
	return func(n int, seen func([]byte)) error {
		for range n {
			if _, err := io.ReadFull(conn, msg); err != nil {
				return err
			}
			if seen != nil {
				seen(msg)
			}
		}
		return nil
	}
}

// BulkSent sends large messages, bare and as netstrings.
func BulkSent() Workload {
	return Workload{
		Name: "bulk-sent", About: "messages sent one by one", Unit: "message",
		Sizes: []int{mebi},
		Sides: []Side{
			sending(sendMessage, "", sendMessages),
			sending(writeNetstring, "", sendNetstrings),
			sending(bareWrite, "no deadline; a timeout loses what was not sent", write),
		},
		Pairs: []Pair{
			{sendMessage, bareWrite, []float64{1.03}},
			{writeNetstring, bareWrite, []float64{1.05}},
		},
	}
}

func sendMessages(conn net.Conn, size int) loop {
	s := socket(conn, size)
	msg := text(size)
	return func(n int, _ func([]byte)) error {
		for range n {
			if _, err := s.Send(msg); err != nil {
				return err
			}
		}
		return nil
	}
}

func write(conn net.Conn, size int) loop {
	msg := text(size)
	return func(n int, _ func([]byte)) error {
		for range n {
			if _, err := conn.Write(msg); err != nil {
				return err
			}
		}
		return nil
	}
}

// pieces is how many small pieces make a message of the workload Buffered.
const pieces = 100

// Buffered collects small pieces and sends them together.
func Buffered() Workload {
	return Workload{
		Name: "buffered", About: "100 pieces collected and sent together", Unit: "100 pieces",
		Sizes: []int{64},
		Sides: []Side{
			sending(bufferFlush, "", collect),
			sending(bufioWriter, "no deadline or lock; nothing can be sent after an error", collectBufio),
		},
		Pairs: []Pair{{bufferFlush, bufioWriter, []float64{1.10}}},
	}
}

func collect(conn net.Conn, size int) loop {
	s := socket(conn, size)
	piece := text(size)
	return func(n int, _ func([]byte)) error {
		for range n {
			for range pieces {
				if err := s.Buffer(piece); err != nil {
					return err
				}
			}
			if err := s.Flush(); err != nil {
				return err
			}
		}
		return nil
	}
}

func collectBufio(conn net.Conn, size int) loop {
	bw := bufio.NewWriterSize(conn, readSize)
	piece := text(size)
	return func(n int, _ func([]byte)) error {
		for range n {
			for range pieces {
				if _, err := bw.Write(piece); err != nil {
					return err
				}
			}
			if err := bw.Flush(); err != nil {
				return err
			}
		}
		return nil
	}
}
