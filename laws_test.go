package bufsock_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// The property tests in this file hold the three laws of the package
// documentation against random streams, cut at random, read by random calls
// with random limits, timeouts and cancellations. Each result is compared with
// that of a slow and obvious reading of the plain bytes.

// repeat runs f with seeds of its own. BUFSOCK_SEED=n runs the one seed n,
// BUFSOCK_ROUNDS=n runs n times as many.
func repeat(t *testing.T, rounds int, f func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	first := rand.Uint64()
	if v := os.Getenv("BUFSOCK_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		first, rounds = seed, 1
	}
	if v := os.Getenv("BUFSOCK_ROUNDS"); v != "" {
		factor, err := strconv.Atoi(v)
		require.NoError(t, err)
		rounds *= factor
	}
	for i := range uint64(rounds) {
		seed := first + i
		f(t, rand.New(rand.NewPCG(seed, 0)))
		if t.Failed() {
			t.Fatalf("to repeat: BUFSOCK_SEED=%d go test -run '^%s$' .", seed, t.Name())
		}
	}
}

// A verdict is what a receive must come to: a message and how many bytes it
// consumes, or an error.
type verdict struct {
	msg      []byte
	which    int
	consumed int
	err      string // "", "too long", "closed", "eof"
}

// A request is a random receive.
type request struct {
	name string
	// judge reads the verdict off what is left of the stream.
	judge func(rest []byte) verdict
	// call makes it.
	call func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error)
	// exact is false of Recv, which returns what is there.
	exact bool
}

// untilAny is the slow and obvious search: byte by byte, is there a delimiter
// that ends here? And if not: can one still end within the limit?
func untilAny(rest []byte, delims [][]byte, limit int, keep bool) verdict {
	for end := 0; end <= len(rest); end++ {
		which := -1
		for i, d := range delims {
			if end <= limit && bytes.HasSuffix(rest[:end], d) && (which < 0 || len(d) > len(delims[which])) {
				which = i
			}
		}
		if which >= 0 {
			msg := rest[:end]
			if !keep {
				msg = rest[:end-len(delims[which])]
			}
			return verdict{msg: msg, which: which, consumed: end}
		}
		if !possible(rest[:end], delims, limit) {
			return verdict{err: "too long", which: -1}
		}
	}
	return verdict{err: "closed", which: -1}
}

// possible reports whether a delimiter may yet end behind data and within the
// limit, by trying every place where it could stand.
func possible(data []byte, delims [][]byte, limit int) bool {
	if limit > len(data)+100 {
		return true
	}
	for _, d := range delims {
	place:
		for end := max(len(data)+1, len(d)); end <= limit; end++ {
			for i := range d {
				at := end - len(d) + i
				if at < len(data) && data[at] != d[i] {
					continue place
				}
			}
			return true
		}
	}
	return false
}

var alphabet = []byte("ab\r\n$,:0123 ")

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return b
}

var delimiters = [][]byte{
	[]byte("\n"), []byte("\r\n"), []byte("$$"), []byte("ab"), []byte("aab"), []byte("b"),
	[]byte("\r\n\r\n"), []byte("aba"), []byte("0123456789012345678"),
}

func randomLimit(r *rand.Rand) int {
	switch r.IntN(4) {
	case 0:
		return bufsock.NoLimit
	case 1:
		return r.IntN(6)
	default:
		return r.IntN(200)
	}
}

func atMost(limit int) int {
	if limit < 0 {
		return math.MaxInt32
	}
	return limit
}

// fields is a SplitFunc that skips spaces, as bufio.ScanWords does for ASCII.
func fields(rest []byte, limit int) verdict {
	data := rest[:min(len(rest), atMost(limit))]
	start := 0
	for start < len(data) && (data[start] == ' ' || data[start] == '\n' || data[start] == '\r') {
		start++
	}
	for i := start; i < len(data); i++ {
		if data[i] == ' ' || data[i] == '\n' || data[i] == '\r' {
			return verdict{msg: data[start:i], consumed: i + 1}
		}
	}
	switch {
	case len(rest) >= atMost(limit) && len(rest) > 0:
		return verdict{err: "too long"}
	case start < len(data):
		return verdict{msg: data[start:], consumed: len(data)}
	}
	return verdict{err: "closed"}
}

