package rotate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

const alice = "uid 1 (alice)"

// retireAfter gives a key a retire rule, and an operator consents to it.
func (w *world) retireAfter(p key.Policy, d time.Duration) key.Policy {
	w.tb.Helper()
	p.Retire = key.RetireRule{DisableAfter: d, NoConsumers: true}
	w.consentToRetire(p)
	return p
}

// consentToRetire records an operator's consent to the key's retire rule, as shown now.
func (w *world) consentToRetire(p key.Policy) {
	w.tb.Helper()
	r := w.rotator()
	if err := r.ConsentToRetire(w.tb.Context(), p, alice, "as planned", w.retirement(p).Digest); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) retirement(p key.Policy) status.Retirement {
	w.tb.Helper()
	shown, err := w.rotator().Retirement(w.tb.Context(), p, p.Retire)
	if err != nil {
		w.tb.Fatal(err)
	}
	return shown
}

// due has a key with one version to disable now, and an operator's consent.
func due(t *testing.T) (*world, *rotate.Rotator, key.Policy) {
	w, r, p := rotatedOnly(t, weu)
	p = w.retireAfter(p, time.Hour)
	w.now = w.now.Add(3 * time.Hour)
	return w, r, p
}

func wantDisabled(t *testing.T, w *world, why string, want int) {
	t.Helper()
	if off := w.vault[weu.URL].disabled; len(off) != want {
		t.Errorf("%s: disabled %v, want %d\n%s", why, off, want, w.story())
	}
}

// A rule that is added to an old key must not disable all that it allows to disable at once.
func TestInsiderARuleForAnOldKeyDisablesAVersionADay(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	for range 5 {
		w.settle(p)
		w.now = w.now.Add(25 * time.Hour)
	}
	p.Schedule = nil
	p = w.retireAfter(p, time.Hour)
	for day := range 3 {
		w.settle(p)
		wantDisabled(t, w, "a day later", day+1)
		w.now = w.now.Add(23 * time.Hour)
		w.settle(p)
		wantDisabled(t, w, "not yet a day later", day+1)
		w.now = w.now.Add(2 * time.Hour)
	}
}

func TestInsiderARuleDisablesNothingBeforeAnOperatorConsents(t *testing.T) {
	w, _, p := rotatedOnly(t, weu)
	p.Retire = key.RetireRule{DisableAfter: time.Hour, NoConsumers: true}
	w.now = w.now.Add(3 * time.Hour)
	if s := w.settle(p); !strings.Contains(s.Why, "must consent") {
		t.Errorf("keyd waits: %s", s.Why)
	}
	wantDisabled(t, w, "without consent", 0)
	w.consentToRetire(p)
	w.settle(p)
	wantDisabled(t, w, "with consent", 1)
	for _, e := range w.store.entries {
		if e.Event == chain.RetireConsented && (e.Actor != alice || e.Fields["reason"] != "as planned" ||
			!strings.Contains(e.Fields["versions"], w.vault[weu.URL].disabled[0])) {
			t.Errorf("the entry of the consent is %+v", e)
		}
		if e.Event == chain.DisableIntended && (e.Fields["newest_proven"] == "" ||
			e.Fields["consent"] != w.retirement(p).Consent.Digest) {
			t.Errorf("the entry of the intent is %+v", e)
		}
	}
}

func TestInsiderAConsentIsRefusedForWhatItDidNotShow(t *testing.T) {
	w, r, p := rotatedOnly(t, weu)
	p.Retire = key.RetireRule{DisableAfter: time.Hour, NoConsumers: true}
	shown := w.retirement(p)
	shorter := p
	shorter.Retire.Pause = time.Hour
	rotated := p
	rotated.Schedule = policy(weu).Schedule
	refused := func(why string, err error) {
		t.Helper()
		if reason, ok := rotate.IsRefused(err); !ok || !strings.Contains(reason, why) {
			t.Errorf("%v, want a refusal: %s", err, why)
		}
	}
	ask := func(p key.Policy) error {
		return r.ConsentToRetire(t.Context(), p, alice, "as planned", shown.Digest)
	}
	refused("has changed since it was shown", ask(shorter))
	never := p
	never.Retire = key.RetireRule{}
	refused("has no retire rule", ask(never))
	w.now = w.now.Add(25 * time.Hour)
	w.settle(rotated) // a third generation supersedes the second
	refused("has changed since it was shown", ask(p))
	if err := r.Pause(t.Context(), p.Key, alice, "audit"); err != nil {
		t.Fatal(err)
	}
	refused("is held", ask(p))
	if rec := w.record(p.Key); rec.Consent != nil {
		t.Errorf("the record has the consent %+v", rec.Consent)
	}
}

