package arch_test

import (
	"go/ast"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// knowRSA has the rooms, and the single files of others, that may know that a key is RSA, each with the reason. All
// others ask key.Material for family, spec, fingerprint and whether it matches, so that keys of another family can
// come.
var knowRSA = map[string]string{
	"internal/key":                  "it makes material of a public key",
	"internal/hsm":                  "it makes, opens and wraps with RSA keys",
	"internal/proof":                "it encrypts to a version's public key, and verifies by it",
	"internal/simulate":             "its models of the HSM and the vaults calculate with the keys",
	"internal/attest/chain.go":      "the HSMs of Managed HSM sign attestations by RSA, whatever the keys are",
	"internal/vault/certificate.go": "keyd signs in to Entra by it, and Entra takes RSA certificates only",
}

func TestOnlyRoomsThatComputeWithKeysKnowThatAKeyIsRSA(t *testing.T) {
	used := map[string]bool{}
	for _, p := range loaded(t) {
		room := strings.TrimPrefix(p.PkgPath, module)
		if _, isRoom := floors[room]; !isRoom {
			continue
		}
		for _, file := range p.Syntax {
			where := p.Fset.Position(file.Pos()).Filename
			for _, what := range rsaIn(p, file) {
				name := room + "/" + filepath.Base(where)
				switch {
				case knowRSA[room] != "":
					used[room] = true
				case knowRSA[name] != "":
					used[name] = true
				default:
					t.Errorf("%s %s: ask key.Material, with a question that has a name", where, what)
				}
			}
		}
	}
	for place := range knowRSA {
		if !used[place] {
			t.Errorf("%s may know that a key is RSA, and does not: take it off the list", place)
		}
	}
}

// rsaIn lists the ways in which a file knows that a key is RSA.
func rsaIn(p *packages.Package, file *ast.File) (found []string) {
	if slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"crypto/rsa"` }) {
		found = append(found, "imports crypto/rsa")
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && isMaterialsRSA(p.TypesInfo.Uses[s.Sel]) {
			found = append(found, "asks Material for its RSA key")
		}
		return true
	})
	return found
}

func isMaterialsRSA(o types.Object) bool {
	f, ok := o.(*types.Func)
	return ok && f.FullName() == "("+module+"internal/key.Material).RSA"
}
