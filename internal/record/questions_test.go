package record_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

func TestTheStageIsOneAnswerForAll(t *testing.T) {
	type stage struct {
		phase              record.Phase
		generation, active int
		missingFrom        []string
		underWay, pending  bool
	}
	for _, c := range []struct {
		name string
		b    func(*book) *book
		want stage
	}{
		{"a new key", none, stage{phase: record.NoGeneration, pending: true}},
		{"reserved", func(b *book) *book { return b.reserve() },
			stage{record.Making, 1, 0, nil, true, true}},
		{"pinned", func(b *book) *book { return b.pin() },
			stage{record.Placing, 1, 0, nil, true, true}},
		{"sent to one vault", func(b *book) *book { return b.pin().intend(1, weu) },
			stage{record.Placing, 1, 0, nil, true, true}},
		{"active in one of two vaults", func(b *book) *book { return b.pin().prove(1, weu) },
			stage{record.Placing, 1, 0, []string{neu}, true, true}},
		{"finished", func(b *book) *book { return b.rotate() },
			stage{record.Finished, 1, 1, nil, false, false}},
		{"finished, one vault was left out", func(b *book) *book { return b.pin(neu).prove(1, weu).finish(1) },
			stage{record.Finished, 1, 1, []string{neu}, false, true}},
		{"the next one is under way", func(b *book) *book { return b.rotate().pin().prove(2, weu) },
			stage{record.Placing, 2, 1, []string{neu}, true, true}},
		{"the pair of the next one is lost, which was adopted with one vault done", func(b *book) *book {
			b.rotate().pin().prove(2, weu).LosePair(b.clock, 2)
			return b
		}, stage{record.Ended, 2, 1, []string{neu}, false, false}},
		{"compromised while it was placed", func(b *book) *book {
			return b.rotate().pin().prove(2, weu).ask("q", true)
		}, stage{record.Ended, 2, 1, []string{neu}, false, false}},
		{"discarded before it had a pair", func(b *book) *book { return b.rotate().reserve().ask("q", true) },
			stage{record.Finished, 1, 1, nil, false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.b(newBook(t))
			s := b.Stage(b.policy)
			got := stage{s.Phase, s.Generation, s.Active, s.MissingFrom, s.UnderWay(), s.Pending}
			if got.phase != c.want.phase || got.generation != c.want.generation || got.active != c.want.active ||
				!slices.Equal(got.missingFrom, c.want.missingFrom) || got.underWay != c.want.underWay ||
				got.pending != c.want.pending {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if s.UnderWay() == s.Since.IsZero() || s.Partial() != (len(c.want.missingFrom) > 0) {
				t.Errorf("since %s, partial %v: that contradicts the rest", s.Since, s.Partial())
			}
		})
	}
}

func TestOnlyAUsableGenerationIsMissing(t *testing.T) {
	for _, c := range []struct {
		name string
		b    func(*book) *book
		want int // in neu; 0: none
	}{
		{"pinned", func(b *book) *book { return b.pin() }, 1},
		{"not pinned", func(b *book) *book { return b.reserve() }, 0},
		{"left out", func(b *book) *book { return b.pin(neu) }, 0},
		{"left out, and finished", func(b *book) *book { return b.pin(neu).prove(1, weu).finish(1) }, 1},
		{"there already", func(b *book) *book { return b.rotate() }, 0},
		{"an attempt is open", func(b *book) *book { return b.pin().intend(1, neu) }, 0},
		{"compromised", func(b *book) *book { return b.pin().ask("q", true) }, 0},
		{"two, the oldest first", func(b *book) *book {
			return b.pin(neu).prove(1, weu).finish(1).pin(neu).prove(2, weu).finish(2)
		}, 1},
		{"older than what is there", func(b *book) *book {
			return b.pin(neu).prove(1, weu).finish(1).pin().prove(2, weu).prove(2, neu).finish(2)
		}, 0},
	} {
		b := c.b(newBook(t))
		got := 0
		if g := b.Missing(b.policy, neu); g != nil {
			got = g.Number
		}
		if got != c.want {
			t.Errorf("%s: generation %d, want %d", c.name, got, c.want)
		}
	}
}

func TestARetirablePlacementIsOlderThanTheNewestAndActiveNowhere(t *testing.T) {
	b := newBook(t).rotate()
	if list := b.Retirable(weu); len(list) != 0 {
		t.Errorf("one generation: %v", list)
	}
	b.rotate()
	list := b.Retirable(weu)
	if len(list) != 1 || list[0].Attempt != attempt(1) || !list[0].Since.Equal(b.Generation(1).Deactivated) {
		t.Fatalf("two generations: %+v", list)
	}
	b.Placement(attempt(3)).Created = b.clock.Add(48 * time.Hour)
	if since := b.Retirable(weu)[0].Since; !since.Equal(b.clock.Add(48 * time.Hour)) {
		t.Errorf("the vault made the later version at a later time than the local clock tells: since %s", since)
	}
}

func TestAVersionBelongsToItsMaterialBeforeItsTag(t *testing.T) {
	b := newBook(t).rotate().rotate()
	tagged := key.Version{ID: version(9), Tags: map[string]string{key.TagAttempt: string(attempt(1))}}
	if g, byMaterial := b.Owner(print(2), tagged); g == nil || g.Number != 2 || !byMaterial {
		t.Errorf("by material: %v, %v", g, byMaterial)
	}
	if g, byMaterial := b.Owner("", tagged); g == nil || g.Number != 1 || byMaterial {
		t.Errorf("by tag: %v, %v", g, byMaterial)
	}
	if g, _ := b.Owner("sha256:other", key.Version{ID: version(9)}); g != nil {
		t.Errorf("of nobody: %v", g)
	}
}

func TestAnAcceptedVersionIsNotForeignUntilItIsDisowned(t *testing.T) {
	b := newBook(t).rotate()
	shown := []key.Version{{ID: version(1)}, {ID: "foreign"}}
	if f := b.Foreign(weu, shown); len(f) != 1 || f[0].ID != "foreign" {
		t.Errorf("foreign: %v", f)
	}
	b.Accept(weu, "foreign")
	if f := b.Foreign(weu, shown); len(f) != 0 || !b.Adopted(weu, "foreign") {
		t.Errorf("after it was accepted: %v", f)
	}
	b.Disown(weu, "foreign")
	if f := b.Foreign(weu, shown); len(f) != 1 {
		t.Errorf("after it was disowned: %v", f)
	}
}

func TestAClockThatRanAheadDoesNotPutOffTheNextRotation(t *testing.T) {
	b := newBook(t).rotate()
	real := b.Generation(1).Reserved
	b.Generation(1).Reserved = real.Add(1000 * time.Hour)
	if got := b.LastRotation(); got.After(real.Add(time.Hour)) {
		t.Errorf("the last rotation was %s, although a vault has its version since %s", got, real)
	}
}

func TestARecordOfSchema1IsReadAsSchema2(t *testing.T) {
	old := `{"schema":1,"key":"k","lifted":"2026-01-01T00:00:00Z","generations":[{"number":1,"placements":[
		{"attempt":"a","state":"refuted","lifted":true},
		{"attempt":"b","state":"refuted"},
		{"attempt":"c","state":"superseded","disable_begun":"2026-01-02T00:00:00Z"},
		{"attempt":"d","state":"superseded"},
		{"attempt":"e","state":"disabled"},
		{"attempt":"f","state":"active","lifted":false}]}]}`
	all, err := record.FromSchema1(map[string]json.RawMessage{"k": json.RawMessage(old)})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	b := all["k"]
	var r record.Record
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	for attempt, want := range map[key.ID]key.PlacementState{
		"a": key.Lifted, "b": key.Refuted, "c": key.Disabling, "d": key.Superseded, "e": key.Disabled, "f": key.Proven,
	} {
		if got := r.Placement(attempt).State; got != want {
			t.Errorf("%s is %s, want %s", attempt, got, want)
		}
	}
	if r.Schema != record.SchemaVersion || r.HoldLifted.IsZero() || r.Placement("c").DisableBegun.IsZero() {
		t.Errorf("%+v", r)
	}
	if _, err := record.FromSchema1(map[string]json.RawMessage{"k": json.RawMessage("[")}); err == nil {
		t.Error("what is no record was read")
	}
}

func TestAListingBeforeTheSettleTimeIsNotTrusted(t *testing.T) {
	vault := key.Vault{URL: weu, Kind: key.KeyVault}
	b := newBook(t).pin().prove(1, weu)
	created := b.Placement(attempt(1)).Created
	for after, want := range map[time.Duration]bool{119 * time.Second: false, 2 * time.Minute: true} {
		seen := record.VaultSeen{Begun: created.Add(after), SkewSeen: true}
		if got := seen.Missing(&b.Record, vault).Found(); got != want {
			t.Errorf("%s after it was made: missing %v", after, got)
		}
	}
}
