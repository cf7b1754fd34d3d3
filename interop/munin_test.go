package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A lineList is an answer of lines, up to an end that is not kept.
type lineList struct {
	end   string
	lines []string
}

// read is for RecvFunc.
func (l *lineList) read(m *bufsock.Message) error {
	for l.lines = nil; ; { // nil, because it may run again
		line, err := m.Until([]byte("\n"))
		if err != nil || string(line) == l.end {
			return err
		}
		l.lines = append(l.lines, string(line))
	}
}

// startMunin starts a munin-node with plugins of our own, each a shell script.
// Its plugins lie where a variable of it says, which has no option.
func startMunin(t *testing.T, plugins map[string]string) (addr string) {
	t.Helper()
	node, perl, dir, port := program(t, "munin-node", "munin-node"), program(t, "perl", "perl"), t.TempDir(), freePort(t)
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // root's plugins run as nobody
	for _, sub := range []string{"plugins", "plugin-conf.d"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	for name, script := range plugins {
		path := writeFile(t, filepath.Join(dir, "plugins"), name, "#!/bin/sh\n"+script)
		require.NoError(t, os.Chmod(path, 0o755))
	}
	config := writeFile(t, dir, "conf", fmt.Sprintf(`
log_file %[1]s/log
pid_file %[1]s/pid
background 0
setsid 0
user %[2]d
group %[3]d
host_name node.example.test
allow ^127\.0\.0\.1$
host 127.0.0.1
port %[4]d
`, dir, os.Getuid(), os.Getgid(), port))
	p := start(t, perl, "-MMunin::Common::Defaults",
		"-e", `$Munin::Common::Defaults::MUNIN_CONFDIR = shift; require shift; exit main()`,
		dir, node, "--config", config)
	addr = "127.0.0.1:" + strconv.Itoa(port)
	p.waitListen(t, "tcp", addr)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("its log:\n%s", log)
		}
	})
	return addr
}

func TestMuninAnswers(t *testing.T) {
	t.Parallel()
	values := strings.Repeat("a.value 1\n.hidden 2\n..two 3\n", 30)
	addr := startMunin(t, map[string]string{
		"own":     `test "$1" = config && echo graph_title Own && exit; printf '` + values + `'`,
		"empty":   `test "$1" = config && echo graph_title Empty; exit 0`,
		"failing": `test "$1" = config && echo graph_title Failing && exit; exit 1`,
	})
	r := startRelay(t, addr, inPieces(20))
	s := r.dial(t)
	// By command, an answer is a line or a list up to a dot.
	_, err := s.Send([]byte("list\nfetch own\nfetch empty\nconfig own\nnosuch\nfetch nosuch\nfetch failing\nlist\r\nquit\n"))
	require.NoError(t, err)
	list := "empty failing own"
	for _, want := range []any{
		"# munin node at node.example.test", list,
		strings.Split(strings.TrimSpace(values), "\n"), []string(nil), []string{"graph_title Own"},
		"# Unknown command. Try cap, list, nodes, config, fetch, version or quit",
		[]string{"# Unknown service"}, []string{"# Bad exit"}, list,
	} {
		var got any
		require.NoError(t, r.recvFunc(s, func(m *bufsock.Message) error {
			if _, isLine := want.(string); isLine {
				line, err := m.Until([]byte("\n"))
				got = string(line)
				return err
			}
			l := lineList{end: "."}
			err := l.read(m)
			got = l.lines
			return err
		}))
		require.Equal(t, want, got)
	}
	assert.Greater(t, r.timeouts, 10)
}

// Nothing is doubled: a plugin that prints a dot ends its answer early, and the
// next answer is the rest of it.
func TestMuninDots(t *testing.T) {
	t.Parallel()
	addr := startMunin(t, map[string]string{"dotty": `printf 'a.value 1\n.\nb.value 2\n'`})
	s := dial(t, addr)
	_, err := s.Send([]byte("fetch dotty\nfetch nosuch\n"))
	require.NoError(t, err)
	_, err = s.RecvUntil([]byte("\n"))
	require.NoError(t, err)
	for _, want := range []string{"a.value 1", "b.value 2", "# Unknown service"} {
		got := lineList{end: "."}
		require.NoError(t, s.RecvFunc(got.read))
		require.Equal(t, []string{want}, got.lines)
	}
}
