package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// events lists what the audit chain says of a key.
func events(t *testing.T, d *Daemon, name string) (all []chain.Entry) {
	t.Helper()
	err := d.store.Audit(t.Context(), 0, func(l chain.Linked) error {
		if l.Key == name {
			all = append(all, l.Entry)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The version is in a vault that left the configuration, so no proof of it asks anybody.
func TestAProofThatAnOperatorAskedForIsInTheAuditWithItsOutcome(t *testing.T) {
	d, _ := newDaemon(t)
	rec := oneRecord(time.Now())
	rec.Generations[0].Placements[0].Vault = "https://gone-keyd-test.vault.azure.net"
	save(t, d, rec)
	proofs, err := d.Prove(t.Context(), "uid 0 (root)", "ONE")
	if err != nil || len(proofs) != 1 || proofs[0].Outcome == key.Passed {
		t.Fatalf("%+v, %v", proofs, err)
	}
	all := events(t, d, "one")
	asked, ended := all[len(all)-2], all[len(all)-1]
	if asked.Event != chain.ProofRequested || asked.Actor != "uid 0 (root)" {
		t.Errorf("before the proof the audit has %+v", asked)
	}
	want := "https://gone-keyd-test.vault.azure.net/" + proofs[0].Version + " not proven"
	if ended.Event != chain.ProofEnded || ended.Fields["passed"] != "0" || ended.Fields["others"] != want {
		t.Errorf("after the proof the audit has %+v, want %q", ended, want)
	}
}

func TestCompromisedVersionsAreAProblemUntilTheyAreAcknowledged(t *testing.T) {
	d, _ := newDaemon(t)
	rec := oneRecord(time.Now())
	rec.Hold, rec.Generations = nil, rec.Generations[:1]
	rec.Generations[0].Compromised = time.Now()
	save(t, d, rec)
	told := func() bool {
		return slices.ContainsFunc(d.Snapshot(status.Selection{}).Problems, func(p status.Problem) bool {
			return p.Runbook == "keydcompromisedenabled" && p.Key == "one"
		})
	}
	if !told() {
		t.Error("no problem tells of the enabled version")
	}
	if err := d.Acknowledge(t.Context(), "uid 0 (root)", "one", "an archive"); err != nil {
		t.Fatal(err)
	}
	if told() {
		t.Error("the problem is still there after the acknowledgement")
	}
}

func TestACheckOfOneKeyTriesItsVaultsAndNoOtherKey(t *testing.T) {
	d, path := newDaemon(t)
	edit(t, path, "keys:", "  neu: {url: https://neu-keyd-test.vault.azure.net}\nkeys:\n  two: {vaults: [neu]}")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"ONE": {"one", "weu"}, "neu": {"neu"}} {
		found, _ := d.Check(ended(t), name, nil)
		var subjects []string
		for _, l := range found.Checks {
			if (l.Area == "vault" || l.Area == "key") && !slices.Contains(subjects, l.Subject) {
				subjects = append(subjects, l.Subject)
			}
		}
		slices.Sort(subjects)
		if !slices.Equal(subjects, want) {
			t.Errorf("check %s tries %v, want %v", name, subjects, want)
		}
	}
	if _, err := d.Check(t.Context(), "three", nil); err == nil {
		t.Error("a check of nothing is not refused")
	}
}
