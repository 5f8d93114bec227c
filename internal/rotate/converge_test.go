package rotate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

var (
	weu  = key.Vault{Name: "weu", URL: "https://weu.vault.azure.net", Kind: key.KeyVault}
	mhsm = key.Vault{Name: "mhsm", URL: "https://mhsm.managedhsm.azure.net", Kind: key.ManagedHSM}
)

// every fires at whole multiples after a time.
type every time.Duration

func (e every) Next(t time.Time) time.Time { return t.Add(time.Duration(e)) }

func policy(vaults ...key.Vault) key.Policy {
	return key.Policy{Key: "sa-cmk-key", Spec: key.RSA2048, Vaults: vaults,
		Schedule: every(24 * time.Hour), ScheduleText: "@daily",
		Operations: []key.Operation{key.WrapKey, key.UnwrapKey}, Budget: 10}
}

// rotateTwice is the run in which the tests inject faults: the first generation, and a rotation a day later.
func rotateTwice(w *world, p key.Policy) {
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.settle(p)
}

func TestARotationWithoutFaultsMakesOneVersionPerVault(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	rotateTwice(w, p)
	w.checkDone(p, 2, 0)
	rec := w.record(p.Key)
	if got := rec.Generations[0].State(); got != key.Deactivated {
		t.Errorf("the first generation is %s, want deactivated", got)
	}
	if got := rec.Generations[1].State(); got != key.Active {
		t.Errorf("the second generation is %s, want active", got)
	}
}

// Every call of two rotations fails once: with its effect, without its effect, and because the process dies before or
// after it. A call that only reads has no effect, so two of the five cases would only repeat others.
func TestTheLoopConvergesWhenAnyOneCallFails(t *testing.T) {
	p := policy(weu, mhsm)
	clean := newWorld(t, 1, weu, mhsm)
	rotateTwice(clean, p)
	for n, name := range clean.calls {
		for _, f := range []fault{failBefore, failBeforeAmbiguous, failAfter, crashBefore, crashAfter} {
			if (f == failAfter || f == crashAfter) && onlyReads(name) {
				continue
			}
			t.Run(fmt.Sprintf("%03d %s, %s", n, name, f), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1, weu, mhsm)
				w.strike = func(i int, call string) fault {
					if i == n {
						return f
					}
					return none
				}
				rotateTwice(w, p)
				w.checkDone(p, 2, 0)
			})
		}
	}
}

// onlyReads reports whether a call of the model changes nothing.
func onlyReads(call string) bool {
	_, op, _ := strings.Cut(call, ".")
	return slices.Contains([]string{"Inventory", "PublicKey", "CheckKEK", "Opens", "KEK", "KEKVersions", "Versions",
		"Newest", "Get",
		"Deleted",
		"NativeRotation", "Wrap", "Unwrap", "Load", "LoadVault"}, op)
}

// Wherever a series of random faults has led, the loop converges once the faults stop.
func TestTheLoopConvergesAfterAnyHistoryOfFaults(t *testing.T) {
	p := policy(weu, mhsm)
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed, weu, mhsm)
			faults := true
			w.strike = func(int, string) fault {
				if faults && w.rnd.IntN(6) == 0 {
					return fault(1 + w.rnd.IntN(5))
				}
				return none
			}
			r := w.rotator()
			for range 60 {
				step, err := w.step(r, p)
				if errors.As(err, new(crashed)) {
					r = w.rotator()
				}
				w.now = w.now.Add(time.Duration(1+w.rnd.IntN(40)) * time.Second)
				if step.Kind == plan.Idle && err == nil {
					w.now = w.now.Add(25 * time.Hour)
				}
				w.check(p)
			}
			faults = false
			w.settle(p)
			rec := w.record(p.Key)
			w.checkDone(p, len(rec.Generations), 0)
		})
	}
}

