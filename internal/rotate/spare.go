package rotate

import (
	"context"
	"fmt"
	"strconv"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
)

// reserveSpare records a new spare with a fresh id. Its pair is made and pinned as that of any generation.
func (r *Rotator) reserveSpare(ctx context.Context, a act) (record.Record, error) {
	id, err := r.HSM.NewID(ctx)
	if err != nil {
		return a.rec, err
	}
	s, err := a.rec.ReserveSpare(r.now(), a.policy, id)
	if err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.SpareReserved, generationFields(s, map[string]string{"spec": string(s.Spec)}))
}

// promote begins a rotation with a spare: from here on it is a generation as any other, with its pair made.
func (r *Rotator) promote(ctx context.Context, a act) (record.Record, error) {
	g, err := a.rec.Promote(r.now(), a.policy, a.step.Generation, reservation(a.step.Trigger))
	if err != nil {
		return a.rec, err
	}
	return r.saveAs(ctx, a.rec, a.step.Trigger.Requester, chain.SparePromoted, reservedFields(g))
}

// discardSpare gives a spare up that no longer fits the policy.
func (r *Rotator) discardSpare(ctx context.Context, a act) (record.Record, error) {
	s := a.rec.Spare(a.step.Generation)
	if s == nil {
		return a.rec, fmt.Errorf("the record of %s has no spare generation %d", a.rec.Key, a.step.Generation)
	}
	fields := generationFields(s, map[string]string{"why": a.step.Why})
	if err := a.rec.DiscardSpare(r.now(), s.Number, a.step.Why); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.SpareDiscarded, fields)
}

// discarded are the entries of the spares that a compromise discards, in the transaction that records it.
func discarded(spares []record.Pair) (entries []chain.Entry) {
	for _, s := range spares {
		entries = append(entries, chain.Entry{Event: chain.SpareDiscarded, Actor: "keyd",
			Fields: withFields(map[string]string{"generation": strconv.Itoa(s.Generation), "id": string(s.ID),
				"fingerprint": string(s.Fingerprint), "why": record.DiscardedByCompromise}, nil)})
	}
	return entries
}
