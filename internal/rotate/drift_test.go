package rotate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

// drifts makes the rotator look again and names the drift that it finds.
func (w *world) drifts(r *rotate.Rotator, p key.Policy) (kinds []plan.DriftKind) {
	w.tb.Helper()
	w.now = w.now.Add(2 * time.Hour)
	if _, err := w.step(r, p); err != nil {
		w.tb.Fatal(err)
	}
	for _, d := range drifts(p, w.record(p.Key), r.Observer.Last(p.Key)) {
		if d.Text == "" || d.Remedy == "" || !strings.Contains(d.Text, d.Vault.Name) {
			w.tb.Errorf("%s does not say what it is about, and what to do: %+v", d.Kind, d)
		}
		kinds = append(kinds, d.Kind)
	}
	return kinds
}

// rotatedOnly is a world with two generations and a key that is not rotated again.
func rotatedOnly(t *testing.T, vaults ...key.Vault) (*world, *rotate.Rotator, key.Policy) {
	w := newWorld(t, 1, vaults...)
	p := policy(vaults...)
	rotateTwice(w, p)
	p.Schedule = nil
	return w, w.rotator(), p
}

func TestKeydReportsDrift(t *testing.T) {
	for _, c := range []struct {
		kind plan.DriftKind
		do   func(v *modelVault, k *modelKey)
	}{
		{plan.DriftNewestDisabled, func(_ *modelVault, k *modelKey) { k.versions[1].Enabled = false }},
		{plan.DriftDisabled, func(_ *modelVault, k *modelKey) { k.versions[0].Enabled = false }},
		{plan.DriftOperations, func(_ *modelVault, k *modelKey) {
			k.versions[1].Operations = []key.Operation{key.WrapKey, key.UnwrapKey, key.Sign}
			k.versions[1].Updated = k.versions[1].Created.Add(time.Hour) // as a vault notes it
		}},
		{plan.DriftOperations, func(_ *modelVault, k *modelKey) {
			k.versions[0].Operations = []key.Operation{key.WrapKey}
		}},
		{plan.DriftNotYetValid, func(_ *modelVault, k *modelKey) {
			k.versions[0].NotBefore = k.versions[0].Created.AddDate(3, 0, 0)
		}},
		{plan.DriftExpiry, func(_ *modelVault, k *modelKey) {
			k.versions[0].Expires = k.versions[0].Created.AddDate(3, 0, 0)
		}},
		{plan.DriftNativeRotation, func(_ *modelVault, k *modelKey) { k.native = true }},
		{plan.DriftUnprotected, func(_ *modelVault, k *modelKey) { k.versions[1].Recovery = "Recoverable+Purgeable" }},
		{plan.DriftDeleted, func(_ *modelVault, k *modelKey) { k.deleted = true }},
		{plan.DriftMissing, func(_ *modelVault, k *modelKey) { k.versions = k.versions[1:] }},
		{plan.DriftForeign, func(v *modelVault, _ *modelKey) { v.addForeign("sa-cmk-key") }},
		{plan.DriftKEKChanged, func(v *modelVault, _ *modelKey) {
			v.kek.Material = materialOf(pairOf(foreignPair))
		}},
		{plan.DriftKEKRefused, func(v *modelVault, _ *modelKey) { v.forbid = "KEK" }},
		{plan.DriftKEKMissing, func(v *modelVault, _ *modelKey) { v.kek = nil }},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			w, r, p := rotatedOnly(t, weu)
			if got := w.drifts(r, p); len(got) > 0 {
				t.Fatalf("before anything drifts: %v", got)
			}
			c.do(w.vault[weu.URL], w.vault[weu.URL].key(p.Key))
			w.now = w.now.Add(48 * time.Hour) // the rotation policy and older operations show in whole looks only
			if got := w.drifts(r, p); !slices.Equal(got, []plan.DriftKind{c.kind}) {
				t.Errorf("%v, want %s", got, c.kind)
			}
		})
	}
}

func TestAManagedHSMNearItsLimitDrifts(t *testing.T) {
	w, r, p := rotatedOnly(t, mhsm)
	for range 87 {
		w.vault[mhsm.URL].add(p.Key, w.vault[mhsm.URL].key(p.Key).versions[1].private, nil)
	}
	w.settle(p)
	if got := w.drifts(r, p); slices.Contains(got, plan.DriftNearLimit) {
		t.Errorf("with 89 versions: %v", got)
	}
	w.vault[mhsm.URL].add(p.Key, w.vault[mhsm.URL].key(p.Key).versions[1].private, nil)
	w.settle(p)
	if got := w.drifts(r, p); !slices.Contains(got, plan.DriftNearLimit) {
		t.Errorf("with 90 versions: %v", got)
	}
}

