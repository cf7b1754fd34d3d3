//go:build !race

// The race detector allocates on its own, and empties pools at random.

package bufsock_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// echo returns a socket whose peer sends wire for ever and takes everything.
func echo(t *testing.T, wire string) *bufsock.BufferedSocket {
	local, remote := tcpPair(t)
	go func() {
		all := bytes.Repeat([]byte(wire), 1+(64<<10)/len(wire))
		for {
			if _, err := remote.Write(all); err != nil {
				return
			}
		}
	}()
	sink := make([]byte, 1<<20)
	go func() {
		for {
			if _, err := remote.Read(sink); err != nil {
				return
			}
		}
	}()
	return bufsock.NewBufferedSocket(local)
}

func TestAllocations(t *testing.T) {
	var (
		dst    = make([]byte, 0, 64<<10)
		into   = bufsock.AppendTo(dst)
		opts   = []bufsock.Option{into, bufsock.WithTimeout(time.Minute), bufsock.WithMaxSize(1 << 20)}
		sized  = opts[:2]
		until  = []bufsock.Option{into, bufsock.WithTimeout(time.Minute), bufsock.WithMaxSize(1 << 20), bufsock.WithDelimiter()}
		delims = [][]byte{[]byte("\r\n"), []byte(strings.Repeat("x", 100))}
		small  = []byte("a line of 20 bytes.\n")
		large  = make([]byte, 50_000)
		pieces = [][]byte{small, large}
	)
	line := "a line of some length\r\n"
	frame := "20:a line of 20 bytes.\n,"
	tests := map[string]struct {
		wire string
		want float64
		call func(s *bufsock.BufferedSocket, ns *bufsock.NetstringSocket) error
	}{
		"RecvUntil with AppendTo": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.RecvUntil(crlf, until...)
			return err
		}},
		"RecvUntilAny with AppendTo": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, _, err := s.RecvUntilAny(delims, until...)
			return err
		}},
		"RecvSize with AppendTo": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.RecvSize(100, sized...)
			return err
		}},
		"RecvSize straight into dst": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.RecvSize(60_000, sized...)
			return err
		}},
		"ReadNetstring with AppendTo": {frame, 0, func(_ *bufsock.BufferedSocket, ns *bufsock.NetstringSocket) error {
			_, err := ns.ReadNetstring(opts...)
			return err
		}},
		"RecvUntil": {line, 1, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.RecvUntil(crlf)
			return err
		}},
		"RecvSize": {line, 1, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.RecvSize(100)
			return err
		}},
		"ReadNetstring": {frame, 1, func(_ *bufsock.BufferedSocket, ns *bufsock.NetstringSocket) error {
			_, err := ns.ReadNetstring()
			return err
		}},
		"Send": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.Send(small)
			return err
		}},
		"Send of much": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.Send(large)
			return err
		}},
		"SendBuffers": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			_, err := s.SendBuffers(pieces)
			return err
		}},
		"Buffer and Flush": {line, 0, func(s *bufsock.BufferedSocket, _ *bufsock.NetstringSocket) error {
			for range 100 {
				if err := s.Buffer(small); err != nil {
					return err
				}
			}
			return s.Flush()
		}},
		"WriteNetstring": {line, 0, func(_ *bufsock.BufferedSocket, ns *bufsock.NetstringSocket) error {
			return ns.WriteNetstring(small)
		}},
		"WriteNetstring of much": {line, 0, func(_ *bufsock.BufferedSocket, ns *bufsock.NetstringSocket) error {
			return ns.WriteNetstring(large, bufsock.WithMaxSize(bufsock.NoLimit))
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := echo(t, tt.wire)
			ns := bufsock.NewNetstringSocket(s)
			var err error
			got := testing.AllocsPerRun(500, func() {
				if e := tt.call(s, ns); e != nil {
					err = e
				}
			})
			require.NoError(t, err)
			require.LessOrEqual(t, got, tt.want)
		})
	}
}

// heap returns the bytes of the heap in use, with everything gone that can go.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 { // pools are emptied in two cycles
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// grown returns by how many bytes the heap has grown since it was before.
func grown(before uint64) int64 { return int64(heap()) - int64(before) }

func TestAnnouncedSizesCostNothing(t *testing.T) {
	const announced = "999999999:" // 953 MiB
	local, remote := tcpPair(t)
	_, err := remote.Write([]byte(announced))
	require.NoError(t, err)
	s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(10*time.Millisecond), bufsock.WithMaxSize(bufsock.NoLimit))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = bufsock.NewNetstringSocket(s).ReadNetstring()
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	_, err = s.RecvSize(999_999_999)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	_, err = s.Peek(999_999_999)
	require.IsType(t, (*bufsock.TimeoutError)(nil), err)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func TestDiscardingTakesBoundedMemory(t *testing.T) {
	const size = 64 << 20
	local, remote := tcpPair(t)
	chunk := bytes.Repeat([]byte("x"), 1<<16)
	go func() {
		for range 3 {
			for range size >> 16 {
				remote.Write(chunk)
			}
			remote.Write([]byte("\r\n67108864:"))
		}
	}()
	s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n, err := s.DiscardUntil(crlf)
	require.NoError(t, err)
	require.Equal(t, size+2, n)
	n, err = s.Discard(len("67108864:") + size)
	require.NoError(t, err)
	require.Equal(t, len("67108864:")+size, n)
	_, err = s.Discard(2)
	require.NoError(t, err)
	_, err = bufsock.NewNetstringSocket(s).DiscardNetstring(bufsock.WithTimeout(time.Minute))
	require.Error(t, err, "a CR in the place of the comma")
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func TestMemoryOfALargeMessageIsGivenBack(t *testing.T) {
	const size = 64 << 20
	local, remote := tcpPair(t)
	go func() {
		remote.Write(make([]byte, size))
		remote.Write([]byte("\nmore"))
	}()
	s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute), bufsock.WithMaxSize(bufsock.NoLimit))
	before := heap()
	msg, err := s.RecvUntil(lf)
	require.NoError(t, err)
	require.Len(t, msg, size)
	_, err = s.Peek(4)
	require.NoError(t, err)
	msg = nil
	require.Less(t, grown(before), int64(1<<20), "with four bytes left in the buffer")
	runtime.KeepAlive(s)
}
