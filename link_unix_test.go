//go:build unix

package bufsock_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// breakOff ends a connection at the end of the peer so that the kernel resets it.
func breakOff(t testing.TB, remote net.Conn) {
	if c, ok := remote.(*tls.Conn); ok {
		remote = c.NetConn()
	}
	if c, ok := remote.(*net.TCPConn); ok {
		require.NoError(t, c.SetLinger(0))
	}
	require.NoError(t, remote.Close())
}

// A send that has returned is not inside the connection any more: an end behind
// it waits for nobody, of ten tries at least once.
func TestAnEndDoesNotWaitForASendThatHasReturned(t *testing.T) {
	const patience = 100 * time.Millisecond // with one that is
	shortest := patience
	for range 10 {
		local, remote := unixPair(t)
		s := bufsock.NewBufferedSocket(local)
		_, err := s.Send([]byte("x"))
		require.NoError(t, err)
		_, err = remote.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, remote.Close())
		d, err := elapsed(func() error { _, err := s.RecvClose(); return err })
		require.NoError(t, err)
		shortest = min(shortest, d)
		s.Close()
	}
	require.Less(t, shortest, patience)
}

// errnos are errors by which a kernel tells that a connection is dead.
var errnos = []syscall.Errno{
	syscall.ECONNRESET, syscall.ECONNABORTED, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
	syscall.EACCES, syscall.EPERM, syscall.EINVAL, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EIO,
}

// The kernel reports an error once, and then the end of the stream.
func TestAnEndBehindAnErrorOfTheKernelIsNone(t *testing.T) {
	for _, errno := range errnos {
		for op, call := range receiving() {
			reported := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", errno)}
			s := bufsock.NewBufferedSocket(&wire{reads: []read{{"", reported}}})
			for range 3 {
				require.Equal(t, error(reported), call(s), "%s, %v", op, errno)
			}
		}
	}
}

var errTunnel = errors.New("the tunnel is down")

// What an error of a send tells of the other direction: nothing, unless it is
// one of the operating system, which reports that a connection is dead once.
func TestErrorsOfASendThatAreErrorsOfAReceive(t *testing.T) {
	unnumbered := errors.New("connection was refused") // as gvisor reports it
	type test struct {
		met    error // by the send
		cause  error // of the receives; nil: they find the end
		closed bool  // by our own CloseWrite before
	}
	tests := map[string]test{
		"a *net.OpError without an errno":  {&net.OpError{Op: "write", Net: "tcp", Err: unnumbered}, unnumbered, false},
		"the same, wrapped":                {fmt.Errorf("tunnel: %w", &net.OpError{Op: "write", Err: unnumbered}), unnumbered, false},
		"the same, beside another":         {errors.Join(&net.OpError{Op: "write", Err: unnumbered}, errTunnel), errTunnel, false},
		"a wrapped errno":                  {fmt.Errorf("tunnel: %w", syscall.ENETDOWN), syscall.ENETDOWN, false},
		"a broken pipe":                    {syscall.EPIPE, nil, false},
		"a broken pipe as net reports it":  {&net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}, nil, false},
		"a reset after our own CloseWrite": {syscall.ECONNRESET, nil, true},
		"another error":                    {errors.New("stopped"), nil, false},
	}
	for _, errno := range errnos {
		tests[errno.Error()] = test{errno, errno, false}
		tests[errno.Error()+", as net reports it"] = test{
			&net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", errno)}, errno, false,
		}
	}
	for name, tt := range tests {
		for op, send := range sending {
			t.Run(op+", "+name, func(t *testing.T) {
				w := &wire{limits: []int{0}, err: tt.met, reads: []read{{"half a mess", nil}}}
				s := bufsock.NewBufferedSocket(halfCloser{w})
				if tt.closed {
					require.NoError(t, s.CloseWrite())
				}
				_, err := send(s, []byte("x"))
				require.ErrorIs(t, err, tt.met)
				for range 2 {
					msg, err := s.RecvClose()
					if tt.cause == nil {
						require.NoError(t, err)
						require.Equal(t, "half a mess", string(msg))
						return
					}
					require.ErrorIs(t, err, tt.cause)
					require.IsType(t, (*net.OpError)(nil), err)
					op := err.(*net.OpError)
					require.Equal(t, "read", op.Op)
					if met, ok := tt.met.(*net.OpError); ok {
						require.IsType(t, met.Err, op.Err)
					}
					require.NotContains(t, err.Error(), "write")
					require.Empty(t, msg)
					require.Equal(t, "half a mess", string(s.RecvBuffer()))
				}
			})
		}
	}
}

// A halfCloser can close its writing side.
type halfCloser struct{ *wire }

func (halfCloser) CloseWrite() error { return nil }

