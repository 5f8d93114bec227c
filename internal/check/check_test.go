package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/vault"
)

const basic = `instance: test
state_dir: %[1]s/state
hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: keyd, pin_file: hsm-pin}
azure: {credential: managed-identity}
vaults:
  weu: {url: https://weu-keyd-test.vault.azure.net}
keys:
  one: {vaults: [weu], schedule: "0 3 1 * *"}
`

// TestMain sends whatever a client would send to a port on which nobody listens.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"} {
		if err := os.Setenv(name, "http://127.0.0.1:9"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// newChecker has a configuration and an empty state. None of its parts answers.
func newChecker(t *testing.T) (*checker, *bolt.Store) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "keyd.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, basic, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := bolt.Open(cfg.StateDir, time.Now, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &checker{away: newAway(), Parts: Parts{
		ConfigPath: path, Config: cfg, Start: func(*config.Config) error { return nil }, Store: s, HSMUnit: "keyd-hsm",
		AuditBroken:     func() string { return "" },
		Vaults:          func(string) Vault { return struct{ Vault }{} },
		CertificateSoon: 14 * 24 * time.Hour,
	}}, s
}

// checked returns the lines of one part of a check.
func checked(t *testing.T, run func(*checker)) []status.Check {
	t.Helper()
	c, _ := newChecker(t)
	run(c)
	for _, l := range c.lines {
		if l.Area == "" || l.Name == "" || l.Result != status.CheckOK && (l.Detail == "" || l.Remedy == "") {
			t.Errorf("a line lacks its reason or its remedy: %+v", l)
		}
	}
	return c.lines
}

func TestCheckShowsEachPINState(t *testing.T) {
	for state, want := range map[key.PINState]status.CheckResult{
		key.PINAccepted: status.CheckOK, key.PINRefused: status.CheckFailed, key.PINLocked: status.CheckFailed,
		key.PINFinalTry: status.CheckWarning, key.PINCountLow: status.CheckWarning,
		key.PINToChange: status.CheckWarning,
		key.PINUnknown:  status.CheckFailed, "": status.CheckFailed,
	} {
		lines := checked(t, func(c *checker) { c.pin(key.HSMInfo{Token: "keyd", PIN: state}) })
		if len(lines) != 1 || lines[0].Result != want {
			t.Errorf("%q: %+v, want %s", state, lines, want)
		}
	}
}

// One cause is one line that is not ok: a PIN that keeps the HSM side from working is not told of twice.
func TestAPINThatStopsTheHSMSideIsOneFailedLine(t *testing.T) {
	for _, state := range append(key.PINStates(), "") {
		if state == key.PINAccepted {
			continue
		}
		info := key.HSMInfo{Token: "keyd", PIN: state, PINRefused: state == key.PINRefused, Degraded: "no login"}
		c, _ := newChecker(t)
		c.HSM = &described{info: info}
		c.hsm(t.Context())
		_, _, remedy := pinLine(info, c.HSMUnit)
		bad := slices.DeleteFunc(c.lines, func(l status.Check) bool {
			return l.Result == status.CheckOK || l.Result == status.CheckSkipped
		})
		if len(bad) != 1 || bad[0].Result != status.CheckFailed || bad[0].Name != ableToWork ||
			bad[0].Remedy != remedy {
			t.Errorf("%q: %+v, want one failed line, with the remedy %q", state, bad, remedy)
		}
	}
}

// described is an HSM side that answers.
type described struct {
	HSM
	info key.HSMInfo
}

func (d *described) Describe(context.Context) (key.HSMInfo, error) { return d.info, nil }

func TestCheckShowsWhetherTheProofsFitTheVaultsLimits(t *testing.T) {
	line := func(change func(*config.Config)) (found status.Check) {
		for _, l := range checked(t, func(c *checker) { change(c.Config); c.config() }) {
			if l.Name == proofsFit && l.Subject == "weu" {
				found = l
			}
		}
		return found
	}
	if l := line(func(*config.Config) {}); l.Result != status.CheckOK {
		t.Errorf("%+v", l)
	}
	l := line(func(c *config.Config) { c.Vaults[0].Share, c.Health.Newest = 0.01, 4*time.Second })
	const want = "1 key proven every 4 seconds needs 0.5 calls/s of vault weu; keyd may use 0.25: newest " +
		"versions are proven every 8 seconds"
	if l.Result != status.CheckWarning || l.Detail != want {
		t.Errorf("%+v", l)
	}
}

func TestCheckShowsARotationPolicyItCannotRead(t *testing.T) {
	lines := checked(t, func(c *checker) {
		p := c.Config.Policies[0]
		c.keyIn(p, p.Vaults[0], record.VaultSeen{})
		c.keyIn(p, p.Vaults[0], record.VaultSeen{PolicyErr: errors.New("403 ForbiddenByRbac")})
	})
	if len(lines) != 3 || lines[2].Result != status.CheckWarning || lines[2].Name != "rotation policy" ||
		!strings.Contains(lines[2].Detail, "403 ForbiddenByRbac") {
		t.Errorf("%+v, want a warning about the second look alone", lines)
	}
}

