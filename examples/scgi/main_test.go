package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// scgi returns an SCGI request with a body.
func scgi(contentType, body string) []byte {
	header := fmt.Sprintf("CONTENT_LENGTH\x00%d\x00SCGI\x001\x00REQUEST_METHOD\x00POST\x00CONTENT_TYPE\x00%s\x00", len(body), contentType)
	return append(bufsock.AppendNetstring(nil, []byte(header)), body...)
}

// requests are a form and a file, with the status and the text of the answers.
var requests = map[string]struct {
	stream []byte
	answer string
}{
	"form": {scgi("application/x-www-form-urlencoded", "b=1&b=2"), "200 OK, b=1&b=2"},
	"file": {scgi("text/plain", "abc"), "201 Created, " + sumOfABC},
}

// sumOfABC is the SHA-256 of "abc".
const sumOfABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

// setDir has files kept in a directory of the test, and returns that. It is no
// t.TempDir: that fails where a directory cannot be removed at once.
func setDir(t *testing.T) string {
	made, err := os.MkdirTemp("", "scgi")
	require.NoError(t, err)
	old := *dir
	*dir = made
	t.Cleanup(func() {
		*dir = old
		os.RemoveAll(made)
	})
	return made
}

// answered returns the status and the text of the answer.
func answered(t *testing.T, conn net.Conn) string {
	sent := string(conn.(*bufsocktest.Player).Sent())
	if sent == "" {
		return "nothing"
	}
	header, text, ok := strings.Cut(sent, "\r\nContent-Type: text/plain\r\n\r\n")
	require.True(t, ok, sent)
	return strings.TrimPrefix(header, "Status: ") + ", " + strings.TrimSuffix(text, "\n")
}

func TestServeUnderEveryCut(t *testing.T) {
	kept := filepath.Join(setDir(t), sumOfABC)
	for name, r := range requests {
		t.Run(name, func(t *testing.T) {
			bufsocktest.Run(t, r.stream, func(t *testing.T, conn net.Conn) {
				serve(t.Context(), conn)
				require.Equal(t, r.answer, answered(t, conn))
			})
		})
	}
	body, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.Equal(t, "abc", string(body))
	require.NoError(t, os.Remove(kept))
}

// A request that breaks off, in whatever way, is not answered as a whole one,
// and keeps no file.
func TestServeInterrupted(t *testing.T) {
	setDir(t)
	for name, r := range requests {
		t.Run(name, func(t *testing.T) {
			for _, what := range []bufsocktest.Interruption{bufsocktest.Pause, bufsocktest.Reset, bufsocktest.End} {
				bufsocktest.Interrupt(t, r.stream, what, func(t *testing.T, conn net.Conn) {
					interrupted(t, conn, what, r.stream, r.answer)
				})
			}
		})
	}
}

func interrupted(t *testing.T, conn net.Conn, what bufsocktest.Interruption, stream []byte, answer string) {
	serve(t.Context(), conn)
	kept, err := os.ReadDir(*dir)
	require.NoError(t, err)
	for _, file := range kept {
		require.NoError(t, os.Remove(filepath.Join(*dir, file.Name())))
	}
	place, headerEnds := conn.(*bufsocktest.Player).Place(), bytes.IndexByte(stream, ',')+1
	switch {
	case place == len(stream):
		require.Equal(t, answer, answered(t, conn))
		return
	case place < headerEnds || what != bufsocktest.End || strings.HasPrefix(answer, "200"):
		require.Equal(t, "nothing", answered(t, conn)) // header and form are one message
	default:
		require.Regexp(t, "^500 Internal Server Error, ", answered(t, conn))
	}
	require.Empty(t, kept)
}
