package main

import (
	"os"
	"path/filepath"
	"testing"

	"strings"

	"github.com/stretchr/testify/require"
)

const sample = `package sample

const limit = 3

// Clip returns n, or the limit if that is less.
func Clip(n int) int {
	if n > limit {
		return limit
	}
	return n
}

type counter struct{ n int }

func (c *counter) add(n int) { c.n += n }
`

// The test does not look at what is above the limit.
const weak = `package sample

import "testing"

func Test(t *testing.T) {
	c := counter{}
	c.add(Clip(2))
	if c.n != 2 {
		t.Fail()
	}
}
`

func TestMutate(t *testing.T) {
	*dir = t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(*dir, "internal", "mutate"), 0o700))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(*dir, name), []byte(text), 0o600))
	}
	run := func() (ok bool, lines []string) {
		var out strings.Builder
		ok, err := mutate(&out)
		require.NoError(t, err)
		return ok, strings.Split(strings.TrimSpace(out.String()), "\n")
	}
	write("go.mod", "module sample\n\ngo 1.26\n")
	write("sample.go", sample)
	write("sample_test.go", weak)
	*list = true
	ok, lines := run()
	require.True(t, ok)
	require.Equal(t, []string{
		"sample.go: Clip: if n > limit { => if (n > limit || true) {",
		"sample.go: Clip: if n > limit { => if ((n > limit) && false) {",
		"sample.go: Clip: if n > limit { => if n >= limit {",
		"sample.go: Clip: return n => return n + 1",
		"sample.go: counter.add: func (c *counter) add(n int) { c.n += n } => func (c *counter) add(n int) {  }",
		"sample.go: counter.add: func (c *counter) add(n int) { c.n += n } => func (c *counter) add(n int) { c.n -= n }",
		"sample.go: -: const limit = 3 => const limit = 4",
		"sample.go: -: const limit = 3 => const limit = 2",
	}, lines)

	*list = false
	ok, lines = run()
	require.False(t, ok)
	require.Equal(t, "all                     8        4        0        4    50.0%", lines[len(lines)-1])
	require.Contains(t, lines, "survived\tsample.go: -: const limit = 3 => const limit = 4\t")

	// What is no longer true of the source is said, and what is accepted is not run.
	write("internal/mutate/equivalents.txt", "# comment\nsample.go: Clip: if n > limit { => if n >= limit {\n\tequal at the limit\nsample.go: gone => gone\n")
	write("sample_test.go", strings.Replace(weak, "c := ", "if Clip(5) != 3 {\n\t\tt.Fail()\n\t}\n\tc := ", 1))
	ok, lines = run()
	require.False(t, ok)
	require.Equal(t, "accepted as an equivalent, and no mutant: sample.go: gone => gone", lines[0])
	require.Equal(t, "all                     7        7        0        0   100.0%", lines[len(lines)-1])
	*equivalents = true
	_, lines = run()
	require.Equal(t, "all                     1        0        0        1     0.0%", lines[len(lines)-1])
}
