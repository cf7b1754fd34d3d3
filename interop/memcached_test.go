package interop_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readSized reads the bytes whose size is the last word of a line, and their
// line end.
func readSized(m *bufsock.Message, line []byte) (string, error) {
	words := strings.Fields(string(line))
	size, err := strconv.ParseUint(words[len(words)-1], 10, 30)
	if err != nil {
		return "", err
	}
	data, err := m.Next(int(size) + len(crlf))
	return strings.TrimSuffix(string(data), "\r\n"), err
}

// readItems reads what memcached answers to get, up to the line END: keys, each
// with its value behind it.
func readItems(m *bufsock.Message) (items []string, err error) {
	for {
		line, err := m.Until(crlf)
		if err != nil || string(line) == "END" {
			return items, err
		}
		words := strings.Fields(string(line))
		if len(words) != 4 || words[0] != "VALUE" {
			return nil, fmt.Errorf("no value: %.40q", line)
		}
		data, err := readSized(m, line)
		if err != nil {
			return nil, err
		}
		items = append(items, words[1], data)
	}
}

// awkward are values that look like something else to those who search for a
// line end.
var awkward = []string{"", "\r\n", "\r\nEND\r\n", "VALUE a 0 1000000\r\n", "RESERVED 1 9\r\n\r\n", "a\x00\xff\n", strings.Repeat("\r\n.\r\n", 300)}

func startMemcached(t *testing.T) (addr string) {
	t.Helper()
	memcached, port := program(t, "memcached", "memcached"), strconv.Itoa(freePort(t))
	// The user is for root, who must name one.
	p := start(t, memcached, "-l", "127.0.0.1", "-p", port, "-U", "0", "-u", "nobody", "-m", "8", "-t", "1")
	p.waitListen(t, "tcp", "127.0.0.1:"+port)
	return "127.0.0.1:" + port
}

func TestMemcachedValues(t *testing.T) {
	t.Parallel()
	r := startRelay(t, startMemcached(t), inPieces(50))
	s := r.dial(t)
	line := func(m *bufsock.Message) error {
		line, err := m.Until(crlf)
		if err == nil && string(line) != "STORED" {
			err = fmt.Errorf("not stored: %q", line)
		}
		return err
	}
	var want []string
	get := "get missing"
	for i, value := range awkward {
		key := "k" + strconv.Itoa(i)
		_, err := s.Send(fmt.Appendf(nil, "set %s 0 0 %d\r\n%s\r\n", key, len(value), value))
		require.NoError(t, err)
		require.NoError(t, r.recvFunc(s, line), key)
		want = append(want, key, value)
		get += " " + key
	}
	const requests = 50
	_, err := s.Send([]byte(strings.Repeat(get+"\r\nget missing\r\n", requests)))
	require.NoError(t, err)
	for i := range 2 * requests {
		var items []string
		require.NoError(t, r.recvFunc(s, func(m *bufsock.Message) (err error) {
			items, err = readItems(m)
			return err
		}), "answer %d", i)
		if i%2 == 0 {
			require.Equal(t, want, items, "answer %d", i)
		} else {
			require.Empty(t, items, "answer %d", i)
		}
	}
	require.Zero(t, s.Buffered())
	assert.Greater(t, r.timeouts, requests)
}

func TestMemcachedTraps(t *testing.T) {
	t.Parallel()
	addr := startMemcached(t) // it takes a second to end
	t.Run("line in two", func(t *testing.T) { testMemcachedLineInTwo(t, addr) })
	t.Run("value too large", func(t *testing.T) { testMemcachedValueTooLarge(t, addr) })
	key := strings.Repeat("k", 250)
	for _, x := range []exchange{
		{name: "LF ends a line", send: "get k\n", want: "END\r\n"},
		{name: "key of 250", send: "get " + key + "\r\n", want: "END\r\n"},
		{name: "key of 251", send: "get k" + key + "\r\n", want: "CLIENT_ERROR bad command line format\r\n"},
		{name: "a byte too many", send: "set k 0 0 5\r\nhelloX\r\n", want: "CLIENT_ERROR bad data chunk\r\nERROR\r\n"},
		{name: "a command in the data", send: "set k 0 0 5\r\nhelloXXget z\r\n", want: "CLIENT_ERROR bad data chunk\r\nEND\r\n"},
		{name: "2049 bytes without LF", send: strings.Repeat("a", 2049), ends: true},
		{name: "a long get", send: "get" + strings.Repeat(" "+key, 100) + "\r\n", want: "END\r\n"},
	} {
		x.check(t, dial(t, addr), "mn\r\n", "MN\r\n")
	}
}

// A line may have 2048 bytes before its end.
func testMemcachedLineInTwo(t *testing.T, addr string) {
	s := dial(t, addr)
	_, err := s.Send([]byte(strings.Repeat("a", 2048)))
	require.NoError(t, err)
	requireSilence(t, s)
	exchange{name: "the end", send: "\r\n", want: "ERROR\r\n"}.check(t, s, "mn\r\n", "MN\r\n")
}

// A value too large is answered when all of it has come, and the one that was
// there is gone.
func testMemcachedValueTooLarge(t *testing.T, addr string) {
	s := dial(t, addr)
	exchange{name: "small", send: "set k 0 0 5\r\nhello\r\n", want: "STORED\r\n"}.check(t, s, "get k\r\n", "VALUE k 0 5\r\nhello\r\nEND\r\n")
	value := slices.Repeat([]byte("x"), 2_000_000)
	_, err := s.Send(fmt.Appendf(nil, "set k 0 0 %d\r\n", len(value)))
	require.NoError(t, err)
	requireSilence(t, s)
	_, err = s.SendBuffers([][]byte{value, crlf})
	require.NoError(t, err)
	exchange{name: "large", want: "SERVER_ERROR object too large for cache\r\n"}.check(t, s, "get k\r\n", "END\r\n")
}
