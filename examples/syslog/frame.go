package main

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/bufsock/bufsock"
)

// maxHead is how long a count can be, with the space behind it.
const maxHead = len("999999999 ")

// A frame is a message as RFC 6587 sends it: a count, a space and as many
// bytes, or a line.
//
// A line that begins with digits and a space is a count to everyone who takes
// both, so senders whose lines may begin with a year have to count.
type frame struct {
	message []byte
	counted int // how long it is with its count, or 0 if it is a line
}

// read is for [bufsock.BufferedSocket.RecvFunc].
func (f *frame) read(m *bufsock.Message) error {
	f.counted = 0
	size, head, err := readCount(m)
	if err != nil {
		return err
	}
	var message []byte
	if head > 0 { // a sender may count a line end, too
		f.counted = head + size
		if _, err = m.Next(head); err == nil {
			message, err = m.Next(size)
		}
	} else {
		message, err = readLine(m)
	}
	message = bytes.TrimSuffix(bytes.TrimSuffix(message, []byte("\n")), []byte("\r"))
	f.message = append(f.message[:0], message...) // it is valid until read returns
	return err
}

// readCount looks for a count, takes nothing, and returns it and how long it is
// with its space, or 0 and 0 if a line begins here.
func readCount(m *bufsock.Message) (size, head int, err error) {
	for n := 1; n <= maxHead; n++ {
		b, err := m.Peek(n)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, 0, nil // a line of a few digits, and the end
		}
		if err != nil {
			return 0, 0, err
		}
		switch c := b[n-1]; {
		case c == ' ' && n > 1:
			size, err := strconv.Atoi(string(b[:n-1]))
			return size, n, err
		case c < '0' || c > '9' || b[0] == '0':
			return 0, 0, nil
		}
	}
	return 0, 0, nil
}

// readLine takes a line. The last one of a stream may lack its end.
func readLine(m *bufsock.Message) ([]byte, error) {
	line, err := m.Until([]byte("\n"))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		line, err = m.Rest()
	}
	return line, err
}

// skip drops the message for which read has failed, as it was too long.
func (f *frame) skip(s *bufsock.BufferedSocket) (err error) {
	if f.counted > 0 {
		_, err = s.Discard(f.counted)
	} else {
		_, err = s.DiscardUntil([]byte("\n"))
	}
	return err
}