// The HSM side looks for that pair first: a token that was wiped or exchanged generates like a healthy one.
func TestAPairIsMadeOnATokenThatHasTheGenerationBefore(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	rotateTwice(w, p)
	first := w.record(p.Key).Generations[0].ID
	if want := []key.ID{"", first}; !slices.Equal(w.hsm.known, want) {
		t.Errorf("the pairs that had to be there: %q, want %q", w.hsm.known, want)
	}
}

func TestALostAnswerBeforeTheCommitIsRepeatedOnlyAfterTheSettleTime(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.strikeOnce("weu.Import", failBeforeAmbiguous)
	begun := w.now
	w.settle(p)
	w.checkDone(p, 1, 0)
	if waited := w.now.Sub(begun); waited < time.Minute+weu.Kind.SettleTime() {
		t.Errorf("imported again after %s, want at least the deadline and the settle time", waited)
	}
	if n := len(w.record(p.Key).Generations[0].Placements); n != 2 {
		t.Errorf("%d placements, want a void one and a good one", n)
	}
}

func TestAnOldGenerationThatLandsLateIsRepaired(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	rotateTwice(w, p)
	first := w.hsm.pairs[w.record(p.Key).Generations[0].ID]
	w.now = w.now.Add(time.Hour)
	w.vault[weu.URL].add(p.Key, first[0].private, nil)
	w.settle(p)
	w.checkDone(p, 2, 2) // the late one, and the repair
	placements := w.record(p.Key).Generations[1].Placements
	if cause := placements[len(placements)-1].Cause; cause != key.CauseRepair {
		t.Errorf("the last placement's cause is %q, want repair", cause)
	}
}

func TestARefutedProofRollsBackInThatVaultAndHolds(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.vault[weu.URL].swap = true
	r := w.rotator()
	for w.vault[weu.URL].imports < 2 {
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
	}
	w.vault[weu.URL].swap = false
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold == nil || rec.Hold.Code != key.HoldRefuted {
		t.Fatalf("hold %+v, want proof-refuted\n%s", rec.Hold, w.story())
	}
	versions := w.vault[weu.URL].key(p.Key).versions
	newest := versions[len(versions)-1]
	if newest.Material.Matches(rec.Generations[0].Fingerprint) != key.MatchYes {
		t.Error("the newest version is not the previous generation again")
	}
	if !versions[1].Enabled {
		t.Error("the refuted version was disabled")
	}
	if n := len(w.vault[mhsm.URL].key(p.Key).versions); n != 1 {
		t.Errorf("the other vault has %d versions, want it untouched", n)
	}

	t.Run("and a resume tries the generation once more", func(t *testing.T) {
		if err := w.rotator().Resume(context.Background(), p.Key, "uid 0 (root)", "looked at it"); err != nil {
			t.Fatal(err)
		}
		w.settle(p)
		w.checkDone(p, 2, 2)
	})
}

func TestARefutedGenerationThatLandsOnceMoreIsRolledBackAgain(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	weuVault := w.vault[weu.URL]
	weuVault.swap = true
	r := w.rotator()
	for weuVault.imports < 3 { // the third one is the rollback
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
		weuVault.swap = weuVault.imports < 2
	}
	second := w.record(p.Key).Generations[1]
	weuVault.add(p.Key, w.hsm.pairs[second.ID][0].private, nil)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold == nil || rec.Hold.Code != key.HoldRefuted {
		t.Fatalf("hold %+v, want proof-refuted\n%s", rec.Hold, w.story())
	}
	versions := weuVault.key(p.Key).versions
	if versions[len(versions)-1].Material.Matches(rec.Generations[0].Fingerprint) != key.MatchYes {
		t.Errorf("the key is held, and its newest version is not the previous generation\n%s", w.story())
	}
	if n := len(w.vault[mhsm.URL].key(p.Key).versions); n != 1 {
		t.Errorf("the other vault has %d versions, want it untouched", n)
	}
}

