//go:build !race

// The race detector allocates on its own, and empties pools at random.

package bufsock_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strconv"
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

// A netstring is appended at once, whatever its size.
func TestAppendNetstringAllocatesOnce(t *testing.T) {
	payload := make([]byte, 1<<16-6)
	for _, size := range []int{0, 1, 100, 1<<16 - 6} {
		require.LessOrEqual(t, testing.AllocsPerRun(10, func() { bufsock.AppendNetstring(nil, payload[:size]) }), 1.0)
	}
	dst := make([]byte, 3, 3+len("20:")+20+len(","))
	require.Zero(t, testing.AllocsPerRun(10, func() { bufsock.AppendNetstring(dst, payload[:20]) }), "there is room")
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

// allocated returns by how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A large message that has been received is not copied once more: the caller
// gets the memory that it stands in, and the socket keeps what is behind it.
func TestLargeMessagesAreHandedOut(t *testing.T) {
	const size = 8 << 20
	large := strings.Repeat("0123456789abcdef", size/16)
	other := strings.Repeat("fedcba9876543210", size/16)
	for name, test := range map[string]struct {
		header, trailer string
		receive         func(s *bufsock.BufferedSocket) ([]byte, error)
	}{
		"RecvSize":  {"", "", func(s *bufsock.BufferedSocket) ([]byte, error) { return s.RecvSize(size) }},
		"RecvUntil": {"", "\n", func(s *bufsock.BufferedSocket) ([]byte, error) { return s.RecvUntil(lf) }},
		"RecvUntilAny": {"", "\r\n", func(s *bufsock.BufferedSocket) ([]byte, error) {
			msg, _, err := s.RecvUntilAny([][]byte{lf, crlf})
			return bytes.TrimSuffix(msg, []byte("\r")), err
		}},
		"ReadNetstring": {strconv.Itoa(size) + ":", ",", func(s *bufsock.BufferedSocket) ([]byte, error) {
			return bufsock.NewNetstringSocket(s).ReadNetstring()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			wire := test.header + large + test.trailer
			next := test.header + other + test.trailer
			last := len(wire) - 1
			s := bufsock.NewBufferedSocket(segments(wire[:last], wire[last:]+"rest\n", next, next), bufsock.WithMaxSize(bufsock.NoLimit))
			_, err := s.Peek(last)
			require.NoError(t, err)

			var msg []byte
			require.Less(t, allocated(func() { msg, err = test.receive(s) }), uint64(1<<20))
			require.NoError(t, err)
			require.LessOrEqual(t, cap(msg), size+1, "room in which bytes of others could be")

			rest, err := s.RecvUntil(lf)
			require.NoError(t, err)
			require.Equal(t, "rest", string(rest))
			for range 2 {
				msg, err := test.receive(s)
				require.NoError(t, err)
				require.True(t, string(msg) == other, "not what was sent")
			}
			require.True(t, string(msg) == large, "the message was written over")
		})
	}
}

// What is behind a message that was handed out moves away, however much it is.
func TestTheMemoryOfAMessageIsItsOwn(t *testing.T) {
	large := strings.Repeat("x", 5<<20)
	behind := strings.Repeat("y", 3<<20)
	s := bufsock.NewBufferedSocket(segments(large+"\n"+behind+behind), bufsock.WithMaxSize(bufsock.NoLimit))
	_, err := s.Peek(len(large) + len(behind))
	require.NoError(t, err)
	msg, _, err := s.RecvUntilAny([][]byte{lf})
	require.NoError(t, err)
	rest, err := s.RecvClose()
	require.NoError(t, err)
	require.True(t, string(rest) == behind+behind, "not what was sent")
	require.True(t, string(msg) == large, "the message was written over")
}

// It is not handed out where the caller has given memory.
func TestLargeMessagesAreAppendedToWhatIsThere(t *testing.T) {
	large := strings.Repeat("x", 5<<20)
	s := bufsock.NewBufferedSocket(segments(large+"\n"), bufsock.WithMaxSize(bufsock.NoLimit))
	msg, _, err := s.RecvUntilAny([][]byte{lf}, bufsock.AppendTo([]byte("before ")))
	require.NoError(t, err)
	require.True(t, string(msg) == "before "+large, "not what was sent")
}

// A message is not handed out in memory of which it would need only a part.
func TestSmallPartsOfLargeBuffersAreCopied(t *testing.T) {
	const size = 7 << 20
	before := heap()
	s := bufsock.NewBufferedSocket(segments(strings.Repeat("x", size)+"\n"+strings.Repeat("x", size)), bufsock.WithMaxSize(bufsock.NoLimit))
	_, err := s.Peek(2 * size)
	require.NoError(t, err)
	msg, _, err := s.RecvUntilAny([][]byte{lf})
	require.NoError(t, err)
	require.Len(t, msg, size)
	require.NoError(t, s.Close())
	require.Less(t, grown(before), int64(size*3/2))
	runtime.KeepAlive(msg)
}

// What is large is sent from where it is.
func TestLargeSendsMakeNoCopy(t *testing.T) {
	const size = 64 << 20
	payload := make([]byte, size)
	sockets(t, func(t *testing.T, local, remote net.Conn) {
		sink := make([]byte, 1<<20)
		go func() {
			for {
				if _, err := remote.Read(sink); err != nil {
					return
				}
			}
		}()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		for name, send := range map[string]func() error{
			"Send":           func() error { _, err := s.Send(payload); return err },
			"SendBuffers":    func() error { _, err := s.SendBuffers([][]byte{payload, {1}}); return err },
			"Write":          func() error { _, err := s.Write(payload); return err },
			"WriteNetstring": func() error { return bufsock.NewNetstringSocket(s).WriteNetstring(payload, bufsock.WithMaxSize(size)) },
		} {
			require.NoError(t, s.Buffer([]byte("buffered")))
			require.Less(t, allocated(func() { require.NoError(t, send()) }), uint64(1<<20), name)
		}
	})
}

// Close gives the memory of both buffers back, also if a call is at work.
func TestCloseGivesTheMemoryBack(t *testing.T) {
	const size = 32 << 20
	data := make([]byte, size)
	for _, busy := range []bool{false, true} {
		local, remote := pipePair(t)
		go remote.Write(data)
		before := heap()
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		_, err := s.Peek(size)
		require.NoError(t, err)
		require.NoError(t, s.Buffer(data))
		require.GreaterOrEqual(t, grown(before), int64(2*size))
		errs := make(chan error)
		release := make(chan struct{})
		if busy {
			held := make(chan struct{})
			go func() {
				_, err := s.RecvSplit(func([]byte, bool) (int, []byte, error) {
					close(held)
					<-release
					return 0, nil, nil
				}, bufsock.WithMaxSize(bufsock.NoLimit))
				errs <- err
			}()
			<-held
			go func() { errs <- s.Flush() }()
			_, err := remote.Read(make([]byte, 1)) // it is under way
			require.NoError(t, err)
		}
		require.NoError(t, s.Close())
		if busy {
			assertClosed(t, <-errs) // of Flush
			close(release)
			assertClosed(t, <-errs)
		}
		require.Less(t, grown(before), int64(1<<20), "busy: %v", busy)
		runtime.KeepAlive(s)
	}
	runtime.KeepAlive(data)
}

// The memory of a send buffer goes when its bytes have gone, and that of a
// receive buffer, whatever takes them.
func TestMemoryGoesWithTheBytes(t *testing.T) {
	const size = 20 << 20 // more than is kept for others
	takes := map[string]func(s *bufsock.BufferedSocket) error{
		"RecvSize": func(s *bufsock.BufferedSocket) error { _, err := s.RecvSize(size); return err },
		"RecvUntil": func(s *bufsock.BufferedSocket) error {
			_, err := s.RecvUntil(lf, bufsock.WithMaxSize(size))
			return err
		},
		"RecvUntilAny": func(s *bufsock.BufferedSocket) error {
			_, _, err := s.RecvUntilAny([][]byte{lf}, bufsock.WithMaxSize(size))
			return err
		},
		"Discard":      func(s *bufsock.BufferedSocket) error { _, err := s.Discard(size); return err },
		"DiscardUntil": func(s *bufsock.BufferedSocket) error { _, err := s.DiscardUntil(lf); return err },
		"Read":         func(s *bufsock.BufferedSocket) error { _, err := s.Read(make([]byte, size)); return err },
		"RecvSplit": func(s *bufsock.BufferedSocket) error {
			_, err := s.RecvSplit(bufio.ScanLines, bufsock.WithMaxSize(size))
			return err
		},
	}
	for name, take := range takes {
		local, remote := tcpPair(t)
		message := make([]byte, size)
		message[size-1] = '\n'
		go remote.Write(message)
		s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
		_, err := s.Peek(size)
		require.NoError(t, err)
		message = nil
		before := heap()
		require.NoError(t, take(s))
		require.Less(t, grown(before), -int64(size/2), name)
		runtime.KeepAlive(s)
		require.NoError(t, s.Close())
	}

	local, remote := tcpPair(t)
	go func() {
		sink := make([]byte, 1<<20)
		for {
			if _, err := remote.Read(sink); err != nil {
				return
			}
		}
	}()
	s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Minute))
	for name, send := range map[string]func() error{
		"Flush": func() error { return s.Flush() },
		"Send":  func() error { _, err := s.Send([]byte("x")); return err },
		"Write": func() error { _, err := s.Write([]byte("x")); return err },
	} {
		require.NoError(t, s.Buffer(make([]byte, size)))
		before := heap()
		require.NoError(t, send())
		require.Less(t, grown(before), -int64(size/2), name)
	}
	runtime.KeepAlive(s)
}

