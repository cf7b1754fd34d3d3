// Socketmap answers the lookups of a Postfix mail server from a file: requests
// and replies are netstrings. Run it from the root of the repository, and ask
// it as Postfix does:
//
//	go run ./examples/socketmap -file examples/socketmap/virtual.txt
//	postmap -q alice@example.test socketmap:inet:127.0.0.1:4242:virtual
//
// The file is read again when it has changed. Ctrl-C ends the program, once the
// requests under way have been answered.
package main

import (
	"bytes"
	"context"
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
	listen := flag.String("listen", "tcp:127.0.0.1:4242", "listen on this `address`, tcp:host:port or unix:path")
	file := flag.String("file", "virtual.txt", "the table, a `file` with a key, a space and a value per line")
	maxReply := flag.Int("max-reply", 100_000, "largest reply in `bytes`; Postfix refuses more than 100000")
	flag.Parse()
	if err := run(*listen, *file, *maxReply); err != nil {
		fmt.Fprintf(os.Stderr, "socketmap: %v; -h shows the flags\n", err)
		os.Exit(1)
	}
}

// run serves until the program is told to end.
func run(listen, file string, maxReply int) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	t := &table{file: file}
	if _, err := t.read(); err != nil {
		return err
	}
	network, addr, _ := strings.Cut(listen, ":")
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	return accept.UntilSignal(l, 1000, func(ctx context.Context, conn net.Conn) {
		t.serve(ctx, bufsock.NewNetstringSocket(conn, bufsock.WithMaxSize(maxReply)))
	})
}

// serve answers requests, of at most 4 KiB, until the client hangs up or ctx
// ends, which does not interrupt an answer under way.
func (t *table) serve(ctx context.Context, client *bufsock.NetstringSocket) {
	defer client.Close()
	log := slog.With("client", client.Socket().RemoteAddr())
	log.Info("connected")
	n := 0
	for request, err := range client.Messages(bufsock.WithContext(ctx),
		bufsock.WithTimeout(time.Hour), bufsock.WithMaxSize(4<<10)) {
		if err == nil {
			n++
			err = client.WriteNetstring(t.answer(request))
		}
		if err != nil || ctx.Err() != nil {
			log.Info("disconnecting", "requests", n, "err", err)
			return
		}
	}
	log.Info("disconnected", "requests", n)
}

// answer returns the reply to a request: the name of a table, a space and a
// key. There is one table here, so any name will do.
func (t *table) answer(request []byte) []byte {
	_, key, ok := bytes.Cut(request, []byte(" "))
	if !ok {
		return []byte("PERM expected a name, a space and a key")
	}
	values, err := t.read()
	if err != nil {
		slog.Error("cannot read the table", "err", err)
		return []byte("TEMP the table cannot be read")
	}
	if value, ok := values[string(key)]; ok {
		return []byte("OK " + value)
	}
	return []byte("NOTFOUND ")
}

// A table is a file, and what was in it when it was last read.
type table struct {
	file    string
	mu      sync.Mutex // guards the rest
	changed time.Time
	values  map[string]string // replaced, but not changed
}

// read returns what is in the table now.
func (t *table) read() (map[string]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := os.Stat(t.file)
	if err != nil || info.ModTime().Equal(t.changed) {
		return t.values, err
	}
	data, err := os.ReadFile(t.file)
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("%s: expected a key, a space and a value, found %.40q", t.file, line)
		}
		values[key] = strings.TrimSpace(value)
	}
	if err == nil {
		t.changed, t.values = info.ModTime(), values
	}
	return values, err
}