// adopt can find such a generation: somebody disabled its one version, so keyd places it nowhere else and must not
// wait for it.
func TestAGenerationDisabledBeforeItWasEverywhereBlocksNothing(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	rec := w.record(p.Key)
	g := rec.Latest()
	g.Finished = time.Time{}
	g.Placements = slices.DeleteFunc(g.Placements, func(at record.Placement) bool { return at.Vault == mhsm.URL })
	g.Placements[0].State = key.Disabled
	w.store.records[p.Key] = rec
	hsm := w.vault[mhsm.URL].key(p.Key)
	hsm.versions = nil
	w.now = w.now.Add(25 * time.Hour)
	w.settle(p)
	rec = w.record(p.Key)
	if last := rec.Latest(); rec.Hold != nil || last.Number != 2 || last.Finished.IsZero() {
		t.Errorf("hold %+v, generation %d finished %v\n%s", rec.Hold, last.Number, last.Finished, w.story())
	}
}

func TestARefutedFirstGenerationHoldsAtOnce(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.vault[weu.URL].swap = true
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold == nil || rec.Hold.Code != key.HoldRefuted {
		t.Fatalf("hold %+v, want proof-refuted", rec.Hold)
	}
	if n := w.vault[weu.URL].imports; n != 1 {
		t.Errorf("%d imports, want one", n)
	}
}

func TestAContradictionOfTheRecordHoldsTheKey(t *testing.T) {
	p := policy(weu)
	for _, c := range []struct {
		name   string
		meddle func(w *world)
		want   key.HoldCode
	}{
		{"a foreign newest version", func(w *world) { w.vault[weu.URL].addForeign(p.Key) }, key.HoldForeign},
		{"a soft-deleted key", func(w *world) { w.vault[weu.URL].key(p.Key).deleted = true }, key.HoldKeyDeleted},
		{"an empty listing", func(w *world) { w.vault[weu.URL].key(p.Key).versions = nil }, key.HoldVersionsMissing},
		{"a wiped token", func(w *world) { clear(w.hsm.pairs) }, key.HoldObjectMissing},
		{"a lost record", func(w *world) { clear(w.store.records) }, key.HoldRecordBehind},
		{"an old record", func(w *world) {
			old := w.record(p.Key)
			w.now = w.now.Add(25 * time.Hour)
			w.settle(p)
			old.Revision = w.store.records[p.Key].Revision
			w.store.records[p.Key] = old
		}, key.HoldRecordBehind},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1, weu)
			w.settle(p)
			w.now = w.now.Add(time.Hour)
			c.meddle(w)
			imports, pairs := w.vault[weu.URL].imports, len(w.hsm.pairs)
			w.now = w.now.Add(25 * time.Hour)
			w.settle(p)
			rec := w.record(p.Key)
			if rec.Hold == nil || rec.Hold.Code != c.want {
				t.Fatalf("hold %+v, want %s\n%s", rec.Hold, c.want, w.story())
			}
			if w.vault[weu.URL].imports != imports || len(w.hsm.pairs) != pairs {
				t.Error("something was imported or made all the same")
			}
		})
	}
}

func TestAnAddedVaultGetsEveryGenerationOldestFirst(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	rotateTwice(w, policy(weu))
	p := policy(weu, mhsm)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.checkDone(p, 2, 0)
	rec := w.record(p.Key)
	for i, x := range w.vault[mhsm.URL].key(p.Key).versions {
		if x.Material.Matches(rec.Generations[i].Fingerprint) != key.MatchYes {
			t.Errorf("version %d in the new vault is not generation %d", i, i+1)
		}
	}
	if cause := rec.Generations[0].In(mhsm.URL).Cause; cause != key.CauseNewVault {
		t.Errorf("cause %q, want new vault", cause)
	}
}

