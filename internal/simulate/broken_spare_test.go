package simulate

import (
	"context"
	"slices"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

var brokenSpares = []breakage{
	{
		name:   "a promotion is not in the audit",
		caught: `^generation \d+ of \S+ appears in the record after "noted"$`,
		breaks: unsaid(chain.SparePromoted),
	},
	{
		name:   "a spare outlives a compromise",
		caught: `^the spare under \w+ of \S+ is placed, and the key was called compromised while it was one$`,
		breaks: keepSpares(compromises),
		world:  spareWorld,
		first:  16,
	},
	{
		name:   "a spare that was discarded is taken back",
		caught: `^the spare under \w+ of \S+ is placed, and it was discarded$`,
		breaks: keepSpares(func(e chain.Entry) bool { return e.Event == chain.SpareDiscarded }),
		world:  spareWorld,
		first:  47,
	},
	{
		name:   "a promoted spare stays a spare",
		caught: `^the pair under \w+ of \S+ has 2 uses after "spare promoted"$`,
		breaks: keepSpares(func(e chain.Entry) bool { return e.Event == chain.SparePromoted }),
	},
	{
		name:   "a spare goes without an entry that says so",
		caught: `^spare generation \d+ of \S+ is gone from the record after "noted"$`,
		breaks: unsaid(chain.SpareDiscarded),
		world:  spareWorld,
		first:  31,
	},
	{
		name:   "the spares are forgotten",
		caught: `^\S+ has 0 spares in the end, 0 of them ready, and the configuration asks for \d$`,
		misread: func(p key.Policy) key.Policy {
			p.Spares = 0
			return p
		},
	},
}

func compromises(e chain.Entry) bool {
	return e.Event == chain.RotationRequested && e.Fields["compromise"] == "true" && e.Fields["joined"] == "false"
}

// spareWorld has spares for every key.
func spareWorld(w *World) {
	for _, k := range w.keys {
		k.home.Spares, k.policy.Spares = 2, 2
	}
}

// keepSpares leaves the spares in the record when something is saved that takes one out.
func keepSpares(when func(chain.Entry) bool) breaks {
	return everyStore(func(s *store) rotate.Store { return &hoardingStore{s, when} })
}

type hoardingStore struct {
	*store
	when func(chain.Entry) bool
}

func (s *hoardingStore) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	return s.store.Save(ctx, s.hoarded(rec, entries), entries...)
}

func (s *hoardingStore) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	recs = slices.Clone(recs)
	for i := range recs {
		recs[i] = s.hoarded(recs[i], entries[i])
	}
	return s.store.SaveTogether(ctx, recs, entries)
}

func (s *hoardingStore) hoarded(rec record.Record, entries []chain.Entry) record.Record {
	if s.when(entries[0]) {
		rec.Spares = s.load(rec.Key).Spares
		rec.Abandoned = slices.DeleteFunc(slices.Clone(rec.Abandoned), func(a record.AbandonedID) bool {
			return rec.SpareWithID(a.ID) != nil
		})
	}
	return rec
}
