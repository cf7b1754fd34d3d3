package bufsocktest_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// A message is a line that tells a size, and so many bytes.
var stream = []byte("5\nhello")

// A receiver receives one message within an hour, or says why not.
type receiver func(conn net.Conn) ([]byte, error)

// right is a receiver without a fault, with memory for what comes in time.
func right(conn net.Conn) (msg []byte, err error) {
	r := bufio.NewReader(conn)
	var line []byte
	retry := func(f func() error) {
		for err = f(); isTimeout(err); err = f() {
			conn.SetReadDeadline(time.Now().Add(time.Hour))
		}
	}
	retry(func() error {
		more, err := r.ReadBytes('\n')
		line = append(line, more...)
		return err
	})
	if err != nil {
		return nil, err
	}
	size, err := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil {
		return nil, err
	}
	msg = make([]byte, size)
	n := 0
	retry(func() error {
		m, err := io.ReadFull(r, msg[n:])
		n += m
		return err
	})
	return msg, err
}

// oneReadPerLine takes what one Read returns for a line, and the next for the
// rest.
func oneReadPerLine(conn net.Conn) ([]byte, error) {
	b := make([]byte, 100)
	n, err := conn.Read(b)
	line, rest, _ := strings.Cut(string(b[:n]), "\n")
	if rest == "" && err == nil {
		n, err = conn.Read(b)
		rest = string(b[:n])
	}
	if size, bad := strconv.Atoi(line); bad != nil || size != len(rest) {
		return nil, errors.Join(err, bad, io.ErrUnexpectedEOF)
	}
	return []byte(rest), nil
}

// noBytesWithError drops bytes that come together with the end.
func noBytesWithError(conn net.Conn) (msg []byte, err error) {
	var all, b [100]byte
	total := 0
	for {
		n, err := conn.Read(b[:])
		if err != nil {
			return right(&played{conn, bytes.NewReader(all[:total])})
		}
		total += copy(all[total:], b[:n])
	}
}

type played struct {
	net.Conn
	r io.Reader
}

func (p *played) Read(b []byte) (int, error) { return p.r.Read(b) }

// forgetful begins a line anew after a timeout.
func forgetful(conn net.Conn) ([]byte, error) {
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	for isTimeout(err) {
		conn.SetReadDeadline(time.Time{})
		line, err = r.ReadString('\n')
	}
	if err != nil {
		return nil, err
	}
	size, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Time{})
	msg := make([]byte, size)
	_, err = io.ReadFull(r, msg)
	return msg, err
}

// untilTheEnd takes all that comes until the end for the message.
func untilTheEnd(conn net.Conn) ([]byte, error) {
	all, err := io.ReadAll(conn)
	_, msg, found := bytes.Cut(all, []byte("\n"))
	if err == nil && !found {
		err = io.ErrUnexpectedEOF
	}
	return msg, err
}

// untilAnyError does the same with an error.
func untilAnyError(conn net.Conn) ([]byte, error) {
	msg, err := untilTheEnd(conn)
	if errors.Is(err, bufsocktest.ErrReset) {
		err = nil
	}
	return msg, err
}

// stubborn reads on after an error, and finds an end.
func stubborn(conn net.Conn) ([]byte, error) {
	var all []byte
	for {
		more, err := io.ReadAll(conn)
		if all = append(all, more...); err == nil {
			return untilTheEnd(&played{conn, bytes.NewReader(all)})
		}
	}
}

func nothing(conn net.Conn) ([]byte, error) { return nil, nil }

// nineBytes fails ten times.
func nineBytes(t *testing.T, receive receiver) {
	bufsocktest.Interrupt(t, []byte("7\nbyebye!"), bufsocktest.End, func(t *testing.T, conn net.Conn) {
		if msg, err := receive(conn); string(msg) != "byebye!" && err == nil {
			t.Errorf("received %q for a message", msg)
		}
	})
}

// An attempt is a way to test a receiver.
type attempt func(t *testing.T, receive receiver)

func underEveryCut(t *testing.T, receive receiver) {
	bufsocktest.Run(t, stream, func(t *testing.T, conn net.Conn) { check(t, conn, receive, len(stream)) })
}

func interruptedBy(what bufsocktest.Interruption) attempt {
	return func(t *testing.T, receive receiver) {
		bufsocktest.Interrupt(t, stream, what, func(t *testing.T, conn net.Conn) {
			need := conn.(*bufsocktest.Player).Place()
			if what == bufsocktest.Pause {
				need = len(stream)
			}
			check(t, conn, receive, need)
		})
	}
}

// check wants the message if all of it comes, else an error.
func check(t *testing.T, conn net.Conn, receive receiver, coming int) {
	conn.SetReadDeadline(time.Now().Add(time.Hour))
	msg, err := receive(conn)
	switch {
	case err == nil && string(msg) != "hello":
		t.Errorf("received %q for a message", msg)
	case err != nil && coming == len(stream):
		t.Errorf("not received: %v", err)
	}
}

