package bufsock_test

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// Each fuzz target reads its input as a stream, as choices of how it is cut,
// and as choices of calls, and compares with model_test.go. The corpus is in
// testdata/fuzz. To search for more:
//
//	go test -run '^$' -fuzz '^FuzzReceive$' -fuzztime 30s -parallel 1 .

// choices makes a random number generator of the bytes, one for each small
// number, so that a fuzzer that changes a byte changes a choice. After the last
// come those of a fixed seed.
func choices(b []byte) *rand.Rand {
	return rand.New(&chosen{b, rand.NewPCG(1, 2)})
}

type chosen struct {
	left []byte
	then rand.Source
}

func (c *chosen) Uint64() uint64 {
	if len(c.left) == 0 {
		return c.then.Uint64()
	}
	b := c.left[0]
	c.left = c.left[1:]
	return uint64(b) * 0x0101010101010101
}

// cutBy returns a script for reads: each byte is the length of one, or one of
// the things that may happen to a read. Then the reads are large.
func cutBy(cuts []byte) func() (int, error) {
	return func() (int, error) {
		if len(cuts) == 0 {
			return 1 << 20, nil
		}
		b := cuts[0]
		cuts = cuts[1:]
		switch {
		case b < 0xf0:
			return 1 + int(b), nil
		case b < 0xf4:
			return 0, nil
		case b < 0xf8:
			return int(b - 0xf4), os.ErrDeadlineExceeded
		case b < 0xfc:
			return int(b - 0xf8), bufsocktest.ErrPassing
		}
		return 1, nil
	}
}

// haste returns options that make a call fail if one read is not enough, or
// none. No clock decides what they do.
func haste(r *rand.Rand) ([]bufsock.Option, func()) {
	if r.IntN(4) > 0 {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return []bufsock.Option{bufsock.WithContext(ctx)}, func() {}
}

// fuzzReading returns a reading of the stream, cut as said.
func fuzzReading(t *testing.T, stream, cuts []byte, r *rand.Rand) *reading {
	conn := &scriptConn{stream: stream, next: cutBy(cuts), withEOF: len(cuts)%2 == 0}
	opts := []bufsock.Option{bufsock.WithTimeout(bufsock.NoTimeout)}
	if r.IntN(2) == 0 {
		opts = append(opts, bufsock.WithReadSize(1+r.IntN(100)))
	}
	return &reading{
		t: t, r: r, rest: stream, conn: conn,
		ns:         bufsock.NewNetstringSocket(conn, opts...),
		impatience: haste,
		passed:     func() int { return conn.taken },
		noEnd:      func() bool { return conn.ending.isNone },
	}
}

// FuzzReceive makes random receives of every kind.
func FuzzReceive(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream, cuts, calls []byte) {
		if len(stream) > 1000 {
			return // the obvious search is slow
		}
		r := choices(calls)
		rd := fuzzReading(t, stream, cuts, r)
		for range 50 {
			rd.receive(randomRequest(r))
		}
		rd.finish()
	})
}

// splitDelimiters cuts delimiters off b, each with its length before it.
func splitDelimiters(b []byte) (delims [][]byte) {
	for len(b) > 1 && len(delims) < 5 {
		n := min(1+int(b[0])%8, len(b)-1)
		delims = append(delims, b[1:1+n])
		b = b[1+n:]
	}
	return delims
}

// FuzzDelimiters searches for the first of the delimiters, and for all of them,
// until the stream ends. What is too long is skipped.
func FuzzDelimiters(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream, cuts, spec []byte, limit uint8, keep bool) {
		delims := splitDelimiters(spec)
		if len(delims) == 0 || len(stream) > 1000 {
			return
		}
		size := int(limit)
		if limit == math.MaxUint8 {
			size = bufsock.NoLimit
		}
		rd := fuzzReading(t, stream, cuts, choices(spec))
		for before := -1; before < rd.taken; {
			before = rd.taken
			rd.receive(recvUntil(delims[0], size, keep))
			if rd.receive(recvUntilAny(delims, size, keep)).err == "too long" {
				rd.receive(dropUntil(delims[len(delims)-1]))
			}
		}
		rd.finish()
	})
}

