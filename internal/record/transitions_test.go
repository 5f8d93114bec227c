package record_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Each transition refuses what the record does not permit, gives the reason, and changes nothing.
func TestATransitionRefusesWhatTheRecordDoesNotPermit(t *testing.T) {
	for _, c := range []struct {
		name string
		from func(*book) *book
		do   func(*book) error
		why  string
	}{
		{"reserve beside a generation under way", func(b *book) *book { return b.pin() }, func(b *book) error {
			_, err := b.Reserve(b.clock, b.policy, record.Reservation{ID: "f"})
			return err
		}, "still under way"},
		{"reserve under an id that was used", func(b *book) *book { return b.rotate() }, func(b *book) error {
			_, err := b.Reserve(b.clock, b.policy, record.Reservation{ID: b.Latest().ID})
			return err
		}, "was used before"},
		{"generate twice", func(b *book) *book { return b.pin() }, func(b *book) error {
			_, err := b.BeginGenerate(b.clock, 1)
			return err
		}, "already begun"},
		{"generate for a generation that is not there", none, func(b *book) error {
			_, err := b.BeginGenerate(b.clock, 1)
			return err
		}, "no generation 1"},
		{"give up the id of a pinned pair", func(b *book) *book { return b.pin() }, func(b *book) error {
			return b.AbandonID(b.clock, 1, "f", "a test")
		}, "is pinned"},
		{"pin nothing", func(b *book) *book { return b.reserve() }, func(b *book) error {
			_, err := b.Pin(b.clock, 1, "")
			return err
		}, "without a fingerprint"},
		{"pin twice", func(b *book) *book { return b.pin() }, func(b *book) error {
			_, err := b.Pin(b.clock, 1, print(9))
			return err
		}, "pinned already"},
		{"pin the material of another generation", func(b *book) *book { return b.rotate().reserve() },
			func(b *book) error {
				_, err := b.Pin(b.clock, 2, print(1))
				return err
			}, "the same pair"},
		{"destroy the pair of a generation", func(b *book) *book { return b.pin() }, func(b *book) error {
			return b.BeginDestroy(b.clock, b.Latest().ID)
		}, "does not destroy it"},
		{"destroy under an id that was never given up", none, func(b *book) error {
			return b.BeginDestroy(b.clock, "f")
		}, "never given up"},
		{"import what is not pinned", func(b *book) *book { return b.reserve() }, importing(1), "may not be imported"},
		{"import what is compromised", func(b *book) *book { return b.rotate().ask("q", true) }, importing(1),
			"may not be imported"},
		{"import what is lost in the HSM", lost, importing(1), "may not be imported"},
		{"use an attempt twice", func(b *book) *book { return b.pin().intend(1, weu) }, func(b *book) error {
			return b.Intend(1, record.Placement{Attempt: attempt(1), Vault: weu})
		}, "was used before"},
		{"land what is proven", func(b *book) *book { return b.pin().prove(1, weu) }, func(b *book) error {
			return b.Land(b.clock, attempt(1), key.Version{ID: version(9)})
		}, "is active"},
		{"void what landed", func(b *book) *book { return b.pin().land(1, weu) }, func(b *book) error {
			return b.Void(attempt(1), "a test")
		}, "is imported"},
		{"prove what did not land", func(b *book) *book { return b.pin().intend(1, weu) }, func(b *book) error {
			return b.Prove(b.clock, attempt(1))
		}, "is intended"},
		{"refute what is proven", func(b *book) *book { return b.pin().prove(1, weu) }, func(b *book) error {
			return b.Refute(attempt(1), "a test")
		}, "is active"},
		{"prove an attempt that is not there", none, func(b *book) error {
			return b.Prove(b.clock, attempt(9))
		}, "no import attempt"},
		{"alias an attempt that is not there", none, func(b *book) error {
			return b.Alias(b.clock, attempt(9), record.FoundVersion{})
		}, "no import attempt"},
		{"finish what one vault lacks", func(b *book) *book { return b.pin().prove(1, weu) }, func(b *book) error {
			_, err := b.Finish(b.clock, b.policy, 1)
			return err
		}, "not active in every vault"},
		{"finish twice", func(b *book) *book { return b.rotate() }, func(b *book) error {
			_, err := b.Finish(b.clock, b.policy, 1)
			return err
		}, "finished already"},
		{"disable the newest", func(b *book) *book { return b.rotate() }, func(b *book) error {
			return b.BeginDisable(attempt(1), version(1), b.moment())
		}, "is active"},
		{"disable what is refuted", func(b *book) *book {
			b.pin().land(1, weu)
			return b.ok(b.Refute(attempt(1), "a test"))
		}, func(b *book) error {
			return b.BeginDisable(attempt(1), version(1), b.moment())
		}, "is refuted"},
		{"land as disabled what was never given up", func(b *book) *book { return b.pin().land(1, weu) },
			func(b *book) error { return b.LandDisabled(b.clock, attempt(1)) }, "is imported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.from(newBook(t))
			before := b.Clone()
			refused(t, c.do(b), c.why)
			if !reflect.DeepEqual(before, b.Record) {
				t.Errorf("the record was changed all the same:\n%+v\n%+v", before, b.Record)
			}
		})
	}
}

