package bufsock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// wrappedPair is a TCP connection in a type of its own, as limit listeners,
// SOCKS clients and many programs make them.
func wrappedPair(t testing.TB) (net.Conn, net.Conn) {
	local, remote := tcpPair(t)
	return wrapper{local}, remote
}

var wrappedTransport = transport{"wrapped TCP", wrappedPair}

// receiving are all calls that receive, those of net.Conn included.
func receiving() map[string]func(s *bufsock.BufferedSocket) error {
	calls := map[string]func(s *bufsock.BufferedSocket) error{
		"Read":    func(s *bufsock.BufferedSocket) error { _, err := s.Read(make([]byte, 1)); return err },
		"WriteTo": func(s *bufsock.BufferedSocket) error { _, err := s.WriteTo(io.Discard); return err },
		"io.Copy": func(s *bufsock.BufferedSocket) error { _, err := io.Copy(&bytes.Buffer{}, s); return err },
	}
	for op, call := range waiting {
		if !isSend(op) {
			calls[op] = func(s *bufsock.BufferedSocket) error { return call(s) }
		}
	}
	return calls
}

// sending are all calls that send what they are given, or what is buffered. They
// return how much of it they say to have sent, or -1.
var sending = map[string]func(s *bufsock.BufferedSocket, p []byte) (int, error){
	"Send":        func(s *bufsock.BufferedSocket, p []byte) (int, error) { return s.Send(p) },
	"SendBuffers": func(s *bufsock.BufferedSocket, p []byte) (int, error) { return s.SendBuffers([][]byte{p, p}) },
	"Write":       func(s *bufsock.BufferedSocket, p []byte) (int, error) { return s.Write(p) },
	"Flush": func(s *bufsock.BufferedSocket, p []byte) (int, error) {
		return -1, errors.Join(s.Buffer(p), s.Flush())
	},
	"ReadFrom": func(s *bufsock.BufferedSocket, p []byte) (int, error) {
		n, err := s.ReadFrom(bytes.NewReader(p))
		return int(n), err
	},
	"io.Copy": func(s *bufsock.BufferedSocket, p []byte) (int, error) {
		n, err := io.Copy(s, struct{ io.Reader }{bytes.NewReader(p)})
		return int(n), err
	},
	"a copy from a socket": func(s *bufsock.BufferedSocket, p []byte) (int, error) {
		n, err := bufsock.NewBufferedSocket(segments(string(p))).WriteTo(s)
		return int(n), err
	},
	"WriteNetstring": func(s *bufsock.BufferedSocket, p []byte) (int, error) {
		return -1, bufsock.NewNetstringSocket(s).WriteNetstring(p, bufsock.WithMaxSize(bufsock.NoLimit))
	},
}

// An end that comes behind an error is none: each receive returns the error, and
// returns it again. This one is no error of the operating system.
func TestAnEndBehindAnErrorIsNone(t *testing.T) {
	reset := errors.New("connection reset by peer")
	for name, reported := range map[string]error{
		"an error of its own":             reset,
		"a *net.OpError without an errno": &net.OpError{Op: "read", Net: "tcp", Err: reset},
	} {
		for op, call := range receiving() {
			t.Run(op+", "+name, func(t *testing.T) {
				s := bufsock.NewBufferedSocket(&wire{reads: []read{{"", reported}}})
				for range 3 {
					require.Equal(t, reported, call(s))
				}
			})
		}
		s := bufsock.NewBufferedSocket(&wire{reads: []read{{"half a mess", nil}, {"", reported}}})
		for range 3 {
			msg, err := s.RecvClose()
			require.Equal(t, reported, err, name)
			require.Empty(t, msg)
			require.Equal(t, "half a mess", string(s.RecvBuffer()))
		}
		msg, err := s.Recv(100)
		require.NoError(t, err, "what had come")
		require.Equal(t, "half a mess", string(msg))
		_, err = s.Recv(100)
		require.Equal(t, reported, err)
	}
}