func TestAPairGoneFromTheHSMDrifts(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	clear(w.hsm.pairs)
	if got := w.drifts(r, p); !slices.Contains(got, plan.DriftHSMMissing) {
		t.Errorf("%v", got)
	}
}

func TestADisablingByKeydOrAfterACompromiseIsNoDrift(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	w.settle(p)
	if w.vault[weu.URL].key(p.Key).versions[0].Enabled {
		t.Fatal("nothing was retired")
	}
	if got := w.drifts(r, p); len(got) > 0 {
		t.Errorf("after retiring: %v", got)
	}

	w, r, p = rotatedOnly(t, weu)
	w.vault[weu.URL].key(p.Key).versions[0].Enabled = false // first by somebody, then by the retire rule
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	w.settle(p)
	if got := w.drifts(r, p); len(got) > 0 {
		t.Errorf("after the rule took over: %v", got)
	}

	w, r, p = rotatedOnly(t, weu)
	wanted := rotate.Wanted{Actor: "uid 0 (root)", Reason: "leaked", Compromise: true}
	if _, _, err := r.Request(t.Context(), p, wanted); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	w.vault[weu.URL].key(p.Key).versions[0].Enabled = false
	if got := w.drifts(r, p); len(got) > 0 {
		t.Errorf("after a compromise: %v", got)
	}
}

// A quiet key costs its part of the list of keys. Every eight hours keyd lists its versions all the same, and every two
// days it asks for all that the vault shows of it.
func TestAQuietKeyCostsAFractionOfACall(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	for range 3 {
		w.settle(p)
		w.now = w.now.Add(25 * time.Hour)
	}
	p.Schedule = nil
	r := w.rotator()
	if _, err := r.StepKey(leading(t.Context()), p); err != nil {
		t.Fatal(err)
	}
	w.calls = nil
	const looks = 2 * 24 * 4
	for range looks {
		w.now = w.now.Add(15 * time.Minute)
		if _, err := r.StepKey(leading(t.Context()), p); err != nil {
			t.Fatal(err)
		}
	}
	asked := map[string]int{}
	for _, c := range w.calls {
		asked[c]++
	}
	for call, want := range map[string]int{"weu.Sweep": looks - 1, "weu.Versions": 6, "weu.Newest": 1,
		"weu.NativeRotation": 1, "weu.Get": 1, "weu.KEK": 48, "weu.KEKVersions": 48, "hsm.Inventory": looks} {
		if asked[call] != want {
			t.Errorf("%d quiet looks make %d calls of %s, want %d", looks, asked[call], call, want)
		}
	}
}

// One call in ten: the list has 25 keys a page, and a vault has many keys.
func TestALookAtManyKeysSharesTheListAndTheInventory(t *testing.T) {
	w := newWorld(t, 1, weu)
	policies := make([]key.Policy, 50)
	for i := range policies {
		policies[i] = policy(weu)
		policies[i].Key = fmt.Sprintf("key-%02d", i)
		policies[i].Schedule = nil
		w.settle(policies[i])
	}
	r := w.rotator()
	for range 2 { // the first look at each key, and then a quiet one
		w.calls = nil
		for _, p := range policies {
			if _, err := r.StepKey(leading(t.Context()), p); err != nil {
				t.Fatal(err)
			}
		}
		w.now = w.now.Add(15 * time.Minute)
	}
	if n := strings.Count(strings.Join(w.calls, " "), "weu.Sweep"); n != 1 {
		t.Errorf("%d sweeps", n)
	}
	if n := strings.Count(strings.Join(w.calls, " "), "hsm."); n > 3 {
		t.Errorf("%d calls of the HSM: %v", n, w.calls)
	}
	if n := strings.Count(strings.Join(w.calls, " "), "weu."); n > 5 {
		t.Errorf("a quiet look at 50 keys makes %d calls: %v", n, w.calls)
	}
}

func TestKeydObservesAVaultThatHidesItsPolicy(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	w.vault[weu.URL].forbid = "NativeRotation"
	if got := w.drifts(r, p); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if seen := r.Observer.Last(p.Key).Vaults[weu.URL]; seen.Err != nil {
		t.Errorf("the look failed: %v", seen.Err)
	}
}

