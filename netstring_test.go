package bufsock_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These stand for error types in tables.
var (
	errInvalidSize = errors.New("invalid size")
	errFrameLong   = errors.New("frame too long")
	errProtocol    = errors.New("protocol")
)

// tooManyDigits is the size that "99999999999999999999" is found to announce.
var tooManyDigits = func() int64 {
	if math.MaxInt == math.MaxInt32 {
		return 9999999999 // no frame of that size fits, and no more digits are looked at
	}
	return math.MaxInt64
}()

func assertNetstringError(t *testing.T, err, want error) {
	t.Helper()
	switch want {
	case errInvalidSize:
		assert.IsType(t, (*bufsock.NetstringInvalidSizeError)(nil), err)
	case errFrameLong:
		assert.IsType(t, (*bufsock.NetstringMessageTooLongError)(nil), err)
	case errProtocol:
		assert.IsType(t, (*bufsock.NetstringProtocolError)(nil), err)
	default:
		assertErrorIs(t, err, want)
		return
	}
	assert.ErrorIs(t, err, bufsock.ErrNetstringProtocol)
}

// What a stream that begins with wire and ends there is read as, under a max
// size of 1000.
var netstrings = map[string]struct {
	wire    string
	payload string
	rest    string
	err     error
	rule    string
}{
	"a frame":                     {"5:hello,", "hello", "", nil, ""},
	"what follows stays":          {"5:hello,3:", "hello", "3:", nil, ""},
	"empty":                       {"0:,x", "", "x", nil, ""},
	"any bytes":                   {"6:\x00,:\r\n\xff,", "\x00,:\r\n\xff", "", nil, ""},
	"two digits":                  {"12:hello world!,", "hello world!", "", nil, ""},
	"the largest":                 {"1000:" + strings.Repeat("x", 1000) + ",", strings.Repeat("x", 1000), "", nil, ""},
	"one more":                    {"1001:", "", "1001:", errFrameLong, ""},
	"no stream":                   {"", "", "", io.EOF, ""},
	"the end in the size":         {"5", "", "5", io.ErrUnexpectedEOF, ""},
	"the end after the colon":     {"5:", "", "5:", io.ErrUnexpectedEOF, ""},
	"the end in the payload":      {"5:hel", "", "5:hel", io.ErrUnexpectedEOF, ""},
	"the end before the comma":    {"5:hello", "", "5:hello", io.ErrUnexpectedEOF, ""},
	"no comma":                    {"5:hello;", "", "5:hello;", errProtocol, ""},
	"no comma after empty":        {"0:;", "", "0:;", errProtocol, ""},
	"a leading zero":              {"05:hello,", "", "05:hello,", errInvalidSize, "05"},
	"two zeros":                   {"00:,", "", "00:,", errInvalidSize, "00"},
	"a sign":                      {"+5:hello,", "", "+5:hello,", errInvalidSize, "+"},
	"a minus":                     {"-5:hello,", "", "-5:hello,", errInvalidSize, "-"},
	"a space before":              {" 5:hello,", "", " 5:hello,", errInvalidSize, " "},
	"a space behind":              {"5 :hello,", "", "5 :hello,", errInvalidSize, "5 "},
	"an underscore":               {"1_1:hello world,", "", "1_1:hello world,", errInvalidSize, "1_"},
	"a digit that is not ASCII":   {"٣:abc,", "", "٣:abc,", errInvalidSize, "\xd9"},
	"a hex digit":                 {"a:hello world,", "", "a:hello world,", errInvalidSize, "a"},
	"a line end before":           {"\n5:hello,", "", "\n5:hello,", errInvalidSize, "\n"},
	"no size":                     {":,", "", ":,", errInvalidSize, ":"},
	"text":                        {"abc", "", "abc", errInvalidSize, "a"},
	"a size for no integer":       {"99999999999999999999:", "", "99999999999999999999:", errFrameLong, ""},
	"a size at its first excess":  {"9999", "", "9999", errFrameLong, ""},
	"wrong before it is too long": {"1x99999", "", "1x99999", errInvalidSize, "1x"},
}

