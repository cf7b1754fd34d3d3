package interop_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A packet is one of MQTT: a byte that says what it is, and the bytes behind
// its size.
type packet struct {
	kind byte
	body string
}

// read is for RecvFunc. The max size is what bounds the size.
func (p *packet) read(m *bufsock.Message) (err error) {
	if p.kind, err = m.ReadByte(); err != nil {
		return err
	}
	size, err := binary.ReadUvarint(m)
	if err != nil {
		return err
	}
	if size >= 1<<28 {
		return fmt.Errorf("size %d has a fifth byte", size)
	}
	body, err := m.Next(int(size))
	p.body = string(body)
	return err
}

// appendPacket appends a packet as it is sent.
func appendPacket(b []byte, p packet) []byte {
	b = binary.AppendUvarint(append(b, p.kind), uint64(len(p.body)))
	return append(b, p.body...)
}

// publish is a message about topic t, to and from the server.
func publish(text string) packet { return packet{0x30, "\x00\x01t" + text} }

var (
	mqttConnect    = appendPacket(nil, packet{0x10, "\x00\x04MQTT\x04\x02\x00\x00\x00\x00"}) // 3.1.1, no name, no time limit
	mqttConnected  = packet{0x20, "\x00\x00"}
	mqttSubscribe  = appendPacket(nil, packet{0x82, "\x00\x01\x00\x01t\x00"})
	mqttSubscribed = packet{0x90, "\x00\x01\x00"}
)

func startMosquitto(t *testing.T) (addr string) {
	t.Helper()
	mosquitto, port := program(t, "mosquitto", "mosquitto"), freePort(t)
	// The user counts for root alone; it has no files to keep from it.
	config := writeFile(t, t.TempDir(), "conf", fmt.Sprintf(`
listener %d 127.0.0.1
allow_anonymous true
max_queued_messages 0
user root
`, port))
	p := start(t, mosquitto, "-c", config)
	p.waitOutput(t, "mosquitto version .* running")
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// TestMosquittoSizes gets messages whose sizes are just below and above what
// one, two and three bytes of a varint can hold.
func TestMosquittoSizes(t *testing.T) {
	t.Parallel()
	addr := startMosquitto(t)
	for _, c := range []struct {
		name  string
		sizes []int
		pace  pace
	}{
		{"in pieces", []int{0, 1, 127 - 3, 128 - 3, 1000, 16383 - 3, 16384 - 3, 0}, inPieces(50)},
		{"large", []int{2_097_151 - 3, 2_097_152 - 3, 0}, func(atHand int) (int, bool) { return atHand, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startRelay(t, addr, c.pace)
			s := r.dial(t, bufsock.WithMaxSize(4<<20))
			send := slices.Concat(mqttConnect, mqttSubscribe)
			want := []packet{mqttConnected, mqttSubscribed}
			for _, size := range c.sizes {
				want = append(want, publish(strings.Repeat("\xff\x80\x00t", size/4+1)[:size]))
				send = appendPacket(send, want[len(want)-1])
			}
			_, err := s.Send(append(send, "\xc0\x00"...)) // a ping last
			require.NoError(t, err)
			want = append(want, packet{0xd0, ""})
			for i, want := range want {
				var got packet
				require.NoError(t, r.recvFunc(s, got.read), "packet %d", i)
				require.Equal(t, want.kind, got.kind, "packet %d", i)
				require.True(t, want.body == got.body, "packet %d: %d bytes are not %d", i, len(got.body), len(want.body))
			}
			require.Zero(t, s.Buffered())
			assert.Greater(t, r.timeouts, len(want))
		})
	}
}

func TestMosquittoTraps(t *testing.T) {
	t.Parallel()
	addr := startMosquitto(t)
	hello := string(mqttConnect)
	for _, x := range []exchange{
		{name: "padded size", send: hello + "\xc0\x80\x80\x00", want: "\x20\x02\x00\x00\xd0\x00"},
		{name: "a fifth byte of size", send: hello + "\xc0\x80\x80\x80\x80\x00", want: "\x20\x02\x00\x00", ends: true},
		{name: "a second CONNECT", send: hello + hello, want: "\x20\x02\x00\x00", ends: true},
	} {
		x.check(t, dial(t, addr), "\xc0\x00", "\xd0\x00")
	}

	// A size that is cut is not the end of a message, nor of the stream.
	s := dial(t, addr)
	_, err := s.Send([]byte(hello))
	require.NoError(t, err)
	require.NoError(t, s.CloseWrite()) // it closes the connection
	var got packet
	err = s.RecvFunc(func(m *bufsock.Message) error {
		if err := got.read(m); err != nil {
			return err
		}
		return got.read(m)
	})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, s.RecvFunc(got.read))
	require.Equal(t, mqttConnected, got)
	require.ErrorIs(t, s.RecvFunc(got.read), io.EOF)
}
