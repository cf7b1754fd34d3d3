package bufsock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// While an Upgrade waits for one side the other goes on.
func TestAnUpgradeThatWaitsForOneSideDoesNotHoldUpTheOther(t *testing.T) {
	begin := func(t *testing.T, call func(s *bufsock.BufferedSocket)) (s *bufsock.BufferedSocket, remote net.Conn, upgraded chan error) {
		local, remote := duplexPair()
		s = bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		go call(s)
		synctest.Wait()
		upgraded = make(chan error, 1)
		go func() { upgraded <- s.Upgrade(rewrap) }()
		synctest.Wait()
		return s, remote, upgraded
	}
	soon := bufsock.WithTimeout(time.Second)
	t.Run("a send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, remote, upgraded := begin(t, func(s *bufsock.BufferedSocket) {
				s.Send([]byte("not read"), bufsock.WithTimeout(time.Hour))
			})
			for range 20 { // more than a call may be overtaken
				go remote.Write([]byte("line\nmore"))
				d, err := elapsed(func() error { _, err := s.RecvUntil(lf, soon); return err })
				require.NoError(t, err)
				require.Zero(t, d)
				d, err = elapsed(func() error { _, err := s.RecvSize(4, soon); return err }) // from the buffer
				require.NoError(t, err)
				require.Zero(t, d)
			}
			d, err := elapsed(func() error { return <-upgraded })
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			require.Equal(t, time.Minute, d, "within the timeout")
			go io.Copy(io.Discard, remote)
			synctest.Wait()
			require.NoError(t, s.Upgrade(rewrap))
			s.Close()
			remote.Close()
		})
	})
	t.Run("a receive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, remote, upgraded := begin(t, func(s *bufsock.BufferedSocket) {
				s.RecvUntil(lf, bufsock.WithTimeout(time.Hour))
			})
			go io.Copy(io.Discard, remote)
			for range 20 {
				d, err := elapsed(func() error { _, err := s.Send([]byte("x"), soon); return err })
				require.NoError(t, err)
				require.Zero(t, d)
			}
			_, err := remote.Write(lf)
			require.NoError(t, err)
			d, err := elapsed(func() error { return <-upgraded })
			require.NoError(t, err)
			require.Zero(t, d, "as soon as both sides are free")
			s.Close()
			remote.Close()
		})
	})
}

// A panicky context panics in one of its methods, once it is told to. Its channel
// is its own, so that package context has to ask it, too.
type panicky struct {
	context.Context
	method string
	armed  atomic.Bool
	fired  atomic.Bool
	done   chan struct{}
}

func (p *panicky) act(method string) {
	if p.armed.Load() && p.method == method {
		p.fired.Store(true)
		panic(method)
	}
}

func (p *panicky) Done() <-chan struct{} { p.act("Done"); return p.done }

func (p *panicky) Err() error {
	p.act("Err")
	select {
	case <-p.done:
		return context.Canceled
	default:
		return nil
	}
}

func (p *panicky) Value(key any) any { p.act("Value"); return p.Context.Value(key) }

func (p *panicky) Deadline() (time.Time, bool) { p.act("Deadline"); return time.Time{}, false }

// inspect wants everything of a socket to work, in no time, and closes it.
func inspect(t *testing.T, s *bufsock.BufferedSocket, remote net.Conn) {
	t.Helper()
	start := time.Now()
	s.Buffered()
	s.RecvBuffer()
	s.SendBuffer()
	s.Unsent()
	s.SetTimeout(time.Minute)
	require.NoError(t, s.SetDeadline(time.Now().Add(time.Hour)))
	require.NoError(t, s.SetDeadline(time.Time{}))
	go remote.Write([]byte("line\n"))
	msg, err := s.RecvUntil(lf)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(msg), "line"))
	got := make(chan error)
	unsent := s.Unsent()
	go func() { _, err := io.ReadFull(remote, make([]byte, unsent+1)); got <- err }()
	_, err = s.Send([]byte("x"))
	require.NoError(t, err)
	require.NoError(t, <-got)
	require.NoError(t, s.Close())
	require.Zero(t, time.Since(start))
}

