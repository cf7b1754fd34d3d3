package connections

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table in README.md")

// TestReadme: the table in README.md is that of the kinds and the checks.
func TestReadme(t *testing.T) {
	const begin, end = "<!-- table -->\n", "<!-- end of table -->"
	data, err := os.ReadFile("README.md")
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(data), begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := before + begin + table(t) + end + after
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(want), 0o644))
		return
	}
	require.Equal(t, want, string(data), "go test -run Readme -update .")
}

func table(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| connection | holds | nettest | what it does by itself |\n| --- | --- | ---: | --- |\n")
	for _, k := range kinds {
		name := k.name
		if v := k.version(t); v != "" {
			name += " (" + strings.TrimPrefix(v, "v") + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %d of %d | %s |\n", name, k.holds(), k.passing(), len(nettests), k.limits())
	}
	return b.String()
}

func (k *kind) holds() string {
	but := []string{}
	for _, c := range checks {
		if k.has(c.unless...) {
			name, _, _ := strings.Cut(c.name, ",") // one for several of a family
			if !slices.Contains(but, name) {
				but = append(but, name)
			}
		}
	}
	if len(but) == 0 {
		return "all"
	}
	return "all but: " + strings.Join(but, ", ")
}

// passing counts the tests of nettest that are run.
func (k *kind) passing() int {
	n := 0
	for _, name := range nettests {
		if !slices.Contains(k.notNettest, name) && !k.excuses(name) {
			n++
		}
	}
	return n
}

func (k *kind) limits() string {
	texts := []string{}
	for _, l := range k.cannot {
		texts = append(texts, string(l))
	}
	text := strings.Join(texts, "; ")
	text = strings.Replace(text, string(noCloseWrite)+"; "+string(noCloseRead), "no half-close", 1)
	if text == "" {
		return "–"
	}
	return text
}