func none(b *book) *book { return b }

func lost(b *book) *book {
	b.rotate().LosePair(b.clock, 1)
	return b
}

func importing(n int) func(*book) error {
	return func(b *book) error { return b.Intend(n, record.Placement{Attempt: attempt(99), Vault: weu}) }
}

func state(b *book, n int) key.PlacementState { return b.Placement(attempt(n)).State }

func TestAProofSupersedesWhatWasActiveInThatVaultOnly(t *testing.T) {
	b := newBook(t).rotate().pin().prove(2, weu)
	if state(b, 1) != key.Superseded || state(b, 2) != key.Proven || state(b, 3) != key.Proven {
		t.Errorf("weu %s, neu %s, the new one %s", state(b, 1), state(b, 2), state(b, 3))
	}
	if !b.Generation(1).Deactivated.IsZero() {
		t.Error("generation 1 is active in neu still, and was deactivated")
	}
	b.prove(2, neu).finish(2)
	if b.Generation(1).Deactivated.IsZero() || b.Generation(1).State() != key.Deactivated {
		t.Errorf("generation 1 is %s, want it deactivated", b.Generation(1).State())
	}
}

func TestAnEarlierPlacementThatIsProvenLateDoesNotBecomeTheActiveOne(t *testing.T) {
	b := newBook(t).pin().land(1, weu).prove(1, weu)
	b.ok(b.Prove(b.clock, attempt(1)))
	if state(b, 1) != key.Superseded || state(b, 2) != key.Proven {
		t.Errorf("the first is %s, the second %s", state(b, 1), state(b, 2))
	}
}

func TestAnAttemptThatWasGivenUpCanStillLand(t *testing.T) {
	b := newBook(t).pin().intend(1, weu)
	b.ok(b.Void(attempt(1), "a test"))
	b.ok(b.Land(b.clock, attempt(1), key.Version{ID: version(1)}))
	if at := b.Placement(attempt(1)); at.State != key.Imported || at.Detail != "" {
		t.Errorf("%+v", at.Placement)
	}
}

func TestADisablingEndsAsDoneOrAborted(t *testing.T) {
	begun := func(t *testing.T) *book {
		b := newBook(t).rotate().rotate()
		begun := b.moment()
		b.ok(b.BeginDisable(attempt(1), version(1), begun))
		if open := b.Disablings(weu); len(open) != 1 || !slices.Equal(open[0].Versions, []string{version(1)}) ||
			b.LastDisabling != begun {
			t.Fatalf("open %+v, last at %+v", open, b.LastDisabling)
		}
		return b
	}
	b := begun(t)
	b.ok(b.Disable(attempt(1), b.clock, nil))
	if at := b.Placement(attempt(1)); at.State != key.Disabled || at.DisabledAt.IsZero() || !at.DisableBegun.IsZero() {
		t.Errorf("done: %+v", at.Placement)
	}
	b = begun(t)
	b.ok(b.AbortDisable(attempt(1)))
	if at := b.Placement(attempt(1)); at.State != key.Superseded || at.DisableBegun.IsZero() {
		t.Errorf("aborted: %+v", at.Placement)
	}
	if state(b, 2) != key.Superseded {
		t.Errorf("the placement in the other vault is %s", state(b, 2))
	}
}

// twins is a record in which generation 1 has a version and its duplicate in weu, both superseded.
func twins(t *testing.T) *book {
	b := newBook(t).rotate()
	b.alias(1, key.Version{ID: version(9), Enabled: true})
	return b.rotate()
}

