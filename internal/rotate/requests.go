package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// RefusedError is a wish of an operator that keyd does not carry out.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Class is key.Refused: the answer stays until something is changed.
func (e *RefusedError) Class() key.Class { return key.Refused }

func refuse(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

// Wanted is an operator's wish for a rotation.
type Wanted struct {
	Actor      string
	Reason     string
	Compromise bool
	Without    []string // vault URLs
}

// Request puts a wish for a rotation into the record, or joins one that is pending
// already. The answer names the request to wait for.
func (r *Rotator) Request(ctx context.Context, p key.Policy, w Wanted) (q key.Request, joined bool, err error) {
	if p.Retained {
		return q, false, refuse("key %s is no longer in the configuration: put it back before rotating it", p.Key)
	}
	for _, url := range w.Without {
		if _, ok := p.Vault(url); !ok {
			return q, false, refuse("key %s has no vault %s to leave out", p.Key, url)
		}
	}
	if len(p.Vaults) > 0 && len(w.Without) >= len(p.Vaults) {
		return q, false, refuse("every vault of key %s would be left out: leave one in", p.Key)
	}
	err = r.change(ctx, p.Key, func(rec *key.Record) (key.Entry, error) {
		if !MayRequest(*rec, w.Compromise) {
			return key.Entry{}, refuse("key %s is held (%s): %s", p.Key, rec.Hold.Code, rec.Hold.Reason)
		}
		rec.Lift(r.now())
		q, joined, err = accept(r.now(), p, rec, w, r.newID)
		if err != nil {
			return key.Entry{}, err
		}
		return key.Entry{Event: "rotation requested", Actor: w.Actor, Fields: map[string]string{
			"request": string(q.ID), "reason": w.Reason, "compromise": fmt.Sprint(w.Compromise), "joined": fmt.Sprint(joined)}}, nil
	})
	return q, joined, err
}

// MayRequest reports whether a rotation may be asked for. One of a held key may not,
// except that a compromise answers a refuted proof: new material is what it needs.
func MayRequest(rec key.Record, compromise bool) bool {
	return rec.Hold == nil || compromise && rec.Hold.Code == key.HoldRefuted
}

func (r *Rotator) newID() (key.ID, error) { return key.NewID(r.Random) }

// accept adds the wish to a record. A rotation whose material was not yet imported
// answers it; a compromise is only answered by material reserved from now on, and
// makes all that was reserved before unfit.
func accept(now time.Time, p key.Policy, rec *key.Record, w Wanted, newID func() (key.ID, error)) (q key.Request, joined bool, err error) {
	for _, pending := range rec.Requests {
		if (pending.Compromise || !w.Compromise) && sameSet(pending.Without, w.Without) && joinable(rec, pending, w) {
			return pending, true, nil
		}
	}
	if at, spent := budgetSpent(now, p, rec); spent && !w.Compromise {
		return q, false, refuse("key %s has had its %d rotations of the last 24 hours: the next is possible at %s; a higher budget in the configuration allows it now", p.Key, p.Budget, at.UTC().Format(time.RFC3339))
	}
	id, err := newID()
	if err != nil {
		return q, false, err
	}
	q = key.Request{ID: id, At: now, By: w.Actor, Reason: w.Reason, Compromise: w.Compromise, Without: w.Without}
	rec.Requests = append(rec.Requests, q)
	if w.Compromise {
		return q, false, compromise(now, rec, newID)
	}
	if g := rec.Latest(); g != nil && g.Finished.IsZero() && g.Compromised.IsZero() {
		switch {
		case placedAnywhere(g):
			// The rotation under way is let finish without them, too.
			g.Without = append(g.Without, notGood(g, w.Without)...)
		case sameSet(g.Without, w.Without):
			g.Requests = append(g.Requests, q.ID)
		}
	}
	return q, false, nil
}

// joinable reports whether what answers a pending request answers the new one too:
// no generation was reserved for it yet, or, unless keys were compromised, that
// generation was not imported yet.
func joinable(rec *key.Record, pending key.Request, w Wanted) bool {
	for i := range rec.Generations {
		if g := &rec.Generations[i]; answers(*g, pending) && (w.Compromise || placedAnywhere(g)) {
			return false
		}
	}
	return true
}

// notGood is those of the vaults in which the generation is not proven, nor left
// out already.
func notGood(g *key.Generation, urls []string) (out []string) {
	for _, url := range urls {
		if at := g.In(url); (at == nil || !at.Good()) && !slices.Contains(g.Without, url) {
			out = append(out, url)
		}
	}
	return out
}

// compromise marks every generation that has a pair, since any vault may hold it: the
// record may be an old copy, or rebuilt while a vault could not be seen. One that has none
// yet is discarded. Nothing is disabled. What may yet come of a generating under way
// belongs to no generation any more: its id is given up.
func compromise(now time.Time, rec *key.Record, newID func() (key.ID, error)) error {
	for i := range rec.Generations {
		g := &rec.Generations[i]
		switch {
		case !g.Discarded.IsZero() || !g.Compromised.IsZero():
		case g.Fingerprint == "" && g.LostInHSM.IsZero() && len(g.Placements) == 0:
			if err := discard(now, rec, g, newID, "generated when the key's material was called compromised"); err != nil {
				return err
			}
		default:
			g.Compromised = now
		}
	}
	return nil
}

// discard ends a generation that has no pair. What is or comes under its id is left to the
// sweeper; that nothing was begun there is not known of a record that is an old copy.
func discard(now time.Time, rec *key.Record, g *key.Generation, newID func() (key.ID, error), why string) error {
	id, err := newID()
	if err != nil {
		return err
	}
	g.Discarded = now
	giveUpID(now, rec, g, id, why)
	return nil
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

// Pause holds a key for an operator.
func (r *Rotator) Pause(ctx context.Context, name, actor, reason string) error {
	return r.change(ctx, name, func(rec *key.Record) (key.Entry, error) {
		if rec.Hold != nil {
			return key.Entry{}, refuse("key %s is held already (%s): %s", name, rec.Hold.Code, rec.Hold.Reason)
		}
		rec.Hold = &key.Hold{Code: key.HoldPaused, Reason: reason, Since: r.now(), By: actor}
		return key.Entry{Event: "key paused", Actor: actor, Fields: map[string]string{"reason": reason}}, nil
	})
}

// Resume lifts a key's hold. It gives no consent: a hold whose cause is still
// there comes back at the next look. A refuted generation may be tried again.
func (r *Rotator) Resume(ctx context.Context, name, actor, reason string) error {
	err := r.change(ctx, name, func(rec *key.Record) (key.Entry, error) {
		if rec.Hold == nil {
			return key.Entry{}, refuse("key %s is not held", name)
		}
		fields := map[string]string{"reason": reason, "code": string(rec.Hold.Code)}
		if rec.Hold.Code == key.HoldRefuted {
			lift(rec)
		}
		rec.Lift(r.now())
		return key.Entry{Event: "key resumed", Actor: actor, Fields: fields}, nil
	})
	if err == nil {
		r.views.drop(name)
	}
	return err
}

func lift(rec *key.Record) {
	for i := range rec.Generations {
		for j := range rec.Generations[i].Placements {
			if p := &rec.Generations[i].Placements[j]; p.State == key.Refuted {
				p.Lifted = true
			}
		}
	}
}

// changeTries bounds how often a change starts over when the loop saves first.
const changeTries = 20

// change loads a record, lets f change it, and saves it with f's entry, again from
// the start when somebody else saved in between.
func (r *Rotator) change(ctx context.Context, name string, f func(*key.Record) (key.Entry, error)) error {
	var err error
	for range changeTries {
		var rec key.Record
		if rec, err = r.load(ctx, name); err != nil {
			return err
		}
		rec = rec.Clone()
		entry, ferr := f(&rec)
		if ferr != nil {
			return ferr
		}
		if _, err = r.saveAs(ctx, rec, entry.Actor, entry.Event, entry.Fields); err == nil || key.ClassOf(err) != key.Retry {
			return err
		}
	}
	return fmt.Errorf("key %s changes faster than the wish could be recorded, try again: %w", name, err)
}

// IsRefused reports whether err is a wish that keyd refused, and says why.
func IsRefused(err error) (reason string, ok bool) {
	var e *RefusedError
	if errors.As(err, &e) {
		return strings.TrimSpace(e.Reason), true
	}
	return "", false
}
