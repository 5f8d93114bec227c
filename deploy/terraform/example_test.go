// Package terraform_test checks the Terraform example. Its rule: hashicorp/hcl reads the files, as Terraform does.
// The providers' schemas are in no Go module; testdata/provider.txt says what their documentation says.
package terraform_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// parts are the directories, in the order in which they are applied: before keyd makes its keys, and after.
var parts = []string{"vault", "consumers"}

// part is one directory: what Terraform calls a root module.
type part struct {
	name   string
	files  []string
	blocks []*hclsyntax.Block
}

func load(t *testing.T, name string) part {
	t.Helper()
	files, err := filepath.Glob(name + "/*.tf")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no .tf file: %v", name, err)
	}
	p := part{name: name, files: files}
	for _, path := range files {
		file, diags := hclsyntax.ParseConfig([]byte(read(t, path)), path, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		body := file.Body.(*hclsyntax.Body)
		for name := range body.Attributes {
			t.Errorf("%s: %s stands outside of every block", path, name)
		}
		p.blocks = append(p.blocks, body.Blocks...)
	}
	return p
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// address is how other blocks refer to one: data.TYPE.NAME, TYPE.NAME, var.NAME; or else its kind and labels.
func address(b *hclsyntax.Block) string {
	switch b.Type {
	case "resource":
		return strings.Join(b.Labels, ".")
	case "variable":
		return "var." + b.Labels[0]
	}
	return strings.Join(append([]string{b.Type}, b.Labels...), ".")
}

// block returns the one block with an address.
func (p part) block(t *testing.T, addr string) *hclsyntax.Block {
	t.Helper()
	for _, b := range p.blocks {
		if address(b) == addr {
			return b
		}
	}
	t.Fatalf("%s has no %s", p.name, addr)
	return nil
}

// typed returns the resources of a type.
func (p part) typed(kind string) (found []*hclsyntax.Block) {
	for _, b := range p.blocks {
		if b.Type == "resource" && b.Labels[0] == kind {
			found = append(found, b)
		}
	}
	return found
}

// inner returns the blocks of a name directly inside a body.
func inner(body *hclsyntax.Body, name string) (found []*hclsyntax.Body) {
	for _, b := range body.Blocks {
		if b.Type == name {
			found = append(found, b.Body)
		}
	}
	return found
}

// only returns the one block of a name directly inside a body.
func only(t *testing.T, body *hclsyntax.Body, name string) *hclsyntax.Body {
	t.Helper()
	found := inner(body, name)
	if len(found) != 1 {
		t.Fatalf("%s: %d blocks %s", body.Range(), len(found), name)
	}
	return found[0]
}

// refersTo returns what an argument refers to, such as azurerm_key_vault.keyd.id; nothing for an absent argument.
func refersTo(body *hclsyntax.Body, argument string) (found []string) {
	attribute, ok := body.Attributes[argument]
	if !ok {
		return nil
	}
	for _, traversal := range attribute.Expr.Variables() {
		found = append(found, strings.Join(steps(traversal), "."))
	}
	return found
}

// steps are the names of a reference; indexes are left out.
func steps(traversal hcl.Traversal) (names []string) {
	for _, step := range traversal {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			names = append(names, step.Name)
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		}
	}
	return names
}

// names are what an argument lists by bare names: ignore_changes and depends_on.
func names(body *hclsyntax.Body, argument string) []string {
	found := refersTo(body, argument)
	slices.Sort(found)
	return found
}

// constant returns the value of an argument that refers to nothing, as text.
func constant(t *testing.T, body *hclsyntax.Body, argument string) string {
	t.Helper()
	attribute, ok := body.Attributes[argument]
	if !ok {
		return ""
	}
	value, diags := attribute.Expr.Value(nil)
	if diags.HasErrors() {
		t.Fatalf("%s is no constant: %v", argument, diags)
	}
	return text(t, value)
}
