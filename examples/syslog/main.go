// Syslog receives log messages over TCP and keeps them in one file for each host
// that sends. It takes both framings of RFC 6587, a count in front of each
// message or a line end behind it, mixed at will. Run it from the root of the
// repository, and send to it:
//
//	go run ./examples/syslog -dir /tmp
//	logger --tcp --server 127.0.0.1 --port 5140 --octet-count 'hello, twice
//	as long'
//
// Ctrl-C ends the program; what has arrived by then is kept. The reader of
// frames, which is there to be copied, is in frame.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/examples/internal/accept"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5140", "listen on this `address`")
	maxClients := flag.Int("max-clients", 1000, "the `number` of connections at a time")
	var r receiver
	flag.StringVar(&r.dir, "dir", ".", "keep the files in this `directory`")
	flag.IntVar(&r.maxMessage, "max-message", 8<<10, "largest message in `bytes`, with its count or line end; larger ones are dropped")
	flag.Int64Var(&r.maxFile, "max-file", 1<<30, "largest file in `bytes`; what a host sends beyond is dropped")
	flag.DurationVar(&r.idle, "idle", time.Hour, "how long a host may be silent")
	flag.DurationVar(&r.timeout, "timeout", 10*time.Second, "how long a message may take that has begun")
	flag.Parse()
	if err := run(r, *listen, *maxClients); err != nil {
		fmt.Fprintf(os.Stderr, "syslog: %v; -h shows the flags\n", err)
		os.Exit(1)
	}
}

// run receives until the program is told to end.
func run(r receiver, listen string, maxClients int) error {
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case r.maxMessage < 1 || maxClients < 1 || r.idle <= 0:
		return errors.New("a limit must be more than 0")
	}
	if _, err := os.Stat(r.dir); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return accept.UntilSignal(l, maxClients, r.serve)
}

// A receiver is where messages go, and how much of them.
type receiver struct {
	dir           string
	maxMessage    int
	maxFile       int64
	idle, timeout time.Duration
}

// grace is how long what is on its way may take when the program ends.
const grace = time.Second

// serve keeps what one host sends. Nobody answers in this protocol, so there is
// nobody to tell that something was dropped but the log.
func (r receiver) serve(ctx context.Context, conn net.Conn) {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(r.maxMessage),
		bufsock.WithIdleTimeout(r.idle), bufsock.WithTimeout(r.timeout))
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.SetReadDeadline(time.Now().Add(grace)) })()
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	log := slog.With("host", host)
	if err != nil {
		log.Error("no host", "err", err)
		return
	}
	// The name is the sender's address, not one that it gives itself. Several
	// connections of a host may write: each line is one write, at the end.
	name := filepath.Join(r.dir, strings.NewReplacer(":", "_", "%", "_").Replace(host)+".log")
	file, err := os.OpenFile(filepath.Clean(name), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		log.Error("nothing kept", "err", err)
		return
	}
	defer file.Close()
	kept, dropped, err := r.keep(s, file)
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		err = nil
	}
	log.Info("disconnecting", "kept", kept, "dropped", dropped, "err", err)
}

// keep writes messages to the file until there is an error, and counts them.
func (r receiver) keep(s *bufsock.BufferedSocket, file *os.File) (kept, dropped int, err error) {
	var f frame
	for {
		err := s.RecvFunc(f.read)
		if _, tooLong := errors.AsType[*bufsock.MessageTooLongError](err); tooLong {
			dropped++
			if err = f.skip(s); err == nil {
				continue
			}
		}
		if err != nil {
			return kept, dropped, err
		}
		line := strconv.AppendQuote(nil, string(f.message)) // one line, whatever bytes are in it
		line = append(line[1:len(line)-1], '\n')
		if info, err := file.Stat(); err != nil || info.Size()+int64(len(line)) > r.maxFile {
			dropped++
			continue
		}
		if _, err := file.Write(line); err != nil {
			return kept, dropped, err
		}
		kept++
	}
}
