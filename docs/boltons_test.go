// Package docs_test holds the pages beside it to the code. To run the Python
// in them as well, and to fail where that is not possible, on Debian or Ubuntu:
//
//	sudo apt-get install python3-boltons
//	BUFSOCK_INTEROP=require go test ./docs
package docs_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A snippet is a pair of code blocks of boltons.md.
type snippet struct {
	name   string // of the example and of the server
	python string
	prints string // what both print, without white space at its ends
}

// TestGoSnippets holds the Go blocks of the page to the examples, which go test
// runs.
func TestGoSnippets(t *testing.T) {
	for _, s := range readSnippets(t) {
		require.NotEmpty(t, s.prints, "what Example_%s prints, after // Output:", s.name)
	}
}

// TestPythonSnippets runs the Python blocks of the page against the servers of
// the examples. They must print what those print.
func TestPythonSnippets(t *testing.T) {
	python := findPython(t)
	for _, s := range readSnippets(t) {
		t.Run(s.name, func(t *testing.T) {
			require.Equal(t, s.prints, runPython(t, python, s.name, s.python))
		})
	}
}

var (
	exampleBody = regexp.MustCompile(`(?ms)^func Example_(\w+)\(\) \{\n.*?^\t// snippet:(\w+)\n(.*?)^\}\n`)
	codeBlock   = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
)

// readSnippets returns the snippets of the page. It requires that its Go
// blocks are the examples, all and in their order, each after a Python block.
func readSnippets(t *testing.T) []snippet {
	t.Helper()
	blocks := codeBlock.FindAllStringSubmatch(read(t, "boltons.md"), -1)
	examples := readExamples(t, "snippets_test.go")
	require.Len(t, examples, len(servers), "examples with a line // snippet:")
	require.Len(t, blocks, 2*len(examples), "code blocks, two for each example")
	var snippets []snippet
	for i, example := range examples {
		python, golang := blocks[2*i], blocks[2*i+1]
		require.Equal(t, []string{"python", "go"}, []string{python[1], golang[1]}, "languages of pair %d", i+1)
		require.Equal(t, example.code, golang[2], "Go block %d of boltons.md (actual) is not Example_%s (expected)", i+1, example.name)
		snippets = append(snippets, snippet{example.name, python[2], output(example.code)})
	}
	return snippets
}

// An example is what a page shows of a function Example_name.
type example struct{ name, code string }

// readExamples returns the examples of a file that have a snippet line.
func readExamples(t *testing.T, file string) []example {
	t.Helper()
	var examples []example
	for _, found := range exampleBody.FindAllStringSubmatch(read(t, file), -1) {
		require.Equal(t, found[1], found[2], "the name of an example and of its snippet")
		code := strings.ReplaceAll("\n"+found[3], "\n\t", "\n")[1:]
		examples = append(examples, example{found[1], code})
	}
	return examples
}

// output returns what an example prints, as snippet.prints.
func output(code string) string {
	_, comment, _ := strings.Cut(code, "// Output:")
	return strings.TrimSpace(strings.ReplaceAll(comment, "\n// ", "\n"))
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return unixLines(b)
}

// unixLines undoes what git and Python do to line ends on Windows.
func unixLines(text []byte) string {
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// pythonPreamble is what the Python blocks leave out. It waits for a line on
// standard input: the server has sent what it sends unasked.
const pythonPreamble = `
import select, socket, ssl, struct, sys, threading
from boltons.socketutils import *
host, port = sys.argv[1].split(":")
sock = socket.create_connection((host, int(port)))
context = ssl.create_default_context(cafile=sys.argv[2])
sys.stdin.readline()
`

// runPython runs a block against the server of that name, and returns what it
// prints, as snippet.prints.
func runPython(t *testing.T, python, name, code string) string {
	t.Helper()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, identity().pem, 0o600))
	server, err := startServer(name)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, python, "-c", pythonPreamble+code, server.addr(), roots)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() {
		exited <- cmd.Wait()
		server.listener.Close() // if it never came so far as to connect
	}()
	<-server.ready
	stdin.Close() // tells Python so, or fails because Python has ended
	require.NoError(t, <-exited, "%s", &stderr)
	require.NoError(t, <-server.ended, "the server")
	return strings.TrimSpace(unixLines(stdout.Bytes()))
}

// findPython returns a Python that has boltons. If there is none, it skips the
// test, or fails it where BUFSOCK_INTEROP=require is set.
func findPython(t *testing.T) string {
	t.Helper()
	python := pythonWithBoltons()
	if python != "" {
		return python
	}
	const missing = "no python3 has boltons.socketutils; it is in the Debian package python3-boltons"
	if os.Getenv("BUFSOCK_INTEROP") == "require" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// pythonWithBoltons is empty if there is none.
var pythonWithBoltons = sync.OnceValue(func() string {
	// The second is Debian's, if the first is another that hides it.
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import boltons.socketutils").Run() == nil {
			return python
		}
	}
	return ""
})

