// Scgi is a web application behind nginx or lighttpd, which hand requests on by
// SCGI: a header in a netstring, then the body. It answers a form with its
// fields, and keeps any other body in a file that has its SHA-256 for a name.
// Run it from the root of the repository:
//
//	go run ./examples/scgi
//
// and tell the web server, here nginx, to use it:
//
//	location / { include scgi_params; scgi_pass 127.0.0.1:4000; }
//
// Ctrl-C ends the program, once the requests under way have been answered.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/examples/internal/accept"
)

var (
	listen  = flag.String("listen", "127.0.0.1:4000", "listen on this `address`")
	dir     = flag.String("dir", os.TempDir(), "keep files in this `directory`")
	maxFile = flag.Int64("max-file", 1<<30, "largest file in `bytes`")
	timeout = flag.Duration("timeout", 5*time.Minute, "the time for a request, with its answer")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "scgi: %v; -h shows the flags\n", err)
		os.Exit(1)
	}
}

// run serves until the program is told to end.
func run() error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return accept.UntilSignal(l, 1000, serve)
}

// serve answers the one request of a connection.
func serve(ctx context.Context, conn net.Conn) {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(bufsock.NoTimeout), bufsock.WithMaxSize(maxMessage))
	defer s.Close()
	s.SetDeadline(time.Now().Add(*timeout)) // one for the whole request
	var r request
	if err := s.RecvFunc(r.read, bufsock.WithContext(ctx)); err != nil {
		slog.Warn("no SCGI request", "err", err)
		return
	}
	status, text := r.answer(s)
	_, err := s.Send(fmt.Appendf(nil, "Status: %s\r\nContent-Type: text/plain\r\n\r\n%s\n", status, text))
	err = errors.Join(err, s.Shutdown()) // with bytes unread, Close could lose the answer
	slog.Info("request", "method", r.method, "size", r.size, "status", status, "err", err)
}