func TestReadNetstring(t *testing.T) {
	for name, tt := range netstrings {
		for _, size := range []int{1 << 20, 3, 1} {
			t.Run(fmt.Sprintf("%s, in reads of %d", name, size), func(t *testing.T) {
				s := bufsock.NewBufferedSocket(&scriptConn{stream: []byte(tt.wire), size: size}, bufsock.WithMaxSize(1000))
				payload, err := bufsock.NewNetstringSocket(s).ReadNetstring()
				assertNetstringError(t, err, tt.err)
				assert.Equal(t, tt.payload, string(payload))
				assert.Equal(t, err == nil, payload != nil)
				if e, ok := err.(*bufsock.NetstringInvalidSizeError); ok {
					assert.Equal(t, tt.rule, string(e.Prefix))
				}
				left := string(s.RecvBuffer())
				if err != nil {
					assert.True(t, strings.HasPrefix(tt.wire, left), "a failed read keeps its bytes")
					if size == 1 && tt.rule != "" {
						assert.Equal(t, tt.rule, left, "fails at the first wrong byte")
					}
				} else {
					assert.True(t, strings.HasPrefix(tt.rest, left))
				}
			})
		}
	}
}

func TestCutNetstring(t *testing.T) {
	for name, tt := range netstrings {
		t.Run(name, func(t *testing.T) {
			payload, rest, err := bufsock.CutNetstring([]byte(tt.wire))
			switch tt.err {
			case nil:
				require.NoError(t, err)
				require.Equal(t, tt.payload, string(payload))
				require.Equal(t, tt.rest, string(rest))
				again := bufsock.AppendNetstring(nil, payload)
				require.Equal(t, tt.wire, string(again)+tt.rest)
				return
			case io.EOF, io.ErrUnexpectedEOF:
				require.True(t, err == io.ErrUnexpectedEOF)
			case errFrameLong: // no max size applies
				if len(tt.wire) < 20 {
					require.True(t, err == io.ErrUnexpectedEOF)
					break
				}
				require.Equal(t, tooManyDigits, err.(*bufsock.NetstringMessageTooLongError).Size)
			default:
				assertNetstringError(t, err, tt.err)
			}
			require.Nil(t, payload)
			require.Equal(t, tt.wire, string(rest), "on an error rest is b")
		})
	}
}

func TestCutNetstringIsPartOfItsArgument(t *testing.T) {
	b := []byte("3:abc,3:def,")
	payload, rest, err := bufsock.CutNetstring(b)
	require.NoError(t, err)
	require.Same(t, &b[2], &payload[0])
	require.Same(t, &b[6], &rest[0])
	_ = append(payload, "xxx"...)
	require.Equal(t, "3:abc,3:def,", string(b), "appending to the payload does not write to b")
}

func TestNetstringSizes(t *testing.T) {
	read := func(wire string, limit int) int64 {
		ns := bufsock.NewNetstringSocket(segments(wire), bufsock.WithMaxSize(limit))
		_, err := ns.ReadNetstring()
		e, ok := err.(*bufsock.NetstringMessageTooLongError)
		require.True(t, ok, "%v", err)
		return e.Size
	}
	require.EqualValues(t, 20, read("20:", 10))
	require.EqualValues(t, 1, read("1:", 0))
	require.EqualValues(t, 100, read("1000:", 99), "fails while the digits arrive")
	require.Equal(t, tooManyDigits, read("99999999999999999999:", bufsock.NoLimit))
}

func TestNetstringSurvivesATimeoutAnywhere(t *testing.T) {
	wire := []byte("11:hello world,0:,3:abc,")
	for cut := range wire {
		local, remote := tcpPair(t)
		ns := bufsock.NewNetstringSocket(local)
		_, err := remote.Write(wire[:cut])
		require.NoError(t, err)
		_, err = ns.Socket().Peek(cut)
		require.NoError(t, err)
		var got []string
		for {
			payload, err := ns.ReadNetstring(bufsock.WithTimeout(bufsock.NonBlocking))
			if err != nil {
				require.ErrorIs(t, err, bufsock.ErrWouldBlock)
				break
			}
			got = append(got, string(payload))
		}
		_, err = remote.Write(wire[cut:])
		require.NoError(t, err)
		remote.Close()
		for payload, err := range ns.Messages() {
			require.NoError(t, err)
			got = append(got, string(payload))
		}
		require.Equal(t, []string{"hello world", "", "abc"}, got, "cut at %d", cut)
		ns.Close()
	}
}

