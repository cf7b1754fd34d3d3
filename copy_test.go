package bufsock_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A copy is one that runs between two sockets, in one of two directions and by
// one of two methods.
type copying struct {
	name string
	call func(a, b *bufsock.BufferedSocket) (int64, error)
}

var copyings = []copying{
	{"a.WriteTo(b)", func(a, b *bufsock.BufferedSocket) (int64, error) { return a.WriteTo(b) }},
	{"b.ReadFrom(a)", func(a, b *bufsock.BufferedSocket) (int64, error) { return b.ReadFrom(a) }},
	{"b.WriteTo(a)", func(a, b *bufsock.BufferedSocket) (int64, error) { return b.WriteTo(a) }},
	{"a.ReadFrom(b)", func(a, b *bufsock.BufferedSocket) (int64, error) { return a.ReadFrom(b) }},
	{"a.WriteTo(a)", func(a, _ *bufsock.BufferedSocket) (int64, error) { return a.WriteTo(a) }},
	{"a.ReadFrom(a)", func(a, _ *bufsock.BufferedSocket) (int64, error) { return a.ReadFrom(a) }},
	{"b.WriteTo(b)", func(_, b *bufsock.BufferedSocket) (int64, error) { return b.WriteTo(b) }},
	{"b.ReadFrom(b)", func(_, b *bufsock.BufferedSocket) (int64, error) { return b.ReadFrom(b) }},
}

// Copies between the same sockets never wait for each other for ever, in
// whatever directions and by whichever methods.
func TestCopiesBetweenTheSameSocketsEnd(t *testing.T) {
	for _, transport := range []transport{{"TCP", tcpPair}, {"Unix", unixPair}, wrappedTransport, {"Pipe", pipePair}} {
		for i, first := range copyings {
			for _, second := range copyings[i:] {
				t.Run(transport.name+", "+first.name+" and "+second.name, func(t *testing.T) {
					local, remote := transport.pair(t)
					other, far := transport.pair(t)
					a, b := bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(other)
					for _, peer := range []net.Conn{remote, far} {
						go io.Copy(io.Discard, peer)
						go peer.Write([]byte("hello"))
					}
					done := make(chan struct{}, 3)
					for _, c := range []copying{first, second, first} {
						go func() { c.call(a, b); done <- struct{}{} }()
					}
					remote.SetWriteDeadline(time.Now().Add(time.Second))
					remote.Close()
					far.Close()
					for range 3 {
						select {
						case <-done:
						case <-time.After(time.Minute):
							require.Fail(t, "the copies wait for each other")
						}
					}
				})
			}
		}
	}
}

// Nor do they when the one has begun and waits for bytes before the other begins.
func TestCopiesThatBeginOneBehindTheOtherEnd(t *testing.T) {
	for _, first := range copyings {
		for _, second := range copyings {
			t.Run(first.name+" and "+second.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { // fails if all wait
					local, remote := duplexPair()
					other, far := duplexPair()
					a, b := bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(other)
					done := make(chan struct{}, 2)
					for _, c := range []copying{first, second} {
						go func() { c.call(a, b); done <- struct{}{} }()
						synctest.Wait()
					}
					for _, peer := range []duplex{remote, far} {
						go io.Copy(io.Discard, peer)
						go func() {
							peer.Write([]byte("hello"))
							peer.CloseWrite()
						}()
					}
					<-done
					<-done
					remote.Close()
					far.Close()
				})
			})
		}
	}
}

// A socket echoes by either method.
func TestASocketCopiesToItself(t *testing.T) {
	for _, transport := range append(transports, wrappedTransport) {
		for _, c := range copyings[4:6] {
			t.Run(transport.name+", "+c.name, func(t *testing.T) {
				local, remote := transport.pair(t)
				s := bufsock.NewBufferedSocket(local)
				done := make(chan error, 1)
				go func() { _, err := c.call(s, s); done <- err }()
				for range 3 {
					_, err := remote.Write([]byte("echo"))
					require.NoError(t, err)
					got := make([]byte, 4)
					_, err = io.ReadFull(remote, got)
					require.NoError(t, err)
					require.Equal(t, "echo", string(got))
				}
				require.NoError(t, s.Close())
				assertClosed(t, <-done)
			})
		}
	}
}