// netstring reads a netstring off the grammar.
func netstring(rest []byte, limit int) verdict {
	size := 0
	for i, b := range rest {
		switch {
		case i > 0 && b == ':':
			if len(rest) < i+1+size+1 {
				return verdict{err: "closed"}
			}
			if rest[i+1+size] != ',' {
				return verdict{err: "netstring"}
			}
			return verdict{msg: rest[i+1 : i+1+size], consumed: i + size + 2}
		case b < '0' || b > '9', i == 1 && rest[0] == '0':
			return verdict{err: "netstring"}
		}
		if size = 10*size + int(b-'0'); size > atMost(limit) {
			return verdict{err: "netstring"}
		}
		if i > 17 {
			return verdict{err: "netstring"}
		}
	}
	return verdict{err: "closed"}
}

func randomRequest(r *rand.Rand) request {
	limit := randomLimit(r)
	size := 1 + r.IntN(60)
	if r.IntN(10) == 0 {
		size = r.IntN(40_000)
	}
	keep := r.IntN(3) == 0
	with := func(opts []bufsock.Option) []bufsock.Option {
		opts = append(opts, bufsock.WithMaxSize(limit))
		if keep {
			opts = append(opts, bufsock.WithDelimiter())
		}
		return opts
	}
	sized := func(rest []byte) verdict {
		if len(rest) < size {
			return verdict{err: "closed"}
		}
		return verdict{msg: rest[:size], consumed: size}
	}
	switch r.IntN(10) {
	case 0, 1, 2:
		d := delimiters[r.IntN(len(delimiters))]
		return request{
			name:  fmt.Sprintf("RecvUntil(%q, max %d, keep %v)", d, limit, keep),
			exact: true,
			judge: func(rest []byte) verdict {
				v := untilAny(rest, [][]byte{d}, atMost(limit), keep)
				v.which = 0
				return v
			},
			call: func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error) {
				msg, err := s.RecvUntil(d, with(opts)...)
				return msg, 0, err
			},
		}
	case 3, 4:
		ds := make([][]byte, 1+r.IntN(4))
		for i := range ds {
			ds[i] = delimiters[r.IntN(len(delimiters))]
		}
		return request{
			name:  fmt.Sprintf("RecvUntilAny(%q, max %d, keep %v)", ds, limit, keep),
			exact: true,
			judge: func(rest []byte) verdict { return untilAny(rest, ds, atMost(limit), keep) },
			call: func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error) {
				return s.RecvUntilAny(ds, with(opts)...)
			},
		}
	case 5:
		return request{
			name:  fmt.Sprintf("RecvSplit(ScanWords, max %d)", limit),
			exact: true,
			judge: func(rest []byte) verdict { return fields(rest, limit) },
			call: func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error) {
				msg, err := s.RecvSplit(bufio.ScanWords, append(opts, bufsock.WithMaxSize(limit))...)
				return msg, 0, err
			},
		}
	case 6:
		return request{
			name:  fmt.Sprintf("ReadNetstring(max %d)", limit),
			exact: true,
			judge: func(rest []byte) verdict { return netstring(rest, limit) },
			call: func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error) {
				msg, err := bufsock.NewNetstringSocket(s).ReadNetstring(append(opts, bufsock.WithMaxSize(limit))...)
				return msg, 0, err
			},
		}
	case 7:
		return request{
			name: fmt.Sprintf("Recv(%d)", size),
			judge: func(rest []byte) verdict {
				if len(rest) == 0 && size > 0 {
					return verdict{err: "eof"}
				}
				return verdict{msg: rest[:min(size, len(rest))]}
			},
			call: func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error) {
				msg, err := s.Recv(size, opts...)
				return msg, 0, err
			},
		}
	case 8:
		return request{
			name:  fmt.Sprintf("Peek(%d)", size),
			exact: true,
			judge: func(rest []byte) verdict {
				v := sized(rest)
				v.consumed = 0
				return v
			},
			call: func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error) {
				msg, err := s.Peek(size, opts...)
				return msg, 0, err
			},
		}
	default:
		return request{
			name:  fmt.Sprintf("RecvSize(%d)", size),
			exact: true,
			judge: sized,
			call: func(s *bufsock.BufferedSocket, opts ...bufsock.Option) ([]byte, int, error) {
				msg, err := s.RecvSize(size, opts...)
				return msg, 0, err
			},
		}
	}
}