// Nor does it matter which call of which connection has met a reset, or whether
// it was one of net.Conn.
func TestAResetThatAnySendMetIsNoEnd(t *testing.T) {
	for _, transport := range []transport{{"TCP", tcpPair}, wrappedTransport, {"TLS", tlsPair}, {"Unix", unixPair}} {
		for op, send := range sending {
			for _, size := range []int{1, 100_000} {
				t.Run(fmt.Sprintf("%s, %s of %d", transport.name, op, size), func(t *testing.T) {
					local, remote := transport.pair(t)
					s := bufsock.NewBufferedSocket(local)
					_, err := remote.Write([]byte("half a mess"))
					require.NoError(t, err)
					_, err = s.Peek(11)
					require.NoError(t, err)
					_, err = s.Write([]byte("not read")) // by which a Unix socket is reset, too
					require.NoError(t, err)
					breakOff(t, remote)
					for err == nil {
						_, err = send(s, make([]byte, size))
					}
					for range 2 {
						msg, err := s.RecvClose()
						require.ErrorIs(t, err, syscall.ECONNRESET)
						require.Empty(t, msg)
						_, err = s.RecvUntil(lf)
						require.ErrorIs(t, err, syscall.ECONNRESET)
					}
					w := &bytes.Buffer{}
					_, err = io.Copy(w, s)
					require.ErrorIs(t, err, syscall.ECONNRESET)
					require.Equal(t, "half a mess", w.String(), "what came before")
					_, err = s.Recv(1)
					require.ErrorIs(t, err, syscall.ECONNRESET)
				})
			}
		}
	}
}

// A goroutine waits for the end of an answer when another's send is the call
// that the kernel tells of the reset. Rounds: see repeat.
func TestResetInARaceOfBothDirectionsIsNoEnd(t *testing.T) {
	for _, transport := range []transport{{"TCP", tcpPair}, wrappedTransport, {"TLS", tlsPair}} {
		t.Run(transport.name, func(t *testing.T) {
			repeat(t, 100, func(t *testing.T, r *rand.Rand) {
				local, remote := transport.pair(t)
				s := bufsock.NewBufferedSocket(local)
				sent := make(chan struct{})
				sizes := rand.New(rand.NewPCG(r.Uint64(), 1))
				go func() {
					defer close(sent)
					for err := error(nil); err == nil; {
						_, err = s.Send(make([]byte, 1+sizes.IntN(2000)))
					}
				}()
				_, err := remote.Write([]byte("half an answer"))
				require.NoError(t, err)
				for range r.IntN(4) {
					_, err := remote.Read(make([]byte, 500))
					require.NoError(t, err)
				}
				breakOff(t, remote)
				msg, err := s.RecvClose()
				require.Error(t, err, "%q passes for whole", msg)
				<-sent
				s.Close()
			})
		})
	}
}

// The kernel's ETIMEDOUT says that it is a timeout, but no deadline has passed.
func TestETIMEDOUTAtTheEndOfACallsTime(t *testing.T) {
	for op, call := range receiving() {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			conn := &hooked{Conn: local}
			given := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
			conn.read = func([]byte) (int, error) {
				conn.read = func([]byte) (int, error) { return 0, io.EOF }
				time.Sleep(time.Second)
				return 0, given
			}
			s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(time.Second))
			for range 3 {
				require.Equal(t, error(given), call(s), op)
			}
			s.Close()
			remote.Close()
		})
	}
}

// TestAProxyReportsACutAnswer copies both ways between a client that uploads and
// a server that breaks off in the middle of its answer.
func TestAProxyReportsACutAnswer(t *testing.T) {
	copies := map[string]func(to, from *bufsock.BufferedSocket) error{
		"io.Copy":  func(to, from *bufsock.BufferedSocket) error { _, err := io.Copy(to, from); return err },
		"ReadFrom": func(to, from *bufsock.BufferedSocket) error { _, err := to.ReadFrom(from); return err },
		"wrapped": func(to, from *bufsock.BufferedSocket) error {
			_, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
			return err
		},
	}
	for _, transport := range []transport{{"TCP", tcpPair}, wrappedTransport} {
		for how, copied := range copies {
			t.Run(transport.name+", "+how, func(t *testing.T) {
				repeat(t, 50, func(t *testing.T, r *rand.Rand) {
					front, client := transport.pair(t)
					back, server := transport.pair(t)
					a, b := bufsock.NewBufferedSocket(front), bufsock.NewBufferedSocket(back)
					up := make(chan struct{})
					go func() { copied(b, a); close(up) }()
					uploading := make(chan struct{})
					sizes := rand.New(rand.NewPCG(r.Uint64(), 1))
					go func() {
						defer close(uploading)
						for err := error(nil); err == nil; {
							_, err = client.Write(make([]byte, 1+sizes.IntN(4000)))
						}
					}()
					go io.Copy(io.Discard, client)
					_, err := server.Write([]byte(strings.Repeat("half an answer ", 10)))
					require.NoError(t, err)
					for range r.IntN(4) {
						_, err := server.Read(make([]byte, 1000))
						require.NoError(t, err)
					}
					down := make(chan error)
					go func() { down <- copied(a, b) }()
					breakOff(t, server)
					require.Error(t, <-down, "a cut answer passes for whole")
					a.Close()
					b.Close()
					<-up
					<-uploading
				})
			})
		}
	}
}