func TestAConsentEndsWithItsRuleAndDoesNotComeBackWithIt(t *testing.T) {
	w, _, p := due(t)
	other := p
	other.Retire = key.RetireRule{DisableAfter: 2 * time.Hour, NoConsumers: true}
	w.settle(other)
	wantDisabled(t, w, "under another rule", 0)
	w.settle(p)
	wantDisabled(t, w, "under the first rule again", 0)
	if n := w.saved(chain.RetireConsentEnded); n != 1 {
		t.Errorf("%d entries say that the consent ended, want 1", n)
	}
}

func TestAdoptionEndsTheConsent(t *testing.T) {
	w, _, p := due(t)
	w.vault[weu.URL].add(p.Key, pairOf(foreignPair), nil)
	w.settle(p) // holds
	w.consent(p)
	w.settle(p)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	wantDisabled(t, w, "after an adoption", 0)
	if rec := w.record(p.Key); rec.Consent != nil || rec.Hold != nil || w.saved(chain.RetireConsentEnded) != 1 {
		t.Errorf("consent %v, hold %v, %d entries say that it ended", rec.Consent, rec.Hold,
			w.saved(chain.RetireConsentEnded))
	}
	if w.record(p.Key).Doubted.IsZero() {
		t.Error("the pause before the next disabling does not begin anew")
	}
}

// An old copy of the state may have a consent that has ended since. The HSM side signs no audit chain that goes back.
func TestInsiderNothingIsDisabledWhileTheAuditCannotBeSigned(t *testing.T) {
	w, r, p := due(t)
	r.Seal = func(context.Context) error { return errors.New("the chain goes back") }
	for range 10 {
		if _, err := w.step(r, p); err != nil && !strings.Contains(err.Error(), "the chain goes back") {
			t.Error(err)
		}
		w.now = w.now.Add(time.Minute)
	}
	wantDisabled(t, w, "without a signature", 0)
	if err := r.EndConsents(t.Context(), "uid 0 (root)", "an old copy of the state was accepted"); err != nil {
		t.Fatal(err)
	}
	r.Seal = nil
	w.settle(p)
	wantDisabled(t, w, "after an old copy was accepted", 0)
}

// The newest version does not unwrap, or the HSM does not open, although both answer.
func TestInsiderNothingIsDisabledWhileTheNewestVersionIsNotProven(t *testing.T) {
	for name, call := range map[string]string{"the vault does not unwrap": "weu.Unwrap",
		"the HSM does not open": "hsm.Opens", "the HSM does not answer": "hsm.Inventory"} {
		t.Run(name, func(t *testing.T) {
			w, r, p := due(t)
			w.strike = func(_ int, c string) fault {
				if c == call {
					return failBefore
				}
				return none
			}
			for range 20 {
				_, _ = w.step(r, p)
				w.now = w.now.Add(time.Minute)
			}
			wantDisabled(t, w, name, 0)
			if n := w.saved(chain.DisableIntended); n != 0 {
				t.Errorf("%d times it was intended", n)
			}
			w.strike = nil
			w.now = w.now.Add(16 * time.Minute)
			w.settle(p)
			wantDisabled(t, w, "once all is well", 1)
		})
	}
}

