package bench

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// A child is another process that does the work and takes the time. It is told
// how often on its standard input, a line with a number, and answers on its
// standard output with the nanoseconds that it took. Lines that begin with "="
// before that are messages it has seen, in hexadecimal digits.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(cmd *exec.Cmd) (*child, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &child{cmd, in, bufio.NewReader(out)}, nil
}

func (c *child) do(n int, seen func([]byte)) (time.Duration, error) {
	if _, err := fmt.Fprintln(c.in, n); err != nil {
		return 0, err
	}
	for {
		answer, err := c.out.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("%s: %w", c.cmd.Path, err)
		}
		answer = strings.TrimSpace(answer)
		msg, ok := strings.CutPrefix(answer, "=")
		if !ok {
			return time.ParseDuration(answer + "ns")
		}
		b, err := hex.DecodeString(msg)
		if err != nil {
			return 0, err
		}
		seen(b)
	}
}

// close ends the child, which leaves when its standard input ends.
func (c *child) close() {
	c.in.Close()
	c.cmd.Wait()
}
