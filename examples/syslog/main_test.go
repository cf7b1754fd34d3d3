package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/bufsock/bufsock/examples/internal/accept"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var streams = map[string]struct {
	sent    string
	want    string // the file
	dropped int
}{
	"counts":                                 {"5 hello5 world", "hello\nworld\n", 0},
	"lines":                                  {"<13>hello\n<13>world\n", "<13>hello\n<13>world\n", 0},
	"both":                                   {"5 hello<13>a line\n5 world", "hello\n<13>a line\nworld\n", 0},
	"CR LF":                                  {"hello\r\n", "hello\n", 0},
	"CR in a counted message, LF at its end": {"4 a\rb\n5 world", `a\rb` + "\nworld\n", 0},
	"any bytes":                              {"4 \x00\xff\"\x1b", `\x00\xff\"\x1b` + "\n", 0},
	"LF in a counted message":                {"3 a\nb5 world", `a\nb` + "\nworld\n", 0},
	"a message of no bytes":                  {"0 \n\n5 hello", "0 \n\nhello\n", 0},
	"a date is no count":                     {"2026-01-01 hello\n", "2026-01-01 hello\n", 0},
	"digits alone are no count":              {"12\n34", "12\n34\n", 0},
	"too many digits are no count":           {"1234567890 a\n", "1234567890 a\n", 0},
	"the largest message":                    {"17 12345678901234567<13>123456789012345\n", "12345678901234567\n<13>123456789012345\n", 0},
	"too long, counted":                      {"18 123456789012345678" + "5 hello", "hello\n", 1},
	"too long, and has not come yet":         {"999999999 a", "", 1},
	"a line that begins with a space":        {" 5 hello\n", " 5 hello\n", 0},
	"a line too long, behind a count":        {"5 hello<13>1234567890123456\n5 world", "hello\nworld\n", 1},
	"too long, a line":                       {"<13>1234567890123456\nhello\n", "hello\n", 1},
	"the last line has no end":               {"5 hello<13>world", "hello\n<13>world\n", 0},
	"the last counted message is cut":        {"5 hello5 wor", "hello\n", 0},
	"nothing":                                {"", "", 0},
}

func TestKeep(t *testing.T) {
	for name, c := range streams {
		t.Run(name, func(t *testing.T) {
			file := openLog(t)
			bufsocktest.Run(t, []byte(c.sent), func(t *testing.T, conn net.Conn) {
				require.NoError(t, file.Truncate(0))
				r := receiver{maxFile: 1 << 20}
				s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(maxMessage))
				defer s.Close()
				kept, dropped, err := r.keep(s, file)
				wantEnd := io.EOF
				if strings.HasSuffix(name, "is cut") || strings.HasSuffix(name, "not come yet") {
					wantEnd = io.ErrUnexpectedEOF
				}
				require.ErrorIs(t, err, wantEnd)
				written, err := os.ReadFile(file.Name())
				require.NoError(t, err)
				require.Equal(t, c.want, string(written))
				require.Equal(t, strings.Count(c.want, "\n"), kept)
				require.Equal(t, c.dropped, dropped)
			})
		})
	}
}

// What breaks off is not taken for a message that has ended.
func TestKeepInterrupted(t *testing.T) {
	stream := []byte("5 hello<13>world")
	file := openLog(t)
	bufsocktest.Interrupt(t, stream, bufsocktest.Reset, func(t *testing.T, conn net.Conn) {
		require.NoError(t, file.Truncate(0))
		r := receiver{maxFile: 1 << 20}
		s := bufsock.NewBufferedSocket(conn)
		defer s.Close()
		_, _, err := r.keep(s, file)
		require.NotErrorIs(t, err, io.EOF)
		require.NotErrorIs(t, err, io.ErrUnexpectedEOF)
		want := ""
		if conn.(*bufsocktest.Player).Place() >= len("5 hello") {
			want = "hello\n"
		}
		written, err := os.ReadFile(file.Name())
		require.NoError(t, err)
		require.Equal(t, want, string(written))
	})
}

// maxMessage is the limit of the tests, with a count or a line end.
const maxMessage = 20

// tempDir is t.TempDir, which fails where a directory cannot be removed at once.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "syslog")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openLog(t *testing.T) *os.File {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(tempDir(t), "log"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

// Each host has its file, and a program that is told to end keeps what came.
func TestServe(t *testing.T) {
	r := receiver{dir: tempDir(t), maxMessage: len("5 hello"), maxFile: int64(len("hello\nworld\n")), idle: time.Hour, timeout: time.Hour}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- accept.Until(ctx, l, 10, r.serve) }()

	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "6 hello!5 helloworld\n\n")
	require.NoError(t, err)
	name := filepath.Join(r.dir, "127.0.0.1.log")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		written, err := os.ReadFile(name)
		assert.NoError(t, err)
		assert.Equal(t, "hello\nworld\n", string(written))
	}, 30*time.Second, 10*time.Millisecond)
	cancel()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("waits for a client that neither sends nor ends")
	}
	written, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, "hello\nworld\n", string(written), "no more than the largest file")
}
