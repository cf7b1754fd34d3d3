package bufsock_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"runtime"
	"strings"
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

// feed writes the stream in pieces and closes the connection.
func feed(r *rand.Rand, conn net.Conn, stream []byte) {
	largest := []int{1, 3, 50, 5000, 1 << 20}[r.IntN(5)]
	for len(stream) > 0 {
		n := 1 + r.IntN(min(len(stream), largest))
		n, err := conn.Write(stream[:n])
		if err != nil && kind(err) != "later" {
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

	rd := &reading{t: t, r: r, ns: bufsock.NewNetstringSocket(s), rest: stream, impatience: impatience}
	for range 300 {
		rd.receive(anyRequest(r))
	}
	rd.finish()
}

// TestLawOfSegmentation reads the same stream twice by the same calls, once as
// it comes in one piece and once byte by byte, and wants the same results and
// error texts. Neither may ask for more when it is certain what they are.
func TestLawOfSegmentation(t *testing.T) {
	repeat(t, 150, func(t *testing.T, r *rand.Rand) {
		stream := randomBytes(r, r.IntN(400))
		script := make([]request, 40)
		for i := range script {
			for script[i] = anyRequest(r); script[i].inexact; {
				script[i] = anyRequest(r)
			}
		}
		var results [2][]string
		for i, size := range []int{1 << 20, 1} {
			conn := &scriptConn{stream: stream, size: size, withEOF: r.IntN(2) == 0}
			rd := &reading{
				t: t, r: r, rest: stream, conn: conn,
				ns:         bufsock.NewNetstringSocket(conn),
				impatience: patience,
				passed:     func() int { return conn.taken },
			}
			for _, req := range script {
				got := rd.receive(req)
				text := counts.ReplaceAllString(fmt.Sprint(rd.err), "")
				results[i] = append(results[i], fmt.Sprintf("%s: %q %d %s", req.name, got.msg, got.n, text))
			}
		}
		require.Equal(t, results[0], results[1], "stream %q", stream)
	})
}

// counts is the number of bytes buffered so far, in the text of an error.
var counts = regexp.MustCompile(`\d+ bytes? buffered`)

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

	w := &writing{t: t, r: r, ns: bufsock.NewNetstringSocket(local), impatience: impatience}
	require.False(t, w.sendMany(100_000))
	require.NoError(t, w.ns.Close())
	reading.Wait()
	require.True(t, bytes.Equal(w.given, received), "given %d bytes, received %d", len(w.given), len(received))
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
						digits := randomDigits(r)
						msg := fmt.Appendf(nil, "%d %d %d %s\n", id, i, len(digits), digits)
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
						var sender, number, size int
						var digits string
						if _, err := fmt.Sscan(string(msg), &sender, &number, &size, &digits); err != nil || len(digits) != size || strings.Trim(digits, digits[:1]) != "" {
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
			for id := range senders {
				for i := range each {
					require.Equal(t, 1, seen[fmt.Sprint(id, i)], "message %d of sender %d", i, id)
				}
			}
		})
	}
}

// TestLawsBesideFailedSends has small sends fail in the queue beside large ones
// that are cut by their timeouts: nothing is lost of either, whichever moment the
// bytes of the small ones come to the send buffer at.
func TestLawsBesideFailedSends(t *testing.T) {
	const senders, each = 4, 10_000
	for _, transport := range []transport{{"TCP", tcpPair}, {"Unix", unixPair}} {
		t.Run(transport.name, func(t *testing.T) {
			a, b := transport.pair(t)
			require.NoError(t, a.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(4096)) // to cut
			s := bufsock.NewBufferedSocket(a, bufsock.WithTimeout(100*time.Microsecond))
			counts := make(chan map[byte]int)
			go func() {
				all, _ := io.ReadAll(b)
				n := map[byte]int{}
				for _, b := range all {
					n[b]++
				}
				counts <- n
			}()
			given := map[byte]int{}
			var small sync.WaitGroup
			for id := range senders {
				msg := bytes.Repeat([]byte{'a' + byte(id)}, 1+id*5)
				given[msg[0]] = each * len(msg)
				small.Go(func() {
					for range each {
						if _, err := s.Send(msg, bufsock.WithTimeout(bufsock.NonBlocking)); err != nil && kind(err) != "later" {
							t.Error(err)
						}
					}
				})
			}
			large := bytes.Repeat([]byte("L"), 20_000)
			done := make(chan struct{})
			go func() { small.Wait(); close(done) }()
			for i, sending := 0, true; sending; i++ {
				select {
				case <-done:
					sending = false
				default:
				}
				var n int
				var err error
				if i%2 == 0 {
					n = len(large)
					_, err = s.Send(large)
				} else {
					require.NoError(t, s.SetWriteDeadline(time.Now().Add(100*time.Microsecond)))
					n, err = s.Write(large)
					require.NoError(t, s.SetWriteDeadline(time.Time{}))
				}
				if err != nil {
					require.Equal(t, "later", kind(err), err)
				}
				given['L'] += n
			}
			require.NoError(t, s.Flush(bufsock.WithTimeout(bufsock.NoTimeout)))
			require.NoError(t, s.Close())
			require.Equal(t, given, <-counts)
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
