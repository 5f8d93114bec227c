package rotate_test

import (
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
)

const expiresAfter = 60 * 24 * time.Hour

// expiring is the policy of a key that is rotated daily and whose versions expire.
func expiring(vaults ...key.Vault) key.Policy {
	p := policy(vaults...)
	p.ExpiresAfter = expiresAfter
	return p
}

// expiries lists the expiry dates of a vault's versions, oldest version first, as days after the start.
func (w *world) expiries(v key.Vault, start time.Time) (days []int) {
	for _, x := range w.vault[v.URL].key("sa-cmk-key").versions {
		if x.Expires.IsZero() {
			days = append(days, 0)
			continue
		}
		if x.Expires.Nanosecond() != 0 {
			w.tb.Errorf("%v is not in whole seconds", x.Expires)
		}
		days = append(days, int(x.Expires.Sub(start)/(24*time.Hour)))
	}
	return days
}

func TestARotationGivesAnExpiryDateAndOlderVersionsKeepTheirs(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	start, p := w.now, expiring(weu, mhsm)
	rotateTwice(w, p)
	w.checkDone(p, 2, 0)
	for _, v := range p.Vaults {
		if got := w.expiries(v, start); !slices.Equal(got, []int{60, 61}) {
			t.Errorf("%s: expiry dates %v", v.Name, got)
		}
	}
	for _, g := range w.record(p.Key).Generations {
		for _, at := range g.Placements {
			if x, err := w.vault[at.Vault].find(p.Key, at.Version); err != nil || !x.Expires.Equal(at.Expires) {
				t.Errorf("generation %d: the record has %v: %v", g.Number, at.Expires, err)
			}
		}
	}
}

func TestAKeyWithoutTheSettingGetsNoExpiryDate(t *testing.T) {
	w := newWorld(t, 1, weu)
	rotateTwice(w, policy(weu))
	if got := w.expiries(weu, w.now); !slices.Equal(got, []int{0, 0}) {
		t.Errorf("expiry dates %v", got)
	}
}

func TestAnExpiryDateGoesByTheVaultsClock(t *testing.T) {
	w := newWorld(t, 1, weu)
	w.vault[weu.URL].skew = -4 * time.Minute // a larger difference would stop the rotation
	start, p := w.now, expiring(weu)
	p.Schedule = nil
	w.settle(p)
	if got := w.expiries(weu, start); !slices.Equal(got, []int{59}) {
		t.Errorf("expiry dates %v", got)
	}
}

func TestANewVaultGetsOlderGenerationsWithoutAnExpiryDate(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	start := w.now
	rotateTwice(w, expiring(weu))
	p := expiring(weu, mhsm)
	p.Schedule = nil
	w.settle(p)
	if got := w.expiries(mhsm, start); !slices.Equal(got, []int{0, 61}) {
		t.Errorf("expiry dates %v", got)
	}
}

func TestAVersionMadeNewestAgainGetsNoExpiryDate(t *testing.T) {
	w := newWorld(t, 1, weu)
	start, p := w.now, expiring(weu)
	w.settle(p)
	w.vault[weu.URL].swap = true
	w.now = w.now.Add(25 * time.Hour)
	w.settle(p)
	if h := w.record(p.Key).Hold; h == nil || h.Code != key.HoldRefuted {
		t.Fatalf("hold %+v", h)
	}
	// Generation 1, the refuted 2, and 1 again.
	if got := w.expiries(weu, start); !slices.Equal(got, []int{60, 61, 0}) {
		t.Errorf("expiry dates %v", got)
	}
}

func TestARepairGetsNoExpiryDate(t *testing.T) {
	w := newWorld(t, 1, weu)
	start, p := w.now, expiring(weu)
	p.Schedule = nil
	w.settle(p)
	foreign := w.vault[weu.URL].addForeign(p.Key)
	rec := w.store.records[p.Key]
	rec.Known = map[string][]string{weu.URL: {foreign}} // an operator's consent
	w.store.records[p.Key] = rec
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	if last := w.record(p.Key).Generations[0].Placements; len(last) != 2 || last[1].Cause != key.CauseRepair {
		t.Fatalf("placements %+v", last)
	}
	if got := w.expiries(weu, start); !slices.Equal(got, []int{60, 0, 0}) {
		t.Errorf("expiry dates %v", got)
	}
}

