package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A qmqpServer takes mail by QMQP, the quick mail queueing protocol: a message,
// a sender and recipients, each a netstring, all together in a netstring.
type qmqpServer struct {
	net.Listener
	sessions sync.WaitGroup
	mu       sync.Mutex // guards the rest
	mails    [][][]byte // the parts of each mail
	errs     []error
	open     int // sessions
	mostOpen int
}

func startQMQP(t *testing.T) *qmqpServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &qmqpServer{Listener: l}
	s.sessions.Go(func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			ns := bufsock.NewNetstringSocket(conn, bufsock.WithMaxSize(1<<20))
			s.count(1)
			s.sessions.Go(func() {
				defer s.count(-1)
				defer ns.Close()
				// One mail per session: qmqp-source resets it, rather than to
				// read the comma of the answer.
				mail, err := ns.ReadNetstring()
				if err == nil {
					err = s.take(ns, mail)
				}
				if more := ns.Socket().RecvBuffer(); len(more) > 0 {
					err = errors.Join(err, fmt.Errorf("more than one mail: %q", more))
				}
				s.fail(err)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close() }) // already closed, where all went well
	return s
}

func (s *qmqpServer) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
	s.mostOpen = max(s.mostOpen, s.open)
}

func (s *qmqpServer) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// take cuts a mail into its parts, keeps them and says so.
func (s *qmqpServer) take(ns *bufsock.NetstringSocket, mail []byte) error {
	var parts [][]byte
	for len(mail) > 0 {
		part, rest, err := bufsock.CutNetstring(mail)
		if err != nil {
			return errors.Join(err, ns.WriteNetstring([]byte("Dnot netstrings")))
		}
		parts, mail = append(parts, part), rest
	}
	s.mu.Lock()
	s.mails = append(s.mails, parts)
	s.mu.Unlock()
	return ns.WriteNetstring([]byte("Kok accepted"))
}

// qmqpText returns the text of n bytes that qmqp-source puts into a message:
// lines of 1, 2, 3 and so on up to 79 X.
func qmqpText(n int) string {
	var b strings.Builder
	for i := 1; b.Len() < n; i++ {
		b.WriteString(strings.Repeat("X", min(i, 79)) + "\n")
	}
	return b.String()[:n-1] + "\n"
}

func TestQMQPSource(t *testing.T) {
	t.Parallel()
	source := program(t, "qmqp-source", "postfix")
	for _, run := range []struct{ messages, sessions, size, recipients int }{
		{2000, 20, 5000, 3},
		{40, 20, 300_000, 2}, // more than a read of the connection returns
		{40, 4, 200, 500},
	} {
		t.Run(fmt.Sprintf("%d bytes", run.size), func(t *testing.T) {
			t.Parallel()
			server := startQMQP(t)
			got := runProgram(t, "", source, "-4",
				"-m", fmt.Sprint(run.messages), "-s", fmt.Sprint(run.sessions),
				"-l", fmt.Sprint(run.size), "-r", fmt.Sprint(run.recipients),
				"-f", "a@x.test", "-t", "b@x.test", "inet:"+server.Addr().String())
			assert.Equal(t, result{}, got)
			require.NoError(t, server.Close())
			server.sessions.Wait()

			require.Empty(t, server.errs)
			require.Len(t, server.mails, run.messages)
			if run.messages >= 2000 {
				assert.Greater(t, server.mostOpen, 1, "one session at a time")
			}
			want := []string{"a@x.test"}
			for i := range run.recipients {
				want = append(want, fmt.Sprintf("%db@x.test", i))
			}
			for _, parts := range server.mails {
				message, addrs := parts[0], parts[1:]
				require.Len(t, message, run.size)
				header, text, _ := bytes.Cut(message, []byte("\n\n"))
				require.True(t, bytes.HasPrefix(header, []byte("From: <a@x.test>\nTo: <b@x.test>\nDate: ")), "%q", header)
				require.Equal(t, qmqpText(len(text)), string(text))
				require.Equal(t, want, stringsOf(addrs))
			}
		})
	}
}

func stringsOf(parts [][]byte) (s []string) {
	for _, p := range parts {
		s = append(s, string(p))
	}
	return s
}

func TestQMQPSink(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	// qmqp-sink ends by itself after as many seconds as -x says.
	sink := start(t, program(t, "qmqp-sink", "postfix"), "-4", "-c", "-x", "60", addr, "50")
	sink.waitListen(t, "tcp", addr)
	for i, size := range []int{0, 1, 5000, 70_000, 3 << 20} {
		mail := bufsock.AppendNetstring(nil, bytes.Repeat([]byte("x,\n"), size)[:size])
		for _, who := range []string{"a@x.test", "b@x.test", "c@x.test"} {
			mail = bufsock.AppendNetstring(mail, []byte(who))
		}
		s, err := bufsock.Dial(t.Context(), "tcp", addr, bufsock.WithTimeout(patience))
		require.NoError(t, err)
		defer s.Close()
		ns := bufsock.NewNetstringSocket(s)
		require.NoError(t, ns.WriteNetstring(mail, bufsock.WithMaxSize(bufsock.NoLimit)))
		answer, err := ns.ReadNetstring()
		require.NoError(t, err)
		assert.Equal(t, "KOk", string(answer))
		sink.waitOutput(t, fmt.Sprintf(`\b%d\r?`, i+1))

		_, err = ns.ReadNetstring()
		assert.IsType(t, (*bufsock.ConnectionClosedError)(nil), err)
		assert.ErrorIs(t, err, io.EOF)
	}
}
