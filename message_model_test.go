package bufsock_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
)

// This file makes random messages of several parts: random steps, of which some
// fail and others are tried instead, and functions that fail in the end. The
// plain parser beside each step tells what it must come to.

// A part is a step of a random message.
type part struct {
	name string
	// judge reads the verdict off what is left of the stream and of the limit.
	judge func(rest []byte, left int) verdict
	take  func(m *bufsock.Message) (view []byte, which int, err error)

	bare    bool  // it returns the errors of package io
	instead *part // what is tried if it fails, or nil
}

func untilPart(r *rand.Rand) part {
	d := randomDelimiter(r)
	return part{
		name: fmt.Sprintf("Until(%q)", d),
		judge: func(rest []byte, left int) verdict {
			v := untilAny(rest, [][]byte{d}, left, false)
			v.n = 0
			return v
		},
		take: func(m *bufsock.Message) ([]byte, int, error) {
			view, err := m.Until(d)
			return view, 0, err
		},
	}
}

func untilAnyPart(r *rand.Rand) part {
	ds := make([][]byte, 1+r.IntN(4))
	for i := range ds {
		ds[i] = randomDelimiter(r)
	}
	return part{
		name:  fmt.Sprintf("UntilAny(%q)", ds),
		judge: func(rest []byte, left int) verdict { return untilAny(rest, ds, left, false) },
		take:  func(m *bufsock.Message) ([]byte, int, error) { return m.UntilAny(ds) },
	}
}

// counted is what steps come to that are given a size.
func counted(rest []byte, size, left int) verdict {
	if size > left {
		return verdict{err: "too long"}
	}
	return sized(rest, size)
}

func nextPart(r *rand.Rand) part {
	n := randomSize(r)
	return part{
		name:  fmt.Sprintf("Next(%d)", n),
		judge: func(rest []byte, left int) verdict { return counted(rest, n, left) },
		take: func(m *bufsock.Message) ([]byte, int, error) {
			view, err := m.Next(n)
			return view, 0, err
		},
	}
}

func peekPart(r *rand.Rand) part {
	n := randomSize(r)
	return part{
		name: fmt.Sprintf("Peek(%d)", n),
		judge: func(rest []byte, left int) verdict {
			v := counted(rest, n, left)
			v.consumed = 0
			return v
		},
		take: func(m *bufsock.Message) ([]byte, int, error) {
			view, err := m.Peek(n)
			return view, 0, err
		},
	}
}

// netstringPart has a limit for all of its frame.
func netstringPart(*rand.Rand) part {
	return part{
		name: "Netstring()",
		judge: func(rest []byte, left int) verdict {
			if left < 3 {
				return verdict{err: "frame too long"}
			}
			for n := 1; n <= len(rest) && netstringSize.Match(rest[:n]); n++ {
				size, _ := new(big.Int).SetString(string(rest[:n]), 10)
				if size.Cmp(big.NewInt(int64(left-n-2))) > 0 {
					return verdict{err: "frame too long", shown: n}
				}
			}
			return netstring(rest, left)
		},
		take: func(m *bufsock.Message) ([]byte, int, error) {
			view, err := m.Netstring()
			return view, 0, err
		},
	}
}

func restPart(*rand.Rand) part {
	return part{
		name: "Rest()",
		judge: func(rest []byte, left int) verdict {
			if len(rest) > left {
				return verdict{err: "too long", shown: left + 1}
			}
			return verdict{msg: rest, consumed: len(rest), shown: atEnd}
		},
		take: func(m *bufsock.Message) ([]byte, int, error) {
			view, err := m.Rest()
			return view, 0, err
		},
	}
}

func readFullPart(r *rand.Rand) part {
	n := randomSize(r)
	return part{
		name: fmt.Sprintf("io.ReadFull(%d)", n),
		judge: func(rest []byte, left int) verdict {
			v := sized(rest, min(n, left))
			if v.err == "" && n > left {
				return verdict{err: "too long", shown: left}
			}
			return v
		},
		take: func(m *bufsock.Message) ([]byte, int, error) {
			p := make([]byte, n)
			_, err := io.ReadFull(m, p)
			return p, 0, err
		},
		bare: true,
	}
}

const errOverflow = "binary: varint overflows a 64-bit integer"

func uvarintPart(*rand.Rand) part {
	return part{
		name: "binary.ReadUvarint()",
		judge: func(rest []byte, left int) verdict {
			for i, b := range rest[:min(len(rest), left)] {
				switch {
				case i == 9 && b > 1:
					return verdict{err: errOverflow, shown: i + 1}
				case b < 0x80:
					n, _ := binary.Uvarint(rest)
					return verdict{msg: fmt.Append(nil, n), consumed: i + 1, shown: i + 1}
				}
			}
			if len(rest) < left {
				return verdict{err: "closed", shown: atEnd}
			}
			return verdict{err: "too long", shown: left}
		},
		take: func(m *bufsock.Message) ([]byte, int, error) {
			n, err := binary.ReadUvarint(m)
			return fmt.Append(nil, n), 0, err
		},
		bare: true,
	}
}

// A message is what one RecvFunc does.
type message struct {
	parts  []part
	limit  int
	ending string // how the function ends if its steps do not fail
}

