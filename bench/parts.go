package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/bufsock/bufsock"
)

const (
	recvFunc          = "bufsock RecvFunc"
	sliceFull         = "bufio ReadSlice, ReadFull"
	sliceFullDeadline = "SetReadDeadline + bufio ReadSlice, ReadFull"
	slicePeek         = "bufio ReadSlice, Peek, Discard"
)

var errMalformed = errors.New("malformed message")

// respOf returns a command of RESP, the protocol of Redis: SET, a key, and a
// value of size bytes.
func respOf(size int) []byte {
	return fmt.Appendf(nil, "*3\r\n$3\r\nSET\r\n$8\r\nuser:100\r\n$%d\r\n%s\r\n", size, text(size))
}

// RESP receives commands of three bulks.
func RESP() Workload {
	w := bulks(3, respOf)
	w.Name, w.About, w.Unit = "resp", "commands of RESP with three bulks, of which the last has the size", "command"
	w.Pairs[0].Goals = []float64{0.95}
	w.Pairs[1].Goals = []float64{0.30}
	return w
}

// arrayBulks is how many bulks an array of the workload RESPArray has.
const arrayBulks = 100

// RESPArray receives arrays of many bulks.
func RESPArray() Workload {
	w := bulks(arrayBulks, func(size int) []byte {
		bulk := fmt.Appendf(nil, "$%d\r\n%s\r\n", size, text(size))
		return append(fmt.Appendf(nil, "*%d\r\n", arrayBulks), bytes.Repeat(bulk, arrayBulks)...)
	})
	w.Name, w.About, w.Unit = "resp-array", "arrays of RESP with 100 bulks", "array"
	w.Pairs[0].Goals = []float64{0.85}
	return w
}

// bulks receives arrays of so many bulks.
func bulks(count int, wire func(size int) []byte) Workload {
	return Workload{
		Sizes: []int{16},
		Sides: []Side{
			receiving(recvFunc, "", wire, receiveArrays(count)),
			receiving(sliceFull, "no deadline or lock; copies the bulks", wire, readArrays(count, false)),
			receiving(sliceFullDeadline, "no lock; copies the bulks; a timeout loses a part of the message", wire, readArrays(count, true)),
		},
		Pairs: []Pair{{recvFunc, sliceFull, nil}, {recvFunc, sliceFullDeadline, nil}},
	}
}

// header returns the number in a line of RESP that begins with the byte.
func number(line []byte, kind byte) (int, error) {
	if len(line) < 2 || line[0] != kind {
		return 0, errMalformed
	}
	n, err := strconv.Atoi(string(line[1:])) // which does not allocate
	if err != nil || n < 0 || n > bufsock.DefaultMaxSize {
		return 0, errMalformed
	}
	return n, nil
}

func receiveArrays(count int) opener {
	return func(conn net.Conn, size int) loop {
		s := socket(conn, size)
		args := make([][]byte, 0, count)
		return func(n int, seen func([]byte)) error {
			read := func(m *bufsock.Message) error {
				line, err := m.Until(crlf)
				if err != nil {
					return err
				}
				bulks, err := number(line, '*')
				if err != nil {
					return err
				}
				args = args[:0]
				for range bulks {
					if line, err = m.Until(crlf); err != nil {
						return err
					}
					size, err := number(line, '$')
					if err != nil {
						return err
					}
					bulk, err := m.Next(size + len(crlf))
					if err != nil {
						return err
					}
					args = append(args, bulk[:size])
				}
				showAll(args, seen)
				return nil
			}
			for range n {
				if err := s.RecvFunc(read); err != nil {
					return err
				}
			}
			return nil
		}
	}
}

// readArrays copies the bulks into memory that is used again, because a bulk
// would not stay in the buffer while the next one is read.
func readArrays(count int, deadline bool) opener {
	return func(conn net.Conn, size int) loop {
		br := bufio.NewReaderSize(conn, readSize)
		args := make([][]byte, 0, count)
		memory := make([]byte, 0, count*(max(size, 16)+len(crlf)))
		read := func(seen func([]byte)) error {
			line, err := readCRLF(br)
			if err != nil {
				return err
			}
			bulks, err := number(line, '*')
			if err != nil {
				return err
			}
			args, memory = args[:0], memory[:0]
			for range bulks {
				if line, err = readCRLF(br); err != nil {
					return err
				}
				size, err := number(line, '$')
				if err != nil {
					return err
				}
				bulk, err := readMore(br, &memory, size+len(crlf))
				if err != nil {
					return err
				}
				args = append(args, bulk[:size])
			}
			showAll(args, seen)
			return nil
		}
		return func(n int, seen func([]byte)) error {
			for range n {
				if deadline {
					if err := conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
						return err
					}
				}
				if err := read(seen); err != nil {
					return err
				}
			}
			return nil
		}
	}
}