func TestAPlacementIsDisabledOnlyOnceAllItsVersionsAre(t *testing.T) {
	b := twins(t)
	b.ok(b.BeginDisable(attempt(1), version(1), b.moment())).ok(b.Disable(attempt(1), b.clock, nil))
	at := b.Placement(attempt(1))
	if left := b.StillEnabled(attempt(1)); at.State != key.Superseded || !slices.Equal(left, []string{version(9)}) {
		t.Fatalf("with one version still enabled it is %s, and %v is left", at.State, left)
	}
	if slices.ContainsFunc(b.Provable(), func(p record.Placed) bool { return p.Attempt == attempt(1) }) {
		t.Error("its disabled version is to be proven")
	}
	refused(t, b.BeginDisable(attempt(1), version(1), b.moment()), "no enabled version")
	b.ok(b.BeginDisable(attempt(1), version(9), b.moment())).ok(b.Disable(attempt(1), b.clock, nil))
	if at := b.Placement(attempt(1)); at.State != key.Disabled || len(at.DisabledVersions) > 0 {
		t.Errorf("in the end it is %+v", at.Placement)
	}
}

func TestADuplicateThatConsumersFollowBecomesAPlacementThatIsToBeProven(t *testing.T) {
	duplicate := func(b *book, newest bool) record.FoundVersion {
		return record.FoundVersion{Vault: key.Vault{Name: "weu", URL: weu}, Newest: newest,
			Version: key.Version{ID: version(9), Created: b.clock, Enabled: true}}
	}
	b := newBook(t).rotate()
	b.ok(b.Alias(b.clock, attempt(1), duplicate(b, true)))
	at := b.NewestIn(weu)
	if at.Version != version(9) || at.State != key.Imported || at.Cause != key.CauseDuplicate {
		t.Errorf("the newest: %+v", at.Placement)
	}
	b.ok(b.Prove(b.clock, at.Attempt))
	if state(b, 1) != key.Superseded {
		t.Errorf("once it is proven, the one before is %s", state(b, 1))
	}
	gone := newBook(t).rotate()
	gone.ok(gone.Alias(gone.clock, attempt(1), duplicate(gone, true)))
	gone.LoseVersion(gone.NewestIn(weu).Attempt)
	for name, b := range map[string]*book{
		"not the newest":             newBook(t).rotate(),
		"of an older generation":     newBook(t).rotate().rotate(),
		"of a compromised one":       newBook(t).rotate().ask("q", true),
		"of what was refuted before": newBook(t).pin().land(1, weu).refute(),
		"that was given up as gone":  gone,
	} {
		b.ok(b.Alias(b.clock, attempt(1), duplicate(b, name != "not the newest")))
		if aliases := b.Placement(attempt(1)).Aliases; !slices.Equal(aliases, []string{version(9)}) {
			t.Errorf("a duplicate %s: aliases %v", name, aliases)
		}
	}
}

func TestADuplicateThatConsumersFollowIsAdoptedAsAPlacementThatIsToBeProven(t *testing.T) {
	b := newBook(t).rotate()
	before := b.Clone()
	b.AdoptVersion(b.clock, &before, 1, record.FoundVersion{Vault: b.policy.Vaults[0], Newest: true,
		Version: key.Version{ID: version(9), Created: b.clock, Enabled: true}})
	if at := b.NewestIn(weu); at.Version != version(9) || at.State != key.Imported || at.Cause != key.CauseAdopted {
		t.Errorf("the newest: %+v", at.Placement)
	}
}

func TestAnEnabledDuplicateReopensADisabledPlacement(t *testing.T) {
	disabled := func() *book {
		b := newBook(t).rotate().rotate()
		b.ok(b.BeginDisable(attempt(1), version(1), b.moment()))
		return b.ok(b.Disable(attempt(1), b.clock, nil))
	}
	b := disabled()
	b.alias(1, key.Version{ID: version(9), Enabled: true})
	if left := b.StillEnabled(attempt(1)); state(b, 1) != key.Superseded || !slices.Equal(left, []string{version(9)}) {
		t.Errorf("it is %s, and %v is enabled", state(b, 1), left)
	}
	b = disabled()
	b.alias(1, key.Version{ID: version(9)})
	if state(b, 1) != key.Disabled {
		t.Errorf("with a duplicate that is disabled it is %s", state(b, 1))
	}
}

