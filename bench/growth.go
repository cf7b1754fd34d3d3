package bench

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"testing/iotest"
	"time"

	"github.com/bufsock/bufsock"
)

// Growth returns the workloads whose sizes show how time grows with something.
// What that is, and what is drawn of it, says their Scale.
func Growth() []Workload {
	return []Workload{
		MessageSize(), LateDelimiter(), BufferedMessages(),
		Delimiters(), Connections(), Contention(),
	}
}

// MessageSize receives messages of more and more bytes.
func MessageSize() Workload {
	var sizes []int
	for size := 1 << 10; size <= 64<<20; size *= 4 {
		sizes = append(sizes, size)
	}
	largest := func(goal float64) []float64 {
		goals := make([]float64, len(sizes))
		goals[len(sizes)-2], goals[len(sizes)-1] = goal, goal
		return goals
	}
	wire := func(size int) []byte { return append(text(size), lf...) }
	return Workload{
		Name: "message-size", About: "messages of more and more bytes", Unit: "message",
		Scale: "bytes of a message", Sizes: sizes,
		Sides: []Side{
			receiving(recvUntil, "", wire, receiveUntil(lf)),
			receiving(recvUntilAppendTo, "", wire, receiveUntilAppendTo(lf)),
			receiving(recvSizeAppendTo, "", text, receiveSize),
			receiving(readNetstringAppendTo, "", netstringOf, receiveNetstringsAppendTo),
			receiving(bufioReadBytes, "no deadline, limit or lock", wire, readBytes(readSize)),
			receiving(bareReadFull, "no deadline or lock", text, readFull),
		},
		Pairs: []Pair{
			{recvUntil, bufioReadBytes, largest(1)},
			{recvUntilAppendTo, bareReadFull, largest(1.5)},
			{readNetstringAppendTo, bareReadFull, largest(1.25)},
			{recvSizeAppendTo, bareReadFull, nil},
		},
	}
}

const (
	oneByteUntil     = "bufsock RecvUntil, read size 1"
	oneByteReadBytes = "bufio ReadBytes, one-byte reads"
)

// LateDelimiter receives lines byte by byte, each with a read of its own.
func LateDelimiter() Workload {
	wire := func(size int) []byte { return append(text(size), lf...) }
	return Workload{
		Name: "late-delimiter", About: "a delimiter that comes after many reads of one byte", Unit: "message",
		Scale: "reads before the delimiter", Sizes: []int{1 << 10, 8 << 10, 64 << 10, 512 << 10},
		Sides: []Side{
			receiving(oneByteUntil, "", wire, receiveByteByByte),
			receiving(oneByteReadBytes, "no deadline, limit or lock", wire, func(conn net.Conn, _ int) loop {
				return readBytesFrom(bufio.NewReader(iotest.OneByteReader(conn)))
			}),
		},
		Pairs: []Pair{{oneByteUntil, oneByteReadBytes, nil}},
	}
}

func receiveByteByByte(conn net.Conn, _ int) loop {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(time.Minute), bufsock.WithMaxSize(bufsock.NoLimit), bufsock.WithReadSize(1))
	return receiveUntilOn(s, lf)
}

// BufferedMessages receives short lines of which many are in the buffer.
func BufferedMessages() Workload {
	return Workload{
		Name: "buffered-messages", About: "lines of 16 B, many of them in the buffer", Unit: "line",
		Scale: "lines in the buffer", Sizes: []int{1, 10, 100, 1000, 10_000, 100_000, 1_000_000}, OwnTime: true,
		Sides: []Side{
			draining(recvUntilAppendTo, "", drainUntil),
			draining(bufioReadSlice, "no deadline or lock; the line is valid until the next read", drainReadSlice),
			drainingBoltons(),
		},
		Pairs: []Pair{
			{recvUntilAppendTo, bufioReadSlice, []float64{0, 0, 1.9, 1.9, 1.9, 1.9, 1.9}},
			{recvUntilAppendTo, boltonsUntil, nil},
		},
	}
}