// caught runs f and returns what it has panicked with.
func caught(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

// A context may panic, when it is asked while the call waits for its turn or for
// the connection, or by package context on a goroutine of its own. The panic
// reaches the caller, and nothing stays locked.
func TestContextsThatPanic(t *testing.T) {
	for _, method := range []string{"Done", "Err", "Value"} {
		for op, call := range waiting {
			for _, when := range []string{"before", "in the queue", "in the connection"} {
				for _, ends := range []bool{true, false} {
					name := fmt.Sprintf("%s, %s, %s, ends: %v", op, method, when, ends)
					t.Run(name, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							local, remote := net.Pipe()
							s := bufsock.NewBufferedSocket(local)
							ctx := &panicky{Context: t.Context(), method: method, done: make(chan struct{})}
							ctx.armed.Store(when == "before")
							release := func() {}
							if when == "in the queue" {
								release = occupy(t, s)
							}
							p := make(chan any)
							go func() {
								p <- caught(func() {
									call(s, bufsock.WithContext(ctx), bufsock.WithTimeout(time.Second))
								})
							}()
							if when != "before" {
								synctest.Wait()
								ctx.armed.Store(true)
							}
							if ends {
								time.AfterFunc(time.Millisecond, func() { close(ctx.done) })
							}
							got := <-p
							if ctx.fired.Load() {
								require.Equal(t, method, got)
							} else {
								require.Nil(t, got)
							}
							release()
							synctest.Wait()
							inspect(t, s, remote)
							remote.Close()
						})
					})
				}
			}
		}
	}
}

// Deadline methods of a connection may panic, when a deadline is set for a call,
// by its end, or when it is lifted. The panic reaches a caller, and nothing stays
// locked.
func TestDeadlinesThatPanic(t *testing.T) {
	for _, which := range []string{"any", "lifted", "in the past", "in the future"} {
		for op, call := range waiting {
			for how, opts := range map[string]func(t *testing.T) []bufsock.Option{
				"a timeout": func(*testing.T) []bufsock.Option { return []bufsock.Option{bufsock.WithTimeout(time.Second)} },
				"a cancel": func(t *testing.T) []bufsock.Option {
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					return []bufsock.Option{bufsock.WithContext(ctx)}
				},
				"NonBlocking": func(*testing.T) []bufsock.Option {
					return []bufsock.Option{bufsock.WithTimeout(bufsock.NonBlocking)}
				},
			} {
				t.Run(op+", "+how+", deadlines "+which, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						local, remote := net.Pipe()
						conn := &hooked{Conn: local}
						s := bufsock.NewBufferedSocket(conn)
						var fired atomic.Bool
						deadline := func(set func(time.Time) error) func(time.Time) error {
							return func(at time.Time) error {
								if which == "any" || which == "lifted" && at.IsZero() ||
									!at.IsZero() && which == "in the past" && !at.After(time.Now()) ||
									which == "in the future" && at.After(time.Now()) {
									fired.Store(true)
									panic("deadline")
								}
								return set(at)
							}
						}
						conn.readDeadline, conn.writeDeadline = deadline(local.SetReadDeadline), deadline(local.SetWriteDeadline)
						time.AfterFunc(time.Minute, func() { // if nothing else ends the call
							remote.SetDeadline(time.Now().Add(time.Hour))
							go io.Copy(io.Discard, remote)
							remote.Write([]byte("1:\n,\n"))
						})
						p := make(chan any)
						go func() { p <- caught(func() { call(s, opts(t)...) }) }()
						got := <-p
						if fired.Load() {
							require.Equal(t, "deadline", got)
						} else {
							require.Nil(t, got)
						}
						synctest.Wait()
						conn.readDeadline, conn.writeDeadline = nil, nil
						d, err := elapsed(func() error { s.Buffered(); s.Unsent(); return s.SetDeadline(time.Time{}) })
						require.NoError(t, err)
						require.Zero(t, d)
						d, err = elapsed(s.Close)
						require.NoError(t, err)
						require.Zero(t, d)
						assertClosed(t, call(s))
						remote.Close()
						time.Sleep(time.Hour)
					})
				})
			}
		}
	}
}

// A connection whose deadline methods block holds up what needs them, and nothing
// else; Close gives it little time.
func TestDeadlinesThatBlock(t *testing.T) {
	const enough = 5 * time.Second // for what is to take none, on a busy machine
	for op, call := range waiting {
		t.Run(op, func(t *testing.T) {
			local, remote := pipePair(t)
			conn := &hooked{Conn: local}
			entered, release := make(chan struct{}), make(chan struct{})
			enter := sync.OnceFunc(func() { close(entered) })
			block := func(time.Time) error { enter(); <-release; return nil }
			s := bufsock.NewBufferedSocket(conn)
			if isSend(op) {
				conn.writeDeadline = block
			} else {
				conn.readDeadline = block
			}
			called := make(chan error)
			go func() { called <- call(s, bufsock.WithTimeout(time.Hour)) }()
			<-entered

			start := time.Now()
			s.Buffered()
			s.RecvBuffer()
			s.SendBuffer()
			s.Unsent()
			if isSend(op) {
				go remote.Write([]byte("line\n"))
				_, err := s.RecvUntil(lf)
				require.NoError(t, err, "the other side goes on")
				require.NoError(t, s.SetReadDeadline(time.Time{}))
			} else {
				go io.ReadFull(remote, make([]byte, 1))
				_, err := s.Send([]byte("x"))
				require.NoError(t, err, "the other side goes on")
				require.NoError(t, s.SetWriteDeadline(time.Time{}))
			}
			queued := make(chan error)
			go func() { queued <- call(s, bufsock.WithTimeout(time.Hour)) }()
			require.NoError(t, s.Close())
			assertClosed(t, <-queued)
			for _, later := range everything() { // at once, whatever older calls do
				assertClosed(t, later(s))
			}
			require.Less(t, time.Since(start), enough)
			close(release)
			assertClosed(t, <-called)
		})
	}
}

