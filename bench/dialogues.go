package bench

import (
	"bufio"
	"errors"
	"net"
	"time"

	"github.com/bufsock/bufsock"
)

const (
	answerFlush = "bufsock RecvUntil, Buffer, WithFlush"
	answerSend  = "bufsock RecvUntil, Send"
	answerBufio = "bufio ReadSlice, Write; Flush before a read"
)

// Answers serves requests that come without a pause, each with an answer of its
// own, on a kind of connection.
func Answers(kind Kind) Workload {
	return Workload{
		Name: "answers-" + string(kind), About: "requests of a pipeline and their answers, " + kind.About(), Unit: "request",
		Sizes: []int{16},
		Sides: []Side{
			answering(kind, answerFlush, "", answerBuffered),
			answering(kind, answerSend, "", answerEach),
			answering(kind, answerBufio, "no deadline or lock; the server must ask Buffered when to flush", answerByHand),
		},
		Pairs: []Pair{
			{answerFlush, answerSend, []float64{0.06}},
			{answerFlush, answerBufio, nil},
		},
	}
}

// answering is a side that answers a source of requests. What is seen are the
// requests.
func answering(kind Kind, name, less string, open opener) Side {
	return Side{Name: name, Less: less, Start: func(size int, seen func([]byte)) (*Session, error) {
		src, err := sendAndDrain(kind, line(size))
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

// sendAndDrain is send from a source that also takes what comes back.
func sendAndDrain(kind Kind, message []byte) (*source, error) {
	src := newSource(message)
	srv, err := serve(kind, func(s *server, conn net.Conn) {
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			s.alone()
			sleepLong(conn)
			drain(conn, nil)
		}()
		src.feed(s, conn)
		<-drained
	})
	src.server = srv
	return src, err
}

func answerBuffered(conn net.Conn, size int) loop {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(Timeout), bufsock.WithFlush())
	return answerOn(s, size, s.Buffer, func() error { return s.Flush() })
}

func answerEach(conn net.Conn, size int) loop {
	s := socket(conn, size)
	send := func(answer []byte) error {
		_, err := s.Send(answer)
		return err
	}
	return answerOn(s, size, send, func() error { return nil })
}

func answerOn(s *bufsock.BufferedSocket, size int, answer func([]byte) error, end func() error) loop {
	request := make([]byte, 0, size)
	reply := line(size)
	return func(n int, seen func([]byte)) (err error) {
		for range n {
			if request, err = s.RecvUntil(lf, bufsock.AppendTo(request[:0])); err != nil {
				return err
			}
			if seen != nil {
				seen(request)
			}
			if err := answer(reply); err != nil {
				return err
			}
		}
		return end()
	}
}

// answerByHand flushes when the requests that are at hand have been answered.
func answerByHand(conn net.Conn, size int) loop {
	br, bw := bufio.NewReaderSize(conn, readSize), bufio.NewWriterSize(conn, readSize)
	reply := line(size)
	return func(n int, seen func([]byte)) error {
		for range n {
			if br.Buffered() == 0 {
				if err := bw.Flush(); err != nil {
					return err
				}
			}
			request, err := br.ReadSlice('\n')
			if err != nil {
				return err
			}
			if seen != nil {
				seen(request[:len(request)-1])
			}
			if _, err := bw.Write(reply); err != nil {
				return err
			}
		}
		return bw.Flush()
	}
}

const (
	peekTLS = "bufsock Peek, NonBlocking, TLS"
	peekTCP = "bufsock Peek, NonBlocking, TCP"
)

// NothingThere asks connections on which nothing has come.
func NothingThere() Workload {
	return Workload{
		Name: "nothing-there", About: "asking without waiting where nothing has come", Unit: "call",
		Sizes: []int{1},
		Sides: []Side{asking(TLS, peekTLS), asking(TCP, peekTCP)},
		Pairs: []Pair{{peekTLS, peekTCP, []float64{4}}},
	}
}

var errUnexpected = errors.New("something has come")

func asking(kind Kind, name string) Side {
	return Side{Name: name, Start: func(int, func([]byte)) (*Session, error) {
		srv, err := serve(kind, func(_ *server, conn net.Conn) { drain(conn, nil) })
		if err != nil {
			return nil, err
		}
		return srv.session(ask, 1, nil)
	}}
}

func ask(conn net.Conn, size int) loop {
	s := bufsock.NewBufferedSocket(conn)
	// What TLS has sent behind its handshake is no longer there then.
	s.Peek(size, bufsock.WithTimeout(10*time.Millisecond))
	return func(n int, _ func([]byte)) error {
		for range n {
			if _, err := s.Peek(size, bufsock.WithTimeout(bufsock.NonBlocking)); !errors.Is(err, bufsock.ErrWouldBlock) {
				return errors.Join(errUnexpected, err)
			}
		}
		return nil
	}
}