func TestWriteNetstring(t *testing.T) {
	w := &wire{}
	ns := bufsock.NewNetstringSocket(w, bufsock.WithMaxSize(5))
	require.NoError(t, ns.WriteNetstring([]byte("hello")))
	require.NoError(t, ns.WriteNetstring(nil))
	require.NoError(t, ns.Socket().Buffer([]byte("0:,")))
	require.NoError(t, ns.WriteNetstring([]byte("abc")))
	require.Equal(t, []string{"5:hello,", "0:,", "0:,3:abc,"}, w.writes, "one write each")

	err := ns.WriteNetstring([]byte("hello!"))
	require.Equal(t, int64(6), err.(*bufsock.NetstringMessageTooLongError).Size)
	require.Equal(t, 5, err.(*bufsock.NetstringMessageTooLongError).MaxSize)
	require.Len(t, w.writes, 3, "nothing is sent")
	require.Empty(t, ns.Socket().SendBuffer())
	require.NoError(t, ns.WriteNetstring([]byte("hello!"), bufsock.WithMaxSize(6)))

	w.limits, w.err = []int{4}, os.ErrDeadlineExceeded
	require.IsType(t, (*bufsock.TimeoutError)(nil), ns.WriteNetstring([]byte("hello")))
	require.Equal(t, "llo,", string(ns.Socket().SendBuffer()))
	require.NoError(t, ns.Socket().Flush())
	require.Equal(t, []string{"5:he", "llo,"}, w.writes[4:])
}

func TestWriteNetstringIsOneWrite(t *testing.T) {
	for _, size := range []int{0, 16, 1 << 10, 16 << 10, 64<<10 - 7} {
		w := &wire{}
		ns := bufsock.NewNetstringSocket(w, bufsock.WithMaxSize(bufsock.NoLimit))
		require.NoError(t, ns.WriteNetstring(make([]byte, size)))
		require.Len(t, w.writes, 1, "%d bytes", size)
		require.Equal(t, string(bufsock.AppendNetstring(nil, make([]byte, size))), w.writes[0])
	}
}

func TestWriteLargeNetstring(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			local, remote := transport.pair(t)
			from, to := bufsock.NewNetstringSocket(local), bufsock.NewNetstringSocket(remote, bufsock.WithMaxSize(1<<20))
			done := make(chan error)
			go func() { done <- from.WriteNetstring(payload, bufsock.WithMaxSize(bufsock.NoLimit)) }()
			got, err := to.ReadNetstring(bufsock.AppendTo(make([]byte, 0, 1<<20)))
			require.NoError(t, err)
			require.True(t, bytes.Equal(payload, got))
			require.NoError(t, <-done)
		})
	}
}

