package interop_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readValue reads a value of RESP and the values in it: a line as it is, a
// string without its size, an array as a slice.
func readValue(m *bufsock.Message, depth int) (any, error) {
	line, err := m.Until(crlf)
	if err != nil || len(line) == 0 || depth > 32 {
		return nil, errors.Join(err, fmt.Errorf("no value: %.20q at depth %d", line, depth))
	}
	n, _ := strconv.Atoi(string(line[1:]))
	switch {
	case line[0] == '$' && n >= 0:
		data, err := m.Next(n + len(crlf))
		return strings.TrimSuffix(string(data), "\r\n"), err
	case line[0] == '*' && n >= 0:
		list := []any{}
		for range n {
			value, err := readValue(m, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	}
	return string(line), nil
}

// nestedReply is what Redis answers to the script of TestNestedReplies.
func nestedReply(i int, text string) any {
	return []any{":" + strconv.Itoa(i), []any{text, []any{[]any{}, text + strconv.Itoa(i)}}, "+status", "$-1"}
}

const nestedScript = `return {tonumber(ARGV[1]), {ARGV[2], {{}, ARGV[2] .. ARGV[1]}}, redis.status_reply('status'), false}`

// TestNestedReplies pipelines commands whose replies are arrays in arrays and
// come in pieces of a few bytes, while a receive waits a millisecond at most.
// The texts in them look like replies.
func TestNestedReplies(t *testing.T) {
	t.Parallel()
	commands, texts := 10_000, []string{"", "a\r\n+OK\r\n", "$-1\r\n*3\r\n", "*1000000\r\n", "\r\n", "a\x00\xff"}
	if hasRaceDetector() {
		commands /= 10
	}
	r := startRelay(t, redisAddr(t), inPieces(200))
	s := r.dial(t)
	sent := goDo(func() (any, error) {
		var err error
		for i := range commands {
			err = errors.Join(err, s.Buffer(appendCommand(nil, "EVAL", nestedScript, "0", strconv.Itoa(i), texts[i%len(texts)])))
			if i%100 == 99 {
				err = errors.Join(err, s.Flush())
			}
		}
		return nil, errors.Join(err, s.Flush())
	})
	for i := range commands {
		var got any
		err := r.recvFunc(s, func(m *bufsock.Message) (err error) {
			got, err = readValue(m, 0)
			return err
		})
		require.NoError(t, err, "reply %d", i)
		require.Equal(t, nestedReply(i, texts[i%len(texts)]), got, "reply %d", i)
	}
	await(t, sent)
	require.Zero(t, s.Buffered())
	assert.Greater(t, r.timeouts, commands/20)
}

// TestLargeReplies receives the longest replies that Redis has, of 90,000 and
// 170,000 bytes in arrays in arrays, and times out hundreds of times on the way.
func TestLargeReplies(t *testing.T) {
	t.Parallel()
	each := 80 // pieces before a stop
	if hasRaceDetector() {
		each *= 5 // each try begins at the first byte
	}
	r := startRelay(t, redisAddr(t), inPieces(each))
	s := r.dial(t, bufsock.WithMaxSize(1<<20))
	for _, command := range [][]string{{"COMMAND"}, {"COMMAND", "DOCS"}} {
		before := len(r.came.String())
		_, err := s.Send(appendCommand(nil, command...))
		require.NoError(t, err)
		var reply any
		size := 0
		r.timeouts = 0
		err = r.recvFunc(s, func(m *bufsock.Message) (err error) {
			reply, err = readValue(m, 0)
			size = m.Offset()
			return err
		})
		require.NoError(t, err)
		raw := r.came.String()[before:]
		require.Greater(t, len(raw), 80_000)
		require.Equal(t, len(raw), size)
		require.Zero(t, s.Buffered())
		requireValue(t, raw, reply)
		assert.Greater(t, r.timeouts, len(raw)/6/each)
	}
}

// requireValue compares the parts of a value with the bytes that it came from,
// which it does not take apart again: each is there, in its order.
func requireValue(t *testing.T, raw string, value any) {
	t.Helper()
	rest := raw
	var check func(value any)
	check = func(value any) {
		text, isText := value.(string)
		if !isText {
			list := value.([]any)
			text = "*" + strconv.Itoa(len(list))
			require.True(t, strings.HasPrefix(rest, text+"\r\n"), "%s, and found %.40q", text, rest)
			rest = rest[len(text)+len("\r\n"):]
			for _, v := range list {
				check(v)
			}
			return
		}
		if bulk := fmt.Sprintf("$%d\r\n%s\r\n", len(text), text); strings.HasPrefix(rest, bulk) {
			rest = rest[len(bulk):]
			return
		}
		require.True(t, strings.HasPrefix(rest, text+"\r\n"), "%q, and found %.40q", text, rest)
		rest = rest[len(text)+len("\r\n"):]
	}
	check(value)
	require.Empty(t, rest)
}