// planted are faults, how they are found, and under which cuts.
var planted = map[string]struct {
	receive receiver
	try     attempt
	fails   string // a pattern
}{
	"one read per line":                {oneReadPerLine, underEveryCut, `^byte by byte|^cut at [13-6]`},
	"no bytes with an error":           {noBytesWithError, underEveryCut, `, end with data$`},
	"a timeout drops bytes":            {forgetful, interruptedBy(bufsocktest.Pause), ` 1$`},
	"a cut stream is whole":            {untilTheEnd, interruptedBy(bufsocktest.End), ` [2-6]$`},
	"an error is an end":               {untilAnyError, interruptedBy(bufsocktest.Reset), ` [0-6]$`},
	"nothing is received":              {nothing, nineBytes, ``},
	"an end behind an error is an end": {stubborn, interruptedBy(bufsocktest.Reset), ` [2-6]$`},
}

// plantedEnv names the fault that a run of this program is to find.
const plantedEnv = "BUFSOCKTEST_PLANTED"

// TestPlanted wants each of the faults to be found, by running itself, and each
// line that is printed to repeat that failure and no other.
func TestPlanted(t *testing.T) {
	if name := os.Getenv(plantedEnv); name != "" {
		planted[name].try(t, planted[name].receive)
		return
	}
	for name, p := range planted {
		t.Run(name, func(t *testing.T) {
			p.try(t, right)
			output, failed := runPlanted(t, name, "^TestPlanted$")
			require.Equal(t, expected(output, p.fails), atKnownPlaces(failed), output)
			lines := regexp.MustCompile(`to repeat: (.*)`).FindAllStringSubmatch(output, -1)
			require.Len(t, lines, len(failed), output)
			for i, line := range lines {
				_, again := runPlanted(t, name, pattern(t, line[1]))
				require.Equal(t, failed[i:i+1], again, line)
			}
		})
	}
}

// runPlanted runs the tests of the pattern with a fault in them, and returns
// what it prints and which subtests failed.
func runPlanted(t *testing.T, name, pattern string) (output string, failed []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run="+pattern)
	cmd.Env = append(os.Environ(), plantedEnv+"="+name)
	b, err := cmd.CombinedOutput()
	require.IsType(t, (*exec.ExitError)(nil), err, "%s", b)
	return string(b), subtests(string(b), "--- FAIL:")
}

// subtests returns the names of those that a line begins so.
func subtests(output, begin string) (names []string) {
	for _, m := range regexp.MustCompile(begin+` +TestPlanted/(\S+)`).FindAllStringSubmatch(output, -1) {
		names = append(names, strings.ReplaceAll(m[1], "_", " "))
	}
	return names
}

// expected returns the subtests that ran and match the pattern.
func expected(output, pattern string) (names []string) {
	for _, name := range atKnownPlaces(subtests(output, "=== RUN")) {
		if regexp.MustCompile(pattern).MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}

func atKnownPlaces(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.HasPrefix(name, "random") })
}

// pattern returns the pattern of a line that repeats.
func pattern(t *testing.T, line string) string {
	t.Helper()
	m := regexp.MustCompile(`^go test -run '(.*)' github\.com/bufsock/bufsock/bufsocktest$`).FindStringSubmatch(line)
	require.NotNil(t, m, line)
	return m[1]
}

// After ten failures it is enough.
func TestPlantedFailuresAreNotEndless(t *testing.T) {
	output, failed := runPlanted(t, "no bytes with an error", "^TestPlanted$")
	require.Len(t, failed, 10)
	const all = 2 * (2 + 6 + 20) // whole, byte by byte, every place, random ones
	ran := len(subtests(output, "=== RUN"))
	require.Contains(t, output, fmt.Sprintf("10 failures are enough: %d more ways to cut the stream were not tried", all-ran))

	output, failed = runPlanted(t, "nothing is received", "^TestPlanted$")
	require.Len(t, failed, 10)
	require.NotContains(t, output, "enough", "these were all")
}

// A failure by a panic, and one by a bubble in which all is blocked, end the
// program. They, too, tell how to repeat them.
func TestPanicsTellHowToRepeat(t *testing.T) {
	if how := os.Getenv(plantedEnv); how != "" {
		bufsocktest.Run(t, stream, func(t *testing.T, conn net.Conn) {
			n, _ := conn.Read(make([]byte, 100))
			switch {
			case n == 3 && how == "panic":
				panic("three")
			case n == 3:
				<-make(chan int)
			}
		})
		return
	}
	for _, name := range []string{"panic", "deadlock"} {
		output, _ := runPlanted(t, name, "^TestPanicsTellHowToRepeat$")
		require.Contains(t, output, "to repeat: go test -run '^TestPanicsTellHowToRepeat$/^cut_at_3$' github.com/bufsock/bufsock/bufsocktest\n")
		require.Equal(t, 1, strings.Count(output, "to repeat: "), "%s\n%s", name, output)
	}
}
