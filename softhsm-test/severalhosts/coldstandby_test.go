package severalhosts

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// The key is rotated once more after the backup.
func TestAColdStandbyTakesOverAsThePageSays(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	a, b := e.newHost(t), e.newHost(t)
	e.begin(t, a)
	b.configure(e.config)
	a.changes = append([]change{{"hq-b:/var/", b.path("var") + "/", "the other host is a folder"}}, a.changes...)

	r := read(t, coldStandby)
	a.run(r.next("console"))
	backups, err := filepath.Glob(b.path("var/backups/keyd/*.db"))
	if err != nil || len(backups) != 1 {
		t.Fatalf("the other host has the backups %q, %v; want one", backups, err)
	}
	a.keyd("rotate --now " + keyName + " --reason drill")
	must(t, a.until("the key is rotated", func(s status.Snapshot) bool { return finished(s, 2) }))
	must(t, a.stop())
	takeOver, check := r.next("console").
		with("keyd-2026-03-01T1200.db", filepath.Base(backups[0])).
		cut("# keyd check")
	b.run(takeOver)
	must(t, b.until("the key is held", func(s status.Snapshot) bool {
		k, _ := s.Key(keyName)
		return k.Hold != nil
	}))
	if out, err := b.try(check); err == nil || !strings.Contains(out, "keyd adopt "+keyName) {
		t.Errorf("the check says: %v\n%s", err, out)
	}
	b.run(r.next("console"))
	must(t, b.until("the newer generation is adopted", func(s status.Snapshot) bool {
		k, _ := s.Key(keyName)
		return k.Hold == nil && finished(s, 2) && len(s.Problems) == 0
	}))
	if n := len(e.azure.Vault(vaultHost).Versions(keyName)); n != 2 {
		t.Errorf("the vault has %d versions of the key, want 2", n)
	}
}