// shortLine is a line of the workload BufferedMessages.
var shortLine = append(text(16), lf...)

// A drainer receives lines by batches: fill waits for so many bytes, next
// receives a line.
type drainer struct {
	fill func(n int) error
	next func() ([]byte, error)
}

// draining is a side that fetches as many lines into its buffer as the size
// says, and takes the time of receiving them from there.
func draining(name, less string, open func(conn net.Conn, size int) drainer) Side {
	return Side{Name: name, Less: less, Start: func(count int, seen func([]byte)) (*Session, error) {
		src, err := send(TCP, shortLine)
		if err != nil {
			return nil, err
		}
		conn, err := src.dial()
		if err != nil {
			src.close()
			return nil, err
		}
		d := open(conn, count*len(shortLine))
		do := inBatches(count, func(n int) (took time.Duration, err error) {
			_, err = src.during(n, func() error {
				took, err = d.drain(n/count, count, seen)
				return err
			})
			return took, err
		})
		return &Session{do: do, close: func() {
			conn.Close()
			src.close()
		}}, nil
	}}
}

// inBatches is do for work that comes in batches only. The time is that of n
// nevertheless.
func inBatches(count int, do func(n int) (time.Duration, error)) func(n int) (time.Duration, error) {
	return func(n int) (time.Duration, error) {
		all := (n + count - 1) / count * count
		took, err := do(all)
		return time.Duration(float64(took) * float64(n) / float64(all)), err
	}
}

// drain receives the batches and returns the time that next took, without what
// reading the clock takes.
func (d *drainer) drain(batches, count int, seen func([]byte)) (time.Duration, error) {
	var total time.Duration
	for range batches {
		mark(preparing) // what follows is not part of the time
		err := d.fill(count * len(shortLine))
		mark(working)
		if err != nil {
			return 0, err
		}
		start := time.Now()
		for range count {
			line, err := d.next()
			if err != nil {
				return 0, err
			}
			if seen != nil {
				seen(line)
			}
		}
		total += time.Since(start) - clock()
	}
	return max(total, 1), nil
}

// clock returns the time between two looks at the clock with nothing between.
var clock = sync.OnceValue(func() time.Duration {
	const n = 10_000
	var total time.Duration
	for range n {
		total += time.Since(time.Now())
	}
	return total / n
})

func drainUntil(conn net.Conn, size int) drainer {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(Timeout), bufsock.WithReadSize(size))
	ahead := make([]byte, 0, size)
	line := make([]byte, 0, len(shortLine))
	return drainer{
		fill: func(n int) error {
			_, err := s.Peek(n, bufsock.AppendTo(ahead))
			return err
		},
		next: func() (_ []byte, err error) {
			line, err = s.RecvUntil(lf, bufsock.AppendTo(line[:0]))
			return line, err
		},
	}
}

func drainReadSlice(conn net.Conn, size int) drainer {
	br := bufio.NewReaderSize(conn, size)
	return drainer{
		fill: func(n int) error {
			_, err := br.Peek(n)
			return err
		},
		next: func() ([]byte, error) {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return nil, err
			}
			return line[:len(line)-1], nil
		},
	}
}

// drainingBoltons leaves out what would take minutes.
func drainingBoltons() Side {
	side := boltonsSide(boltonsUntil, func(int) []byte { return shortLine }, "buffered")
	start := side.Start
	side.Start = func(count int, seen func([]byte)) (*Session, error) {
		if count > 10_000 {
			return nil, fmt.Errorf("%w: takes minutes, because the time of a line grows with what is buffered", ErrMissing)
		}
		session, err := start(count, seen)
		if err == nil {
			session.do = inBatches(count, session.do)
		}
		return session, err
	}
	return side
}

const (
	untilAnyRare   = "bufsock RecvUntilAny, last bytes rare"
	untilAnyCommon = "bufsock RecvUntilAny, last bytes common"
)

