package daemon

import (
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
)

// The HSM side trusts a KEK by the files. keyd wraps for it only if the settings in force do, too.
func TestInsiderPinsNoKEKInTheFilesAlone(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	material, err := key.FromRSA(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	kek := key.KEK{Vault: weuURL, Kid: weuURL + "/keys/keyd-kek/1", Material: material}
	print := kek.Material.Fingerprint()
	pins := func(list ...key.Fingerprint) config.KEK { return config.KEK{Fingerprints: list} }
	two := config.Approvals{Acts: []key.ActKind{key.ActKEK}}
	for what, c := range map[string]struct {
		approvals config.Approvals
		inForce   config.KEK
		how       string // by which the HSM side trusts it
		trusted   bool
	}{
		"without approvals the files are in force": {config.Approvals{}, config.KEK{}, hsm.Configured, true},
		"a pin in force":                             {two, pins(print), hsm.Configured, true},
		"one of two pins in force":                   {two, pins(otherPin, print), hsm.Configured, true},
		"a pin that is only in the files":            {two, pins(otherPin), hsm.Configured, false},
		"a first pin that is only in the files":      {two, config.KEK{}, hsm.Configured, false},
		"first use that is only in the files":        {two, pins(otherPin), hsm.FirstUse, false},
		"first use in force":                         {two, config.KEK{FirstUse: true}, hsm.FirstUse, true},
		"first use in force, before it":              {two, config.KEK{FirstUse: true}, hsm.WouldBeFirstUse, true},
		"first use in force, and a pin in the files": {two, config.KEK{FirstUse: true}, hsm.Configured, false},
		"an attestation that only the files do not require": {two,
			config.KEK{Fingerprints: []key.Fingerprint{print}, Attested: true}, hsm.Configured, false},
	} {
		cfg := &config.Config{Approvals: c.approvals,
			Vaults: []config.Vault{{Vault: key.Vault{Name: "weu", URL: weuURL}, KEK: c.inForce}}}
		err := pinned(cfg, kek, c.how)
		if (err == nil) != c.trusted {
			t.Errorf("%s: %v", what, err)
		}
		if err != nil && (key.ClassOf(err) != key.Refused || !strings.Contains(err.Error(), "keyd reload")) {
			t.Errorf("%s: %v, want a refusal that says what to do", what, err)
		}
	}
	elsewhere := kek
	elsewhere.Vault = neuURL
	if pinned(&config.Config{Approvals: two}, elsewhere, hsm.Configured) == nil {
		t.Error("a vault that is only in the files")
	}
}
