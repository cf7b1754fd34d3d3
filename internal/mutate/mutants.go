package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A mutant is one change to one file: text in the place of src[start:end].
type mutant struct {
	file       *source
	fn         *ast.FuncDecl // nil: outside of functions
	start, end int
	text       string
	key        string // function, line before, line after
	result     string
}

type source struct {
	path   string
	src    []byte
	fset   *token.FileSet
	syntax *ast.File
}

// body returns where the body of a function begins and ends.
func (f *source) body(fn *ast.FuncDecl) (from, to int) {
	return f.fset.Position(fn.Body.Lbrace).Offset + 1, f.fset.Position(fn.Body.Rbrace).Offset
}

// with returns the piece of the file from..to with the mutant in it.
func (m *mutant) with(from, to int) string {
	return string(m.file.src[from:m.start]) + m.text + string(m.file.src[m.end:to])
}

// A finder collects the mutants of a file.
type finder struct {
	fset    *token.FileSet
	info    *types.Info
	file    *source
	fn      *ast.FuncDecl
	mutants []*mutant
}

// find returns those mutants of the package that compile, or only of one file.
func find(paths []string, only string) ([]*mutant, error) {
	fset := token.NewFileSet()
	var files []*source
	var syntax []*ast.File
	for _, path := range paths {
		f := &source{path: path, fset: fset}
		var err error
		if f.src, err = os.ReadFile(path); err != nil {
			return nil, err
		}
		if f.syntax, err = parser.ParseFile(fset, path, f.src, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
		files, syntax = append(files, f), append(syntax, f.syntax)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: importer.Default()}
	if _, err := config.Check("p", fset, syntax, info); err != nil {
		return nil, err
	}
	var all []*mutant
	for i, f := range files {
		if only != "" && only != filepath.Base(f.path) {
			continue
		}
		found := finder{fset: fset, info: info, file: f}
		found.inFile()
		for _, m := range found.mutants {
			changed, err := parser.ParseFile(fset, f.path, m.with(0, len(f.src)), parser.SkipObjectResolution)
			if err != nil {
				continue
			}
			others := slices.Clone(syntax)
			others[i] = changed
			if _, err := config.Check("p", fset, others, nil); err == nil {
				all = append(all, m)
			}
		}
	}
	return name(all), nil
}

// name gives every mutant its key. Those of equal lines are numbered.
func name(all []*mutant) []*mutant {
	slices.SortStableFunc(all, func(a, b *mutant) int {
		return cmp.Or(strings.Compare(a.file.path, b.file.path), cmp.Compare(a.start, b.start))
	})
	seen := map[string]int{}
	for _, m := range all {
		src := string(m.file.src)
		from := strings.LastIndexByte(src[:m.start], '\n') + 1
		to := len(src)
		if i := strings.IndexByte(src[m.end:], '\n'); i >= 0 {
			to = m.end + i
		}
		before, _, _ := strings.Cut(strings.TrimSpace(src[from:to]), "\n")
		after, _, _ := strings.Cut(strings.TrimSpace(m.with(from, to)), "\n")
		if after == "" || after == before {
			after = "(removed)"
		}
		m.key = fmt.Sprintf("%s: %s: %s => %s", filepath.Base(m.file.path), funcName(m.fn), before, after)
		if seen[m.key]++; seen[m.key] > 1 {
			m.key += fmt.Sprintf(" #%d", seen[m.key])
		}
	}
	return all
}

func funcName(fn *ast.FuncDecl) string {
	if fn == nil {
		return "-"
	}
	if fn.Recv == nil {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	return types.ExprString(t) + "." + fn.Name.Name
}

func (f *finder) inFile() {
	for _, d := range f.file.syntax.Decls {
		f.fn, _ = d.(*ast.FuncDecl)
		ast.Inspect(d, func(n ast.Node) bool {
			if n != nil {
				f.in(n)
			}
			return true
		})
	}
}

func (f *finder) add(from, to token.Pos, text string) {
	tf := f.fset.File(from)
	f.mutants = append(f.mutants, &mutant{file: f.file, fn: f.fn, start: tf.Offset(from), end: tf.Offset(to), text: text})
}

func (f *finder) replace(n ast.Node, text string) { f.add(n.Pos(), n.End(), text) }

func (f *finder) remove(n ast.Node) { f.replace(n, "") }

func (f *finder) text(n ast.Node) string {
	tf := f.fset.File(n.Pos())
	return string(f.file.src[tf.Offset(n.Pos()):tf.Offset(n.End())])
}

// in adds the mutants that n itself gives, not those of its children.
func (f *finder) in(n ast.Node) {
	switch n := n.(type) {
	case *ast.IfStmt:
		f.always(n.Cond)
		f.never(n.Cond)
	case *ast.ForStmt:
		if n.Cond != nil {
			f.never(n.Cond)
		}
	case *ast.SwitchStmt:
		f.inSwitch(n.Body, n.Tag == nil)
	case *ast.TypeSwitchStmt:
		f.inSwitch(n.Body, false)
	case *ast.SelectStmt:
		f.inSwitch(n.Body, false)
	case *ast.BinaryExpr:
		f.inBinary(n)
	case *ast.UnaryExpr:
		if n.Op == token.SUB {
			f.replace(n, f.text(n.X))
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "min" || id.Name == "max") {
			for _, arg := range n.Args {
				f.replace(n, f.text(arg))
			}
		}
	case *ast.BasicLit:
		if v, err := strconv.ParseInt(n.Value, 0, 64); err == nil && n.Kind == token.INT {
			f.replace(n, strconv.FormatInt(v+1, 10))
			f.replace(n, strconv.FormatInt(v-1, 10))
		}
	case *ast.Ident:
		if other := map[string]string{"true": "false", "false": "true"}[n.Name]; other != "" {
			f.replace(n, other)
		}
	case *ast.CompositeLit:
		f.inLiteral(n)
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			f.remove(n)
		}
		f.inOperator(n.TokPos, n.Tok)
	case *ast.IncDecStmt:
		f.remove(n)
		f.inOperator(n.TokPos, n.Tok)
	case *ast.ExprStmt, *ast.DeferStmt, *ast.GoStmt, *ast.SendStmt, *ast.BranchStmt:
		f.remove(n)
	case *ast.ReturnStmt:
		for _, result := range n.Results {
			f.inResult(result)
		}
	}
}

func (f *finder) always(cond ast.Expr) { f.replace(cond, "("+f.text(cond)+" || true)") }
func (f *finder) never(cond ast.Expr)  { f.replace(cond, "(("+f.text(cond)+") && false)") }

// inSwitch lets each clause never and, if it has a condition, always be taken.
func (f *finder) inSwitch(body *ast.BlockStmt, conditions bool) {
	for _, clause := range body.List {
		c, ok := clause.(*ast.CaseClause)
		if !ok || !conditions || c.List == nil {
			f.remove(clause)
			continue
		}
		for _, cond := range c.List {
			f.always(cond)
			f.never(cond)
		}
	}
}

var operators = map[token.Token]string{
	token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">",
	token.ADD: "-", token.SUB: "+", token.MUL: "/", token.QUO: "*", token.REM: "*",
	token.SHL: ">>", token.SHR: "<<", token.AND: "|", token.OR: "&",
	token.ADD_ASSIGN: "-=", token.SUB_ASSIGN: "+=", token.MUL_ASSIGN: "/=", token.OR_ASSIGN: "&=",
	token.INC: "--", token.DEC: "++",
}

func (f *finder) inOperator(pos token.Pos, op token.Token) {
	if other := operators[op]; other != "" {
		f.add(pos, pos+token.Pos(len(op.String())), other)
	}
}

// inBinary leaves out the operands of a condition, one at a time, and changes
// other operators, but not of constants, whose numbers are changed.
func (f *finder) inBinary(n *ast.BinaryExpr) {
	switch n.Op {
	case token.LAND:
		f.always(n.X)
		f.always(n.Y)
	case token.LOR:
		f.never(n.X)
		f.never(n.Y)
	default:
		if f.info.Types[n].Value == nil {
			f.inOperator(n.OpPos, n.Op)
		}
	}
}

// inLiteral leaves out fields, one at a time.
func (f *finder) inLiteral(n *ast.CompositeLit) {
	for i, e := range n.Elts {
		if _, ok := e.(*ast.KeyValueExpr); !ok {
			return
		}
		switch {
		case i+1 < len(n.Elts):
			f.add(e.Pos(), n.Elts[i+1].Pos(), "")
		default:
			f.add(e.Pos(), n.Rbrace, "")
		}
	}
}

// inResult changes one result of a return statement.
func (f *finder) inResult(e ast.Expr) {
	v := f.info.Types[e]
	if v.Type == nil || v.IsNil() || v.Value != nil {
		return
	}
	switch t := v.Type.Underlying().(type) {
	case *types.Basic:
		switch {
		case t.Info()&types.IsBoolean != 0:
			f.replace(e, "!("+f.text(e)+")")
		case t.Info()&types.IsInteger != 0:
			f.replace(e, f.text(e)+" + 1")
		case t.Info()&types.IsString != 0:
			f.replace(e, `""`)
		}
	case *types.Pointer, *types.Slice, *types.Interface, *types.Signature:
		f.replace(e, "nil")
	}
}
