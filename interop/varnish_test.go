package interop_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A cliAnswer is what varnishd answers to a command.
type cliAnswer struct {
	status, text string
}

// read is for RecvFunc: 13 bytes with status and size, the text, and a line end
// that the size leaves out.
func (a *cliAnswer) read(m *bufsock.Message) error {
	head, err := m.Next(13)
	if err != nil {
		return err
	}
	status, digits, _ := strings.Cut(strings.TrimSpace(string(head)), " ")
	size, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 30)
	if err != nil {
		return err
	}
	text, err := m.Next(int(size) + 1)
	if err == nil && text[size] != '\n' {
		err = fmt.Errorf("no line end behind the text, but %q", text[size])
	}
	a.status, a.text = status, strings.TrimSuffix(string(text), "\n")
	return err
}

// startVarnish starts a server that caches nothing but obeys whoever knows the
// secret in the file.
func startVarnish(t *testing.T) (addr, file, secret string) {
	t.Helper()
	varnishd, dir := program(t, "varnishd", "varnish"), t.TempDir()
	addr, secret = freeAddr(t), "a secret\n"
	file = writeFile(t, dir, "secret", secret)
	p := start(t, varnishd, "-F", "-j", "none", "-n", filepath.Join(dir, "state"), "-a", freeAddr(t), "-f", "", "-T", addr, "-S", file)
	p.waitListen(t, "tcp", addr)
	return addr, file, secret
}

// logIn answers the challenge that is the first thing the server sends.
func logIn(t *testing.T, r *relay, s *bufsock.BufferedSocket, secret string) {
	t.Helper()
	var got cliAnswer
	require.NoError(t, r.recvFunc(s, got.read))
	require.Equal(t, "107", got.status)
	require.Len(t, got.text, len("\n\nAuthentication required.\n")+32)
	challenge := got.text[:32+len("\n")]
	_, err := s.Send(fmt.Appendf(nil, "auth %x\n", sha256.Sum256([]byte(challenge+secret+challenge))))
	require.NoError(t, err)
	require.NoError(t, r.recvFunc(s, got.read))
	require.Equal(t, "200", got.status, got.text)
}

func TestVarnishAnswers(t *testing.T) {
	t.Parallel()
	addr, file, secret := startVarnish(t)
	admin := program(t, "varnishadm", "varnish")
	r := startRelay(t, addr, inPieces(50))
	s := r.dial(t, bufsock.WithMaxSize(1<<20))
	logIn(t, r, s, secret)
	// Blank lines get no answer, an unknown command gets one.
	_, err := s.Send([]byte("param.show\n\n \nnosuch\nhelp\nparam.show -l\nquit\nping\n"))
	require.NoError(t, err)
	var got cliAnswer
	for _, command := range [][]string{{"param.show"}, {"nosuch"}, {"help"}, {"param.show", "-l"}} {
		require.NoError(t, r.recvFunc(s, got.read))
		if command[0] == "nosuch" {
			require.Equal(t, "101", got.status)
			require.Contains(t, got.text, "Unknown request")
			continue
		}
		require.Equal(t, "200", got.status)
		want := runProgram(t, "", admin, append([]string{"-T", addr, "-S", file}, command...)...)
		require.Zero(t, want.code, want.stderr)
		require.Equal(t, strings.TrimSpace(want.stdout), strings.TrimSpace(got.text))
	}
	require.NoError(t, r.recvFunc(s, got.read))
	require.Equal(t, cliAnswer{"500", "Closing CLI connection"}, got)
	require.ErrorIs(t, r.recvFunc(s, got.read), io.EOF)
	assert.Greater(t, r.timeouts, 50)
}
