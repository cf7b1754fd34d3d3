package bufsock_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
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
