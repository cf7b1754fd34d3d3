package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/markdingo/netstring"
)

var errNoComma = errors.New("no comma behind a netstring")

const (
	readNetstring         = "bufsock ReadNetstring"
	readNetstringAppendTo = "bufsock ReadNetstring, AppendTo"
	bufioNetstring        = "SetReadDeadline + bufio ReadSlice, ReadFull"
	markdingoDecoder      = "markdingo Decoder"
	markdingoBufio        = "markdingo Decoder + bufio.Reader"
	netpollNetstring      = "netpoll Until, Next"
	boltonsNetstring      = "boltons read_ns"
	writeNetstring        = "bufsock WriteNetstring"
	markdingoEncoder      = "markdingo Encoder"
	markdingoBuffered     = "markdingo Encoder + bufio.Writer, Flush"
)

func netstringOf(size int) []byte { return bufsock.AppendNetstring(nil, text(size)) }

// Netstrings receives netstrings that come without a pause.
func Netstrings() Workload {
	side := func(name, less string, open opener) Side {
		return receiving(name, less, netstringOf, open)
	}
	return Workload{
		Name: "netstrings", About: "netstrings, pipelined", Unit: "netstring",
		Sizes: []int{16, 64, 1024, 16 << 10},
		Sides: []Side{
			side(readNetstring, "", receiveNetstrings),
			side(readNetstringAppendTo, "", receiveNetstringsAppendTo),
			side(bufioNetstring, "no lock, lenient about the size; a timeout loses the frame", readFrames),
			side(markdingoDecoder, "no deadline or lock, limit of 1 GB; allocates what is announced; reads 1 KiB at a time", decode),
			side(markdingoBufio, "no deadline or lock, limit of 1 GB; allocates what is announced", decodeBufio),
			netpollSide(netpollNetstring, netstringOf, untilAndNext),
			boltonsSide(boltonsNetstring, netstringOf, "read_ns"),
		},
		Pairs: []Pair{
			{readNetstringAppendTo, bufioNetstring, []float64{0.22, 0, 0.50, 1.0}},
			{readNetstringAppendTo, markdingoDecoder, []float64{0.8, 0, 0.3, 0.15}},
			{readNetstringAppendTo, markdingoBufio, nil},
			{readNetstring, markdingoBufio, nil},
			{readNetstringAppendTo, netpollNetstring, nil},
			{readNetstring, boltonsNetstring, []float64{0.04, 0.04, 0.30, 0}},
		},
	}
}

func receiveNetstrings(conn net.Conn, size int) loop {
	ns := bufsock.NewNetstringSocket(socket(conn, size))
	return func(n int, seen func([]byte)) error {
		for range n {
			payload, err := ns.ReadNetstring()
			if err != nil {
				return err
			}
			if seen != nil {
				seen(payload)
			}
		}
		return nil
	}
}

func receiveNetstringsAppendTo(conn net.Conn, size int) loop {
	ns := bufsock.NewNetstringSocket(socket(conn, size))
	dst := make([]byte, 0, size)
	return func(n int, seen func([]byte)) (err error) {
		payload := dst
		for range n {
			if payload, err = ns.ReadNetstring(bufsock.AppendTo(payload[:0])); err != nil {
				return err
			}
			if seen != nil {
				seen(payload)
			}
		}
		return nil
	}
}

// readFrames is what programs that use bufio have: the size by ReadSlice, the
// rest by ReadFull, into memory that is used again.
func readFrames(conn net.Conn, _ int) loop {
	br := bufio.NewReaderSize(conn, readSize)
	frame := make([]byte, bufsock.DefaultMaxSize+1)
	return func(n int, seen func([]byte)) error {
		for range n {
			if err := conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
				return err
			}
			head, err := br.ReadSlice(':')
			if err != nil {
				return err
			}
			size, err := strconv.Atoi(string(head[:len(head)-1]))
			if err != nil || size < 0 || size >= len(frame) {
				return fmt.Errorf("bad size %q", head)
			}
			if _, err := io.ReadFull(br, frame[:size+1]); err != nil {
				return err
			}
			if frame[size] != ',' {
				return errNoComma
			}
			if seen != nil {
				seen(frame[:size])
			}
		}
		return nil
	}
}

func decode(conn net.Conn, _ int) loop { return decodeFrom(conn) }

// decodeBufio is what the documentation of the Decoder advises.
func decodeBufio(conn net.Conn, _ int) loop {
	return decodeFrom(bufio.NewReaderSize(conn, readSize))
}

func decodeFrom(r io.Reader) loop {
	dec := netstring.NewDecoder(r)
	return func(n int, seen func([]byte)) error {
		for range n {
			payload, err := dec.Decode()
			if err != nil {
				return err
			}
			if seen != nil {
				seen(payload)
			}
		}
		return nil
	}
}

// NetstringsWritten sends one netstring at a time.
func NetstringsWritten() Workload {
	return Workload{
		Name: "netstrings-written", About: "netstrings sent one by one", Unit: "netstring",
		Sizes: []int{16, 1024, 16 << 10},
		Sides: []Side{
			sending(writeNetstring, "", sendNetstrings),
			sending(markdingoEncoder, "no deadline or lock; makes four writes", encode),
			sending(markdingoBuffered, "no deadline or lock; nothing can be sent after an error", encodeBuffered),
		},
		Pairs: []Pair{
			{writeNetstring, markdingoEncoder, []float64{1, 1, 1}},
			{writeNetstring, markdingoBuffered, []float64{1, 1, 1}},
		},
	}
}

func sendNetstrings(conn net.Conn, size int) loop {
	ns := bufsock.NewNetstringSocket(socket(conn, size))
	payload := text(size)
	return func(n int, _ func([]byte)) error {
		for range n {
			if err := ns.WriteNetstring(payload); err != nil {
				return err
			}
		}
		return nil
	}
}

func encode(conn net.Conn, size int) loop {
	enc := netstring.NewEncoder(conn)
	payload := text(size)
	return func(n int, _ func([]byte)) error {
		for range n {
			if err := enc.EncodeBytes(netstring.NoKey, payload); err != nil {
				return err
			}
		}
		return nil
	}
}

func encodeBuffered(conn net.Conn, size int) loop {
	bw := bufio.NewWriterSize(conn, readSize)
	enc := netstring.NewEncoder(bw)
	payload := text(size)
	return func(n int, _ func([]byte)) error {
		for range n {
			if err := enc.EncodeBytes(netstring.NoKey, payload); err != nil {
				return err
			}
			if err := bw.Flush(); err != nil {
				return err
			}
		}
		return nil
	}
}
