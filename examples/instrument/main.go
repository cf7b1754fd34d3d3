// Instrument asks a measuring instrument over its raw socket: SCPI commands are
// lines, answers are lines or IEEE 488.2 blocks, which hold any bytes. Run it from
// the root of the repository:
//
//	go run ./examples/instrument -demo
//	go run ./examples/instrument -addr 192.0.2.1:5025 -out curve '*IDN?' 'CURV?'
//
// With -demo it brings an instrument of its own, which is in fake.go. The client,
// which is there to be copied, is in scpi.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bufsock/bufsock"
)

func main() {
	demo := flag.Bool("demo", false, "talk to an instrument of its own; its commands are\n"+strings.Join(demoCommands, "  "))
	addr := flag.String("addr", "", "talk to the instrument at this `address`, such as 192.0.2.1:5025")
	timeout := flag.Duration("timeout", time.Second, "how long to wait for an answer, before it says so and waits as long again")
	maxBlock := flag.Int("max-block", 64<<20, "largest block in `bytes`, with its head and end")
	out := flag.String("out", "", "write the blocks to this `file`")
	flag.Parse()
	s := session{out: os.Stdout, commands: flag.Args()}
	err := errors.New("expected -addr or -demo, and not both")
	if *demo != (*addr != "") {
		err = run(&s, *addr, *out, *timeout, *maxBlock)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "instrument: %v; -h shows the flags\n", err)
		os.Exit(1)
	}
}

// run talks to the instrument at addr, or if that is empty to one of its own.
func run(s *session, addr, out string, timeout time.Duration, maxBlock int) (err error) {
	if addr == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		go serveFake(l, 3*timeout/2)
		addr = l.Addr().String()
		if len(s.commands) == 0 {
			s.commands = demoCommands
		}
	}
	if len(s.commands) == 0 {
		return errors.New("expected commands")
	}
	if out != "" {
		file, err := os.Create(filepath.Clean(out))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		s.blocks = file
	}
	sock, err := bufsock.Dial(context.Background(), "tcp", addr, bufsock.WithTimeout(timeout), bufsock.WithMaxSize(maxBlock))
	if err != nil {
		return err
	}
	defer sock.Close()
	return s.talk(&instrument{s: sock})
}

// A session is what is said to an instrument, and where the answers go.
type session struct {
	commands []string
	out      io.Writer
	blocks   io.Writer // or nil
}

func (s *session) talk(i *instrument) error {
	for _, command := range s.commands {
		if !isQuery(command) {
			trouble, err := i.tell(command)
			if err != nil {
				return fmt.Errorf("%s: %w", command, err)
			}
			fmt.Fprintf(s.out, "%-12s %s\n", command, trouble)
			continue
		}
		a, err := i.ask(command)
		if slow, ok := errors.AsType[*bufsock.TimeoutError](err); ok {
			fmt.Fprintf(s.out, "%-12s %d bytes so far\n", command, slow.Buffered)
			a, err = i.receive() // and does not ask again: the answer is on its way
		}
		if err == nil {
			err = s.show(command, a)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}
	return nil
}

func (s *session) show(command string, a answer) (err error) {
	if a.block == nil {
		_, err = fmt.Fprintf(s.out, "%-12s %s\n", command, a.text)
		return err
	}
	fmt.Fprintf(s.out, "%-12s a block of %d bytes: %.8x...\n", command, len(a.block), a.block)
	if s.blocks != nil {
		_, err = s.blocks.Write(a.block)
	}
	return err
}
