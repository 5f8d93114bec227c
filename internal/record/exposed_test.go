package record_test

import (
	"errors"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// leaked is a key whose two generations are in weu, and compromised.
func leaked(t *testing.T) *book {
	b := newBook(t)
	b.policy.Vaults = b.policy.Vaults[:1]
	return b.pin().prove(1, weu).finish(1).pin().prove(2, weu).finish(2).ask("c1", true)
}

// shown is a look at weu that shows each version that the record has there as enabled.
func shown(b *book) *record.Observation {
	var versions []key.Version
	for _, at := range b.Imported(weu) {
		versions = append(versions, key.Version{ID: at.Version, Enabled: true})
	}
	return &record.Observation{Vaults: map[string]record.VaultSeen{weu: {Versions: versions}}}
}

func TestEveryEnabledVersionOfCompromisedMaterialIsExposed(t *testing.T) {
	b := leaked(t)
	if got := b.Exposed(nil); len(got) != 2 || got[0].Generation != 1 {
		t.Errorf("before a look: %+v", got)
	}
	if got := b.Exposed(shown(b)); len(got) != 2 || !b.ExposedIn(weu, nil) || b.ExposedIn(neu, nil) {
		t.Errorf("after a look: %+v", got)
	}
}

func TestAVersionThatALookShowsAsDisabledIsNotExposed(t *testing.T) {
	b := leaked(t)
	seen := shown(b)
	seen.Vaults[weu].Versions[0].Enabled = false
	if got := b.Exposed(seen); len(got) != 1 || got[0].Generation != 2 {
		t.Errorf("%+v, want generation 2 alone", got)
	}
	seen.Vaults[weu] = record.VaultSeen{Err: errors.New("no answer")}
	if got := b.Exposed(seen); len(got) != 2 {
		t.Errorf("%+v of a vault that does not answer, want both", got)
	}
}

func TestAnAcknowledgedVersionIsNotExposedUntilTheNextCompromise(t *testing.T) {
	b := leaked(t)
	seen := shown(b)
	seen.Vaults[weu].Versions[0].Enabled = false
	b.Acknowledge(b.clock, seen)
	if got := b.Exposed(seen); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	seen.Vaults[weu].Versions[0].Enabled = true
	if got := b.Exposed(seen); len(got) != 1 || got[0].Generation != 1 {
		t.Errorf("%+v, want generation 1, which was disabled then and is enabled again", got)
	}
	b.pin().prove(3, weu).finish(3).ask("c2", true)
	if got := b.Exposed(nil); len(got) != 2 || got[1].Generation != 3 {
		t.Errorf("%+v, want generation 3, too", got)
	}
}

func TestMaterialThatIsNotCompromisedIsNotExposed(t *testing.T) {
	b := newBook(t)
	b.rotate()
	if got := b.Exposed(nil); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
