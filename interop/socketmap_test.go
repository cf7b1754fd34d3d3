package interop_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A postmap is Postfix's tool to look keys up in a table. No daemon is needed,
// and no privilege.
type postmap struct {
	path, config string
}

func newPostmap(t *testing.T) postmap {
	t.Helper()
	p := postmap{program(t, "postmap", "postfix"), t.TempDir()}
	writeFile(t, p.config, "master.cf", "")
	main := writeFile(t, p.config, "main.cf",
		"compatibility_level = 3.6\nmyhostname = localhost.test\ninet_protocols = ipv4\n")
	// Postfix waits for two seconds if its configuration is just being written.
	old := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(main, old, old))
	return p
}

// run looks up a key in the table "virt" at an address such as
// inet:127.0.0.1:4242. The key "-" stands for each line of stdin.
func (p postmap) run(stdin io.Reader, key, addr string) (result, error) {
	return runWith(stdin, p.path, "-c", p.config, "-q", key, "socketmap:"+addr+":virt")
}

// query is run for the goroutine of the test.
func (p postmap) query(t *testing.T, stdin, key, addr string) result {
	t.Helper()
	r, err := p.run(strings.NewReader(stdin), key, addr)
	require.NoError(t, err)
	return r
}

// startSocketmap starts the example with a table on TCP, or at a Unix socket if
// that is not empty.
func startSocketmap(t *testing.T, file, unix string, args ...string) (p *process, addr string) {
	t.Helper()
	listen := "tcp:127.0.0.1:0"
	if unix != "" {
		listen = "unix:" + unix
	}
	p = startExample(t, "socketmap", append([]string{"-listen", listen, "-file", file}, args...)...)
	if unix != "" {
		return p, "unix:" + unix
	}
	return p, "inet:" + p.addr
}

func TestSocketmapLookups(t *testing.T) {
	t.Parallel()
	postmap := newPostmap(t)
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := writeFile(t, dir, "table", "# mail\nalice@example.test  alice\n\nteam all alice, bob@example.test\n")
			unix := ""
			if network == "unix" {
				unix = filepath.Join(dir, "s")
			}
			server, addr := startSocketmap(t, file, unix)
			for key, want := range map[string]string{
				"alice@example.test": "alice\n",
				"team":               "all alice, bob@example.test\n",
			} {
				assert.Equal(t, result{stdout: want}, postmap.query(t, "", key, addr), key)
			}
			for _, key := range []string{"nobody@example.test", "team all", "#"} {
				assert.Equal(t, result{code: 1}, postmap.query(t, "", key, addr), key)
			}

			require.NoError(t, os.Rename(file, file+".old"))
			got := postmap.query(t, "", "alice@example.test", addr)
			assert.Empty(t, got.stdout)
			assert.Contains(t, got.stderr, "temporary error: the table cannot be read")
			assert.Equal(t, 1, got.code)

			require.NoError(t, os.Rename(file+".old", file))
			assert.Equal(t, result{stdout: "alice\n"}, postmap.query(t, "", "alice@example.test", addr))
			server.interrupt(t)
			assert.NoError(t, server.wait(t))
		})
	}
}

// manyKeys returns a table of n keys, the keys on a line each with as many that
// are not in the table between them, and what postmap answers to these.
func manyKeys(n int) (table, stdin, want string) {
	var tables, keys, answers strings.Builder
	for i := range n {
		fmt.Fprintf(&tables, "key%d@example.test user%d, x%d\n", i, i, i)
		fmt.Fprintf(&keys, "key%d@example.test\nno%d@example.test\n", i, i)
		fmt.Fprintf(&answers, "key%d@example.test\tuser%d, x%d\n", i, i, i)
	}
	return tables.String(), keys.String(), answers.String()
}

func TestSocketmapManyKeys(t *testing.T) {
	t.Parallel()
	postmap := newPostmap(t)
	table, stdin, want := manyKeys(1000)
	server, addr := startSocketmap(t, writeFile(t, t.TempDir(), "table", table), "")
	assert.Equal(t, result{stdout: want}, postmap.query(t, stdin, "-", addr))
	server.waitOutput(t, "disconnected .* requests=2000\n") // on one connection
}

