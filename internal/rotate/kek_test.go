package rotate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

// vaultSteps steps a vault n times, with a pause after each.
func (w *world) vaultSteps(r *rotate.Rotator, v key.Vault, n int, pause time.Duration) {
	for range n {
		_, _ = r.StepVault(leading(w.tb.Context()), vaultPolicy(v))
		w.now = w.now.Add(pause)
	}
}

// vaultRecord is the stored record of a vault.
func (w *world) vaultRecord(v key.Vault) *record.Vault {
	rec := w.store.vaults[v.URL].Clone()
	return &rec
}

func (w *world) print(v key.Vault) key.Fingerprint {
	return w.vault[v.URL].kek.Material.Fingerprint()
}

func TestAVaultGetsItsKEKWithoutAnyKey(t *testing.T) {
	w := newWorld(t, 1, weu)
	w.vaultSteps(w.rotator(), weu, 5, time.Second)
	k := w.vaultRecord(weu).Active()
	if k == nil || w.vault[weu.URL].kek == nil || k.Kid != w.vault[weu.URL].kek.Kid || k.Fingerprint != w.print(weu) {
		t.Errorf("the record has %+v\n%s", k, w.story())
	}
}

// After a restart, or in another daemon, the record says what was begun.
func TestAKEKThatTheVaultDoesNotShowYetIsNotMadeAgain(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	w.strikeOnce("mhsm.CreateKEK", failAfter)
	w.vaultSteps(w.rotator(), mhsm, 1, time.Second)
	v := w.vault[mhsm.URL]
	made := v.kek
	v.kek = nil // the vault does not show it yet
	w.vaultSteps(w.rotator(), mhsm, 40, 15*time.Second)
	if v.kek != nil {
		t.Fatal("a second key exchange key was made")
	}
	v.kek = made
	w.vaultSteps(w.rotator(), mhsm, 5, time.Second)
	if k := w.vaultRecord(mhsm).Active(); k == nil || k.Kid != made.Kid {
		t.Errorf("in use: %+v, want what was made\n%s", k, w.story())
	}
}

// The clocks of this daemon and of the one that began the work may differ, or somebody may have set them.
func TestAKEKsSettleTimeGoesByTheVaultsClockToo(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	v := w.vault[mhsm.URL]
	v.skew = 2 * time.Hour // the local clock is behind
	w.strikeOnce("mhsm.CreateKEK", failBeforeAmbiguous)
	w.vaultSteps(w.rotator(), mhsm, 1, time.Second)
	w.now, v.skew = w.now.Add(2*time.Hour), 0
	w.vaultSteps(w.rotator(), mhsm, 20, time.Second)
	if v.kek != nil {
		t.Error("made again while the first may come to light")
	}
	w.now = w.now.Add(12 * time.Minute)
	w.vaultSteps(w.rotator(), mhsm, 5, time.Second)
	if v.kek == nil || len(v.oldKEKs) > 0 {
		t.Errorf("the vault has %d key exchange keys, want one", len(v.allKEKs()))
	}
}

// askForKEK makes a world with one rotated key and requests a new KEK, which waits for approval.
func askForKEK(t *testing.T) (*world, *rotate.Rotator, key.Policy) {
	t.Helper()
	w := newWorld(t, 1, weu)
	p := policy(weu)
	p.Schedule = nil
	w.settle(p)
	r := w.rotator()
	if _, joined, err := r.RequestKEK(t.Context(), vaultPolicy(weu), "uid 0 (root)", "yearly"); joined || err != nil {
		t.Fatal(joined, err)
	}
	w.vaultSteps(r, weu, 10, time.Minute)
	if n := len(w.vault[weu.URL].allKEKs()); n != 2 {
		t.Fatalf("%d key exchange keys, want a second one\n%s", n, w.story())
	}
	return w, r, p
}