// randomMessage returns a message of up to five parts. Now and then its function
// fails in the end, and a step that fails is followed by another.
func randomMessage(r *rand.Rand) message {
	kinds := []func(*rand.Rand) part{
		untilPart, untilPart, untilAnyPart, nextPart, nextPart, peekPart, netstringPart,
		readFullPart, uvarintPart, restPart,
	}
	random := func() part { return kinds[r.IntN(len(kinds))](r) }
	msg := message{limit: randomLimit(r)}
	for range r.IntN(6) {
		p := random()
		if other := random(); !p.bare && r.IntN(4) == 0 {
			p.instead = &other
		}
		msg.parts = append(msg.parts, p)
	}
	if r.IntN(5) == 0 {
		msg.ending = []string{"an error", "a panic"}[r.IntN(2)]
	}
	return msg
}

func (msg *message) String() string {
	var b strings.Builder
	for _, p := range msg.parts {
		b.WriteString(p.name)
		if p.instead != nil {
			b.WriteString(" or " + p.instead.name)
		}
		b.WriteString(", ")
	}
	return fmt.Sprintf("RecvFunc(%s%s; max %d)", &b, msg.ending, msg.limit)
}

// judge is the plain parser.
func (msg *message) judge(stream []byte) verdict {
	var all verdict
	try := func(p part) verdict {
		v := p.judge(stream[all.consumed:], atMost(msg.limit)-all.consumed)
		if v.shown != atEnd {
			v.shown += all.consumed
		}
		all.shown = max(all.shown, v.shown)
		switch {
		case v.err == "closed" && p.bare && len(stream) == 0:
			v.err = "eof"
		case v.err == "closed" && p.bare:
			v.err = io.ErrUnexpectedEOF.Error()
		}
		return v
	}
	for _, p := range msg.parts {
		v := try(p)
		if v.err != "" && p.instead != nil {
			p = *p.instead
			v = try(p)
		}
		if v.err != "" {
			return verdict{err: v.err, shown: all.shown}
		}
		all.consumed += v.consumed
		all.msg = msg.note(all.msg, v.msg, v.n, all.consumed)
	}
	if msg.ending != "" {
		return verdict{err: "full", shown: all.shown}
	}
	return all
}

// note appends what a step has come to.
func (msg *message) note(to, view []byte, which, offset int) []byte {
	return fmt.Appendf(to, "%q %d, at %d\n", view, which, offset)
}

// call is the RecvFunc. What must hold and no result shows it wants itself.
func (msg *message) call(ns *bufsock.NetstringSocket, opts ...bufsock.Option) (notes []byte, err error) {
	used := new(bufsock.Message) // which takes nothing, as one whose function has returned
	defer func() {
		if p := recover(); p == errFull {
			notes, err = nil, errFull
		} else if p != nil {
			panic(p)
		}
		if _, err := used.Next(0); !errors.Is(err, bufsock.ErrInvalidArgument) {
			panic("a message can be used behind its function")
		}
		msg.checkEnd(ns, err)
	}()
	err = ns.Socket().RecvFunc(func(m *bufsock.Message) error {
		used = m
		return msg.receive(m, &notes)
	}, append(opts, bufsock.WithMaxSize(msg.limit))...)
	if err != nil {
		notes = nil
	}
	return notes, err
}

// checkEnd wants an end between messages to be one, and no other.
func (msg *message) checkEnd(ns *bufsock.NetstringSocket, err error) {
	if kind(err) == "closed" && errors.Is(err, io.EOF) != (ns.Socket().Buffered() == 0) {
		panic(fmt.Sprintf("%v: %d bytes buffered, %v", msg, ns.Socket().Buffered(), err))
	}
}

func (msg *message) receive(m *bufsock.Message, notes *[]byte) error {
	var views, copies [][]byte
	defer func() {
		for i, view := range views {
			if !bytes.Equal(view, copies[i]) {
				panic(fmt.Sprintf("%v: view %d was %q and is %q", msg, i, copies[i], view))
			}
		}
	}()
	*notes = nil
	for _, p := range msg.parts {
		before := m.Offset()
		view, which, err := p.take(m)
		if k := kind(err); err != nil && p.instead != nil && k != "later" && k != "reset" {
			if m.Offset() != before {
				panic(fmt.Sprintf("%s failed and took something", p.name))
			}
			view, which, err = p.instead.take(m)
		}
		if err != nil {
			return err
		}
		views, copies = append(views, view), append(copies, bytes.Clone(view))
		*notes = msg.note(*notes, view, which, m.Offset())
	}
	switch msg.ending {
	case "an error":
		return errFull
	case "a panic":
		panic(errFull)
	}
	return nil
}

// messageRequest is a random message as a request.
func messageRequest(r *rand.Rand) request {
	msg := randomMessage(r)
	return request{
		name:  msg.String(),
		judge: msg.judge,
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			notes, err := msg.call(ns, opts...)
			return notes, 0, err
		},
		bare:   true,
		unsure: true, // it may try something else at the end
	}
}

// anyRequest is randomRequest, or a message of several parts.
func anyRequest(r *rand.Rand) request {
	if r.IntN(6) == 0 {
		return messageRequest(r)
	}
	return randomRequest(r)
}

// FuzzMessage makes messages of several parts, and other receives between them.
func FuzzMessage(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream, cuts, calls []byte) {
		if len(stream) > 1000 {
			return // the obvious search is slow
		}
		r := choices(calls)
		rd := fuzzReading(t, stream, cuts, r)
		for range 30 {
			if r.IntN(4) == 0 {
				rd.receive(randomRequest(r))
			} else {
				rd.receive(messageRequest(r))
			}
		}
		rd.finish()
	})
}
