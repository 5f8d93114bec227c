package arch_test

import (
	"go/ast"
	"go/types"
	"strings"
	"sync"
	"testing"

	"golang.org/x/tools/go/packages"
)

// insiders may look through generations and placements: the record itself, and the model world that judges it.
var insiders = []string{"internal/record", "internal/simulate"}

// Only the record looks through its generations and placements. Every other room asks a named question, so that two
// rooms cannot answer it in two ways.
func TestOnlyTheRecordLooksThroughItsGenerationsAndPlacements(t *testing.T) {
	checked := 0
	for _, p := range loaded(t) {
		if contains(insiders, strings.TrimPrefix(p.PkgPath, module)) {
			continue
		}
		checked++
		for _, what := range pryings(p) {
			t.Error(what)
		}
	}
	if checked < 20 {
		t.Fatalf("only %d packages were read", checked)
	}
}

var load = sync.OnceValues(func() ([]*packages.Package, error) {
	return packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedImports | packages.NeedTypes | packages.NeedTypesInfo |
			packages.NeedSyntax,
	}, module+"...")
})

// loaded is all of keyd with its types, without its tests.
func loaded(t *testing.T) []*packages.Package {
	t.Helper()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for _, e := range p.Errors {
			t.Fatal(e)
		}
	}
	return all
}

// pryings lists where a package names the slices, or ranges over something whose elements are generations or
// placements.
func pryings(p *packages.Package) (found []string) {
	report := func(n ast.Node, what string) {
		at := p.Fset.Position(n.Pos()).String()
		found = append(found, at+": "+what+": ask the record, with a question that has a name")
	}
	for _, file := range p.Syntax {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if s := p.TypesInfo.Selections[n]; s != nil && s.Kind() == types.FieldVal && isList(s.Type()) {
					report(n, "names "+n.Sel.Name)
				}
			case *ast.RangeStmt:
				if isList(p.TypesInfo.TypeOf(n.X)) {
					report(n, "looks through generations or placements")
				}
			}
			return true
		})
	}
	return found
}

// isList reports whether a type is a list, a map or an iterator of generations or placements.
func isList(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Slice:
		return isPart(u.Elem())
	case *types.Array:
		return isPart(u.Elem())
	case *types.Pointer:
		a, ok := u.Elem().Underlying().(*types.Array)
		return ok && isPart(a.Elem())
	case *types.Map:
		return isPart(u.Elem())
	case *types.Signature: // iter.Seq and iter.Seq2
		if u.Params().Len() != 1 {
			return false
		}
		yield, ok := u.Params().At(0).Type().Underlying().(*types.Signature)
		if !ok {
			return false
		}
		for v := range yield.Params().Variables() {
			if isPart(v.Type()) {
				return true
			}
		}
	}
	return false
}

// isPart reports whether a type is record.Generation, record.Placement, or a pointer to one.
func isPart(t types.Type) bool {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	n, ok := t.(*types.Named)
	if !ok || n.Obj().Pkg() == nil || n.Obj().Pkg().Path() != module+"internal/record" {
		return false
	}
	return n.Obj().Name() == "Generation" || n.Obj().Name() == "Placement"
}
