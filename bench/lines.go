package bench

import (
	"bufio"
	"net"
	"net/textproto"
	"time"

	"github.com/bufsock/bufsock"
)

var (
	lf   = []byte("\n")
	crlf = []byte("\r\n")
)

// The names of sides that occur in pairs.
const (
	recvUntil         = "bufsock RecvUntil"
	recvUntilAppendTo = "bufsock RecvUntil, AppendTo"
	recvSplitAppendTo = "bufsock RecvSplit, AppendTo"
	idiom             = "SetReadDeadline + bufio ReadBytes"
	bufioReadBytes    = "bufio ReadBytes"
	bufioReadBytes4K  = "bufio ReadBytes, 4 KiB"
	bufioReadSlice    = "bufio ReadSlice"
	bufioScanner      = "bufio Scanner"
	textprotoBytes    = "textproto ReadLineBytes"
	netpollUntil      = "netpoll Until"
	boltonsUntil      = "boltons recv_until"
)

// Lines receives lines that end in LF and come without a pause.
func Lines() Workload {
	wire := func(size int) []byte { return append(text(size), lf...) }
	side := func(name, less string, open opener) Side {
		return receiving(name, less, wire, open)
	}
	return Workload{
		Name: "lines", About: "lines that end in LF, pipelined", Unit: "line",
		Sizes: []int{16, 64, 1024},
		Sides: []Side{
			side(recvUntil, "", receiveUntil(lf)),
			side(recvUntilAppendTo, "", receiveUntilAppendTo(lf)),
			side(idiom, "no limit, no lock; a timeout takes half a line out of the buffer", readBytesWithDeadline),
			side(bufioReadBytes, "no deadline, limit or lock", readBytes(readSize)),
			side(bufioReadBytes4K, "no deadline, limit or lock", readBytes(4<<10)),
			side(bufioReadSlice, "no deadline or lock; the line is valid until the next read", readSlice),
			side(bufioScanner, "no deadline or lock; the line is valid until the next read", scan),
			side(textprotoBytes, "no deadline, limit or lock", readLineBytes),
			netpollSide(netpollUntil, wire, until),
			boltonsSide(boltonsUntil, wire, "recv_until"),
		},
		Pairs: []Pair{
			{recvUntil, idiom, []float64{0.28, 0.42, 0.90}},
			{recvUntilAppendTo, idiom, []float64{0.15, 0.20, 0.30}},
			{recvUntil, bufioReadBytes, []float64{1, 1, 1}},
			{recvUntil, bufioReadBytes4K, nil},
			{recvUntilAppendTo, bufioReadSlice, []float64{2.0, 1.8, 1.25}},
			{recvUntilAppendTo, bufioScanner, nil},
			{recvUntil, textprotoBytes, nil},
			{recvUntilAppendTo, netpollUntil, nil},
			{recvUntil, boltonsUntil, []float64{0.04, 0.04, 0.30}},
		},
	}
}

// LinesOn receives lines on another kind of connection.
func LinesOn(kind Kind) Workload {
	wire := func(size int) []byte { return append(text(size), lf...) }
	return Workload{
		Name: "lines-" + string(kind), About: "lines that end in LF, pipelined, " + kind.About(), Unit: "line",
		Sizes: []int{16, 64, 1024},
		Sides: []Side{
			receivingOn(kind, recvUntilAppendTo, "", wire, receiveUntilAppendTo(lf)),
			receivingOn(kind, bufioReadSlice, "no deadline or lock; the line is valid until the next read", wire, readSlice),
		},
		Pairs: []Pair{{recvUntilAppendTo, bufioReadSlice, []float64{2.0, 1.5, 1.15}}},
	}
}

// Split receives lines that a split function finds.
func Split() Workload {
	wire := func(size int) []byte { return append(text(size), lf...) }
	return Workload{
		Name: "split", About: "lines found by a split function, pipelined", Unit: "line",
		Sizes: []int{16, 64, 1024},
		Sides: []Side{
			receiving(recvSplitAppendTo, "", wire, receiveSplit),
			receiving(recvUntilAppendTo, "", wire, receiveUntilAppendTo(lf)),
			receiving(bufioScanner, "no deadline or lock; the line is valid until the next read", wire, scan),
		},
		Pairs: []Pair{
			{recvSplitAppendTo, recvUntilAppendTo, []float64{1.4, 0, 0}},
			{recvSplitAppendTo, bufioScanner, nil},
		},
	}
}

