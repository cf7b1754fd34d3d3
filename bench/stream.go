package bench

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A server talks to one client on loopback.
type server struct {
	kind           Kind
	listener       net.Listener
	accepted, done chan struct{}

	mu      sync.Mutex
	threads []int // that the other end has for itself
}

// alone gives the goroutine, which is one of the other end, a thread of its
// own, so that its time can be told apart.
func (s *server) alone() {
	runtime.LockOSThread() // until it ends
	mark(separate)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.threads = append(s.threads, threadID())
}

// ownTime returns what time this process has had on a processor, without the
// other end. What the garbage collector does is part of it.
func (s *server) ownTime() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total, err := processorTime(processClock)
	for _, id := range s.threads {
		other, e := processorTime(threadClock(id))
		total, err = total-other, errors.Join(err, e)
	}
	return total, err
}

// serve accepts one connection of the kind and has handle talk to it, until the
// client closes the connection.
func serve(kind Kind, handle func(s *server, conn net.Conn)) (*server, error) {
	l, cleanUp, err := kind.listen()
	if err != nil {
		return nil, err
	}
	s := &server{kind: kind, listener: l, accepted: make(chan struct{}), done: make(chan struct{})}
	go func() {
		mark(answerer)
		defer close(s.done)
		defer cleanUp()
		conn, err := l.Accept()
		if err == nil {
			conn, err = kind.server(conn)
		}
		close(s.accepted)
		if err != nil {
			return
		}
		defer conn.Close()
		handle(s, conn)
	}()
	return s, nil
}

func (s *server) addr() string { return s.listener.Addr().String() }

// dial connects to the server.
func (s *server) dial() (net.Conn, error) {
	conn, err := s.kind.dial(s.addr())
	if err != nil {
		return nil, err
	}
	<-s.accepted
	return conn, nil
}

// close waits until the server has met the end of its connection, which the
// client must have closed.
func (s *server) close() {
	s.listener.Close()
	<-s.done
}

// session connects to the server and has open make a loop for the connection.
func (s *server) session(open opener, size int, seen func([]byte)) (*Session, error) {
	conn, err := s.dial()
	if err != nil {
		s.close()
		return nil, err
	}
	return &Session{do: open(conn, size).timed(seen), processor: s.ownTime, close: func() {
		conn.Close()
		s.close()
	}}, nil
}

// blockSize is about how many bytes a source writes in one system call. They
// fit in the caches of most processors.
const blockSize = 256 << 10

// A source is a server that sends as many messages as it is told.
type source struct {
	*server
	message []byte
	counts  chan int
}

// send serves messages that are all the same, given as they are on the wire.
// Between turns nothing is under way, so that no side can read ahead.
func send(kind Kind, message []byte) (*source, error) {
	src := newSource(message)
	srv, err := serve(kind, src.feed)
	src.server = srv
	return src, err
}

func newSource(message []byte) *source {
	return &source{message: message, counts: make(chan int, 1)}
}

// feed sends what is asked for.
func (s *source) feed(srv *server, conn net.Conn) {
	srv.alone()
	size := len(s.message)
	perBlock := max(1, blockSize/size)
	block := bytes.Repeat(s.message, perBlock)
	for n := range s.counts {
		for ; n > 0; n -= perBlock {
			if _, err := conn.Write(block[:min(n, perBlock)*size]); err != nil {
				return
			}
		}
	}
}

// during has the source send n messages while work runs, and returns how long
// that took.
func (s *source) during(n int, work func() error) (time.Duration, error) {
	start := time.Now()
	s.counts <- n
	err := work()
	return time.Since(start), err
}

// session is the work of receive, which the source sends messages for. It is
// ended by hangUp, which closes the connection to the source.
func (s *source) session(receive loop, seen func([]byte), hangUp func() error) *Session {
	do := func(n int) (time.Duration, error) {
		return s.during(n, func() error { return receive(n, seen) })
	}
	return &Session{do: do, processor: s.ownTime, close: func() {
		hangUp()
		s.close()
	}}
}

func (s *source) close() {
	close(s.counts)
	s.server.close()
}

// lowWater is how many bytes wake a sink. Were it one byte, most of the time of
// a small write would be that of waking the sink, or not, by chance.
const lowWater = 64 << 10

// sink serves clients that only send. seen may be nil.
func sink(seen func([]byte)) (*server, error) {
	return serve(TCP, func(s *server, conn net.Conn) {
		s.alone()
		sleepLong(conn)
		drain(conn, seen)
	})
}

// sleepLong has the kernel wake who reads from conn when there is much to read.
func sleepLong(conn net.Conn) {
	if raw, err := bottom(conn).(syscall.Conn).SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, lowWater)
		})
	}
}

func drain(conn net.Conn, seen func([]byte)) {
	buf := make([]byte, 1<<20)
	for {
		n, err := conn.Read(buf)
		if seen != nil {
			seen(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// echo sends back what it receives, in pieces of size bytes. Its time is part of
// a round trip.
func echo(kind Kind, size int) (*server, error) {
	return serve(kind, func(_ *server, conn net.Conn) {
		buf := make([]byte, size)
		for {
			if _, err := io.ReadFull(conn, buf); err != nil {
				return
			}
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	})
}

// receiving is a side that receives messages which come without a pause. wire
// returns a message as it is on the wire.
func receiving(name, less string, wire func(size int) []byte, open opener) Side {
	return receivingOn(TCP, name, less, wire, open)
}

// receivingOn is receiving on a kind of connection.
func receivingOn(kind Kind, name, less string, wire func(size int) []byte, open opener) Side {
	return Side{Name: name, Less: less, Start: func(size int, seen func([]byte)) (*Session, error) {
		src, err := send(kind, wire(size))
		if err != nil {
			return nil, err
		}
		conn, err := src.dial()
		if err != nil {
			src.close()
			return nil, err
		}
		return src.session(open(conn, size), seen, conn.Close), nil
	}}
}

// sending is a side that sends messages to a peer that only receives.
func sending(name, less string, open opener) Side {
	return Side{Name: name, Less: less, Start: func(size int, seen func([]byte)) (*Session, error) {
		srv, err := sink(seen)
		if err != nil {
			return nil, err
		}
		return srv.session(open, size, nil)
	}}
}

// text returns size bytes of letters.
func text(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = 'a' + byte(i*7%26)
	}
	return b
}
