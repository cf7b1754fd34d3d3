package bufsocktest_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// The tests that the package documentation shows, and what they test.

// readRequest reads a line "store n" and n bytes.
func readRequest(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var n int
	if _, err := fmt.Sscanf(line, "store %d\n", &n); err != nil || n > 1<<20 {
		return nil, fmt.Errorf("no request: %q", line)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	return body, err
}

// serve answers requests until the client ends.
func serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		body, err := readRequest(r)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(conn, "stored %d\n", len(body)); err != nil {
			return
		}
	}
}

// client reads replies, and each once more if it has not come in time.
type client struct{ *bufsock.BufferedSocket }

func newClient(conn net.Conn) client { return client{bufsock.NewBufferedSocket(conn)} }

func (c client) reply() (string, error) {
	line, err := c.RecvUntil([]byte("\n"))
	if _, late := err.(*bufsock.TimeoutError); late {
		line, err = c.RecvUntil([]byte("\n"))
	}
	return string(line), err
}

func TestReadRequest(t *testing.T) {
	stream := []byte("store 5\nhello")
	bufsocktest.Run(t, stream, func(t *testing.T, conn net.Conn) {
		body, err := readRequest(bufio.NewReader(conn))
		if err != nil || string(body) != "hello" {
			t.Errorf("got %q, %v", body, err)
		}
	})
	bufsocktest.Interrupt(t, stream, bufsocktest.End, func(t *testing.T, conn net.Conn) {
		isWhole := conn.(*bufsocktest.Player).Place() == len(stream)
		body, err := readRequest(bufio.NewReader(conn))
		if isWhole != (err == nil) {
			t.Errorf("got %q, %v", body, err)
		}
	})
}

func TestClientSurvivesTimeouts(t *testing.T) {
	stream := []byte("stored 5\nstored 70\n")
	bufsocktest.Interrupt(t, stream, bufsocktest.Pause, func(t *testing.T, conn net.Conn) {
		c := newClient(conn)
		for _, want := range []string{"stored 5", "stored 70"} {
			if got, err := c.reply(); err != nil || got != want {
				t.Fatalf("got %q, %v; want %q", got, err, want)
			}
		}
	})
}

func TestServerOnBadConnections(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				var serving sync.WaitGroup
				defer serving.Wait()
				defer client.Close()
				conn := bufsocktest.NewConn(server, seed, bufsocktest.Faults{
					CutReads: 0.5, EmptyReads: 0.1, CutWrites: 0.5, Delays: 0.1,
				})
				serving.Go(func() { serve(conn) })
				go io.WriteString(client, "store 5\nhellostore 1\n!")
				r := bufio.NewReader(client)
				for _, want := range []string{"stored 5\n", "stored 1\n"} {
					if got, err := r.ReadString('\n'); err != nil || got != want {
						t.Fatalf("got %q, %v; want %q", got, err, want)
					}
				}
			})
		})
	}
}

// The documentation shows these tests as they are.
func TestDocumentation(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	own, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	shown := 0
	for block := range strings.SplitSeq(string(doc), "//\n") {
		if !strings.HasPrefix(block, "//\tfunc Test") {
			continue
		}
		code := strings.ReplaceAll(strings.ReplaceAll(block, "//\t", ""), "//\n", "\n")
		require.Contains(t, string(own), code)
		shown++
	}
	require.Equal(t, 3, shown)
}
