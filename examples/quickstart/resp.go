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
	maxLine  = 1 << 10 // bytes of a line, its end included
	maxBulk  = 1 << 20 // bytes of a bulk string
	maxItems = 1 << 10 // values in an array
	maxDepth = 4       // arrays in arrays
)

var crlf = []byte("\r\n")

// A respConn speaks RESP, the protocol of Redis.
type respConn struct {
	*bufsock.BufferedSocket
}

func dial(addr string) (respConn, error) {
	s, err := bufsock.Dial(context.Background(), "tcp", addr,
		bufsock.WithTimeout(5*time.Second), bufsock.WithMaxSize(maxLine))
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
// is an error.
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

// receive returns the next value. opts are for its first line: if that does
// not come in time, or is too long, nothing has been consumed and the next
// call begins at the same place. A failure further in leaves the stream in the
// middle of a value, where nobody could go on, so it closes the connection.
func (c respConn) receive(opts ...bufsock.Option) (value, error) {
	line, err := c.RecvUntil(crlf, opts...)
	if err != nil {
		return value{}, err
	}
	v, err := c.rest(line, 0)
	if err != nil {
		c.Close()
	}
	return v, err
}

// rest returns the value that begins with line.
func (c respConn) rest(line []byte, depth int) (value, error) {
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
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < -1:
		return value{}, fmt.Errorf("not RESP: size %.32q", text)
	case n == -1:
		return value{}, nil
	case kind == '$':
		return c.bulk(n)
	}
	return c.array(n, depth+1)
}

// bulk returns a bulk string of n bytes, whatever bytes they are. RecvSize has
// no limit of its own, so the size is checked here.
func (c respConn) bulk(n int) (value, error) {
	if n > maxBulk {
		return value{}, fmt.Errorf("bulk string of %d bytes, more than %d", n, maxBulk)
	}
	data, err := c.RecvSize(n + len(crlf))
	if err != nil {
		return value{}, err
	}
	text, ok := bytes.CutSuffix(data, crlf)
	if !ok {
		return value{}, errors.New("not RESP: no line end after a bulk string")
	}
	return value{kind: '$', text: string(text)}, nil
}

func (c respConn) array(n, depth int) (value, error) {
	if n > maxItems || depth > maxDepth {
		return value{}, fmt.Errorf("array of %d values at depth %d: too large", n, depth)
	}
	v := value{kind: '*'}
	for range n {
		line, err := c.RecvUntil(crlf)
		if err != nil {
			return value{}, err
		}
		item, err := c.rest(line, depth)
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
	}
	return v, nil
}
