package daemon

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

const otherCase = "key ONE differs only in case from the record one"

func wantOtherCase(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), otherCase) {
		t.Errorf("%v, want %q", err, otherCase)
	}
}

func TestAReloadRefusesAKeyThatDiffersOnlyInCaseFromARecord(t *testing.T) {
	d, path := newDaemon(t)
	save(t, d, oneRecord(time.Now()))
	edit(t, path, "  one:", "  ONE:")
	err := d.Reload(t.Context(), "uid 0 (root)")
	wantOtherCase(t, err)
	var usage *control.UsageError
	if !errors.As(err, &usage) {
		t.Errorf("%T, want a mistake in the configuration", err)
	}
	if names := d.loop.Names(); len(names) != 1 || names[0] != "one" {
		t.Errorf("the loop has %v", names)
	}
}

func TestTheStartRefusesAKeyThatDiffersOnlyInCaseFromARecord(t *testing.T) {
	d, path := newDaemon(t)
	save(t, d, oneRecord(time.Now()))
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if unseen, err := CheckStopped(t.Context(), cfg); unseen != nil || err != nil {
		t.Errorf("with the record's own name: %v", err)
	}
	edit(t, path, "  one:", "  ONE:")
	if cfg, err = config.Load(path); err != nil {
		t.Fatal(err)
	}
	_, err = build(
		Options{ConfigPath: path, Logger: slog.New(slog.DiscardHandler), HSMCommand: []string{"false"}},
		cfg,
	)
	wantOtherCase(t, err)
	_, err = CheckStopped(t.Context(), cfg)
	wantOtherCase(t, err) // and the state was closed
}

func TestWithoutAStateNoNameIsRefused(t *testing.T) {
	_, path := newDaemon(t)
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.StateDir = filepath.Join(t.TempDir(), "none")
	if unseen, err := CheckStopped(t.Context(), cfg); unseen != nil || err != nil {
		t.Error(err)
	}
}

func TestARequestMayNameAKeyAndAVaultInAnyCase(t *testing.T) {
	d, path := newDaemon(t)
	edit(
		t,
		path,
		"keys:\n  one: {vaults: [weu]",
		"  neu: {url: https://neu-keyd-test.vault.azure.net}\nkeys:\n  one: {vaults: [weu, NEU]",
	)
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	accepted, err := d.Rotate(
		t.Context(),
		"uid 0 (root)",
		control.RotateOptions{Keys: []string{"ONE", "One"}, Reason: "drill", Without: []string{"WEU"}},
	)
	if err != nil || len(accepted) != 1 || accepted[0].Key != "one" {
		t.Fatalf("%+v, %v", accepted, err)
	}
	if err := d.Pause(t.Context(), "uid 0 (root)", "ONE", "drill"); err != nil {
		t.Error(err)
	}
	rec, err := d.store.Load(t.Context(), "one")
	if err != nil || len(rec.Requests) != 1 || rec.Hold == nil || rec.Hold.Code != key.HoldPaused {
		t.Errorf("%+v, %v", rec, err)
	}
	shown := 0
	if err := d.Audit(t.Context(), 0, "ONE", func(control.AuditEntry) error { shown++; return nil }); err != nil ||
		shown != 3 { // its vaults changed, it was requested, and it was paused
		t.Errorf("%d entries of the key, %v", shown, err)
	}
	if err := d.Resume(t.Context(), "uid 0 (root)", "oNe", "drill"); err != nil {
		t.Error(err)
	}
	if names, err := d.store.Names(t.Context()); err != nil || len(names) != 1 {
		t.Errorf("records %v, %v", names, err)
	}
}