func TestAVaultThatFailsInMidRotationIsCaughtUp(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	r := w.rotator()
	for w.vault[weu.URL].imports < 2 {
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
	}
	w.vault[mhsm.URL].down = true
	for range 10 {
		_, _ = w.step(r, p)
		w.now = w.now.Add(time.Minute)
	}
	rec := w.record(p.Key)
	if at := rec.Generations[1].In(weu.URL); at == nil || at.State != key.Proven {
		t.Fatal("the vault that works was not finished")
	}
	if !rec.Stage(p).Partial() {
		t.Error("the key is not shown as partial")
	}
	w.vault[mhsm.URL].down = false
	w.settle(p)
	w.checkDone(p, 2, 0)
}

func TestNoVaultIsTouchedBeforeAllAreReady(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.vault[mhsm.URL].down = true
	r := w.rotator()
	for range 20 {
		_, _ = w.step(r, p)
		w.now = w.now.Add(time.Minute)
	}
	if n := w.vault[weu.URL].imports; n != 1 {
		t.Errorf("%d imports into the vault that works, want it left alone", n)
	}
}

func TestWithoutLeavesAVaultOutAndCatchesItUpLater(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	w.settle(p)
	w.now = w.now.Add(time.Hour)
	w.vault[mhsm.URL].down = true
	wanted := rotate.Wanted{Actor: "uid 0 (root)", Reason: "emergency", Without: []string{mhsm.URL}}
	_, _, err := w.rotator().Request(context.Background(), p, wanted)
	if err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	rec := w.record(p.Key)
	if g := rec.Latest(); g == nil || g.Number != 2 || g.Finished.IsZero() {
		t.Fatalf("not finished without the vault\n%s", w.story())
	}
	w.vault[mhsm.URL].down = false
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.checkDone(p, 2, 0)
}

func TestACompromiseNeedsMaterialReservedAfterIt(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	r := w.rotator()
	pinned := func() bool {
		rec := w.record(p.Key)
		return rec.NextNumber() == 3 && rec.Latest().Fingerprint != ""
	}
	for !pinned() {
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
	}
	w.now = w.now.Add(time.Second)
	wanted := rotate.Wanted{Actor: "uid 0 (root)", Reason: "leak", Compromise: true}
	if _, _, err := r.Request(context.Background(), p, wanted); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	rec := w.record(p.Key)
	if g := rec.Latest(); g.Number != 3 || g.Finished.IsZero() {
		t.Fatalf("latest generation is %d, want a third, reserved after the request\n%s", g.Number, w.story())
	}
	if rec.Generations[0].State() != key.Compromised || rec.Generations[1].State() != key.Compromised {
		t.Errorf("states %s, %s; want both compromised: the record may be an old copy, and the second in use,",
			rec.Generations[0].State(), rec.Generations[1].State())
	}
	for _, x := range w.vault[weu.URL].key(p.Key).versions {
		if !x.Enabled {
			t.Error("a compromise disabled a version")
		}
	}
}

func TestRequestsJoinAndAreAnsweredByOneRotation(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	ctx, r := context.Background(), w.rotator()
	first, _, err := r.Request(ctx, p, rotate.Wanted{Actor: "uid 1", Reason: "one"})
	if err != nil {
		t.Fatal(err)
	}
	second, joined, err := r.Request(ctx, p, rotate.Wanted{Actor: "uid 2", Reason: "two"})
	if err != nil || !joined || second.ID != first.ID {
		t.Fatalf("second request: %+v joined %v, %v", second, joined, err)
	}
	w.settle(p)
	w.checkDone(p, 2, 0)
	if left := w.record(p.Key).Requests; len(left) != 0 {
		t.Errorf("requests left over: %+v", left)
	}
}