func TestBytesBehindAnErrorClearIt(t *testing.T) {
	boom, bang := errors.New("boom"), errors.New("bang")
	for name, tt := range map[string]struct {
		reads []read
		errs  []error // of RecvClose, one after the other, before it succeeds
		msg   string
	}{
		"bytes":                     {[]read{{"ab", nil}, {"", boom}, {"cd", nil}}, []error{boom}, "abcd"},
		"bytes that end the stream": {[]read{{"ab", nil}, {"", boom}, {"cd", io.EOF}}, []error{boom}, "abcd"},
		"an error and then bytes":   {[]read{{"", boom}, {"", bang}, {"cd", nil}}, []error{boom, bang}, "cd"},
		"an error with the bytes":   {[]read{{"ab", boom}, {"cd", nil}}, []error{boom}, "abcd"},
		"no bytes":                  {[]read{{"", boom}, {"", nil}, {"", io.EOF}}, []error{boom, boom, boom, boom}, ""},
		"another error with them":   {[]read{{"", boom}, {"ab", bang}}, []error{boom, bang, bang, bang}, ""},
		"a timeout and the end":     {[]read{{"ab", nil}, {"", os.ErrDeadlineExceeded}}, []error{os.ErrDeadlineExceeded}, "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(&wire{reads: tt.reads})
			for _, want := range tt.errs {
				_, err := s.RecvClose()
				require.ErrorIs(t, err, want)
			}
			if tt.msg == "" {
				return
			}
			msg, err := s.RecvClose()
			require.NoError(t, err)
			require.Equal(t, tt.msg, string(msg))
		})
	}
}

// While a send is inside the connection it may be the one that meets the error
// which ended the stream. A receive that finds the end waits for it, a little.
func TestAnEndWaitsForASendThatIsInsideTheConnection(t *testing.T) {
	reset := &net.OpError{Op: "write", Net: "tcp", Err: errors.New("reset")}
	for name, tt := range map[string]struct {
		inside time.Duration // for how long the send is
		err    error         // what it returns
		broken bool          // the end is none
		after  time.Duration // when the receive returns
	}{
		"a reset at once":      {0, reset, true, 0},
		"a reset":              {60 * time.Millisecond, reset, true, 60 * time.Millisecond},
		"a reset too late":     {time.Second, reset, false, 100 * time.Millisecond},
		"another error":        {60 * time.Millisecond, errors.New("stopped"), false, 60 * time.Millisecond},
		"a send that succeeds": {60 * time.Millisecond, nil, false, 60 * time.Millisecond},
	} {
		for _, size := range []int{3, 100_000} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					local, _ := net.Pipe()
					conn := &hooked{Conn: local}
					entered := make(chan struct{})
					conn.write = func(p []byte) (int, error) {
						close(entered)
						time.Sleep(tt.inside)
						return len(p), tt.err
					}
					conn.read = func([]byte) (int, error) { <-entered; return 0, io.EOF }
					s := bufsock.NewBufferedSocket(conn)
					sent := make(chan error, 1)
					go func() { _, err := s.Send(make([]byte, size)); sent <- err }()
					synctest.Wait()
					d, err := elapsed(func() error { _, err := s.RecvClose(); return err })
					require.Equal(t, tt.after, d)
					if tt.broken {
						require.ErrorIs(t, err, reset.Err)
					} else {
						require.NoError(t, err)
					}
					<-sent
					s.Close()
				})
			})
		}
	}
}

// A connection that says itself what it is serves as well: an error of a send
// that is none of the operating system tells nothing of what the peer sends.
func TestAnErrorOfASendAloneIsNoErrorOfAReceive(t *testing.T) {
	for op, send := range sending {
		for _, stopped := range []error{errors.New("stream stopped by the peer"), io.ErrClosedPipe} {
			w := &wire{limits: []int{0}, err: stopped, reads: []read{{"a whole message", nil}}}
			s := bufsock.NewBufferedSocket(w)
			_, err := send(s, []byte("x"))
			require.ErrorIs(t, err, stopped, op)
			msg, err := s.RecvClose()
			require.NoError(t, err, op)
			require.Equal(t, "a whole message", string(msg))
		}
	}
}