// A target whose write deadline has passed takes nothing, and nothing is lost.
func TestACopyPastAWriteDeadlineLosesNothing(t *testing.T) {
	type pair = func(testing.TB) (net.Conn, net.Conn)
	kinds := map[string]struct{ from, to pair }{
		"TCP to TCP": {tcpPair, tcpPair}, "TCP to Unix": {tcpPair, unixPair}, "Unix to TCP": {unixPair, tcpPair},
		"wrapped to TCP": {wrappedPair, tcpPair}, "TCP to wrapped": {tcpPair, wrappedPair}, "Pipe to TCP": {pipePair, tcpPair},
	}
	past := time.Unix(1, 0)
	copies := map[string]func(s *bufsock.BufferedSocket, to net.Conn) error{
		"WriteTo a connection": func(s *bufsock.BufferedSocket, to net.Conn) error {
			require.NoError(t, to.SetWriteDeadline(past))
			_, err := s.WriteTo(to)
			return err
		},
		"WriteTo a socket": func(s *bufsock.BufferedSocket, to net.Conn) error {
			target := bufsock.NewBufferedSocket(to)
			require.NoError(t, target.SetWriteDeadline(past))
			_, err := s.WriteTo(target)
			return err
		},
		"ReadFrom of a socket": func(s *bufsock.BufferedSocket, to net.Conn) error {
			target := bufsock.NewBufferedSocket(to)
			require.NoError(t, target.SetWriteDeadline(past))
			_, err := target.ReadFrom(s)
			return err
		},
		"io.Copy": func(s *bufsock.BufferedSocket, to net.Conn) error {
			target := bufsock.NewBufferedSocket(to)
			require.NoError(t, target.SetWriteDeadline(past))
			_, err := io.Copy(target, s)
			return err
		},
	}
	for kind, tt := range kinds {
		for how, copied := range copies {
			t.Run(kind+", "+how, func(t *testing.T) {
				local, remote := tt.from(t)
				to, _ := tt.to(t)
				s := bufsock.NewBufferedSocket(local)
				go func() { remote.Write([]byte("precious")) }()
				err := copied(s, to)
				e, ok := errors.AsType[net.Error](err)
				require.True(t, ok && e.Timeout(), "%v", err)
				msg, err := s.RecvSize(8, bufsock.WithTimeout(time.Minute))
				require.NoError(t, err)
				require.Equal(t, "precious", string(msg))
			})
		}
	}
}

// A source that is a bare connection keeps what a socket cannot send.
func TestReadFromPastAWriteDeadlineTakesNothing(t *testing.T) {
	for _, transport := range append(transports, wrappedTransport) {
		t.Run(transport.name, func(t *testing.T) {
			from, far := tcpPair(t)
			local, _ := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
			_, err := far.Write([]byte("precious"))
			require.NoError(t, err)
			require.NoError(t, far.Close())
			_, err = s.ReadFrom(from)
			e, ok := errors.AsType[net.Error](err)
			require.True(t, ok && e.Timeout(), "%v", err)
			if transport.name != "TCP" && transport.name != "Unix" {
				return // what was taken from r and not sent is not kept
			}
			b, err := io.ReadAll(from)
			require.NoError(t, err)
			require.Equal(t, "precious", string(b))
		})
	}
}

// A copy goes where its target is when it sends, also if that is upgraded at the
// same moment.
func TestUpgradesOfATargetLoseNothing(t *testing.T) {
	for i := range 100 {
		local, remote := tcpPair(t)
		to, far := tcpPair(t)
		s, target := bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(to, bufsock.WithTimeout(time.Minute))
		received := make(chan []byte)
		go func() { b, _ := io.ReadAll(far); received <- b }()
		want := bytes.Repeat([]byte("0123456789"), 1000)
		go func() { remote.Write(want); remote.Close() }()
		upgraded := make(chan error)
		go func() {
			var err error
			for range i % 10 {
				err = errors.Join(err, target.Upgrade(rewrap))
			}
			upgraded <- err
		}()
		n, err := copyings[i%2].call(s, target)
		require.NoError(t, err)
		require.EqualValues(t, len(want), n)
		require.NoError(t, <-upgraded)
		require.NoError(t, target.Close())
		require.True(t, bytes.Equal(want, <-received))
	}
}

