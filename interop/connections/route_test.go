package connections

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	here  = "192.0.2.1"
	there = "192.0.2.2"
)

// TestRouteGoesAway takes away the way to the peer while bytes of ours are not
// acknowledged. The kernel gives up after a while, says so once, and then reports an
// end: a receive must say it each time.
func TestRouteGoesAway(t *testing.T) {
	for name, command := range map[string]string{
		"unreachable": "route replace unreachable " + there,
		"prohibited":  "route replace prohibit " + there,
		"black hole":  "route replace blackhole " + there,
		"no route":    "route del 192.0.2.0/30",
		"no address":  "address del " + here + "/30 dev here",
		"link down":   "link set here down",
		"no answer":   "route show",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespaces := newNamespaces(t)
			links := make([]*link, 12)
			for i := range links {
				links[i] = namespaces.open(t)
			}
			ip(t, "-n "+namespaces.there+" route replace blackhole "+here) // no byte is acknowledged
			for _, l := range links {
				_, err := l.a.Write([]byte("in flight"))
				require.NoError(t, err)
			}
			ip(t, "-n "+namespaces.here+" "+command)
			for i, l := range links {
				t.Run([]string{"bare", "met by a receive", "met by a send"}[i%3], func(t *testing.T) {
					t.Parallel()
					lost := []func(*testing.T, *link){bareRouteLost, routeLostToReceive, routeLostToSend}[i%3]
					lost(t, l)
				})
			}
		})
	}
}

// bareRouteLost is the control: an error, and then an end.
func bareRouteLost(t *testing.T, l *link) {
	requireRead(t, l.a, "half")
	mustEnd(t, "the reads", func() {
		_, err := l.a.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotEqual(t, io.EOF, err)
		t.Log(err)
		_, err = l.a.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

var plainTCP = &kind{name: "TCP"}

func routeLostToReceive(t *testing.T, l *link) {
	s := plainTCP.socket(l.a)
	requireBreak(t, s, "half")
}

func routeLostToSend(t *testing.T, l *link) {
	s := plainTCP.socket(l.a)
	mustEnd(t, "Send", func() {
		for {
			if _, err := s.Send([]byte("more")); err != nil {
				require.False(t, isDeadline(err), "%v", err)
				return
			}
			time.Sleep(time.Millisecond) // it only has to go on
		}
	})
	requireBroken(t, s, true)
	requireBreak(t, s, "half")
}

// A pair of network namespaces that a cable joins. Nothing else sees them.
type namespaces struct{ here, there string }

// newNamespaces needs root, and the program ip of iproute2.
func newNamespaces(t *testing.T) namespaces {
	if _, err := exec.LookPath("ip"); err != nil {
		missing(t, "ip is not installed; it is in the Debian package iproute2")
	}
	name := fmt.Sprintf("bufsock-%d-%d", os.Getpid(), abstractNames.Add(1))
	n := namespaces{name + "-here", name + "-there"}
	for _, ns := range []string{n.here, n.there} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			missing(t, fmt.Sprintf("cannot make a network namespace, which needs root: %v: %s", err, out))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	}
	ip(t, "-n "+n.here+" link add here type veth peer name there netns "+n.there)
	ip(t, "-n "+n.here+" address add "+here+"/30 dev here")
	ip(t, "-n "+n.there+" address add "+there+"/30 dev there")
	ip(t, "-n "+n.here+" link set here up")
	ip(t, "-n "+n.there+" link set there up")
	return n
}

func ip(t *testing.T, arguments string) {
	out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput()
	require.NoError(t, err, "ip %s: %s", arguments, out)
}

// in runs f in a namespace: the sockets that it makes stay there. The thread ends with
// the goroutine, as it cannot go back.
func in(t *testing.T, namespace string, f func() error) {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			file, err := os.Open("/run/netns/" + namespace)
			if err != nil {
				return err
			}
			defer file.Close()
			if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			return f()
		}()
	}()
	require.NoError(t, <-done)
}

// open connects the namespaces. The peer has sent half of a message, which has come.
func (n namespaces) open(t *testing.T) *link {
	var l net.Listener
	in(t, n.there, func() (err error) {
		l, err = net.Listen("tcp", there+":0")
		return err
	})
	closeLater(t, l)
	var a net.Conn
	in(t, n.here, func() (err error) {
		a, err = net.DialTimeout("tcp", l.Addr().String(), patience)
		return err
	})
	b, err := l.Accept()
	require.NoError(t, err)
	closeLater(t, a, b)
	_, err = b.Write([]byte("half"))
	require.NoError(t, err)
	giveUpSoon(t, a.(*net.TCPConn))
	return &link{a: a, b: b}
}

// giveUpSoon bounds how long the kernel sends again what is not acknowledged. It is
// a quarter of an hour else.
func giveUpSoon(t *testing.T, conn *net.TCPConn) {
	raw, err := conn.SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 300)
	}))
	require.NoError(t, failed)
}
