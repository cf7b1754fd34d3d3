package bufsock_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A server that answers with Buffer makes one write for all requests that came
// together, and never waits with an answer in hand.
func TestFlushOncePerWait(t *testing.T) {
	for _, transport := range append(transports, wrappedTransport, duplexTransport) {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local, bufsock.WithFlush())
			served := make(chan error)
			go func() {
				var err error
				for msg, e := range s.Messages(lf) {
					err = errors.Join(err, e, s.Buffer(append(msg, "!\n"...)))
				}
				served <- err
			}()
			for _, requests := range []string{"a\n", "b\nc\nd\n", "e\n"} {
				_, err := remote.Write([]byte(requests))
				require.NoError(t, err)
				got := make([]byte, 100)
				n, err := remote.Read(got)
				require.NoError(t, err)
				require.Equal(t, strings.ReplaceAll(requests, "\n", "!\n"), string(got[:n]), "one write")
			}
			require.NoError(t, remote.Close())
			require.NoError(t, <-served)
			require.Zero(t, s.Unsent())
		})
	}
}

// Every receive flushes if it is told to and has to wait, and no other call does.
func TestWhatFlushes(t *testing.T) {
	type calls = map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error
	netConn := calls{
		"Read": func(s *bufsock.BufferedSocket, _ ...bufsock.Option) error {
			_, err := s.Read(make([]byte, 1))
			return err
		},
		"WriteTo": func(s *bufsock.BufferedSocket, _ ...bufsock.Option) error {
			_, err := s.WriteTo(io.Discard)
			return err
		},
		"io.Copy": func(s *bufsock.BufferedSocket, _ ...bufsock.Option) error {
			_, err := io.Copy(io.Discard, s)
			return err
		},
	}
	for name, tt := range map[string]struct {
		calls    calls
		ofSocket bool
		opts     []bufsock.Option
		buffered string // has come before
		flushes  bool
	}{
		"an option of the call":    {waiting, false, []bufsock.Option{bufsock.WithFlush()}, "", true},
		"an option of the socket":  {waiting, true, nil, "", true},
		"a part has come":          {waiting, true, nil, "9", true},
		"no option":                {waiting, false, nil, "", false},
		"NonBlocking":              {waiting, true, []bufsock.Option{bufsock.WithTimeout(bufsock.NonBlocking)}, "", false},
		"answered from the buffer": {waiting, true, nil, "1:x,\n", false},
		"the methods of net.Conn":  {netConn, true, nil, "", false},
	} {
		for op, call := range tt.calls {
			if isSend(op) {
				continue
			}
			atOnce := op == "Recv" || op == "RecvSize" || op == "Peek" || op == "Discard"
			needsEnd := op == "RecvClose" || op == "Messages" || op == "Tokens"
			flushes := tt.flushes
			switch tt.buffered {
			case "9":
				flushes = !atOnce
			case "1:x,\n":
				flushes = needsEnd
			}
			t.Run(name+", "+op, func(t *testing.T) {
				w := &wire{reads: []read{{"", nil}}}
				if tt.buffered != "" {
					w.reads = []read{{tt.buffered, nil}}
				}
				var opts []bufsock.Option
				if tt.ofSocket {
					opts = append(opts, bufsock.WithFlush())
				}
				s := bufsock.NewBufferedSocket(w, opts...)
				if tt.buffered != "" {
					_, err := s.Peek(len(tt.buffered))
					require.NoError(t, err)
				}
				require.NoError(t, s.Buffer([]byte("the ")))
				require.NoError(t, s.Buffer([]byte("answer")))
				call(s, tt.opts...)
				if flushes {
					require.Equal(t, []string{"the answer"}, w.writes)
					require.Zero(t, s.Unsent())
				} else {
					require.Empty(t, w.writes)
					require.Equal(t, "the answer", string(s.SendBuffer()))
				}
			})
		}
	}
}

