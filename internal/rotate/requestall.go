package rotate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/words"
)

// RequestAll requests a rotation of several keys, each as Wanted says. If keyd refuses one of them, it records none.
// The refusal names every key that is refused. What one change of the store cannot hold is recorded in parts, in the
// order of the keys: if a later part fails, the error is a *PartlyError.
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
	if n, err := all.save(ctx); err != nil {
		return nil, all.partly(n, err)
	}
	return all.asked, all.waiting()
}

// save records the requests, in parts if the store cannot hold them in one change. saved counts those of an error.
func (t *together) save(ctx context.Context) (saved int, err error) {
	changed := "" // the key to prepare again; "": all
	err = tryChange(t.names(), func() (save func() error, err error) {
		if err := t.prepare(ctx, changed); err != nil {
			return nil, err
		}
		return func() error {
			killpoint.At("save-before " + string(chain.RotationRequested))
			if err := t.r.Store.SaveTogether(ctx, t.recs, t.entries); err != nil {
				changed = whichChanged(err)
				return err
			}
			killpoint.At("save-after " + string(chain.RotationRequested))
			return nil
		}, nil
	})
	if !tooMuch(err) || len(t.policies) == 1 {
		return 0, err
	}
	half := len(t.policies) / 2
	if n, err := t.part(0, half).save(ctx); err != nil {
		return n, err
	}
	n, err := t.part(half, len(t.policies)).save(ctx)
	return half + n, err
}

// part is the requests for some of the keys, which it shares with t.
func (t *together) part(from, to int) *together {
	p := *t
	p.policies, p.wanted, p.asked, p.proposed = t.policies[from:to], t.wanted[from:to], t.asked[from:to],
		t.proposed[from:to]
	p.recs, p.entries = t.recs[from:to], t.entries[from:to]
	return &p
}

// tooMuch reports whether one change of the store cannot hold what was to be saved, though less may fit.
func tooMuch(err error) bool {
	var much interface{ TooMuch() bool }
	return errors.As(err, &much) && much.TooMuch()
}

// PartlyError says that requests for some of the keys are recorded, and those for the others are not.
type PartlyError struct {
	Recorded, Left []string // names of keys
	Err            error
}

func (e *PartlyError) Error() string {
	return fmt.Sprintf("%v. The requests for %s are recorded, up to %s. Ask for the others again, from %s on",
		e.Err, words.Count(len(e.Recorded), "key"), e.Recorded[len(e.Recorded)-1], e.Left[0])
}

// Unwrap returns why the others are not recorded.
func (e *PartlyError) Unwrap() error { return e.Err }

// partly is the error after the requests for so many keys were recorded.
func (t *together) partly(saved int, err error) error {
	if saved == 0 {
		return err
	}
	names := make([]string, len(t.policies))
	for i, p := range t.policies {
		names[i] = p.Key
	}
	return &PartlyError{Recorded: names[:saved], Left: names[saved:], Err: err}
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
