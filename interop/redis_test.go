package interop_test

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var crlf = []byte("\r\n")

// A redisClient speaks RESP, the protocol of Redis.
type redisClient struct{ *bufsock.BufferedSocket }

// redisAddr starts a server and returns where it listens.
func redisAddr(t *testing.T) string {
	t.Helper()
	redis, port := program(t, "redis-server", "redis-server"), strconv.Itoa(freePort(t))
	p := start(t, redis, "--bind", "127.0.0.1", "--port", port,
		"--save", "", "--appendonly", "no", "--dir", t.TempDir(), "--daemonize", "no")
	p.waitOutput(t, "Ready to accept connections")
	return "127.0.0.1:" + port
}

// startRedis starts a server and returns a function that connects to it.
func startRedis(t *testing.T) (connect func() redisClient) {
	t.Helper()
	addr := redisAddr(t)
	return func() redisClient { return redisClient{dial(t, addr)} }
}

// appendCommand appends a command to b.
func appendCommand(b []byte, args ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, arg := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b
}

// do sends a command and returns the reply.
func (c redisClient) do(args ...string) (string, error) {
	if _, err := c.Send(appendCommand(nil, args...)); err != nil {
		return "", err
	}
	return c.reply()
}

// reply receives a reply: a line without its end, or a string as it is, or the
// members of an array with commas between them. opts are for its first line.
func (c redisClient) reply(opts ...bufsock.Option) (string, error) {
	line, err := c.RecvUntil(crlf, opts...)
	if err != nil || len(line) == 0 || line[0] != '$' && line[0] != '*' {
		return string(line), err
	}
	n, err := strconv.Atoi(string(line[1:]))
	switch {
	case err != nil:
		return "", err
	case n < 0:
		return "null", nil
	case line[0] == '*':
		members := make([]string, n)
		for i := range members {
			if members[i], err = c.reply(); err != nil {
				return "", err
			}
		}
		return strings.Join(members, ","), nil
	}
	value, err := c.RecvSize(n + len(crlf))
	if err == nil && !bytes.HasSuffix(value, crlf) {
		err = errors.New("no line end after a string")
	}
	return string(bytes.TrimSuffix(value, crlf)), err
}

func TestRedisValues(t *testing.T) {
	t.Parallel()
	c := startRedis(t)()
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	large, _ := randomBytes(4 << 20)
	for name, value := range map[string]string{
		"empty": "", "line ends": "a\r\nb\r\n\r\n", "like a reply": "$-1\r\n+OK\r\n", "zero": "a\x00b\xff",
		"all bytes": string(all), "large": string(large),
	} {
		got, err := c.do("SET", name, value)
		require.NoError(t, err, name)
		require.Equal(t, "+OK", got, name)
		got, err = c.do("GET", name)
		require.NoError(t, err, name)
		require.True(t, value == got, "%s: %d bytes came back as %d", name, len(value), len(got))
	}
	got, err := c.do("GET", "no such key")
	require.NoError(t, err)
	require.Equal(t, "null", got)
}

// TestRedisPipeline sends commands without waiting for replies, which come
// while it is sending.
func TestRedisPipeline(t *testing.T) {
	t.Parallel()
	const commands = 50_000
	c := startRedis(t)()
	sent := goDo(func() (any, error) {
		var err error
		for i := range commands {
			err = errors.Join(err, c.Buffer(appendCommand(nil, "INCRBY", "n", strconv.Itoa(i%7))))
			if i%100 == 99 {
				err = errors.Join(err, c.Flush())
			}
		}
		return nil, errors.Join(err, c.Flush())
	})
	sum := 0
	for i := range commands {
		sum += i % 7
		got, err := c.reply()
		require.NoError(t, err, "reply %d", i)
		require.Equal(t, ":"+strconv.Itoa(sum), got, "reply %d", i)
	}
	await(t, sent)
	require.Zero(t, c.Buffered())
}