// If sending fails, the receive fails with that error and has consumed nothing.
func TestAFlushThatFails(t *testing.T) {
	boom := errors.New("boom")
	for op, call := range waiting {
		if isSend(op) {
			continue
		}
		t.Run(op, func(t *testing.T) {
			w := &wire{limits: []int{3}, err: boom, reads: []read{{"9", nil}}}
			s := bufsock.NewBufferedSocket(w)
			require.NoError(t, s.Buffer([]byte("the answer")))
			require.Equal(t, boom, call(s, bufsock.WithFlush()))
			require.Equal(t, " answer", string(s.SendBuffer()))
			require.Empty(t, w.asked, "nothing was received")
			err := call(s, bufsock.WithFlush())
			require.ErrorIs(t, err, bufsock.ErrBroken, "nor is it now")
			require.ErrorIs(t, err, boom)
			require.ErrorContains(t, err, "bufsock: "+op+": ")
			msg, err := s.Recv(1)
			require.NoError(t, err, "but without a flush")
			require.Equal(t, "9", string(msg))
		})
	}
}

// A flush is bounded by the receive's timeout, context and the write deadline; an
// idle wait begins behind it.
func TestTimesOfAFlush(t *testing.T) {
	const sending = 4 * time.Second // takes the peer to read what is flushed
	for name, tt := range map[string]struct {
		reads    bool // the peer does
		idle     time.Duration
		deadline time.Duration // of writes
		cancel   time.Duration
		want     time.Duration
		text     string
	}{
		"the peer reads":                {reads: true, want: 10 * time.Second, text: "timed out after 10s"},
		"it does not":                   {want: 10 * time.Second, text: "timed out after 10s"},
		"it reads, and the call idles":  {reads: true, idle: time.Hour, want: sending + time.Hour, text: "idle for 1h0m0s"},
		"it does not read, and no idle": {idle: time.Hour, want: 10 * time.Second, text: "timed out after 10s"},
		"an idle timeout that is short": {reads: true, idle: time.Second, want: sending + time.Second, text: "idle for 1s"},
		"a write deadline":              {deadline: time.Second, want: time.Second, text: "deadline exceeded"},
		"a cancel":                      {cancel: time.Second, want: time.Second, text: "canceled"},
		"a cancel behind it":            {reads: true, cancel: 5 * time.Second, want: 5 * time.Second, text: "canceled"},
	} {
		for op, call := range waiting {
			if isSend(op) {
				continue
			}
			t.Run(name+", "+op, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					local, remote := net.Pipe()
					opts := []bufsock.Option{bufsock.WithFlush()}
					if tt.idle != 0 {
						opts = append(opts, bufsock.WithIdleTimeout(tt.idle))
					}
					s := bufsock.NewBufferedSocket(local, opts...)
					require.NoError(t, s.Buffer([]byte("the answer")))
					if tt.reads {
						time.AfterFunc(sending, func() { io.ReadFull(remote, make([]byte, 10)) })
					}
					if tt.deadline != 0 {
						require.NoError(t, s.SetWriteDeadline(time.Now().Add(tt.deadline)))
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if tt.cancel != 0 {
						time.AfterFunc(tt.cancel, cancel)
					}
					d, err := elapsed(func() error { return call(s, bufsock.WithContext(ctx)) })
					require.Equal(t, tt.want, d)
					require.ErrorContains(t, err, "bufsock: "+op+": "+tt.text)
					require.Equal(t, !tt.reads, s.Unsent() > 0)
					s.Close()
					remote.Close()
				})
			})
		}
	}
}

// A flush in the middle of a call has what is left of its time.
func TestAFlushInTheMiddleOfACallHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithFlush(), bufsock.WithTimeout(10*time.Second))
		time.AfterFunc(3*time.Second, func() { s.Buffer([]byte("not read")) })
		time.AfterFunc(4*time.Second, func() { remote.Write([]byte("a part")) })
		d, err := elapsed(func() error { _, err := s.RecvUntil(lf); return err })
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.Equal(t, 10*time.Second, d)
		require.Equal(t, "a part", string(s.RecvBuffer()))
		s.Close()
		remote.Close()
	})
}

