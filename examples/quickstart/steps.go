package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bufsock/bufsock"
)

// ask sends a command and prints it and the reply.
func (d *demo) ask(c respConn, args ...string) error {
	d.print("sent", "%q", command(args...))
	v, err := c.do(args...)
	if err != nil {
		return err
	}
	d.print("received", "%v", v)
	return nil
}

func (d *demo) lines() error {
	if err := d.ask(d.client, "PING"); err != nil {
		return err
	}
	return d.ask(d.client, "SET", text, "a\r\nb\x00c")
}

func (d *demo) sizes() error { return d.ask(d.client, "GET", text) }

func (d *demo) pipeline() error {
	for _, args := range [][]string{{"INCR", counter}, {"INCR", counter}, {"GET", counter}} {
		d.print("buffered", "%q", command(args...))
		if err := d.client.Buffer(command(args...)); err != nil {
			return err
		}
	}
	d.print("sent", "%d bytes", len(d.client.SendBuffer()))
	if err := d.client.Flush(); err != nil {
		return err
	}
	for range 3 {
		v, err := d.client.receive()
		if err != nil {
			return err
		}
		d.print("received", "%v", v)
	}
	return nil
}

// tooLong sends an unknown command with a long name, which the server repeats
// in a line longer than the limit of this one call.
func (d *demo) tooLong() error {
	unknown := command(strings.Repeat("X", 100))
	d.print("sent", "%q", unknown)
	if _, err := d.client.Send(unknown); err != nil {
		return err
	}
	v, err := d.client.receive(bufsock.WithMaxSize(64))
	long, ok := errors.AsType[*bufsock.MessageTooLongError](err)
	if !ok {
		return unexpected(v, err, "a line too long")
	}
	d.print("refused", "%T: no %q in %d bytes", long, long.Delimiter, long.MaxSize)
	n, err := d.client.DiscardUntil(crlf)
	if err != nil {
		return err
	}
	d.print("skipped", "%d bytes", n)
	return d.ask(d.client, "PING")
}

func (d *demo) netstring() error {
	if d.netstrings == "" {
		d.print("left out", "redis does not speak netstrings")
		return nil
	}
	s, err := bufsock.Dial(context.Background(), "tcp", d.netstrings)
	if err != nil {
		return err
	}
	defer s.Close()
	ns := bufsock.NewNetstringSocket(s)
	payload := []byte("commas, and\r\nline ends")
	d.print("sent", "%q", bufsock.AppendNetstring(nil, payload))
	if err := ns.WriteNetstring(payload); err != nil {
		return err
	}
	echo, err := ns.ReadNetstring()
	if err != nil {
		return err
	}
	d.print("received", "%q", echo)
	return nil
}

func unexpected(v value, err error, wanted string) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("received %v instead of %s", v, wanted)
}