func TestDiscardNetstring(t *testing.T) {
	t.Run("skips a frame too long", func(t *testing.T) {
		ns := bufsock.NewNetstringSocket(segments("100000:"+strings.Repeat("x", 100_000)+",", "3:abc,"), bufsock.WithMaxSize(10))
		_, err := ns.ReadNetstring()
		require.IsType(t, (*bufsock.NetstringMessageTooLongError)(nil), err)
		n, err := ns.DiscardNetstring()
		require.NoError(t, err)
		require.Equal(t, 100_000, n)
		payload, err := ns.ReadNetstring()
		require.NoError(t, err)
		require.Equal(t, "abc", string(payload))
	})
	t.Run("an empty frame", func(t *testing.T) {
		ns := bufsock.NewNetstringSocket(segments("0:,1:x,"))
		n, err := ns.DiscardNetstring()
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = ns.DiscardNetstring()
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
	t.Run("goes on after a timeout, as does the next read", func(t *testing.T) {
		for _, read := range []bool{false, true} {
			local, remote := tcpPair(t)
			ns := bufsock.NewNetstringSocket(local)
			_, err := remote.Write([]byte("10:abcd"))
			require.NoError(t, err)
			_, err = ns.Socket().Peek(7)
			require.NoError(t, err)
			n, err := ns.DiscardNetstring(bufsock.WithTimeout(time.Millisecond))
			require.IsType(t, (*bufsock.TimeoutError)(nil), err)
			require.Equal(t, 4, n)
			_, err = remote.Write([]byte("efghij,3:abc,"))
			require.NoError(t, err)
			if !read {
				n, err = ns.DiscardNetstring()
				require.NoError(t, err)
				require.Equal(t, 6, n)
			}
			payload, err := ns.ReadNetstring()
			require.NoError(t, err)
			require.Equal(t, "abc", string(payload))
		}
	})
	t.Run("errors", func(t *testing.T) {
		for wire, want := range map[string]error{
			"":                      io.EOF,
			"5":                     io.ErrUnexpectedEOF,
			"5:":                    io.ErrUnexpectedEOF,
			"5:abc":                 io.ErrUnexpectedEOF,
			"5:abcde":               io.ErrUnexpectedEOF,
			"05:":                   errInvalidSize,
			"5:abcde;":              errProtocol,
			"99999999999999999999:": errFrameLong,
		} {
			_, err := bufsock.NewNetstringSocket(segments(wire)).DiscardNetstring()
			assertNetstringError(t, err, want)
		}
	})
	t.Run("a bad comma is not met twice", func(t *testing.T) {
		ns := bufsock.NewNetstringSocket(segments("3:abcX\n2:hi,"))
		_, err := ns.DiscardNetstring()
		require.IsType(t, (*bufsock.NetstringProtocolError)(nil), err)
		_, err = ns.Socket().DiscardUntil(lf)
		require.NoError(t, err)
		payload, err := ns.ReadNetstring()
		require.NoError(t, err)
		require.Equal(t, "hi", string(payload))
	})
	t.Run("ends with the connection", func(t *testing.T) {
		ns := bufsock.NewNetstringSocket(segments("10:abc"))
		_, err := ns.DiscardNetstring()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NoError(t, ns.Socket().Upgrade(func(net.Conn) (net.Conn, error) { return segments("2:hi,"), nil }))
		payload, err := ns.ReadNetstring()
		require.NoError(t, err)
		require.Equal(t, "hi", string(payload))
	})
}

func TestNetstringMessages(t *testing.T) {
	var got []string
	for payload, err := range bufsock.NewNetstringSocket(segments("1:a,0:,", "2:b", "c,")).Messages() {
		require.NoError(t, err)
		got = append(got, string(payload))
	}
	require.Equal(t, []string{"a", "", "bc"}, got)

	var errs []error
	for _, err := range bufsock.NewNetstringSocket(segments("1:a,2:b")).Messages() {
		errs = append(errs, err)
	}
	require.Len(t, errs, 2)
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], io.ErrUnexpectedEOF)
}

func TestNetstringSocketSharesSettings(t *testing.T) {
	s := bufsock.NewBufferedSocket(&wire{})
	ns := bufsock.NewNetstringSocket(s, bufsock.WithTimeout(time.Minute))
	require.Same(t, s, ns.Socket(), "not wrapped again")
	require.Equal(t, time.Minute, s.Timeout())
	ns.SetTimeout(time.Second)
	ns.SetMaxSize(7)
	require.Equal(t, time.Second, s.Timeout())
	require.Equal(t, 7, s.MaxSize())
	s.SetTimeout(time.Hour)
	s.SetMaxSize(8)
	require.Equal(t, time.Hour, ns.Timeout())
	require.Equal(t, 8, ns.MaxSize())
	require.NoError(t, ns.Close())
	_, err := s.Recv(1)
	assertClosed(t, err)
}

func TestNilSocketsAreNoConnection(t *testing.T) {
	var s *bufsock.BufferedSocket
	require.Equal(t, "bufsock: NewNetstringSocket: nil connection", panicOf(func() { bufsock.NewNetstringSocket(s) }))
	require.Equal(t, "bufsock: NewNetstringSocket: nil connection", panicOf(func() { bufsock.NewNetstringSocket(nil) }))
}