// TestRedisLateReply gives up waiting for a reply, several times, and receives
// it when it has come, by the same call.
func TestRedisLateReply(t *testing.T) {
	t.Parallel()
	connect := startRedis(t)
	waiting, other := connect(), connect()
	_, err := waiting.Send(appendCommand(nil, "BLPOP", "jobs", "0"))
	require.NoError(t, err)
	for _, timeout := range []time.Duration{30 * time.Millisecond, time.Microsecond, bufsock.NonBlocking} {
		_, err := waiting.reply(bufsock.WithTimeout(timeout))
		e, ok := errors.AsType[*bufsock.TimeoutError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, timeout, e.After)
	}
	got, err := other.do("RPUSH", "jobs", "the\r\njob")
	require.NoError(t, err)
	require.Equal(t, ":1", got)
	got, err = waiting.reply()
	require.NoError(t, err)
	require.Equal(t, "jobs,the\r\njob", got)
	got, err = waiting.do("PING")
	require.NoError(t, err)
	require.Equal(t, "+PONG", got)
}

// A redisServer is as much of a Redis as its own tools need. It serves by way
// of bufsock or, to compare, of bufio.
type redisServer struct {
	mu     sync.Mutex
	values map[string][]byte
	counts map[string]int // of commands
	errs   []error
}

