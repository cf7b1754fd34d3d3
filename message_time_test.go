package bufsock_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clockTick is that of the clock of some systems.
const clockTick = 16 * time.Millisecond

// inBubble runs f in a synctest bubble, with a socket on one end of a net.Pipe.
func inBubble(t *testing.T, f func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn), opts ...bufsock.Option) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		defer local.Close()
		defer remote.Close()
		f(t, bufsock.NewBufferedSocket(local, opts...), remote)
	})
}

// dribble sends the stream, a byte after each pause.
func dribble(conn net.Conn, stream string, pause time.Duration) {
	for i := range len(stream) {
		time.Sleep(pause)
		if _, err := io.WriteString(conn, stream[i:i+1]); err != nil {
			return
		}
	}
}

// One deadline bounds all steps together, however many there are and however
// the bytes trickle in.
func TestRecvFuncHasOneDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
		go dribble(peer, "ab\ncd\nef\n", 3*time.Second)
		steps := []step{until("\n"), next(1), until("\n"), peek(2), until("\n")}
		var parts []string
		d, err := elapsed(func() error { return s.RecvFunc(followed(&parts, steps...), bufsock.WithTimeout(10*time.Second)) })
		require.Equal(t, 10*time.Second, d)
		e, ok := err.(*bufsock.TimeoutError)
		require.True(t, ok, "%T: %v", err, err)
		require.Equal(t, []any{"RecvFunc", 10 * time.Second, 3}, []any{e.Op, e.After, e.Buffered})
		require.Equal(t, "ab\n", string(s.RecvBuffer()))

		// The call made again does not wait for what has come.
		d, err = elapsed(func() error { return s.RecvFunc(followed(&parts, steps...), bufsock.WithTimeout(time.Minute)) })
		require.NoError(t, err)
		require.Equal(t, 17*time.Second, d)
		require.Equal(t, []string{"ab", "c", "d", "ef", "ef"}, parts)
	})
}

// The time that the function itself takes counts, from the start of the call.
func TestRecvFuncTimeoutBeginsWithTheCall(t *testing.T) {
	for name, opts := range map[string][]bufsock.Option{
		"timeout":          {bufsock.WithTimeout(10 * time.Second)},
		"and idle timeout": {bufsock.WithTimeout(10 * time.Second), bufsock.WithIdleTimeout(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
				go io.WriteString(peer, "ab")
				_, err := s.Peek(2)
				require.NoError(t, err)
				d, err := elapsed(func() error {
					return s.RecvFunc(func(m *bufsock.Message) error {
						if _, err := m.Next(1); err != nil {
							return err
						}
						time.Sleep(4 * time.Second)
						_, err := m.Next(2)
						return err
					}, opts...)
				})
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.Equal(t, 10*time.Second, d)
			})
		})
	}
}

// After a step whose time was up others get what is there, and do not wait.
func TestRecvFuncAfterATimeoutTakesWhatIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
		go io.WriteString(peer, "ab")
		d, err := elapsed(func() error {
			return s.RecvFunc(func(m *bufsock.Message) error {
				_, err := m.Until(lf)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				_, err = m.Next(3)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				part, err := m.Next(2)
				require.Equal(t, "ab", string(part))
				return err
			}, bufsock.WithTimeout(time.Second))
		})
		require.NoError(t, err)
		require.Equal(t, time.Second, d)
		require.Zero(t, s.Buffered())
	})
}

// The idle timeout covers the wait for the first byte, and then the timeout
// begins, once for all steps.
func TestRecvFuncIdle(t *testing.T) {
	inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
		var parts []string
		call := func(opts ...bufsock.Option) (time.Duration, error) {
			return elapsed(func() error { return s.RecvFunc(followed(&parts, next(1), until("\n"), next(1)), opts...) })
		}
		d, err := call()
		require.Equal(t, time.Hour, d)
		require.ErrorContains(t, err, "idle for 1h0m0s")
		d, err = call(bufsock.WithTimeout(time.Second))
		require.Equal(t, time.Second, d, "a timeout of the call sets it aside")
		require.NotContains(t, err.Error(), "idle")

		start := time.Now()
		go func() {
			time.Sleep(50 * time.Minute)
			dribble(peer, "abcdefg", 3*time.Second)
		}()
		_, err = call()
		require.Equal(t, 50*time.Minute+13*time.Second, time.Since(start))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NotContains(t, err.Error(), "idle")

		d, err = call() // in the middle of a message it is not idle
		require.Equal(t, 10*time.Second, d)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		go io.WriteString(peer, "\n!")
		_, err = call()
		require.NoError(t, err)
		require.Equal(t, []string{"a", "bcdefg", "!"}, parts)
	}, bufsock.WithIdleTimeout(time.Hour))
}

// An idle wait begins behind the flush, which has the timeout for itself.
func TestRecvFuncIdleBeginsBehindTheFlush(t *testing.T) {
	inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
		var parts []string
		opts := []bufsock.Option{bufsock.WithIdleTimeout(20 * time.Second), bufsock.WithFlush()}
		require.NoError(t, s.Buffer([]byte("answer\n")))
		d, err := elapsed(func() error { return s.RecvFunc(followed(&parts, next(1)), opts...) })
		require.Equal(t, 10*time.Second, d, "the peer does not read")
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, "answer\n", string(s.SendBuffer()))

		go func() {
			time.Sleep(5 * time.Second)
			io.ReadFull(peer, make([]byte, len("answer\n")))
		}()
		d, err = elapsed(func() error { return s.RecvFunc(followed(&parts, next(1)), opts...) })
		require.Equal(t, 25*time.Second, d)
		require.ErrorContains(t, err, "idle for 20s")
	})
}

