package hsm

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

// permit returns rights for a test.
func permit(vaults map[string]VaultRights, keys map[string]KeyRights) *Rights {
	r, err := NewRights(vaults, keys)
	if err != nil {
		panic(err)
	}
	return r
}

// unread is the configuration of tests that need none.
func unread() (*Rights, error) { return nil, errors.New("there is none") }

// always returns the same rights.
func always(r *Rights) Permitted { return func() (*Rights, error) { return r, nil } }

// generous permits what most tests do: two vaults with these pins, or else trusted at first use, and keys without
// limits.
func generous(pins map[string]key.Fingerprint) *Rights {
	vaults := map[string]VaultRights{}
	for url, pin := range pins {
		v := VaultRights{Name: "contoso", FirstUse: pin == ""}
		if pin != "" {
			v.Pins = []key.Fingerprint{pin}
		}
		vaults[url] = v
	}
	keys := map[string]KeyRights{}
	for _, name := range []string{"sa-cmk-key", "other-key", "waits", "fails", "later", "slow", "a"} {
		keys[name] = KeyRights{Vaults: []string{vaultURL, otherURL}, Spares: 100_000, Budget: 100_000}
	}
	return permit(vaults, keys)
}

// changing is a configuration that a test changes.
type changing struct {
	rights *Rights
	err    error
}

func (c *changing) permitted() (*Rights, error) { return c.rights, c.err }

// onRights opens an engine with a configuration that the test changes.
func onRights(t *testing.T, r *Rights) (*engine, *changing) {
	t.Helper()
	e := inProcess(t, func(m module) module { return m })
	c := &changing{rights: r}
	e.permitted = c.permitted
	return e, c
}

func TestAPairIsWrappedOnlyForTheVaultsOfItsKey(t *testing.T) {
	trusted := map[string]VaultRights{
		vaultURL: {Name: "weu", FirstUse: true},
		otherURL: {Name: "neu", FirstUse: true},
	}
	e, configured := onRights(t, permit(trusted, map[string]KeyRights{
		"sa-cmk-key": {Vaults: []string{vaultURL}}, "other-key": {Vaults: []string{otherURL}},
	}))
	id := newID(t)
	if err := e.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
		t.Fatal(err)
	}
	here, _ := newKEK(t, vaultURL)
	elsewhere := anotherKEK(t, otherURL)
	_, err := e.WrapFor(t.Context(), id, elsewhere)
	wantCode(t, err, NotPermitted, key.Refused)
	if how, err := e.CheckKEK(t.Context(), elsewhere); how != WouldBeFirstUse || err != nil {
		t.Errorf("a refused wrap left a trace: %q, %v", how, err)
	}
	for range 2 { // a repair, or a rollback, wraps the same pair again
		if _, err := e.WrapFor(t.Context(), id, here); err != nil {
			t.Errorf("for its own vault: %v", err)
		}
	}

	configured.rights = permit(trusted, map[string]KeyRights{"sa-cmk-key": {Vaults: []string{vaultURL, otherURL}}})
	if _, err := e.WrapFor(t.Context(), id, elsewhere); err != nil {
		t.Errorf("for a vault that was added to the key: %v", err)
	}
}

func TestARetainedKeyIsOpenedAndNotWrapped(t *testing.T) {
	vaults := map[string]VaultRights{vaultURL: {Name: "weu", FirstUse: true}}
	e, configured := onRights(t, permit(vaults, map[string]KeyRights{"sa-cmk-key": {Vaults: []string{vaultURL}}}))
	id := mustGenerate(t, e)
	kek, _ := newKEK(t, vaultURL)
	if _, err := e.WrapFor(t.Context(), id, kek); err != nil {
		t.Fatal(err)
	}
	configured.rights = permit(vaults, nil)
	_, err := e.WrapFor(t.Context(), id, kek)
	wantCode(t, err, NotPermitted, key.Refused)
	mustOpen(t, e, id)
}

