package bufsock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
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
	start := time.Now()
	err := s.Shutdown()
	require.ErrorIs(t, err, bufsock.ErrBroken)
	require.Less(t, time.Since(start), 3*time.Second, "the farewell of TLS would take five")
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
	ends := map[string]func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error{
		"the timeout": func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error {
			_, err := s.Send(much, bufsock.WithTimeout(soon))
			return err
		},
		"NonBlocking": func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error {
			_, err := s.Send(much, bufsock.WithTimeout(bufsock.NonBlocking))
			return err
		},
		"the deadline": func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error {
			require.NoError(t, s.SetWriteDeadline(time.Now().Add(soon)))
			_, err := s.Send(much)
			return err
		},
		"the deadline of a context": func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			_, err := s.SendBuffers([][]byte{much}, bufsock.WithContext(ctx))
			return err
		},
		"a cancel": func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(soon, cancel)
			_, err := s.Send(much, bufsock.WithContext(ctx))
			return err
		},
		"a flush before a receive": func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error {
			require.NoError(t, s.Buffer(much))
			_, err := s.RecvUntil(crlf, bufsock.WithFlush(), bufsock.WithTimeout(soon)) // which has not come
			return err
		},
		"the deadline of a Write": func(t *testing.T, s *bufsock.BufferedSocket, soon time.Duration) error {
			require.NoError(t, s.SetWriteDeadline(time.Now().Add(soon)))
			_, err := s.Write(much)
			return err
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			var s *bufsock.BufferedSocket
			var remote net.Conn
			var err error
			for soon := 20 * time.Millisecond; ; soon *= 2 {
				s, remote = stalled(t)
				_, err = remote.Write([]byte("why\n"))
				require.NoError(t, err)
				err = end(t, s, soon)
				require.Error(t, err)
				if remote.SetReadDeadline(time.Now().Add(soon)); began(remote) {
					break
				}
				require.Less(t, soon, time.Minute) // the machine is busy with other things
			}
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

// began reports whether something comes on a connection.
func began(conn net.Conn) bool {
	n, _ := conn.Read(make([]byte, 1))
	return n > 0
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

func TestSending(t *testing.T) {
	type step = func(s *bufsock.BufferedSocket) (int, error)
	send := func(data string) step {
		return func(s *bufsock.BufferedSocket) (int, error) { return s.Send([]byte(data)) }
	}
	buffers := func(data ...string) step {
		return func(s *bufsock.BufferedSocket) (int, error) {
			var bufs [][]byte
			for _, d := range data {
				bufs = append(bufs, []byte(d))
			}
			n, err := s.SendBuffers(bufs)
			for i, d := range data {
				assert.Equal(t, d, string(bufs[i]), "bufs is left as it was")
			}
			return n, err
		}
	}
	write := func(data string) step {
		return func(s *bufsock.BufferedSocket) (int, error) { return s.Write([]byte(data)) }
	}
	buffer := func(data string) step {
		return func(s *bufsock.BufferedSocket) (int, error) { return 0, s.Buffer([]byte(data)) }
	}
	flush := func(s *bufsock.BufferedSocket) (int, error) { return 0, s.Flush() }
	reset := &net.OpError{Op: "write", Net: "tcp", Err: errors.New("reset")}
	long := strings.Repeat("x", 100_000)

	tests := map[string]struct {
		limits []int
		cause  error
		before []step
		step   step
		n      int
		err    error
		writes []string
		unsent string
	}{
		"Send":                                    {nil, nil, nil, send("abc"), 3, nil, []string{"abc"}, ""},
		"Send of nothing":                         {nil, nil, nil, send(""), 0, nil, nil, ""},
		"Buffer sends nothing":                    {nil, nil, nil, buffer("abc"), 0, nil, nil, "abc"},
		"Send counts the buffer, in one write":    {nil, nil, []step{buffer("ab")}, send("cde"), 5, nil, []string{"abcde"}, ""},
		"Flush":                                   {nil, nil, []step{buffer("ab"), buffer("cd")}, flush, 0, nil, []string{"abcd"}, ""},
		"Flush of nothing":                        {nil, nil, nil, flush, 0, nil, nil, ""},
		"SendBuffers, in one write":               {nil, nil, []step{buffer("ab")}, buffers("c", "", "de"), 5, nil, []string{"abcde"}, ""},
		"a large Send is not copied":              {nil, nil, []step{buffer("ab")}, send(long), 100_002, nil, []string{"ab", long}, ""},
		"Write counts p alone":                    {nil, nil, []step{buffer("ab")}, write("cde"), 3, nil, []string{"abcde"}, ""},
		"a failed Send keeps the rest":            {[]int{4}, reset, []step{buffer("ab")}, send("cde"), 4, reset, []string{"abcd"}, "e"},
		"a failed Send that sent nothing":         {[]int{0}, reset, []step{buffer("ab")}, send("cde"), 0, reset, []string{""}, "abcde"},
		"a failed large Send keeps the rest":      {[]int{2, 99_999}, reset, []step{buffer("ab")}, send(long), 100_001, reset, []string{"ab", long[1:]}, "x"},
		"a failed large Send cut in the buffer":   {[]int{1}, reset, []step{buffer("ab")}, send(long), 1, reset, []string{"a"}, "b" + long},
		"a failed SendBuffers keeps the rest":     {[]int{4}, reset, nil, buffers("ab", "cd", "ef"), 4, reset, []string{"abcd"}, "ef"},
		"a failed Flush keeps the rest":           {[]int{1}, reset, []step{buffer("ab")}, flush, 0, reset, []string{"a"}, "b"},
		"Flush goes on after a short write":       {[]int{1}, nil, []step{buffer("ab"), flush}, flush, 0, nil, []string{"a", "b"}, ""},
		"nothing goes on after an error":          {[]int{1}, reset, []step{buffer("ab"), flush}, flush, 0, bufsock.ErrBroken, []string{"a"}, "b"},
		"a failed Write keeps nothing of p":       {[]int{3}, reset, []step{buffer("ab")}, write("cde"), 1, reset, []string{"abc"}, ""},
		"a failed Write cut in the buffer":        {[]int{1}, reset, []step{buffer("ab")}, write("cde"), 0, reset, []string{"a"}, "b"},
		"a short write without an error":          {[]int{2}, nil, nil, send("abc"), 2, io.ErrShortWrite, []string{"ab"}, "c"},
		"a short write without an error in Write": {[]int{2}, nil, nil, write("abc"), 2, io.ErrShortWrite, []string{"ab"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := &wire{limits: tt.limits, err: tt.cause}
			s := bufsock.NewBufferedSocket(w)
			for _, step := range tt.before {
				step(s)
			}
			n, err := tt.step(s)
			assertErrorIs(t, err, tt.err)
			assert.Equal(t, tt.n, n)
			assert.Equal(t, tt.writes, w.writes)
			assert.Equal(t, tt.unsent, string(s.SendBuffer()))
		})
	}
}

func TestBufferCopies(t *testing.T) {
	w := &wire{}
	s := bufsock.NewBufferedSocket(w)
	data := []byte("abc")
	require.NoError(t, s.Buffer(data))
	copy(data, "xxx")
	require.NoError(t, s.Flush())
	require.Equal(t, []string{"abc"}, w.writes)
}

// Up to 64 KiB are copied to be sent in one write where there is no vectored
// one, and not a byte more.
func TestHowMuchIsCopiedToBeSentAtOnce(t *testing.T) {
	const limit = 64 << 10
	for size, writes := range map[int]int{limit - 5: 1, limit - 4: 2} {
		w := &wire{}
		s := bufsock.NewBufferedSocket(w)
		require.NoError(t, s.Buffer([]byte("12345")))
		n, err := s.Send(make([]byte, size))
		require.NoError(t, err)
		require.Equal(t, 5+size, n)
		require.Len(t, w.writes, writes)
		require.Empty(t, s.SendBuffer())
	}
}

// Sends that fail while they wait for their turn: their bytes come behind those
// of the send under way, whole and in order, also when that fails, too.
func TestSendsThatFailInTheQueueKeepTheirPlace(t *testing.T) {
	long := strings.Repeat("x", 32<<20)
	for _, transport := range transports[:3] {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.Buffer([]byte("first ")))
			ctx, cancel := context.WithCancel(t.Context())
			sent := make(chan int)
			go func() {
				n, err := s.Send([]byte(long), bufsock.WithContext(ctx), bufsock.WithTimeout(time.Minute))
				assert.ErrorIs(t, err, context.Canceled)
				sent <- n
			}()
			_, err := io.ReadFull(remote, make([]byte, 1)) // it is under way
			require.NoError(t, err)
			given := "first " + long
			for _, data := range []string{" second", strings.Repeat("y", 100_000), " third"} {
				n, err := s.Send([]byte(data), bufsock.WithTimeout(time.Microsecond))
				require.IsType(t, (*bufsock.TimeoutError)(nil), err)
				require.Zero(t, n)
				given += data
			}
			cancel()
			n := <-sent
			require.Equal(t, len(given)-n, len(s.SendBuffer()))
			received := make(chan []byte)
			go func() {
				all, _ := io.ReadAll(remote)
				received <- all
			}()
			require.NoError(t, s.Flush(bufsock.WithTimeout(time.Minute)))
			s.Close()
			require.True(t, given[1:] == string(<-received), "order or bytes are wrong")
		})
	}
}