// kind names the error of a receive as a verdict does, and "later" one that
// says to try again.
func kind(err error) string {
	if err == nil {
		return ""
	}
	if err == io.EOF {
		return "eof"
	}
	if errors.Is(err, bufsock.ErrNetstringProtocol) {
		return "netstring"
	}
	switch err.(type) {
	case *bufsock.TimeoutError:
		return "later"
	case *bufsock.MessageTooLongError:
		return "too long"
	case *bufsock.ConnectionClosedError:
		return "closed"
	}
	if errors.Is(err, context.Canceled) {
		return "later"
	}
	return err.Error()
}

// impatience returns options that make a call likely to fail in the middle.
func impatience(r *rand.Rand) (opts []bufsock.Option, cancel func()) {
	switch r.IntN(6) {
	case 0:
		return []bufsock.Option{bufsock.WithTimeout(bufsock.NonBlocking)}, func() {}
	case 1, 2:
		return []bufsock.Option{bufsock.WithTimeout(time.Duration(r.IntN(200)) * time.Microsecond)}, func() {}
	case 3:
		ctx, cancel := context.WithCancel(context.Background())
		if r.IntN(2) == 0 {
			cancel()
		} else {
			time.AfterFunc(time.Duration(r.IntN(200))*time.Microsecond, cancel)
		}
		return []bufsock.Option{bufsock.WithContext(ctx)}, cancel
	case 4:
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(200))*time.Microsecond)
		return []bufsock.Option{bufsock.WithContext(ctx)}, cancel
	}
	return nil, func() {}
}

// feed writes the stream in pieces and closes the connection.
func feed(r *rand.Rand, conn net.Conn, stream []byte) {
	largest := []int{1, 3, 50, 5000, 1 << 20}[r.IntN(5)]
	for len(stream) > 0 {
		n := 1 + r.IntN(min(len(stream), largest))
		if _, err := conn.Write(stream[:n]); err != nil {
			return
		}
		stream = stream[n:]
		for range r.IntN(3) {
			runtime.Gosched()
		}
	}
	conn.Close()
}

func TestLawsOfReceiving(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			if transport.name == "TLS" {
				return // a record at a time, for seconds; the others cut finer
			}
			repeat(t, 40, func(t *testing.T, r *rand.Rand) {
				receiveAtRandom(t, r, transport)
			})
		})
	}
}

func receiveAtRandom(t *testing.T, r *rand.Rand, transport transport) {
	size := r.IntN(2000)
	if r.IntN(8) == 0 {
		size = r.IntN(120_000)
	}
	stream := randomBytes(r, size)
	local, remote := transport.pair(t)
	defer local.Close()
	var opts []bufsock.Option
	if r.IntN(2) == 0 {
		opts = append(opts, bufsock.WithReadSize(1+r.IntN(100)))
	}
	s := bufsock.NewBufferedSocket(local, opts...)
	var feeding sync.WaitGroup
	feeder := rand.New(rand.NewPCG(r.Uint64(), 1))
	feeding.Go(func() { feed(feeder, remote, stream) })
	defer feeding.Wait()
	defer local.Close()

	rest := stream
	for range 300 {
		req := randomRequest(r)
		want := req.judge(rest)
		got := verdict{err: "later"}
		prefix := []byte("dst")
		for got.err == "later" {
			opts, cancel := impatience(r)
			appending := r.IntN(2) == 0
			if appending {
				opts = append(opts, bufsock.AppendTo(append(make([]byte, 0, 3+r.IntN(50_000)), prefix...)))
			}
			msg, which, err := req.call(s, opts...)
			cancel()
			got = verdict{msg: msg, which: which, err: kind(err)}
			if appending {
				require.Truef(t, bytes.HasPrefix(msg, prefix), "%s: dst is gone: %.20q", req.name, msg)
				got.msg = msg[len(prefix):]
			}
			if err != nil {
				require.Emptyf(t, got.msg, "%s: a message with the error %v", req.name, err)
				left := s.RecvBuffer()
				require.Truef(t, bytes.HasPrefix(rest, left), "%s: the buffer is not the next of the stream: %.40q, not %.40q", req.name, left, rest)
			}
		}
		require.Equalf(t, want.err, got.err, "%s of %.60q (%d)", req.name, rest, len(rest))
		if !req.exact {
			require.Truef(t, bytes.HasPrefix(want.msg, got.msg), "%s: %.40q is not the next of %.40q", req.name, got.msg, rest)
			require.True(t, len(got.msg) > 0 || len(want.msg) == 0, "nothing received")
			want.consumed = len(got.msg)
		} else if want.err == "" {
			require.Equalf(t, string(want.msg), string(got.msg), "%s of %.60q", req.name, rest)
			require.Equal(t, want.which, got.which, req.name)
		}
		rest = rest[want.consumed:]
	}
	tail, err := s.RecvClose(bufsock.WithMaxSize(bufsock.NoLimit))
	require.NoError(t, err)
	require.Equal(t, string(rest), string(tail))
}

