package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// pythonWithBoltons returns a Python that has boltons. The first one on the
// PATH may be another than that of the system, which has its packages.
func pythonWithBoltons(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "boltons.py", "check").Run() == nil {
			return name
		}
	}
	return program(t, "python3 with boltons", "python3-boltons")
}

// A framing is a way to send messages that boltons.py knows, too.
type framing struct {
	name string
	send func(s *bufsock.BufferedSocket, payload []byte) error
	recv func(s *bufsock.BufferedSocket) ([]byte, error)
}

const largestMessage = 200_000

var framings = []framing{
	{
		"netstrings",
		func(s *bufsock.BufferedSocket, payload []byte) error {
			return bufsock.NewNetstringSocket(s).WriteNetstring(payload)
		},
		func(s *bufsock.BufferedSocket) ([]byte, error) { return bufsock.NewNetstringSocket(s).ReadNetstring() },
	},
	{
		"blocks", // a line that says the size, and so many bytes
		func(s *bufsock.BufferedSocket, payload []byte) error {
			if err := s.Buffer(strconv.AppendInt(nil, int64(len(payload)), 10)); err != nil {
				return err
			}
			_, err := s.SendBuffers([][]byte{[]byte("\r\n"), payload})
			return err
		},
		func(s *bufsock.BufferedSocket) ([]byte, error) {
			line, err := s.RecvUntil([]byte("\r\n"))
			if err != nil {
				return nil, err
			}
			size, err := strconv.Atoi(string(line))
			if err != nil {
				return nil, err
			}
			return s.RecvSize(size)
		},
	},
}

// randomMessages returns messages of all sizes, most of them small.
func randomMessages(n int) (messages [][]byte, total int) {
	r := rand.New(rand.NewPCG(rand.Uint64(), 0))
	for i := range n {
		size := r.IntN(1 + largestMessage>>r.IntN(18))
		if i == 0 {
			size = largestMessage
		}
		msg := make([]byte, size)
		for j := range msg {
			msg[j] = byte(r.Uint32())
		}
		messages = append(messages, msg)
		total += size
	}
	return messages, total
}

// TestEchoOfBoltons sends messages to an echo made of boltons, while it
// receives what comes back.
func TestEchoOfBoltons(t *testing.T) {
	python := pythonWithBoltons(t)
	for _, f := range framings {
		t.Run(f.name, func(t *testing.T) {
			p := start(t, python, "boltons.py", "serve", f.name)
			addr := p.waitOutput(t, `listening on (\S+)\n`)[1]
			s, err := bufsock.Dial(t.Context(), "tcp", addr, bufsock.WithTimeout(patience), bufsock.WithMaxSize(largestMessage))
			require.NoError(t, err)
			defer s.Close()

			messages, total := randomMessages(500)
			began := time.Now()
			sent := goDo(func() (any, error) {
				for _, msg := range messages {
					if err := f.send(s, msg); err != nil {
						return nil, err
					}
				}
				return nil, s.CloseWrite()
			})
			for i, msg := range messages {
				echo, err := f.recv(s)
				require.NoError(t, err, "message %d", i)
				require.True(t, bytes.Equal(msg, echo), "message %d of %d bytes came back as %d bytes", i, len(msg), len(echo))
			}
			await(t, sent)
			_, err = f.recv(s)
			require.ErrorIs(t, err, io.EOF)
			t.Logf("%d messages, %d bytes both ways in %v", len(messages), total, time.Since(began))
			require.NoError(t, p.wait(t))
		})
	}
}

// TestEchoForBoltons has a client made of boltons send messages to an echo.
func TestEchoForBoltons(t *testing.T) {
	python := pythonWithBoltons(t)
	for _, f := range framings {
		t.Run(f.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer l.Close()
			served := goDo(func() (int, error) { return echo(l, f) })

			const count = 500
			began := time.Now()
			r := runProgram(t, "", python, "boltons.py", "connect", f.name, l.Addr().String(),
				strconv.Itoa(count), strconv.Itoa(largestMessage))
			require.Zero(t, r.code, r.stderr)
			require.Equal(t, fmt.Sprintf("%d messages came back\n", count), r.stdout)
			require.Equal(t, count, await(t, served))
			t.Logf("%d messages both ways in %v", count, time.Since(began))
		})
	}
}

// echo serves one connection and returns how many messages it sent back.
func echo(l net.Listener, f framing) (n int, err error) {
	conn, err := l.Accept()
	if err != nil {
		return 0, err
	}
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(patience), bufsock.WithMaxSize(largestMessage))
	defer s.Close()
	for {
		msg, err := f.recv(s)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if err := f.send(s, msg); err != nil {
			return n, err
		}
		n++
	}
}
