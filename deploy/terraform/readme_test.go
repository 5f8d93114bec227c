package terraform_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// fences returns the blocks of README.md in one language, without their indentation.
func fences(t *testing.T, language string) (found []string) {
	t.Helper()
	pattern := regexp.MustCompile("(?ms)^( *)```" + language + "\n(.*?)^ *```$")
	for _, m := range pattern.FindAllStringSubmatch(read(t, "README.md"), -1) {
		found = append(found, regexp.MustCompile(`(?m)^`+m[1]).ReplaceAllString(m[2], ""))
	}
	return found
}

func TestTheReadmesValuesAreWhatEachPartAsksFor(t *testing.T) {
	values := fences(t, "hcl")
	if len(values) != len(parts) {
		t.Fatalf("README.md has values for %d parts, not %d", len(values), len(parts))
	}
	for i, name := range parts {
		file, diags := hclsyntax.ParseConfig([]byte(values[i]), "README.md", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		given := file.Body.(*hclsyntax.Body).Attributes
		for _, b := range load(t, name).blocks {
			if b.Type != "variable" {
				continue
			}
			_, optional := b.Body.Attributes["default"]
			if _, ok := given[b.Labels[0]]; !ok && !optional {
				t.Errorf("%s: README.md gives no %s", name, b.Labels[0])
			}
			delete(given, b.Labels[0])
		}
		for unknown := range given {
			t.Errorf("%s: README.md gives %s, which is no variable there", name, unknown)
		}
	}
}

// Which services there are, the first part asks in README.md and the second knows.
func TestTheReadmeMakesAnIdentityForEachService(t *testing.T) {
	first, _ := hclsyntax.ParseConfig([]byte(fences(t, "hcl")[0]), "README.md", hcl.InitialPos)
	list, diags := first.Body.(*hclsyntax.Body).Attributes["consumers"].Expr.Value(nil)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var made, used []string
	for _, name := range list.AsValueSlice() {
		made = append(made, "${var.vault_name}-"+name.AsString())
	}
	for _, b := range load(t, "consumers").blocks {
		if b.Type == "data" && b.Labels[0] == "azurerm_user_assigned_identity" {
			name := b.Body.Attributes["name"].SrcRange
			used = append(used, strings.Trim(strings.TrimSpace(strings.SplitN(
				string(name.SliceBytes([]byte(read(t, name.Filename)))), "=", 2)[1]), `"`))
		}
	}
	slices.Sort(made)
	slices.Sort(used)
	if !slices.Equal(made, used) {
		t.Errorf("README.md makes the identities %v, and the second part uses %v", made, used)
	}
}

func TestTheReadmesKeysAreThoseThatTerraformReads(t *testing.T) {
	var file struct {
		Keys map[string]struct{ Spec string }
	}
	if err := yaml.Unmarshal([]byte(fences(t, "yaml")[0]), &file); err != nil {
		t.Fatal(err)
	}
	for _, b := range load(t, "consumers").blocks {
		if b.Type != "variable" || !strings.HasSuffix(b.Labels[0], "_key_name") {
			continue
		}
		name := constant(t, b.Body, "default")
		key, ok := file.Keys[name]
		if !ok {
			t.Errorf("README.md does not configure %s", name)
		}
		if (key.Spec == "RSA-2048") != (b.Labels[0] == "ai_key_name") {
			t.Errorf("%s has spec %q: an AI account takes RSA-2048 only", name, key.Spec)
		}
		delete(file.Keys, name)
	}
	for name := range file.Keys {
		t.Errorf("Terraform reads no key %s", name)
	}
}

func TestTheWaitIsTheOneThatTheReadmeNames(t *testing.T) {
	wait := constant(t, load(t, "vault").block(t, "var.role_wait").Body, "default")
	minutes := regexp.MustCompile(`takes up to (\d+) minutes`).FindStringSubmatch(read(t, "README.md"))
	if minutes == nil {
		t.Fatal("README.md does not say how long an assignment takes")
	}
	if n, err := strconv.Atoi(minutes[1]); err != nil || wait != strconv.Itoa(n)+"m" {
		t.Errorf("Terraform waits %s, README.md says %s minutes", wait, minutes[1])
	}
}
