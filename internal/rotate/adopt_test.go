package rotate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

func TestALostStateIsRebuiltByModulus(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	rotateTwice(w, p)
	before := w.record(p.Key)
	clear(w.store.records)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	ctx := context.Background()
	shown, err := w.rotator().Adoption(ctx, p, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(shown.Rebuild) != 2 || len(shown.Unknown) == 0 {
		t.Fatalf("shown %+v, want two generations and what is not known", shown)
	}
	if err := w.rotator().Adopt(ctx, p, "uid 0 (root)", "disk lost", shown.Token); err != nil {
		t.Fatal(err)
	}
	rec := w.record(p.Key)
	if rec.Hold == nil || rec.Hold.Code != key.HoldAdopted {
		t.Fatalf("hold %+v, want adopted", rec.Hold)
	}
	if err := w.rotator().Resume(ctx, p.Key, "uid 0 (root)", "compared"); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	w.checkDone(p, 2, 0)
	for i, g := range w.record(p.Key).Generations {
		if g.Fingerprint != before.Generations[i].Fingerprint || g.ID != before.Generations[i].ID {
			t.Errorf("generation %d is not the one it was", g.Number)
		}
	}
}

// The labels in the HSM still spell the name the old way.
func TestALostStateIsRebuiltWhenTheKeyIsNowWrittenInAnotherCase(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	rotateTwice(w, p)
	clear(w.store.records)
	w.now = w.now.Add(time.Hour)
	p.Key = strings.ToUpper(p.Key)
	w.settle(p)
	if hold := w.record(p.Key).Hold; hold == nil || hold.Code != key.HoldRecordBehind {
		t.Fatalf("hold %+v, want %s", hold, key.HoldRecordBehind)
	}
}

func TestAdoptGivesUpLostVersionsOnlyWithConsent(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.vault[weu.URL].key(p.Key).versions = nil // purged
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	ctx := context.Background()
	shown, err := w.rotator().Adoption(ctx, p, false)
	if err != nil {
		t.Fatal(err)
	}
	if shown.Empty() || shown.Gone != 1 {
		t.Fatalf("shown %+v, want one version that is gone", shown)
	}
	if err := w.rotator().Adopt(ctx, p, "uid 0 (root)", "purged by mistake", shown.Token); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	if n := len(w.vault[weu.URL].key(p.Key).versions); n != 1 {
		t.Errorf("%d versions, want the generation imported again", n)
	}
}

func TestKeydImportsOverATakenNameOnlyAfterConsent(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	foreign := w.vault[weu.URL].addForeign(p.Key)
	w.settle(p)
	if rec := w.record(p.Key); rec.Hold == nil || rec.Hold.Code != key.HoldNameTaken {
		t.Fatalf("hold %+v, want name-taken", rec.Hold)
	}
	ctx := context.Background()
	shown, err := w.rotator().Adoption(ctx, p, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := shown.Foreign["weu"]; len(got) != 1 || got[0] != foreign {
		t.Fatalf("shown as foreign: %v", shown.Foreign)
	}
	err = w.rotator().Adopt(ctx, p, "uid 0 (root)", "ours by contract", "another token")
	if key.ClassOf(err) != key.Refused {
		t.Fatalf("a consent to something else: %v", err)
	}
	if err := w.rotator().Adopt(ctx, p, "uid 0 (root)", "ours by contract", shown.Token); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold != nil || rec.Latest() == nil || rec.Latest().Finished.IsZero() {
		t.Fatalf("not rotated after consent: %+v\n%s", rec.Hold, w.story())
	}
	if !w.vault[weu.URL].key(p.Key).versions[0].Enabled {
		t.Error("the foreign version was disabled")
	}
}

func TestAdoptDistinguishesAnUnreadableVersionFromOneThatIsNotShown(t *testing.T) {
	for want, change := range map[string]func(*modelVersion){
		"":                           func(*modelVersion) {},
		"does not show the material": func(x *modelVersion) { x.Material = key.Material{} },
		"a key of another family":    func(x *modelVersion) { x.Material, x.Kty = key.UnsupportedMaterial(), "EC-HSM" },
	} {
		w := newWorld(t, 1, weu)
		p := policy(weu)
		foreign := w.vault[weu.URL].addForeign(p.Key)
		change(w.vault[weu.URL].key(p.Key).versions[0])
		w.settle(p)
		shown, err := w.rotator().Adoption(t.Context(), p, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := shown.Foreign["weu"]; len(got) != 1 || got[0] != foreign {
			t.Errorf("%q: shown as foreign: %v", want, shown.Foreign)
		}
		unknown := strings.Join(shown.Unknown, "\n")
		if want == "" && unknown != "" || !strings.Contains(unknown, want) ||
			want != "" && !strings.Contains(unknown, foreign) {
			t.Errorf("Unknown has %q, want %q", unknown, want)
		}
	}
}

// If the state was lost, a generation may have begun before the existing ones were found. An old copy of the record
// may have reserved the generation without knowing that it was begun.
func TestAdoptGivesUpAGenerationBegunBeforeLaterOnesWereFound(t *testing.T) {
	for _, known := range []bool{true, false} {
		w := newWorld(t, 1, weu)
		p := policy(weu)
		rotateTwice(w, p)
		begun, err := key.NewID(rndReader{w.rnd})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.hsm.Generate(t.Context(), begun, p.Key, 1, p.Spec, ""); err != nil {
			t.Fatal(err)
		}
		g := record.Generation{Number: 1, ID: begun, Spec: p.Spec, Reserved: w.now}
		if known {
			g.GenerateBegun = w.now
		}
		w.store.records[p.Key] = record.Record{Key: p.Key, Schema: record.SchemaVersion, Instance: instance,
			Generations: []record.Generation{g}}
		w.now = w.now.Add(time.Hour)
		w.settle(p) // holds
		w.adopt(p)
		w.settle(p)
		if n := len(w.hsm.pairs[begun]); n != 0 {
			t.Errorf("known %v: %d pairs are left under the id that was begun\n%s", known, n, w.story())
		}
		rec := w.record(p.Key)
		if g := rec.Generation(1); g.State() != key.Destroyed {
			t.Errorf("known %v: the generation is %s", known, g.State())
		}
		if rec.Hold != nil || rec.Latest().Finished.IsZero() {
			t.Errorf("known %v: held %+v, the latest finished %v", known, rec.Hold, rec.Latest().Finished)
		}
	}
}

// The record is rebuilt while the key is deleted, so it has nothing in that vault. After the key is recovered, some
// regions still show neither the key nor that it is deleted.
func TestAKeyThatWasRecoveredIsNotImportedBeforeItShows(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	clear(w.store.records)
	k := w.vault[mhsm.URL].key(p.Key)
	there := k.versions
	k.deleted, k.versions = true, nil
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.adopt(p)
	w.settle(p)
	if hold := w.record(p.Key).Hold; hold == nil || hold.Code != key.HoldKeyDeleted {
		t.Fatalf("hold %+v, want key-deleted\n%s", hold, w.story())
	}
	w.now = w.now.Add(time.Hour)
	k.deleted = false
	if err := w.rotator().Resume(t.Context(), p.Key, "uid 0 (root)", "recovered"); err != nil {
		t.Fatal(err)
	}
	r := w.rotator()
	for minute := range 6 {
		if minute == 1 {
			w.now = w.now.Add(3 * time.Hour) // the clock jumps
			w.vault[mhsm.URL].skew, w.vault[weu.URL].skew = -3*time.Hour, -3*time.Hour
		}
		s, err := w.step(r, p)
		for ; err == nil && s.Acts(); s, err = w.step(r, p) {
		}
		if err != nil || s.Kind != plan.Wait {
			t.Fatalf("%+v, %v: want to wait\n%s", s, err, w.story())
		}
		w.now = w.now.Add(time.Minute)
	}
	k.versions = there
	w.settle(p) // held: the vault shows versions that no record has
	w.adopt(p)
	w.settle(p)
	w.checkDone(p, 1, 0)
}

// A vault lists nothing for a while, for example because the name leads to another vault, and the operator trusts
// that answer.
func TestVersionsGivenUpAsGoneThatComeBackAreTakenBack(t *testing.T) {
	for _, v := range []key.Vault{weu, mhsm} {
		w, _, p := rotatedOnly(t, v)
		w.now = w.now.Add(time.Hour)
		k := w.vault[v.URL].key(p.Key)
		there := k.versions
		there[0].Enabled = false // somebody disabled it: no proof of it can pass
		k.versions = nil
		w.settle(p)
		w.consent(p)
		k.versions = there
		imports := w.vault[v.URL].imports
		w.settle(p)
		if n := w.vault[v.URL].imports - imports; n > 0 {
			t.Errorf("%s: %d versions were imported once more\n%s", v.Name, n, w.story())
		}
		rec := w.record(p.Key)
		if one, two := rec.Generations[0].In(v.URL), rec.Generations[1].In(v.URL); one == nil || two == nil ||
			one.State != key.Disabled || two.State != key.Proven {
			t.Errorf("%s: the placements are %+v and %+v\n%s", v.Name, one, two, w.story())
		}
	}
}

func TestAdoptWaitsForAManagedHSMWhoseAnswerMayBeStale(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	w.settle(p)
	w.vault[mhsm.URL].key(p.Key).versions = nil
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.consent(p)
	r := w.rotator()
	if s, err := w.step(r, p); err != nil || s.Kind != plan.Wait {
		t.Errorf("%s: %s (%v); want to wait", s.Kind, s.Why, err)
	}
	w.now = w.now.Add(mhsm.Kind.SettleTime())
	if s, err := w.step(r, p); err != nil || s.Kind != plan.Import {
		t.Errorf("%s: %s (%v); want the import once it is over", s.Kind, s.Why, err)
	}
}

// The HSM's backup had it when the record was rebuilt. It is older than everything else.
func TestAnOlderPairThatTurnsUpIsNotImportedOverTheLatest(t *testing.T) {
	w, _, p := rotatedOnly(t, weu)
	rec := w.record(p.Key)
	one := rec.Generations[0].ID
	pair := w.hsm.pairs[one]
	delete(w.hsm.pairs, one)
	clear(w.store.records)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.adopt(p)
	w.settle(p)
	w.hsm.pairs[one] = pair
	w.now = w.now.Add(time.Hour)
	w.settle(p) // holds
	w.adopt(p)
	w.settle(p)
	now := w.record(p.Key)
	if len(now.Generations) != 2 || now.Generations[0].ID != one ||
		now.Latest().Fingerprint != rec.Latest().Fingerprint {
		t.Errorf("the generations are %+v\n%s", now.Generations, w.story())
	}
	w.checkDone(p, 2, 0)
}

// The pair was made, used and lost. C_GenerateKeyPair still runs only once for an id.
func TestAdoptGivesANewIDToAGenerationThatAnOldRecordReserved(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.stepUntil(p, func() bool { rec := w.record(p.Key); return rec.Latest() != nil })
	old := w.record(p.Key)
	id := old.Latest().ID
	w.settle(p)
	old.Revision = w.store.records[p.Key].Revision
	w.store.records[p.Key] = old
	delete(w.hsm.pairs, id)
	w.now = w.now.Add(time.Hour)
	w.settle(p) // holds
	w.consent(p)
	w.settle(p)
	if n := w.hsm.generated[id]; n != 1 {
		t.Errorf("%d pairs were made under one id\n%s", n, w.story())
	}
	if rec := w.record(p.Key); rec.Latest().Finished.IsZero() {
		t.Errorf("it does not go on\n%s", w.story())
	}
}

// While the key is held, keyd does not adopt a late duplicate as an alias.
func TestAnOlderVersionThatIsAdoptedDoesNotStayTheNewest(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		for _, compromised := range []bool{false, true} {
			w := newWorld(t, 1, weu)
			p := policy(weu)
			p.Schedule = nil
			w.settle(p)
			w.now = w.now.Add(25 * time.Hour)
			request(t, w, p, rotate.Wanted{Reason: "second", Compromise: compromised})
			w.settle(p)
			w.now = w.now.Add(time.Hour)
			if err := w.rotator().Pause(t.Context(), p.Key, "uid 1 (alice)", "audit"); err != nil {
				t.Fatal(err)
			}
			rec := w.record(p.Key)
			vault := w.vault[weu.URL]
			vault.add(p.Key, w.hsm.pairs[rec.Generations[0].ID][0].private, nil) // lands late
			if foreign {
				w.now = w.now.Add(time.Minute)
				vault.addForeign(p.Key)
			}
			w.adopt(p)
			w.now = w.now.Add(time.Hour)
			w.settle(p)
			versions := vault.key(p.Key).versions
			if versions[len(versions)-1].Material.Matches(rec.Generations[1].Fingerprint) != key.MatchYes {
				t.Errorf("foreign %v, compromised %v: the newest is not generation 2\n%s", foreign, compromised,
					w.story())
			}
		}
	}
}

// consent adopts what is found. The key stays held if it was paused or rebuilt.
func (w *world) consent(p key.Policy) {
	w.tb.Helper()
	ctx, r := context.Background(), w.rotator()
	shown, err := r.Adoption(ctx, p, false)
	if err != nil {
		w.tb.Fatal(err)
	}
	if err := r.Adopt(ctx, p, "uid 0 (root)", "disk lost", shown.Token); err != nil {
		w.tb.Fatal(err)
	}
}

// adopt consents to what is found, and resumes the key.
func (w *world) adopt(p key.Policy) {
	w.tb.Helper()
	w.consent(p)
	if err := w.rotator().Resume(context.Background(), p.Key, "uid 0 (root)", "compared"); err != nil {
		w.tb.Fatal(err)
	}
}

// A vault that was created again under the same name is empty at first. Its answer counts only after the settle time.
// Until then keyd must not report that everything agrees.
func TestAdoptDoesNotTakeAnEmptyVaultForAgreement(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(k *modelKey)
		gone int // once the settle time is over
	}{
		"made anew":                              {func(k *modelKey) { k.versions = nil }, 1},
		"deleted":                                {func(k *modelKey) { k.deleted = true }, 0},
		"made anew, and without a role for keyd": {func(*modelKey) {}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, weu, mhsm)
			p := policy(weu, mhsm)
			w.settle(p)
			w.now = w.record(p.Key).Generations[0].In(weu.URL).ImportedAt.Add(time.Second)
			c.do(w.vault[weu.URL].key(p.Key))
			if strings.Contains(name, "role") {
				w.vault[weu.URL].forbid = "Versions"
			}
			shown, err := w.rotator().Adoption(t.Context(), p, false)
			if err != nil {
				t.Fatal(err)
			}
			if !shown.Empty() || shown.Open != 1 || strings.Contains(shown.Consequence, "agrees") ||
				len(shown.Unknown) != 1 {
				t.Errorf("at first %+v, want one open difference, and no agreement", shown)
			}
			w.now = w.now.Add(time.Hour)
			if shown, err = w.rotator().Adoption(t.Context(), p, false); err != nil {
				t.Fatal(err)
			}
			if shown.Gone != c.gone || strings.Contains(shown.Consequence, "agrees") {
				t.Errorf("later %+v, want %d gone", shown, c.gone)
			}
		})
	}
}