// listNames prints every public name of boltons.socketutils as the page has
// it, after the heading of its table: functions with their arguments.
const listNames = `
import inspect, socket
from boltons import socketutils

def show(table, name, value):
    if inspect.isroutine(value):
        args = [a for a in inspect.signature(value).parameters if a != "self"]
        name += "(%s)" % ", ".join(args)
    print(table, name, sep="\t")

for name, value in vars(socketutils).items():
    imported = inspect.ismodule(value) or \
        getattr(value, "__module__", socketutils.__name__) != socketutils.__name__
    if name.startswith("_") or imported:
        continue
    if not inspect.isclass(value) or issubclass(value, Exception):
        own = vars(value).get("__init__") if inspect.isclass(value) else value
        show("Exceptions and constants", name, own)
        continue
    show(name, name, value.__init__)
    instance = value(socket.socket())
    if hasattr(instance, "close"):
        instance.close()  # which may set more attributes
    for member, value in {**vars(value), **vars(instance)}.items():
        if not member.startswith("_"):
            show(name, member, value)
`

// TestNames holds the tables of the page to boltons: every public name, with
// the names of its arguments, and no other.
func TestNames(t *testing.T) {
	python := findPython(t)
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), python, "-c", listNames)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)

	var onPage []string
	for _, row := range readRows(t, "boltons.md") {
		if row.section == "Every name" {
			for _, name := range row.code(0) {
				onPage = append(onPage, row.heading+"\t"+name)
			}
		}
	}
	inBoltons := strings.Split(strings.TrimSpace(unixLines(out)), "\n")
	slices.Sort(inBoltons)
	slices.Sort(onPage)
	require.Equal(t, inBoltons, onPage, "names of boltons (expected) and in the tables of boltons.md (actual)")
}

// goName finds what may be an exported name of this package: one that does not
// follow a dot, as that of another package or a method of another type would.
var goName = regexp.MustCompile(`(?:^|[^.\w"])([A-Z]\w*)`)

// TestGoNames holds the last column of every table to this package: the names
// in it exist.
func TestGoNames(t *testing.T) {
	exported := exportedNames(t)
	found := 0
	for _, row := range readRows(t, "boltons.md") {
		for _, code := range row.code(len(row.cells) - 1) {
			for _, name := range goName.FindAllStringSubmatch(code, -1) {
				found++
				assert.True(t, exported[name[1]], "%s is not exported by bufsock; it is in %q, in the table %q of boltons.md", name[1], code, row.heading)
			}
		}
	}
	require.Greater(t, found, 100, "names in the tables")
}

// A row is a line of a table of a page, below the line of its titles.
type row struct {
	section, heading string // the last of the second and of any level
	cells            []string
}

var inlineCode = regexp.MustCompile("`([^`]+)`")

// code returns what is marked as code in a cell.
func (r row) code(cell int) []string {
	var found []string
	for _, code := range inlineCode.FindAllStringSubmatch(r.cells[cell], -1) {
		found = append(found, code[1])
	}
	return found
}

func readRows(t *testing.T, page string) []row {
	t.Helper()
	var rows []row
	var section, heading string
	inTable := false
	for line := range strings.Lines(codeBlock.ReplaceAllString(read(t, page), "")) {
		line = strings.TrimSpace(line)
		if title, found := strings.CutPrefix(line, "## "); found {
			section = title
		}
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimLeft(line, "# ")
		}
		switch {
		case !strings.HasPrefix(line, "| "):
			inTable = false
		case strings.HasPrefix(line, "| --- |"):
			inTable = true
		case inTable:
			cells := strings.Split(strings.Trim(line, "| "), " | ")
			rows = append(rows, row{section, heading, cells})
		}
	}
	return rows
}

// exportedNames returns the exported names of the package above: of functions,
// types, methods, fields, constants and variables.
func exportedNames(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("../*.go")
	require.NoError(t, err)
	names := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				names[n.Name.Name] = true
				return false
			case *ast.TypeSpec:
				names[n.Name.Name] = true
			case *ast.ValueSpec:
				addNames(names, n.Names)
			case *ast.Field:
				addNames(names, n.Names)
			}
			return true
		})
	}
	return names
}

func addNames(names map[string]bool, idents []*ast.Ident) {
	for _, ident := range idents {
		names[ident.Name] = true
	}
}