// What is to be sent goes out before a step waits, what the function itself has
// buffered included, and never if none waits.
func TestRecvFuncFlushes(t *testing.T) {
	local, remote := tcpPair(t)
	s, peer := bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(remote)
	require.NoError(t, s.Buffer([]byte("login\n")))
	var serving sync.WaitGroup
	serving.Go(func() {
		for _, turn := range []string{"login", "go ahead"} {
			line, err := peer.RecvUntil(lf)
			assert.NoError(t, err)
			assert.Equal(t, turn, string(line))
			_, err = peer.Send([]byte("x {4}\nbody"))
			assert.NoError(t, err)
		}
	})
	read := func(m *bufsock.Message) error {
		for range 2 {
			if _, err := m.Until(lf); err != nil {
				return err
			}
			if err := s.Buffer([]byte("go ahead\n")); err != nil {
				return err
			}
			if _, err := m.Next(4); err != nil {
				return err
			}
		}
		return nil
	}
	require.NoError(t, s.RecvFunc(read, bufsock.WithFlush()))
	serving.Wait()
	require.Equal(t, "go ahead\n", string(s.SendBuffer()), "the last was not waited behind")
}

// The function may send, though not receive.
func TestRecvFuncMaySend(t *testing.T) {
	inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
		go func() {
			p := bufsock.NewBufferedSocket(peer)
			p.Send([]byte("{3}\n"))
			line, _ := p.RecvUntil(lf)
			p.Send(append([]byte("abc for "), line...))
		}()
		require.NoError(t, s.RecvFunc(func(m *bufsock.Message) error {
			if _, err := m.Until(lf); err != nil {
				return err
			}
			if _, err := s.Send([]byte("+ OK\n")); err != nil {
				return err
			}
			part, err := m.Next(12)
			require.Equal(t, "abc for + OK", string(part))
			return err
		}))
	})
}

// A receive in the function waits for the turn that its own call has, within its
// own timeout. Who only looks does not wait.
func TestRecvFuncThatReceivesItself(t *testing.T) {
	inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
		go io.WriteString(peer, "abc\n")
		require.NoError(t, s.RecvFunc(func(m *bufsock.Message) error {
			_, err := m.Next(1)
			require.NoError(t, err)
			for op, call := range waiting {
				d, err := elapsed(func() error { return call(s, bufsock.WithTimeout(time.Second)) })
				require.Equal(t, time.Second, d, op)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded, op)
			}
			require.Equal(t, 4, s.Buffered())
			require.Equal(t, "abc\n", string(s.RecvBuffer()))
			return nil
		}, bufsock.WithTimeout(time.Hour)))
		require.Equal(t, "bc\n", string(s.RecvBuffer()))
	})
}

// No other receive comes in between two steps.
func TestRecvFuncIsOneTurn(t *testing.T) {
	inBubble(t, func(t *testing.T, s *bufsock.BufferedSocket, peer net.Conn) {
		var receiving sync.WaitGroup
		var mu sync.Mutex
		var lines []string
		for range 4 {
			receiving.Go(func() {
				var parts []string
				assert.NoError(t, s.RecvFunc(followed(&parts, until("\n"), until("\n"))))
				mu.Lock()
				lines = append(lines, parts...)
				mu.Unlock()
			})
		}
		synctest.Wait()
		go dribble(peer, "1\n2\n3\n4\n5\n6\n7\n8\n", time.Millisecond)
		receiving.Wait()
		require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8"}, lines)
	})
}

// A cancel ends the call between two steps, too, and takes nothing; bytes that
// have arrived win over it.
func TestRecvFuncIsCanceled(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		_, err := io.WriteString(remote, "$3\r\nab")
		require.NoError(t, err)
		cause := errors.New("not wanted any more")
		ctx, cancel := context.WithCancelCause(context.Background())
		var parts []string
		err = s.RecvFunc(followed(&parts, until("\r\n"), func(m *bufsock.Message) (string, error) {
			_, err := m.Peek(2)
			cancel(cause)
			return "", err
		}, next(3)), bufsock.WithContext(ctx))
		require.ErrorIs(t, err, cause)
		require.Equal(t, "$3\r\nab", string(s.RecvBuffer()))

		_, err = io.WriteString(remote, "c+OK\r\n")
		require.NoError(t, err)
		_, err = s.Peek(8)
		require.NoError(t, err)
		require.NoError(t, s.RecvFunc(followed(&parts, until("\r\n"), next(3)), bufsock.WithContext(ctx)))
		assertParts(t, []string{"+OK"}, s, until("\r\n"))
	})
}

// With NonBlocking it is a whole message, if one is there.
func TestRecvFuncNonBlocking(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			if transport.name == "Pipe" {
				return // what is there cannot be known
			}
			local, remote := transport.pair(t)
			s, peer := bufsock.NewBufferedSocket(local), remote
			now := bufsock.WithTimeout(bufsock.NonBlocking)
			var parts []string
			read := followed(&parts, until("\r\n"), next(3))
			_, err := io.WriteString(peer, "$3\r\nab")
			require.NoError(t, err)
			_, err = s.Peek(6)
			require.NoError(t, err)
			require.ErrorIs(t, s.RecvFunc(read, now), bufsock.ErrWouldBlock)
			_, err = io.WriteString(peer, "c")
			require.NoError(t, err)
			require.Eventually(t, func() bool { return s.RecvFunc(read, now) == nil }, 10*time.Second, time.Millisecond)
			require.Equal(t, []string{"$3", "abc"}, parts)
		})
	}
}