// A large buffer is given back for a small one when less than an eighth of it
// is in use.
func TestLargeBuffersAreGivenBack(t *testing.T) {
	tests := map[string]struct{ readSize, buffered, discarded, kept int }{
		"less than an eighth of 1,179,648": {1 << 20, 200_000, 52_545, 147_456},
		"an eighth of 1,179,648":           {1 << 20, 200_000, 52_544, 1_179_648},
		"less than an eighth of 294,912":   {1 << 18, 60_000, 23_137, 36_864},
		"an eighth of 294,912":             {1 << 18, 60_000, 23_136, 294_912},
		"a small buffer":                   {1 << 17, 30_000, 12_000, 147_456},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			content := strings.Repeat("0123456789", tt.buffered/10)
			into := bufsock.AppendTo(make([]byte, 0, tt.buffered))
			kept := func() int {
				w := segments(content)
				before := heap()
				s := bufsock.NewBufferedSocket(w, bufsock.WithReadSize(tt.readSize))
				_, err := s.Peek(tt.buffered, into)
				require.NoError(t, err)
				_, err = s.RecvSize(tt.discarded, into)
				require.NoError(t, err)
				n := grown(before)
				require.True(t, content[tt.discarded:] == string(s.RecvBuffer()))
				return int(n)
			}
			n := kept()
			for range 4 { // garbage of other tests may go meanwhile
				n = nearer(tt.kept, n, kept())
			}
			require.InDelta(t, tt.kept, n, 20_000)
			runtime.KeepAlive(into)
		})
	}
}

