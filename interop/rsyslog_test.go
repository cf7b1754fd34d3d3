package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startRsyslog starts a server that does with messages what the lines of rules
// say. It returns the address of each of its inputs: those of rules that are
// bound to a name have one of their own.
func startRsyslog(t *testing.T, dir, rules string, inputs ...string) (p *process, addrs []string) {
	t.Helper()
	rsyslogd := program(t, "rsyslogd", "rsyslog")
	config := `
global(parser.escapeControlCharactersOnReceive="off")
module(load="imtcp")
template(name="raw" type="string" string="%rawmsg%")
template(name="line" type="string" string="%rawmsg%|\n")
` + rules
	for _, name := range inputs {
		config += fmt.Sprintf("input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" ruleset=%q listenPortFileName=%q)\n",
			name, filepath.Join(dir, name+".port"))
	}
	p = start(t, rsyslogd, "-n", "-f", writeFile(t, dir, "conf", config), "-i", filepath.Join(dir, "pid"))
	for _, name := range inputs {
		var port []byte
		require.Eventually(t, func() bool {
			port, _ = os.ReadFile(filepath.Join(dir, name+".port"))
			return len(port) > 0
		}, patience, 5*time.Millisecond, "%s", p.output.String())
		addrs = append(addrs, "127.0.0.1:"+strings.TrimSpace(string(port)))
	}
	return p, addrs
}

// counted is a message with a count in front of it, as RFC 6587 has it.
func counted(message string) string { return strconv.Itoa(len(message)) + " " + message }

// requireFile waits until a file has a content.
func requireFile(t *testing.T, name, want string) {
	t.Helper()
	var got []byte
	if !assert.Eventually(t, func() bool {
		got, _ = os.ReadFile(name)
		return len(got) >= len(want)
	}, patience, 10*time.Millisecond, name) {
		t.Logf("%d bytes of %d", len(got), len(want))
	}
	if string(got) != want {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		require.Equal(t, want[at:min(len(want), at+200)], string(got[at:min(len(got), at+200)]), "behind %d equal bytes", at)
	}
}

// TestSyslogToRsyslog sends to rsyslogd, with counts and with line ends, and
// ends each stream so that all of it has been read.
func TestSyslogToRsyslog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	_, addrs := startRsyslog(t, dir, fmt.Sprintf("ruleset(name=\"file\") { action(type=\"omfile\" file=%q template=\"line\") }\n", out), "file")
	var many, manyLogged strings.Builder
	for i := range 2000 {
		message := fmt.Sprintf("<13>number %d", i)
		if i%3 == 0 {
			many.WriteString(message + "\n")
		} else {
			message += strings.Repeat("\nmore", i%7)
			many.WriteString(counted(message))
		}
		manyLogged.WriteString(message + "|\n")
	}
	year := "01-01 text\n" + strings.Repeat("x", 2026-len("01-01 text\n"))
	want := ""
	for _, c := range []struct{ sent, logged string }{
		{many.String(), manyLogged.String()},
		{"5 hello5 world", "hello|\nworld|\n"},
		{"5 hello\n5 world\n", "hello|\nworld|\n"}, // a line of nothing behind each
		{"05 hello", "hello|\n"},
		{"200001 hello\n", "200001hello|\n"}, // too large for a count, and the space is lost
		{"<13>no end", "<13>no end|\n"},
		{"5 hello15 hel", "hello|\n"},
		{"2026-" + year + "5 hello", year + "|\nhello|\n"}, // a year is a count, and the hyphen its space
	} {
		s := dial(t, addrs[0])
		require.NoError(t, s.Buffer([]byte(c.sent)))
		require.NoError(t, s.Shutdown(bufsock.WithTimeout(patience)))
		want += c.logged
		requireFile(t, out, want)
	}
}

// TestSyslogFromRsyslog has rsyslogd send on what it gets, to a receiver that
// gets counts and to one that gets lines.
func TestSyslogFromRsyslog(t *testing.T) {
	t.Parallel()
	dir, rules := t.TempDir(), ""
	framings := []string{"octet-counted", "traditional"}
	receivers := map[string]*process{}
	for _, framing := range framings {
		files := filepath.Join(dir, "files-"+framing)
		require.NoError(t, os.Mkdir(files, 0o755))
		receivers[framing] = startExample(t, "syslog", "-listen", "127.0.0.1:0", "-dir", files)
		host, port, _ := strings.Cut(receivers[framing].addr, ":")
		rules += fmt.Sprintf("ruleset(name=%q) { action(type=\"omfwd\" target=%q port=%q protocol=\"tcp\" tcp_framing=%q template=\"raw\") }\n",
			framing, host, port, framing)
	}
	p, addrs := startRsyslog(t, dir, rules, framings...)
	const messages = 1000
	for i, framing := range framings {
		s := dial(t, addrs[i])
		want := ""
		for i := range messages {
			message := fmt.Sprintf("<13>Jan  1 00:00:00 host tag: %d %s", i, strings.Repeat("é\t\"x", i%300))
			if framing == "octet-counted" {
				message += strings.Repeat("\n7 <13>a\nb", i%5)
			}
			require.NoError(t, s.Buffer([]byte(counted(message))))
			quoted := strconv.Quote(message)
			want += quoted[1:len(quoted)-1] + "\n"
		}
		require.NoError(t, s.Shutdown(bufsock.WithTimeout(patience)))
		requireFile(t, filepath.Join(dir, "files-"+framing, "127.0.0.1.log"), want)
	}
	p.terminate(t)
	for _, framing := range framings {
		receivers[framing].waitOutput(t, fmt.Sprintf(`disconnecting.* kept=%d dropped=0 err=<nil>`, messages))
	}
}
