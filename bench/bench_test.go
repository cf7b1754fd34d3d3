package bench

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	RunChild()
	flag.Parse()
	shorten()
	os.Exit(m.Run())
}

// shorten has each benchmark take a fifth of a second, unless -benchtime says
// something else: there are some two hundred.
func shorten() {
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.benchtime" })
	if !chosen {
		flag.Set("test.benchtime", "200ms")
	}
}

func BenchmarkLines(b *testing.B)             { benchmark(b, Lines()) }
func BenchmarkLinesCRLF(b *testing.B)         { benchmark(b, LinesCRLF()) }
func BenchmarkNetstrings(b *testing.B)        { benchmark(b, Netstrings()) }
func BenchmarkNetstringsWritten(b *testing.B) { benchmark(b, NetstringsWritten()) }
func BenchmarkBulkReceived(b *testing.B)      { benchmark(b, BulkReceived()) }
func BenchmarkBulkSent(b *testing.B)          { benchmark(b, BulkSent()) }
func BenchmarkBuffered(b *testing.B)          { benchmark(b, Buffered()) }
func BenchmarkSplit(b *testing.B)             { benchmark(b, Split()) }
func BenchmarkRESP(b *testing.B)              { benchmark(b, RESP()) }
func BenchmarkRESPArray(b *testing.B)         { benchmark(b, RESPArray()) }
func BenchmarkMemcached(b *testing.B)         { benchmark(b, Memcached()) }
func BenchmarkNothingThere(b *testing.B)      { benchmark(b, NothingThere()) }
func BenchmarkLinesTLS(b *testing.B)          { benchmark(b, LinesOn(TLS)) }
func BenchmarkLinesWrapped(b *testing.B)      { benchmark(b, LinesOn(Wrapped)) }
func BenchmarkPingPongTCP(b *testing.B)       { benchmark(b, PingPong(TCP)) }
func BenchmarkPingPongUnix(b *testing.B)      { benchmark(b, PingPong(Unix)) }
func BenchmarkPingPongWrapped(b *testing.B)   { benchmark(b, PingPong(Wrapped)) }
func BenchmarkPingPongTLS(b *testing.B)       { benchmark(b, PingPong(TLS)) }
func BenchmarkAnswersTCP(b *testing.B)        { benchmark(b, Answers(TCP)) }
func BenchmarkAnswersTLS(b *testing.B)        { benchmark(b, Answers(TLS)) }
func BenchmarkProxy(b *testing.B)             { benchmark(b, Proxy()) }

func BenchmarkMessageSize(b *testing.B)      { benchmark(b, MessageSize()) }
func BenchmarkLateDelimiter(b *testing.B)    { benchmark(b, LateDelimiter()) }
func BenchmarkBufferedMessages(b *testing.B) { benchmark(b, BufferedMessages()) }
func BenchmarkDelimiters(b *testing.B)       { benchmark(b, Delimiters()) }
func BenchmarkConnections(b *testing.B)      { benchmark(b, Connections()) }
func BenchmarkContention(b *testing.B)       { benchmark(b, Contention()) }

// benchmark runs all sides of the workload at all sizes. It reports the time
// that the side has taken itself, which is without what comes before and after.
func benchmark(b *testing.B, w Workload) {
	for _, size := range w.Sizes {
		for _, side := range w.Sides {
			b.Run(fmt.Sprintf("%d/%s", size, side.Name), func(b *testing.B) {
				session, err := side.Start(size, nil)
				if errors.Is(err, ErrMissing) {
					b.Skip(err)
				}
				require.NoError(b, err)
				defer session.Close()
				b.ReportAllocs()
				b.ResetTimer()
				took, err := session.Do(b.N)
				b.StopTimer()
				require.NoError(b, err)
				b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
			})
		}
	}
}
