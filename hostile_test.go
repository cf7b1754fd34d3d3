package bufsock_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// receives are the calls that a peer can try to hold up or to fill memory with.
var receives = map[string]func(*bufsock.BufferedSocket) error{
	"RecvUntil":    func(s *bufsock.BufferedSocket) error { _, err := s.RecvUntil(crlf); return err },
	"RecvUntilAny": func(s *bufsock.BufferedSocket) error { _, _, err := s.RecvUntilAny([][]byte{crlf, {0}}); return err },
	"RecvSplit":    func(s *bufsock.BufferedSocket) error { _, err := s.RecvSplit(bufio.ScanLines); return err },
	"RecvClose":    func(s *bufsock.BufferedSocket) error { _, err := s.RecvClose(); return err },
	"ReadNetstring": func(s *bufsock.BufferedSocket) error {
		_, err := bufsock.NewNetstringSocket(s).ReadNetstring()
		return err
	},
}

// liveHeap returns the bytes of live objects.
func liveHeap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestFloodWithoutAnEndTakesBoundedMemory(t *testing.T) {
	const maxSize, readSize = 100_000, 32 << 10
	for name, receive := range receives {
		t.Run(name, func(t *testing.T) {
			local, remote := tcpPair(t)
			s := bufsock.NewBufferedSocket(local, bufsock.WithMaxSize(maxSize), bufsock.WithTimeout(time.Minute))
			flood := bytes.Repeat([]byte("9"), 1<<20)
			go func() {
				for {
					if _, err := remote.Write(flood); err != nil {
						return
					}
				}
			}()
			before := liveHeap()
			err := receive(s)
			after := liveHeap()
			if _, ok := errors.AsType[*bufsock.MessageTooLongError](err); !ok {
				require.ErrorIs(t, err, bufsock.ErrNetstringProtocol)
			}
			assert.LessOrEqual(t, s.Buffered(), maxSize+readSize)
			assert.Less(t, after-before, 8*(maxSize+readSize))
			runtime.KeepAlive(flood)
		})
	}
}

func TestByteByByteDoesNotHoldACallUp(t *testing.T) {
	for name, receive := range receives {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, remote := net.Pipe()
				drip := make(chan struct{})
				defer func() { local.Close(); <-drip }()
				go func() {
					defer close(drip)
					for frame := []byte("900:"); ; frame = frame[1:] {
						if len(frame) == 0 {
							frame = []byte("x")
						}
						time.Sleep(100 * time.Millisecond)
						if _, err := remote.Write(frame[:1]); err != nil {
							return
						}
					}
				}()
				s := bufsock.NewBufferedSocket(local, bufsock.WithTimeout(time.Second))
				start := time.Now()
				err := receive(s)
				_, ok := errors.AsType[*bufsock.TimeoutError](err)
				assert.True(t, ok, "%v", err)
				assert.Equal(t, time.Second, time.Since(start))
			})
		})
	}
}

// No error of any call says what the peer sent as a message, or what was to be
// sent to it.
func TestErrorTextsDoNotShowPayloads(t *testing.T) {
	const secret = "hunter2"
	payload := strings.Repeat(secret, 20)
	streams := map[string]string{
		"a line without an end": payload,
		"a line too long":       payload + payload + payload + "\r\n",
		"a frame cut short":     "9999:" + payload,
		"a frame too long":      "999999:" + payload,
		"a frame without comma": fmt.Sprintf("%d:%s;", len(payload), payload),
	}
	for stream, sent := range streams {
		for name, receive := range receives {
			t.Run(stream+" "+name, func(t *testing.T) {
				for _, end := range []error{nil, timeoutOfWire{}} {
					w := segments(sent)
					w.reads = append(w.reads, read{err: end})
					s := bufsock.NewBufferedSocket(w, bufsock.WithMaxSize(300), bufsock.WithTimeout(time.Millisecond))
					if err := receive(s); err != nil {
						// What begins like a size is quoted up to the wrong byte.
						assert.NotContains(t, err.Error(), secret[:2])
					}
				}
			})
		}
	}
	t.Run("sends", func(t *testing.T) {
		w := &wire{limits: []int{1}, err: errors.New("boom")}
		ns := bufsock.NewNetstringSocket(w, bufsock.WithMaxSize(100))
		err := ns.WriteNetstring([]byte(payload))
		assert.ErrorIs(t, err, bufsock.ErrNetstringProtocol)
		assert.NotContains(t, err.Error(), secret[:2])
		_, err = ns.Socket().Send([]byte(payload))
		assert.Error(t, err)
		assert.NotContains(t, err.Error(), secret[:2])
	})
}

// timeoutOfWire is the error of a connection whose deadline has passed.
type timeoutOfWire struct{}

func (timeoutOfWire) Error() string   { return "timeout" }
func (timeoutOfWire) Timeout() bool   { return true }
func (timeoutOfWire) Temporary() bool { return true }
