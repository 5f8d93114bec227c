package rotate_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

// Rotations that somebody requests while something is in the way.

func request(t *testing.T, w *world, p key.Policy, wanted rotate.Wanted) (key.Request, bool) {
	t.Helper()
	wanted.Actor = "uid 0 (root)"
	q, joined, err := w.rotator().Request(context.Background(), p, wanted)
	if err != nil {
		t.Fatal(err)
	}
	return q, joined
}

// stepUntil steps a key once a second until enough returns true.
func (w *world) stepUntil(p key.Policy, enough func() bool) {
	w.tb.Helper()
	r := w.rotator()
	for range 100 {
		if enough() {
			return
		}
		_, _ = w.step(r, p)
		w.now = w.now.Add(time.Second)
	}
	w.tb.Fatalf("not reached:\n%s", w.story())
}

func TestASecondCompromiseIsNotAnsweredByTheFirstOnesMaterial(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
	w.stepUntil(p, func() bool { rec := w.record(p.Key); return rec.NextNumber() == 3 })
	w.now = w.now.Add(time.Hour)
	if _, joined := request(t, w, p, rotate.Wanted{Reason: "another leak", Compromise: true}); joined {
		t.Error("the second compromise joined the first, whose material is older than it")
	}
	w.settle(p)
	rec := w.record(p.Key)
	if g := rec.Latest(); g.Number != 3 || g.Finished.IsZero() || len(rec.Requests) != 0 {
		t.Errorf("latest generation %d, requests %v; want a third that answers both", g.Number, rec.Requests)
	}
}

// If a pair is made but not pinned when the compromise is reported, it belongs to no generation.
func TestAPairThatIsBeingMadeWhenTheKeyIsCompromisedIsDestroyed(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	request(t, w, p, rotate.Wanted{Reason: "one"})
	w.stepUntil(p, func() bool { return len(w.hsm.pairs) == 2 })
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
	w.settle(p)
	rec := w.record(p.Key)
	if g := rec.Latest(); g.Number != 3 || g.Finished.IsZero() {
		t.Errorf("the latest generation is %d, want a third that is finished\n%s", g.Number, w.story())
	}
	if len(w.hsm.pairs) != 2 {
		t.Errorf("the HSM holds %d pairs, want those of the generations 1 and 3\n%s", len(w.hsm.pairs), w.story())
	}
}

func TestARequestAfterTheImportGetsMaterialOfItsOwn(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	request(t, w, p, rotate.Wanted{Reason: "one"})
	w.stepUntil(p, func() bool { return w.vault[weu.URL].imports == 2 })
	if _, joined := request(t, w, p, rotate.Wanted{Reason: "two"}); joined {
		t.Error("joined a request whose material was imported before")
	}
	w.settle(p)
	w.checkDone(p, 3, 0)
}

func TestAVersionThatCannotBeProvenDoesNotStandInTheWayOfACompromise(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.stepUntil(p, func() bool { return w.vault[weu.URL].imports == 2 })
	w.vault[weu.URL].forbid = "Unwrap"
	for range 5 {
		_, _ = w.rotator().StepKey(leading(context.Background()), p)
		w.now = w.now.Add(time.Minute)
	}
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true, Without: []string{weu.URL}})
	w.stepUntil(p, func() bool { rec := w.record(p.Key); return len(rec.Requests) == 0 })
	rec := w.record(p.Key)
	if g := rec.Latest(); g.Number != 3 || g.In(mhsm.URL) == nil || g.In(mhsm.URL).State != key.Proven {
		t.Errorf("the new generation is not active in the vault that works\n%s", w.story())
	}
}

func TestAPartialKeyCanBeRotatedWithoutTheVaultThatIsDown(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.stepUntil(p, func() bool { return w.vault[weu.URL].imports == 2 })
	w.vault[mhsm.URL].down = true
	for range 5 {
		_, _ = w.rotator().StepKey(leading(context.Background()), p)
		w.now = w.now.Add(time.Minute)
	}
	request(t, w, p, rotate.Wanted{Reason: "emergency", Without: []string{mhsm.URL}})
	w.settle(p)
	rec := w.record(p.Key)
	if g := rec.Latest(); g.Number != 3 || g.Finished.IsZero() {
		t.Fatalf("latest generation %d, finished %s; want a third without the vault\n%s", g.Number, g.Finished,
			w.story())
	}
	w.vault[mhsm.URL].down = false
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.checkDone(p, 3, 0)
}

func TestTwoRequestsDoNotLeaveOutEveryVaultBetweenThem(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	request(t, w, p, rotate.Wanted{Reason: "one", Without: []string{weu.URL}})
	request(t, w, p, rotate.Wanted{Reason: "two", Without: []string{mhsm.URL}})
	w.settle(p)
	w.checkDone(p, 3, 0)
}

