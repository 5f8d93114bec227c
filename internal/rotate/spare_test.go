package rotate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

// spared is the policy of a key with spares that is rotated on request only.
func spared(n int, vaults ...key.Vault) key.Policy {
	p := policy(vaults...)
	p.Schedule, p.ScheduleText, p.Spares = nil, "", n
	return p
}

// since lists the events of the audit from the first one of a kind on.
func (w *world) since(first chain.Event) (events []chain.Event) {
	for _, e := range w.store.entries {
		if e.Event == first || len(events) > 0 {
			events = append(events, e.Event)
		}
	}
	return events
}

// wantSpares requires the spares of a key, which are all ready.
func (w *world) wantSpares(p key.Policy, numbers ...int) {
	w.tb.Helper()
	rec := w.record(p.Key)
	var got []int
	for _, s := range rec.Spares {
		got = append(got, s.Number)
		if len(w.hsm.pairs[s.ID]) != 1 || w.hsm.pairs[s.ID][0].wrapped {
			w.tb.Errorf("the HSM does not have the pair of spare generation %d, never wrapped", s.Number)
		}
	}
	if !slices.Equal(got, numbers) || rec.SparesReady(p) != len(numbers) {
		w.tb.Fatalf("spares %v, %d of them ready; want %v\n%s", got, rec.SparesReady(p), numbers, w.story())
	}
}

func TestARotationWithASpareStartsAtTheImportAndMakesUpForItAtTheEnd(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := spared(2, weu, mhsm)
	w.settle(p)
	w.wantSpares(p, 2, 3)
	fingerprint := w.record(p.Key).Spares[0].Fingerprint
	request(t, w, p, rotate.Wanted{Reason: "a drill"})
	w.settle(p)
	w.checkDone(p, 2, 0)
	w.wantSpares(p, 3, 4)
	if g := w.record(p.Key).Generations[1]; g.Fingerprint != fingerprint || g.Reason != "a drill" ||
		g.Reserved.Before(g.Pinned) {
		t.Errorf("generation 2 is %+v; want the spare, reserved by the request", g)
	}
	want := []chain.Event{
		chain.RotationRequested, chain.SparePromoted,
		chain.ImportIntended, chain.Imported, chain.ProofPassed,
		chain.ImportIntended, chain.Imported, chain.ProofPassed, chain.RotationFinished,
		chain.SpareReserved, chain.GenerationIntended, chain.GenerationMade, chain.GenerationPinned,
	}
	if got := w.since(chain.RotationRequested); !slices.Equal(got, want) {
		t.Errorf("the audit has\n%q, want\n%q", got, want)
	}
}

func TestTheLoopConvergesWithASpareWhenAnyOneCallFails(t *testing.T) {
	p := policy(weu)
	p.Spares = 1
	rotates := func(w *world) {
		rotateTwice(w, p)
		w.now = w.now.Add(time.Hour) // a spare's pair that failed is tried again after a while
		w.settle(p)
	}
	clean := newWorld(t, 1, weu)
	rotates(clean)
	for n, name := range clean.calls {
		for _, f := range []fault{failBefore, failBeforeAmbiguous, failAfter, crashBefore, crashAfter} {
			if onlyReads(name) {
				continue // as without spares
			}
			t.Run(fmt.Sprintf("%03d %s, %s", n, name, f), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1, weu)
				w.strike = func(i int, call string) fault {
					if i == n {
						return f
					}
					return none
				}
				rotates(w)
				w.checkDone(p, 2, 0)
				w.wantSpares(p, 3)
			})
		}
	}
}

func TestACompromiseDiscardsAndDestroysTheSparesAndNeverUsesTheirNumbersAgain(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(2, weu)
	w.settle(p)
	w.wantSpares(p, 2, 3)
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
	if rec := w.record(p.Key); len(rec.Spares) != 0 || len(rec.Abandoned) != 2 {
		t.Fatalf("spares %v, given up %v; want both given up with the request", rec.Spares, rec.Abandoned)
	}
	want := []chain.Event{chain.RotationRequested, chain.SpareDiscarded, chain.SpareDiscarded}
	if got := w.since(chain.RotationRequested); !slices.Equal(got, want) {
		t.Errorf("the audit has %q, want %q", got, want)
	}
	w.settle(p)
	w.wantSpares(p, 5, 6)
	rec := w.record(p.Key)
	if g := rec.Latest(); g.Number != 4 || g.Finished.IsZero() || !g.SpareSince.IsZero() {
		t.Errorf("the latest generation is %+v; want the new generation 4", g)
	}
	if n := len(w.hsm.pairs); n != 4 {
		t.Errorf("the HSM has %d pairs, want those of two generations and of two spares", n)
	}
}

func TestSparesFollowTheConfiguration(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(3, weu)
	w.settle(p)
	w.wantSpares(p, 2, 3, 4)
	p.Spares = 1
	w.settle(p)
	w.wantSpares(p, 2)
	p.Spares = 2
	w.settle(p)
	w.wantSpares(p, 2, 5)
	p.Spares = 0
	w.settle(p)
	w.wantSpares(p)
	w.checkDone(p, 1, 0)
}