// A key that was held from its import until after the expiry date can be rotated again.
func TestAVersionThatExpiredBeforeItsProofDoesNotStopTheRotation(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := expiring(weu)
	w.vault[weu.URL].forbid = "Unwrap"
	r := w.rotator()
	w.stepUntil(p, func() bool { return len(w.vault[weu.URL].key(p.Key).versions) == 1 })
	w.now = w.now.Add(2 * expiresAfter)
	w.vault[weu.URL].forbid = ""
	w.settle(p)
	w.checkDone(p, 2, 0)
	if got := w.drifts(r, p); len(got) > 0 {
		t.Errorf("drift %v", got)
	}
}

func TestANewestVersionThatExpiresSoonDrifts(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := expiring(weu)
	w.settle(p)
	p.Schedule = nil
	r := w.rotator()
	w.now = w.now.Add(expiresAfter - key.ExpiryNotice - 24*time.Hour)
	if got := w.drifts(r, p); len(got) > 0 {
		t.Errorf("a day before the notice: %v", got)
	}
	w.now = w.now.Add(24 * time.Hour)
	if got := w.drifts(r, p); !slices.Equal(got, []plan.DriftKind{plan.DriftExpiring}) {
		t.Errorf("at the notice: %v", got)
	}
}

// signing is the policy of a key that can only sign. An expired version could be proven by its public key only.
func signing(vaults ...key.Vault) key.Policy {
	p := expiring(vaults...)
	p.Operations = []key.Operation{key.Sign, key.Verify}
	return p
}

func TestASigningVersionThatExpiredIsNotProvenByItsPublicKeyAlone(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := signing(weu)
	w.stepUntil(p, func() bool { return len(w.vault[weu.URL].key(p.Key).versions) == 1 })
	w.vault[weu.URL].key(p.Key).versions[0].Expires = w.now // somebody set it: keyd gives this version no date
	w.now = w.now.Add(time.Hour)
	if _, err := w.step(w.rotator(), p); err == nil {
		t.Error("the proof passed")
	}
	if at := w.record(p.Key).Generations[0].Placements[0]; at.State != key.Imported {
		t.Errorf("the placement is %s", at.State)
	}
}

func TestNothingIsRetiredWhileTheNewestVersionHasExpired(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := expiring(weu)
	rotateTwice(w, p)
	p.Schedule = nil
	p = w.retireAfter(p, 48*time.Hour)
	w.now = w.now.Add(2 * expiresAfter)
	w.settle(p)
	if d := w.vault[weu.URL].disabled; len(d) != 0 {
		t.Errorf("disabled %v", d)
	}
	p.Schedule = expiring(weu).Schedule
	w.settle(p)
	if d := w.vault[weu.URL].disabled; len(d) == 0 {
		t.Error("nothing was disabled under a new generation")
	}
}

// A version keeps the operations it was imported with, whatever the configuration says now.
func TestAnAdoptedVersionIsProvenByItsOwnOperations(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := expiring(weu)
	w.settle(p)
	clear(w.store.records)
	w.now = w.now.Add(2 * expiresAfter)
	p = signing(weu)
	w.settle(p) // holds
	w.adopt(p)
	w.settle(p)
	w.checkDone(p, 2, 0)
	want := []string{"modulus key-type vault-unwrap hsm-open", "modulus key-type vault-sign"}
	if got := w.checked(); !slices.Equal(got[1:], want) {
		t.Errorf("proofs by %q", got)
	}
}

// checked lists the legs of each proof that passed, as the audit chain has them.
func (w *world) checked() (legs []string) {
	for _, e := range w.store.entries {
		if e.Event == chain.ProofPassed {
			legs = append(legs, e.Fields["checked"])
		}
	}
	return legs
}