func TestAnApprovedKEKIsUsedAndTheOldOneIsThenDisabled(t *testing.T) {
	w, r, p := askForKEK(t)
	v := w.vault[weu.URL]
	old := v.oldKEKs[0].Version()
	if k := w.vaultRecord(weu).Active(); k.Version() != old {
		t.Fatalf("%s is in use before it is approved", k.Kid)
	}
	// Meanwhile a rotation goes on with the old one.
	request(t, w, p, rotate.Wanted{Reason: "meanwhile"})
	w.settle(p)
	if at := w.record(p.Key); at.Latest().Finished.IsZero() || at.Latest().Placements[0].KEK != v.oldKEKs[0].Kid {
		t.Fatalf("the rotation did not use the old key exchange key\n%s", w.story())
	}

	w.hsm.pins = []key.Fingerprint{w.print(weu)}
	w.hsm.trust = nil
	w.now = w.now.Add(5 * time.Minute)
	w.vaultSteps(r, weu, 2, time.Second)
	used := w.now
	if k := w.vaultRecord(weu).Active(); k.Kid != v.kek.Kid || k.Trust != key.TrustConfigured {
		t.Fatalf("in use: %+v, want the new one\n%s", k, w.story())
	}
	w.vaultSteps(r, weu, 12, time.Minute)
	if v.kekOff[old] {
		t.Errorf("disabled %s after another was in use: an import may need it", w.now.Sub(used))
	}
	w.now = used.Add(plan.KEKNeeded(weu) + time.Hour)
	w.vaultSteps(r, weu, 3, time.Second)
	if !v.kekOff[old] || w.vaultRecord(weu).KEK(old).State != key.KEKDisabled {
		t.Errorf("the old key exchange key is not disabled: %+v\n%s", w.vaultRecord(weu).KEKs, w.story())
	}
	request(t, w, p, rotate.Wanted{Reason: "afterwards"})
	w.settle(p)
	if g := w.record(p.Key); g.Latest().Finished.IsZero() || g.Latest().Placements[0].KEK != v.kek.Kid {
		t.Errorf("the next rotation did not use the new key exchange key\n%s", w.story())
	}
	w.checkDone(p, 3, 0)
}

func TestOnlyOneKEKWaitsForApproval(t *testing.T) {
	w, r, _ := askForKEK(t)
	_, _, err := r.RequestKEK(t.Context(), vaultPolicy(weu), "uid 0 (root)", "again")
	if reason, refused := rotate.IsRefused(err); !refused || !strings.Contains(reason, string(w.print(weu))) {
		t.Errorf("%v, want a refusal that names the one that waits", err)
	}
	w.vaultSteps(r, weu, 20, time.Hour)
	if n := len(w.vault[weu.URL].allKEKs()); n != 2 {
		t.Errorf("%d key exchange keys\n%s", n, w.story())
	}
}

func TestAStrangersKEKDisplacesNothing(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	p.Schedule = nil
	w.settle(p)
	r := w.rotator()
	v := w.vault[weu.URL]
	ours := v.kek.Kid
	v.newKEK(nil)
	w.now = w.now.Add(time.Hour)
	request(t, w, p, rotate.Wanted{Reason: "meanwhile"})
	w.settle(p)
	if g := w.record(p.Key); g.Latest().Finished.IsZero() || g.Latest().Placements[0].KEK != ours {
		t.Errorf("the rotation did not go on with the key exchange key in use\n%s", w.story())
	}
	w.now = w.now.Add(time.Hour)
	if drifts := w.drifts(r, p); !slices.Equal(drifts, []plan.DriftKind{plan.DriftKEKChanged}) {
		t.Errorf("drifts: %v, want kek-changed", drifts)
	}
	// Once approved, it is used. keyd does not disable a KEK that it did not make, even after another one has
	// followed.
	w.hsm.pins = []key.Fingerprint{w.print(weu)}
	w.vaultSteps(r, weu, 20, time.Hour)
	stranger := v.kek.Version()
	if k := w.vaultRecord(weu).Active(); k.Version() != stranger || !k.Found {
		t.Fatalf("in use: %+v, want the approved one", k)
	}
	v.newKEK(nil)
	w.hsm.pins = []key.Fingerprint{w.print(weu)}
	w.vaultSteps(r, weu, 20, time.Hour)
	if k := w.vaultRecord(weu).Active(); k.Version() == stranger || v.kekOff[stranger] {
		t.Errorf("in use: %+v; the stranger's is disabled: %v", k, v.kekOff[stranger])
	}
}