func TestAProxyBeforeTheIdentityEndpointIsNamed(t *testing.T) {
	for _, failed := range []error{nil, context.DeadlineExceeded} {
		lines := checked(t, func(c *checker) { c.proxy("managed-identity", failed) })
		if len(lines) != 1 || (lines[0].Result == status.CheckFailed) != (failed != nil) ||
			lines[0].Result == status.CheckOK {
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

func TestTheRemedyNamesTheShippedRoleOnlyForItsOwnRights(t *testing.T) {
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
	has := slices.Concat(shipped.Permissions.Keys, []vault.Right{vault.MaySeeDeleted}) // comes with the right to get
	for _, r := range []vault.Right{
		vault.MayGet, vault.MayList, vault.MayCreate, vault.MayImport, vault.MayWrap, vault.MayUnwrap,
		vault.MaySeeDeleted,
		vault.MayReadRotation, vault.MayUpdate, vault.MayEncrypt, vault.MayDecrypt, vault.MaySign,
	} {
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
		"no key": {nil, here, []vault.Right{vault.MayUnwrap, vault.MayWrap}},
		"none there": {[]key.Policy{{Vaults: in, Operations: []key.Operation{key.Sign, key.Verify}}}, there,
			[]vault.Right{vault.MayUnwrap, vault.MayWrap}},
		"one that signs": {[]key.Policy{{Vaults: in, Operations: []key.Operation{key.Sign, key.Verify}}}, here,
			[]vault.Right{vault.MaySign}},
		"one that retires": {[]key.Policy{{Vaults: in, Retire: key.RetireRule{DisableAfter: 1}}}, here,
			[]vault.Right{vault.MayUnwrap, vault.MayUpdate, vault.MayWrap}},
	} {
		got := slices.Sorted(maps.Keys(uses(test.policies, test.url)))
		if !slices.Equal(got, slices.Sorted(slices.Values(test.want))) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestACertificateIsJudgedByItsExpiry(t *testing.T) {
	const file = "/etc/keyd/client.pem"
	for name, test := range map[string]struct {
		state vault.CredentialState
		want  []status.CheckResult
	}{
		"none": {vault.CredentialState{}, nil},
		"late": {vault.CredentialState{File: file, Ends: time.Now().Add(15 * 24 * time.Hour)},
			[]status.CheckResult{status.CheckOK}},
		"soon": {vault.CredentialState{File: file, Ends: time.Now().Add(13 * 24 * time.Hour)},
			[]status.CheckResult{status.CheckWarning}},
		"ended": {vault.CredentialState{File: file, Ends: time.Now().Add(-time.Second)},
			[]status.CheckResult{status.CheckFailed}},
		"not usable": {vault.CredentialState{File: file, Err: errors.New("it is empty")},
			[]status.CheckResult{status.CheckFailed}},
	} {
		test.state.Kind = vault.ClientCertificate
		lines := checked(t, func(c *checker) { c.Credential = test.state; c.certificate() })
		var got []status.CheckResult
		for _, l := range lines {
			got = append(got, l.Result)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %+v, want %v", name, lines, test.want)
		}
	}
}

// withoutKEK is a vault that has no key exchange key now.
type withoutKEK struct {
	Vault
	deleted bool
	err     error
}

func (v withoutKEK) KEK(context.Context, string) (key.KEK, bool, error) { return key.KEK{}, false, nil }
func (v withoutKEK) Deleted(context.Context, string) (bool, error)      { return v.deleted, v.err }

func TestAMissingKEKIsExplained(t *testing.T) {
	for _, test := range []struct {
		vault  withoutKEK
		result status.CheckResult
		detail string
		remedy string
	}{
		{withoutKEK{}, status.CheckWarning, "there is none yet", "nothing: keyd makes it by itself"},
		{withoutKEK{deleted: true}, status.CheckFailed, "the key keyd-kek is soft-deleted",
			"az keyvault key recover --vault-name weu-keyd-test --name keyd-kek"},
		{withoutKEK{err: &vault.Error{Status: 403, Hint: "give it the right"}}, status.CheckWarning, "is not known: ",
			"give it the right"},
	} {
		lines := checked(t, func(c *checker) { c.kek(t.Context(), test.vault, c.Config.Vaults[0]) })
		if len(lines) != 1 || lines[0].Result != test.result || !strings.Contains(lines[0].Detail, test.detail) ||
			lines[0].Remedy != test.remedy {
			t.Errorf("%+v", lines)
		}
	}
}

func TestCheckShowsWhatANextStartWouldRefuse(t *testing.T) {
	refuses := errors.New("azure.ca_file: open /none.pem: no such file or directory")
	lines := checked(t, func(c *checker) {
		c.Start = func(*config.Config) error { return refuses }
		c.config()
	})
	if lines[0].Result != status.CheckFailed || !strings.Contains(lines[0].Detail, refuses.Error()) {
		t.Errorf("%+v", lines[0])
	}
}
