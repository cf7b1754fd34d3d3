package bufsock_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// This file holds what the tests with random input share: random calls, the
// slow and obvious reading of the plain bytes that tells what they must come
// to, and the comparison of the two.

// repeat runs f with seeds of its own. BUFSOCK_SEED=n runs the one seed n,
// BUFSOCK_ROUNDS=x runs x times as many, be it 20 or 0.25, and one at least.
func repeat(t *testing.T, rounds int, f func(t *testing.T, r *rand.Rand)) {
	t.Helper()
	first := rand.Uint64()
	if v := os.Getenv("BUFSOCK_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		first, rounds = seed, 1
	}
	if v := os.Getenv("BUFSOCK_ROUNDS"); v != "" {
		factor, err := strconv.ParseFloat(v, 64)
		require.NoError(t, err)
		rounds = max(1, int(float64(rounds)*factor))
	}
	seed := first
	defer func() { // also if f ends the test, or panics
		if p := recover(); p != nil {
			t.Logf("to repeat: BUFSOCK_SEED=%d go test -run '^%s$' .", seed, t.Name())
			panic(p)
		}
		if t.Failed() {
			t.Logf("to repeat: BUFSOCK_SEED=%d go test -run '^%s$' .", seed, t.Name())
		}
	}()
	for ; rounds > 0 && !t.Failed(); rounds-- {
		f(t, rand.New(rand.NewPCG(seed, 0)))
		if !t.Failed() {
			seed++
		}
	}
}

// A verdict is what a receive must come to: a message and how many bytes it
// consumes, or an error.
type verdict struct {
	msg      []byte
	n        int    // which delimiter, or how many bytes a discard has dropped
	consumed int    // an error may consume, too, if the call is a discard
	shown    int    // how many bytes are enough to know
	err      string // as kind names it
}

// atEnd is how many bytes show what only the end of the stream shows.
const atEnd = math.MaxInt

// A request is a random receive.
type request struct {
	name string
	// judge reads the verdict off what is left of the stream.
	judge func(rest []byte) verdict
	// call makes it. If it has failed before, to go on, done is the sum of the
	// numbers it returned.
	call func(ns *bufsock.NetstringSocket, done int, opts ...bufsock.Option) ([]byte, int, error)

	inexact bool // returns what is there
	drops   bool // returns how many bytes it has dropped, with an error, too
	bare    bool // takes no AppendTo
	unsure  bool // takes a message that the stream ends in, too, if it must
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
			return verdict{msg: msg, n: which, consumed: end, shown: end}
		}
		if !possible(rest[:end], delims, limit) {
			return verdict{err: "too long", n: -1, shown: end}
		}
	}
	return verdict{err: "closed", n: -1, shown: atEnd}
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

// discardUntil drops up to the first delimiter; if there is none, everything
// that cannot be the beginning of one.
func discardUntil(rest, delim []byte) verdict {
	if i := bytes.Index(rest, delim); i >= 0 {
		n := i + len(delim)
		return verdict{n: n, consumed: n, shown: n}
	}
	n := 0
	for !bytes.HasPrefix(delim, rest[n:]) {
		n++
	}
	return verdict{err: "closed", n: n, consumed: n, shown: atEnd}
}

