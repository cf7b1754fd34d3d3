package interop_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A upsAnswer is what NUT's upsd answers: a line, or the lines of a list.
type upsAnswer []string

// read is for RecvFunc. A list begins with BEGIN and ends with the same line
// with END for that; an error is a single line also where a list was asked for.
func (a *upsAnswer) read(m *bufsock.Message) error {
	line, err := m.Until([]byte("\n"))
	if err != nil {
		return err
	}
	what, isList := strings.CutPrefix(string(line), "BEGIN ")
	if !isList {
		*a = upsAnswer{string(line)}
		return nil
	}
	list := lineList{end: "END " + what}
	err = list.read(m)
	*a = list.lines
	return err
}

// words takes a line apart: a quoted word may hold spaces, and a backslash takes
// away what the byte behind it means.
func words(line string) (words []string) {
	word, quoted, begun := []byte{}, false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			word = append(word, line[i])
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun || len(word) > 0 {
				words = append(words, string(word))
			}
			word, begun = word[:0], false
		default:
			word = append(word, c)
		}
	}
	return append(words, string(word))
}

// upsDescription is that of the UPS of the tests, as ups.conf has it.
const upsDescription = `Lab \"UPS\" with \\ backslash`

// startUpsd starts a server, and the driver of a UPS named lab that a file
// stands for. The user counts for root alone.
func startUpsd(t *testing.T) (addr string) {
	t.Helper()
	env, dir := program(t, "env", "coreutils"), t.TempDir()
	upsd, driver := program(t, "/lib/nut/upsd", "nut-server"), program(t, "/lib/nut/dummy-ups", "nut-server")
	require.NoError(t, os.Chmod(dir, 0o700))
	port := freePort(t)
	writeFile(t, dir, "ups.conf", "[lab]\n driver = dummy-ups\n port = lab.dev\n desc = \""+upsDescription+"\"\n")
	writeFile(t, dir, "lab.dev", "ups.status: OL\nbattery.charge: 100\nups.mfr: Acme Inc\n")
	writeFile(t, dir, "upsd.conf", fmt.Sprintf("LISTEN 127.0.0.1 %d\nMAXAGE 60\n", port))
	writeFile(t, dir, "upsd.users", "")
	paths := []string{"NUT_CONFPATH=" + dir, "NUT_STATEPATH=" + dir, "NUT_ALTPIDPATH=" + dir}
	start(t, env, append(paths, driver, "-F", "-a", "lab", "-u", "root")...)
	p := start(t, env, append(paths, upsd, "-F", "-u", "root")...)
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	p.waitListen(t, "tcp", addr)
	waitUPS(t, addr)
	return addr
}

// waitUPS waits until the server has the values of its driver.
func waitUPS(t *testing.T, addr string) {
	t.Helper()
	s := dial(t, addr)
	require.Eventually(t, func() bool {
		_, err := s.Send([]byte("GET VAR lab ups.status\n"))
		line, recvErr := s.RecvUntil([]byte("\n"))
		return err == nil && recvErr == nil && string(line) == `VAR lab ups.status "OL"`
	}, patience, 20*time.Millisecond)
}

// The server takes seconds to find its driver, so that both tests share one.
func TestUpsd(t *testing.T) {
	t.Parallel()
	addr := startUpsd(t)
	t.Run("answers", func(t *testing.T) { testUpsdAnswers(t, addr) })
	t.Run("traps", func(t *testing.T) { testUpsdTraps(t, addr) })
}

func testUpsdAnswers(t *testing.T, addr string) {
	r := startRelay(t, addr, inPieces(20))
	s := r.dial(t)
	const rounds = 20
	_, err := s.Send([]byte(strings.Repeat("LIST UPS\nLIST VAR lab\nLIST VAR nosuch\nLIST CMD lab\nGET UPSDESC lab\n", rounds)))
	require.NoError(t, err)
	for range rounds {
		var got upsAnswer
		next := func() { require.NoError(t, r.recvFunc(s, got.read)) }
		next()
		require.Equal(t, upsAnswer{`UPS lab "` + upsDescription + `"`}, got)
		require.Equal(t, []string{"UPS", "lab", `Lab "UPS" with \ backslash`}, words(got[0]))
		next()
		require.Contains(t, got, `VAR lab battery.charge "100"`)
		require.Contains(t, got, `VAR lab ups.mfr "Acme Inc"`)
		for _, line := range got {
			require.Len(t, words(line), 4, line)
		}
		next()
		require.Equal(t, upsAnswer{"ERR UNKNOWN-UPS"}, got)
		next()
		require.NotContains(t, strings.Join(got, "\n"), "VAR")
		next()
		require.Equal(t, upsAnswer{`UPSDESC lab "` + upsDescription + `"`}, got)
	}
	assert.Greater(t, r.timeouts, rounds)
	_, err = s.Send([]byte("LOGOUT\n"))
	require.NoError(t, err)
	var got upsAnswer
	require.NoError(t, r.recvFunc(s, got.read))
	require.Equal(t, upsAnswer{"OK Goodbye"}, got)
}

func testUpsdTraps(t *testing.T, addr string) {
	for _, x := range []exchange{
		{name: "CR LF", send: "GET VAR lab ups.status\r\n", want: "VAR lab ups.status \"OL\"\n"},
		{name: "an empty line", send: "\n", want: "ERR UNKNOWN-COMMAND\n"},
		{name: "a long word", send: "GET VAR lab " + strings.Repeat("x", 2000) + "\n", want: "ERR VAR-NOT-SUPPORTED\n"},
		{name: "an open quote", send: "GET VAR \"lab ups.status\n\"\n", want: "ERR INVALID-ARGUMENT\n"},
		{name: "a backslash", send: "GET VAR lab ups.status \\\nVER\n", want: "VAR lab ups.status \"OL\"\n"},
		{name: "no certificate", send: "STARTTLS\n", want: "ERR FEATURE-NOT-CONFIGURED\n"},
	} {
		x.check(t, dial(t, addr), "GET VAR lab battery.charge\n", "VAR lab battery.charge \"100\"\n")
	}
	s := dial(t, addr)
	_, err := s.Send([]byte("LOGOUT\nGET VAR lab ups.status\n"))
	require.NoError(t, err)
	exchange{name: "behind LOGOUT", want: "OK Goodbye\nVAR lab ups.status \"OL\"\n"}.check(t, s, "", "")
}