// nearer returns the number that is nearer to the wanted one.
func nearer(want, a, b int) int {
	if max(a-want, want-a) < max(b-want, want-b) {
		return a
	}
	return b
}

// A large message that is read straight into dst is not moved elsewhere if just
// its delimiter does not fit, wherever that is cut.
func TestDirectSearchThatFitsWithoutTheDelimiter(t *testing.T) {
	const size = 4 << 20
	message := strings.Repeat("x", size)
	for room := size; room <= size+3; room++ {
		for cut := size - 1; cut <= size+2; cut++ {
			all := message + "abc"
			s := bufsock.NewBufferedSocket(segments(all[:70_000], all[70_000:cut], all[cut:]), bufsock.WithMaxSize(bufsock.NoLimit))
			_, err := s.Peek(70_000)
			require.NoError(t, err)
			into := bufsock.AppendTo(make([]byte, 0, room))
			n := allocated(func() {
				var msg []byte
				msg, err = s.RecvUntil([]byte("abc"), into)
				require.True(t, message == string(msg), "not the message")
			})
			require.NoError(t, err)
			require.Less(t, n, uint64(size), "room for %d, cut at %d", room-size, cut-size)
		}
	}
}

// Buffering costs memory in proportion to what is buffered, and time, too: the
// bytes are moved a few times each and not with every call.
func TestBufferingIsLinear(t *testing.T) {
	for name, tt := range map[string]struct{ n, size int }{
		"from a pool":             {20 << 10, 1 << 10},
		"more than pools provide": {200, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			data := make([]byte, tt.size)
			s := bufsock.NewBufferedSocket(&wire{})
			require.Less(t, allocated(func() {
				for range tt.n {
					require.NoError(t, s.Buffer(data))
				}
			}), uint64(8*tt.n*tt.size))
			require.Len(t, s.SendBuffer(), tt.n*tt.size)
		})
	}
}