// A constructor that panics has changed nothing of a socket that was there.
func TestOptionsAreAppliedAllOrNone(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments())
	require.Equal(t, "bufsock: NewNetstringSocket: WithDelimiter does not apply to constructors", panicOf(func() {
		bufsock.NewNetstringSocket(s, bufsock.WithMaxSize(99), bufsock.WithTimeout(1), bufsock.WithDelimiter())
	}))
	require.Equal(t, bufsock.DefaultMaxSize, s.MaxSize())
	require.Equal(t, bufsock.DefaultTimeout, s.Timeout())
}

// What DiscardNetstring returns with an error is what it has dropped.
func TestDiscardNetstringCountsWhatItDroppedBeforeAnError(t *testing.T) {
	for wire, want := range map[string]struct {
		n    int
		left string
	}{
		"":                      {0, ""},
		"5":                     {0, "5"},
		"5:":                    {0, ""},
		"5:abc":                 {3, ""},
		"5:abcde":               {5, ""},
		"5:abcde;":              {5, ";"},
		"0:":                    {0, ""},
		"0:;":                   {0, ";"},
		"05:":                   {0, "05:"},
		"99999999999999999999:": {0, "99999999999999999999:"},
	} {
		for _, size := range []int{1 << 10, 1} {
			s := bufsock.NewBufferedSocket(&scriptConn{stream: []byte(wire), size: size})
			n, err := bufsock.NewNetstringSocket(s).DiscardNetstring()
			require.Error(t, err)
			require.Equal(t, want.n, n, wire)
			left := string(s.RecvBuffer())
			require.True(t, strings.HasPrefix(want.left, left), "%q: %q", wire, left)
			switch e := err.(type) {
			case *bufsock.NetstringProtocolError:
				require.Equal(t, byte(';'), e.Found)
				require.Equal(t, want.n, e.Size)
				require.ErrorContains(t, err, fmt.Sprintf("DiscardNetstring: expected a comma after a payload of %d byte", e.Size))
			case *bufsock.ConnectionClosedError:
				require.Equal(t, len(left), e.Buffered)
				require.Equal(t, wire == "", e.Err == io.EOF, wire)
			}
		}
	}
}

// A frame whose rest is still to be dropped is dropped before anything else, by
// whichever method, and neither error nor count tells it from a frame of its own.
func TestRestOfADiscardedFrame(t *testing.T) {
	boom := errors.New("boom")
	beginWith := func(err error, rest ...read) *bufsock.NetstringSocket {
		ns := bufsock.NewNetstringSocket(&wire{reads: append([]read{{"5:ab", nil}, {"", err}}, rest...)})
		n, e := ns.DiscardNetstring()
		require.ErrorIs(t, e, err)
		require.Equal(t, 2, n)
		return ns
	}
	begin := func(rest ...read) *bufsock.NetstringSocket { return beginWith(boom, rest...) }
	t.Run("read", func(t *testing.T) {
		ns := begin(read{"cd", nil}, read{"e,2:hi,", nil})
		payload, err := ns.ReadNetstring()
		require.NoError(t, err)
		require.Equal(t, "hi", string(payload))
		_, err = ns.ReadNetstring()
		require.ErrorIs(t, err, io.EOF)
	})
	t.Run("its comma is all that is missing", func(t *testing.T) {
		ns := begin(read{"cde", nil}, read{"", boom}, read{",2:hi,", nil})
		n, err := ns.DiscardNetstring()
		require.Equal(t, boom, err)
		require.Equal(t, 3, n)
		n, err = ns.DiscardNetstring()
		require.NoError(t, err)
		require.Zero(t, n)
		payload, err := ns.ReadNetstring()
		require.NoError(t, err)
		require.Equal(t, "hi", string(payload))
	})
	t.Run("no comma", func(t *testing.T) {
		ns := begin(read{"cde;2:hi,", nil})
		_, err := ns.ReadNetstring()
		require.EqualError(t, err, `bufsock: ReadNetstring: expected a comma after a payload of 5 bytes, found ";" (6 bytes buffered)`)
		require.Equal(t, ";2:hi,", string(ns.Socket().RecvBuffer()))
	})
	t.Run("the end inside it", func(t *testing.T) {
		for _, rest := range []string{"", "c", "cde"} {
			_, err := beginWith(os.ErrDeadlineExceeded, read{rest, nil}).ReadNetstring()
			require.ErrorIs(t, err, io.ErrUnexpectedEOF, "nothing is buffered, but a frame is cut short")
		}
		_, err := begin().ReadNetstring()
		require.Equal(t, boom, err, "an end behind an error is none")
	})
	t.Run("Messages", func(t *testing.T) {
		var got []string
		for payload, err := range begin(read{"cde,1:x,", nil}).Messages() {
			require.NoError(t, err)
			got = append(got, string(payload))
		}
		require.Equal(t, []string{"x"}, got)
	})
	t.Run("which a read finds buffered", func(t *testing.T) {
		ns := begin(read{"cde,2:hi,", nil})
		_, err := ns.Socket().Peek(9)
		require.NoError(t, err)
		payload, err := ns.ReadNetstring()
		require.NoError(t, err)
		require.Equal(t, "hi", string(payload))
	})
}

