package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/bufsock/bufsock"
)

// A server is as much of a Redis as the demo needs, and an echo of netstrings.
type server struct {
	resp, netstrings string // addresses
	listeners        []net.Listener
	done             chan struct{} // closed by close
	running          sync.WaitGroup
	mu               sync.Mutex
	values           map[string]string // guarded by mu
	queues           sync.Map          // of chan string
}

func startServer() (s *server, err error) {
	s = &server{done: make(chan struct{}), values: map[string]string{}}
	if s.resp, err = s.listen(s.serveRESP); err == nil {
		s.netstrings, err = s.listen(echoNetstrings)
	}
	if err != nil {
		s.close()
	}
	return s, err
}

// close ends the server and waits for its connections, which the clients end.
func (s *server) close() {
	close(s.done)
	for _, l := range s.listeners {
		l.Close()
	}
	s.running.Wait()
}

// listen serves every connection to the address that it returns.
func (s *server) listen(serve func(*bufsock.BufferedSocket)) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.listeners = append(s.listeners, l)
	s.running.Go(func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			// A client may stay silent for as long as it likes.
			sock := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(bufsock.NoTimeout))
			s.running.Go(func() {
				defer sock.Close()
				serve(sock)
			})
		}
	})
	return l.Addr().String(), nil
}

func echoNetstrings(sock *bufsock.BufferedSocket) {
	ns := bufsock.NewNetstringSocket(sock)
	for payload, err := range ns.Messages() {
		if err != nil || ns.WriteNetstring(payload) != nil {
			return
		}
	}
}

func (s *server) serveRESP(sock *bufsock.BufferedSocket) {
	c := respConn{sock}
	for {
		v, err := c.receive()
		if err != nil || len(v.items) == 0 {
			return
		}
		if _, err := c.Send(s.answer(v.items[0].text, v.items[1:])); err != nil {
			return
		}
	}
}

// answer runs a command and returns the reply.
func (s *server) answer(name string, args []value) []byte {
	switch call := fmt.Sprintf("%s/%d", strings.ToUpper(name), len(args)); call {
	case "PING/0":
		return []byte("+PONG\r\n")
	case "SET/2", "GET/1", "INCR/1", "DEL/3":
		return s.answerKeys(call, args)
	case "RPUSH/2":
		return s.push(args[0].text, args[1].text)
	case "BLPOP/2":
		return s.pop(args[0].text)
	}
	name = strings.Join(strings.Fields(name), " ") // the reply is one line
	return fmt.Appendf(nil, "-ERR unknown command '%.128s', with args beginning with: \r\n", name)
}

func (s *server) answerKeys(call string, args []value) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, found := s.values[args[0].text]
	switch {
	case call == "SET/2":
		s.values[args[0].text] = args[1].text
		return []byte("+OK\r\n")
	case call == "INCR/1":
		n, _ := strconv.Atoi(v)
		s.values[args[0].text] = strconv.Itoa(n + 1)
		return fmt.Appendf(nil, ":%d\r\n", n+1)
	case call == "DEL/3":
		before := len(s.values)
		for _, arg := range args {
			delete(s.values, arg.text)
		}
		return fmt.Appendf(nil, ":%d\r\n", before-len(s.values))
	case !found:
		return []byte("$-1\r\n")
	}
	return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(v), v)
}

// queue returns the list at key, which has room for one value.
func (s *server) queue(key string) chan string {
	q, _ := s.queues.LoadOrStore(key, make(chan string, 1))
	return q.(chan string)
}

func (s *server) push(key, v string) []byte {
	select {
	case s.queue(key) <- v:
		return []byte(":1\r\n")
	default:
		return []byte("-ERR the list is full\r\n")
	}
}

// pop waits for a value, whatever timeout was asked for.
func (s *server) pop(key string) []byte {
	select {
	case v := <-s.queue(key):
		return command(key, v)
	case <-s.done:
		return []byte("-ERR the server is closing\r\n")
	}
}