func TestTheBudgetRefusesOneMoreRotationButNotACompromise(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	p.Budget = 1
	w.settle(p)
	ctx, r := context.Background(), w.rotator()
	if _, _, err := r.Request(ctx, p, rotate.Wanted{Actor: "uid 0", Reason: "again"}); key.ClassOf(err) != key.Refused {
		t.Fatalf("a second rotation within the day: %v, want it refused", err)
	}
	if _, _, err := r.Request(ctx, p, rotate.Wanted{Actor: "uid 0", Reason: "leak", Compromise: true}); err != nil {
		t.Fatalf("a compromise: %v", err)
	}
}

func TestAHeldKeyAndARetainedKeyAreLeftAlone(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	if err := w.rotator().Pause(context.Background(), p.Key, "uid 0", "maintenance"); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(100 * time.Hour)
	w.settle(p)
	if n := len(w.record(p.Key).Generations); n != 1 {
		t.Errorf("%d generations while paused", n)
	}
	if err := w.rotator().Resume(context.Background(), p.Key, "uid 0", "done"); err != nil {
		t.Fatal(err)
	}
	p.Retained = true
	w.settle(p)
	if n := len(w.record(p.Key).Generations); n != 1 {
		t.Errorf("%d generations while retained", n)
	}
}

func TestAScheduledRotationWaitsForAClockThatIsWrong(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	w.vault[weu.URL].skew = -10 * time.Minute
	step, err := w.rotator().StepKey(leading(context.Background()), p)
	if err != nil || step.Kind != plan.Wait {
		t.Fatalf("step %+v, %v; want a wait", step, err)
	}
}

func TestAManagedHSMIsRefusedAt95Versions(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	w.settle(p)
	old := w.newPair()
	rec := w.record(p.Key)
	for range 94 {
		x := w.vault[mhsm.URL].add(p.Key, old, nil)
		rec.Known = map[string][]string{mhsm.URL: append(rec.Known[mhsm.URL], x.ID)}
	}
	// keyd makes the generation's own version the newest again.
	vs := w.vault[mhsm.URL].key(p.Key).versions
	w.vault[mhsm.URL].key(p.Key).versions = slices.Concat(vs[1:], vs[:1])
	w.store.records[p.Key] = rec
	w.now = w.now.Add(25 * time.Hour)
	step, err := w.rotator().StepKey(leading(context.Background()), p)
	if err != nil || step.Kind != plan.Wait {
		t.Fatalf("step %+v, %v; want a wait\n%s", step, err, w.story())
	}
}

func TestAHalfMadePairIsAbandonedAndSweptOnce(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	broken := false
	w.strike = func(int, string) fault {
		for _, pairs := range w.hsm.pairs {
			if !broken {
				broken, pairs[0].broken = true, true // the HSM never stored the private half
			}
		}
		return none
	}
	w.settle(p)
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.checkDone(p, 1, 0)
	swept := 0
	for _, e := range w.store.entries {
		if e.Event == chain.Destroyed {
			swept++
		}
	}
	if swept != 1 {
		t.Errorf("swept %d times, want once\n%s", swept, w.story())
	}
}

// Otherwise a series of failed tries fills the HSM.
func TestKeydSweepsTheRestOfAFailedAttemptBeforeTheNext(t *testing.T) {
	for name, c := range map[string]struct{ stuck, most int }{
		"":                                       {0, 1},
		", unless the HSM does not let go of it": {1, 2},
	} {
		t.Run("swept"+name, func(t *testing.T) {
			w := newWorld(t, 1, weu)
			p := policy(weu)
			const tries = 4
			spoilt, most := map[key.ID]bool{}, 0
			w.strike = func(_ int, call string) fault {
				for id, pairs := range w.hsm.pairs {
					if len(spoilt) < tries && len(pairs) > 0 && !spoilt[id] {
						spoilt[id], pairs[0].broken = true, true
					}
				}
				if held := len(w.hsm.pairs); held > most {
					most = held
				}
				if call == "hsm.Destroy" && c.stuck > 0 {
					c.stuck--
					return failBefore
				}
				return none
			}
			w.settle(p)
			w.now = w.now.Add(time.Hour)
			w.settle(p)
			w.checkDone(p, 1, 0)
			if len(spoilt) != tries || most > c.most {
				t.Errorf("after %d failed tries the HSM held up to %d pairs at once, want %d\n%s",
					len(spoilt), most, c.most, w.story())
			}
		})
	}
}

