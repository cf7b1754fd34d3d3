package bufsock_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

func eachTransport(t *testing.T, f func(t *testing.T, local, remote net.Conn)) {
	t.Helper()
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			f(t, local, remote)
		})
	}
}

// Views stay valid while later steps wait, and the buffer grows, and after a
// Close, whoever gets memory from the pool in the meantime.
func TestRecvFuncViewsStay(t *testing.T) {
	const parts, size = 60, 3000
	part := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, size) }
	eachTransport(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local, bufsock.WithMaxSize(bufsock.NoLimit))
		goOn := make(chan int)
		var feeding sync.WaitGroup
		feeding.Go(func() {
			for i := range goOn {
				remote.Write(part(i))
			}
		})
		var views [][]byte
		assertClosed(t, s.RecvFunc(func(m *bufsock.Message) error {
			for i := range parts {
				goOn <- i
				view, err := m.Next(size)
				if err != nil {
					return err
				}
				views = append(views, view)
				usePooledMemory(t, s.Buffered())
			}
			s.Close()
			for range 20 {
				usePooledMemory(t, 512)
				usePooledMemory(t, parts*size)
			}
			for i, view := range views {
				require.True(t, bytes.Equal(part(i), view), "view %d has changed", i)
			}
			_, err := m.Next(1)
			return err
		}))
		close(goOn)
		feeding.Wait()
	})
}

// usePooledMemory has another socket fill about so much memory, and gives it
// back.
func usePooledMemory(t *testing.T, n int) {
	s := bufsock.NewBufferedSocket(segments(string(bytes.Repeat([]byte{0xff}, n))))
	_, err := s.Discard(1)
	require.NoError(t, err)
	_, err = s.Peek(n - 1)
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// Close and Shutdown end a step that waits.
func TestRecvFuncIsClosed(t *testing.T) {
	for name, end := range map[string]func(s *bufsock.BufferedSocket) error{
		"Close":    func(s *bufsock.BufferedSocket) error { return s.Close() },
		"Shutdown": func(s *bufsock.BufferedSocket) error { return s.Shutdown(bufsock.WithTimeout(time.Millisecond)) },
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, local, remote net.Conn) {
				s := bufsock.NewBufferedSocket(local)
				go io.WriteString(remote, "ab\n")
				err := s.RecvFunc(func(m *bufsock.Message) error {
					view, err := m.Until(lf)
					require.NoError(t, err)
					go end(s)
					_, err = m.Next(1)
					require.Equal(t, "ab", string(view))
					return err
				}, bufsock.WithTimeout(bufsock.NoTimeout))
				assertClosed(t, err)
				assertClosed(t, s.RecvFunc(func(*bufsock.Message) error { panic("called") }))
			})
		})
	}
}

// CloseRead ends a step that waits, as the end of the stream does; Rest, which
// promises the peer's end, fails.
func TestRecvFuncAfterCloseRead(t *testing.T) {
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		s := bufsock.NewBufferedSocket(local)
		_, err := io.WriteString(remote, "ab\n")
		require.NoError(t, err)
		err = s.RecvFunc(func(m *bufsock.Message) error {
			_, err := m.Until(lf)
			require.NoError(t, err)
			go s.CloseRead()
			_, err = m.Next(1)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			_, err = m.Rest()
			return err
		}, bufsock.WithTimeout(bufsock.NoTimeout))
		require.IsType(t, (*bufsock.ConnectionClosedError)(nil), err)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorContains(t, err, "CloseRead")
		assertParts(t, []string{"ab"}, s, until("\n"))
		err = s.RecvFunc(followed(new([]string), next(1)))
		require.ErrorIs(t, err, io.EOF)
	})
}

// Memory that is kept for views follows the bytes that have come, however large
// the reads may be and however small the bytes come in.
func TestRecvFuncKeepsLittleMemory(t *testing.T) {
	const pieces = 300
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local, bufsock.WithReadSize(1<<20))
	goOn := make(chan struct{})
	defer close(goOn)
	go func() {
		for range goOn {
			io.WriteString(remote, "a")
		}
	}()
	require.NoError(t, s.RecvFunc(func(m *bufsock.Message) error {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range pieces {
			goOn <- struct{}{}
			if _, err := m.Next(1); err != nil {
				return err
			}
		}
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
		return nil
	}))
}
