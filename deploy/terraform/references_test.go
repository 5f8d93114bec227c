package terraform_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

func TestEveryFileIsFormattedAsTerraformFormatsIt(t *testing.T) {
	for _, name := range parts {
		for _, path := range load(t, name).files {
			is := read(t, path)
			if want := string(hclwrite.Format([]byte(is))); is != want {
				t.Errorf("%s is not formatted: terraform fmt writes\n%s", path, want)
			}
			for i, line := range strings.Split(is, "\n") {
				if len(line) > 120 {
					t.Errorf("%s:%d is longer than 120 columns", path, i+1)
				}
			}
		}
	}
}

func TestEveryReferenceResolves(t *testing.T) {
	for _, name := range parts {
		t.Run(name, func(t *testing.T) {
			s := newScope(t, load(t, name))
			for _, b := range s.blocks {
				s.check(b)
			}
			for what, used := range s.declared {
				if !used && (strings.HasPrefix(what, "var.") || strings.HasPrefix(what, "local.")) {
					t.Errorf("nothing uses %s", what)
				}
			}
		})
	}
}

// scope is what a part declares, and which of it is used.
type scope struct {
	part
	t        *testing.T
	schema   map[string]schema
	declared map[string]bool
}

func newScope(t *testing.T, p part) scope {
	s := scope{part: p, t: t, schema: schemas(t), declared: map[string]bool{}}
	for _, b := range p.blocks {
		if b.Type == "locals" {
			for name := range b.Body.Attributes {
				s.declare("local." + name)
			}
			continue
		}
		s.declare(address(b))
	}
	return s
}

func (s scope) declare(what string) {
	if _, twice := s.declared[what]; twice {
		s.t.Errorf("%s is declared twice", what)
	}
	s.declared[what] = false
}

// check resolves every reference in a block.
func (s scope) check(b *hclsyntax.Block) {
	_, repeated := b.Body.Attributes["for_each"]
	var walk func(body *hclsyntax.Body, at []string)
	walk = func(body *hclsyntax.Body, at []string) {
		for name, attribute := range body.Attributes {
			switch {
			case name == "ignore_changes":
				s.own(b, attribute)
			case b.Type == "variable" && name == "type":
			case b.Type == "terraform":
			default:
				s.elements(attribute)
				for _, traversal := range attribute.Expr.Variables() {
					s.resolve(b, traversal, repeated, slices.Contains(at, "postcondition"))
				}
			}
		}
		for _, nested := range body.Blocks {
			walk(nested.Body, append(slices.Clone(at), nested.Type))
		}
	}
	walk(b.Body, nil)
}

// own checks that what a resource ignores is an argument of its own.
func (s scope) own(b *hclsyntax.Block, attribute *hclsyntax.Attribute) {
	for _, traversal := range attribute.Expr.Variables() {
		if name := traversal.RootName(); !s.schema[typeOf(b)].has(name) {
			s.t.Errorf("%s: %s has no argument %s to ignore", attribute.SrcRange, address(b), name)
		}
	}
}

// functions are those of Terraform that the example calls.
var functions = []string{"concat", "contains", "file", "jsondecode", "keys", "length", "merge", "trimsuffix"}

func TestEveryFunctionIsOneOfTerraforms(t *testing.T) {
	for _, name := range parts {
		for _, b := range load(t, name).blocks {
			if b.Type == "variable" {
				continue // set(string) is a type
			}
			eachAttribute(b.Body, func(a *hclsyntax.Attribute) {
				_ = hclsyntax.VisitAll(a.Expr, func(node hclsyntax.Node) hcl.Diagnostics {
					call, ok := node.(*hclsyntax.FunctionCallExpr)
					if ok && !slices.Contains(functions, call.Name) {
						t.Errorf("%s: no function %s is known here", call.Range(), call.Name)
					}
					return nil
				})
			})
		}
	}
}

func (s scope) resolve(b *hclsyntax.Block, traversal hcl.Traversal, repeated, self bool) {
	parts := steps(traversal)
	where := fmt.Sprintf("%s: %s", traversal.SourceRange(), strings.Join(parts, "."))
	last := ""
	switch {
	case parts[0] == "each":
		if !repeated || len(parts) < 2 || (parts[1] != "key" && parts[1] != "value") {
			s.t.Errorf("%s: the block has no for_each, or each has no such part", where)
		}
		if over := strings.Join(refersTo(b.Body, "for_each"), "."); s.isTyped(over) && len(parts) == 3 {
			s.readable(where, over, parts[2])
		}
		return
	case parts[0] == "self":
		if !self || len(parts) != 2 || !s.schema[typeOf(b)].reads(parts[1]) {
			s.t.Errorf("%s: no postcondition, or nothing to read there", where)
		}
		return
	case parts[0] == "path":
		if !slices.Equal(parts, []string{"path", "module"}) {
			s.t.Errorf("%s does not resolve", where)
		}
		return
	case parts[0] == "data" && len(parts) >= 3:
		parts, last = []string{strings.Join(parts[:3], ".")}, strings.Join(parts[3:], ".")
	case (parts[0] == "var" || parts[0] == "local") && len(parts) == 2:
		parts = []string{strings.Join(parts, ".")}
	case len(parts) >= 2:
		parts, last = []string{strings.Join(parts[:2], ".")}, strings.Join(parts[2:], ".")
	}
	if _, ok := s.declared[parts[0]]; !ok {
		s.t.Errorf("%s does not resolve: nothing declares %s", where, parts[0])
		return
	}
	s.declared[parts[0]] = true
	if last == "" {
		return // a whole resource: for_each, or a wait
	}
	s.readable(where, parts[0], last)
}

