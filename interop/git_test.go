package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A pktConn speaks in the pkt-lines of git: four hex digits, which count
// themselves, and the payload. 0000 stands alone and is a flush.
type pktConn struct{ *bufsock.BufferedSocket }

// receive returns the next payload, and nil for a flush.
func (c pktConn) receive() ([]byte, error) {
	digits, err := c.Peek(4)
	if err != nil {
		return nil, err
	}
	size, err := strconv.ParseUint(string(digits), 16, 16)
	switch {
	case err != nil:
		return nil, err
	case size == 0:
		_, err := c.Discard(4)
		return nil, err
	case size < 4:
		return nil, fmt.Errorf("a pkt-line of %d bytes", size)
	}
	pkt, err := c.RecvSize(int(size)) // whole or not at all
	if err != nil {
		return nil, err
	}
	return pkt[4:], nil
}

// add adds a payload to the send buffer.
func (c pktConn) add(payload string) error {
	return c.Buffer(fmt.Appendf(nil, "%04x%s", len(payload)+4, payload))
}

// gitRefs returns refs with the hash that they point to, in the order in which
// a server tells them.
func gitRefs(n int) (names, hashes []string) {
	for i := range n {
		name := fmt.Sprintf("refs/heads/%0*d", 5+i%200, i)
		if i == 0 {
			name = "HEAD"
		}
		names, hashes = append(names, name), append(hashes, fmt.Sprintf("%040x", 1<<20+i))
	}
	return names, hashes
}

// serveGit tells a client the refs and returns what the client has said.
func serveGit(l net.Listener, names, hashes []string) (said []string, err error) {
	conn, err := l.Accept()
	if err != nil {
		return nil, err
	}
	c := pktConn{bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(patience))}
	defer c.Close()
	request, err := c.receive()
	if err != nil {
		return nil, err
	}
	said = append(said, string(request))
	for i, name := range names {
		if i == 0 {
			name += "\x00agent=bufsock"
		}
		err = errors.Join(err, c.add(hashes[i]+" "+name+"\n"))
	}
	if err := errors.Join(err, c.Buffer([]byte("0000")), c.Flush()); err != nil {
		return said, err
	}
	for {
		pkt, err := c.receive()
		if errors.Is(err, io.EOF) {
			return said, nil
		}
		if err != nil {
			return said, err
		}
		if pkt == nil {
			pkt = []byte("flush")
		}
		said = append(said, string(pkt))
	}
}

// TestGitClient has git ask a server of this test for its refs.
func TestGitClient(t *testing.T) {
	t.Parallel()
	git := program(t, "git", "git")
	for _, refs := range []int{1, 2000} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		names, hashes := gitRefs(refs)
		served := goDo(func() ([]string, error) { return serveGit(l, names, hashes) })

		url := "git://" + l.Addr().String() + "/some/repository"
		got := runProgram(t, "", git, "-c", "protocol.version=0", "ls-remote", url)
		var want strings.Builder
		for i := range names {
			fmt.Fprintf(&want, "%s\t%s\n", hashes[i], names[i])
		}
		require.Equal(t, result{want.String(), "", 0}, got)
		require.Equal(t, []string{"git-upload-pack /some/repository\x00host=" + l.Addr().String() + "\x00", "flush"}, await(t, served))
	}
}

// TestGitDaemon asks git's own server for the refs of a repository.
func TestGitDaemon(t *testing.T) {
	t.Parallel()
	git, dir, port := program(t, "git", "git"), t.TempDir(), freePort(t)
	run := func(stdin string, args ...string) string {
		t.Helper()
		got := runProgram(t, stdin, git, append([]string{"-C", dir}, args...)...)
		require.Zero(t, got.code, got.stderr)
		return strings.TrimSpace(got.stdout)
	}
	run("", "init", "-q", "--bare")
	blob := run("a blob", "hash-object", "-w", "--stdin")
	var updates strings.Builder
	for i := range 300 {
		fmt.Fprintf(&updates, "create refs/tags/%03d %s\n", i, blob)
	}
	run(updates.String(), "update-ref", "--stdin")
	p := start(t, git, "daemon", "--listen=127.0.0.1", "--port="+strconv.Itoa(port), "--export-all", "--base-path="+dir,
		"--verbose", "--log-destination=stderr", "--informative-errors")
	p.waitOutput(t, "Ready to rumble")

	s, err := bufsock.Dial(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port), bufsock.WithTimeout(patience))
	require.NoError(t, err)
	c := pktConn{s}
	defer c.Close()
	require.NoError(t, c.add("git-upload-pack /\x00host=127.0.0.1\x00"))
	require.NoError(t, c.Flush())
	for i := range 300 {
		pkt, err := c.receive()
		require.NoError(t, err)
		line, _, _ := bytes.Cut(pkt, []byte("\x00")) // behind which the first says what the server can do
		require.Equal(t, fmt.Sprintf("%s refs/tags/%03d", blob, i), strings.TrimSpace(string(line)))
	}
	pkt, err := c.receive()
	require.NoError(t, err)
	require.Nil(t, pkt, "a flush")
	_, err = c.Send([]byte("0000")) // nothing is wanted
	require.NoError(t, err)
	_, err = c.receive()
	require.ErrorIs(t, err, io.EOF)
}