// fields reads a field between spaces, as scanFields does.
func fields(rest []byte, limit int) verdict {
	data := rest[:min(len(rest), atMost(limit))]
	start := 0
	for start < len(data) && isSpace(data[start]) {
		start++
	}
	for i := start; i < len(data); i++ {
		if isSpace(data[i]) {
			return verdict{msg: data[start:i], consumed: i + 1, shown: i + 1}
		}
	}
	switch {
	case len(rest) >= atMost(limit) && len(rest) > 0:
		return verdict{err: "too long", shown: max(limit, 1)}
	case start < len(data):
		return verdict{msg: data[start:], consumed: len(data), shown: atEnd}
	}
	return verdict{err: "closed", shown: atEnd}
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\r' }

// scanFields is a bufio.SplitFunc. Like bufio.ScanWords it skips spaces before
// it has a field, and takes the last field without a space behind it.
func scanFields(data []byte, atEOF bool) (int, []byte, error) {
	field := bytes.TrimLeft(data, " \n\r")
	skip := len(data) - len(field)
	if i := bytes.IndexAny(field, " \n\r"); i >= 0 {
		return skip + i + 1, field[:i], nil
	}
	if atEOF && len(field) > 0 {
		return len(data), field, nil
	}
	return skip, nil, nil
}

// netstring reads a netstring off the grammar, one prefix of the stream after
// the other. A size is nonempty, of ASCII digits, with no extra zero in front.
func netstring(rest []byte, limit int) verdict {
	most := big.NewInt(int64(min(atMost(limit), math.MaxInt-21))) // size and frame are ints
	for n := 1; n <= len(rest); n++ {
		digits, colon := bytes.CutSuffix(rest[:n], []byte(":"))
		if !netstringSize.Match(digits) {
			return verdict{err: "bad size", shown: n}
		}
		size, _ := new(big.Int).SetString(string(digits), 10)
		if size.Cmp(most) > 0 {
			return verdict{err: "frame too long", shown: n}
		}
		if !colon {
			continue
		}
		end := n + int(size.Int64())
		switch {
		case len(rest) <= end:
			return verdict{err: "closed", shown: atEnd}
		case rest[end] != ',':
			return verdict{err: "no comma", shown: end + 1}
		}
		return verdict{msg: rest[n:end], consumed: end + 1, shown: end + 1}
	}
	return verdict{err: "closed", shown: atEnd}
}

var netstringSize = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// discardNetstring drops what has come of a payload even if the frame is bad.
func discardNetstring(rest []byte) verdict {
	v := netstring(rest, bufsock.NoLimit)
	header := bytes.IndexByte(rest, ':') + 1
	switch {
	case v.err == "no comma":
		v.consumed = v.shown - 1
		v.n = v.consumed - header
	case v.err == "closed" && header > 0:
		v.consumed = len(rest)
		v.n = v.consumed - header
	case v.err == "":
		v.n, v.msg = len(v.msg), nil
	}
	return v
}

// sized is what calls that are given a size come to.
func sized(rest []byte, size int) verdict {
	if len(rest) < size {
		return verdict{err: "closed", shown: atEnd}
	}
	return verdict{msg: rest[:size], consumed: size, shown: size}
}

// whatIsThere is what Recv and Read come to, at most.
func whatIsThere(rest []byte, size int) verdict {
	if len(rest) == 0 && size > 0 {
		return verdict{err: "eof", shown: atEnd}
	}
	return verdict{msg: rest[:min(size, len(rest))], shown: min(size, 1)}
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

func randomDelimiter(r *rand.Rand) []byte { return delimiters[r.IntN(len(delimiters))] }

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

func randomSize(r *rand.Rand) int {
	if r.IntN(10) == 0 {
		return r.IntN(40_000)
	}
	return r.IntN(61)
}

func atMost(limit int) int {
	if limit < 0 {
		return math.MaxInt
	}
	return limit
}

// randomRequest returns any receive there is, those that search and those that
// are given a size more often.
func randomRequest(r *rand.Rand) request {
	kinds := []func(*rand.Rand) request{
		untilRequest, untilRequest, untilRequest, untilAnyRequest, untilAnyRequest,
		messagesRequest, discardUntilRequest, splitRequest,
		netstringRequest, netstringRequest, discardNetstringRequest,
		sizeRequest, sizeRequest, recvRequest, netReadRequest, peekRequest, discardRequest,
		closeRequest, copyRequest,
	}
	return kinds[r.IntN(len(kinds))](r)
}

func untilRequest(r *rand.Rand) request {
	d, limit, keep := randomDelimiter(r), randomLimit(r), r.IntN(3) == 0
	return recvUntil(d, limit, keep)
}

func recvUntil(d []byte, limit int, keep bool) request {
	return request{
		name: fmt.Sprintf("RecvUntil(%q, max %d, keep %v)", d, limit, keep),
		judge: func(rest []byte) verdict {
			v := untilAny(rest, [][]byte{d}, atMost(limit), keep)
			v.n = 0
			return v
		},
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			msg, err := ns.Socket().RecvUntil(d, messageOptions(limit, keep, opts)...)
			return msg, 0, err
		},
	}
}

func messageOptions(limit int, keep bool, opts []bufsock.Option) []bufsock.Option {
	opts = append(opts, bufsock.WithMaxSize(limit))
	if keep {
		opts = append(opts, bufsock.WithDelimiter())
	}
	return opts
}

func untilAnyRequest(r *rand.Rand) request {
	ds := make([][]byte, 1+r.IntN(4))
	for i := range ds {
		ds[i] = randomDelimiter(r)
	}
	return recvUntilAny(ds, randomLimit(r), r.IntN(3) == 0)
}

func recvUntilAny(ds [][]byte, limit int, keep bool) request {
	return request{
		name:  fmt.Sprintf("RecvUntilAny(%q, max %d, keep %v)", ds, limit, keep),
		judge: func(rest []byte) verdict { return untilAny(rest, ds, atMost(limit), keep) },
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			return ns.Socket().RecvUntilAny(ds, messageOptions(limit, keep, opts)...)
		},
	}
}