// Deadlines that were set on a connection before are lifted on any, at the
// latest by the first call that needs it.
func TestDeadlinesFromBeforeAreLiftedOnAnyConnection(t *testing.T) {
	calls := map[string]func(s *bufsock.BufferedSocket) error{
		"RecvUntil without a timeout": func(s *bufsock.BufferedSocket) error {
			_, err := s.RecvUntil(lf, bufsock.WithTimeout(bufsock.NoTimeout))
			return err
		},
		"RecvUntil": func(s *bufsock.BufferedSocket) error { _, err := s.RecvUntil(lf); return err },
		"Read":      func(s *bufsock.BufferedSocket) error { _, err := s.Read(make([]byte, 3)); return err },
		"io.CopyN":  func(s *bufsock.BufferedSocket) error { _, err := io.CopyN(io.Discard, s, 3); return err },
		"WriteTo":   func(s *bufsock.BufferedSocket) error { _, err := s.WriteTo(io.Discard); return err },
		"Write":     func(s *bufsock.BufferedSocket) error { _, err := s.Write([]byte("x")); return err },
		"ReadFrom": func(s *bufsock.BufferedSocket) error {
			_, err := s.ReadFrom(strings.NewReader("x"))
			return err
		},
		"Send": func(s *bufsock.BufferedSocket) error { _, err := s.Send([]byte("x")); return err },
		"Send without a timeout": func(s *bufsock.BufferedSocket) error {
			_, err := s.Send([]byte("x"), bufsock.WithTimeout(bufsock.NoTimeout))
			return err
		},
		"Flush without a timeout": func(s *bufsock.BufferedSocket) error {
			require.NoError(t, s.Buffer([]byte("x")))
			return s.Flush(bufsock.WithTimeout(bufsock.NoTimeout))
		},
	}
	embedding := transport{"embedded TCP", func(t testing.TB) (net.Conn, net.Conn) {
		local, remote := tcpPair(t)
		return struct{ *net.TCPConn }{local.(*net.TCPConn)}, remote
	}}
	wraps := map[string]func(net.Conn) *bufsock.BufferedSocket{
		"wrapped": func(conn net.Conn) *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(conn) },
		"upgraded to": func(conn net.Conn) *bufsock.BufferedSocket {
			s := bufsock.NewBufferedSocket(segments())
			require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return conn, nil }))
			return s
		},
	}
	for _, transport := range append(transports, wrappedTransport, embedding) {
		for how, wrap := range wraps {
			for op, call := range calls {
				t.Run(transport.name+" "+how+", "+op, func(t *testing.T) {
					local, remote := transport.pair(t)
					require.NoError(t, local.SetDeadline(time.Unix(1, 0)))
					s := wrap(local)
					go func() {
						remote.Write([]byte("hi\n"))
						if op == "WriteTo" {
							remote.Close()
						}
					}()
					go io.Copy(io.Discard, remote)
					require.NoError(t, call(s))
				})
			}
		}
	}
}

func TestErrorsOfTheConnection(t *testing.T) {
	t.Run("come once if the connection may go on", func(t *testing.T) {
		once := errors.New("once")
		s := bufsock.NewBufferedSocket(&wire{reads: []read{{"a", once}, {"b", nil}, {"", once}, {"\n", nil}}})
		for range 2 {
			_, err := s.RecvUntil([]byte("\n"))
			require.Equal(t, once, err)
		}
		msg, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "ab", string(msg))
	})
	t.Run("a connection that is closed by others", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(&wire{reads: []read{{"a\n", net.ErrClosed}}})
		msg, err := s.RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "a", string(msg))
		_, err = s.RecvUntil([]byte("\n"))
		require.True(t, err == net.ErrClosed, "as it is: %v", err)
	})
	t.Run("a connection that returns nothing for ever", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(&wire{reads: make([]read, 1000)})
		_, err := s.RecvUntil([]byte("\n"))
		require.ErrorIs(t, err, io.ErrNoProgress)
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrNoProgress)
	})
	t.Run("a connection that returns nothing for a while", func(t *testing.T) {
		w := &wire{reads: make([]read, 50)}
		w.reads = append(w.reads, read{data: "a\n"})
		msg, err := bufsock.NewBufferedSocket(w).RecvUntil([]byte("\n"))
		require.NoError(t, err)
		require.Equal(t, "a", string(msg))
	})
	t.Run("a count that cannot be", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(liar{segments()})
		_, err := s.RecvUntil([]byte("\n"))
		require.ErrorContains(t, err, "impossible count")
		_, err = s.Send([]byte("abc"))
		require.ErrorContains(t, err, "impossible count")
	})
	t.Run("a panic of the connection", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(struct{ net.Conn }{}, bufsock.WithTimeout(bufsock.NoTimeout))
		for range 2 {
			require.Panics(t, func() { s.Recv(1) })
			require.Panics(t, func() { s.Send([]byte("abc")) })
		}
	})
}

