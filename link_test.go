package bufsock_test

import (
	"bytes"
	"errors"
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
