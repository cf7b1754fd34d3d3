package bufsocktest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// text tells a scene in words.
func (s *scene) text() string {
	text := s.name + ":"
	for i, piece := range s.pieces {
		if i == 1 && s.what != none {
			text += " " + s.what.String()
		}
		text += fmt.Sprintf(" %q", piece)
	}
	if s.joined {
		text += " joined"
	}
	return text
}

func texts(scenes []scene) (all []string) {
	for _, s := range scenes {
		all = append(all, s.text())
	}
	return all
}

func TestCuts(t *testing.T) {
	got := texts(cuts([]byte("abc")))
	require.Equal(t, []string{
		`whole: "abc"`,
		`whole, end with data: "abc" joined`,
		`byte by byte: "a" "b" "c"`,
		`byte by byte, end with data: "a" "b" "c" joined`,
		`cut at 1: "a" "bc"`,
		`cut at 1, end with data: "a" "bc" joined`,
		`cut at 2: "ab" "c"`,
		`cut at 2, end with data: "ab" "c" joined`,
	}, got[:8])
	require.Len(t, got, 8+2*randoms)
	require.Equal(t, []string{`whole: ""`}, texts(cuts(nil)))
	require.Equal(t, []string{`whole: "a"`, `whole, end with data: "a" joined`}, texts(cuts([]byte("a"))))
	require.Len(t, cuts([]byte("ab")), 6)
}

// Random places differ from one scene to the next, and not from run to run.
func TestCutsAtRandomPlaces(t *testing.T) {
	stream := make([]byte, 500)
	for i := range stream {
		stream[i] = byte(i)
	}
	scenes := cuts(stream)
	random := scenes[len(scenes)-2*randoms:]
	require.Equal(t, texts(random), texts(cuts(stream)[len(scenes)-2*randoms:]))
	few, many, seen := false, false, map[string]bool{}
	for i, s := range random {
		require.Equal(t, fmt.Sprintf("random places %d", i/2+1), strings.TrimSuffix(s.name, ", end with data"))
		require.Equal(t, stream, bytes.Join(s.pieces, nil))
		few = few || len(s.pieces) > 2 && len(s.pieces) < 12
		many = many || len(s.pieces) > 200
		seen[fmt.Sprintf("%q", s.pieces)] = true
	}
	require.True(t, few && many, "few pieces and many")
	require.Len(t, seen, randoms)
}

func TestInterrupted(t *testing.T) {
	require.Equal(t, "pause, reset, end, Interruption(3)", fmt.Sprintf("%v, %v, %v, %v", Pause, Reset, End, End+1))
	for _, what := range []Interruption{Pause, Reset, End} {
		require.Equal(t, []string{
			fmt.Sprintf(`%v at 0: "" %[1]v "ab"`, what),
			fmt.Sprintf(`%v at 1: "a" %[1]v "b"`, what),
			fmt.Sprintf(`%v at 2: "ab" %[1]v ""`, what),
		}, texts(interrupted([]byte("ab"), what)))
	}
	for _, what := range []Interruption{-1, 3} {
		want := fmt.Sprintf("bufsocktest: expected Pause, Reset or End, got Interruption(%d)", what)
		require.PanicsWithValue(t, want, func() { Interrupt(t, nil, what, nil) })
	}
}

func TestSteps(t *testing.T) {
	ab, cd, end := step{data: []byte("ab")}, step{data: []byte("cd")}, step{err: io.EOF}
	abcd := []byte("abcd")
	for _, c := range []struct {
		s    scene
		want []step
	}{
		{cuts(abcd)[6], []step{ab, cd, end}},
		{cuts(abcd)[7], []step{ab, {data: []byte("cd"), err: io.EOF}, end}},
		{cuts(nil)[0], []step{end}},
		{interrupted(abcd, Pause)[0], []step{{pause: true}, {data: abcd}, end}},
		{interrupted(abcd, Pause)[2], []step{ab, {pause: true}, cd, end}},
		{interrupted(abcd, Pause)[4], []step{{data: abcd}, {pause: true}, end}},
		{interrupted(abcd, Reset)[2], []step{ab, {err: ErrReset}, end}},
		{interrupted(abcd, End)[2], []step{ab, end}},
	} {
		require.Equal(t, c.want, c.s.steps(), c.s.name)
	}
}

// A right reader gets along with everything, and each call has a connection and
// a clock of its own.
func TestRunCallsForEachCut(t *testing.T) {
	stream := []byte("some bytes of which none is like\nthe others")
	calls := 0
	Run(t, stream, func(t *testing.T, conn net.Conn) {
		calls++
		require.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Now().UTC())
		require.Equal(t, len(stream), conn.(*Player).Place())
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, stream, got)
		time.Sleep(time.Hour)
	})
	require.Equal(t, 2*(2+len(stream)-1+randoms), calls)
}

func TestInterruptCallsForEachPlace(t *testing.T) {
	stream := []byte("some bytes")
	for what, want := range map[Interruption]error{Pause: nil, Reset: ErrReset, End: nil} {
		place := 0
		Interrupt(t, stream, what, func(t *testing.T, conn net.Conn) {
			require.Equal(t, place, conn.(*Player).Place())
			got, err := io.ReadAll(conn)
			require.ErrorIs(t, err, want)
			if what == Pause {
				require.Equal(t, stream, got)
			} else {
				require.Equal(t, stream[:place], got)
			}
			place++
		})
		require.Equal(t, len(stream)+1, place)
	}
}

// What f leaves behind ends with it.
func TestRunClosesTheConnection(t *testing.T) {
	var last *Player
	Interrupt(t, []byte("ab"), Pause, func(t *testing.T, conn net.Conn) {
		go io.Copy(io.Discard, conn)
		last = conn.(*Player)
	})
	require.True(t, last.isClosed)
}

func TestCommand(t *testing.T) {
	const path = " github.com/bufsock/bufsock/bufsocktest"
	for name, want := range map[string]string{
		"TestX":                    `go test -run '^TestX$'`,
		"TestX/cut_at_17":          `go test -run '^TestX$/^cut_at_17$'`,
		"TestX/it's|[a.b]/(c)_#01": `go test -run '^TestX$/^it'\''s\|\[a\.b\]$/^\(c\)_#01$'`,
	} {
		require.Equal(t, want+path, command(name))
	}
}

func TestPackagePath(t *testing.T) {
	module := debug.Module{Path: "example.org/m"}
	for want, info := range map[string]debug.BuildInfo{
		" example.org/m/p": {Path: "example.org/m/p.test", Main: module},
		" example.org/m/c": {Path: "example.org/m/c", Main: module}, // of a package main
		"":                 {Path: "command-line-arguments.test"},
	} {
		require.Equal(t, want, packagePath(&info))
	}
}

func TestReport(t *testing.T) {
	for _, s := range cuts([]byte("abcdef")) {
		report := s.report(t)
		require.True(t, strings.HasSuffix(report, "to repeat: "+command("TestReport")), report)
		require.Equal(t, strings.HasPrefix(s.name, "random"), strings.HasPrefix(report, "the sizes of the pieces: ["), s.name)
	}
}
