package bufsock_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// One error of each kind, with all that is promised of it.
func TestErrors(t *testing.T) {
	secret := strings.Repeat("secret", 20)
	socket := func(wire string) *bufsock.BufferedSocket { return bufsock.NewBufferedSocket(segments(wire)) }
	canceled, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the cause"))
	tests := map[string]struct {
		err     func() error
		is      []error
		not     []error
		timeout bool
		text    string
	}{
		"timeout": {
			func() error {
				s := quiet(t)
				_, err := s.RecvUntil(crlf, bufsock.WithTimeout(time.Microsecond))
				return err
			},
			[]error{os.ErrDeadlineExceeded}, []error{bufsock.ErrWouldBlock, context.DeadlineExceeded}, true,
			`bufsock: RecvUntil: timed out after 1µs while waiting for "\r\n" (6 bytes buffered)`,
		},
		"would block": {
			func() error {
				_, err := quiet(t).RecvSize(10, bufsock.WithTimeout(bufsock.NonBlocking))
				return err
			},
			[]error{os.ErrDeadlineExceeded, bufsock.ErrWouldBlock}, nil, true,
			`bufsock: RecvSize: would block while waiting for 10 bytes (6 bytes buffered)`,
		},
		"deadline of the user": {
			func() error {
				s := quiet(t)
				require.NoError(t, s.SetReadDeadline(time.Unix(1, 0)))
				_, err := s.RecvClose()
				return err
			},
			[]error{os.ErrDeadlineExceeded}, []error{bufsock.ErrWouldBlock}, true,
			`bufsock: RecvClose: deadline exceeded while waiting for the end of the stream (6 bytes buffered)`,
		},
		"deadline of a context": {
			func() error {
				_, _, err := quiet(t).RecvUntilAny([][]byte{crlf, lf}, bufsock.WithContext(expired(t)))
				return err
			},
			[]error{os.ErrDeadlineExceeded, context.DeadlineExceeded}, []error{bufsock.ErrWouldBlock}, true,
			`bufsock: RecvUntilAny: context deadline exceeded while waiting for any of 2 delimiters (6 bytes buffered)`,
		},
		"canceled": {
			func() error {
				_, err := bufsock.NewNetstringSocket(holding(t, "6:")).ReadNetstring(bufsock.WithContext(canceled))
				return err
			},
			[]error{context.Canceled, context.Cause(canceled)}, []error{os.ErrDeadlineExceeded}, false,
			`bufsock: ReadNetstring: canceled while waiting for a whole netstring (2 bytes buffered): the cause`,
		},
		"closed between messages": {
			func() error { _, err := socket("").RecvUntil(lf); return err },
			[]error{io.EOF}, []error{io.ErrUnexpectedEOF}, false,
			`bufsock: RecvUntil: connection closed by peer before "\n" (0 bytes buffered)`,
		},
		"closed inside a message": {
			func() error { _, err := socket("a").RecvUntil(lf); return err },
			[]error{io.ErrUnexpectedEOF}, []error{io.EOF}, false,
			`bufsock: RecvUntil: connection closed by peer before "\n" (1 byte buffered)`,
		},
		"message too long": {
			func() error { _, err := socket(secret).RecvUntil(crlf, bufsock.WithMaxSize(9)); return err },
			nil, []error{os.ErrDeadlineExceeded}, false,
			`bufsock: RecvUntil: message too long: more than max size 9 without "\r\n" (120 bytes buffered); raise the max size or discard the message`,
		},
		"message too long without a delimiter": {
			func() error { _, err := socket(secret).RecvClose(bufsock.WithMaxSize(9)); return err },
			nil, nil, false,
			`bufsock: RecvClose: message too long: more than max size 9 (120 bytes buffered); raise the max size or discard the message`,
		},
		"a long delimiter": {
			func() error { _, err := socket("").RecvUntil([]byte(strings.Repeat("0123456789", 4))); return err },
			[]error{io.EOF}, nil, false,
			`bufsock: RecvUntil: connection closed by peer before "0123456789012345"... (40 bytes) (0 bytes buffered)`,
		},
		"a longer delimiter, too long": {
			func() error {
				_, err := socket("").RecvUntil([]byte(strings.Repeat("0123456789", 4)), bufsock.WithMaxSize(9))
				return err
			},
			nil, nil, false,
			`bufsock: RecvUntil: message too long: more than max size 9 without "01234567890123456789012345678901"... (40 bytes) (0 bytes buffered); raise the max size or discard the message`,
		},
		"no comma": {
			func() error { _, err := bufsock.NewNetstringSocket(socket("6:secret\n")).ReadNetstring(); return err },
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: ReadNetstring: expected a comma after a payload of 6 bytes, found "\n" (9 bytes buffered)`,
		},
		"no size": {
			func() error { _, err := bufsock.NewNetstringSocket(socket("1\nsecret")).ReadNetstring(); return err },
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: ReadNetstring: expected the size of a netstring in digits and a colon, found "1\n" (8 bytes buffered)`,
		},
		"netstring too long": {
			func() error {
				_, err := bufsock.NewNetstringSocket(socket("6:secret,")).ReadNetstring(bufsock.WithMaxSize(5))
				return err
			},
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: ReadNetstring: netstring too long: a payload of 6 or more bytes, max size 5 (9 bytes buffered)`,
		},
		"a payload too long": {
			func() error {
				return bufsock.NewNetstringSocket(segments(), bufsock.WithMaxSize(5)).WriteNetstring([]byte("secret"))
			},
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: WriteNetstring: netstring too long: a payload of 6 bytes, max size 5`,
		},
		"a payload of one byte too long": {
			func() error {
				return bufsock.NewNetstringSocket(segments(), bufsock.WithMaxSize(0)).WriteNetstring([]byte("s"))
			},
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: WriteNetstring: netstring too long: a payload of 1 byte, max size 0`,
		},
		"a size over that of an int": {
			func() error {
				_, err := bufsock.NewNetstringSocket(socket("99999999999999999999:")).DiscardNetstring()
				return err
			},
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: DiscardNetstring: netstring too long: the size of its payload is over that of an int (21 bytes buffered)`,
		},
		"bytes that are no netstring": {
			func() error { _, _, err := bufsock.CutNetstring([]byte("x:")); return err },
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: CutNetstring: expected the size of a netstring in digits and a colon, found "x" (2 bytes given)`,
		},
		"bytes without a comma": {
			func() error { _, _, err := bufsock.CutNetstring([]byte("6:secret;")); return err },
			[]error{bufsock.ErrNetstringProtocol}, nil, false,
			`bufsock: CutNetstring: expected a comma after a payload of 6 bytes, found ";" (9 bytes given)`,
		},
		"a split function out of its data": {
			func() error {
				_, err := socket("x").RecvSplit(func([]byte, bool) (int, []byte, error) { return 2, nil, nil })
				return err
			},
			[]error{bufio.ErrAdvanceTooFar}, nil, false,
			`bufsock: RecvSplit: bufio.Scanner: SplitFunc returns advance count beyond input`,
		},
		"closed by us": {
			func() error { s := socket(""); s.Close(); _, err := s.Recv(1); return err },
			[]error{net.ErrClosed}, nil, false,
			`bufsock: Recv: use of closed network connection`,
		},
		"invalid argument": {
			func() error { _, err := socket("").Recv(-1); return err },
			[]error{bufsock.ErrInvalidArgument}, nil, false,
			`bufsock: Recv: negative size -1`,
		},
		"an option that does not apply": {
			func() error { _, err := socket("").Send(nil, bufsock.WithDelimiter()); return err },
			[]error{bufsock.ErrInvalidArgument}, nil, false,
			`bufsock: Send: WithDelimiter does not apply to this call`,
		},
		"unsupported": {
			func() error { return socket("").CloseRead() },
			[]error{errors.ErrUnsupported}, nil, false,
			`bufsock: CloseRead: not supported by the connection (*bufsock_test.wire)`,
		},
		"buffered data": {
			func() error {
				s := socket(secret)
				s.Peek(1)
				return s.Upgrade(func(c net.Conn) (net.Conn, error) { return c, nil })
			},
			[]error{bufsock.ErrBufferedData}, nil, false,
			`bufsock: Upgrade: refused, because 120 bytes received and 0 bytes unsent belong to the present connection`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.err()
			assert.EqualError(t, err, tt.text)
			assert.NotContains(t, err.Error(), "secret")
			for _, target := range tt.is {
				assert.ErrorIs(t, err, target)
			}
			for _, target := range tt.not {
				assert.NotErrorIs(t, err, target)
			}
			e, ok := err.(net.Error) // the plain assertion of crypto/tls and net/http
			require.True(t, ok)
			assert.Equal(t, tt.timeout, e.Timeout())
			temporary, ok := err.(interface{ Temporary() bool })
			require.True(t, ok)
			assert.Equal(t, tt.timeout, temporary.Temporary())
			_, ok = errors.AsType[bufsock.Error](err)
			assert.True(t, ok)
		})
	}
}

// quiet returns a socket with six bytes in its buffer and no more to come.
func quiet(t *testing.T) *bufsock.BufferedSocket { return holding(t, "secret") }

// holding returns a socket with wire in its buffer and no more to come.
func holding(t *testing.T, wire string) *bufsock.BufferedSocket {
	local, remote := tcpPair(t)
	_, err := remote.Write([]byte(wire))
	require.NoError(t, err)
	s := bufsock.NewBufferedSocket(local)
	_, err = s.Peek(len(wire))
	require.NoError(t, err)
	return s
}

func TestErrorFields(t *testing.T) {
	_, err := bufsock.NewBufferedSocket(segments("abcdefgh")).RecvUntil(crlf, bufsock.WithMaxSize(4))
	tooLong, ok := errors.AsType[*bufsock.MessageTooLongError](err)
	require.True(t, ok)
	require.Equal(t, &bufsock.MessageTooLongError{Op: "RecvUntil", MaxSize: 4, Buffered: 8, Delimiter: crlf}, tooLong)
	require.NotSame(t, &crlf[0], &tooLong.Delimiter[0], "a copy")

	_, err = quiet(t).RecvSize(10, bufsock.WithTimeout(time.Millisecond))
	timeout, ok := errors.AsType[*bufsock.TimeoutError](err)
	require.True(t, ok)
	require.Equal(t, "RecvSize", timeout.Op)
	require.Equal(t, time.Millisecond, timeout.After)
	require.Equal(t, 6, timeout.Buffered)
	require.Error(t, timeout.Err)

	_, err = bufsock.NewBufferedSocket(segments("abc")).RecvSize(10)
	closed, ok := errors.AsType[*bufsock.ConnectionClosedError](err)
	require.True(t, ok)
	require.Equal(t, "RecvSize", closed.Op)
	require.Equal(t, 3, closed.Buffered)
	require.Equal(t, io.ErrUnexpectedEOF, closed.Err)
}

// The texts of what is refused name the option.
func TestTextsOfOptionsThatDoNotApply(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments())
	var none context.Context
	for text, o := range map[string]bufsock.Option{
		"bufsock: Send: WithMaxSize does not apply to this call":     bufsock.WithMaxSize(1),
		"bufsock: Send: WithReadSize does not apply to this call":    bufsock.WithReadSize(1),
		"bufsock: Send: WithDelimiter does not apply to this call":   bufsock.WithDelimiter(),
		"bufsock: Send: AppendTo does not apply to this call":        bufsock.AppendTo(nil),
		"bufsock: Send: the zero Option does not apply to this call": {},
		"bufsock: Send: WithContext wants a context that is not nil": bufsock.WithContext(none),
	} {
		_, err := s.Send(nil, o)
		require.EqualError(t, err, text)
		_, err = s.Send(nil, o, bufsock.WithTimeout(time.Second))
		require.EqualError(t, err, text, "whatever follows")
	}
	for text, o := range map[string]bufsock.Option{
		"bufsock: NewBufferedSocket: WithContext does not apply to constructors":     bufsock.WithContext(t.Context()),
		"bufsock: NewBufferedSocket: WithDelimiter does not apply to constructors":   bufsock.WithDelimiter(),
		"bufsock: NewBufferedSocket: AppendTo does not apply to constructors":        bufsock.AppendTo([]byte("x")),
		"bufsock: NewBufferedSocket: the zero Option does not apply to constructors": {},
		"bufsock: NewBufferedSocket: WithReadSize wants 1 byte to 1 GiB":             bufsock.WithReadSize(1<<30 + 1),
	} {
		require.Equal(t, text, panicOf(func() { bufsock.NewBufferedSocket(segments(), o) }))
	}
	for _, size := range []int{1, 1 << 30} { // no memory is taken yet
		require.NotPanics(t, func() { bufsock.NewBufferedSocket(segments(), bufsock.WithReadSize(size)) })
	}
}

// Of the timeouts only their sign is kept below zero.
func TestAfterIsTheTimeoutOfTheCall(t *testing.T) {
	s := quiet(t)
	require.NoError(t, s.SetReadDeadline(time.Unix(1, 0)))
	for timeout, want := range map[time.Duration]time.Duration{
		-time.Hour:      bufsock.NoTimeout,
		-2:              bufsock.NoTimeout,
		-1:              bufsock.NoTimeout,
		0:               0,
		1 * time.Minute: time.Minute,
	} {
		_, err := s.RecvUntil(lf, bufsock.WithTimeout(timeout))
		require.Equal(t, want, err.(*bufsock.TimeoutError).After)
	}
}

// Foreign bytes are quoted up to a bound: of delimiters that a call waited for
// the first 16, of others 32.
func TestQuotedBytes(t *testing.T) {
	digits := strings.Repeat("0123456789", 10)
	for n, want := range map[int]string{
		15: `"012345678901234"`,
		16: `"0123456789012345"`,
		17: `"0123456789012345"... (17 bytes)`,
	} {
		_, err := bufsock.NewBufferedSocket(segments()).RecvUntil([]byte(digits[:n]))
		require.EqualError(t, err, "bufsock: RecvUntil: connection closed by peer before "+want+" (0 bytes buffered)")
	}
	for n, want := range map[int]string{
		31: `"` + digits[:31] + `"`,
		32: `"` + digits[:32] + `"`,
		33: `"` + digits[:32] + `"... (33 bytes)`,
	} {
		_, err := bufsock.NewBufferedSocket(segments()).RecvUntil([]byte(digits[:n]), bufsock.WithMaxSize(0))
		require.ErrorContains(t, err, "without "+want+" (0 bytes buffered)")
	}
	// byte counts
	for n, want := range []string{"0 bytes", "1 byte", "2 bytes"} {
		_, err := bufsock.NewBufferedSocket(segments("abc"[:n])).RecvSize(10)
		require.EqualError(t, err, "bufsock: RecvSize: connection closed by peer before 10 bytes ("+want+" buffered)")
	}
	// what each kind of call waited for
	for want, call := range map[string]func(s *bufsock.BufferedSocket) error{
		"Peek: connection closed by peer before 3 bytes":                     func(s *bufsock.BufferedSocket) error { _, err := s.Peek(3); return err },
		"Discard: connection closed by peer before 3 bytes":                  func(s *bufsock.BufferedSocket) error { _, err := s.Discard(3); return err },
		`DiscardUntil: connection closed by peer before "\n"`:                func(s *bufsock.BufferedSocket) error { _, err := s.DiscardUntil(lf); return err },
		"RecvUntilAny: connection closed by peer before any of 1 delimiters": func(s *bufsock.BufferedSocket) error { _, _, err := s.RecvUntilAny([][]byte{lf}); return err },
		"RecvSplit: connection closed by peer before a token":                func(s *bufsock.BufferedSocket) error { _, err := s.RecvSplit(bufio.ScanLines); return err },
		"ReadNetstring: connection closed by peer before a whole netstring": func(s *bufsock.BufferedSocket) error {
			_, err := bufsock.NewNetstringSocket(s).ReadNetstring()
			return err
		},
		"DiscardNetstring: connection closed by peer before a whole netstring": func(s *bufsock.BufferedSocket) error {
			_, err := bufsock.NewNetstringSocket(s).DiscardNetstring()
			return err
		},
	} {
		require.EqualError(t, call(bufsock.NewBufferedSocket(segments())), "bufsock: "+want+" (0 bytes buffered)")
	}
	// what they waited for when their time was up
	for want, call := range map[string]func(s *bufsock.BufferedSocket, opts ...bufsock.Option) error{
		"RecvClose: would block while waiting for the end of the stream (6 bytes buffered)": waiting["RecvClose"],
		"RecvSplit: would block while waiting for a token (6 bytes buffered)":               waiting["RecvSplit"],
	} {
		require.EqualError(t, call(quiet(t), bufsock.WithTimeout(bufsock.NonBlocking)), "bufsock: "+want)
	}
}
