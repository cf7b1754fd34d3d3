package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/bufsock/bufsock"
)

// What a peer may make this program hold in memory.
const (
	maxValue = 1 << 20 // bytes of a value, with all that is in it
	maxDepth = 8       // arrays in arrays
)

var crlf = []byte("\r\n")

// A respConn speaks RESP, the protocol of Redis.
type respConn struct {
	*bufsock.BufferedSocket
}

func dial(addr string) (respConn, error) {
	s, err := bufsock.Dial(context.Background(), "tcp", addr,
		bufsock.WithTimeout(5*time.Second), bufsock.WithMaxSize(maxValue))
	return respConn{s}, err
}

// A value is what one end sends: a command or a reply.
type value struct {
	kind  byte    // '+', '-', ':', '$', '*', or 0 for null
	text  string  // of a line without its kind, or of a bulk string
	items []value // of an array
}

func (v value) String() string {
	switch v.kind {
	case 0:
		return "null"
	case '$':
		return strconv.Quote(v.text)
	case '*':
		return fmt.Sprint(v.items)
	}
	return string(v.kind) + v.text
}

// command returns args as they are sent: an array of bulk strings.
func command(args ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b
}

// do sends a command and returns the reply to it. A reply that begins with '-'
// is an error. After a timeout the reply is still to come: receive it before the
// next command, or close the connection.
func (c respConn) do(args ...string) (value, error) {
	if _, err := c.Send(command(args...)); err != nil {
		return value{}, err
	}
	v, err := c.receive()
	if err == nil && v.kind == '-' {
		err = fmt.Errorf("%s refused: %s", args[0], v.text)
	}
	return v, err
}

// receive returns the next value. If it fails, because not all of that comes in
// time, say, it has consumed nothing, and the next call begins at the same place.
func (c respConn) receive(opts ...bufsock.Option) (v value, err error) {
	err = c.RecvFunc(func(m *bufsock.Message) error {
		v, err = readValue(m, 0)
		return err
	}, opts...)
	return v, err
}

// readValue takes a value, in which there may be others. Each step waits for
// what it needs; that all of them together end in time, or take nothing, is up to
// RecvFunc, and so is the limit.
func readValue(m *bufsock.Message, depth int) (value, error) {
	line, err := m.Until(crlf)
	if err != nil {
		return value{}, err
	}
	if len(line) == 0 {
		return value{}, errors.New("not RESP: an empty line")
	}
	kind, text := line[0], string(line[1:])
	switch kind {
	case '+', '-', ':':
		return value{kind: kind, text: text}, nil
	case '$', '*':
	default:
		return value{}, fmt.Errorf("not RESP: a line that begins with %q", kind)
	}
	n, err := strconv.ParseInt(text, 10, 31)
	switch {
	case err != nil || n < -1:
		return value{}, fmt.Errorf("not RESP: size %.32q", text)
	case n == -1:
		return value{}, nil
	case kind == '$':
		return readBulk(m, int(n))
	case depth == maxDepth:
		return value{}, fmt.Errorf("more than %d arrays in each other", maxDepth)
	}
	v := value{kind: kind}
	for range n {
		item, err := readValue(m, depth+1)
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
	}
	return v, nil
}

// readBulk takes a bulk string of n bytes, whatever bytes they are.
func readBulk(m *bufsock.Message, n int) (value, error) {
	data, err := m.Next(n + len(crlf))
	if err != nil {
		return value{}, err
	}
	text, ok := bytes.CutSuffix(data, crlf)
	if !ok {
		return value{}, errors.New("not RESP: no line end after a bulk string")
	}
	return value{kind: '$', text: string(text)}, nil
}