// Each side of a copy notes its own errors. One of the target ends its sending
// side and leaves the source as it is, and the reverse.
func TestErrorsOfACopyAreThoseOfTheirSide(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range copyings[:2] {
		t.Run(c.name+", the target fails", func(t *testing.T) {
			a := bufsock.NewBufferedSocket(segments("precious"))
			b := bufsock.NewBufferedSocket(&wire{limits: []int{3}, err: boom, reads: []read{{"whole", nil}}})
			n, err := c.call(a, b)
			require.Equal(t, boom, err)
			require.EqualValues(t, 3, n)
			require.Equal(t, "cious", string(a.RecvBuffer()), "what was not taken")
			require.Zero(t, b.Unsent())
			_, err = b.Send([]byte("x"))
			require.ErrorIs(t, err, bufsock.ErrBroken)
			require.ErrorIs(t, err, boom)
			msg, err := b.RecvClose()
			require.NoError(t, err, "nothing is known of the other direction")
			require.Equal(t, "whole", string(msg))
			msg, err = a.RecvClose()
			require.NoError(t, err, "the source is well")
			require.Equal(t, "cious", string(msg))
		})
		t.Run(c.name+", the source fails", func(t *testing.T) {
			w := &wire{}
			a := bufsock.NewBufferedSocket(&wire{reads: []read{{"half", nil}, {"", boom}}})
			b := bufsock.NewBufferedSocket(w)
			n, err := c.call(a, b)
			require.Equal(t, boom, err)
			require.EqualValues(t, 4, n)
			_, err = c.call(a, b)
			require.Equal(t, boom, err, "again")
			_, err = b.Send([]byte("x"))
			require.NoError(t, err, "the target is well")
			require.Equal(t, []string{"half", "x"}, w.writes)
			_, err = b.RecvClose()
			require.NoError(t, err)
		})
		t.Run(c.name+", nothing can be sent any more", func(t *testing.T) {
			a := bufsock.NewBufferedSocket(segments("precious"))
			b := bufsock.NewBufferedSocket(&wire{limits: []int{0}, err: boom})
			_, err := b.Write([]byte("x"))
			require.Equal(t, boom, err)
			n, err := c.call(a, b)
			require.ErrorIs(t, err, bufsock.ErrBroken)
			require.Zero(t, n)
			msg, err := a.RecvClose()
			require.NoError(t, err)
			require.Equal(t, "precious", string(msg), "nothing is lost")
		})
	}
	t.Run("ReadFrom of a reader that fails", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(&wire{})
		_, err := s.ReadFrom(io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) { return 0, boom })))
		require.Equal(t, boom, err)
		_, err = s.Send([]byte("x"))
		require.NoError(t, err, "the error is not that of the connection")
		_, err = s.RecvClose()
		require.NoError(t, err)
	})
}