// Closed is asked for before busy: a call that is queued behind one that lingers
// ends with Close, too.
func TestQueuedCallsEndWithCloseBehindOneThatLingers(t *testing.T) {
	for op, call := range everything() {
		if op == "Shutdown" {
			continue // which ends what is queued itself
		}
		synctest.Test(t, func(t *testing.T) {
			local, remote := net.Pipe()
			s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Hour))
			go remote.Write([]byte("x"))
			_, err := s.Peek(1)
			require.NoError(t, err)
			release := make(chan struct{})
			go s.ReadFrom(readerFunc(func([]byte) (int, error) { <-release; return 0, io.EOF }))
			go s.RecvFunc(func(*bufsock.Message) error { <-release; return nil })
			synctest.Wait()
			queued := make(chan error)
			go func() { queued <- call(s) }()
			synctest.Wait()
			select {
			case err := <-queued:
				require.ErrorIs(t, err, bufsock.ErrWouldBlock, op)
			default:
				start := time.Now()
				require.NoError(t, s.Close())
				assertClosed(t, <-queued)
				require.Zero(t, time.Since(start), op)
			}
			s.Close()
			close(release)
			remote.Close()
		})
	}
}

func TestTurnIsWaitedForWithinTheTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, s *bufsock.BufferedSocket, _ string, call func(...bufsock.Option) error) {
		first := make(chan error)
		go func() { first <- call(bufsock.WithTimeout(time.Hour)) }()
		synctest.Wait()

		d, err := elapsed(func() error { return call(bufsock.WithTimeout(time.Second)) })
		assert.Equal(t, time.Second, d)
		assert.IsType(t, (*bufsock.TimeoutError)(nil), err)

		d, err = elapsed(func() error { return call(bufsock.WithTimeout(bufsock.NonBlocking)) })
		assert.Zero(t, d)
		assert.ErrorIs(t, err, bufsock.ErrWouldBlock)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		d, err = elapsed(func() error { return call(bufsock.WithContext(ctx)) })
		assert.Equal(t, time.Second, d)
		assert.ErrorIs(t, err, context.Canceled)

		// a deadline ends both, those that are set while they wait included
		queued := make(chan error)
		go func() { queued <- call(bufsock.WithTimeout(time.Hour)) }()
		synctest.Wait()
		d, _ = elapsed(func() error {
			require.NoError(t, s.SetDeadline(time.Now().Add(time.Second)))
			assert.IsType(t, (*bufsock.TimeoutError)(nil), <-first)
			assert.IsType(t, (*bufsock.TimeoutError)(nil), <-queued)
			return nil
		})
		assert.Equal(t, time.Second, d)
	})
}

// The deadline ends a wait for the turn of a call that it does not end, which is
// not at the connection.
func TestDeadlineAndTimeoutInTheQueueWhicheverIsFirst(t *testing.T) {
	for _, tt := range []struct{ deadline, timeout, want time.Duration }{
		{time.Second, time.Minute, time.Second},
		{time.Minute, time.Second, time.Second},
		{time.Second, bufsock.NoTimeout, time.Second},
		{time.Second, math.MaxInt64, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments("abc\n"))
			release := occupy(t, s)
			require.NoError(t, s.SetReadDeadline(time.Now().Add(tt.deadline)))
			d, err := elapsed(func() error { _, err := s.RecvUntil(lf, bufsock.WithTimeout(tt.timeout)); return err })
			assert.Equal(t, tt.want, d)
			assert.IsType(t, (*bufsock.TimeoutError)(nil), err)
			release()
		})
	}
}

// The turn is passed on in the order in which it was asked for.
func TestTurnsAreInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local)
		var order []string
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				msg, err := s.RecvUntil([]byte("\n"), bufsock.WithTimeout(time.Hour))
				assert.NoError(t, err)
				order = append(order, fmt.Sprintf("%d:%s", i, msg))
			})
			synctest.Wait()
		}
		for i := range 5 {
			fmt.Fprintf(remote, "%d\n", i)
			synctest.Wait()
		}
		wg.Wait()
		require.Equal(t, []string{"0:0", "1:1", "2:2", "3:3", "4:4"}, order)
		remote.Close()
		s.Close()
	})
}

