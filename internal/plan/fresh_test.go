package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// later is the input when nothing was looked at for an hour.
func (w *world) later() plan.Input {
	w.lookAge = time.Hour
	return w.input()
}

func TestEachStepNamesWhatMustBeSeenAnewBeforeIt(t *testing.T) {
	both := []string{weu.URL, neu.URL}
	rotated := func() *world { return given().rotated() }
	second := func() *world { return rotated().pinned() }
	id := func(w *world, n int) []key.ID { return []key.ID{w.record.Generation(n).ID} }
	for _, c := range []struct {
		name string
		w    *world
		step plan.Step
		want func(*world) plan.Parts
	}{
		{"a rotation begins by request: the newest pair", rotated(), plan.Step{Kind: plan.Reserve},
			func(w *world) plan.Parts { return plan.Parts{IDs: id(w, 1)} }},
		{"a rotation begins by schedule: the vaults' clocks besides", rotated(),
			plan.Step{Kind: plan.Reserve, Trigger: plan.Trigger{Scheduled: true}},
			func(w *world) plan.Parts { return plan.Parts{IDs: id(w, 1), Clocks: both} }},
		{"a pair is made: its id, and the pair that the token must have", rotated(),
			plan.Step{Kind: plan.Generate, ID: "a1"},
			func(w *world) plan.Parts { return plan.Parts{IDs: append([]key.ID{"a1"}, id(w, 1)...)} }},
		{"the first import of a generation: its pair, its listing, and whether every vault answers", second(),
			plan.Step{Kind: plan.Import, Generation: 2, Vault: weu.URL},
			func(w *world) plan.Parts { return plan.Parts{IDs: id(w, 2), Listings: both} }},
		{"the next import: the listing of its vault", second().proven(2, weu),
			plan.Step{Kind: plan.Import, Generation: 2, Vault: neu.URL},
			func(w *world) plan.Parts { return plan.Parts{IDs: id(w, 2), Listings: []string{neu.URL}} }},
		{"a proof: nothing, for it asks the vault itself", second().imported(2, weu),
			plan.Step{Kind: plan.Prove, Generation: 2, Vault: weu.URL},
			func(*world) plan.Parts { return plan.Parts{} }},
		{"an attempt is given up: the listing", second(), plan.Step{Kind: plan.Void, Vault: neu.URL},
			func(*world) plan.Parts { return plan.Parts{Listings: []string{neu.URL}} }},
		{"the end of a rotation: which version is the newest", second(), plan.Step{Kind: plan.Finish},
			func(*world) plan.Parts { return plan.Parts{Newest: both} }},
		{"a disabling: all that the HSM and every vault show, and a proof of the newest", rotated(),
			plan.Step{Kind: plan.Disable, Vault: weu.URL}, func(*world) plan.Parts {
				return plan.Parts{HSM: true, Vaults: both, Proofs: []string{weu.URL}}
			}},
		{"the end of a disabling: all that every vault shows", rotated(),
			plan.Step{Kind: plan.DisableDone, Vault: weu.URL},
			func(*world) plan.Parts { return plan.Parts{Vaults: both} }},
		{"a hold: what it is about", rotated(), plan.Step{Kind: plan.Hold, Vault: weu.URL},
			func(*world) plan.Parts { return plan.Parts{Vaults: []string{weu.URL}} }},
		{"a hold for a pair: its id", rotated(), plan.Step{Kind: plan.Hold, ID: "a1"},
			func(*world) plan.Parts { return plan.Parts{IDs: []key.ID{"a1"}} }},
		{"nothing is due: nothing", rotated(), plan.Step{Kind: plan.Idle},
			func(*world) plan.Parts { return plan.Parts{} }},
	} {
		if diff := cmp.Diff(c.want(c.w), c.w.later().Stale(c.step)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

// A clock that was set in between makes up reasons to act.
func TestOnlyALookThatNothingSeparatesFromNowIsFresh(t *testing.T) {
	limit := key.MaxSkew + 2*plan.LookTimeout // two vaults
	for _, c := range []struct {
		name string
		age  time.Duration
		want bool
	}{
		{"just begun", 0, true},
		{"as long as its timeouts allow", limit, true},
		{"longer: the clock was set ahead, or the process stood still", limit + time.Second, false},
		{"it begins in the future: the clock was set back", -time.Second, false},
	} {
		w := given().rotated()
		w.lookAge = c.age
		if got := w.input().Stale(plan.Step{Kind: plan.DisableDone, Vault: weu.URL}).None(); got != c.want {
			t.Errorf("%s: fresh is %v", c.name, got)
		}
	}
}

func TestAListingFromBeforeAnImportOrAChangeOfTheRecordIsStale(t *testing.T) {
	for name, change := range map[string]func(*record.VaultSeen){
		"keyd imported a version since":          func(v *record.VaultSeen) { v.Acted = true },
		"another daemon changed the record":      func(v *record.VaultSeen) { v.Revision = 7 },
		"the vault did not answer some time ago": func(v *record.VaultSeen) { v.Err = errAway },
	} {
		w := given().rotated().pinned().proven(2, weu)
		in := w.input()
		step := plan.Step{Kind: plan.Import, Generation: 2, Vault: neu.URL}
		in.Seen.HSM.Asked = in.Seen.HSM.Asked.With(in.Record.Generation(2).ID, record.Mark{At: in.Now})
		if parts := in.Stale(step); !parts.None() {
			t.Fatalf("a fresh look needs %+v", parts)
		}
		part := in.Seen.Vaults[neu.URL]
		change(&part)
		if part.Err != nil {
			part.Begun = in.Now.Add(-time.Minute)
		}
		in.Seen.Vaults[neu.URL] = part
		if parts := in.Stale(step); !cmp.Equal(parts, plan.Parts{Listings: []string{neu.URL}}) {
			t.Errorf("%s: %+v is stale", name, parts)
		}
	}
}

// What waits asks again for what it waits for, and no more often than a wait takes.
func TestAWaitAsksAgainForWhatItIsAbout(t *testing.T) {
	wait := plan.Step{Kind: plan.Wait, Vault: neu.URL, Attempt: "a1"}
	w := given().rotated()
	if parts := w.input().Stale(wait); !parts.None() {
		t.Errorf("a moment after a look: %+v", parts)
	}
	w.lookAge = 20 * time.Second
	if parts := w.input().Stale(wait); !cmp.Equal(parts, plan.Parts{Listings: []string{neu.URL}}) {
		t.Errorf("after twenty seconds: %+v", parts)
	}
	in := w.noHSM().input()
	if parts := in.Stale(plan.Step{Kind: plan.Wait}); !parts.HSM {
		t.Errorf("the HSM did not answer: %+v", parts)
	}
}

// A token that does not answer may be the wrong one: nothing begins before keyd has seen what must be there.
func TestARotationWaitsForTheHSMThatMustHaveTheNewestPair(t *testing.T) {
	in := given().rotated().asked().noHSM().input()
	if s := plan.Next(in); s.Kind != plan.Wait {
		t.Errorf("the step is %s: %s", s.Kind, s.Why)
	}
}

// A stranger may have put a version there since an earlier step listed.
func TestAnImportNeedsAListingThatBeganInItsOwnStep(t *testing.T) {
	w := given().rotated().pinned().proven(2, weu)
	in := w.input()
	in.Seen.HSM.Asked = in.Seen.HSM.Asked.With(in.Record.Generation(2).ID, record.Mark{At: in.Now})
	step := plan.Step{Kind: plan.Import, Generation: 2, Vault: neu.URL}
	in.Since = in.Seen.Vaults[neu.URL].Begun
	if parts := in.Stale(step); !parts.None() {
		t.Errorf("a listing of this step: %+v", parts)
	}
	in.Since = in.Since.Add(time.Second)
	if parts := in.Stale(step); !cmp.Equal(parts, plan.Parts{Listings: []string{neu.URL}}) {
		t.Errorf("a listing of a second before: %+v", parts)
	}
}

// The list of keys is a hint: it is enough to make a pair, and not to touch a vault.
func TestAVaultThatWasNotListedIsListedBeforeTheFirstImport(t *testing.T) {
	w := given().rotated().pinned()
	in := w.input()
	in.Seen.HSM.Asked = in.Seen.HSM.Asked.With(in.Record.Generation(2).ID, record.Mark{At: in.Now})
	for url, part := range in.Seen.Vaults {
		part.Unlisted = true
		in.Seen.Vaults[url] = part
	}
	step := plan.Step{Kind: plan.Import, Generation: 2, Vault: neu.URL}
	if parts := in.Stale(step); !cmp.Equal(parts, plan.Parts{Listings: []string{neu.URL, weu.URL}}) {
		t.Errorf("%+v is stale, not the listings of both vaults", parts)
	}
}