func receiveSplit(conn net.Conn, size int) loop {
	s := socket(conn, size)
	dst := make([]byte, 0, size)
	return func(n int, seen func([]byte)) (err error) {
		line := dst
		for range n {
			if line, err = s.RecvSplit(bufio.ScanLines, bufsock.AppendTo(line[:0])); err != nil {
				return err
			}
			if seen != nil {
				seen(line)
			}
		}
		return nil
	}
}

// LinesCRLF receives lines that end in CRLF, a delimiter of two bytes.
func LinesCRLF() Workload {
	wire := func(size int) []byte { return append(text(size), crlf...) }
	return Workload{
		Name: "crlf", About: "lines that end in CRLF, pipelined", Unit: "line",
		Sizes: []int{16, 64, 1024},
		Sides: []Side{
			receiving(recvUntil, "", wire, receiveUntil(crlf)),
			receiving(recvUntilAppendTo, "", wire, receiveUntilAppendTo(crlf)),
			receiving(textprotoBytes, "no deadline, limit or lock; takes LF alone, too", wire, readLineBytes),
		},
		Pairs: []Pair{
			{recvUntil, textprotoBytes, []float64{1.05, 1.05, 1.05}},
			{recvUntilAppendTo, textprotoBytes, []float64{0.60, 0.60, 0.55}},
		},
	}
}

func receiveUntil(delim []byte) opener {
	return func(conn net.Conn, size int) loop {
		return receiveUntilOn(socket(conn, size), delim)
	}
}

func receiveUntilOn(s *bufsock.BufferedSocket, delim []byte) loop {
	return func(n int, seen func([]byte)) error {
		for range n {
			line, err := s.RecvUntil(delim)
			if err != nil {
				return err
			}
			if seen != nil {
				seen(line)
			}
		}
		return nil
	}
}

func receiveUntilAppendTo(delim []byte) opener {
	return func(conn net.Conn, size int) loop {
		s := socket(conn, size)
		dst := make([]byte, 0, size)
		return func(n int, seen func([]byte)) (err error) {
			line := dst
			for range n {
				if line, err = s.RecvUntil(delim, bufsock.AppendTo(line[:0])); err != nil {
					return err
				}
				if seen != nil {
					seen(line)
				}
			}
			return nil
		}
	}
}

func readBytesWithDeadline(conn net.Conn, _ int) loop {
	br := bufio.NewReaderSize(conn, readSize)
	return func(n int, seen func([]byte)) error {
		for range n {
			if err := conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
				return err
			}
			line, err := br.ReadBytes('\n')
			if err != nil {
				return err
			}
			if seen != nil {
				seen(line[:len(line)-1])
			}
		}
		return nil
	}
}

func readBytes(bufferSize int) opener {
	return func(conn net.Conn, _ int) loop {
		br := bufio.NewReaderSize(conn, bufferSize)
		return func(n int, seen func([]byte)) error {
			for range n {
				line, err := br.ReadBytes('\n')
				if err != nil {
					return err
				}
				if seen != nil {
					seen(line[:len(line)-1])
				}
			}
			return nil
		}
	}
}

func readSlice(conn net.Conn, _ int) loop {
	br := bufio.NewReaderSize(conn, readSize)
	return func(n int, seen func([]byte)) error {
		for range n {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return err
			}
			if seen != nil {
				seen(line[:len(line)-1])
			}
		}
		return nil
	}
}

func scan(conn net.Conn, size int) loop {
	sc := bufio.NewScanner(conn)
	sc.Buffer(make([]byte, readSize), max(readSize, 2*size))
	return func(n int, seen func([]byte)) error {
		for range n {
			if !sc.Scan() {
				return sc.Err()
			}
			if line := sc.Bytes(); seen != nil {
				seen(line)
			}
		}
		return nil
	}
}

func readLineBytes(conn net.Conn, _ int) loop {
	r := textproto.NewReader(bufio.NewReaderSize(conn, readSize))
	return func(n int, seen func([]byte)) error {
		for range n {
			line, err := r.ReadLineBytes()
			if err != nil {
				return err
			}
			if seen != nil {
				seen(line)
			}
		}
		return nil
	}
}