// FuzzReadNetstring reads netstrings until the stream ends or breaks the rules.
// What is too long is skipped.
func FuzzReadNetstring(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream, cuts []byte, limit uint16, discard bool) {
		rd := fuzzReading(t, stream, cuts, choices(cuts))
		size := int(limit)
		if limit == math.MaxUint16 {
			size = bufsock.NoLimit
		}
		read, drop := readNetstring(size), discardNetstringRequest(nil)
		for {
			got := rd.receive(read)
			if got.err == "frame too long" || got.err == "" && discard {
				got = rd.receive(drop)
			}
			if got.err != "" {
				break
			}
		}
		rd.finish()
	})
}

// FuzzCutNetstring wants of each netstring that is cut off that it is the same
// when it is put together again.
func FuzzCutNetstring(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, rest, err := bufsock.CutNetstring(b)
		want := netstring(b, bufsock.NoLimit)
		if err == io.ErrUnexpectedEOF {
			err = &bufsock.ConnectionClosedError{Err: err}
		}
		require.Equal(t, want.err, kind(err))
		require.Equal(t, string(want.msg), string(payload))
		require.Equal(t, string(b[want.consumed:]), string(rest))
		if err == nil {
			again := bufsock.AppendNetstring(nil, payload)
			require.Equal(t, string(b), string(again)+string(rest))
		}

		// Any bytes can be a payload, and more may follow.
		wire := append(bufsock.AppendNetstring([]byte("dst"), b), b...)
		payload, rest, err = bufsock.CutNetstring(wire[3:])
		require.NoError(t, err)
		require.Equal(t, string(b), string(payload))
		require.Equal(t, string(b), string(rest))
	})
}

// A slowConn takes what its script says of each write.
type slowConn struct {
	*scriptConn
	accept func() (int, error)
	sent   []byte
}

func (c *slowConn) Write(p []byte) (int, error) {
	n, err := c.accept()
	n = min(n, len(p))
	c.sent = append(c.sent, p[:n]...)
	return n, err
}

// writesCutBy is cutBy for writes. Instead of an error that passes there is a
// short write, which one can go on from, and one error behind which one cannot.
func writesCutBy(cuts []byte) func() (int, error) {
	next := cutBy(cuts)
	return func() (int, error) {
		n, err := next()
		switch {
		case err != bufsocktest.ErrPassing:
			return n, err
		case n == 3:
			return n, errGone
		}
		return n, io.ErrShortWrite
	}
}

// FuzzSend makes random sends on a connection that takes what it likes, until it
// breaks down.
func FuzzSend(f *testing.F) {
	f.Fuzz(func(t *testing.T, sizes, cuts, calls []byte) {
		conn := &slowConn{scriptConn: &scriptConn{}, accept: writesCutBy(cuts)}
		w := &writing{
			t: t, r: choices(calls),
			ns:         bufsock.NewNetstringSocket(conn, bufsock.WithTimeout(bufsock.NoTimeout)),
			impatience: haste,
			patient:    true,
			passed:     func() []byte { return conn.sent },
		}
		for _, size := range sizes[:min(len(sizes), 100)] { // more only takes longer
			n := int(size)
			if n > 250 {
				n *= 100 // too much to be copied
			}
			require.Contains(t, []string{"", "later", "reset", "broken"}, w.send(n))
		}
		over, end := w.over, w.finish()
		if over {
			require.Equal(t, "broken", end)
		} else {
			require.Contains(t, []string{"", "reset"}, end)
		}
		require.Equal(t, string(w.given), string(conn.sent)+string(w.ns.Socket().SendBuffer()))
	})
}
