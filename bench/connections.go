package bench

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bufsock/bufsock"
)

// The names of the sides that serve connections.
const (
	serveBufsock  = "bufsock"
	serveBufio4K  = "bufio, 4 KiB"
	serveBufio32K = "bufio, 32 KiB"
	serveBare     = "bare, one-byte reads"
)

// services are what a server does with a connection: it sends back each line.
var services = map[string]func(conn net.Conn) error{
	serveBufsock:  echoLines,
	serveBufio4K:  func(conn net.Conn) error { return echoLinesBufio(conn, 4<<10) },
	serveBufio32K: func(conn net.Conn) error { return echoLinesBufio(conn, readSize) },
	serveBare:     echoBytes,
}

func echoLines(conn net.Conn) error {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(time.Hour)) // which no idle connection reaches
	for {
		line, err := s.RecvUntil(lf, bufsock.WithDelimiter())
		if err != nil {
			return err
		}
		if _, err := s.Send(line); err != nil {
			return err
		}
	}
}

func echoLinesBufio(conn net.Conn, size int) error {
	br := bufio.NewReaderSize(conn, size)
	for {
		line, err := br.ReadBytes('\n')
		if err != nil {
			return err
		}
		if _, err := conn.Write(line); err != nil {
			return err
		}
	}
}

// echoBytes takes next to no memory.
func echoBytes(conn net.Conn) error {
	b := make([]byte, 1)
	for {
		if _, err := conn.Read(b); err != nil {
			return err
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
}

// Connections serves more and more connections at once. The server and its
// clients are processes of their own, each with a descriptor per connection.
func Connections() Workload {
	side := func(name, less string) Side {
		return Side{Name: name, Less: less, Start: func(count int, _ func([]byte)) (*Session, error) {
			if most := maxConnections(); count > most {
				return nil, fmt.Errorf("%w: this machine allows a process %d connections; raise that with ulimit -n", ErrMissing, most)
			}
			f, err := startFleet(serveTask, TCP, name, count)
			if err != nil {
				return nil, err
			}
			do := func(n int) (time.Duration, error) { return f.clients.do(n, nil) }
			// In a batch all of them are busy.
			return &Session{do: inBatches(count, do), close: f.close, batch: count, processor: f.processor, server: f.server}, nil
		}}
	}
	return Workload{
		Name: "connections", About: "connections served at once, each with a goroutine that sends back lines", Unit: "line",
		Scale: "connections", Sizes: []int{1, 10, 100, 1000, 10_000}, Starts: 5,
		Sides: []Side{
			side(serveBufsock, ""),
			side(serveBufio4K, "no deadline, limit or lock"),
			side(serveBufio32K, "no deadline, limit or lock"),
		},
		Pairs: []Pair{
			{serveBufsock, serveBufio4K, []float64{1.03, 1.03, 1.03, 1.03, 1.03}},
			{serveBufsock, serveBufio32K, nil},
		},
	}
}

// perFleet is how many connections two processes may have between them: the
// ports of one address do not suffice for many more.
const perFleet = 20_000

// maxConnections returns how many connections a process may have open, beside
// some descriptors for other things. Go has raised the limit as far as it may.
func maxConnections() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return perFleet
	}
	return int(min(uint64(limit.Cur)-50, perFleet))
}

// A fleet is many connections between two child processes.
type fleet struct {
	kind            Kind
	addr            string
	server, clients *child
}

// startFleet starts a server with one of the tasks for servers.
func startFleet(task string, kind Kind, service string, connections int) (_ *fleet, err error) {
	f := &fleet{kind: kind}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.server, err = startSelf(task, string(kind), service); err != nil {
		return nil, err
	}
	if f.addr, err = f.server.ask("address"); err != nil {
		return nil, err
	}
	f.clients, err = f.connect(connections)
	return f, err
}

// connect starts a process that opens so many connections. Each has sent a line
// and received it.
func (f *fleet) connect(connections int) (*child, error) {
	clients, err := startSelf(connectTask, string(f.kind), f.addr, strconv.Itoa(connections))
	if err != nil {
		return nil, err
	}
	if _, err := clients.do(connections, nil); err != nil {
		clients.close()
		return nil, err
	}
	return clients, nil
}

// processor returns what time the two processes have had on a processor.
func (f *fleet) processor() (total time.Duration, err error) {
	for _, c := range []*child{f.server, f.clients} {
		took, err := c.processor()
		if err != nil {
			return 0, err
		}
		total += took
	}
	return total, nil
}

// processor returns what time the child has had on a processor, if it tells.
func (c *child) processor() (time.Duration, error) {
	answer, err := c.ask("processor")
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(answer + "ns")
}

func (f *fleet) close() {
	for _, c := range []*child{f.clients, f.server} {
		if c != nil {
			c.close()
		}
	}
}