// readCRLF returns a line, which is valid until the next read.
func readCRLF(br *bufio.Reader) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, errMalformed
	}
	return line[:len(line)-2], nil
}

// readMore reads n bytes into the memory behind what is in use of it.
func readMore(br *bufio.Reader, memory *[]byte, n int) ([]byte, error) {
	used := len(*memory)
	if cap(*memory)-used < n {
		*memory, used = make([]byte, 0, 2*cap(*memory)+n), 0 // what is in use stays where it is
	}
	b := (*memory)[used : used+n]
	*memory = (*memory)[:used+n]
	_, err := io.ReadFull(br, b)
	return b, err
}

func showAll(parts [][]byte, seen func([]byte)) {
	if seen != nil {
		for _, part := range parts {
			seen(part)
		}
	}
}

// valueOf returns an answer of memcached.
func valueOf(size int) []byte {
	return fmt.Appendf(nil, "VALUE k 0 %d\r\n%s\r\nEND\r\n", size, text(size))
}

// Memcached receives answers with one value.
func Memcached() Workload {
	return Workload{
		Name: "memcached", About: "answers of memcached with one value of the size", Unit: "answer",
		Sizes: []int{1024},
		Sides: []Side{
			receiving(recvFunc, "", valueOf, receiveValues),
			receiving(sliceFull, "no deadline or lock; copies the value", valueOf, readValues),
			receiving(slicePeek, "no deadline or lock; the value must fit in the buffer", valueOf, peekValues),
		},
		Pairs: []Pair{{recvFunc, sliceFull, []float64{0.90}}, {recvFunc, slicePeek, nil}},
	}
}

var (
	valuePrefix = []byte("VALUE ")
	valueEnd    = []byte("END")
)

// valueSize returns the size that the head of a value announces.
func valueSize(line []byte) (int, error) {
	if !bytes.HasPrefix(line, valuePrefix) {
		return 0, errMalformed
	}
	return number(line[bytes.LastIndexByte(line, ' '):], ' ')
}

func receiveValues(conn net.Conn, size int) loop {
	s := socket(conn, 2*size)
	return func(n int, seen func([]byte)) error {
		read := func(m *bufsock.Message) error {
			line, err := m.Until(crlf)
			if err != nil {
				return err
			}
			size, err := valueSize(line)
			if err != nil {
				return err
			}
			value, err := m.Next(size + len(crlf))
			if err != nil {
				return err
			}
			if line, err = m.Until(crlf); err != nil {
				return err
			}
			if !bytes.Equal(line, valueEnd) {
				return errMalformed
			}
			if seen != nil {
				seen(value[:size])
			}
			return nil
		}
		for range n {
			if err := s.RecvFunc(read); err != nil {
				return err
			}
		}
		return nil
	}
}

func readValues(conn net.Conn, size int) loop {
	memory := make([]byte, size+len(crlf))
	return readValuesBy(conn, func(br *bufio.Reader, n int) ([]byte, error) {
		_, err := io.ReadFull(br, memory[:n])
		return memory[:n], err
	}, func(*bufio.Reader, int) error { return nil })
}

// peekValues copies nothing.
func peekValues(conn net.Conn, _ int) loop {
	return readValuesBy(conn, (*bufio.Reader).Peek, func(br *bufio.Reader, n int) error {
		_, err := br.Discard(n)
		return err
	})
}

// readValuesBy gets the value by read, and is done with it at done.
func readValuesBy(conn net.Conn, read func(*bufio.Reader, int) ([]byte, error), done func(*bufio.Reader, int) error) loop {
	br := bufio.NewReaderSize(conn, readSize)
	return func(n int, seen func([]byte)) error {
		for range n {
			line, err := readCRLF(br)
			if err != nil {
				return err
			}
			size, err := valueSize(line)
			if err != nil {
				return err
			}
			value, err := read(br, size+len(crlf))
			if err != nil {
				return err
			}
			if seen != nil {
				seen(value[:size])
			}
			if err := done(br, len(value)); err != nil {
				return err
			}
			if line, err = readCRLF(br); err != nil {
				return err
			}
			if !bytes.Equal(line, valueEnd) {
				return errMalformed
			}
		}
		return nil
	}
}