// The rest of a frame is that of its connection: no number of upgrades makes it
// one of another.
func TestRestOfADiscardedFrameIsForgottenWithItsConnection(t *testing.T) {
	for _, upgrades := range []int{1, 1 << 8, 1 << 16} {
		w := &wire{reads: []read{{"100:abc", nil}, {"", os.ErrDeadlineExceeded}, {"3:xyz,", nil}}}
		s := bufsock.NewBufferedSocket(w)
		ns := bufsock.NewNetstringSocket(s)
		n, err := ns.DiscardNetstring()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.Equal(t, 3, n)
		for range upgrades {
			require.NoError(t, s.Upgrade(func(c net.Conn) (net.Conn, error) { return c, nil }))
		}
		msg, err := ns.ReadNetstring()
		require.NoError(t, err, "after %d upgrades", upgrades)
		require.Equal(t, "xyz", string(msg))
	}
}

// A call that does not get its turn drops nothing of a frame that another has
// left, and finds no frame of its own.
func TestRestOfADiscardedFrameIsDroppedInTurn(t *testing.T) {
	boom := errors.New("boom")
	calls := map[string]func(ns *bufsock.NetstringSocket) error{
		"ReadNetstring": func(ns *bufsock.NetstringSocket) error {
			_, err := ns.ReadNetstring(bufsock.WithTimeout(time.Second))
			return err
		},
		"DiscardNetstring": func(ns *bufsock.NetstringSocket) error {
			n, err := ns.DiscardNetstring(bufsock.WithTimeout(time.Second))
			assert.Zero(t, n)
			return err
		},
	}
	for op, call := range calls {
		for _, pending := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				ns := bufsock.NewNetstringSocket(&wire{reads: []read{{"5:ab", nil}, {"", boom}, {"cde,2:hi,", nil}}})
				want := "cde,2:hi,"
				if pending {
					_, err := ns.DiscardNetstring()
					require.Equal(t, boom, err)
				} else {
					_, err := ns.Socket().Peek(5)
					require.Equal(t, boom, err)
					want = "5:ab" + want
				}
				_, err := ns.Socket().Peek(len(want))
				require.NoError(t, err)
				release := occupy(t, ns.Socket())
				err = call(ns)
				require.IsType(t, (*bufsock.TimeoutError)(nil), err, op)
				require.Equal(t, want, string(ns.Socket().RecvBuffer()))
				release()
				synctest.Wait()
				if !pending {
					payload, err := ns.ReadNetstring()
					require.NoError(t, err)
					require.Equal(t, "abcde", string(payload))
				}
				payload, err := ns.ReadNetstring()
				require.NoError(t, err)
				require.Equal(t, "hi", string(payload))
			})
		}
	}
}

