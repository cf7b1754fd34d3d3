package connections

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// nettests are the tests of nettest.TestConn.
var nettests = strings.Fields(`BasicIO PingPong RacyRead RacyWrite ReadTimeout WriteTimeout PastTimeout
	PresentTimeout FutureTimeout CloseTimeout ConcurrentMethods`)

// TestNettest runs x/net's tests of a net.Conn with bufsock around both ends. It
// has no way to choose, so the test binary runs itself with a pattern.
func TestNettest(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			names := slices.DeleteFunc(slices.Clone(nettests), func(name string) bool {
				return slices.Contains(k.notNettest, name) || k.excuses(name)
			})
			out, err := nettestOf(t, k, "TestNettestAround", names)
			require.NoError(t, err, "%s", out)
			for _, name := range names {
				require.Contains(t, out, "--- PASS: TestNettestAround/"+name+" ")
			}
		})
	}
}

// excuses reports whether one of the kind's limits rules a test of nettest out. It may
// pass all the same, by luck.
func (k *kind) excuses(name string) bool {
	// A Write that is late but done is none that has timed out.
	ends := k.has(finalTimeouts) && !k.has(fullCount)
	switch name {
	case "RacyWrite":
		// It lets a write time out in its middle, and wants another timeout of the
		// next. So says crypto/tls; bufsock says that the sending side is broken.
		return k.tls || ends
	case "FutureTimeout":
		// It writes on behind a timeout, and waits for ever if that fails.
		return ends
	case "PresentTimeout":
		return k.has(writeNotWoken)
	case "CloseTimeout":
		return k.has(ignoresDeadlines) || k.has(closeLeavesWrites) && k.has(writeNotWoken, noWriteDeadlines)
	case "ConcurrentMethods":
		return ends || k.has(ignoresDeadlines)
	}
	return false
}

// TestNettestAlone is the control: what is excused fails on the connection alone,
// too.
func TestNettestAlone(t *testing.T) {
	for _, k := range kinds {
		for _, name := range k.notNettest {
			t.Run(k.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				for range 3 { // a race may go well
					if out, err := nettestOf(t, k, "TestNettestBare", []string{name}); err != nil {
						require.NotContains(t, out, "--- PASS: TestNettestBare/"+name)
						return
					}
				}
				t.Errorf("%s passes %s without bufsock", k.name, name)
			})
		}
	}
}

const nettestKind = "BUFSOCK_NETTEST_KIND"

func nettestOf(t *testing.T, k *kind, test string, names []string) (string, error) {
	limit := "30s"
	if test == "TestNettestBare" {
		limit = "3s" // it is expected to fail, and if it hangs it has
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.timeout="+limit,
		"-test.run=^"+test+"$/^("+strings.Join(names, "|")+")$")
	cmd.Env = append(os.Environ(), nettestKind+"="+k.name)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func childKind(t *testing.T) *kind {
	for _, k := range kinds {
		if k.name == os.Getenv(nettestKind) {
			return k
		}
	}
	require.Fail(t, "no such kind")
	return nil
}

func TestNettestAround(t *testing.T) {
	if os.Getenv(nettestKind) == "" {
		return // TestNettest runs it
	}
	k := childKind(t)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l := k.open(t)
		return k.socket(l.a), bufsock.NewBufferedSocket(l.b, forEver), func() {}, nil
	})
}

func TestNettestBare(t *testing.T) {
	if os.Getenv(nettestKind) == "" {
		return
	}
	k := childKind(t)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l := k.open(t)
		return l.a, l.b, func() {}, nil
	})
}