// Copying in every combination, with bytes in both buffers, loses nothing.
func TestCopy(t *testing.T) {
	content := strings.Repeat("0123456789abcde\n", 50_000)
	const lead = "a line\n"
	sources := map[string]func(t *testing.T) io.Reader{
		"from a socket": func(t *testing.T) io.Reader {
			local, remote := tcpPair(t)
			go func() {
				io.WriteString(remote, lead+content)
				remote.Close()
			}()
			s := bufsock.NewBufferedSocket(local)
			line, err := s.RecvUntil(lf, bufsock.WithDelimiter())
			require.NoError(t, err)
			require.Equal(t, lead, string(line))
			return s
		},
		"from a socket on a pipe": func(t *testing.T) io.Reader {
			local, remote := pipePair(t)
			go func() {
				io.WriteString(remote, content)
				remote.Close()
			}()
			return bufsock.NewBufferedSocket(local)
		},
		"from a bare connection": func(t *testing.T) io.Reader {
			local, remote := tcpPair(t)
			go func() {
				io.WriteString(remote, content)
				remote.Close()
			}()
			return local
		},
		"from a reader": func(*testing.T) io.Reader { return iotest.HalfReader(strings.NewReader(content)) },
		"from a file": func(t *testing.T) io.Reader {
			name := filepath.Join(t.TempDir(), "content")
			require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
			f, err := os.Open(name)
			require.NoError(t, err)
			t.Cleanup(func() { f.Close() })
			return f
		},
	}
	type sink struct {
		w    io.Writer
		done func() string // what arrived
	}
	drain := func(t *testing.T, local, remote net.Conn) (done func() string) {
		received := make(chan string)
		go func() {
			all, _ := io.ReadAll(remote)
			received <- string(all)
		}()
		return func() string {
			local.Close()
			return <-received
		}
	}
	sinks := map[string]func(t *testing.T) sink{
		"to a socket": func(t *testing.T) sink {
			local, remote := tcpPair(t)
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.Buffer([]byte("buffered ")))
			done := drain(t, local, remote)
			return sink{s, func() string { return strings.TrimPrefix(done(), "buffered ") }}
		},
		"to a socket on a pipe": func(t *testing.T) sink {
			local, remote := pipePair(t)
			return sink{bufsock.NewBufferedSocket(local), drain(t, local, remote)}
		},
		"to a bare connection": func(t *testing.T) sink {
			local, remote := unixPair(t)
			return sink{local, drain(t, local, remote)}
		},
		"to a writer": func(*testing.T) sink {
			b := &bytes.Buffer{}
			return sink{b, b.String}
		},
		"to a file": func(t *testing.T) sink {
			f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
			require.NoError(t, err)
			return sink{f, func() string {
				f.Close()
				all, _ := os.ReadFile(f.Name())
				return string(all)
			}}
		},
	}
	for from, source := range sources {
		for to, target := range sinks {
			t.Run(from+" "+to, func(t *testing.T) {
				r, w := source(t), target(t)
				n, err := io.Copy(w.w, r)
				require.NoError(t, err)
				require.Equal(t, int64(len(content)), n)
				require.True(t, content == w.done(), "not what was sent")
			})
		}
	}
}

func TestEcho(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			echoed := make(chan error, 1)
			go func() {
				_, err := io.Copy(s, s)
				echoed <- err
			}()
			for range 3 {
				_, err := io.WriteString(remote, "echo\n")
				require.NoError(t, err)
				got := make([]byte, 5)
				_, err = io.ReadFull(remote, got)
				require.NoError(t, err)
				require.Equal(t, "echo\n", string(got))
			}
			require.NoError(t, s.Close())
			require.ErrorIs(t, <-echoed, net.ErrClosed)
		})
	}
}

// Both directions of a proxy begin at the same moment, and end.
func TestCopyBothWays(t *testing.T) {
	for range 500 {
		a, clientA := tcpPair(t)
		b, clientB := tcpPair(t)
		sa, sb := bufsock.NewBufferedSocket(a), bufsock.NewBufferedSocket(b)
		var copies sync.WaitGroup
		copies.Go(func() { io.Copy(sa, sb) })
		copies.Go(func() { io.Copy(sb, sa) })
		clientA.Close()
		clientB.Close()
		copies.Wait()
		sa.Close()
		sb.Close()
	}
}

func TestWriteToKeepsWhatWasNotTaken(t *testing.T) {
	boom := errors.New("boom")
	for _, transport := range transports[:3] {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			go remote.Write([]byte("abcdef"))
			s := bufsock.NewBufferedSocket(local)
			n, err := s.WriteTo(&wire{limits: []int{2}, err: boom})
			require.Equal(t, boom, err)
			require.EqualValues(t, 2, n)
			n, err = s.WriteTo(&wire{limits: []int{1}})
			require.Equal(t, io.ErrShortWrite, err)
			require.EqualValues(t, 1, n)
			require.Equal(t, "def", string(s.RecvBuffer()))
			require.Panics(t, func() { s.WriteTo(nil) })
			require.Equal(t, "def", string(s.RecvBuffer()))
		})
	}
}

// Closing ends a copy that the kernel makes.
func TestCloseEndsACopy(t *testing.T) {
	sockets(t, func(t *testing.T, local, _ net.Conn) {
		far, _ := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		errs := make(chan error)
		go func() { _, err := io.Copy(far, s); errs <- err }()
		go func() { _, err := s.ReadFrom(far); errs <- err }()
		time.AfterFunc(5*time.Millisecond, func() { s.Close(); far.Close() })
		for range 2 {
			require.ErrorIs(t, <-errs, net.ErrClosed)
		}
	})
}