// Nothing is no reason to ask a connection, which might wait.
func TestWritingNothingDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		n, err := s.Write(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.SendBuffers([][]byte{nil, {}})
		require.NoError(t, err)
		require.Zero(t, n)
		s.Close()
		remote.Close()
	})
}

// A send counts its own bytes and those before it, not those of a send that
// failed behind it, which a try may take along.
func TestSendsDoNotCountWhatIsBehindThem(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		var err error
		for err == nil {
			_, err = s.Send(make([]byte, 10_000), bufsock.WithTimeout(bufsock.NonBlocking))
		}
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		before := len(s.SendBuffer())
		sent := make(chan int)
		go func() { n, _ := s.Send(make([]byte, 1000)); sent <- n }()
		for len(s.SendBuffer()) == before {
			runtime.Gosched()
		}
		_, err = s.Send(make([]byte, 1000), bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		go io.Copy(io.Discard, remote)
		require.Equal(t, before+1000, <-sent)
	})
}

// A handshake that panics leaves the bytes of its send in the buffer, however
// many.
func TestSendsThatPanicKeepTheirBytes(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		s := bufsock.NewBufferedSocket(shaker{segments(), func(context.Context) error { panic("handshake") }})
		require.NoError(t, s.Buffer([]byte("buffered ")))
		require.PanicsWithValue(t, "handshake", func() { s.Send(make([]byte, size)) })
		require.Equal(t, "buffered "+string(make([]byte, size)), string(s.SendBuffer()))
	}
	// Of a panic in the middle, what has been sent is known.
	writes := 0
	s := bufsock.NewBufferedSocket(counting{count: func(p []byte) (int, error) {
		if writes++; writes == 2 {
			panic("write")
		}
		return len(p), nil
	}})
	require.NoError(t, s.Buffer([]byte("buffered ")))
	large := bytes.Repeat([]byte("x"), 100_000)
	require.PanicsWithValue(t, "write", func() { s.Send(large) })
	require.True(t, string(large) == string(s.SendBuffer()))
}

