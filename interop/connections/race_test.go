package connections

import (
	"flag"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// How often the races are run: a few seconds' worth, or as README.md says.
var (
	races   = flag.Int("races", 10_000, "resets that a receive and a send race for")
	proxies = flag.Int("proxies", 400, "cut answers that go through a proxy")
)

// workers is how many of them run at once.
const workers = 8

// repeat runs f n times, on several goroutines, and adds up how they ended.
func repeat(t *testing.T, n int, f func() (outcome string, err error)) map[string]int {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	outcomes := map[string]int{}
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for left.Add(-1) >= 0 {
				outcome, err := f()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				outcomes[outcome]++
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return outcomes
}

// The outcomes. A stream that was cut must not come back whole.
const (
	whole = "whole, without an error"
	cut   = "an error"
)

var pairing sync.Mutex

// connect returns two ends of one connection by way of l, which others use, too.
func connect(l net.Listener) (client, server *net.TCPConn, err error) {
	pairing.Lock()
	defer pairing.Unlock()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	s, err := l.Accept()
	if err != nil {
		return nil, nil, err
	}
	return c.(*net.TCPConn), s.(*net.TCPConn), nil
}

// TestResetRace lets the peer reset the connection while one goroutine is in
// RecvClose and another sends. The kernel tells only one of them.
func TestResetRace(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	t.Run("bare", func(t *testing.T) {
		t.Logf("%v", repeat(t, *races, func() (string, error) {
			return resetRace(l, func(conn net.Conn) (io.Writer, func() error) {
				return conn, func() error { _, err := io.ReadAll(conn); return err }
			})
		}))
	})
	t.Run("bufsock", func(t *testing.T) {
		outcomes := repeat(t, *races, func() (string, error) {
			return resetRace(l, func(conn net.Conn) (io.Writer, func() error) {
				s := bufsock.NewBufferedSocket(conn, forEver)
				return s, func() error { _, err := s.RecvClose(); return err }
			})
		})
		t.Logf("%v", outcomes)
		require.Zero(t, outcomes[whole], "%v", outcomes)
	})
}

// resetRace sends with one goroutine and receives with another while the peer, who has
// sent half of an answer, resets.
func resetRace(l net.Listener, around func(net.Conn) (io.Writer, func() error)) (string, error) {
	peer, conn, err := connect(l)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	w, receive := around(conn)
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			if _, err := w.Write([]byte("request")); err != nil {
				return
			}
		}
	})
	if _, err := peer.Write([]byte("half an answer")); err != nil {
		return "", err
	}
	_ = peer.SetLinger(0)
	_ = peer.Close()
	err = receive()
	sending.Wait()
	if err == nil {
		return whole, nil
	}
	return cut, nil
}

// TestProxyOfACutAnswer: a proxy copies both ways; the client uploads, the server
// sends half an answer and resets. The proxy must not think that the
// answer was whole.
func TestProxyOfACutAnswer(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	t.Run("bare", func(t *testing.T) {
		t.Logf("%v", repeat(t, *proxies, func() (string, error) {
			return proxyOfACutAnswer(l, func(conn net.Conn) net.Conn { return conn })
		}))
	})
	t.Run("bufsock", func(t *testing.T) {
		outcomes := repeat(t, *proxies, func() (string, error) {
			return proxyOfACutAnswer(l, func(conn net.Conn) net.Conn {
				return bufsock.NewBufferedSocket(conn, forEver)
			})
		})
		t.Logf("%v", outcomes)
		require.Zero(t, outcomes[whole], "%v", outcomes)
	})
}

func proxyOfACutAnswer(l net.Listener, around func(net.Conn) net.Conn) (string, error) {
	client, front, err := connect(l)
	if err != nil {
		return "", err
	}
	back, server, err := connect(l)
	if err != nil {
		return "", err
	}
	var others sync.WaitGroup
	defer others.Wait()
	defer client.Close()
	others.Go(func() { _, _ = io.Copy(client, endlessReader{}) }) // the upload
	others.Go(func() { _, _ = io.Copy(io.Discard, client) })      // and the download
	others.Go(func() {
		_, _ = io.ReadFull(server, make([]byte, 64<<10))
		_, _ = server.Write(make([]byte, 10_000)) // half of 20,000
		_ = server.SetLinger(0)
		_ = server.Close()
	})
	clientSide, serverSide := around(front), around(back)
	upload := make(chan error, 1)
	go func() {
		_, err := io.Copy(serverSide, clientSide)
		upload <- err
	}()
	_, err = io.Copy(clientSide, serverSide)
	front.Close()
	back.Close()
	<-upload
	if err == nil {
		return whole, nil
	}
	return cut, nil
}
