package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDemo(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(&out, ""))

	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	require.LessOrEqual(t, len(lines), 48, "more than two screens")
	for _, line := range lines {
		require.LessOrEqual(t, len(line), 80, "line %q", line)
	}
	rest := out.String()
	for _, want := range []string{
		"talking to a server of its own\n",
		"\n1. ", `"*1\r\n$4\r\nPING\r\n"`, "received  +PONG\n", "received  +OK\n",
		"\n2. ", `received  "a\r\nb\x00c"`,
		"\n3. ", "sent      107 bytes\n", "received  :1\n", "received  :2\n", `received  "2"`,
		"\n4. ", "*bufsock.TimeoutError after 50ms, 0 bytes kept\n", "received  :1\n",
		"*bufsock.TimeoutError after 50ms, 25 bytes kept\n", `received  ["bufsock:jobs" "a job"]`,
		"\n5. ", `*bufsock.MessageTooLongError: no "\r\n" in 64 bytes`, "skipped   153 bytes\n", "received  +PONG\n",
		"\n6. ", `sent      "22:commas, and\r\nline ends,"`, `received  "commas, and\r\nline ends"`,
	} {
		_, after, found := strings.Cut(rest, want)
		require.True(t, found, "no %q, or not in its place, in\n%s", want, out.String())
		rest = after
	}
}

// A server that is something else must end the demo with an error that says so.
func TestDemoWithoutRedis(t *testing.T) {
	s, err := startServer()
	require.NoError(t, err)
	defer s.close()

	var out bytes.Buffer
	require.Error(t, run(&out, s.netstrings))
	require.Empty(t, out.String())
	require.ErrorContains(t, run(&out, "127.0.0.1:0"), "127.0.0.1:0")
}

func TestReceive(t *testing.T) {
	for in, want := range map[string]string{
		"+PONG\r\n":                     "+PONG",
		"$0\r\n\r\n":                    `""`,
		"$-1\r\n":                       "null",
		"*-1\r\n":                       "null",
		"*0\r\n":                        "[]",
		"*2\r\n$1\r\na\r\n*1\r\n:7\r\n": `["a" [:7]]`,
	} {
		v, err := receiveFrom(t, in)
		require.NoError(t, err, "%q", in)
		require.Equal(t, want, v.String(), "%q", in)
	}
}

func TestReceiveRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"\r\n":                               "an empty line",
		"HTTP/1.1 400 Bad Request\r\n":       "begins with 'H'",
		"$x\r\n":                             `size "x"`,
		"*-2\r\n":                            `size "-2"`,
		"$3\r\nabcde":                        "no line end",
		"$1048577\r\n":                       "too long",
		"$9223372036854775807\r\n":           "size",
		strings.Repeat("*1\r\n", maxDepth+1): "arrays in each other",
		"$5\r\nab":                           "closed by peer",
		"*2\r\n:1\r\n":                       "closed by peer",
		"*9\r\n$1048000\r\n":                 "closed by peer",
		strings.Repeat("x", maxValue-1):      "too long",
	} {
		_, err := receiveFrom(t, in)
		require.ErrorContains(t, err, want, "%.32q", in)
	}
}

// receiveFrom returns what is received from a peer that sends in and closes.
func receiveFrom(t *testing.T, in string) (value, error) {
	t.Helper()
	conn, peer := net.Pipe()
	c := newRespConn(conn)
	var sending sync.WaitGroup
	sending.Go(func() {
		_, _ = io.WriteString(peer, in) // fails if the client is content with less
		_ = peer.Close()
	})
	defer sending.Wait()
	defer c.Close()
	return c.receive()
}
