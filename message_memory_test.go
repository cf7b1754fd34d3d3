//go:build !race

// The race detector allocates on its own, and empties pools at random.

package bufsock_test

import (
	"encoding/binary"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// readsOfAll take the message "2\r\nab3:c,d,;\x05e" in the ways that there are.
func readsOfAll() map[string]func(m *bufsock.Message) error {
	delims := [][]byte{[]byte("!"), []byte(";")}
	p := make([]byte, 2)
	return map[string]func(m *bufsock.Message) error{
		"Until, Next, Netstring": func(m *bufsock.Message) error {
			if _, err := m.Until(crlf); err != nil {
				return err
			}
			if _, err := m.Next(2); err != nil {
				return err
			}
			if _, err := m.Netstring(); err != nil {
				return err
			}
			_, err := m.Next(3)
			return err
		},
		"UntilAny, Peek, ReadByte, Read": func(m *bufsock.Message) error {
			if _, _, err := m.UntilAny(delims); err != nil {
				return err
			}
			if _, err := m.Peek(2); err != nil {
				return err
			}
			if _, err := binary.ReadUvarint(m); err != nil {
				return err
			}
			_, err := io.ReadFull(m, p[:1])
			return err
		},
		"Until behind false starts": func(m *bufsock.Message) error {
			if _, err := m.Until([]byte("3:c,")); err != nil {
				return err
			}
			_, err := m.Next(5)
			return err
		},
	}
}

// A message that had to wait, during which memory is kept for its views, leaves
// none behind.
func TestMessagesGiveMemoryBack(t *testing.T) {
	const size = 1 << 20
	local, remote := tcpPair(t)
	s := bufsock.NewBufferedSocket(local, bufsock.WithReadSize(size), bufsock.WithMaxSize(bufsock.NoLimit))
	receive := func() {
		go func() {
			for range 4 {
				remote.Write(make([]byte, size/4))
				time.Sleep(time.Millisecond)
			}
		}()
		require.NoError(t, s.RecvFunc(func(m *bufsock.Message) error {
			if _, err := m.Next(1); err != nil {
				return err
			}
			_, err := m.Next(size - 1)
			return err
		}))
	}
	before := heap()
	receive()
	receive()
	require.Less(t, grown(before), int64(size/4))
	runtime.KeepAlive(s)
}

const messageOfAll = "2\r\nab3:c,d,;\x05e"

// A message whose bytes are there costs no allocation, and neither does one that
// waits, but for those of its function.
func TestRecvFuncAllocations(t *testing.T) {
	for name, read := range readsOfAll() {
		t.Run(name, func(t *testing.T) {
			const times = 1000
			there := bufsock.NewBufferedSocket(segments(strings.Repeat(messageOfAll, times+2)))
			_, err := there.Peek((times + 2) * len(messageOfAll))
			require.NoError(t, err)
			for name, s := range map[string]*bufsock.BufferedSocket{"there": there, "coming": echo(t, messageOfAll)} {
				require.NoError(t, s.RecvFunc(read), "the first on the socket")
				got := testing.AllocsPerRun(times, func() {
					if e := s.RecvFunc(read, bufsock.WithTimeout(time.Minute), bufsock.WithMaxSize(100)); e != nil {
						err = e
					}
				})
				require.NoError(t, err)
				require.Zero(t, got, name)
			}
			require.Zero(t, there.Buffered())
		})
	}
}