func TestTheScheduleMakesANewKEK(t *testing.T) {
	w := newWorld(t, 1, weu)
	r := w.rotator()
	p := vaultPolicy(weu)
	p.Schedule, p.ScheduleText = every(30*24*time.Hour), "@every 30d"
	step := func(n int, pause time.Duration) {
		for range n {
			if _, err := r.StepVault(leading(t.Context()), p); err != nil {
				t.Fatal(err)
			}
			w.now = w.now.Add(pause)
		}
	}
	step(29, 24*time.Hour)
	if n := len(w.vault[weu.URL].allKEKs()); n != 1 {
		t.Fatalf("%d key exchange keys before the schedule fires", n)
	}
	step(20, 24*time.Hour)
	rec := w.vaultRecord(weu)
	if n := len(w.vault[weu.URL].allKEKs()); n != 2 || rec.Waiting() == nil || rec.Waiting().By != "schedule" {
		t.Errorf("%d key exchange keys, and %+v waits", n, rec.Waiting())
	}
}

func TestKeydRetriesARefusedDisablingOfAKEKHoursLater(t *testing.T) {
	w, r, _ := askForKEK(t)
	v := w.vault[weu.URL]
	w.hsm.pins = []key.Fingerprint{w.print(weu)}
	v.forbid = "DisableKEK"
	w.vaultSteps(r, weu, 24*60, time.Minute)
	tries := 0
	for _, e := range w.store.entries {
		if e.Event == "disabling of a key exchange key intended" {
			tries++
		}
	}
	if tries < 3 || tries > 5 {
		t.Errorf("%d tries in a day, want one every six hours", tries)
	}
}

// An operator who does not want a new KEK disables it in the vault. That must not end KEK rotation for good.
func TestAKEKThatSomebodyDisabledDoesNotWaitForApproval(t *testing.T) {
	w, r, _ := askForKEK(t)
	v := w.vault[weu.URL]
	v.kekOff[v.kek.Version()] = true
	w.vaultSteps(r, weu, 2, time.Minute)
	if _, _, err := r.RequestKEK(t.Context(), vaultPolicy(weu), "uid 0 (root)", "the last was not wanted"); err != nil {
		t.Fatal(err)
	}
	w.vaultSteps(r, weu, 10, time.Minute)
	if n := len(v.allKEKs()); n != 3 {
		t.Errorf("%d key exchange keys, want a third one\n%s", n, w.story())
	}
}

// The state directory is lost while a new KEK waits for approval. The approved one is still in the vault.
func TestKeydFindsTheApprovedKEKBelowANewerOneIfTheRecordIsLost(t *testing.T) {
	w := newWorld(t, 1, weu)
	r := w.rotator()
	w.vaultSteps(r, weu, 5, time.Second)
	v := w.vault[weu.URL]
	approved := v.kek.Version()
	w.hsm.pins = []key.Fingerprint{w.print(weu)}
	w.hsm.trust = map[string]key.Fingerprint{weu.URL: w.print(weu)} // the real HSM side refuses all but what is pinned
	v.newKEK(nil)
	delete(w.store.vaults, weu.URL)
	w.now = w.now.Add(time.Hour)
	w.vaultSteps(w.rotator(), weu, 20, time.Minute)
	if k := w.vaultRecord(weu).Active(); k == nil || k.Version() != approved {
		t.Errorf("in use: %+v, want the approved one\n%s", k, w.story())
	}
}