func TestACompromiseMarksAllMaterialAndDisablesNothing(t *testing.T) {
	b := newBook(t).rotate().reserve().ask("q", true)
	if b.Generation(1).Compromised.IsZero() || state(b, 1) != key.Proven {
		t.Errorf("generation 1 is %s, its placement %s", b.Generation(1).State(), state(b, 1))
	}
	if g := b.Generation(2); g.Discarded.IsZero() || !g.Compromised.IsZero() || len(b.Abandoned) != 1 {
		t.Errorf("generation 2 had no pair: discarded %s, abandoned %v", g.Discarded, b.Abandoned)
	}
	if b.Current() != nil {
		t.Error("something is under way still")
	}
}

func TestARequestIsAnsweredByARotationThatIsPlacedNowhereYet(t *testing.T) {
	for _, c := range []struct {
		name string
		b    func(*book) *book
		want bool
	}{
		{"reserved", func(b *book) *book { return b.reserve() }, true},
		{"pinned", func(b *book) *book { return b.pin() }, true},
		{"placed in one vault", func(b *book) *book { return b.pin().intend(1, weu) }, false},
		{"finished", func(b *book) *book { return b.rotate() }, false},
		{"for other vaults", func(b *book) *book { return b.pin(neu) }, false},
	} {
		b := c.b(newBook(t)).ask("q", false)
		if got := b.Latest().Answers("q"); got != c.want {
			t.Errorf("%s: answered %v", c.name, got)
		}
	}
	b := newBook(t).ask("q", false).rotate()
	if len(b.Requests) != 0 {
		t.Errorf("after the rotation for them these are pending: %v", b.Requests)
	}
}

func TestALaterRequestMayLeaveOutVaultsOfARotationUnderWay(t *testing.T) {
	b := newBook(t).pin().prove(1, weu).ask("q", false, neu)
	if !b.Latest().LeavesOut(b.policy, neu) || !b.Latest().Everywhere(b.policy) {
		t.Errorf("left out: %v", b.Latest().Without)
	}
}

func TestALiftedHoldIsRememberedAndARetryLiftsRefutations(t *testing.T) {
	b := newBook(t).pin().land(1, weu)
	b.ok(b.Refute(attempt(1), "a test"))
	b.Lift(b.clock)
	if !b.HoldLifted.IsZero() {
		t.Error("there was no hold to lift")
	}
	b.Hold = &key.Hold{Code: key.HoldRefuted}
	b.Lift(b.clock)
	b.Retry()
	if b.Hold != nil || b.HoldLifted.IsZero() || state(b, 1) != key.Lifted || b.RefutedIn(weu).Found() {
		t.Errorf("hold %v, lifted %s, placement %s", b.Hold, b.HoldLifted, state(b, 1))
	}
	if b.Missing(b.policy, weu) == nil {
		t.Error("the generation is not to be tried there again")
	}
}

func TestACloneSharesNothing(t *testing.T) {
	b := newBook(t).rotate().ask("q", false, neu)
	b.Accept(weu, version(9))
	b.Hold = &key.Hold{Code: key.HoldPaused}
	before := b.Clone()
	c := b.Clone()
	c.Generation(1).Placements[0].State = key.Void
	c.Requests[0].Without[0], c.Known[weu][0], c.Hold.Code = "x", "x", "x"
	if !reflect.DeepEqual(before, b.Record) {
		t.Error("a change of the clone changed the record")
	}
}

// An old copy of the state may be held for another reason than being behind.
func TestAGenerationReservedByAnOldCopyGetsANewIDWhenUnknownPairsAreFound(t *testing.T) {
	const old, fresh = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	for behind, want := range map[bool]key.ID{false: old, true: fresh} {
		r := record.Record{Key: "k", Hold: &key.Hold{Code: key.HoldNameTaken}}
		if _, err := r.Reserve(time.Now(), key.Policy{Spec: key.RSA2048}, record.Reservation{ID: old}); err != nil {
			t.Fatal(err)
		}
		_, err := r.DiscardOvertaken(time.Now(), behind, func() (key.ID, error) { return fresh, nil })
		if got := r.Latest().ID; err != nil || got != want || r.GaveUp(old) != behind {
			t.Errorf("behind %v: the id is %s, want %s; %v", behind, got, want, err)
		}
	}
}