// TestLawOfSegmentation reads the same stream twice by the same calls, once as
// it comes in one piece and once byte by byte, and wants the same results and
// error texts.
func TestLawOfSegmentation(t *testing.T) {
	repeat(t, 150, func(t *testing.T, r *rand.Rand) {
		stream := randomBytes(r, r.IntN(400))
		script := make([]request, 40)
		for i := range script {
			for !script[i].exact {
				script[i] = randomRequest(r)
			}
		}
		var results [2][]string
		for i, size := range []int{1 << 20, 1} {
			s := bufsock.NewBufferedSocket(&scriptConn{stream: stream, size: size, withEOF: r.IntN(2) == 0})
			for _, req := range script {
				msg, which, err := req.call(s)
				text := counts.ReplaceAllString(fmt.Sprint(err), "")
				results[i] = append(results[i], fmt.Sprintf("%s: %q %d %s", req.name, msg, which, text))
			}
		}
		require.Equal(t, results[0], results[1], "stream %q", stream)
	})
}

// counts is the number of bytes buffered so far, in the text of an error.
var counts = regexp.MustCompile(`\d+ bytes? buffered`)

// A scriptConn hands out a stream in reads of at most size bytes.
type scriptConn struct {
	net.Conn
	stream  []byte
	size    int
	withEOF bool // the last bytes come together with io.EOF
}

func (c *scriptConn) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), c.size)], c.stream)
	c.stream = c.stream[n:]
	if len(c.stream) == 0 && (n == 0 || c.withEOF) {
		return n, io.EOF
	}
	return n, nil
}

func (c *scriptConn) SetReadDeadline(time.Time) error { return nil }

// TestLawsOfSending makes random sends that fail at random, to a peer that
// reads in fits and starts, and wants the peer to receive every byte once.
func TestLawsOfSending(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			if transport.name == "TLS" {
				return // a write that timed out ends a TLS session
			}
			repeat(t, 20, func(t *testing.T, r *rand.Rand) { sendAtRandom(t, r, transport) })
		})
	}
}

