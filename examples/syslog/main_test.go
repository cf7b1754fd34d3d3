package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/examples/internal/serve"
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
	"too long, a line":                       {"<13>1234567890123456\nhello\n", "hello\n", 1},
	"the last line has no end":               {"5 hello<13>world", "hello\n<13>world\n", 0},
	"the last counted message is cut":        {"5 hello5 wor", "hello\n", 0},
	"nothing":                                {"", "", 0},
}

// The limits of the tests: a message of 20 bytes, with its head.
func testReceiver(t *testing.T) receiver {
	return receiver{dir: t.TempDir(), maxMessage: 20, maxFile: 1 << 20, idle: time.Minute, timeout: time.Minute}
}

func TestKeep(t *testing.T) {
	for name, c := range streams {
		for cut, size := range map[string]int{"whole": len(c.sent), "byte by byte": 1, "in pieces": 3} {
			t.Run(name+", "+cut, func(t *testing.T) {
				r := testReceiver(t)
				file, err := os.Create(filepath.Join(r.dir, "log"))
				require.NoError(t, err)
				defer file.Close()
				conn, peer := net.Pipe()
				s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(r.maxMessage))
				defer s.Close()
				go func() {
					defer peer.Close()
					for rest := c.sent; rest != ""; {
						piece := rest[:min(size, len(rest))]
						rest = rest[len(piece):]
						if _, err := io.WriteString(peer, piece); err != nil {
							return
						}
					}
				}()
				kept, dropped, err := r.keep(s, file)
				closed, ok := errors.AsType[*bufsock.ConnectionClosedError](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, strings.HasSuffix(name, "cut") || strings.HasSuffix(name, "yet"), closed.Err == io.ErrUnexpectedEOF)
				written, err := os.ReadFile(file.Name())
				require.NoError(t, err)
				assert.Equal(t, c.want, string(written))
				assert.Equal(t, strings.Count(c.want, "\n"), kept)
				assert.Equal(t, c.dropped, dropped)
			})
		}
	}
}

// Each host has its file, and a program that is told to end keeps what came.
func TestServe(t *testing.T) {
	r := testReceiver(t)
	r.maxFile = int64(len("hello\nworld\n"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- serve.Until(ctx, l, 10, r.serve) }()

	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "5 helloworld\n5 third")
	require.NoError(t, err)
	name := filepath.Join(r.dir, "127.0.0.1.log")
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		written, err := os.ReadFile(name)
		assert.NoError(t, err)
		assert.Equal(t, "hello\nworld\n", string(written))
	}, 30*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended, "with a client that neither sends nor ends")
}