// A vectored write that was not made for a deadline in the past.
func TestVectoredWritesPastADeadlineSendNothing(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		large := bytes.Repeat([]byte("x"), 50_000)
		require.NoError(t, s.Buffer([]byte("head ")))
		require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
		n, err := s.Write(large)
		require.Zero(t, n)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.Equal(t, "head ", string(s.SendBuffer()), "Write keeps nothing of p")
		n, err = s.SendBuffers([][]byte{large, []byte(" tail")})
		require.Zero(t, n)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		want := "head " + string(large) + " tail"
		require.True(t, want == string(s.SendBuffer()), "%d bytes kept", len(s.SendBuffer()))
		received := make(chan string)
		go func() { all, _ := io.ReadAll(remote); received <- string(all) }()
		require.NoError(t, s.SetWriteDeadline(time.Time{}))
		require.NoError(t, s.Flush())
		s.Close()
		require.True(t, want == <-received)
	})
}

// A cancel or timeout between two writes of one send, such as of a header and a
// large payload, ends it there, and the rest is kept.
func TestSendsThatEndBetweenTwoWrites(t *testing.T) {
	for name, end := range map[string]func(cancel func()){
		"canceled":  func(cancel func()) { cancel() },
		"timed out": func(func()) { time.Sleep(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				writes := 0
				conn := &hooked{Conn: &wire{}, write: func(p []byte) (int, error) {
					writes++
					end(cancel)
					return len(p), nil
				}}
				ns := bufsock.NewNetstringSocket(conn, bufsock.WithMaxSize(bufsock.NoLimit))
				err := ns.WriteNetstring(make([]byte, 200_000), bufsock.WithContext(ctx), bufsock.WithTimeout(time.Hour))
				require.Equal(t, "later", kind(err), err)
				require.Equal(t, 1, writes)
				require.Equal(t, 200_001, ns.Socket().Unsent())
			})
		})
	}
}