func TestADestructionCutShortByACrashGetsItsResultIntoTheAudit(t *testing.T) {
	for _, at := range []struct {
		call  string
		crash fault
	}{
		{"hsm.Destroy", crashBefore}, {"hsm.Destroy", crashAfter}, {"store.Save abandoned pair destroyed", crashBefore},
	} {
		t.Run(fmt.Sprint(at.call, ", ", at.crash), func(t *testing.T) {
			w := newWorld(t, 1, weu)
			p := policy(weu)
			broken, crashed := false, false
			w.strike = func(_ int, call string) fault {
				for _, pairs := range w.hsm.pairs {
					if !broken {
						broken, pairs[0].broken = true, true
					}
				}
				if call == at.call && !crashed {
					crashed = true
					return at.crash
				}
				return none
			}
			w.settle(p)
			w.now = w.now.Add(time.Hour)
			w.settle(p)
			w.checkDone(p, 1, 0)
			if last := w.store.entries[len(w.store.entries)-1].Event; !crashed || last != "abandoned pair destroyed" {
				t.Errorf("crashed: %v; the last entry is %q\n%s", crashed, last, w.story())
			}
			if begun := w.record(p.Key).Abandoned[0].DestroyBegun; !begun.IsZero() {
				t.Errorf("the destruction still counts as begun: %s", begun)
			}
		})
	}
}

func TestALocalClockThatJumpsAheadEndsNoSettleTime(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	r := w.rotator()
	struck := w.strikeOnce("weu.Import", failBeforeAmbiguous)
	for !*struck {
		_, _ = w.step(r, p)
	}
	w.now = w.now.Add(time.Hour) // the local clock jumps; by the vault's clock no time passed
	w.vault[weu.URL].skew = -time.Hour
	for range 5 {
		if _, err := w.step(r, p); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.record(p.Key).Generations[0].Placements); n != 1 {
		t.Errorf("%d placements, want the first one still open\n%s", n, w.story())
	}
}

func TestAKEKWhoseMakingWasCutShortGetsItsResultIntoTheAudit(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.strikeOnce("weu.CreateKEK", crashAfter)
	w.settle(p)
	w.checkDone(p, 1, 0)
	count := map[chain.Event]int{}
	for _, e := range w.store.entries {
		count[e.Event]++
	}
	if count["key exchange key intended"] != 1 || count["key exchange key made"] != 1 {
		t.Errorf("%d intents and %d results, want one of each", count["key exchange key intended"],
			count["key exchange key made"])
	}
}

// The listing dates from when the key was deleted; the look for deleted keys from before or after that.
func TestAnImportIsNotGivenUpByAListingThatLacksOtherVersions(t *testing.T) {
	w := newWorld(t, 1, mhsm)
	p := policy(mhsm)
	w.settle(p)
	w.now = w.now.Add(25 * time.Hour)
	struck := w.strikeOnce("mhsm.Import", failAfter)
	w.stepUntil(p, func() bool { return *struck })
	w.now = w.now.Add(time.Hour)
	k := w.vault[mhsm.URL].key(p.Key)
	there := k.versions
	k.versions = nil
	if s, err := w.step(w.rotator(), p); err != nil || s.Kind != plan.Hold {
		t.Fatalf("%+v, %v: want a hold", s, err)
	}
	k.versions = there
	if err := w.rotator().Resume(t.Context(), p.Key, "uid 0 (root)", "they are there again"); err != nil {
		t.Fatal(err)
	}
	w.settle(p)
	w.checkDone(p, 2, 0)
}
