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
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	// One deadline for the whole request, and a max size for header and form.
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(bufsock.NoTimeout), bufsock.WithMaxSize(64<<10))
	defer s.Close()
	s.SetDeadline(time.Now().Add(*timeout))
	header, err := bufsock.NewNetstringSocket(s).ReadNetstring(bufsock.WithContext(ctx))
	params := map[string]string{}
	for pair := range slices.Chunk(strings.Split(string(header), "\x00"), 2) {
		params[pair[0]] = pair[len(pair)-1]
	}
	size, sizeErr := strconv.ParseUint(params["CONTENT_LENGTH"], 10, 63)
	if err != nil || sizeErr != nil || params["SCGI"] != "1" {
		slog.Warn("no SCGI request", "err", err, "header", len(header))
		return
	}
	status, text := answer(s, params["REQUEST_METHOD"], params["CONTENT_TYPE"], int64(size))
	_, err = s.Send(fmt.Appendf(nil, "Status: %s\r\nContent-Type: text/plain\r\n\r\n%s\n", status, text))
	slog.Info("request", "method", params["REQUEST_METHOD"], "size", size, "status", status, "err", err)
	s.CloseWrite()
	io.Copy(io.Discard, s) // with bytes unread, Close could lose the answer
}

// answer reads the body of a request and returns the status and the answer.
func answer(s *bufsock.BufferedSocket, method, contentType string, size int64) (status, text string) {
	isForm := strings.HasPrefix(contentType, "application/x-www-form-urlencoded")
	switch {
	case method != "POST" && method != "PUT":
		return "200 OK", "Send a form, or a file."
	case size > *maxFile, isForm && size > int64(s.MaxSize()):
		return "413 Content Too Large", "too large"
	case isForm:
		body, err := s.RecvSize(int(size))
		fields, bad := url.ParseQuery(string(body))
		if err = errors.Join(err, bad); err != nil {
			return "400 Bad Request", err.Error()
		}
		return "200 OK", fields.Encode()
	}
	name, err := keep(s, size)
	if err != nil {
		slog.Error("file not kept", "err", err)
		return "500 Internal Server Error", err.Error()
	}
	return "201 Created", name
}

// keep streams a body into a file and returns the name of that.
func keep(s *bufsock.BufferedSocket, size int64) (name string, err error) {
	f, err := os.CreateTemp(*dir, "upload-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // fails once it is renamed, which is as well
	defer f.Close()
	hash := sha256.New()
	if n, err := io.CopyN(io.MultiWriter(f, hash), s, size); err != nil {
		return "", fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	name = fmt.Sprintf("%x", hash.Sum(nil))
	if err = f.Close(); err == nil {
		err = os.Rename(f.Name(), filepath.Join(*dir, name))
	}
	return name, err
}