// messagesRequest is one step of Messages.
func messagesRequest(r *rand.Rand) request {
	d, limit, keep := randomDelimiter(r), randomLimit(r), r.IntN(3) == 0
	req := recvUntil(d, limit, keep)
	req.name = fmt.Sprintf("Messages(%q, max %d, keep %v)", d, limit, keep)
	req.call = func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
		for msg, err := range ns.Socket().Messages(d, messageOptions(limit, keep, opts)...) {
			return msg, 0, err
		}
		return nil, 0, &bufsock.ConnectionClosedError{Op: "Messages", Err: io.EOF}
	}
	req.bare = true // a clean end yields no dst
	return req
}

func discardUntilRequest(r *rand.Rand) request { return dropUntil(randomDelimiter(r)) }

func dropUntil(d []byte) request {
	return request{
		name:  fmt.Sprintf("DiscardUntil(%q)", d),
		judge: func(rest []byte) verdict { return discardUntil(rest, d) },
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			n, err := ns.Socket().DiscardUntil(d, opts...)
			return nil, n, err
		},
		drops: true,
		bare:  true,
	}
}

func splitRequest(r *rand.Rand) request {
	limit := randomLimit(r)
	return request{
		name:  fmt.Sprintf("RecvSplit(scanFields, max %d)", limit),
		judge: func(rest []byte) verdict { return fields(rest, limit) },
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			msg, err := ns.Socket().RecvSplit(scanFields, append(opts, bufsock.WithMaxSize(limit))...)
			return msg, 0, err
		},
		unsure: true,
	}
}

func netstringRequest(r *rand.Rand) request { return readNetstring(randomLimit(r)) }

func readNetstring(limit int) request {
	return request{
		name:  fmt.Sprintf("ReadNetstring(max %d)", limit),
		judge: func(rest []byte) verdict { return netstring(rest, limit) },
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			msg, err := ns.ReadNetstring(append(opts, bufsock.WithMaxSize(limit))...)
			return msg, 0, err
		},
	}
}

func discardNetstringRequest(*rand.Rand) request {
	return request{
		name:  "DiscardNetstring()",
		judge: discardNetstring,
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			n, err := ns.DiscardNetstring(opts...)
			return nil, n, err
		},
		drops: true,
		bare:  true,
	}
}

func sizeRequest(r *rand.Rand) request {
	size := randomSize(r)
	return request{
		name:  fmt.Sprintf("RecvSize(%d)", size),
		judge: func(rest []byte) verdict { return sized(rest, size) },
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			msg, err := ns.Socket().RecvSize(size, opts...)
			return msg, 0, err
		},
	}
}

func recvRequest(r *rand.Rand) request {
	size := randomSize(r)
	return request{
		name:  fmt.Sprintf("Recv(%d)", size),
		judge: func(rest []byte) verdict { return whatIsThere(rest, size) },
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			msg, err := ns.Socket().Recv(size, opts...)
			return msg, 0, err
		},
		inexact: true,
	}
}

// netReadRequest is a Read, within a read deadline or none.
func netReadRequest(r *rand.Rand) request {
	size, patience := randomSize(r), time.Duration(r.IntN(200))*time.Microsecond
	return request{
		name:  fmt.Sprintf("Read(%d)", size),
		judge: func(rest []byte) verdict { return whatIsThere(rest, size) },
		call: func(ns *bufsock.NetstringSocket, _ int, _ ...bufsock.Option) (msg []byte, _ int, err error) {
			p := make([]byte, size)
			n := 0
			err = withDeadline(ns.Socket(), ns.Socket().SetReadDeadline, patience, func() error {
				n, err = ns.Socket().Read(p)
				return err
			})
			return p[:n], 0, err
		},
		inexact: true,
		bare:    true,
	}
}