func sendAtRandom(t *testing.T, r *rand.Rand, transport transport) {
	local, remote := transport.pair(t)
	defer local.Close()
	if c, ok := local.(interface{ SetWriteBuffer(int) error }); ok {
		require.NoError(t, c.SetWriteBuffer(4096))
	}
	var reading sync.WaitGroup
	var received []byte
	slow := rand.New(rand.NewPCG(r.Uint64(), 1))
	reading.Go(func() {
		buf := make([]byte, 500+slow.IntN(20_000))
		for {
			n, err := remote.Read(buf)
			received = append(received, buf[:n]...)
			if err != nil {
				return
			}
			for range slow.IntN(20) {
				runtime.Gosched()
			}
		}
	})

	s := bufsock.NewBufferedSocket(local)
	ns := bufsock.NewNetstringSocket(s)
	var given []byte // all bytes that were to be sent, in order
	sent := 0
	for range 60 {
		size := r.IntN(500)
		if r.IntN(4) == 0 {
			size = r.IntN(100_000)
		}
		data := randomBytes(r, size)
		before := len(s.SendBuffer())
		n := 0
		var err error
		opts, cancel := impatience(r)
		switch r.IntN(6) {
		case 0:
			n, err = s.Send(data, opts...)
			given = append(given, data...)
		case 1:
			cut := r.IntN(size + 1)
			n, err = s.SendBuffers([][]byte{data[:cut], nil, data[cut:]}, opts...)
			given = append(given, data...)
		case 2:
			require.NoError(t, s.Buffer(data))
			given = append(given, data...)
		case 3:
			err = s.Flush(opts...)
			n = before - len(s.SendBuffer())
		case 4:
			require.NoError(t, s.SetWriteDeadline(time.Now().Add(time.Duration(r.IntN(500))*time.Microsecond)))
			n, err = s.Write(data)
			given = append(given, data[:n]...)
			n += before - len(s.SendBuffer())
			require.NoError(t, s.SetWriteDeadline(time.Time{}))
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
		case 5:
			err = ns.WriteNetstring(data, append(opts, bufsock.WithMaxSize(bufsock.NoLimit))...)
			given = bufsock.AppendNetstring(given, data)
			n = len(given) - sent - len(s.SendBuffer())
		}
		cancel()
		require.Contains(t, []string{"", "later"}, kind(err))
		sent += n
		unsent := s.SendBuffer()
		require.True(t, bytes.Equal(given[sent:], unsent),
			"the send buffer is not what is unsent: %d bytes, not %d", len(unsent), len(given)-sent)
	}
	require.NoError(t, s.Flush(bufsock.WithTimeout(bufsock.NoTimeout)))
	require.NoError(t, s.Close())
	reading.Wait()
	require.True(t, bytes.Equal(given, received), "given %d bytes, received %d", len(given), len(received))
}

// TestLawsBetweenGoroutines has many goroutines send and receive at once. Every
// message must arrive whole and once, and those of one sender that did not fail
// in their order.
func TestLawsBetweenGoroutines(t *testing.T) {
	const senders, receivers, each = 8, 4, 400
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			a, b := transport.pair(t)
			from, to := bufsock.NewBufferedSocket(a), bufsock.NewBufferedSocket(b)
			impatient := transport.name != "TLS"
			var sending, receiving sync.WaitGroup
			for id := range senders {
				sending.Go(func() {
					r := rand.New(rand.NewPCG(uint64(id), 2))
					for i := range each {
						msg := fmt.Appendf(nil, "%d %d %s\n", id, i, randomDigits(r))
						opts, cancel := impatience(r)
						if !impatient {
							opts = nil
						}
						_, err := from.Send(msg, opts...)
						cancel()
						for kind(err) == "later" {
							err = from.Flush(bufsock.WithTimeout(time.Minute))
						}
						if err != nil {
							t.Errorf("sender %d: %v", id, err)
							return
						}
					}
				})
			}
			var mu sync.Mutex
			seen := map[string]int{}
			for id := range receivers {
				receiving.Go(func() {
					r := rand.New(rand.NewPCG(uint64(id), 3))
					last := map[int]int{}
					for {
						opts, cancel := impatience(r)
						msg, err := to.RecvUntil([]byte("\n"), opts...)
						cancel()
						if kind(err) == "later" {
							continue
						}
						if err != nil {
							if kind(err) != "closed" {
								t.Errorf("receiver %d: %v", id, err)
							}
							return
						}
						var sender, number int
						var digits string
						if _, err := fmt.Sscan(string(msg), &sender, &number, &digits); err != nil {
							t.Errorf("torn message %.40q", msg)
							return
						}
						if n, ok := last[sender]; ok && n >= number {
							t.Errorf("sender %d: %d came after %d", sender, number, n)
						}
						last[sender] = number
						mu.Lock()
						seen[fmt.Sprint(sender, number)]++
						mu.Unlock()
					}
				})
			}
			sending.Wait()
			require.NoError(t, from.Flush())
			require.NoError(t, from.Close())
			receiving.Wait()
			require.Len(t, seen, senders*each)
			for msg, n := range seen {
				require.Equal(t, 1, n, msg)
			}
		})
	}
}

func randomDigits(r *rand.Rand) []byte {
	n := 1 + r.IntN(60)
	if r.IntN(20) == 0 {
		n = 20_000
	}
	return bytes.Repeat([]byte{'0' + byte(r.IntN(10))}, n)
}
