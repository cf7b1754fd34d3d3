package bufsock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// notSending are calls that fail when nothing can be sent any more, besides
// those of sending.
var notSending = map[string]func(s *bufsock.BufferedSocket) error{
	"Buffer":              func(s *bufsock.BufferedSocket) error { return s.Buffer([]byte("x")) },
	"Flush":               func(s *bufsock.BufferedSocket) error { return s.Flush() },
	"nothing":             func(s *bufsock.BufferedSocket) error { _, err := s.Send(nil); return err },
	"a Write of nothing":  func(s *bufsock.BufferedSocket) error { _, err := s.Write(nil); return err },
	"ReadFrom of nothing": func(s *bufsock.BufferedSocket) error { _, err := s.ReadFrom(strings.NewReader("")); return err },
	"NonBlocking": func(s *bufsock.BufferedSocket) error {
		_, err := s.Send([]byte("x"), bufsock.WithTimeout(bufsock.NonBlocking))
		return err
	},
	"a context that is done": func(s *bufsock.BufferedSocket) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := s.Send([]byte("x"), bufsock.WithContext(ctx))
		return err
	},
}

// assertBroken wants every send to fail at once, to send nothing, and to leave
// the send buffer as it is; the last of them ends the socket.
func assertBroken(t *testing.T, s *bufsock.BufferedSocket, cause error) {
	t.Helper()
	unsent := s.SendBuffer()
	check := func(op string, err error) {
		require.ErrorIs(t, err, bufsock.ErrBroken, op)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, op)
		require.NotErrorIs(t, err, context.DeadlineExceeded, op)
		require.NotErrorIs(t, err, net.ErrClosed, op)
		if cause != nil {
			require.ErrorIs(t, err, cause, op)
		}
		if e, ok := errors.AsType[bufsock.Error](err); op != "Flush" || ok {
			require.True(t, ok, op)
			require.False(t, e.Timeout(), op)
			require.False(t, e.Temporary(), op)
		}
		require.True(t, bytes.Equal(unsent, s.SendBuffer()), op)
	}
	for op, send := range sending {
		n, err := send(s, []byte("x"))
		check(op, err)
		require.LessOrEqual(t, n, 0, op)
	}
	for op, send := range notSending {
		check(op, send(s))
	}
	err := s.Shutdown()
	require.ErrorIs(t, err, bufsock.ErrBroken)
	_, err = s.Send([]byte("x"))
	assertClosed(t, err)
}

// The call that met an error of the connection returns that; from then on sends
// fail at once. What is unsent stays to be looked at.
func TestNothingIsSentBehindAnError(t *testing.T) {
	boom := errors.New("boom")
	kept := map[string]string{
		"Send": "123", "SendBuffers": "123123", "Write": "", "Flush": "123",
		"ReadFrom": "", "io.Copy": "", "a copy from a socket": "", "WriteNetstring": "3:123,",
	}
	for op, send := range sending {
		for _, taken := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s, after %d bytes", op, taken), func(t *testing.T) {
				w := &wire{limits: []int{taken}, err: boom}
				s := bufsock.NewBufferedSocket(w)
				_, err := send(s, []byte("123"))
				require.Equal(t, "boom", err.Error())
				require.ErrorIs(t, err, boom)
				require.NotErrorIs(t, err, bufsock.ErrBroken)
				want := kept[op]
				require.Equal(t, want[min(taken, len(want)):], string(s.SendBuffer()))
				require.Equal(t, len(s.SendBuffer()), s.Unsent())
				assertBroken(t, s, boom)
				require.Len(t, w.writes, 1)
			})
		}
	}
}

func TestShortWritesAreNoReasonNotToGoOn(t *testing.T) {
	w := &wire{limits: []int{2, 0, 2}, err: io.ErrShortWrite}
	s := bufsock.NewBufferedSocket(w)
	n, err := s.Send([]byte("abcdef"))
	require.Equal(t, io.ErrShortWrite, err)
	require.Equal(t, 2, n)
	require.Equal(t, io.ErrShortWrite, s.Flush())
	n, err = s.Write([]byte("gh"))
	require.Equal(t, io.ErrShortWrite, err)
	require.Zero(t, n)
	require.Equal(t, 2, s.Unsent())
	require.NoError(t, s.Flush())
	require.Equal(t, "abcdef", strings.Join(w.writes, ""))
}

