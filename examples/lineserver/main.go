// Lineserver keeps words for its clients, who send it lines. It is a server to
// start from: a client may be silent for an hour but has ten seconds for a line
// that it has begun, answers to lines that came together go out together, and
// nobody loses an answer when the program or a connection ends. Run it from the
// root of the repository, and talk to it:
//
//	go run ./examples/lineserver
//	printf 'set colour blue\nget colour\nquit\n' | nc 127.0.0.1 4343
//
// Ctrl-C ends the program, once the lines that have come have been answered.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/examples/internal/accept"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:4343", "listen on this `address`")
	maxClients := flag.Int("max-clients", 1000, "the `number` of connections at a time")
	var srv server
	flag.IntVar(&srv.maxLine, "max-line", 4<<10, "longest line in `bytes`, its end included")
	flag.DurationVar(&srv.idle, "idle", time.Hour, "how long a client may be silent")
	flag.DurationVar(&srv.timeout, "timeout", 10*time.Second, "how long a line, and how long an answer, may take")
	flag.Parse()
	if err := run(&srv, *listen, *maxClients); err != nil {
		fmt.Fprintf(os.Stderr, "lineserver: %v; -h shows the flags\n", err)
		os.Exit(1)
	}
}

// run serves until the program is told to end.
func run(srv *server, listen string, maxClients int) error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case srv.maxLine < 1 || maxClients < 1 || srv.idle <= 0:
		return errors.New("a limit must be more than 0")
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return accept.UntilSignal(l, maxClients, srv.serve)
}

// A server is what its clients share.
type server struct {
	maxLine       int
	idle, timeout time.Duration
	words         sync.Map
}

// serve answers lines until the client ends, or ctx does.
func (srv *server) serve(ctx context.Context, conn net.Conn) {
	s := bufsock.NewBufferedSocket(conn,
		bufsock.WithIdleTimeout(srv.idle), bufsock.WithTimeout(srv.timeout), bufsock.WithMaxSize(srv.maxLine),
		bufsock.WithFlush()) // what is buffered is sent when a receive has to wait
	log := slog.With("client", conn.RemoteAddr())
	lines, err := srv.answerLines(ctx, s)
	if parting := farewell(err); parting != "" {
		_ = s.Buffer([]byte(parting)) // fails if the connection has, and so does Shutdown
	}
	// Shutdown sends what is buffered and waits for the client's end; Close
	// could take the last answer away from a client that is still sending.
	if gone := s.Shutdown(); err == nil {
		err = gone
	}
	log.Info("disconnected", "lines", lines, "err", err)
}

// maxUnsent is how many bytes of answers are kept until there is no line left.
const maxUnsent = 32 << 10

// answerLines returns how many lines it has answered, and the error that ended
// it: nil if the client has ended, or said quit.
func (srv *server) answerLines(ctx context.Context, s *bufsock.BufferedSocket) (lines int, err error) {
	for line, err := range s.Messages([]byte("\n"), bufsock.WithContext(ctx)) {
		if err != nil {
			return lines, err
		}
		lines++
		answer, quit := srv.answer(strings.TrimSuffix(string(line), "\r"))
		if err := s.Buffer([]byte(answer + "\n")); err != nil || quit {
			return lines, err
		}
		if s.Unsent() > maxUnsent {
			if err := s.Flush(); err != nil {
				return lines, err
			}
		}
		if ctx.Err() != nil && bytes.IndexByte(s.RecvBuffer(), '\n') < 0 {
			return lines, context.Cause(ctx) // also if more lines are on their way
		}
	}
	return lines, nil
}

// farewell is what a client is told last, beginning with ERR if it was at fault.
func farewell(err error) string {
	timeout, isTimeout := errors.AsType[*bufsock.TimeoutError](err)
	_, isTooLong := errors.AsType[*bufsock.MessageTooLongError](err)
	switch {
	case isTooLong:
		return "ERR line too long\n"
	case isTimeout && timeout.Buffered > 0:
		return "ERR line not ended in time\n"
	case isTimeout:
		return "BYE idle\n"
	case errors.Is(err, context.Canceled):
		return "BYE server is ending\n"
	}
	return ""
}

// answer returns the answer to a line: one to each, also to an empty one.
func (srv *server) answer(line string) (answer string, quit bool) {
	words := strings.SplitN(line, " ", 3)
	switch {
	case words[0] == "set" && len(words) == 3:
		srv.words.Store(words[1], words[2])
		return "OK", false
	case words[0] == "get" && len(words) == 2:
		if value, ok := srv.words.Load(words[1]); ok {
			return "OK " + value.(string), false
		}
		return "NONE", false
	case line == "quit":
		return "BYE", true
	}
	return "ERR want set KEY VALUE, get KEY or quit", false
}
