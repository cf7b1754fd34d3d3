package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestGuideSnippets holds the Go blocks of the guide to its examples, which go
// test runs: all of them, in their order.
func TestGuideSnippets(t *testing.T) {
	blocks := codeBlock.FindAllStringSubmatch(read(t, "protocols.md"), -1)
	examples := readExamples(t, "guide_snippets_test.go")
	require.Len(t, examples, len(guideServers), "examples with a line // snippet:")
	require.Len(t, blocks, len(examples), "code blocks, one for each example")
	for i, example := range examples {
		require.NotEmpty(t, output(example.code), "what Example_%s prints, after // Output:", example.name)
		require.Equal(t, "go", blocks[i][1])
		require.Equal(t, example.code, blocks[i][2], "Go block %d of protocols.md (actual) is not Example_%s (expected)", i+1, example.name)
		require.NotContains(t, servers, example.name, "a name of both pages")
	}
}

// TestGuideTable holds the tables of the guide to this package and to the
// repository: the calls exist, and so do the files that show what is said.
func TestGuideTable(t *testing.T) {
	exported := exportedNames(t)
	rows := readRows(t, "protocols.md")
	require.Greater(t, len(rows), 40)
	for _, row := range rows {
		require.Len(t, row.cells, 6, "cells of %q", row.cells[0])
		for _, code := range row.code(3) {
			for _, name := range goName.FindAllStringSubmatch(code, -1) {
				assert.True(t, exported[name[1]], "%s is not exported by bufsock; it is in the row of %s", name[1], row.cells[0])
			}
		}
		shown := row.cells[5]
		assert.True(t, strings.Contains(shown, "by hand") || link.MatchString(shown), "nothing shows the row of %s", row.cells[0])
	}
}

var link = regexp.MustCompile(`\]\(([^)#]+)\)`)

// TestGuideLinks follows the links of the guide and of the list of findings.
// Each finding is listed, and none that does not exist.
func TestGuideLinks(t *testing.T) {
	listed := map[string]bool{}
	for _, page := range []string{"protocols.md", "../findings/README.md"} {
		for _, target := range link.FindAllStringSubmatch(read(t, page), -1) {
			path := filepath.Join(filepath.Dir(page), target[1])
			_, err := os.Stat(path)
			assert.NoError(t, err, "a link of %s", page)
			if page != "protocols.md" {
				listed[filepath.Base(path)] = true
			}
		}
	}
	findings, err := filepath.Glob("../findings/*.sh")
	require.NoError(t, err)
	require.NotEmpty(t, findings)
	for _, finding := range findings {
		assert.True(t, listed[filepath.Base(finding)], "%s is not listed in findings/README.md", finding)
	}
}
