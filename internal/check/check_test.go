package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// checked runs the checks whose area is area.
func checked(t *testing.T, run func(*checker)) []status.Check {
	t.Helper()
	d, _ := newDaemon(t)
	c := &checker{d: d}
	run(c)
	for _, l := range c.lines {
		if l.Area == "" || l.Name == "" || l.Result != status.CheckOK && (l.Detail == "" || l.Remedy == "") {
			t.Errorf("a line lacks its reason or its remedy: %+v", l)
		}
	}
	return c.lines
}

func TestEachStateOfThePINHasItsLine(t *testing.T) {
	for state, want := range map[key.PINState]status.CheckResult{
		key.PINAccepted: status.CheckOK, key.PINRefused: status.CheckFailed, key.PINLocked: status.CheckFailed,
		key.PINFinalTry: status.CheckWarning, key.PINCountLow: status.CheckWarning, key.PINToChange: status.CheckWarning,
		key.PINUnknown: status.CheckFailed, "": status.CheckFailed,
	} {
		lines := checked(t, func(c *checker) { c.pin(key.HSMInfo{Token: "keyd", PIN: state}) })
		if len(lines) != 1 || lines[0].Result != want {
			t.Errorf("%q: %+v, want %s", state, lines, want)
		}
	}
}

func TestThatARotationPolicyCannotBeReadHasItsLine(t *testing.T) {
	lines := checked(t, func(c *checker) {
		p, _ := c.d.loop.Policy("one")
		c.keyIn(p, p.Vaults[0], record.VaultSeen{})
		c.keyIn(p, p.Vaults[0], record.VaultSeen{PolicyErr: errors.New("403 ForbiddenByRbac")})
	})
	if len(lines) != 3 || lines[2].Result != status.CheckWarning || lines[2].Name != "rotation policy" || !strings.Contains(lines[2].Detail, "403 ForbiddenByRbac") {
		t.Errorf("%+v, want a warning about the second look alone", lines)
	}
}

// Nothing answers here, and the proxy is at a port where nobody listens.
func TestACheckWithoutAnythingSaysWhatToDoOnEveryLine(t *testing.T) {
	d, _ := newDaemon(t)
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	lines, _ := d.Check(ctx)
	failed := map[string]bool{}
	for _, l := range lines {
		if l.Result != status.CheckOK && (l.Detail == "" || l.Remedy == "") {
			t.Errorf("a line lacks its reason or its remedy: %+v", l)
		}
		if l.Result == status.CheckFailed {
			failed[l.Area] = true
		}
	}
	for _, area := range []string{"hsm", "identity", "vault", "key"} {
		if !failed[area] {
			t.Errorf("nothing failed in area %s: %+v", area, lines)
		}
	}
}

func TestAProxyBeforeTheIdentityEndpointIsNamed(t *testing.T) {
	for _, failed := range []error{nil, context.DeadlineExceeded} {
		lines := checked(t, func(c *checker) { c.proxy("managed-identity", failed) })
		if len(lines) != 1 || (lines[0].Result == status.CheckFailed) != (failed != nil) || lines[0].Result == status.CheckOK {
			t.Fatalf("%+v", lines)
		}
		for _, want := range []string{"169.254.169.254", "127.0.0.1:9"} {
			if !strings.Contains(lines[0].Detail, want) {
				t.Errorf("%q is not in %q", want, lines[0].Detail)
			}
		}
		if !strings.Contains(lines[0].Remedy, "169.254.169.254 to NO_PROXY") {
			t.Errorf("remedy %q", lines[0].Remedy)
		}
	}
}

func TestTheShippedRightsAreTheRemedyOnlyForWhatIsInThem(t *testing.T) {
	b, err := os.ReadFile("../../deploy/azure/key-vault-access-policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var shipped struct {
		Permissions struct{ Keys []vault.Right }
	}
	if err := json.Unmarshal(b, &shipped); err != nil {
		t.Fatal(err)
	}
	has := slices.Concat(shipped.Permissions.Keys, []vault.Right{vault.MaySeeDeleted}) // by get
	for _, r := range []vault.Right{vault.MayGet, vault.MayList, vault.MayCreate, vault.MayImport, vault.MayWrap, vault.MayUnwrap,
		vault.MaySeeDeleted, vault.MayReadRotation, vault.MayUpdate, vault.MayEncrypt, vault.MayDecrypt, vault.MaySign} {
		for _, kind := range []key.VaultKind{key.KeyVault, key.ManagedHSM} {
			got := remedy(config.Vault{Vault: key.Vault{Kind: kind}}, r)
			if strings.HasPrefix(got, "give it the role") != slices.Contains(has, r) {
				t.Errorf("%s on a %s: %s", r, kind, got)
			}
		}
	}
}

func TestAVaultWithoutAKeyIsCheckedForWhatAPlainKeyNeeds(t *testing.T) {
	const here, there = "https://a.vault.azure.net", "https://b.vault.azure.net"
	in := []key.Vault{{URL: here}}
	for name, test := range map[string]struct {
		policies []key.Policy
		url      string
		want     []vault.Right
	}{
		"no key":           {nil, here, []vault.Right{vault.MayUnwrap, vault.MayWrap}},
		"none there":       {[]key.Policy{{Vaults: in, Operations: []key.Operation{key.Sign, key.Verify}}}, there, []vault.Right{vault.MayUnwrap, vault.MayWrap}},
		"one that signs":   {[]key.Policy{{Vaults: in, Operations: []key.Operation{key.Sign, key.Verify}}}, here, []vault.Right{vault.MaySign}},
		"one that retires": {[]key.Policy{{Vaults: in, Retire: key.RetireRule{DisableAfter: 1}}}, here, []vault.Right{vault.MayUnwrap, vault.MayUpdate, vault.MayWrap}},
	} {
		if got := slices.Sorted(maps.Keys(uses(test.policies, test.url))); !slices.Equal(got, slices.Sorted(slices.Values(test.want))) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