// So does keeping what a send of many pieces could not send.
func TestKeepingPiecesIsLinear(t *testing.T) {
	const n, size = 20 << 10, 1 << 10
	pieces := make([][]byte, n)
	for i := range pieces {
		pieces[i] = make([]byte, size)
	}
	s := bufsock.NewBufferedSocket(counting{count: func([]byte) (int, error) { return 0, io.ErrClosedPipe }})
	require.Less(t, allocated(func() {
		_, err := s.SendBuffers(pieces)
		require.Equal(t, io.ErrClosedPipe, err)
	}), uint64(8*n*size))
	require.Len(t, s.SendBuffer(), n*size)

	// Also if another send has failed in the queue behind it.
	local, remote := net.Pipe()
	defer remote.Close()
	s = bufsock.NewBufferedSocket(local)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error)
	require.Less(t, allocated(func() {
		go func() { _, err := s.SendBuffers(pieces, bufsock.WithContext(ctx)); failed <- err }()
		_, err := remote.Read(make([]byte, 1)) // it is under way
		require.NoError(t, err)
		_, err = s.Send([]byte("x"), bufsock.WithTimeout(bufsock.NonBlocking))
		require.ErrorIs(t, err, bufsock.ErrWouldBlock)
		cancel()
		require.ErrorIs(t, <-failed, context.Canceled)
	}), uint64(8*n*size))
	require.Len(t, s.SendBuffer(), n*size)
}

// Memory that has been given back is used again.
func TestBuffersAreUsedAgain(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would empty the pool
	t.Run("the largest", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(counting{count: func(p []byte) (int, error) { return len(p), nil }})
		data := make([]byte, 16<<20)
		require.Less(t, allocated(func() {
			for range 10 {
				require.NoError(t, s.Buffer(data))
				require.NoError(t, s.Flush())
			}
		}), uint64(5*18<<20)) // each CPU keeps one, and the goroutine may move
	})
	t.Run("those that were too small", func(t *testing.T) {
		line := strings.Repeat("x", 9999) + "\n"
		rest := ""
		s := bufsock.NewBufferedSocket(counting{count: func(p []byte) (int, error) {
			if rest == "" {
				rest = line
			}
			n := copy(p, rest)
			rest = rest[n:]
			return n, nil
		}}, bufsock.WithReadSize(100))
		into := []bufsock.Option{bufsock.AppendTo(make([]byte, 0, 10_000))}
		var err error
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, err = s.RecvUntil(lf, into...) }), 0.0)
		require.NoError(t, err)
	})
}
