package interop_test

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readIMAP reads a response: a line, and where one ends in {n}, n bytes and
// what goes on behind them. Literals are returned apart.
func readIMAP(m *bufsock.Message) (line string, literals []string, err error) {
	for {
		part, err := m.Until(crlf)
		if err != nil {
			return "", nil, err
		}
		line += string(part)
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			return line, literals, nil
		}
		size, err := strconv.ParseUint(line[open+1:len(line)-1], 10, 30)
		if err != nil {
			return "", nil, fmt.Errorf("no literal: %.40q", part)
		}
		literal, err := m.Next(int(size))
		if err != nil {
			return "", nil, err
		}
		line, literals = line[:open], append(literals, string(literal))
	}
}

// startDovecot starts an IMAP server that lets in everybody, whose mail lies in
// memory of the test. It refuses to serve as root, so root starts it as nobody.
func startDovecot(t *testing.T) (addr string) {
	t.Helper()
	dovecot, dir, port := program(t, "dovecot", "dovecot-imapd"), t.TempDir(), freePort(t)
	command, name, group := []string{dovecot}, "nobody", "nogroup"
	if os.Getuid() == 0 {
		command = []string{program(t, "setpriv", "util-linux"), "--reuid", name, "--regid", group, "--clear-groups", dovecot}
		require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
		require.NoError(t, os.Chmod(dir, 0o777))
	} else {
		me, err := user.Current()
		require.NoError(t, err)
		mine, err := user.LookupGroupId(me.Gid)
		require.NoError(t, err)
		name, group = me.Username, mine.Name
	}
	config := writeFile(t, dir, "conf", fmt.Sprintf(`
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
protocols = imap
ssl = no
disable_plaintext_auth = no
default_internal_user = %[2]s
default_internal_group = %[3]s
default_login_user = %[2]s
service imap-login {
  chroot =
  inet_listener imap {
    address = 127.0.0.1
    port = %[4]d
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  chroot =
}
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=%[2]s gid=%[3]s home=%[1]s/home/%%u
}
mail_location = maildir:~/mail
mailbox_idle_check_interval = 1 s
`, dir, name, group, port))
	p := start(t, command[0], append(command[1:], "-F", "-c", config)...)
	p.waitOutput(t, "starting up for imap")
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// An imapClient gives its commands numbers.
type imapClient struct {
	*bufsock.BufferedSocket
	r *relay
	n int
}

func logInIMAP(t *testing.T, r *relay) *imapClient {
	t.Helper()
	c := &imapClient{BufferedSocket: r.dial(t, bufsock.WithMaxSize(1<<20)), r: r}
	for line, _ := c.next(t); !strings.HasPrefix(line, "* OK [CAPABILITY"); line, _ = c.next(t) {
	}
	c.do(t, "LOGIN alice x")
	return c
}

// next receives a response, a millisecond at a time.
func (c *imapClient) next(t *testing.T) (line string, literals []string) {
	t.Helper()
	require.NoError(t, c.r.recvFunc(c.BufferedSocket, func(m *bufsock.Message) (err error) {
		line, literals, err = readIMAP(m)
		return err
	}))
	return line, literals
}

func (c *imapClient) begin(t *testing.T, command string) (tag string) {
	t.Helper()
	c.n++
	tag = fmt.Sprintf("a%d", c.n)
	_, err := c.Send([]byte(tag + " " + command + "\r\n"))
	require.NoError(t, err)
	return tag
}

// do sends a command and returns the responses to it, with their literals
// behind them, up to the last, which must be OK.
func (c *imapClient) do(t *testing.T, command string) (responses []string) {
	t.Helper()
	tag := c.begin(t, command)
	for {
		line, literals := c.next(t)
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			require.Contains(t, rest, "OK ", command)
			return responses
		}
		responses = append(append(responses, line), literals...)
	}
}

// store appends a mail to the inbox: the server asks for the literal.
func (c *imapClient) store(t *testing.T, mail string) {
	t.Helper()
	tag := c.begin(t, fmt.Sprintf("APPEND INBOX {%d}", len(mail)))
	line, _ := c.next(t)
	require.Contains(t, line, "+ ")
	_, err := c.SendBuffers([][]byte{[]byte(mail), crlf})
	require.NoError(t, err)
	for !strings.HasPrefix(line, tag+" ") {
		line, _ = c.next(t)
	}
	require.Contains(t, line, " OK ")
}

const (
	mailHeader = "Subject: a3 OK\r\nTo: {5}\r\n\r\n"
	mailText   = "a2 OK done\r\n* 1 FETCH (BODY[TEXT] {1000000}\r\n)\r\n{3}\r\n\r\n.\r\n"
)

// TestDovecotLiterals fetches two literals in one response, which look like
// responses, cut at every place: a receive times out there.
func TestDovecotLiterals(t *testing.T) {
	t.Parallel()
	var place atomic.Int64
	r := startRelay(t, startDovecot(t), cutAt(&place))
	c := logInIMAP(t, r)
	c.store(t, mailHeader+mailText)
	c.do(t, "SELECT INBOX")
	const fetch = "FETCH 1 (BODY.PEEK[HEADER] UID BODY.PEEK[TEXT])"
	want := c.do(t, fetch)
	require.Equal(t, []string{"* 1 FETCH (UID 1 BODY[HEADER]  BODY[TEXT] )", mailHeader, mailText}, want)
	size := len(want[0]) + len(fmt.Sprintf("{%d}\r\n{%d}\r\n", len(mailHeader), len(mailText))) + len(mailHeader+mailText+"\r\n")
	for cut := 1; cut <= size+10; cut++ { // and in the line behind it
		place.Store(int64(cut))
		r.timeouts = 0
		require.Equal(t, want, c.do(t, fetch), "cut at %d of %d", cut, size)
		require.Positive(t, r.timeouts)
		require.Zero(t, place.Load())
	}
	require.Zero(t, c.Buffered())
}

// TestDovecotIdle waits for mail, in vain, with a short timeout, and gets the
// line when it comes.
func TestDovecotIdle(t *testing.T) {
	t.Parallel()
	addr := startDovecot(t)
	c, other := logInIMAP(t, startRelay(t, addr, inPieces(5))), logInIMAP(t, startRelay(t, addr, inPieces(5)))
	c.do(t, "SELECT INBOX")
	tag := c.begin(t, "IDLE")
	line, _ := c.next(t)
	require.Equal(t, "+ idling", line)
	for i := range 3 {
		err := c.RecvFunc(func(m *bufsock.Message) error {
			_, _, err := readIMAP(m)
			return err
		}, bufsock.WithTimeout(30*time.Millisecond))
		timeout, ok := err.(*bufsock.TimeoutError)
		require.True(t, ok, err)
		require.Zero(t, timeout.Buffered)
		other.store(t, mailHeader+mailText)
		for line != fmt.Sprintf("* %d EXISTS", i+1) {
			line, _ = c.next(t)
		}
		for !strings.HasSuffix(line, "RECENT") {
			line, _ = c.next(t)
		}
	}
	_, err := c.Send([]byte("DONE\r\n"))
	require.NoError(t, err)
	for !strings.HasPrefix(line, tag) {
		line, _ = c.next(t)
	}
	require.Contains(t, line, "OK Idle completed")
	assert.Positive(t, c.r.timeouts)
}