// Who has the turn to send sends what is buffered; the receive goes on without.
func TestAFlushDoesNotWaitForASend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		sent := make(chan error)
		require.NoError(t, s.Buffer([]byte("buffered ")))
		go func() { _, err := s.Send([]byte("and sent")); sent <- err }()
		synctest.Wait()
		go remote.Write([]byte("line\n"))
		d, err := elapsed(func() error { _, err := s.RecvUntil(lf, bufsock.WithFlush()); return err })
		require.NoError(t, err)
		require.Zero(t, d)
		got := make([]byte, len("buffered and sent"))
		_, err = io.ReadFull(remote, got)
		require.NoError(t, err)
		require.Equal(t, "buffered and sent", string(got))
		require.NoError(t, <-sent)
		s.Close()
		remote.Close()
	})
}

func TestNetstringsFlush(t *testing.T) {
	w := segments("1:a,1:b,", "1:c,")
	ns := bufsock.NewNetstringSocket(w, bufsock.WithFlush())
	for payload, err := range ns.Messages() {
		require.NoError(t, err)
		require.NoError(t, ns.Socket().Buffer(bufsock.AppendNetstring(nil, payload)))
	}
	require.Equal(t, []string{"1:a,1:b,", "1:c,"}, w.writes)
	_, err := ns.DiscardNetstring(bufsock.WithFlush())
	require.ErrorIs(t, err, io.EOF)
}

// Deadlines that a connection refuses to lift do not stay for the next call.
func TestADeadlineThatIsNotLiftedIsLiftedByTheNextCall(t *testing.T) {
	for op, call := range waiting {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			conn := &hooked{Conn: local}
			s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(bufsock.NoTimeout))
			lift := func(set func(time.Time) error) func(time.Time) error {
				return func(at time.Time) error {
					if at.IsZero() {
						return os.ErrNoDeadline
					}
					return set(at)
				}
			}
			conn.readDeadline, conn.writeDeadline = lift(local.SetReadDeadline), lift(local.SetWriteDeadline)
			d, err := elapsed(func() error { return call(s, bufsock.WithTimeout(time.Second)) })
			require.Equal(t, time.Second, d, op)
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			conn.readDeadline, conn.writeDeadline = nil, nil
			time.AfterFunc(time.Minute, func() {
				go io.Copy(io.Discard, remote)
				remote.Write([]byte("1:\n,\n"))
				time.Sleep(time.Second)
				remote.Close()
			})
			_, err = elapsed(func() error { return call(s) })
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, op)
			s.Close()
			time.Sleep(time.Hour)
		})
	}
}

// A connection that refuses deadlines serves calls without a bound. One with a
// timeout or a context cannot be bounded, and so fails at once.
func TestAConnectionThatRefusesDeadlines(t *testing.T) {
	refused := errors.New("deadline not supported")
	refuse := func(time.Time) error { return refused }
	for op, call := range waiting {
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(&hooked{Conn: local, readDeadline: refuse, writeDeadline: refuse})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for name, opts := range map[string][]bufsock.Option{
				"the timeout":          nil,
				"WithTimeout":          {bufsock.WithTimeout(time.Hour)},
				"a context":            {bufsock.WithTimeout(bufsock.NoTimeout), bufsock.WithContext(ctx)},
				"a context, a timeout": {bufsock.WithContext(ctx)},
				"NonBlocking":          {bufsock.WithTimeout(bufsock.NonBlocking)},
			} {
				d, err := elapsed(func() error { return call(s, opts...) })
				require.Equal(t, refused, err, "%s, %s", op, name)
				require.Zero(t, d)
			}
			if isSend(op) {
				require.Positive(t, s.Unsent(), "what was to be sent is kept")
			}
			time.AfterFunc(time.Minute, func() {
				go io.Copy(io.Discard, remote)
				remote.Write([]byte("1:\n,\n"))
				remote.Close()
			})
			d, err := elapsed(func() error {
				return call(s, bufsock.WithTimeout(bufsock.NoTimeout), bufsock.WithContext(context.Background()))
			})
			require.NoError(t, err, op)
			require.Equal(t, time.Minute, d)
			s.Close()
		})
	}
}