// Iterators take the options of their steps, once and for all.
func TestNetstringMessagesTakeOptions(t *testing.T) {
	dst := make([]byte, 0, 100)
	opts := []bufsock.Option{bufsock.WithMaxSize(2), bufsock.AppendTo(dst)}
	ns := bufsock.NewNetstringSocket(segments("2:ab,2:cd,3:efg,"))
	messages := ns.Messages(opts...)
	opts[0], opts[1] = bufsock.WithMaxSize(0), bufsock.Option{} // the caller's own again
	var got []string
	var last error
	for payload, err := range messages {
		if err != nil {
			last = err
			continue
		}
		require.Same(t, &dst[:1][0], &payload[0])
		got = append(got, string(payload))
	}
	require.Equal(t, []string{"ab", "cd"}, got)
	require.EqualError(t, last, "bufsock: Messages: netstring too long: a payload of 3 or more bytes, max size 2 (6 bytes buffered)")
	for _, err := range ns.Messages(bufsock.WithDelimiter()) {
		require.EqualError(t, err, "bufsock: Messages: WithDelimiter does not apply to this call")
	}
	for payload, err := range ns.Messages() {
		require.NoError(t, err)
		require.Equal(t, "efg", string(payload))
		break
	}
}

// The largest size that is no error by itself leaves room for the rest of a
// frame in an int.
func TestLargestNetstringSize(t *testing.T) {
	const largest = math.MaxInt - 19 - 2
	for size, fits := range map[uint64]bool{largest: true, largest + 1: false, math.MaxInt: false, math.MaxInt + 1: false, 0: true} {
		wire := fmt.Appendf(nil, "%d:", size)
		_, _, err := bufsock.CutNetstring(wire)
		_, discardErr := bufsock.NewNetstringSocket(segments(string(wire))).DiscardNetstring()
		_, readErr := bufsock.NewNetstringSocket(segments(string(wire)), bufsock.WithMaxSize(bufsock.NoLimit)).ReadNetstring()
		if fits {
			require.Equal(t, io.ErrUnexpectedEOF, err, "%d", size)
			require.ErrorIs(t, discardErr, io.ErrUnexpectedEOF)
			require.ErrorIs(t, readErr, io.ErrUnexpectedEOF)
			continue
		}
		for _, err := range []error{err, discardErr, readErr} {
			e, ok := err.(*bufsock.NetstringMessageTooLongError)
			require.True(t, ok, "%d: %v", size, err)
			require.EqualValues(t, min(size, math.MaxInt64), e.Size)
		}
	}
}

// A size that is an int64 is told exactly, up to the last.
func TestLargestSizesThatAreTold(t *testing.T) {
	if math.MaxInt == math.MaxInt32 {
		return // the size is told at the first digit with which it is no int
	}
	for _, wire := range []string{"9223372036854775800:", "9223372036854775805:", "9223372036854775807:"} {
		_, _, err := bufsock.CutNetstring([]byte(wire))
		e, ok := err.(*bufsock.NetstringMessageTooLongError)
		require.True(t, ok, "%v", err)
		require.Equal(t, wire, fmt.Sprintf("%d:", e.Size))
	}
	_, _, err := bufsock.CutNetstring([]byte("9223372036854775808:"))
	require.Equal(t, int64(math.MaxInt64), err.(*bufsock.NetstringMessageTooLongError).Size)
}

// A size is what its digits say, each of them.
func TestNetstringDigits(t *testing.T) {
	for size := range 1200 {
		frame := bufsock.AppendNetstring(nil, make([]byte, size))
		payload, rest, err := bufsock.CutNetstring(frame)
		require.NoError(t, err)
		require.Len(t, payload, size)
		require.Empty(t, rest)
		payload, err = bufsock.NewNetstringSocket(segments(string(frame))).ReadNetstring()
		require.NoError(t, err)
		require.Len(t, payload, size)
	}
	for b := range 256 {
		if b >= '0' && b <= '9' {
			continue
		}
		for _, prefix := range []string{"", "1", "12"} {
			if b == ':' && prefix != "" {
				continue
			}
			_, _, err := bufsock.CutNetstring(append([]byte(prefix), byte(b), '9'))
			e, ok := err.(*bufsock.NetstringInvalidSizeError)
			require.True(t, ok, "%q %d: %v", prefix, b, err)
			require.Equal(t, append([]byte(prefix), byte(b)), e.Prefix)
		}
	}
}

func TestWritingTooMuchBehindClose(t *testing.T) {
	ns := bufsock.NewNetstringSocket(segments(), bufsock.WithMaxSize(1))
	require.NoError(t, ns.Close())
	assertClosed(t, ns.WriteNetstring([]byte("ab")))
}
