package daemon

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// vaultsShown are the vaults that the metrics of vaults name.
func vaultsShown(t *testing.T, d *Daemon) map[string]bool {
	t.Helper()
	families, err := d.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "keyd_vault_") {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "vault" {
					found[l.GetValue()] = true
				}
			}
		}
	}
	return found
}

// Otherwise the alert for an unreachable vault would never end.
func TestStatusDropsAVaultThatLeftTheConfiguration(t *testing.T) {
	synctest.Test(t, dropsAVaultThatLeft) // the look ends when nothing goes on any more, however slow the machine is
}

func dropsAVaultThatLeft(t *testing.T) {
	d, path := newDaemon(t)
	save(t, d, oneRecord(time.Now()))
	look := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		p, _ := d.loop.Policy("one")
		_, _ = d.rotator.StepKey(ctx, p)
		d.showRecords(t.Context())
	}
	look()
	if got := vaultsShown(t, d); !got["weu"] {
		t.Fatalf("shown: %v", got)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(before), "vaults:\n")
	_, rest, _ := strings.Cut(string(before), "control:")
	write(t, path, text+"vaults:\n  neu: {url: https://neu-keyd-test.vault.azure.net}\ncontrol:"+rest)
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	look() // the key is retained, and its record still has the vault
	if got := vaultsShown(t, d); got["weu"] || !got["neu"] {
		t.Errorf("shown: %v, want neu alone", got)
	}
}
