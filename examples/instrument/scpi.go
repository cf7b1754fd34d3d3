package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/bufsock/bufsock"
)

// An instrument is asked one thing after the other.
type instrument struct {
	s    *bufsock.BufferedSocket
	owes bool // an answer has not come yet
}

// isQuery reports whether a command has an answer. Nothing but the question mark
// of its first word tells; to a command without one an instrument says nothing.
func isQuery(command string) bool {
	header, _, _ := strings.Cut(command, " ")
	return strings.HasSuffix(header, "?")
}

// errOwes is returned where the answer to another query would be taken for the
// answer to this one.
var errOwes = errors.New("an answer to an earlier query is still to come: receive it first")

// ask sends a query and returns the answer. After a timeout receive goes on.
func (i *instrument) ask(query string) (answer, error) {
	if i.owes {
		return answer{}, errOwes
	}
	if err := i.s.Buffer([]byte(query + "\n")); err != nil {
		return answer{}, err
	}
	return i.receive()
}

// tell sends a command that has no answer, and returns what the instrument has
// to say on it, such as `0,"No error"`.
func (i *instrument) tell(command string) (trouble string, err error) {
	if i.owes {
		return "", errOwes
	}
	// It goes out with the query, in one write: some instruments take what one
	// read returns for a message.
	if err := i.s.Buffer([]byte(command + "\n")); err != nil {
		return "", err
	}
	a, err := i.ask("SYST:ERR?")
	return a.text, err
}

// receive sends what is to be sent and returns the answer to it. A timeout takes
// nothing of either, and the next receive goes on; other errors leave nothing to
// go on with.
func (i *instrument) receive() (a answer, err error) {
	err = i.s.RecvFunc(a.read, bufsock.WithFlush())
	i.owes = err != nil
	return a, err
}

// An answer is a line of text, or a block.
type answer struct {
	text  string
	block []byte // nil if it is text
}

var lineEnd = []byte("\n")

// read is for [bufsock.BufferedSocket.RecvFunc].
func (a *answer) read(m *bufsock.Message) error {
	*a = answer{}
	first, err := m.Peek(1)
	if err != nil {
		return err
	}
	if first[0] != '#' {
		line, err := m.Until(lineEnd)
		a.text = strings.TrimSuffix(string(line), "\r")
		return err
	}
	size, err := readBlockHead(m)
	if err != nil {
		return err
	}
	if size < 0 { // a line end is its only end, so it holds none
		block, err := m.Until(lineEnd)
		a.block = append([]byte{}, block...)
		return err
	}
	block, err := m.Next(size)
	if err != nil {
		return err
	}
	a.block = append([]byte{}, block...)
	end, err := m.Until(lineEnd)
	if err == nil && len(bytes.TrimSuffix(end, []byte("\r"))) > 0 {
		return fmt.Errorf("expected a line end behind a block of %d bytes, found %.20q", size, end)
	}
	return err
}

// readBlockHead takes the head of a block, a number sign, the count of digits and
// the digits, and returns the size: -1 for "#0", which has none, and 0 for "#10".
func readBlockHead(m *bufsock.Message) (size int, err error) {
	head, err := m.Next(len("#n"))
	if err != nil {
		return 0, err
	}
	if head[1] < '0' || head[1] > '9' {
		return 0, fmt.Errorf("expected a block, found %q", head)
	}
	if head[1] == '0' {
		return -1, nil
	}
	digits, err := m.Next(int(head[1] - '0'))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(digits), 10, 31)
	return int(n), err
}