// What a failed Send says it has sent is what the peer receives.
func TestFailedSendsCountWhatWasSent(t *testing.T) {
	large := make([]byte, 16<<20)
	fails := map[string]struct {
		fail func(s *bufsock.BufferedSocket, local net.Conn)
		err  error
	}{
		"Close":                   {func(s *bufsock.BufferedSocket, _ net.Conn) { s.Close() }, net.ErrClosed},
		"a deadline":              {func(s *bufsock.BufferedSocket, _ net.Conn) { s.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"closed below the socket": {func(_ *bufsock.BufferedSocket, local net.Conn) { local.Close() }, net.ErrClosed},
	}
	sends := map[string]func(s *bufsock.BufferedSocket) (int, error){
		"Send": func(s *bufsock.BufferedSocket) (int, error) {
			return s.Send(large, bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"SendBuffers": func(s *bufsock.BufferedSocket) (int, error) {
			return s.SendBuffers([][]byte{large[:10], large[10:]}, bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"Flush": func(s *bufsock.BufferedSocket) (int, error) {
			s.Buffer(large)
			return -1, s.Flush(bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"Send of a little more than is buffered": func(s *bufsock.BufferedSocket) (int, error) {
			s.Buffer(large[1:])
			return s.Send(large[:1], bufsock.WithTimeout(bufsock.NoTimeout))
		},
		"Write": func(s *bufsock.BufferedSocket) (int, error) { return s.Write(large) },
	}
	for why, tt := range fails {
		for how, send := range sends {
			t.Run(how+" ended by "+why, func(t *testing.T) {
				sockets(t, func(t *testing.T, local, remote net.Conn) {
					s := bufsock.NewBufferedSocket(local)
					type result struct {
						n   int
						err error
					}
					done := make(chan result)
					go func() { n, err := send(s); done <- result{n, err} }()
					_, err := io.ReadFull(remote, make([]byte, 1)) // it is under way
					require.NoError(t, err)
					tt.fail(s, local)
					r := <-done
					require.ErrorIs(t, r.err, tt.err)
					unsent := len(s.SendBuffer())
					s.Close()
					rest, err := io.ReadAll(remote)
					require.NoError(t, err)
					if r.n >= 0 {
						require.Equal(t, 1+len(rest), r.n)
					}
					if why != "Close" && how != "Write" {
						require.Equal(t, len(large)-1-len(rest), unsent)
					} else {
						require.Zero(t, unsent)
					}
				})
			})
		}
	}
}

// Sends that fail at once have sent nothing. The first returns the error of the
// connection and keeps its bytes; from then on they keep nothing.
func TestSendsOnABrokenConnectionCountNothing(t *testing.T) {
	sends := map[string]struct {
		send func(s *bufsock.BufferedSocket, p []byte) (int, error)
		kept int // of p
		more int
	}{
		"Send": {func(s *bufsock.BufferedSocket, p []byte) (int, error) { return s.Send(p) }, 1, 0},
		"SendBuffers": {func(s *bufsock.BufferedSocket, p []byte) (int, error) {
			return s.SendBuffers([][]byte{p, {1}})
		}, 1, 1},
		"Write": {func(s *bufsock.BufferedSocket, p []byte) (int, error) { return s.Write(p) }, 0, 0},
	}
	for name, tt := range sends {
		for _, size := range []int{3, 100_000} {
			t.Run(fmt.Sprintf("%s of %d", name, size), func(t *testing.T) {
				sockets(t, func(t *testing.T, local, remote net.Conn) {
					s := bufsock.NewBufferedSocket(local)
					require.NoError(t, s.CloseWrite())
					n, err := tt.send(s, make([]byte, size))
					require.IsType(t, (*net.OpError)(nil), err)
					require.Zero(t, n)
					kept := tt.kept*size + tt.more
					require.Len(t, s.SendBuffer(), kept)
					for name, tt := range sends {
						n, err := tt.send(s, make([]byte, size))
						require.ErrorIs(t, err, bufsock.ErrBroken, name)
						require.Zero(t, n)
						require.Len(t, s.SendBuffer(), kept, name)
					}
				})
			})
		}
	}
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
		for _, timeout := range []time.Duration{bufsock.NonBlocking, bufsock.NoTimeout, time.Hour} {
			for _, size := range []int{3, 100_000} {
				n, err := s.Send(make([]byte, size), bufsock.WithTimeout(timeout))
				require.IsType(t, (*bufsock.TimeoutError)(nil), err)
				require.Zero(t, n)
			}
		}
		require.Len(t, s.SendBuffer(), 3*(3+100_000))
	})
}

// A send that fails while it waits for its turn may find room in the buffer of
// the one under way, whose bytes come before its own all the same.
func TestSendsThatFailInTheQueueStayBehindTheOneUnderWay(t *testing.T) {
	head, large := strings.Repeat("h", 200_000), strings.Repeat("x", 70_000)
	for _, taken := range []int{1, len(head) - 1, len(head), len(head) + 1, len(head) + len(large) - 1} {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.Buffer([]byte(head)))
			ctx, cancel := context.WithCancel(t.Context())
			sent := make(chan int)
			go func() {
				n, err := s.Send([]byte(large), bufsock.WithContext(ctx))
				assert.ErrorIs(t, err, context.Canceled)
				sent <- n
			}()
			_, err := io.ReadFull(remote, make([]byte, taken))
			require.NoError(t, err)
			for _, data := range [][]string{{"second "}, {"third ", "", "piece"}} {
				var bufs [][]byte
				for _, d := range data {
					bufs = append(bufs, []byte(d))
				}
				n, err := s.SendBuffers(bufs, bufsock.WithTimeout(bufsock.NonBlocking))
				require.ErrorIs(t, err, bufsock.ErrWouldBlock)
				require.Zero(t, n)
			}
			require.ErrorIs(t, bufsock.NewNetstringSocket(s).WriteNetstring([]byte("last"), bufsock.WithTimeout(bufsock.NonBlocking)), bufsock.ErrWouldBlock)
			cancel()
			require.Equal(t, taken, <-sent)
			require.True(t, (head + large + "second third piece4:last,")[taken:] == string(s.SendBuffer()), "%d taken", taken)
			s.Close()
			remote.Close()
		})
	}
}

// A peer that drains slowly is the same for sends: one deadline for the whole.
func TestTimeoutCoversPartialWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		var reading sync.WaitGroup
		reading.Go(func() {
			for {
				if _, err := remote.Read(make([]byte, 1)); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
		var n int
		d, err := elapsed(func() (err error) {
			n, err = s.Send(make([]byte, 100), bufsock.WithTimeout(time.Second+50*time.Millisecond))
			return err
		})
		require.Equal(t, 1050*time.Millisecond, d)
		require.Equal(t, 11, n)
		e, ok := err.(*bufsock.TimeoutError)
		require.True(t, ok)
		require.Equal(t, 89, e.Buffered)
		require.Len(t, s.SendBuffer(), 89)
		require.NoError(t, s.Flush())
		require.Empty(t, s.SendBuffer())
		s.Close()
		reading.Wait()
	})
}

// A Buffer that had to wait for its turn adds its data behind what was sent.
func TestBufferWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Second))
		sent := make(chan error)
		go func() { _, err := s.Send([]byte("first"), bufsock.WithTimeout(time.Hour)); sent <- err }()
		synctest.Wait()
		d, err := elapsed(func() error { return s.Buffer([]byte("late")) })
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.EqualError(t, err, "bufsock: Buffer: timed out after 1s (5 bytes buffered)")
		require.Equal(t, "first", string(s.SendBuffer()), "nothing was added")

		added := make(chan error)
		go func() { added <- s.Buffer([]byte("second")) }()
		synctest.Wait()
		_, err = io.ReadFull(remote, make([]byte, 5))
		require.NoError(t, err)
		require.NoError(t, <-sent)
		require.NoError(t, <-added)
		require.Equal(t, "second", string(s.SendBuffer()))
		require.NoError(t, s.Buffer([]byte("!")), "the turn is free")

		go s.Flush(bufsock.WithTimeout(time.Hour))
		synctest.Wait()
		go func() { added <- s.Buffer([]byte("third")) }()
		synctest.Wait()
		require.NoError(t, s.Close())
		assertClosed(t, <-added)
		require.Empty(t, s.SendBuffer())
		remote.Close()
	})
}

// io.EOF of a write is no end of what the peer sends.
func TestAWriteThatReturnsEOF(t *testing.T) {
	for op, call := range waiting {
		if isSend(op) {
			s := bufsock.NewBufferedSocket(&wire{limits: []int{0}, err: io.EOF})
			require.Equal(t, io.EOF, call(s), op)
			require.ErrorIs(t, call(s), bufsock.ErrBroken, op)
		}
	}
}