// A proof that passed a while ago says nothing of now: each disabling has one of its own.
func TestEachDisablingHasAProofOfTheNewestVersionOfItsOwn(t *testing.T) {
	w, _, p := due(t)
	unwraps := 0
	w.strike = func(_ int, c string) fault {
		if c == "weu.Unwrap" {
			unwraps++
		}
		return none
	}
	w.settle(p)
	wantDisabled(t, w, "all is well", 1)
	if unwraps != 1 {
		t.Errorf("the newest version unwrapped %d times, want once", unwraps)
	}
	w.now = w.now.Add(26 * time.Hour)
	w.settle(p)
	if unwraps != 1 {
		t.Errorf("with nothing to disable, the newest version unwrapped %d times more", unwraps-1)
	}
}

func TestAnOperatorEnablesAVersionAgainAndItStaysEnabled(t *testing.T) {
	w, r, p := due(t)
	w.settle(p)
	wantDisabled(t, w, "by the rule", 1)
	version := w.vault[weu.URL].disabled[0]
	if err := r.Pause(t.Context(), p.Key, alice, "a service cannot read"); err != nil {
		t.Fatal(err)
	}
	if err := r.AskEnable(t.Context(), p, alice, "a service cannot read", version); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	first := w.vault[weu.URL].key(p.Key).versions[0]
	if !first.Enabled {
		t.Fatalf("version %s is not enabled\n%s", version, w.story())
	}
	if err := r.Resume(t.Context(), p.Key, alice, "it reads"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.now = w.now.Add(25 * time.Hour)
		w.settle(p)
	}
	if !first.Enabled || w.saved(chain.EnableIntended) != 1 || w.saved(chain.Enabled) != 1 ||
		w.saved(chain.RetireConsentEnded) != 1 {
		t.Errorf("enabled %v\n%s", first.Enabled, w.story())
	}
	w.consentToRetire(p)
	w.settle(p)
	wantDisabled(t, w, "after another consent", 2)
}

// The vault does not answer at first: the loop tries again, also after a restart.
func TestEnablingIsTriedForTenMinutes(t *testing.T) {
	for name, c := range map[string]struct {
		silent time.Duration
		want   bool
	}{"the vault answers in time": {8 * time.Minute, true}, "the vault answers too late": {11 * time.Minute, false}} {
		t.Run(name, func(t *testing.T) {
			w, r, p := due(t)
			w.settle(p)
			version := w.vault[weu.URL].disabled[0]
			if err := r.AskEnable(t.Context(), p, alice, "a service cannot read", version); err != nil {
				t.Fatal(err)
			}
			silent := w.now.Add(c.silent)
			w.strike = func(_ int, call string) fault {
				if call == "weu.Enable" && w.now.Before(silent) {
					return failBefore
				}
				return none
			}
			for w.now.Before(silent) {
				_, _ = w.step(w.rotator(), p)
				w.now = w.now.Add(time.Minute)
			}
			w.settle(p)
			if got := w.vault[weu.URL].key(p.Key).versions[0].Enabled; got != c.want {
				t.Errorf("enabled %v\n%s", got, w.story())
			}
			if got := w.drifts(w.rotator(), p); len(got) > 0 {
				t.Errorf("drift %v", got)
			}
			if n := w.saved(chain.EnableAborted); n != 0 == c.want {
				t.Errorf("%d entries say that it did not happen", n)
			}
		})
	}
}

// A vault that refuses for ever must not keep the key from rotating.
func TestARefusedEnablingIsGivenUpAtOnce(t *testing.T) {
	w, r, p := due(t)
	w.settle(p)
	w.vault[weu.URL].forbid = "Enable"
	if err := r.AskEnable(t.Context(), p, alice, "a service cannot read", w.vault[weu.URL].disabled[0]); err != nil {
		t.Fatal(err)
	}
	if s, err := w.step(r, p); s.Kind != plan.Enable || err == nil {
		t.Errorf("%s, %v; want a refused enabling", s.Kind, err)
	}
	if s, err := w.step(r, p); s.Kind != plan.Idle || err != nil || w.saved(chain.EnableAborted) != 1 {
		t.Errorf("then %s, %v\n%s", s.Kind, err, w.story())
	}
	err := r.AskEnable(t.Context(), p, alice, "a slip", strings.Repeat("f", 32))
	if why, refused := rotate.IsRefused(err); !refused || !strings.Contains(why, "has no version") {
		t.Errorf("a version that nobody knows: %v", err)
	}
}