// listen serves every connection to the port that it returns.
func (r *redisServer) listen(t *testing.T, serve func(net.Conn) error) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			running.Go(func() {
				defer conn.Close()
				if err := serve(conn); !errors.Is(err, io.EOF) {
					r.mu.Lock()
					defer r.mu.Unlock()
					r.errs = append(r.errs, err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
		assert.Empty(t, r.errs)
	})
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// appendReply appends the reply to a command to b.
func (r *redisServer) appendReply(b []byte, args [][]byte) []byte {
	if len(args) == 0 {
		return append(b, "-ERR empty command\r\n"...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name := strings.ToUpper(string(args[0]))
	r.counts[name]++
	switch {
	case name == "SET" && len(args) == 3:
		r.values[string(args[1])] = bytes.Clone(args[2])
		return append(b, "+OK\r\n"...)
	case name == "GET" && len(args) == 2:
		v, ok := r.values[string(args[1])]
		if !ok {
			return append(b, "$-1\r\n"...)
		}
		b = append(strconv.AppendInt(append(b, '$'), int64(len(v)), 10), crlf...)
		return append(append(b, v...), crlf...)
	case name == "CONFIG" && len(args) == 3:
		return appendCommand(b, string(args[2]), "")
	}
	return fmt.Appendf(b, "-ERR unknown command '%.20s'\r\n", name)
}

// number reads the number in a line that begins with kind.
func number(line []byte, kind byte) (int, error) {
	if len(line) == 0 || line[0] != kind {
		return 0, fmt.Errorf("expected %q and a number, found %.20q", kind, line)
	}
	n := 0
	for _, c := range line[1:] {
		if c < '0' || c > '9' || n > 1<<20 {
			return 0, fmt.Errorf("expected %q and a number, found %.20q", kind, line)
		}
		n = 10*n + int(c-'0')
	}
	return n, nil
}

// A commandReader receives commands into the same memory again and again.
type commandReader struct {
	line []byte
	args [][]byte
}

// receive returns the arguments of the next command.
func (c *commandReader) receive(s *bufsock.BufferedSocket) (args [][]byte, err error) {
	n, err := c.number(s, '*')
	for len(c.args) < n {
		c.args = append(c.args, nil)
	}
	for i := 0; i < n && err == nil; i++ {
		var size int
		if size, err = c.number(s, '$'); err == nil {
			c.args[i], err = s.RecvSize(size+len(crlf), bufsock.AppendTo(c.args[i][:0]))
			c.args[i] = bytes.TrimSuffix(c.args[i], crlf)
		}
	}
	return c.args[:n], err
}

func (c *commandReader) number(s *bufsock.BufferedSocket, kind byte) (n int, err error) {
	if c.line, err = s.RecvUntil(crlf, bufsock.AppendTo(c.line[:0])); err != nil {
		return 0, err
	}
	return number(c.line, kind)
}

// read is receive on bufio.
func (c *commandReader) read(in *bufio.Reader) (args [][]byte, err error) {
	n, err := readNumber(in, '*')
	for len(c.args) < n {
		c.args = append(c.args, nil)
	}
	for i := 0; i < n && err == nil; i++ {
		var size int
		if size, err = readNumber(in, '$'); err == nil {
			c.args[i] = slices.Grow(c.args[i][:0], size+len(crlf))[:size+len(crlf)]
			_, err = io.ReadFull(in, c.args[i])
			c.args[i] = bytes.TrimSuffix(c.args[i], crlf)
		}
	}
	return c.args[:n], err
}

func readNumber(in *bufio.Reader, kind byte) (int, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	return number(bytes.TrimSuffix(line, crlf), kind)
}

// serveBufsock serves a connection on bufsock. It sends replies when it has no
// more commands.
func (r *redisServer) serveBufsock(conn net.Conn) error {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(patience))
	var c commandReader
	var reply []byte
	for {
		args, err := c.receive(s)
		if err != nil {
			return err
		}
		reply = r.appendReply(reply[:0], args)
		err = s.Buffer(reply)
		if s.Buffered() == 0 && err == nil {
			err = s.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// serveBufio serves a connection on bufio.
func (r *redisServer) serveBufio(conn net.Conn) error {
	in, out := bufio.NewReaderSize(conn, 32<<10), bufio.NewWriterSize(conn, 32<<10)
	var c commandReader
	var reply []byte
	for {
		args, err := c.read(in)
		if err != nil {
			return err
		}
		reply = r.appendReply(reply[:0], args)
		_, err = out.Write(reply)
		if in.Buffered() == 0 && err == nil {
			err = out.Flush()
		}
		if err != nil {
			return err
		}
	}
}

func (r *redisServer) count(command string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[command]
}

func newRedisServer() *redisServer {
	return &redisServer{values: map[string][]byte{}, counts: map[string]int{}}
}

func TestRedisCLI(t *testing.T) {
	t.Parallel()
	cli := program(t, "redis-cli", "redis-tools")
	r := newRedisServer()
	port := r.listen(t, r.serveBufsock)
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"set", "a key", "a\r\nvalue"}, "OK\n"},
		{"", []string{"get", "a key"}, "a\r\nvalue\n"},
		{"", []string{"get", "another"}, "\n"},
		{"zero \x00 and line end\r\n" + strings.Repeat("x", 300_000), []string{"-x", "set", "large"}, "OK\n"},
		{"set k 1\nset k 2\nget k\n", nil, "OK\nOK\n2\n"},
	} {
		got := runProgram(t, c.stdin, cli, append([]string{"-p", port}, c.args...)...)
		require.Equal(t, result{c.want, "", 0}, got, "%q", c.args)
	}
	got := runProgram(t, "", cli, "-p", port, "get", "large")
	require.Equal(t, "zero \x00 and line end\r\n"+strings.Repeat("x", 300_000)+"\n", got.stdout)
}

// TestRedisBenchmark has 20 clients send requests, 16 at a time, to a server on
// bufsock and to one on bufio. That the first one is fast enough is not for a
// test to say.
func TestRedisBenchmark(t *testing.T) {
	benchmark := program(t, "redis-benchmark", "redis-tools")
	requests := 100_000
	if hasRaceDetector() {
		requests /= 10
	}
	for _, name := range []string{"bufio", "bufsock", "bufio", "bufsock"} {
		r := newRedisServer()
		serve := r.serveBufsock
		if name == "bufio" {
			serve = r.serveBufio
		}
		port := r.listen(t, serve)
		got := runProgram(t, "", benchmark, "-p", port, "-n", strconv.Itoa(requests), "-P", "16", "-c", "20",
			"-d", "100", "-t", "set,get", "--csv")
		require.Zero(t, got.code, got.stderr)
		rows, err := csv.NewReader(strings.NewReader(got.stdout)).ReadAll()
		require.NoError(t, err)
		require.Len(t, rows, 3, got.stdout)
		for i, command := range []string{"SET", "GET"} {
			require.Equal(t, command, rows[i+1][0])
			require.GreaterOrEqual(t, r.count(command), requests)
			t.Logf("%s on %-7s %9s requests per second", command, name, rows[i+1][1])
		}
	}
}

func hasRaceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
