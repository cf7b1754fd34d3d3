package bench

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A child is another process that does work and takes the time. It is told how
// often on its standard input, a line with a number, and answers on its
// standard output with the nanoseconds that took. Lines before that which begin
// with "=" are messages it has seen, in hexadecimal digits. It ends when its
// input ends.
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
	answer, err := c.ask(strconv.Itoa(n))
	for ; err == nil; answer, err = c.line() {
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
	return 0, err
}

// ask sends a command and returns the first line of the answer.
func (c *child) ask(command string) (string, error) {
	if _, err := fmt.Fprintln(c.in, command); err != nil {
		return "", err
	}
	return c.line()
}

func (c *child) line() (string, error) {
	answer, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("child process %s: %w", c.cmd.Path, err)
	}
	return strings.TrimSpace(answer), nil
}

// close ends the child and waits for it.
func (c *child) close() {
	c.in.Close()
	c.cmd.Wait()
}