// A call that never waits for its turn, because it takes the next one as soon
// as it has ended its own, cannot keep another out for ever.
func TestWaitingForATurnEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(bufsock.NoTimeout))
		sent := 0
		go func() {
			for {
				if _, err := s.Send([]byte("crowd")); err != nil {
					return
				}
				sent++
			}
		}()
		synctest.Wait()
		var done atomic.Bool
		go func() {
			_, err := s.Send([]byte("alone"))
			assert.NoError(t, err)
			done.Store(true)
		}()
		synctest.Wait()
		for received := make([]byte, 5); !done.Load() && sent < 100; synctest.Wait() {
			_, err := io.ReadFull(remote, received)
			require.NoError(t, err)
		}
		assert.Less(t, sent, 20)
		s.Close()
	})
}

// Neither side waits for the other, and what looks or sets does not wait at
// all.
func TestBlockedCallsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, remote := net.Pipe()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Hour))
		done := make(chan error)
		go func() { _, err := s.RecvUntil(lf); done <- err }()
		go func() { _, err := s.Send([]byte("out")); done <- err }()
		synctest.Wait()
		d, _ := elapsed(func() error {
			s.SetTimeout(time.Minute)
			s.SetMaxSize(100)
			s.SetBlocking(true)
			assert.Zero(t, s.Buffered())
			assert.Empty(t, s.RecvBuffer())
			assert.Len(t, s.SendBuffer(), 3)
			assert.NoError(t, s.SetDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, s.SetReadDeadline(time.Now().Add(time.Hour)))
			assert.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Hour)))
			assert.ErrorIs(t, s.CloseRead(), errors.ErrUnsupported)
			assert.ErrorIs(t, s.CloseWrite(), errors.ErrUnsupported)
			_, err := s.SyscallConn()
			assert.ErrorIs(t, err, errors.ErrUnsupported)
			assert.NotNil(t, s.NetConn())
			assert.NotNil(t, s.LocalAddr())
			assert.NotNil(t, s.RemoteAddr())

			// the receive is blocked, the send is not held up, and the reverse
			_, err = remote.Read(make([]byte, 3))
			assert.NoError(t, err)
			assert.NoError(t, <-done)
			go s.Send([]byte("blocked"))
			synctest.Wait()
			_, err = remote.Write([]byte("in\n"))
			assert.NoError(t, err)
			return <-done
		})
		require.Zero(t, d)
		s.Close()
		remote.Close()
	})
}

// Waiters may give up in any order, and the others keep theirs.
func TestQueueKeepsItsOrderWhenWaitersGiveUp(t *testing.T) {
	const n = 4
	for gone := range 1 << n { // which of them give up
		synctest.Test(t, func(t *testing.T) {
			s := bufsock.NewBufferedSocket(segments("0\n1\n2\n3\n"))
			release := occupy(t, s)
			var got, want [n]string
			var wg sync.WaitGroup
			left := 0
			for i := range n {
				timeout := time.Hour
				if gone&(1<<i) != 0 {
					timeout = time.Duration(1+i*3%n) * time.Second // not in the order of the queue
				} else {
					want[i] = strconv.Itoa(left)
					left++
				}
				wg.Go(func() {
					msg, _ := s.RecvUntil(lf, bufsock.WithTimeout(timeout))
					got[i] = string(msg)
				})
				synctest.Wait()
			}
			time.Sleep(time.Minute)
			release()
			wg.Wait()
			require.Equal(t, want, got, "%04b", gone)
			_, err := s.Recv(1, bufsock.WithTimeout(time.Second))
			if left == n {
				require.Equal(t, io.EOF, err)
			} else {
				require.NoError(t, err, "the turn is free")
			}
		})
	}
}

// A context is looked at while a call waits for its turn, and not only then.
func TestContextThatEndsInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bufsock.NewBufferedSocket(segments("abc\n"))
		release := occupy(t, s)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("the cause"))
		defer cancel()
		d, err := elapsed(func() error {
			_, err := s.RecvUntil(lf, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
			return err
		})
		require.Equal(t, time.Second, d)
		require.IsType(t, (*bufsock.TimeoutError)(nil), err)
		require.EqualError(t, err, `bufsock: RecvUntil: context deadline exceeded: the cause while waiting for "\n" (4 bytes buffered)`)
		_, err = s.RecvUntil(lf, bufsock.WithContext(ctx), bufsock.WithTimeout(bufsock.NoTimeout))
		require.ErrorIs(t, err, context.DeadlineExceeded, "it was done before")
		release()
		synctest.Wait()
		msg, err := s.RecvUntil(lf, bufsock.WithContext(ctx))
		require.NoError(t, err, "what is there wins")
		require.Equal(t, "abc", string(msg))
	})
}
