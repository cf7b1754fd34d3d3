package bench

import (
	"bufio"
	"io"
	"net"
	"net/textproto"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/markdingo/netstring"
	"github.com/stretchr/testify/require"
)

// These tests show what the README of bufsock says of its peers. One that fails
// tells that a peer has become better, and that the README is wrong.

// stalled returns a connection on which half a line has come, and whose
// deadline passes then. The rest of the line comes after rest was called.
func stalled(t *testing.T) (conn net.Conn, rest func()) {
	conn, remote := net.Pipe()
	t.Cleanup(func() { conn.Close(); remote.Close() })
	more := make(chan struct{})
	go func() {
		io.WriteString(remote, "half a ")
		conn.SetReadDeadline(time.Unix(1, 0))
		<-more
		io.WriteString(remote, "line\n")
	}()
	return conn, func() {
		conn.SetReadDeadline(time.Time{})
		close(more)
	}
}

func TestATimeoutMakesHalfALineAWholeOne(t *testing.T) {
	readers := map[string]func(net.Conn) (string, error){
		"bufio.Reader.ReadLine": func(conn net.Conn) (string, error) {
			line, _, err := bufio.NewReader(conn).ReadLine()
			return string(line), err
		},
		"textproto.Reader.ReadLine": func(conn net.Conn) (string, error) {
			return textproto.NewReader(bufio.NewReader(conn)).ReadLine()
		},
		"bufio.Scanner": func(conn net.Conn) (string, error) {
			scanner := bufio.NewScanner(conn)
			scanner.Scan()
			return scanner.Text(), nil
		},
	}
	for name, read := range readers {
		t.Run(name, func(t *testing.T) {
			conn, _ := stalled(t)
			line, err := read(conn)
			require.NoError(t, err)
			require.Equal(t, "half a ", line)
		})
	}
}

func TestATimeoutTakesHalfALineOutOfABufioReader(t *testing.T) {
	conn, rest := stalled(t)
	r := bufio.NewReader(conn)
	line, err := r.ReadBytes('\n')
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Equal(t, "half a ", string(line))
	rest()
	line, err = r.ReadBytes('\n')
	require.NoError(t, err)
	require.Equal(t, "line\n", string(line))
}

func TestATimeoutLeavesALineWithBufsock(t *testing.T) {
	conn, rest := stalled(t)
	s := bufsock.NewBufferedSocket(conn)
	_, err := s.RecvUntil(lf, bufsock.WithTimeout(time.Millisecond))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	rest()
	line, err := s.RecvUntil(lf)
	require.NoError(t, err)
	require.Equal(t, "half a line", string(line))
}

func TestReadBytesHasNoLimit(t *testing.T) {
	const size = 8 << 20
	line, err := bufio.NewReader(strings.NewReader(strings.Repeat("x", size) + "\n")).ReadBytes('\n')
	require.NoError(t, err)
	require.Len(t, line, size+1)
}

func TestAScannerIsDeadAfterALineTooLong(t *testing.T) {
	scanner := bufio.NewScanner(strings.NewReader(strings.Repeat("x", 100) + "\nshort\n"))
	scanner.Buffer(nil, 16)
	require.False(t, scanner.Scan())
	require.ErrorIs(t, scanner.Err(), bufio.ErrTooLong)
	for scanner.Scan() {
		require.NotContains(t, scanner.Text(), "short")
	}
}

// allocated returns how many bytes work allocates.
func allocated(work func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestANetstringPrefixAllocates(t *testing.T) {
	const prefix = "999999999:"
	require.Greater(t, allocated(func() { netstring.NewDecoder(strings.NewReader(prefix)).Decode() }), uint64(900<<20))
	require.Less(t, allocated(func() {
		conn, remote := net.Pipe()
		go func() {
			io.WriteString(remote, prefix)
			remote.Close()
		}()
		bufsock.NewNetstringSocket(conn, bufsock.WithMaxSize(bufsock.NoLimit)).ReadNetstring()
	}), uint64(1<<20))
}