func TestACompromiseIsTheWayOutOfARefutedHold(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.vault[weu.URL].swap = true
	w.stepUntil(p, func() bool { return w.vault[weu.URL].imports == 2 })
	w.vault[weu.URL].swap = false
	w.settle(p)
	again := rotate.Wanted{Actor: "uid 0", Reason: "again"}
	if _, _, err := w.rotator().Request(context.Background(), p, again); key.ClassOf(err) != key.Refused {
		t.Fatalf("an ordinary rotation of a held key: %v, want it refused", err)
	}
	request(t, w, p, rotate.Wanted{Reason: "give it up", Compromise: true})
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold != nil || rec.Latest().Number != 3 || rec.Latest().Finished.IsZero() {
		t.Errorf("hold %+v, latest %d; want a third generation\n%s", rec.Hold, rec.Latest().Number, w.story())
	}
}

func TestAdoptingLeavesAnotherOperatorsPause(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	w.vault[weu.URL].addForeign(p.Key)
	ctx := context.Background()
	if err := w.rotator().Pause(ctx, p.Key, "uid 1 (alice)", "audit"); err != nil {
		t.Fatal(err)
	}
	shown, err := w.rotator().Adoption(ctx, p, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.rotator().Adopt(ctx, p, "uid 2 (bob)", "known", shown.Token); err != nil {
		t.Fatal(err)
	}
	if rec := w.record(p.Key); rec.Hold == nil || rec.Hold.Code != key.HoldPaused {
		t.Errorf("hold %+v, want alice's pause", rec.Hold)
	}
}

// A service promises no order of its listings.
func TestAnAdoptionDoesNotDependOnTheOrderOfAListing(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	for range 3 {
		w.vault[weu.URL].addForeign(p.Key) // all within one second
	}
	ctx := context.Background()
	shown, err := w.rotator().Adoption(ctx, p, false)
	if err != nil {
		t.Fatal(err)
	}
	w.vault[weu.URL].backwards = true
	if err := w.rotator().Adopt(ctx, p, "uid 0 (root)", "known", shown.Token); err != nil {
		t.Errorf("the same versions in another order: %v", err)
	}
}

// The listing of a deleted key is empty, whatever the key holds.
func TestAnImportIsNotGivenUpWhileTheKeyIsDeleted(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.strike = func(_ int, call string) fault {
		if call == "weu.Import" {
			return failAfter
		}
		return none
	}
	w.stepUntil(p, func() bool { return w.vault[weu.URL].imports == 1 })
	w.vault[weu.URL].key(p.Key).deleted = true
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	rec := w.record(p.Key)
	if at := rec.Latest().Placements[0]; at.State != key.Intended || rec.Hold == nil ||
		rec.Hold.Code != key.HoldKeyDeleted {
		t.Fatalf("the placement is %s, the hold %+v\n%s", at.State, rec.Hold, w.story())
	}
	w.vault[weu.URL].key(p.Key).deleted = false
	if err := w.rotator().Resume(context.Background(), p.Key, "uid 0 (root)", "recovered"); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	w.checkDone(p, 1, 0)
}

func TestAnOldRecordNeverDisownsAPairThatIsInUse(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.stepUntil(p, func() bool { rec := w.record(p.Key); return rec.Latest() != nil })
	old := w.record(p.Key) // reserved only
	w.settle(p)
	old.Revision = w.store.records[p.Key].Revision
	w.store.records[p.Key] = old
	w.vault[weu.URL].down = true
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold == nil || rec.Hold.Code != key.HoldRecordBehind || len(rec.Abandoned) != 0 {
		t.Fatalf("hold %+v, abandoned %v; want record-behind and nothing given up\n%s", rec.Hold, rec.Abandoned,
			w.story())
	}
	w.vault[weu.URL].down = false
	w.now = w.now.Add(time.Hour)
	ctx := context.Background()
	shown, err := w.rotator().Adoption(ctx, p, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.rotator().Adopt(ctx, p, "uid 0 (root)", "restored", shown.Token); err != nil {
		t.Fatal(err)
	}
	if err := w.rotator().Resume(ctx, p.Key, "uid 0 (root)", "compared"); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	w.checkDone(p, 1, 0)
}

func TestAVaultsClockAFewSecondsBehindDoesNotRotateTwice(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	p.Schedule, p.Floor = midnight{}, time.Hour
	w.vault[weu.URL].skew = -10 * time.Second
	w.settle(p)
	w.now = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	w.settle(p)
	w.now = w.now.Add(2 * time.Hour)
	w.settle(p)
	if n := len(w.record(p.Key).Generations); n != 2 {
		t.Errorf("%d generations, want the second only once", n)
	}
}

// midnight fires daily at 00:00 UTC.
type midnight struct{}

func (midnight) Next(t time.Time) time.Time {
	return t.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
}

func TestARecentlyNewestVersionIsNotRetired(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	p = w.retireAfter(p, 48*time.Hour)
	p.Schedule = nil
	w.settle(p)
	request(t, w, p, rotate.Wanted{Reason: "one more"})
	w.settle(p)
	w.now = w.now.Add(47*time.Hour + 30*time.Minute)
	first := w.record(p.Key).Generations[0]
	w.vault[weu.URL].add(p.Key, w.hsm.pairs[first.ID][0].private, nil) // landed late, and is the newest
	w.settle(p)
	w.now = w.now.Add(2 * time.Hour)
	w.settle(p)
	if d := w.vault[weu.URL].disabled; len(d) != 0 {
		t.Errorf("disabled %v, of which one was newest two hours ago", d)
	}
}

func TestAVersionThatIsNotKeptInAnHSMIsRefuted(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.vault[weu.URL].software = true
	w.settle(p)
	if rec := w.record(p.Key); rec.Hold == nil || rec.Hold.Code != key.HoldRefuted {
		t.Errorf("hold %+v, want proof-refuted", rec.Hold)
	}
}

func TestKeydSeesADisabledNewestVersionThatTheListingLacks(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	w.vault[weu.URL].key(p.Key).versions[0].Enabled = false
	w.vault[weu.URL].forbid = "Newest"
	w.now = w.now.Add(time.Hour)
	r := w.rotator()
	if _, err := r.StepKey(leading(context.Background()), p); err != nil {
		t.Fatal(err)
	}
	if seen := r.Observer.Last(p.Key).Vaults[weu.URL]; seen.Err != nil || seen.Newest == "" {
		t.Errorf("seen %+v, want the newest by the listing", seen)
	}
}

func TestAnotherKEKThanAtTheLastImportIsNotTrustedByFirstUse(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	w.hsm.trust = nil // the HSM side lost its memory
	w.vault[weu.URL].kek.Material = materialOf(w.newPair())
	w.now = w.now.Add(25 * time.Hour)
	r := w.rotator()
	for range 10 {
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Second)
	}
	if n := w.hsm.wraps; n != 1 {
		t.Errorf("%d wraps, want none for the KEK that was swapped in", n)
	}
}

// The record was rebuilt while the vault was away, or is an old copy. It lacks the placement of a version that is in
// use.
func TestACompromiseMarksVersionsMissingFromTheRecord(t *testing.T) {
	for _, lost := range []bool{true, false} {
		w := newWorld(t, 1, weu)
		p := policy(weu)
		p.Schedule = nil
		w.stepUntil(p, func() bool {
			rec := w.record(p.Key)
			return rec.Latest() != nil && rec.Latest().Fingerprint != ""
		})
		old := w.record(p.Key)
		w.settle(p)
		if lost {
			clear(w.store.records)
			w.vault[weu.URL].down = true
			w.now = w.now.Add(time.Hour)
			w.settle(p)
			w.adopt(p)
		} else {
			old.Revision = w.store.records[p.Key].Revision
			w.store.records[p.Key] = old
		}
		request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
		w.vault[weu.URL].down = false
		w.now = w.now.Add(time.Hour)
		w.settle(p) // held: the record does not have the version
		w.vault[weu.URL].key(p.Key).versions[0].Enabled = false
		w.adopt(p)
		w.settle(p)
		rec := w.record(p.Key)
		if s := rec.Generations[0].State(); s != key.Compromised {
			t.Errorf("lost %v: the generation is %s, want compromised", lost, s)
		}
		if rec.Latest().Number != 2 || rec.Latest().Finished.IsZero() {
			t.Errorf("lost %v: there is no new material\n%s", lost, w.story())
		}
	}
}

// A pair with one half missing shows no public key, and may still be in use.
func TestACompromiseDoesNotGiveUpTheIDOfAHalfPair(t *testing.T) {
	w, _, p := rotatedOnly(t, weu)
	one := w.record(p.Key).Generations[0].ID
	w.hsm.pairs[one][0].broken = true
	clear(w.store.records)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.adopt(p)
	w.settle(p)
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
	w.settle(p)
	rec := w.record(p.Key)
	if len(rec.Abandoned) > 0 || rec.Hold != nil || rec.Latest().Finished.IsZero() {
		t.Errorf("abandoned %v, held %+v\n%s", rec.Abandoned, rec.Hold, w.story())
	}
}

// Without a hold there is nothing for the request to lift, so keyd waits for nothing.
func TestARequestForARotationBlocksNothing(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	request(t, w, p, rotate.Wanted{Reason: "at once"})
	w.settle(p)
	w.checkDone(p, 1, 0)
}
