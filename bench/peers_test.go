package bench

import (
	"bufio"
	"io"
	"net"
	"net/textproto"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/cloudwego/netpoll"
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

// cutValue returns a connection on which a reply of two lines has come, and half
// of the second, when its deadline passes. The rest comes after rest was called.
// Who stores the value of the second line chose what that rest is.
func cutValue(t *testing.T) (conn net.Conn, rest func()) {
	conn, remote := net.Pipe()
	t.Cleanup(func() { conn.Close(); remote.Close() })
	more := make(chan struct{})
	go func() {
		io.WriteString(remote, "VALUE 10\r\nann ")
		conn.SetReadDeadline(time.Unix(1, 0))
		<-more
		io.WriteString(remote, "ADMIN\r\n\r\n")
	}()
	return conn, func() {
		conn.SetReadDeadline(time.Time{})
		close(more)
	}
}

func TestATimeoutMakesABodyAHeader(t *testing.T) {
	readers := map[string]func(*bufio.Reader) (string, error){
		"bufio.Reader": func(r *bufio.Reader) (string, error) {
			line, err := r.ReadString('\n')
			return strings.TrimRight(line, "\r\n"), err
		},
		"textproto.Reader": func(r *bufio.Reader) (string, error) {
			return textproto.NewReader(r).ReadLine()
		},
	}
	for name, header := range readers {
		t.Run(name, func(t *testing.T) {
			conn, rest := cutValue(t)
			r := bufio.NewReader(conn)
			line, err := header(r)
			require.NoError(t, err)
			require.Equal(t, "VALUE 10", line)
			_, err = io.ReadFull(r, make([]byte, 10))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			rest()
			line, err = header(r)
			require.NoError(t, err)
			require.Equal(t, "ADMIN", line)
		})
	}
}

func TestATimeoutLeavesHeaderAndBodyWithBufsock(t *testing.T) {
	conn, rest := cutValue(t)
	s := bufsock.NewBufferedSocket(conn)
	var value string
	read := func(m *bufsock.Message) error {
		if _, err := m.Until([]byte("\r\n")); err != nil {
			return err
		}
		body, err := m.Next(10)
		value = string(body)
		return err
	}
	require.ErrorIs(t, s.RecvFunc(read, bufsock.WithTimeout(time.Millisecond)), os.ErrDeadlineExceeded)
	rest()
	require.NoError(t, s.RecvFunc(read))
	require.Equal(t, "ann ADMIN\r", value)
}

// brokenOff returns what wrap makes of a TCP connection. The peer has reset it
// behind half an answer, and a Write has met the reset.
func brokenOff(t *testing.T, wrap func(net.Conn) io.ReadWriter) io.Reader {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	peer, err := l.Accept()
	require.NoError(t, err)
	_, err = io.WriteString(peer, "half an ")
	require.NoError(t, err)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	require.NoError(t, peer.Close())
	s := wrap(conn)
	require.Eventually(t, func() bool {
		_, err := s.Write([]byte("x"))
		return err != nil
	}, 10*time.Second, time.Millisecond)
	return s
}

// toTheEnd reads a stream to its end, as any program does.
var toTheEnd = map[string]func(io.Reader) (string, error){
	"io.ReadAll": func(r io.Reader) (string, error) {
		b, err := io.ReadAll(r)
		return string(b), err
	},
	"io.Copy": func(r io.Reader) (string, error) {
		var b strings.Builder
		_, err := io.Copy(&b, r)
		return b.String(), err
	},
}

func TestAResetThatAWriteHasMetIsAnEnd(t *testing.T) {
	for name, read := range toTheEnd {
		t.Run(name, func(t *testing.T) {
			got, err := read(brokenOff(t, func(conn net.Conn) io.ReadWriter { return conn }))
			require.NoError(t, err)
			require.Equal(t, "half an ", got)
		})
	}
}

func TestAResetThatAWriteHasMetIsNoEndWithBufsock(t *testing.T) {
	for name, read := range toTheEnd {
		t.Run(name, func(t *testing.T) {
			got, err := read(brokenOff(t, func(conn net.Conn) io.ReadWriter { return bufsock.NewBufferedSocket(conn) }))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.Equal(t, "half an ", got)
		})
	}
}

func TestIotestHasNoConnections(t *testing.T) {
	readers := map[string]io.Reader{
		"OneByteReader": iotest.OneByteReader(strings.NewReader("line\n")),
		"HalfReader":    iotest.HalfReader(strings.NewReader("line\n")),
		"DataErrReader": iotest.DataErrReader(strings.NewReader("line\n")),
		"TimeoutReader": iotest.TimeoutReader(strings.NewReader("line\n")),
		"ErrReader":     iotest.ErrReader(io.ErrUnexpectedEOF),
	}
	for name, r := range readers {
		_, isConn := r.(net.Conn)
		require.False(t, isConn, name)
	}
	require.NotErrorIs(t, iotest.ErrTimeout, os.ErrDeadlineExceeded)
	_, isNetError := iotest.ErrTimeout.(net.Error)
	require.False(t, isNetError)
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

func TestNetpollHasNoLimit(t *testing.T) {
	const size = 8 << 20
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		if peer, err := l.Accept(); err == nil {
			defer peer.Close()
			io.WriteString(peer, strings.Repeat("x", size)+"\n")
		}
	}()
	conn, err := netpoll.DialConnection("tcp", l.Addr().String(), 10*time.Second)
	require.NoError(t, err)
	defer conn.Close()
	line, err := conn.Reader().Until('\n')
	require.NoError(t, err)
	require.Len(t, line, size+1)
}

func TestATimeoutEndsADecoderOfNetstrings(t *testing.T) {
	conn, remote := net.Pipe()
	defer conn.Close()
	more := make(chan struct{})
	go func() {
		defer remote.Close()
		io.WriteString(remote, "11:half a ")
		conn.SetReadDeadline(time.Unix(1, 0))
		<-more
		io.WriteString(remote, "line,2:ok,")
	}()
	decoder := netstring.NewDecoder(conn)
	_, err := decoder.Decode()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	conn.SetReadDeadline(time.Time{})
	close(more)
	_, err = decoder.Decode()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "no deadline is set")
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