// A reset is met once; what is sent behind it, with its errors ignored, does not
// gather in the send buffer.
func TestSendsBehindAResetDoNotGather(t *testing.T) {
	const size = 64 << 10
	for _, transport := range []transport{{"TCP", tcpPair}, wrappedTransport, {"TLS", tlsPair}, {"Unix", unixPair}} {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			breakDown(t, s, remote)
			for range 1000 {
				s.Send(make([]byte, size))
				s.Buffer(make([]byte, size))
				s.SendBuffers([][]byte{make([]byte, size)})
				bufsock.NewNetstringSocket(s).WriteNetstring(make([]byte, 1000))
			}
			require.LessOrEqual(t, s.Unsent(), size)
			assertBroken(t, s, nil)
		})
	}
}

// breakDown closes the other end, and sends until the socket meets the error.
func breakDown(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn) {
	require.NoError(t, remote.Close())
	for err := error(nil); err == nil; {
		if _, err = s.Send(make([]byte, 64<<10)); err != nil {
			require.NotErrorIs(t, err, bufsock.ErrBroken)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	}
}

// stalled returns a socket on TLS to a peer that does not read.
func stalled(t *testing.T) (s *bufsock.BufferedSocket, remote net.Conn) {
	local, remote := tlsPair(t)
	return bufsock.NewBufferedSocket(local), remote
}

// On TLS a timeout or a cancel in the middle of a write ends the session, and
// says so.
func TestTimeoutsInTheMiddleOfAWriteEndATLSSession(t *testing.T) {
	much := make([]byte, 16<<20) // more than kernels buffer
	const soon = 20 * time.Millisecond
	ends := map[string]func(t *testing.T, s *bufsock.BufferedSocket) error{
		"the timeout": func(t *testing.T, s *bufsock.BufferedSocket) error {
			_, err := s.Send(much, bufsock.WithTimeout(soon))
			return err
		},
		"NonBlocking": func(t *testing.T, s *bufsock.BufferedSocket) error {
			_, err := s.Send(much, bufsock.WithTimeout(bufsock.NonBlocking))
			return err
		},
		"the deadline": func(t *testing.T, s *bufsock.BufferedSocket) error {
			require.NoError(t, s.SetWriteDeadline(time.Now().Add(soon)))
			_, err := s.Send(much)
			return err
		},
		"the deadline of a context": func(t *testing.T, s *bufsock.BufferedSocket) error {
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			_, err := s.SendBuffers([][]byte{much}, bufsock.WithContext(ctx))
			return err
		},
		"a cancel": func(t *testing.T, s *bufsock.BufferedSocket) error {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(soon, cancel)
			_, err := s.Send(much, bufsock.WithContext(ctx))
			return err
		},
		"a flush before a receive": func(t *testing.T, s *bufsock.BufferedSocket) error {
			require.NoError(t, s.Buffer(much))
			_, err := s.RecvUntil(lf, bufsock.WithFlush(), bufsock.WithTimeout(soon))
			return err
		},
		"the deadline of a Write": func(t *testing.T, s *bufsock.BufferedSocket) error {
			require.NoError(t, s.SetWriteDeadline(time.Now().Add(soon)))
			_, err := s.Write(much)
			return err
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			s, remote := stalled(t)
			_, err := remote.Write([]byte("why\n"))
			require.NoError(t, err)
			err = end(t, s)
			require.Error(t, err)
			require.NotErrorIs(t, err, bufsock.ErrBroken)
			if e, ok := err.(*bufsock.TimeoutError); ok {
				require.False(t, e.Temporary())
				require.Contains(t, e.Error(), ", which ended the session")
			}
			require.NoError(t, s.SetWriteDeadline(time.Time{}))
			tries := 0
			for err = s.Flush(); tries < 10; tries++ { // a loop that goes on after timeouts
				if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
					break
				}
				err = s.Flush()
			}
			require.Zero(t, tries)
			msg, err := s.RecvUntil(lf)
			require.NoError(t, err, "receiving goes on")
			require.Equal(t, "why", string(msg))
			if name != "the deadline of a Write" { // which keeps nothing
				_, err = s.RecvUntil(lf, bufsock.WithFlush())
				require.ErrorIs(t, err, bufsock.ErrBroken, "but not with what cannot be sent")
			}
			assertBroken(t, s, nil)
			remote.Close()
		})
	}
}

