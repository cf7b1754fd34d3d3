package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/bufsock/bufsock"
)

// late waits for a job before anybody has queued one, again when half of the
// array has come that tells of it, and again when all of it has.
func (d *demo) late() error {
	const half = len("*2\r\n$12\r\nbufsock:jobs\r\n$5")
	relay, err := newRelay(d.addr, int64(half))
	if err != nil {
		return err
	}
	defer relay.close()
	waiting, err := dial(relay.addr)
	if err != nil {
		return err
	}
	defer waiting.Close()
	wait := command("BLPOP", jobs, "0")
	d.print("sent", "%q", wait)
	if _, err := waiting.Send(wait); err != nil {
		return err
	}
	if err := d.inVain(waiting); err != nil {
		return err
	}
	d.print("meanwhile", "another client queues a job")
	if err := d.ask(d.client, "RPUSH", jobs, "a job"); err != nil {
		return err
	}
	if _, err := waiting.Peek(half); err != nil { // it is there
		return err
	}
	if err := d.inVain(waiting); err != nil {
		return err
	}
	relay.goOn()
	v, err := waiting.receive()
	if err == nil {
		d.print("received", "%v", v)
	}
	return err
}

// inVain wants a receive to time out.
func (d *demo) inVain(c respConn) error {
	v, err := c.receive(bufsock.WithTimeout(50 * time.Millisecond))
	timeout, ok := errors.AsType[*bufsock.TimeoutError](err)
	if !ok {
		return unexpected(v, err, "a timeout")
	}
	d.print("received", "nothing: %T after %v, %d bytes kept", timeout, timeout.After, timeout.Buffered)
	return nil
}

// A relay passes on what a client and a server send, but of what the server
// sends only so many bytes, until it is told to go on.
type relay struct {
	addr string
	goOn func()
	held chan struct{} // closed by goOn
	l    net.Listener
}

// newRelay returns a relay for one client of the server at addr.
func newRelay(addr string, pass int64) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{addr: l.Addr().String(), held: make(chan struct{}), l: l}
	r.goOn = sync.OnceFunc(func() { close(r.held) })
	go r.serve(addr, pass)
	return r, nil
}

func (r *relay) close() {
	r.l.Close()
	r.goOn()
}

func (r *relay) serve(addr string, pass int64) {
	client, err := r.l.Accept()
	if err != nil {
		return
	}
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client) // whatever ends it, the server is told
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	if _, err := io.CopyN(client, server, pass); err == nil {
		<-r.held
		_, _ = io.Copy(client, server)
	}
}