// A timeout error that is no net.Error, or wraps one, is one all the same.
func TestTimeoutsOfTheConnectionThatAreNoNetErrors(t *testing.T) {
	for name, odd := range map[string]error{
		"with a method Timeout alone": oddTimeout{},
		"that wraps a deadline":       wrappedTimeout{},
	} {
		for op, call := range waiting {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				conn := &hooked{Conn: local}
				s := bufsock.NewBufferedSocket(conn)
				replace := func(n int, err error) (int, error) {
					if errors.Is(err, os.ErrDeadlineExceeded) {
						err = odd
					}
					return n, err
				}
				conn.read = func(p []byte) (int, error) { return replace(local.Read(p)) }
				conn.write = func(p []byte) (int, error) { return replace(local.Write(p)) }
				for range 2 {
					err := call(s, bufsock.WithTimeout(time.Second))
					require.IsType(t, (*bufsock.TimeoutError)(nil), err, "%s, %s", op, name)
					stop := errors.New("stop")
					ctx, cancel := context.WithCancelCause(t.Context())
					time.AfterFunc(time.Second, func() { cancel(stop) })
					d, err := elapsed(func() error { return call(s, bufsock.WithContext(ctx)) })
					require.ErrorIs(t, err, stop, "%s, %s", op, name)
					require.Equal(t, time.Second, d)
					require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
					err = call(s)
					require.IsType(t, (*bufsock.TimeoutError)(nil), err, "%s, %s", op, name)
					require.NoError(t, s.SetDeadline(time.Time{}))
				}
				s.Close()
				remote.Close()
			})
		}
	}
}

type (
	oddTimeout     struct{}
	wrappedTimeout struct{}
)

func (oddTimeout) Error() string     { return "timeout" }
func (oddTimeout) Timeout() bool     { return true }
func (wrappedTimeout) Error() string { return "no time left" }
func (wrappedTimeout) Unwrap() error { return os.ErrDeadlineExceeded }

// What is read into memory of the caller is buffered until the call returns.
func TestBufferedCountsWhatIsReadIntoMemoryOfTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, before := range []int{0, 1, 600} {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(local)
			content := bytes.Repeat([]byte("0123456789"), 10_000)
			if before > 0 {
				go remote.Write(content[:before])
				_, err := s.Peek(before)
				require.NoError(t, err)
			}
			received := make(chan error)
			go func() {
				_, err := s.RecvSize(len(content), bufsock.AppendTo(make([]byte, 0, len(content))), bufsock.WithTimeout(time.Minute))
				received <- err
			}()
			for n := before; n < 50_000; n += 10_000 {
				_, err := remote.Write(content[n : n+10_000])
				require.NoError(t, err)
				synctest.Wait()
				require.Equal(t, n+10_000, s.Buffered())
				require.True(t, bytes.Equal(content[:n+10_000], s.RecvBuffer()))
			}
			err := <-received
			require.Equal(t, s.Buffered(), err.(*bufsock.TimeoutError).Buffered)
			s.Close()
			remote.Close()
		}
	})
}

func TestNonBlockingTakesWhatHasArrived(t *testing.T) {
	now := bufsock.WithTimeout(bufsock.NonBlocking)
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			_, err := s.RecvUntil(lf, now)
			require.ErrorIs(t, err, bufsock.ErrWouldBlock)
			go remote.Write([]byte("ab\ncd"))
			var msg []byte
			for msg == nil { // it is on its way
				msg, err = s.RecvUntil(lf, now)
				if err != nil {
					require.ErrorIs(t, err, bufsock.ErrWouldBlock)
				}
			}
			require.Equal(t, "ab", string(msg))
		})
	}
}

