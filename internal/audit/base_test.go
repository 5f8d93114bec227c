package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// pairs is an HSM with these ids.
type pairs struct {
	ids []key.ID
	err error
}

func (p *pairs) Inventory(context.Context) (all []key.Object, err error) {
	for _, id := range p.ids {
		all = append(all, key.Object{ID: id})
	}
	return all, p.err
}

func (p *pairs) Find(_ context.Context, id key.ID) ([]key.Object, error) {
	if slices.Contains(p.ids, id) {
		return []key.Object{{ID: id}}, p.err
	}
	return nil, p.err
}

// late returns the pairs that came after the chain began.
func late(t *testing.T, b *Base, of *pairs) (ids []key.ID) {
	t.Helper()
	all, err := b.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		if found, err := b.Find(t.Context(), o.ID); err != nil || len(found) != 1 || found[0].Late != o.Late {
			t.Errorf("Find and Inventory differ: %+v, %v", found, err)
		}
		if o.Late {
			ids = append(ids, o.ID)
		}
	}
	if len(all) != len(of.ids) {
		t.Errorf("%d pairs", len(all))
	}
	return ids
}

func TestThePairsThatTheHSMHadAreRecordedOnceWhenTheChainBegins(t *testing.T) {
	r := newRig(t)
	p := &pairs{ids: []key.ID{"b", "a"}, err: errors.New("the HSM is asleep")}
	if _, err := NewBase(r.store, p, r.clock).Inventory(t.Context()); err == nil {
		t.Error("no error")
	}
	r.wantEvents()
	p.err = nil
	b := NewBase(r.store, p, r.clock)
	if got := late(t, b, p); len(got) != 0 {
		t.Errorf("%q are late at the beginning", got)
	}
	p.ids = append(p.ids, "c")
	if got := late(t, b, p); !slices.Equal(got, []key.ID{"c"}) {
		t.Errorf("%q are late", got)
	}
	if got := late(t, NewBase(r.store, p, r.clock), p); !slices.Equal(got, []key.ID{"c"}) {
		t.Errorf("after a restart %q are late", got)
	}
	r.wantEvents(chain.PairsFound)
}

func TestAnEmptyHSMIsABeginningToo(t *testing.T) {
	r := newRig(t)
	p := &pairs{}
	late(t, NewBase(r.store, p, r.clock), p)
	p.ids = []key.ID{"a"}
	if got := late(t, NewBase(r.store, p, r.clock), p); !slices.Equal(got, []key.ID{"a"}) {
		t.Errorf("%q are late", got)
	}
}

func TestManyPairsAreRecordedInSeveralEntries(t *testing.T) {
	r := newRig(t)
	p := &pairs{}
	for i := range perEntry + 1 {
		p.ids = append(p.ids, key.ID(fmt.Sprintf("%032x", i)))
	}
	late(t, NewBase(r.store, p, r.clock), p)
	r.wantEvents(chain.PairsFound, chain.PairsFound)
	if got := late(t, NewBase(r.store, p, r.clock), p); len(got) != 0 {
		t.Errorf("%d are late after a restart", len(got))
	}
}

// If the record of the beginning fails, keyd does not go on by a guess.
func TestWithoutARecordOfTheBeginningThereIsNoInventory(t *testing.T) {
	r := newRig(t)
	p := &pairs{ids: []key.ID{"a"}}
	if _, err := NewBase(unreadable{r.store}, p, r.clock).Inventory(t.Context()); err == nil {
		t.Error("no error")
	}
}
