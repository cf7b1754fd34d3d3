// Apitext prints the exported API of the package in a directory, else in the
// present one, a declaration a line, so that a diff shows what a change means to
// those who import the package:
//
//	go run ./internal/apitext >api.txt
//	go run ./internal/apitext bufsocktest >bufsocktest/api.txt
//
// GOOS and GOARCH select the platform. A constant is shown with its value.
// Parameters keep their names, because the documentation speaks of them. Of
// what is not exported a line tells only that it is there, which others can
// notice.
package main

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	pkg, err := load(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "apitext:", err)
		os.Exit(1)
	}
	fmt.Print(strings.Join(describe(pkg), "\n"), "\n")
}

// load compiles the package in dir, with all that it imports, and returns it.
func load(dir string) (*types.Package, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", ".")
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w", dir, err)
	}
	files := map[string]string{} // of export data, by import path
	var last string              // behind its dependencies: the package itself
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		files[path], last = file, path
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
	return importer.ForCompiler(token.NewFileSet(), "gc", lookup).Import(last)
}

// describe returns the lines, ordered by the names that are declared. The
// fields of a struct stay in order: it matters to literals without names.
func describe(pkg *types.Package) []string {
	var lines []string
	qualify := types.RelativeTo(pkg)
	for _, name := range pkg.Scope().Names() {
		obj := pkg.Scope().Lookup(name)
		if !obj.Exported() {
			continue
		}
		line := types.ObjectString(obj, qualify)
		if c, ok := obj.(*types.Const); ok {
			line += " = " + c.Val().ExactString()
		}
		if t, ok := obj.(*types.TypeName); ok && !t.IsAlias() {
			lines = append(lines, describeType(t, qualify)...)
		} else {
			lines = append(lines, line)
		}
	}
	return lines
}

func describeType(obj *types.TypeName, qualify types.Qualifier) []string {
	kind, hidden := types.TypeString(obj.Type().Underlying(), qualify), ""
	var members []string
	see := func(o types.Object, member string) {
		if o.Exported() {
			members = append(members, member)
		} else {
			hidden = ", and more that is not exported"
		}
	}
	switch t := obj.Type().Underlying().(type) {
	case *types.Struct:
		kind = "struct"
		for f := range t.Fields() {
			see(f, fmt.Sprintf("field (%s) %s %s", obj.Name(), f.Name(), types.TypeString(f.Type(), qualify)))
		}
	case *types.Interface:
		kind = "interface"
		for m := range t.Methods() {
			see(m, "")
		}
		members = nil // as all methods, below
	}
	for _, m := range methods(obj.Type()) {
		members = append(members, types.SelectionString(m, qualify))
	}
	return append([]string{"type " + obj.Name() + " " + kind + hidden}, members...)
}

// methods returns the exported methods of values of the type, and of pointers.
func methods(t types.Type) []*types.Selection {
	var all []*types.Selection
	ofValue, ofPointer := types.NewMethodSet(t), types.NewMethodSet(types.NewPointer(t))
	if types.IsInterface(t) {
		ofPointer = ofValue
	}
	for m := range ofPointer.Methods() {
		if v := ofValue.Lookup(m.Obj().Pkg(), m.Obj().Name()); v != nil {
			m = v
		}
		if m.Obj().Exported() {
			all = append(all, m)
		}
	}
	return all
}
