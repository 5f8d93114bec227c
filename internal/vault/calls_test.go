package vault_test

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// unshipped are the calls that the shipped rights refuse, with the right that an operator adds to the role for them.
func unshipped(c *vault.Client) map[string]func(t *testing.T) error {
	const version = "00112233445566778899aabbccddeeff"
	calls := map[string]func(t *testing.T) error{
		"disable": func(t *testing.T) error { return c.Disable(t.Context(), keyName, version) }, // a retire rule
		"enable":  func(t *testing.T) error { return c.Enable(t.Context(), keyName, version) },  // an operator
		"recover": func(t *testing.T) error { return c.Recover(t.Context(), keyName) },          // by a person
		"encrypt": func(t *testing.T) error {
			_, err := c.Encrypt(t.Context(), keyName, version, []byte("secret"))
			return err
		},
		"decrypt": func(t *testing.T) error {
			_, err := c.Decrypt(t.Context(), keyName, version, []byte("secret"))
			return err
		},
		"sign": func(t *testing.T) error {
			_, err := c.Sign(t.Context(), keyName, version, make([]byte, 32))
			return err
		},
		"verify": func(t *testing.T) error {
			_, err := c.Verify(t.Context(), keyName, version, make([]byte, 32), make([]byte, 256))
			return err
		},
	}
	if c.Vault().Kind == key.ManagedHSM { // a check of consumers
		calls["list_roles"] = func(t *testing.T) error {
			_, err := c.LocalRoles(t.Context(), keyName)
			return err
		}
	}
	return calls
}

// Every call that the code has a name for is made here: with success under the shipped rights, or refused by them and
// listed above. A new call needs a place in one of the two.
func TestEachCallThatKeydMakesIsWithinTheShippedRightsOrListed(t *testing.T) {
	source, err := os.ReadFile("operation.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`operation\{name: "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		all = append(all, m[1])
	}
	for _, a := range shipped(t) {
		t.Run(a.file, func(t *testing.T) {
			t.Parallel()
			reg := prometheus.NewRegistry()
			b, _ := guarded(t, a.vault, a.setUp(a.grants))
			c, err := vault.New(vault.Config{Vault: a.vault, KEKName: kekName, CreateKEK: true, KEKBits: 2048,
				Attested: a.vault.Kind == key.ManagedHSM}, b.cred, vault.HTTPClient(b.Transport()),
				vault.NewMetrics(reg), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := everything(t, c); err != nil {
				t.Fatal(err)
			}
			made := operations(t, reg)
			for name, call := range unshipped(c) {
				if slices.Contains(made, name) {
					t.Errorf("%s works with the shipped rights, and is listed as one that they refuse", name)
				}
				if r := key.ReasonOf(call(t)); r != key.ForbiddenByRBAC && r != key.ForbiddenByPolicy {
					t.Errorf("%s: the shipped rights do not refuse it (%s)", name, r)
				}
			}
			known := slices.Concat(made, slices.Collect(maps.Keys(unshipped(c))))
			for _, name := range all {
				ofHSMs := slices.Contains([]string{"get_attestation", "list_roles"}, name)
				if !slices.Contains(known, name) && (a.vault.Kind == key.ManagedHSM || !ofHSMs) {
					t.Errorf("nothing shows whether the shipped rights allow the call %s", name)
				}
			}
		})
	}
	if len(all) < 15 {
		t.Fatalf("only %d calls were found", len(all))
	}
}

// operations are the calls that were answered with success.
func operations(t *testing.T, reg *prometheus.Registry) (names []string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "keyd_vault_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if strings.HasPrefix(labels["code"], "2") || labels["operation"] == "get_deleted" { // which finds none
				names = append(names, labels["operation"])
			}
		}
	}
	return names
}