// Delimiters receives lines with RecvUntilAny and more and more delimiters.
func Delimiters() Workload {
	const size = 64
	wire := func(int) []byte { return append(text(size), lf...) }
	any := func(name, format string) Side {
		return Side{Name: name, Start: func(count int, seen func([]byte)) (*Session, error) {
			side := receiving(name, "", wire, receiveUntilAny(delimiters(count, format)))
			return side.Start(count, seen)
		}}
	}
	return Workload{
		Name: "delimiters", About: "lines of 64 B, several delimiters at once", Unit: "line",
		Scale: "delimiters", Sizes: []int{1, 2, 4, 8, 16, 32, 64},
		Sides: []Side{
			any(untilAnyRare, "<%d>"), // no line has the last byte
			any(untilAnyCommon, "<%d>e"),
		},
	}
}

// delimiters returns count delimiters, of which LF is the one that comes.
func delimiters(count int, format string) [][]byte {
	delims := [][]byte{lf}
	for i := range count - 1 {
		delims = append(delims, fmt.Appendf(nil, format, i))
	}
	return delims
}

func receiveUntilAny(delims [][]byte) opener {
	return func(conn net.Conn, size int) loop {
		s := socket(conn, size)
		dst := make([]byte, 0, size)
		return func(n int, seen func([]byte)) (err error) {
			line := dst
			for range n {
				if line, _, err = s.RecvUntilAny(delims, bufsock.AppendTo(line[:0])); err != nil {
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

const sharedReadBytes = "sync.Mutex + bufio ReadBytes"

// Contention has several goroutines receive lines from one connection.
func Contention() Workload {
	const size = 64
	wire := func(int) []byte { return append(text(size), lf...) }
	shared := func(name, less string, open opener) Side {
		return Side{Name: name, Less: less, Start: func(goroutines int, seen func([]byte)) (*Session, error) {
			side := receiving(name, less, wire, func(conn net.Conn, _ int) loop {
				return open(conn, size).split(goroutines)
			})
			return side.Start(size, seen)
		}}
	}
	return Workload{
		Name: "contention", About: "goroutines that receive lines of 64 B from one connection", Unit: "line",
		Scale: "goroutines", Sizes: []int{1, 2, 4, 8, 16, 32, 64}, OwnTime: true,
		Sides: []Side{
			shared(recvUntil, "", receiveUntil(lf)),
			shared(sharedReadBytes, "no deadline or limit; a goroutine that waits for the lock cannot give up", func(conn net.Conn, _ int) loop {
				return readBytesFrom(&lockedReader{br: bufio.NewReaderSize(conn, readSize)})
			}),
		},
		Pairs: []Pair{{recvUntil, sharedReadBytes, nil}},
	}
}

// A lockedReader is a bufio.Reader for several goroutines.
type lockedReader struct {
	mu sync.Mutex
	br *bufio.Reader
}

func (r *lockedReader) ReadBytes(delim byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.br.ReadBytes(delim)
}

// split divides the work among goroutines.
func (l loop) split(goroutines int) loop {
	return func(n int, seen func([]byte)) error {
		if seen != nil {
			var mu sync.Mutex
			unlocked := seen
			seen = func(msg []byte) {
				mu.Lock()
				defer mu.Unlock()
				unlocked(msg)
			}
		}
		errs := make(chan error, goroutines)
		for i := range goroutines {
			share := n / goroutines
			if i < n%goroutines {
				share++
			}
			go func() { errs <- l(share, seen) }()
		}
		var err error
		for range goroutines {
			if e := <-errs; e != nil {
				err = e
			}
		}
		return err
	}
}

// A bytesReader is what bufio.Reader and lockedReader have in common.
type bytesReader interface {
	ReadBytes(delim byte) ([]byte, error)
}

// readBytesFrom is readBytes from any such reader.
func readBytesFrom(r bytesReader) loop {
	return func(n int, seen func([]byte)) error {
		for range n {
			line, err := r.ReadBytes('\n')
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