// Otherwise keyd would miss drift of that kind, and nobody would notice.
func TestKeydReportsAVaultThatHidesItsPolicy(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	unknown := func() bool { return r.Observer.Last(p.Key).Vaults[weu.URL].PolicyErr != nil }
	w.drifts(r, p)
	if unknown() {
		t.Fatal("the vault gave its policy, and it counts as unknown")
	}
	w.now = w.now.Add(48 * time.Hour)
	w.vault[weu.URL].forbid = "NativeRotation"
	if w.drifts(r, p); !unknown() {
		t.Error("keyd does not report the refusal")
	}
	w.vault[weu.URL].forbid = ""
	w.drifts(r, p) // two hours later: keyd asks again sooner after a refusal than after an answer
	if unknown() {
		t.Error("the role was given, and the policy still counts as unknown")
	}
	w.now = w.now.Add(48 * time.Hour)
	w.strike = func(_ int, call string) fault {
		if call == "weu.NativeRotation" {
			return failBefore
		}
		return none
	}
	for i, want := range []bool{false, false, true} {
		if w.drifts(r, p); unknown() != want {
			t.Errorf("after failure %d the policy counts as unknown: %v, want %v", i+1, !want, want)
		}
	}
	w.strike = nil
	w.vault[weu.URL].key(p.Key).native = true
	if got := w.drifts(r, p); unknown() || !slices.Contains(got, plan.DriftNativeRotation) {
		t.Errorf("once the vault gives it again it still counts as unknown: %v; drift %v", unknown(), got)
	}
}

// Facts that only inform must not slow a rotation down: every step waits for a look.
func TestKeydDoesNotAskForAFailingPolicyAtEveryLook(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	w.strike = func(_ int, call string) fault {
		if call == "weu.NativeRotation" {
			return failBefore
		}
		return none
	}
	w.now = w.now.Add(2 * time.Hour)
	request(t, w, p, rotate.Wanted{Reason: "one more"})
	w.calls = nil
	for range 20 {
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Second)
	}
	asked := 0
	for _, c := range w.calls {
		if c == "weu.NativeRotation" {
			asked++
		}
	}
	if rec := w.record(p.Key); asked != 1 || rec.Latest().Number != 3 || rec.Latest().Finished.IsZero() {
		t.Errorf("asked %d times during a rotation; the latest generation is %d, finished %s", asked,
			rec.Latest().Number, rec.Latest().Finished)
	}
	if d := w.vault[weu.URL].policyLimit; d <= 0 || d > 10*time.Second {
		t.Errorf("a look waits for it for up to %s", d)
	}
}

func TestAPairPinnedAfterTheLookIsNotMissing(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	w.drifts(r, p)
	before := r.Observer.Last(p.Key)
	w.now = w.now.Add(time.Hour)
	request(t, w, p, rotate.Wanted{Reason: "one more"})
	w.settle(p)
	if got := drifts(p, w.record(p.Key), before); len(got) > 0 {
		t.Errorf("the look was before the rotation: %v", got)
	}
}

// A person who interrupts `keyd check` or `keyd adopt` must not make the loop think that a vault is down.
func TestKeydDiscardsALookThatAPersonCutsShort(t *testing.T) {
	for name, look := range map[string]func(context.Context, *rotate.Rotator, key.Policy, record.Record){
		"check": func(ctx context.Context, r *rotate.Rotator, p key.Policy, rec record.Record) {
			survey(r, ctx, p, rec)
		},
		"adopt": func(ctx context.Context, r *rotate.Rotator, p key.Policy, _ record.Record) {
			_, _ = r.Adoption(ctx, p, false)
		},
	} {
		w, r, p := rotatedOnly(t, weu)
		w.drifts(r, p)
		ctx, cancel := context.WithCancel(t.Context())
		w.strike = func(_ int, call string) fault {
			if call != "weu.Versions" {
				return none
			}
			cancel()
			return failBefore
		}
		look(ctx, r, p, w.record(p.Key))
		w.strike = nil
		if seen := r.Observer.Last(p.Key).Vaults[weu.URL]; seen.Err != nil {
			t.Errorf("%s: the loop's last look is now %v", name, seen.Err)
		}
		if seen := survey(r, t.Context(), p, w.record(p.Key)).Vaults[weu.URL]; seen.Err != nil {
			t.Errorf("%s: the vault is taken for down: %v", name, seen.Err)
		}
	}
}

func drifts(p key.Policy, rec record.Record, o *record.Observation) []plan.Drift {
	return plan.Drifts(plan.Input{Policy: p, Record: &rec, Seen: o})
}