// The connection itself must not meet a deadline that a call has left behind.
func TestNoDeadlineIsLeftOnTheDescriptor(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		_, err := s.RecvUntil(lf, bufsock.WithTimeout(time.Millisecond))
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err = s.RecvUntil(lf, bufsock.WithContext(ctx))
		require.ErrorIs(t, err, context.Canceled)
		time.AfterFunc(5*time.Millisecond, func() { remote.Write([]byte("x")) })
		_, err = local.Read(make([]byte, 1))
		require.NoError(t, err)
	})
}

func TestTimeoutsOnDescriptors(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		expect := func(err error) {
			t.Helper()
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
		_, err := s.RecvSize(3, bufsock.WithTimeout(time.Millisecond))
		expect(err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err = s.RecvSize(3, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
		expect(err)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Millisecond)))
		_, err = s.RecvSize(3, bufsock.WithTimeout(bufsock.NoTimeout))
		expect(err)
		_, err = s.RecvSize(3, bufsock.WithTimeout(bufsock.NonBlocking))
		expect(err)
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		_, err = s.Read(make([]byte, 3))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)

		require.NoError(t, s.SetReadDeadline(time.Time{}))
		blocked := make(chan error)
		go func() { _, err := s.RecvSize(3, bufsock.WithTimeout(bufsock.NoTimeout)); blocked <- err }()
		require.NoError(t, s.SetReadDeadline(time.Now().Add(2*time.Millisecond)))
		expect(<-blocked)

		require.NoError(t, s.SetReadDeadline(time.Time{}))
		_, err = remote.Write([]byte("abc"))
		require.NoError(t, err)
		msg, err := s.RecvSize(3)
		require.NoError(t, err)
		require.Equal(t, "abc", string(msg))
	})
}

// A NonBlocking call takes all that is there, also if a split function takes
// longer for a part of it than such a call may wait.
func TestNonBlockingGoesOnBehindASlowSplitFunction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithReadSize(4), bufsock.WithTimeout(bufsock.NonBlocking))
		go remote.Write([]byte("abcdefghijkl"))
		synctest.Wait()
		token, err := s.RecvSplit(func(data []byte, _ bool) (int, []byte, error) {
			time.Sleep(2 * time.Millisecond)
			if len(data) < 12 {
				return 0, nil, nil
			}
			return 12, data[:12], nil
		})
		require.NoError(t, err)
		require.Equal(t, "abcdefghijkl", string(token))
		s.Close()
		remote.Close()
	})
}

// What has come with what was asked for needs no wait, and so no flush before:
// all answers to requests that came together are one write, however small the
// memory is that a wait begins with.
func TestRequestsThatCameTogetherAreAnsweredTogether(t *testing.T) {
	const requests = 100
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){
		"TCP": tcpPair, "TLS": tlsPair, "pipe": pipePair, "wrapped": wrappedTransport.pair,
	} {
		t.Run(name, func(t *testing.T) {
			local, remote := pair(t)
			s := bufsock.NewBufferedSocket(local, bufsock.WithFlush())
			var group sync.WaitGroup
			group.Go(func() {
				for msg, err := range s.Messages(lf) {
					if err != nil || s.Buffer(append(msg, "!\n"...)) != nil {
						return
					}
				}
			})
			for range 3 {
				_, err := io.WriteString(remote, strings.Repeat("request 9\n", requests))
				require.NoError(t, err)
				got := make([]byte, 2*requests*len("request 9!\n"))
				n, err := remote.Read(got)
				require.NoError(t, err)
				require.Equal(t, strings.Repeat("request 9!\n", requests), string(got[:n]), "one write")
			}
			remote.Close()
			group.Wait()
		})
	}
}