// childEnv tells a process of this program that it is a child, and what to do.
const childEnv = "BUFSOCK_BENCH_CHILD"

// startSelf starts this program again, to do what RunChild does.
func startSelf(args ...string) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, "|"))
	cmd.Stderr = os.Stderr
	return startChild(cmd)
}

// The tasks of children.
const (
	serveTask    = "serve"
	profiledTask = "serve, every allocation profiled"
	connectTask  = "connect"
)

// RunChild must be the first call of a program that uses this package. In a
// process that the package has started it does that process's work, and does
// not return.
func RunChild() {
	task, ok := os.LookupEnv(childEnv)
	if !ok {
		return
	}
	err := errors.New("unknown task")
	switch args := strings.Split(task, "|"); args[0] {
	case profiledTask:
		runtime.MemProfileRate = 1
		fallthrough
	case serveTask:
		err = serveLines(Kind(args[1]), services[args[2]])
	case connectTask:
		err = sendLines(Kind(args[1]), args[2], args[3])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "child process, %q: %v\n", task, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// answer calls f with each line of standard input and writes what it returns
// to standard output, until the input ends.
func answer(f func(command string) (string, error)) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		out, err := f(in.Text())
		if err != nil {
			return err
		}
		fmt.Println(out)
	}
	return in.Err()
}

// serveLines gives every connection to the service. It tells its address, and
// what memory it has in use: heap, stacks, and what of it is resident. Profiles
// are told in hexadecimal digits.
func serveLines(kind Kind, service func(net.Conn) error) error {
	l, cleanUp, err := kind.listen()
	if err != nil {
		return err
	}
	defer cleanUp()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			go serveConn(kind, conn, service)
		}
	}()
	var profile bytes.Buffer
	return answer(func(command string) (string, error) {
		switch command {
		case "profile":
			return "", startProfile(&profile)
		case "profiled":
			pprof.StopCPUProfile()
			return hex.EncodeToString(profile.Bytes()), nil
		case "heap":
			memory() // a profile is of what the last collection has left
			profile.Reset()
			err := pprof.WriteHeapProfile(&profile)
			return hex.EncodeToString(profile.Bytes()), err
		case "address":
			return l.Addr().String(), nil
		case "memory":
			m := memory()
			return fmt.Sprint(m.HeapAlloc, " ", m.StackInuse, " ", resident()), nil
		case "processor":
			return tellProcessor()
		}
		return "", fmt.Errorf("unknown command %q", command)
	})
}

// serveConn leaves the handshake of TLS to a function of its own, so that the
// stack that it needs is no part of the service's.
func serveConn(kind Kind, conn net.Conn, service func(net.Conn) error) {
	conn, err := kind.server(conn)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	service(conn)
}

func tellProcessor() (string, error) {
	took, err := processorTime(processClock)
	return strconv.FormatInt(took.Nanoseconds(), 10), err
}

// resident returns how much of the memory of this process is in RAM, where
// Linux tells it.
func resident() int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int
	fmt.Sscan(string(statm), &size, &pages)
	return pages * os.Getpagesize()
}

// memory returns what is in use, with everything gone that can go.
func memory() (m runtime.MemStats) {
	for range 3 { // pools are emptied in two cycles
		runtime.GC()
	}
	debug.FreeOSMemory()
	runtime.ReadMemStats(&m)
	return m
}

// sendLines opens the connections. Told a number, it has them send so many
// lines, and receive them again, and tells the nanoseconds that took.
func sendLines(kind Kind, addr, connections string) error {
	count, err := strconv.Atoi(connections)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, count)
	for i := range conns {
		if conns[i], err = kind.dial(addr); err != nil {
			return err
		}
	}
	return answer(func(command string) (string, error) {
		if command == "processor" {
			return tellProcessor()
		}
		n, err := strconv.Atoi(command)
		if err != nil {
			return "", err
		}
		start := time.Now()
		err = roundTrips(conns, n)
		return strconv.FormatInt(time.Since(start).Nanoseconds(), 10), err
	})
}

// roundTrips has the connections send n lines in all and receive them again.
func roundTrips(conns []net.Conn, n int) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(conns))
	for i, conn := range conns {
		share := n / len(conns)
		if i < n%len(conns) {
			share++
		}
		if share == 0 {
			break
		}
		wg.Go(func() {
			msg, reply := append(text(64), '\n'), make([]byte, 65)
			for range share {
				if _, err := conn.Write(msg); err != nil {
					errs <- err
					return
				}
				if _, err := io.ReadFull(conn, reply); err != nil {
					errs <- err
					return
				}
				if !bytes.Equal(reply, msg) {
					errs <- fmt.Errorf("received %q, want %q", reply, msg)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