// The spares of an old copy may be in use by now: they are generations, whatever it says.
func TestASpareOfAnOldRecordThatWasPromotedSinceBecomesAGeneration(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(1, weu)
	w.settle(p)
	old := w.record(p.Key)
	request(t, w, p, rotate.Wanted{Reason: "a drill"})
	w.stepUntil(p, func() bool { return w.vault[weu.URL].imports == 2 })
	now := w.record(p.Key)
	old.Revision = now.Revision
	w.store.records[p.Key] = old
	w.vault[weu.URL].down = true // so that the HSM alone tells
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	if hold := w.record(p.Key).Hold; hold == nil || hold.Code != key.HoldRecordBehind {
		t.Fatalf("hold %+v, want %s", hold, key.HoldRecordBehind)
	}
	w.vault[weu.URL].down = false
	w.now = w.now.Add(time.Minute)
	w.adoptAndResume(t, p)
	w.settle(p)
	rec := w.record(p.Key)
	if g := rec.Latest(); g.Number != 2 || g.ID != now.Latest().ID || g.In(weu.URL) == nil {
		t.Fatalf("the latest generation is %+v, want the spare that was promoted\n%s", g, w.story())
	}
	if n := len(w.vault[weu.URL].key(p.Key).versions); n != 2 {
		t.Errorf("the vault has %d versions, want the two that it had", n)
	}
}

// An HSM that was put back from a backup shows a pair in use as one that was never wrapped. keyd neither destroys it
// nor calls its version foreign.
func TestASpareIsAGenerationWhereAVaultHasItWhateverItsLabelSays(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(1, weu)
	w.settle(p)
	old := w.record(p.Key)
	request(t, w, p, rotate.Wanted{Reason: "a drill"})
	w.settle(p)
	now := w.record(p.Key)
	id := now.Latest().ID
	old.Revision = now.Revision
	w.store.records[p.Key] = old
	w.hsm.pairs[id][0].wrapped = false
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	if hold := w.record(p.Key).Hold; hold == nil || hold.Code != key.HoldRecordBehind {
		t.Fatalf("hold %+v, want %s", hold, key.HoldRecordBehind)
	}
	w.adoptAndResume(t, p)
	w.settle(p)
	rec := w.record(p.Key)
	if g := rec.WithID(id); g == nil || g.In(weu.URL) == nil || len(w.hsm.pairs[id]) != 1 {
		t.Errorf("%+v; want the generation with its version, and its pair in the HSM\n%s", g, w.story())
	}
}

func TestAnOldRecordsSparesAreDiscardedOnceAdoptFindsMore(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(2, weu)
	w.settle(p)
	old := w.record(p.Key)
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
	w.stepUntil(p, func() bool { return len(w.hsm.pairs) == 4 }) // the new one is made
	old.Revision = w.record(p.Key).Revision
	w.store.records[p.Key] = old // it does not know that its spares were called compromised
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.adoptAndResume(t, p)
	w.settle(p)
	for _, s := range old.Spares {
		if rec := w.record(p.Key); rec.Numbered(s.Number) != nil || len(w.hsm.pairs[s.ID]) != 0 {
			t.Errorf("spare generation %d is still there", s.Number)
		}
	}
}

func TestAPairThatWasASpareOfALostStateBecomesNoGeneration(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(1, weu)
	w.settle(p)
	spare := w.record(p.Key).Spares[0]
	clear(w.store.records)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.adoptAndResume(t, p)
	w.settle(p)
	rec := w.record(p.Key)
	if rec.WithID(spare.ID) != nil || len(w.hsm.pairs[spare.ID]) != 0 || len(rec.Generations) != 1 {
		t.Errorf("%d generations, and %d pairs under the spare's id; want one and none\n%s", len(rec.Generations),
			len(w.hsm.pairs[spare.ID]), w.story())
	}
}

// Whoever has the key's material may have had that of its spares, wherever they turn up later.
func TestASpareThatWasCalledCompromisedStaysSoWhenAdoptFindsItInUse(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(1, weu)
	w.settle(p)
	spare := w.record(p.Key).Spares[0]
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
	w.hsm.pairs[spare.ID][0].wrapped = true // the record was an old copy
	w.settle(p)
	w.adoptAndResume(t, p)
	rec := w.record(p.Key)
	if g := rec.WithID(spare.ID); g == nil || g.Compromised.IsZero() {
		t.Errorf("%+v; want a compromised generation\n%s", g, w.story())
	}
}

func TestASpareThatIsGoneFromTheHSMIsGivenUpByConsentOnly(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := spared(1, weu)
	w.settle(p)
	spare := w.record(p.Key).Spares[0]
	delete(w.hsm.pairs, spare.ID)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	hold := w.record(p.Key).Hold
	if hold == nil || hold.Code != key.HoldObjectMissing || !strings.Contains(hold.Reason, "spare generation 2") {
		t.Fatalf("hold %+v, want %s that names the spare", hold, key.HoldObjectMissing)
	}
	w.adoptAndResume(t, p)
	w.settle(p)
	w.wantSpares(p, 3)
	w.checkDone(p, 1, 0)
}

// adoptAndResume consents to what adopt shows, and lifts a hold that is left.
func (w *world) adoptAndResume(t *testing.T, p key.Policy) {
	t.Helper()
	ctx := context.Background()
	shown, err := w.rotator().Adoption(ctx, p, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.rotator().Adopt(ctx, p, "uid 0 (root)", "restored", shown.Token); err != nil {
		t.Fatal(err)
	}
	if w.record(p.Key).Hold == nil {
		return
	}
	if err := w.rotator().Resume(ctx, p.Key, "uid 0 (root)", "compared"); err != nil {
		t.Fatal(err)
	}
}
