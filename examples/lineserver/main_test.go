package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock/examples/internal/accept"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const help = "ERR want set KEY VALUE, get KEY or quit\n"

// In a bubble, so the times are exact and cost nothing.
func TestServe(t *testing.T) {
	for name, c := range map[string]struct {
		pieces []string // one each 3 s
		want   string
		after  time.Duration // the first, until the answer has ended
	}{
		"words":                  {[]string{"set a b c\nget a\r\nget b\n", "quit\n"}, "OK\nOK b c\nNONE\nBYE\n", 3 * time.Second},
		"every line is answered": {[]string{"\nget\nset a\nQUIT\nquit\n"}, strings.Repeat(help, 4) + "BYE\n", 0},
		"nothing behind quit":    {[]string{"quit\nget a\n"}, "BYE\n", 0},
		"a line in pieces":       {[]string{"set a", " b\nget", " a\n", "quit\n"}, "OK\nOK b\nBYE\n", 9 * time.Second},
		"the longest line":       {[]string{"set a " + strings.Repeat("x", 93) + "\nquit\n"}, "OK\nBYE\n", 0},
		"a line too long":        {[]string{"get a\nset a " + strings.Repeat("x", 94) + "\nget a\n"}, "NONE\nERR line too long\n", 0},
		"a line that never ends": {[]string{"get a\n", "get"}, "NONE\nERR line not ended in time\n", 13 * time.Second},
		"a line that trickles":   {[]string{"g", "e", "t", " ", "a"}, "ERR line not ended in time\n", 10 * time.Second},
		"silence":                {[]string{"get a\n"}, "NONE\nBYE idle\n", time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, client := newPair(t)
				done := startServing(t.Context(), conn)
				start := time.Now()
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() {
					for i, piece := range c.pieces {
						time.Sleep(time.Until(start.Add(time.Duration(i) * 3 * time.Second)))
						_, _ = io.WriteString(client, piece) // fails once the server has hung up
					}
				})
				got, err := io.ReadAll(client)
				require.NoError(t, err)
				assert.Equal(t, c.want, string(got))
				assert.Equal(t, c.after, time.Since(start))
				client.Close()
				<-done
			})
		})
	}
}

// When the program ends, lines that have come are answered, and no other.
func TestServeUntilCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		conn, client := newPair(t)
		done := startServing(ctx, conn)
		_, err := io.WriteString(client, "get a\nget b\nge")
		require.NoError(t, err)
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		assert.Equal(t, "NONE\nNONE\nBYE server is ending\n", string(got))
		assert.Equal(t, time.Second, time.Since(start))
		client.Close()
		<-done
	})
}

// A client that never pauses cannot keep the program from ending.
func TestServeUntilCanceledInAFlood(t *testing.T) {
	cancel, ended, client := startTCP(t)
	go func() {
		for err := error(nil); err == nil; {
			_, err = io.WriteString(client, strings.Repeat("get a\n", 1000))
		}
	}()
	_, err := io.CopyN(io.Discard, client, 1<<20)
	require.NoError(t, err)
	cancel()
	const enough = 64 << 20 // what was on its way, and answers to it
	rest, err := io.ReadAll(io.LimitReader(client, enough))
	require.NoError(t, err)
	require.Less(t, len(rest), enough)
	require.True(t, strings.HasSuffix(string(rest), "NONE\nBYE server is ending\n"))
	client.Close()
	require.NoError(t, <-ended)
}

// A client that waits for each answer gets it at once.
func TestAnswersAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, client := newPair(t)
		done := startServing(t.Context(), conn)
		start := time.Now()
		for range 3 {
			_, err := io.WriteString(client, "get a\n")
			require.NoError(t, err)
			answer := make([]byte, len("NONE\n"))
			_, err = io.ReadFull(client, answer)
			require.NoError(t, err)
			require.Equal(t, "NONE\n", string(answer))
		}
		assert.Zero(t, time.Since(start))
		client.Close()
		<-done
	})
}

// Answers to lines that came together go out together, but not without bound.
func TestAnswersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, client := newPair(t)
		done := startServing(t.Context(), conn)
		const lines = 10_000
		value := strings.Repeat("x", 80)
		go func() {
			_, _ = io.WriteString(client, "set a "+value+"\n"+strings.Repeat("get a\n", lines)+"quit\n")
		}()
		b, total, reads := make([]byte, 1<<20), 0, 0
		for {
			n, err := client.Read(b)
			total += n
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
			require.LessOrEqual(t, n, maxUnsent+len("OK \n")+len(value))
			reads++
		}
		assert.Equal(t, len("OK\n")+lines*len("OK \n"+value)+len("BYE\n"), total)
		assert.Less(t, reads, 100)
		client.Close()
		<-done
	})
}

// Over TCP a client that is still sending gets the last answer.
func TestLastAnswerArrives(t *testing.T) {
	cancel, ended, client := startTCP(t)
	_, err := client.Write(make([]byte, 1<<20))
	require.NoError(t, err)
	require.NoError(t, client.CloseWrite())
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "ERR line too long\n", string(got))
	cancel()
	require.NoError(t, <-ended)
}

// startTCP starts the server, and connects a client that does not wait for ever.
func startTCP(t *testing.T) (cancel context.CancelFunc, ended <-chan error, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- accept.Until(ctx, l, 10, newServer().serve) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return cancel, result, conn.(*net.TCPConn)
}

func newServer() *server {
	return &server{maxLine: 100, idle: time.Hour, timeout: 10 * time.Second}
}

func startServing(ctx context.Context, conn net.Conn) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		newServer().serve(ctx, conn)
	}()
	return done
}

// A half is one end of a connection with two pipes, so that it can be
// half-closed, which net.Pipe cannot.
type half struct {
	in, out net.Conn
}

func newPair(t *testing.T) (conn, client net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	c, d := net.Pipe()
	return half{a, c}, half{d, b}
}

func (h half) Read(p []byte) (int, error)         { return h.in.Read(p) }
func (h half) Write(p []byte) (int, error)        { return h.out.Write(p) }
func (h half) CloseWrite() error                  { return h.out.Close() }
func (h half) Close() error                       { return errors.Join(h.in.Close(), h.out.Close()) }
func (h half) LocalAddr() net.Addr                { return h.in.LocalAddr() }
func (h half) RemoteAddr() net.Addr               { return h.in.RemoteAddr() }
func (h half) SetReadDeadline(t time.Time) error  { return h.in.SetReadDeadline(t) }
func (h half) SetWriteDeadline(t time.Time) error { return h.out.SetWriteDeadline(t) }
func (h half) SetDeadline(t time.Time) error {
	return errors.Join(h.SetReadDeadline(t), h.SetWriteDeadline(t))
}
