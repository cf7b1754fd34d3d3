package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDemo(t *testing.T) {
	dir, err := os.MkdirTemp("", "instrument") // t.TempDir fails where it cannot be removed at once
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	out, file := &bytes.Buffer{}, filepath.Join(dir, "curve")
	s := session{out: out}
	require.NoError(t, run(&s, "", file, 200*time.Millisecond, 1<<20))
	for _, want := range []string{
		"*IDN?        Example,Fake 1000,0,1.0\n",
		"CURV?        a block of 1024 bytes: 0001020304050607...\n",
		"CURV:EMPTY?  a block of 0 bytes: ...\n",
		"SCR?         a block of 8 bytes: 5034203220312080...\n",
		"MEAS:VOLT?   0 bytes so far\nMEAS:VOLT?   +1.234E+00\n",
		"DISP:OFF     0,\"No error\"\n",
		"NOSUCH       -113,\"Undefined header\"\n",
	} {
		assert.Contains(t, out.String(), want)
	}
	blocks, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, curve()+"P4 2 1 \x80", string(blocks))
}

func text(s string) answer  { return answer{text: s} }
func block(s string) answer { return answer{block: []byte(s)} }

var answers = map[string]struct {
	stream string
	want   []answer
}{
	"lines":                       {"a\nb,c\r\n\n", []answer{text("a"), text("b,c"), text("")}},
	"a block with line ends":      {"#14\n\r\n#\nx\n", []answer{block("\n\r\n#"), text("x")}},
	"a size with zeros":           {"#3005hello\n", []answer{block("hello")}},
	"nine digits":                 {"#9000000005hello\r\nx\n", []answer{block("hello"), text("x")}},
	"an empty block is not #0":    {"#10\nx\n", []answer{block(""), text("x")}},
	"a block without a size":      {"#0hello\r\nx\n", []answer{block("hello\r"), text("x")}},
	"a line with a block in it":   {"1,#15hello\n", []answer{text("1,#15hello")}},
	"an empty one without a size": {"#0\n", []answer{block("")}},
}

func TestReceive(t *testing.T) {
	for name, c := range answers {
		receiveAll := func(t *testing.T, conn net.Conn) {
			s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(time.Second))
			var a answer
			for _, want := range c.want {
				err := s.RecvFunc(a.read)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					err = s.RecvFunc(a.read) // nothing was lost
				}
				require.NoError(t, err)
				require.Equal(t, want, a)
			}
		}
		t.Run(name, func(t *testing.T) {
			bufsocktest.Run(t, []byte(c.stream), receiveAll)
			bufsocktest.Interrupt(t, []byte(c.stream), bufsocktest.Pause, receiveAll)
		})
	}
}

func TestReceiveRefuses(t *testing.T) {
	for name, c := range map[string]struct{ stream, want string }{
		"no digit":            {"#A5hello\n", `found "#A"`},
		"a size with a sign":  {"#2+5hello\n", "invalid syntax"},
		"a size with a space": {"#2 5hello\n", "invalid syntax"},
		"more than its size":  {"#13hello\n", `of 3 bytes, found "lo"`},
		"a block too long":    {"#6900000", "too long"},
		"a line too long":     {strings.Repeat("x", 1000), "too long"},
		"a block that is cut": {"#15hell", "closed"},
		"a line that is cut":  {"12", "closed"},
	} {
		t.Run(name, func(t *testing.T) {
			bufsocktest.Run(t, []byte(c.stream), func(t *testing.T, conn net.Conn) {
				i := &instrument{s: bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(1000))}
				_, err := i.receive()
				require.ErrorContains(t, err, c.want)
			})
		})
	}
}

// A late answer must not be taken for the answer to the next query.
func TestAskAfterATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := net.Pipe()
		var faking sync.WaitGroup
		faking.Go(func() { fake(peer, 3*time.Second) })
		defer faking.Wait()
		i := &instrument{s: bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(2*time.Second))}
		defer i.s.Close()
		_, err := i.ask("MEAS:VOLT?")
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		_, err = i.ask("*IDN?")
		require.ErrorIs(t, err, errOwes)
		_, err = i.tell("DISP:OFF")
		require.ErrorIs(t, err, errOwes)
		a, err := i.receive()
		require.NoError(t, err)
		require.Equal(t, text("+1.234E+00"), a)
		a, err = i.ask("*IDN?")
		require.NoError(t, err)
		require.Equal(t, text("Example,Fake 1000,0,1.0"), a)
	})
}

// A command and the query for its trouble are one write.
func TestTellIsOneWrite(t *testing.T) {
	conn, peer := net.Pipe()
	defer peer.Close()
	i := &instrument{s: bufsock.NewBufferedSocket(conn)}
	defer i.s.Close()
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 100)
		n, _ := peer.Read(b)
		got <- string(b[:n])
		_, _ = io.WriteString(peer, "0,\"No error\"\n")
	}()
	trouble, err := i.tell("DISP:OFF")
	require.NoError(t, err)
	require.Equal(t, `0,"No error"`, trouble)
	require.Equal(t, "DISP:OFF\nSYST:ERR?\n", <-got)
}

func TestIsQuery(t *testing.T) {
	for command, want := range map[string]bool{"*IDN?": true, "CURV? CH1": true, "*RST": false, `DISP:TEXT "what?"`: false} {
		require.Equal(t, want, isQuery(command), command)
	}
}