// Package os looks for a descriptor in what it copies to and from, and must not
// find a way past the buffers.
func TestFilesDoNotPassTheBuffersBy(t *testing.T) {
	name := filepath.Join(t.TempDir(), "content")
	require.NoError(t, os.WriteFile(name, []byte("FILE"), 0o600))
	t.Run("sending", func(t *testing.T) {
		local, remote := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, s.Buffer([]byte("HEAD")))
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteTo(s)
		require.NoError(t, err)
		s.Close()
		all, err := io.ReadAll(remote)
		require.NoError(t, err)
		require.Equal(t, "HEADFILE", string(all))
	})
	t.Run("receiving", func(t *testing.T) {
		local, remote := tcpPair(t)
		s := bufsock.NewBufferedSocket(local)
		_, err := remote.Write([]byte("HEAD"))
		require.NoError(t, err)
		_, err = s.Peek(4)
		require.NoError(t, err)
		_, err = remote.Write([]byte("TAIL"))
		require.NoError(t, err)
		remote.Close()
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
		require.NoError(t, err)
		_, err = f.ReadFrom(s)
		require.NoError(t, err)
		f.Close()
		all, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, "HEADTAIL", string(all))
	})
}

// A copy to a writer that fails at once leaves the connection well, and what
// came where it was.
func TestCopyToABrokenConnection(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		closed, _ := unixPair(t)
		to := bufsock.NewBufferedSocket(closed)
		require.NoError(t, to.Close())
		s := bufsock.NewBufferedSocket(local)
		_, err := remote.Write([]byte("hello\n"))
		require.NoError(t, err)
		_, err = s.WriteTo(to)
		require.ErrorIs(t, err, net.ErrClosed)
		msg, err := s.RecvUntil(lf)
		require.NoError(t, err)
		require.Equal(t, "hello", string(msg))
	})
}

// WriteTo holds the turn while it writes what was buffered before.
func TestWriteToHoldsTheTurnWithABufferToo(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("abc"))
	_, err := s.Peek(3)
	require.NoError(t, err)
	n, err := s.WriteTo(writerFunc(func(p []byte) (int, error) {
		_, err := s.Recv(1, bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		return len(p), nil
	}))
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
}

// While WriteTo writes and ReadFrom reads, other calls of their side wait.
func TestCopiesHoldTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("abc", "def"))
		w := &bytes.Buffer{}
		wrote := make(chan error)
		go func() {
			_, err := s.WriteTo(writerFunc(func(p []byte) (int, error) {
				time.Sleep(time.Minute)
				return w.Write(p)
			}))
			wrote <- err
		}()
		synctest.Wait()
		d, err := elapsed(func() error { _, err := s.Recv(1, bufsock.WithTimeout(time.Second)); return err })
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.NoError(t, <-wrote)
		require.Equal(t, "abcdef", w.String())
		_, err = s.Recv(1)
		require.Equal(t, io.EOF, err, "the turn is free")
	})
	synctest.Test(t, func(t *testing.T) {
		conn := &wire{}
		s := bufsock.NewBufferedSocket(conn)
		r := strings.NewReader("abc")
		read := make(chan error)
		go func() {
			_, err := s.ReadFrom(readerFunc(func(p []byte) (int, error) {
				time.Sleep(time.Minute)
				return r.Read(p)
			}))
			read <- err
		}()
		synctest.Wait()
		d, err := elapsed(func() error { _, err := s.Send([]byte("late"), bufsock.WithTimeout(time.Second)); return err })
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.NoError(t, <-read)
		require.Equal(t, []string{"abc"}, conn.writes)
		require.NoError(t, s.Flush())
		require.Equal(t, []string{"abc", "late"}, conn.writes, "the turn is free")
	})
}