// withDeadline calls f with a deadline that set sets, or with none if patience
// is short. Only TCP and Unix sockets get one: others may refuse to lift it when
// the peer has gone, or have no clock.
func withDeadline(s *bufsock.BufferedSocket, set func(time.Time) error, patience time.Duration, f func() error) error {
	network := s.LocalAddr().Network()
	if patience < 50*time.Microsecond || network != "tcp" && network != "unix" {
		return f()
	}
	if err := insist(set, time.Now().Add(patience)); err != nil {
		return err
	}
	err := f()
	if e := insist(set, time.Time{}); err == nil {
		err = e
	}
	return err
}

// insist sets a deadline on a connection that may refuse it a few times.
func insist(set func(time.Time) error, t time.Time) (err error) {
	for range 100 {
		if err = set(t); !errors.Is(err, os.ErrNoDeadline) {
			break
		}
	}
	return err
}

func peekRequest(r *rand.Rand) request {
	size := randomSize(r)
	return request{
		name: fmt.Sprintf("Peek(%d)", size),
		judge: func(rest []byte) verdict {
			v := sized(rest, size)
			v.consumed = 0
			return v
		},
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			msg, err := ns.Socket().Peek(size, opts...)
			return msg, 0, err
		},
	}
}

func discardRequest(r *rand.Rand) request {
	size := randomSize(r)
	return request{
		name: fmt.Sprintf("Discard(%d)", size),
		judge: func(rest []byte) verdict {
			v := sized(rest, size)
			v.msg, v.n = nil, min(size, len(rest))
			v.consumed = v.n
			return v
		},
		call: func(ns *bufsock.NetstringSocket, done int, opts ...bufsock.Option) ([]byte, int, error) {
			n, err := ns.Socket().Discard(size-done, opts...)
			return nil, n, err
		},
		drops: true,
		bare:  true,
	}
}

func closeRequest(r *rand.Rand) request { return recvClose(r.IntN(200)) }

func recvClose(limit int) request {
	return request{
		name: fmt.Sprintf("RecvClose(max %d)", limit),
		judge: func(rest []byte) verdict {
			if len(rest) > atMost(limit) {
				return verdict{err: "too long", shown: limit + 1}
			}
			return verdict{msg: rest, consumed: len(rest), shown: atEnd}
		},
		call: func(ns *bufsock.NetstringSocket, _ int, opts ...bufsock.Option) ([]byte, int, error) {
			msg, err := ns.Socket().RecvClose(append(opts, bufsock.WithMaxSize(limit))...)
			return msg, 0, err
		},
	}
}

var errFull = errors.New("full")

// A bounded writer takes so many bytes.
type bounded int

func (b *bounded) Write(p []byte) (int, error) {
	if n := int(*b); n < len(p) {
		*b = 0
		return n, errFull
	}
	*b -= bounded(len(p))
	return len(p), nil
}

// copyRequest is a WriteTo a writer that may fail in the middle, within a read
// deadline or none.
func copyRequest(r *rand.Rand) request {
	size, patience := r.IntN(200), time.Duration(r.IntN(200))*time.Microsecond
	return request{
		name: fmt.Sprintf("WriteTo(a writer for %d bytes)", size),
		judge: func(rest []byte) verdict {
			n := min(size, len(rest))
			if n < len(rest) {
				return verdict{err: "full", n: n, consumed: n, shown: size + 1}
			}
			return verdict{n: n, consumed: n, shown: atEnd}
		},
		call: func(ns *bufsock.NetstringSocket, done int, _ ...bufsock.Option) (_ []byte, n int, err error) {
			w := bounded(size - done)
			err = withDeadline(ns.Socket(), ns.Socket().SetReadDeadline, patience, func() error {
				m, err := ns.Socket().WriteTo(&w)
				n = int(m)
				return err
			})
			return nil, n, err
		},
		drops: true,
		bare:  true,
	}
}
