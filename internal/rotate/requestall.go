package rotate

import (
	"context"
	"errors"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/words"
)

// RequestAll requests a rotation of several keys, each as Wanted says. If keyd refuses one of them, or cannot record
// one, it records none. The refusal names every key that is refused.
func (r *Rotator) RequestAll(ctx context.Context, policies []key.Policy, wanted []Wanted) ([]Asked, error) {
	return r.requestAll(ctx, r.asking(ctx), policies, wanted)
}

func (r *Rotator) requestAll(ctx context.Context, g *gate, policies []key.Policy, wanted []Wanted) ([]Asked, error) {
	all := &together{r: r, policies: policies, wanted: wanted, asked: make([]Asked, len(policies)),
		gate: *g, proposed: make([]*key.Proposal, len(policies)),
		recs: make([]record.Record, len(policies)), entries: make([][]chain.Entry, len(policies))}
	if len(policies) == 0 {
		return nil, nil
	}
	changed := "" // the key to prepare again; "": all
	err := tryChange(all.names(), func() (save func() error, err error) {
		if err := all.prepare(ctx, changed); err != nil {
			return nil, err
		}
		return func() error {
			killpoint.At("save-before " + string(chain.RotationRequested))
			if err := r.Store.SaveTogether(ctx, all.recs, all.entries); err != nil {
				changed = whichChanged(err)
				return err
			}
			killpoint.At("save-after " + string(chain.RotationRequested))
			return nil
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return all.asked, all.waiting()
}

// whichChanged is the key whose record somebody else changed meanwhile; "" if the store does not say.
func whichChanged(err error) string {
	var conflict interface{ Changed() string }
	if errors.As(err, &conflict) {
		return conflict.Changed()
	}
	return ""
}

// together is the requests for several keys, prepared to be saved at once.
type together struct {
	r        *Rotator
	policies []key.Policy
	wanted   []Wanted
	asked    []Asked
	gate     gate            // each key passes a copy
	proposed []*key.Proposal // nil of a key whose request needs no second operator
	recs     []record.Record
	entries  [][]chain.Entry
}

// waiting says which requests wait for a second operator; nil for none.
func (t *together) waiting() error {
	var list []key.Proposal
	for _, p := range t.proposed {
		if p != nil {
			list = append(list, *p)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &ProposedError{list}
}

func (t *together) names() string {
	if len(t.policies) == 1 {
		return "key " + t.policies[0].Key
	}
	return words.Count(len(t.policies), "key")
}

// prepare works out the change of one key's record, or with "" of every one.
func (t *together) prepare(ctx context.Context, only string) error {
	var refused []string
	for i, p := range t.policies {
		if only != "" && p.Key != only {
			continue
		}
		err := t.prepareOne(ctx, i)
		if reason, no := IsRefused(err); no {
			refused = append(refused, reason)
		} else if err != nil {
			return err
		}
	}
	if len(refused) > 0 {
		return &RefusedError{Reason: strings.Join(refused, "\n")}
	}
	return nil
}

func (t *together) prepareOne(ctx context.Context, i int) error {
	p, w := t.policies[i], t.wanted[i]
	if err := sensible(p, w); err != nil {
		return err
	}
	rec, err := t.r.load(ctx, p.Key)
	if err != nil {
		return err
	}
	rec = rec.Clone()
	g := t.gate
	asked, entries, err := t.r.request(&g, p, w, &rec)
	if err != nil {
		return err
	}
	t.proposed[i] = g.proposed
	now := t.r.now()
	for j := range entries {
		entries[j].Time, entries[j].Key = now, rec.Key
	}
	t.asked[i], t.recs[i], t.entries[i] = asked, rec, entries
	return nil
}