func TestWhileTheConfigurationIsInvalidNothingIsMadeOrWrapped(t *testing.T) {
	e, configured := onRights(t, generous(map[string]key.Fingerprint{vaultURL: ""}))
	id := mustGenerate(t, e)
	if _, err := e.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	kek, _ := newKEK(t, vaultURL)
	configured.err = errors.New("keyd.yaml:3:1: unknown field")

	_, err := e.WrapFor(t.Context(), id, kek)
	wantCode(t, err, NotPermitted, key.Refused)
	_, err = e.CheckKEK(t.Context(), kek)
	wantCode(t, err, NotPermitted, key.Refused)
	err = e.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, "")
	wantCode(t, err, NotPermitted, key.Refused)

	mustOpen(t, e, id)
	if _, _, err := e.SignCheckpoint(t.Context(), entries(1, 3).after(nil)); err != nil {
		t.Errorf("a checkpoint is not signed: %v", err)
	}
	d, err := e.Describe(t.Context())
	if err != nil || d.Config != "" || !strings.Contains(d.ConfigProblem, "keyd.yaml:3:1") || d.Degraded != "" {
		t.Errorf("described as %+v, %v", d, err)
	}
}

func TestDescribeHasTheDigestOfTheConfiguration(t *testing.T) {
	e, configured := onRights(t, generous(map[string]key.Fingerprint{vaultURL: ""}))
	d, err := e.Describe(t.Context())
	if err != nil || d.Config != configured.rights.Digest() || d.ConfigProblem != "" {
		t.Errorf("described as %+v, %v", d, err)
	}
}

func TestEachRightChangesTheDigestAndIsNamed(t *testing.T) {
	vaults := func(v VaultRights) map[string]VaultRights { return map[string]VaultRights{vaultURL: v} }
	keys := func(k KeyRights) map[string]KeyRights { return map[string]KeyRights{"sa-cmk-key": k} }
	before := permit(vaults(VaultRights{Name: "weu"}), keys(KeyRights{Vaults: []string{vaultURL}}))
	same := permit(vaults(VaultRights{Name: "weu"}), keys(KeyRights{Vaults: []string{vaultURL}}))
	if same.Digest() != before.Digest() || len(before.Changes(same)) != 0 {
		t.Errorf("the same rights differ: %v", before.Changes(same))
	}
	for what, after := range map[string]*Rights{
		"sha256:aa": permit(vaults(VaultRights{Name: "weu", Pins: []key.Fingerprint{"sha256:aa"}}), before.keys),
		"first_use": permit(vaults(VaultRights{Name: "weu", FirstUse: true}), before.keys),
		otherURL:    permit(before.vaults, keys(KeyRights{Vaults: []string{vaultURL, otherURL}})),
		"spares":    permit(before.vaults, keys(KeyRights{Vaults: []string{vaultURL}, Spares: 1})),
		"budget":    permit(before.vaults, keys(KeyRights{Vaults: []string{vaultURL}, Budget: 1})),
		"vault " + vaultURL + ": was {\"name\":\"weu\"}, is not configured": permit(nil, before.keys),
		"key sa-cmk-key: was": permit(before.vaults, nil),
	} {
		lines := before.Changes(after)
		if after.Digest() == before.Digest() || len(lines) != 1 || !strings.Contains(lines[0], what) {
			t.Errorf("%s: %q", what, lines)
		}
	}
}

func TestNoPairIsMadeForAKeyThatIsNotConfigured(t *testing.T) {
	e, _ := onRights(t, permit(nil, map[string]KeyRights{"sa-cmk-key": {}}))
	err := e.Generate(t.Context(), newID(t), "other-key", 1, key.RSA2048, "")
	wantCode(t, err, NotPermitted, key.Refused)
	if labels := holds(t, e); len(labels) != 0 {
		t.Errorf("the token holds %q", labels)
	}
}

// mustOpen makes sure that the HSM side opens with a pair.
func mustOpen(t *testing.T, e *engine, id key.ID) {
	t.Helper()
	public, err := e.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("x")
	if yes, err := e.Opens(t.Context(), id, seal(t, public, secret), sha256.Sum256(secret)); err != nil || !yes {
		t.Errorf("the pair does not open: %v, %v", yes, err)
	}
}
