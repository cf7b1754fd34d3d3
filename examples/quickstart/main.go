// Quickstart is a small Redis client written on bufsock. It shows lines and
// sizes, a pipeline, a reply that comes late and in halves, a line that is too
// long, and netstrings. Run it from the root of the repository:
//
//	go run ./examples/quickstart
//
// It brings a server of its own. With -addr 127.0.0.1:6379 it talks to a
// redis-server, where it uses, and deletes, three keys that begin with
// "bufsock:".
//
// The client, which is there to be copied, is in resp.go; what is done with it
// in steps.go and late.go; the server in server.go.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

// The keys that the demo uses.
const (
	text    = "bufsock:text"
	counter = "bufsock:counter"
	jobs    = "bufsock:jobs"
)

func main() {
	addr := flag.String("addr", "", "talk to the redis-server at this `address`, such as 127.0.0.1:6379,\n"+
		"instead of to a server of its own; uses, and deletes, the keys\n"+
		text+", "+counter+" and "+jobs)
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: unexpected argument %q; -h shows the flags\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := run(os.Stdout, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// A demo is what its steps share.
type demo struct {
	out        io.Writer
	client     respConn
	addr       string // where client is connected to
	netstrings string // address of an echo of netstrings, if there is one
}

// run shows the demo with the server at addr, or with one of its own.
func run(out io.Writer, addr string) error {
	if addr != "" {
		return show(&demo{out: out, addr: addr}, "the redis-server at "+addr)
	}
	s, err := startServer()
	if err != nil {
		return err
	}
	defer s.close()
	return show(&demo{out: out, addr: s.resp, netstrings: s.netstrings}, "a server of its own")
}

func show(d *demo, server string) (err error) {
	if d.client, err = dial(d.addr); err != nil {
		return err
	}
	defer d.client.Close()
	if _, err := d.client.do("DEL", text, counter, jobs); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "bufsock quickstart, talking to %s\n", server)
	for i, step := range []struct {
		title string
		run   func() error
	}{
		{"A command, and a line for a reply: Send, RecvFunc", d.lines},
		{"A value with any bytes inside, by its size: RecvFunc", d.sizes},
		{"Three commands in one write, replies in order: Buffer, Flush", d.pipeline},
		{"A reply that comes late, in halves: a timeout loses nothing", d.late},
		{"A line that is too long: refused, skipped, and on we go", d.tooLong},
		{"Netstrings: any bytes, framed by their size", d.netstring},
	} {
		fmt.Fprintf(d.out, "\n%d. %s\n", i+1, step.title)
		if err := step.run(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	_, err = d.client.do("DEL", text, counter, jobs)
	return err
}

// print prints a line that fits into 80 columns.
func (d *demo) print(label, format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if len(s) > 67 {
		s = s[:64] + "..."
	}
	fmt.Fprintf(d.out, "   %-9s %s\n", label, s)
}