// isTyped says whether an address is a resource's or a data source's.
func (s scope) isTyped(addr string) bool {
	_, declared := s.declared[addr]
	return declared && strings.Contains(addr, "_") && !strings.HasPrefix(addr, "var.") &&
		!strings.HasPrefix(addr, "local.")
}

// readable checks that the resource or data source of an address has an attribute.
func (s scope) readable(where, addr, attribute string) {
	if kind := typeOf(s.block(s.t, addr)); !s.schema[kind].reads(attribute) {
		s.t.Errorf("%s: %s has no %s", where, kind, attribute)
	}
}

// elements resolves what an expression reads of the elements of a resource that has for_each.
func (s scope) elements(attribute *hclsyntax.Attribute) {
	_ = hclsyntax.VisitAll(attribute.Expr, func(node hclsyntax.Node) hcl.Diagnostics {
		loop, ok := node.(*hclsyntax.ForExpr)
		if !ok {
			return nil
		}
		collection := loop.CollExpr.Variables()
		if len(collection) != 1 || !s.isTyped(strings.Join(steps(collection[0]), ".")) {
			return nil
		}
		over := strings.Join(steps(collection[0]), ".")
		for _, part := range []hclsyntax.Expression{loop.KeyExpr, loop.ValExpr} {
			for _, traversal := range part.Variables() {
				if is := steps(traversal); is[0] == loop.ValVar && len(is) == 2 {
					s.readable(fmt.Sprint(traversal.SourceRange()), over, is[1])
				}
			}
		}
		return nil
	})
}

// What only the provider knows, testdata/provider.txt has from its documentation.
func TestEveryArgumentIsOneOfItsResource(t *testing.T) {
	known := schemas(t)
	for _, name := range parts {
		for _, b := range load(t, name).blocks {
			if b.Type != "resource" && b.Type != "data" && b.Type != "provider" {
				continue
			}
			s, ok := known[typeOf(b)]
			if !ok {
				t.Errorf("testdata/provider.txt does not have %s", typeOf(b))
				continue
			}
			s.compare(t, address(b), b.Body, "")
		}
	}
}

// schema is what a provider's documentation says of one type.
type schema struct {
	required, optional, attributes []string
}

func (s schema) has(argument string) bool {
	return slices.Contains(s.required, argument) || slices.Contains(s.optional, argument)
}

func (s schema) reads(name string) bool {
	return slices.Contains(s.attributes, name) || s.has(name)
}

// meta are arguments and blocks that Terraform itself knows.
var meta = []string{"for_each", "count", "depends_on", "lifecycle"}

// compare checks the arguments of a block and of those inside it; within is the path to it, with a dot at its end.
func (s schema) compare(t *testing.T, addr string, body *hclsyntax.Body, within string) {
	var is []string
	for name := range body.Attributes {
		is = append(is, name)
	}
	for _, b := range body.Blocks {
		is = append(is, b.Type)
		if within != "" || b.Type != "lifecycle" {
			s.compare(t, addr, b.Body, within+b.Type+".")
		}
	}
	for _, name := range is {
		if !s.has(within+name) && (within != "" || !slices.Contains(meta, name)) {
			t.Errorf("%s: there is no argument %s", addr, within+name)
		}
	}
	for _, name := range s.required {
		rest, ok := strings.CutPrefix(name, within)
		if ok && !strings.Contains(rest, ".") && !slices.Contains(is, rest) {
			t.Errorf("%s: %s is missing", addr, name)
		}
	}
}

// typeOf is how testdata/provider.txt names the type of a block.
func typeOf(b *hclsyntax.Block) string { return b.Type + " " + b.Labels[0] }

func schemas(t *testing.T) map[string]schema {
	t.Helper()
	all := map[string]schema{}
	for _, record := range strings.Split(read(t, "testdata/provider.txt"), "\n\n") {
		if strings.HasPrefix(record, "#") {
			continue
		}
		head, body, _ := strings.Cut(record, "\n")
		arguments, attributes, ok := strings.Cut(body, "->")
		if !ok {
			t.Fatalf("testdata/provider.txt: %s has no ->", head)
		}
		s := schema{attributes: strings.Fields(attributes)}
		for _, name := range strings.Fields(arguments) {
			if strings.Contains(name, "*") {
				s.required = append(s.required, strings.Replace(name, "*", "", 1))
			} else {
				s.optional = append(s.optional, name)
			}
		}
		all[head] = s
	}
	return all
}