// What ReadFrom cannot send before it begins it does not take from the reader.
// A send that fails in the queue while ReadFrom sends the buffer is sent, too,
// before what is copied: what a try has begun of it must not be torn apart.
func TestReadFromSendsWhatWasKeptInTheMeantime(t *testing.T) {
	const size = 4 << 20 // more than the kernel takes
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		require.NoError(t, local.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(64<<10))
		require.NoError(t, remote.(interface{ SetReadBuffer(int) error }).SetReadBuffer(64<<10))
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		require.NoError(t, s.Buffer(bytes.Repeat([]byte("a"), size)))
		copied := make(chan error)
		go func() { _, err := s.ReadFrom(strings.NewReader("copied")); copied <- err }()
		_, err := remote.Read(make([]byte, 1)) // it is under way
		require.NoError(t, err)
		_, err = s.Send(bytes.Repeat([]byte("b"), size), bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		got := make([]byte, 2*size-1+len("copied"))
		_, err = io.ReadFull(remote, got)
		require.NoError(t, err)
		require.NoError(t, <-copied)
		require.Equal(t, "copied", string(got[2*size-1:]))
		require.Equal(t, size-1, bytes.Count(got[:size-1], []byte("a")))
		require.Equal(t, size, bytes.Count(got[size-1:2*size-1], []byte("b")))
	})
}

func TestReadFromTakesNothingIfTheBufferCannotBeSent(t *testing.T) {
	boom := errors.New("boom")
	w := &wire{limits: []int{1}, err: boom}
	s := bufsock.NewBufferedSocket(w)
	require.NoError(t, s.Buffer([]byte("abc")))
	r := strings.NewReader("taken")
	n, err := s.ReadFrom(r)
	require.Equal(t, boom, err)
	require.Zero(t, n)
	require.Equal(t, 5, r.Len())
	require.Equal(t, "bc", string(s.SendBuffer()))
	n, err = s.ReadFrom(r)
	require.ErrorIs(t, err, bufsock.ErrBroken)
	require.ErrorIs(t, err, boom)
	require.Zero(t, n)
	require.Equal(t, 5, r.Len())
	require.Equal(t, []string{"a"}, w.writes)

	// nor if the handshake cannot be done
	_, config := tlsConfigs()
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe() // nobody answers
		s := bufsock.NewBufferedSocket(tls.Client(local, config))
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Second)))
		r := strings.NewReader("taken")
		d, err := elapsed(func() error { _, err := s.ReadFrom(r); return err })
		require.Equal(t, time.Second, d)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 5, r.Len())
		s.Close()
		remote.Close()
	})
}

// Only where the kernel makes the copy may bytes be lost that the writer did
// not take.
func TestCopiesThatTheKernelDoesNotMakeLoseNothing(t *testing.T) {
	const size = 8 << 20 // more than a kernel buffers
	wrap := func(conn net.Conn) io.Writer { return bufsock.NewBufferedSocket(conn) }
	bare := func(conn net.Conn) io.Writer { return conn }
	tests := map[string]struct {
		from, to func(testing.TB) (net.Conn, net.Conn)
		writer   func(net.Conn) io.Writer
	}{
		"TCP to a socket on Unix":  {tcpPair, unixPair, wrap},
		"Unix to a socket on Unix": {unixPair, unixPair, wrap},
		"Unix to Unix":             {unixPair, unixPair, bare},
		"TCP to a pipe":            {tcpPair, pipePair, bare},
		"a pipe to TCP":            {pipePair, tcpPair, bare},
	}
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i % 251)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			local, remote := tt.from(t)
			to, far := tt.to(t)
			go func() {
				remote.Write(content)
				remote.Close()
			}()
			s := bufsock.NewBufferedSocket(local)
			w := tt.writer(to)
			require.NoError(t, w.(net.Conn).SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
			n, err := io.Copy(w, s)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.Less(t, n, int64(size))
			rest, err := s.RecvClose(bufsock.WithMaxSize(bufsock.NoLimit), bufsock.WithTimeout(time.Minute))
			require.NoError(t, err)
			to.Close()
			taken, err := io.ReadAll(far)
			require.NoError(t, err)
			require.EqualValues(t, n, len(taken))
			require.True(t, bytes.Equal(content, append(taken, rest...)), "%d bytes taken, %d left", len(taken), len(rest))
		})
	}
}

