package record

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Joinable returns the pending request that a new one may join, because one rotation answers both: no generation was
// reserved for the pending request yet or, without a compromise, that generation was not imported yet.
func (r *Record) Joinable(compromise bool, without []string) (q key.Request, ok bool) {
	for _, pending := range r.Requests {
		late := func(g *Generation) bool { return g.Answers(pending.ID) && (compromise || g.Placed()) }
		if (pending.Compromise || !compromise) && SameVaults(pending.Without, without) && r.find(late) == nil {
			return pending, true
		}
	}
	return q, false
}

// Ask adds a request for a rotation. A rotation whose material was not imported yet answers it. Only material reserved
// from now on answers a compromise, which makes all that was reserved before unfit, and discards every spare.
func (r *Record) Ask(q key.Request, newID NewID) error {
	r.Requests = append(r.Requests, q)
	if q.Compromise {
		return r.compromise(q.At, newID)
	}
	if g := r.Latest(); g != nil && g.Finished.IsZero() && g.Compromised.IsZero() {
		switch {
		case g.Placed():
			// The rotation under way may finish without them, too.
			g.Without = append(g.Without, g.notActive(q.Without)...)
		case SameVaults(g.Without, q.Without):
			g.Requests = append(g.Requests, q.ID)
		}
	}
	return nil
}

// notActive returns those of the vaults where the generation is neither active nor already left out.
func (g *Generation) notActive(urls []string) (out []string) {
	for _, url := range urls {
		if !g.ActiveIn(url) && !slices.Contains(g.Without, url) {
			out = append(out, url)
		}
	}
	return out
}

// compromise marks every generation that has a pair, because any vault may hold it: the record may be an old copy, or
// may have been rebuilt while a vault could not be seen. A generation without a pair is discarded. Nothing is
// disabled. If a pair is being made, it belongs to no generation any more: its id is given up.
func (r *Record) compromise(now time.Time, newID NewID) error {
	for i := range r.Generations {
		g := &r.Generations[i]
		switch {
		case !g.Discarded.IsZero() || !g.Compromised.IsZero():
		case g.unmade():
			if err := r.discard(now, g, newID, "generated when the key's material was called compromised"); err != nil {
				return err
			}
			r.Abandoned[len(r.Abandoned)-1].Compromised = now
		default:
			g.Compromised = now
		}
	}
	for _, s := range slices.Clone(r.Spares) {
		r.discardSpare(now, &s, DiscardedByCompromise, now)
	}
	return nil
}

// DiscardedByCompromise is why a compromise discards spares: who has the key's material may have that of its spares.
const DiscardedByCompromise = "a spare when the key's material was called compromised"

// unmade reports whether the generation has no pair that anybody knows of.
func (g *Generation) unmade() bool {
	return g.Fingerprint == "" && g.LostInHSM.IsZero() && len(g.Placements) == 0
}

// SameVaults reports whether two lists name the same vaults.
func SameVaults(a, b []string) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(url string) bool { return !slices.Contains(b, url) })
}