// Any other timeout is one after which the connection goes on.
func TestWhichTimeoutsEndASession(t *testing.T) {
	for _, transport := range append(transports, wrappedTransport) {
		t.Run(transport.name, func(t *testing.T) {
			local, _ := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			for _, timeout := range []time.Duration{bufsock.NonBlocking, time.Millisecond} {
				_, err := s.Recv(1, bufsock.WithTimeout(timeout))
				e, ok := err.(*bufsock.TimeoutError)
				require.True(t, ok)
				require.True(t, e.Temporary(), "a receive")
				require.NotContains(t, e.Error(), "session")
			}
			require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
			_, err := s.Send([]byte("x"))
			e, ok := err.(*bufsock.TimeoutError)
			require.True(t, ok)
			require.True(t, e.Temporary(), "a send that was not begun")
			require.Equal(t, 1, s.Unsent())
			require.NoError(t, s.SetWriteDeadline(time.Time{}))
			if transport.name == "TLS" {
				require.NoError(t, s.Flush())
				return
			}
			_, err = s.Send(make([]byte, 32<<20), bufsock.WithTimeout(10*time.Millisecond))
			e, ok = err.(*bufsock.TimeoutError)
			require.True(t, ok)
			require.True(t, e.Temporary(), "a send that was cut")
			require.NotContains(t, e.Error(), "session")
			require.NoError(t, s.Buffer([]byte("x")), "nothing is broken")
		})
	}
}

// A connection that hides TLS says by a write timeout that is not temporary that
// its session has ended.
func TestAWriteTimeoutThatIsNotTemporaryEndsTheSendingSide(t *testing.T) {
	for _, temporary := range []bool{true, false} {
		for op, call := range waiting {
			if !isSend(op) {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				local, _ := net.Pipe()
				conn := &hooked{Conn: local}
				conn.write = func(p []byte) (int, error) {
					time.Sleep(time.Second)
					return 1, misleading{os.ErrDeadlineExceeded, temporary}
				}
				s := bufsock.NewBufferedSocket(conn)
				err := call(s, bufsock.WithTimeout(time.Second))
				e, ok := err.(*bufsock.TimeoutError)
				require.True(t, ok, op)
				require.Equal(t, temporary, e.Temporary(), op)
				if temporary {
					require.NoError(t, s.Buffer(nil))
					s.Close()
				} else {
					conn.write = func([]byte) (int, error) { panic("nothing is sent") }
					assertBroken(t, s, nil)
				}
			})
		}
	}
}

// Buffered bytes and p are one write: some peers take what one read returns for
// a whole command.
func TestWriteIsOneWriteWithWhatIsBuffered(t *testing.T) {
	for _, sizes := range [][2]int{{1, 1}, {3, 100}, {100, 100_000}, {100_000, 3}} {
		w := &wire{}
		s := bufsock.NewBufferedSocket(w)
		head, p := strings.Repeat("h", sizes[0]), strings.Repeat("p", sizes[1])
		require.NoError(t, s.Buffer([]byte(head)))
		n, err := s.Write([]byte(p))
		require.NoError(t, err)
		require.Equal(t, len(p), n)
		require.Equal(t, []string{head + p}, w.writes)
		require.Zero(t, s.Unsent())
	}
	for _, taken := range []int{0, 2, 4, 5} { // of hhhhpppp
		w := &wire{limits: []int{taken}, err: io.ErrShortWrite}
		s := bufsock.NewBufferedSocket(w)
		require.NoError(t, s.Buffer([]byte("hhhh")))
		n, err := s.Write([]byte("pppp"))
		require.Equal(t, io.ErrShortWrite, err)
		require.Equal(t, max(taken-4, 0), n, "of p")
		require.Equal(t, max(4-taken, 0), s.Unsent(), "nothing is kept of p")
	}
	for _, transport := range append(transports, wrappedTransport) {
		local, remote := transport.pair(t)
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, s.Buffer([]byte("a whole ")))
		go s.Write([]byte("command\n"))
		got := make([]byte, 100)
		n, err := remote.Read(got)
		require.NoError(t, err)
		require.Equal(t, "a whole command\n", string(got[:n]), transport.name)
	}
}

func TestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		require.Zero(t, s.Unsent())
		require.NoError(t, s.Buffer([]byte("abc")))
		require.Equal(t, 3, s.Unsent())
		sent := make(chan error)
		go func() { _, err := s.Send([]byte("def")); sent <- err }()
		synctest.Wait()
		_, err := io.ReadFull(remote, make([]byte, 2))
		require.NoError(t, err)
		d, _ := elapsed(func() error { s.Unsent(); return nil })
		require.Zero(t, d, "it waits for nobody")
		_, err = io.ReadFull(remote, make([]byte, 4))
		require.NoError(t, err)
		require.NoError(t, <-sent)
		require.Zero(t, s.Unsent())

		_, err = s.Send([]byte("kept"), bufsock.WithTimeout(time.Second))
		require.Error(t, err)
		require.Equal(t, 4, s.Unsent())
		s.Close()
		require.Zero(t, s.Unsent())
		remote.Close()
	})
}