// What a writer says that it took is believed within the bounds of reason.
func TestWriteToAWriterThatMiscounts(t *testing.T) {
	for _, tt := range []struct {
		count int
		want  int
		err   error
	}{
		{-1, 0, io.ErrShortWrite},
		{2, 2, io.ErrShortWrite},
		{3, 3, nil},
		{4, 3, io.ErrShortWrite},
	} {
		s := bufsock.NewBufferedSocket(segments("abc"))
		n, err := s.WriteTo(writerFunc(func([]byte) (int, error) { return tt.count, nil }))
		require.Equal(t, tt.err, err, "%d", tt.count)
		require.EqualValues(t, tt.want, n)
		require.Equal(t, "abc"[tt.want:], string(s.RecvBuffer()))
	}
}

// What WriteTo and ReadFrom return counts all that was copied, also before an
// error of the connection.
func TestCopiesThatFailCountWhatWasCopied(t *testing.T) {
	boom := errors.New("boom")
	s := bufsock.NewBufferedSocket(&wire{reads: []read{{"abc", nil}, {"de", boom}}})
	b := &bytes.Buffer{}
	n, err := s.WriteTo(b)
	require.Equal(t, boom, err)
	require.EqualValues(t, 5, n)
	require.Equal(t, "abcde", b.String())

	w := &wire{limits: []int{3, 1}, err: boom}
	s = bufsock.NewBufferedSocket(w)
	n, err = s.ReadFrom(struct{ io.Reader }{strings.NewReader("abc")})
	require.NoError(t, err)
	require.EqualValues(t, 3, n)
	n, err = s.ReadFrom(struct{ io.Reader }{strings.NewReader("abc")})
	require.Equal(t, boom, err)
	require.EqualValues(t, 1, n)
}

// io.CopyN hides a socket in an io.LimitedReader, and is a copy as any other.
func TestCopiesOfALimitedReader(t *testing.T) {
	t.Run("end beside others between the same sockets", func(t *testing.T) {
		for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){"TCP": tcpPair, "pipe": pipePair, "TLS": tlsPair} {
			for range 20 {
				a1, a2 := pair(t)
				b1, b2 := pair(t)
				a, b := bufsock.NewBufferedSocket(a1), bufsock.NewBufferedSocket(b1)
				received := make(chan int64)
				go func() { n, _ := io.Copy(io.Discard, a2); received <- n }()
				var group sync.WaitGroup
				group.Go(func() { io.Copy(a, b) })
				group.Go(func() { io.CopyN(a, b, 3) })
				group.Go(func() { a.ReadFrom(io.LimitReader(b, 2)) })
				_, err := b2.Write([]byte("abcdefgh"))
				require.NoError(t, err)
				b2.Close()
				group.Wait()
				a.Close()
				require.Equal(t, int64(8), <-received, name)
				b.Close()
			}
		}
	})
	t.Run("take what they are given", func(t *testing.T) {
		source := bufsock.NewBufferedSocket(segments("abc", "defgh"))
		w := &wire{}
		target := bufsock.NewBufferedSocket(w)
		for _, tt := range []struct {
			limit, copied, left int64
			sent                string
		}{{0, 0, 0, ""}, {-1, 0, -1, ""}, {2, 2, 0, "ab"}, {4, 4, 0, "cdef"}, {9, 2, 7, "gh"}, {9, 0, 9, ""}} {
			w.writes = nil
			r := &io.LimitedReader{R: source, N: tt.limit}
			n, err := target.ReadFrom(r)
			require.NoError(t, err)
			require.Equal(t, tt.copied, n)
			require.Equal(t, tt.left, r.N)
			require.Equal(t, tt.sent, strings.Join(w.writes, ""))
		}
	})
	t.Run("wait for no more than that", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			go remote.Write([]byte("abc"))
			source, target := bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(&wire{})
			d, err := elapsed(func() error { _, err := io.CopyN(target, source, 3); return err })
			require.NoError(t, err)
			require.Zero(t, d)
			source.Close()
			remote.Close()
		})
	})
	t.Run("keep what was not taken", func(t *testing.T) {
		source := bufsock.NewBufferedSocket(segments("abcdef"))
		boom := errors.New("boom")
		target := bufsock.NewBufferedSocket(&wire{limits: []int{2}, err: boom})
		r := &io.LimitedReader{R: source, N: 4}
		n, err := target.ReadFrom(r)
		require.Equal(t, boom, err)
		require.Equal(t, int64(2), n)
		require.Equal(t, int64(2), r.N)
		require.Equal(t, "cdef", string(source.RecvBuffer()))
	})
}