// A liar returns counts that cannot be.
type liar struct{ *wire }

func (liar) Read(p []byte) (int, error) { return len(p) + 1, nil }

func (liar) Write(p []byte) (int, error) { return -1, nil }

// What ends a stream is returned again and again, and the connection is not
// asked any more. A connection may forget it.
func TestTheEndOfAStreamIsKept(t *testing.T) {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, &net.OpError{Op: "read", Err: net.ErrClosed}} {
		for _, with := range []string{"a", ""} {
			reads := []read{{"a", nil}, {"", end}, {"b", nil}}
			if with != "" {
				reads = []read{{"a", end}, {"b", nil}}
			}
			s := bufsock.NewBufferedSocket(&wire{reads: reads})
			_, err := s.Recv(1)
			require.NoError(t, err)
			for range 3 {
				_, err := s.Recv(1)
				require.Equal(t, end, err)
				_, err = s.Read(make([]byte, 1))
				require.Equal(t, end, err)
			}
		}
	}
}

// The counts that no connection may return, and those that are just possible.
func TestImpossibleCounts(t *testing.T) {
	for _, tt := range []struct {
		over     int // over the length of p
		negative bool
		fails    bool
	}{
		{over: 0},
		{over: 1, fails: true},
		{negative: true, fails: true},
	} {
		count := func(p []byte) (int, error) {
			if tt.negative {
				return -1, nil
			}
			return len(p) + tt.over, nil
		}
		s := bufsock.NewBufferedSocket(counting{count: count}, bufsock.WithReadSize(10))
		for name, call := range map[string]func() (int, error){
			"Recv": func() (int, error) { msg, err := s.Recv(10); return len(msg), err },
			"Read": func() (int, error) { return s.Read(make([]byte, 10)) },
			"Send": func() (int, error) { return s.Send(make([]byte, 10)) },
		} {
			n, err := call()
			if !tt.fails {
				require.NoError(t, err, name)
				require.Equal(t, 10, n, name)
				continue
			}
			require.ErrorContains(t, err, "bufsock: "+name+": the connection returned an impossible count")
			require.Zero(t, n, name)
		}
		if tt.fails {
			require.Zero(t, s.Buffered())
			require.Len(t, s.SendBuffer(), 10, "nothing was sent")
			_, err := s.Send(nil)
			require.ErrorIs(t, err, bufsock.ErrBroken)
		}
	}
}

// Deadlines that were set on a connection for a handshake do not stay.
func TestDeadlinesOfAConnectionBeforeAreLifted(t *testing.T) {
	stale := time.Unix(1, 0)
	for _, transport := range transports {
		if transport.name == "Pipe" {
			continue // its first receive with a timeout lifts them
		}
		for name, wrap := range map[string]func(conn net.Conn) *bufsock.BufferedSocket{
			"NewBufferedSocket": func(conn net.Conn) *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(conn) },
			"Upgrade": func(conn net.Conn) *bufsock.BufferedSocket {
				s := bufsock.NewBufferedSocket(segments())
				require.NoError(t, s.Upgrade(func(net.Conn) (net.Conn, error) { return conn, nil }))
				return s
			},
		} {
			t.Run(transport.name+" "+name, func(t *testing.T) {
				local, remote := transport.pair(t)
				require.NoError(t, local.SetDeadline(stale))
				s := wrap(local)
				_, err := s.Send([]byte("x"))
				require.NoError(t, err)
				_, err = s.Write([]byte("x"))
				require.NoError(t, err)
				_, err = remote.Write([]byte("abc"))
				require.NoError(t, err)
				_, err = s.Recv(1, bufsock.WithTimeout(bufsock.NoTimeout))
				require.NoError(t, err)
				n, err := s.Read(make([]byte, 2))
				require.NoError(t, err)
				require.Equal(t, 2, n)
			})
		}
	}
}