// Twenty-four clients are connected and served at a time.
func TestSocketmapManyClients(t *testing.T) {
	t.Parallel()
	const clients = 24
	postmap := newPostmap(t)
	table, keys, want := manyKeys(100)
	server, addr := startSocketmap(t, writeFile(t, t.TempDir(), "table", table), "")

	// Each client is given its keys, but not yet the end of its input.
	var inputs []*io.PipeWriter
	var results []<-chan outcome[result]
	for range clients {
		r, w := io.Pipe()
		inputs = append(inputs, w)
		results = append(results, goDo(func() (result, error) {
			return postmap.run(io.MultiReader(strings.NewReader(keys), r), "-", addr)
		}))
	}
	server.waitOutput(t, fmt.Sprintf("(?s)(INFO connected.*){%d}", clients))
	assert.NotContains(t, server.output.String(), "disconnect")
	for _, input := range inputs {
		require.NoError(t, input.Close())
	}
	for _, r := range results {
		assert.Equal(t, result{stdout: want}, await(t, r))
	}
}

// Postfix takes replies of up to 100,000 bytes.
func TestSocketmapLargestReply(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	postmap := newPostmap(t)
	most := strings.Repeat("x", limit-len("OK "))
	file := writeFile(t, t.TempDir(), "table", "most "+most+"\nmore "+most+"x\n")

	t.Run("refused by the server", func(t *testing.T) {
		t.Parallel()
		server, addr := startSocketmap(t, file, "")
		assert.Equal(t, result{stdout: most + "\n"}, postmap.query(t, "", "most", addr))
		assert.Equal(t, 1, postmap.query(t, "", "more", addr).code)
		server.waitOutput(t, "disconnecting .* requests=1 .*netstring")
		assert.Equal(t, result{stdout: most + "\n"}, postmap.query(t, "", "most", addr))
	})
	t.Run("refused by Postfix", func(t *testing.T) {
		t.Parallel()
		server, addr := startSocketmap(t, file, "", "-max-reply", fmt.Sprint(limit+1))
		assert.Equal(t, result{stdout: most + "\n"}, postmap.query(t, "", "most", addr))
		got := postmap.query(t, "", "more", addr)
		assert.Equal(t, 1, got.code)
		assert.Contains(t, got.stderr, "exceeds size limit")
		server.waitOutput(t, "disconnecting .* requests=1 .*(connection reset by peer|broken pipe)")
		assert.Equal(t, result{stdout: most + "\n"}, postmap.query(t, "", "most", addr))
	})
}

// A byteConn writes one byte at a time.
type byteConn struct{ net.Conn }

func (c byteConn) Write(p []byte) (n int, err error) {
	for i := range p {
		m, err := c.Conn.Write(p[i : i+1])
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

func TestSocketmapByteByByte(t *testing.T) {
	t.Parallel()
	postmap := newPostmap(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	served := goDo(func() (requests int, err error) {
		conn, err := l.Accept()
		if err != nil {
			return 0, err
		}
		ns := bufsock.NewNetstringSocket(byteConn{conn})
		defer ns.Close()
		for request, err := range ns.Messages() {
			if err == nil {
				err = ns.WriteNetstring(append([]byte("OK for "), request...))
			}
			if err != nil {
				return requests, err
			}
			requests++
		}
		return requests, nil
	})
	got := postmap.query(t, "alice\nkey with spaces\nbob\n", "-", "inet:"+l.Addr().String())
	assert.Equal(t, result{
		stdout: "alice\tfor virt alice\nkey with spaces\tfor virt key with spaces\nbob\tfor virt bob\n",
	}, got)
	assert.Equal(t, 3, await(t, served))
}

// A lookup that is under way on SIGINT is answered.
func TestSocketmapShutdown(t *testing.T) {
	t.Parallel()
	postmap := newPostmap(t)
	mkfifo := program(t, "mkfifo", "coreutils")
	file := writeFile(t, t.TempDir(), "table", "alice old\n")
	server, addr := startSocketmap(t, file, "")
	idle, err := net.Dial("tcp", server.addr)
	require.NoError(t, err)
	defer idle.Close()
	server.waitOutput(t, "INFO connected")

	// To read a pipe the server waits for somebody who writes to it.
	require.NoError(t, os.Remove(file))
	require.Equal(t, result{}, runProgram(t, "", mkfifo, file))
	answer := goDo(func() (result, error) { return postmap.run(strings.NewReader(""), "alice", addr) })
	opened := goDo(func() (*os.File, error) { return os.OpenFile(file, os.O_WRONLY, 0) }) // waits for the server
	pipe := await(t, opened)
	server.interrupt(t)
	server.waitOutput(t, "shutting down")
	_, err = net.Dial("tcp", server.addr)
	assert.Error(t, err, "still accepts connections")
	_, err = pipe.WriteString("alice new\n")
	require.NoError(t, err)
	require.NoError(t, pipe.Close())

	assert.Equal(t, result{stdout: "new\n"}, await(t, answer))
	assert.NoError(t, server.wait(t))
	_, err = idle.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
}