// A Unix connection that is no stream is read and written by its own methods,
// which keep messages apart.
func TestMessagesOfUnixgramAreKeptApart(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" || runtime.GOOS == "js" {
		return // they have none
	}
	name := filepath.Join(t.TempDir(), "s")
	local, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	defer local.Close()
	remote, err := net.Dial("unixgram", name)
	require.NoError(t, err)
	defer remote.Close()
	s := bufsock.NewBufferedSocket(&hooked{Conn: local})
	direct := bufsock.NewBufferedSocket(local)
	for _, s := range []*bufsock.BufferedSocket{s, direct} {
		for _, data := range []string{"first", "", "third"} {
			_, err = remote.Write([]byte(data))
			require.NoError(t, err)
		}
		// An empty message is no end of the stream: the connection's own Read
		// returns no error.
		msg, err := s.RecvSize(10)
		require.NoError(t, err)
		require.Equal(t, "firstthird", string(msg))
	}
}

// What others have done to the connection is reported as the connection does.
func TestAConnectionClosedBelowTheSocket(t *testing.T) {
	sockets(t, func(t *testing.T, local, _ net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		require.NoError(t, local.Close())
		for range 2 {
			_, err := s.Recv(1)
			require.IsType(t, (*net.OpError)(nil), err)
			require.ErrorIs(t, err, net.ErrClosed)
			require.Equal(t, "read", err.(*net.OpError).Op)
		}
		_, err := s.Send([]byte("abc"))
		require.IsType(t, (*net.OpError)(nil), err)
		require.ErrorIs(t, err, net.ErrClosed)
		require.Equal(t, "write", err.(*net.OpError).Op)
		require.Equal(t, local.LocalAddr(), err.(*net.OpError).Source)
		require.Equal(t, local.RemoteAddr(), err.(*net.OpError).Addr)
		require.Equal(t, local.LocalAddr().Network(), err.(*net.OpError).Net)
		require.Equal(t, "abc", string(s.SendBuffer()))
		require.Error(t, s.SetReadDeadline(time.Now()))
	})
}

// A connection that was never connected has no descriptor to work with.
func TestAnEmptyConnectionIsNoReasonToPanic(t *testing.T) {
	for _, conn := range []net.Conn{new(net.TCPConn), new(net.UnixConn)} {
		s := bufsock.NewBufferedSocket(conn)
		_, err := s.Recv(1, bufsock.WithTimeout(bufsock.NoTimeout))
		require.Error(t, err)
		_, err = s.Send([]byte("x"), bufsock.WithTimeout(bufsock.NoTimeout))
		require.Error(t, err)
		require.Equal(t, "x", string(s.SendBuffer()))
	}
}

// A connection that reports a deadline that nobody has set.
func TestSpuriousTimeout(t *testing.T) {
	s := bufsock.NewBufferedSocket(&wire{reads: []read{
		{"", os.ErrDeadlineExceeded}, {"a", os.ErrDeadlineExceeded}, {"b\n", nil},
	}})
	_, err := s.RecvUntil(lf)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	require.ErrorContains(t, err, "deadline exceeded", "not after 10s")
	msg, err := s.RecvUntil(lf)
	require.NoError(t, err, "the data first")
	require.Equal(t, "ab", string(msg))

	s = bufsock.NewBufferedSocket(&wire{reads: []read{{"", os.ErrDeadlineExceeded}, {strings.Repeat("a", 20_000), nil}}})
	into := bufsock.AppendTo(make([]byte, 0, 20_000))
	_, err = s.RecvSize(20_000, into)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err, "a large message, too")
	_, err = s.RecvSize(20_000, into)
	require.NoError(t, err)
}

// Only what ends a call for its time or a deadline is a *TimeoutError. A dead
// connection, or one that gave up for reasons of its own, is not.
func TestWhichTimeoutsOfTheConnectionAreTimeouts(t *testing.T) {
	deadline := os.ErrDeadlineExceeded
	tests := map[string]struct {
		err     error
		passed  bool // a deadline of the user has passed during the call
		timeout bool
	}{
		"a deadline":                           {&net.OpError{Op: "read", Err: deadline}, false, true},
		"a type of its own":                    {misleading{nil, true}, false, true},
		"a type of its own, past a deadline":   {misleading{nil, true}, true, true},
		"that matches it":                      {misleading{deadline, true}, false, true},
		"the end of a TLS session":             {misleading{deadline, false}, false, false},
		"the end of one, past a deadline":      {misleading{deadline, false}, true, true},
		"no timeout, past a deadline":          {errors.New("reset"), true, false},
		"one that says no, past a deadline":    {&net.OpError{Op: "read", Err: errors.New("reset")}, true, false},
		"a wrapped deadline":                   {fmt.Errorf("wrapped: %w", &net.OpError{Op: "read", Err: deadline}), false, true},
		"one that only matches":                {onlyMatches{deadline}, true, true},
		"around a wrapped deadline":            {&net.OpError{Op: "read", Err: fmt.Errorf("wrapped: %w", deadline)}, true, true},
		"one without Temporary, that matches":  {bareTimeout{deadline}, false, false},
		"one without Temporary, at a deadline": {bareTimeout{deadline}, true, true},
	}
	for name, tt := range tests {
		for op, call := range waiting {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				conn := &hooked{Conn: local}
				s := bufsock.NewBufferedSocket(conn)
				conn.read = func([]byte) (int, error) {
					if tt.passed {
						time.Sleep(time.Second)
					}
					return 0, tt.err
				}
				conn.write = conn.read
				if tt.passed {
					require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
				}
				err := call(s, bufsock.WithTimeout(time.Minute))
				if tt.timeout {
					e, ok := err.(*bufsock.TimeoutError)
					require.True(t, ok, "%s, %s: %T", name, op, err)
					require.Equal(t, tt.err, e.Err)
					require.ErrorContains(t, err, "deadline exceeded")
				} else {
					require.Equal(t, tt.err, err, "%s, %s", name, op)
				}
				// The methods of net.Conn return it in any case.
				_, err = s.Read(make([]byte, 1))
				if !tt.passed {
					require.Equal(t, tt.err, err, name)
				}
				s.Close()
				remote.Close()
			})
		}
	}
}

// A bareTimeout has nothing but what net.Error wants.
type bareTimeout struct{ error }

func (bareTimeout) Timeout() bool { return true }

func (e bareTimeout) Unwrap() error { return e.error }

func (e bareTimeout) Temporary() bool { return false }

// The own time of a call makes any error that says so a timeout, too.
func TestTimeoutOfTheConnectionAfterThatOfTheCall(t *testing.T) {
	for op, call := range waiting {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			conn := &hooked{Conn: local}
			s := bufsock.NewBufferedSocket(conn)
			misled := misleading{temporary: true}
			conn.read = func([]byte) (int, error) { time.Sleep(time.Second); return 0, misled }
			conn.write = conn.read
			err := call(s, bufsock.WithTimeout(time.Second))
			require.IsType(t, (*bufsock.TimeoutError)(nil), err, op)
			require.ErrorContains(t, err, "timed out after 1s")

			ctx, cancel := context.WithCancel(t.Context())
			conn.read = func([]byte) (int, error) { cancel(); return 0, misled }
			conn.write = conn.read
			require.ErrorIs(t, call(s, bufsock.WithContext(ctx)), context.Canceled, op)
			s.Close()
			remote.Close()
		})
	}
}

// What was transferred whole is no timeout, even if the connection says so.
func TestTransfersThatAreLateButDone(t *testing.T) {
	conn := &hooked{Conn: segments()}
	s := bufsock.NewBufferedSocket(conn, bufsock.WithReadSize(3))
	conn.read = func(p []byte) (int, error) { return copy(p, "abcdefgh"), os.ErrDeadlineExceeded }
	conn.write = func(p []byte) (int, error) { return len(p), os.ErrDeadlineExceeded }
	for range 2 {
		msg, err := s.RecvSize(3)
		require.NoError(t, err, "all that was asked for")
		require.Equal(t, "abc", string(msg))
		n, err := s.Send([]byte("abc"))
		require.NoError(t, err)
		require.Equal(t, 3, n)
		n, err = s.Send(make([]byte, 100_000))
		require.NoError(t, err)
		require.Equal(t, 100_000, n)
		n, err = s.Write([]byte("abc"))
		require.NoError(t, err)
		require.Equal(t, 3, n)
		require.Empty(t, s.SendBuffer())
	}
	conn.write = func(p []byte) (int, error) { return len(p) - 1, os.ErrDeadlineExceeded }
	n, err := s.Send([]byte("abc"))
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	require.Equal(t, 2, n)
	require.Equal(t, "c", string(s.SendBuffer()))
}
