package rotate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// RefusedError is an operator's request that keyd does not carry out.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// Class is key.Refused: asking again does not help until something changes.
func (e *RefusedError) Class() key.Class { return key.Refused }

func refuse(format string, args ...any) error {
	return &RefusedError{Reason: fmt.Sprintf(format, args...)}
}

// Wanted is the rotation that an operator asks for.
type Wanted struct {
	Actor      string
	Reason     string
	Compromise bool
	Without    []string // vault URLs
}

// Asked is the request to wait for: a new one, or a pending one that it joined.
type Asked struct {
	key.Request
	Joined bool
}

// Request requests a rotation of one key, as RequestAll does. It returns the request to wait for.
func (r *Rotator) Request(ctx context.Context, p key.Policy, w Wanted) (q key.Request, joined bool, err error) {
	asked, err := r.RequestAll(ctx, []key.Policy{p}, []Wanted{w})
	if err != nil {
		return q, false, err
	}
	return asked[0].Request, asked[0].Joined, nil
}

// sensible refuses a request that no record could make sense of.
func sensible(p key.Policy, w Wanted) error {
	if p.Retained {
		return refuse("key %s is no longer in the configuration: put it back before rotating it", p.Key)
	}
	for _, url := range w.Without {
		if _, ok := p.Vault(url); !ok {
			return refuse("key %s has no vault %s to leave out", p.Key, url)
		}
	}
	if len(p.Vaults) > 0 && len(w.Without) >= len(p.Vaults) {
		return refuse("every vault of key %s would be left out: leave one in", p.Key)
	}
	return nil
}

// request adds the request to a record, or joins one that is pending there.
func (r *Rotator) request(g *gate, p key.Policy, w Wanted, rec *record.Record) (asked Asked, _ []chain.Entry,
	err error) {
	if !MayRequest(*rec, w.Compromise) {
		return asked, nil, refuse("key %s is held (%s): %s", p.Key, rec.Hold.Code, rec.Hold.Reason)
	}
	if x := rec.Replacement; x.Disabling() {
		return asked, nil, refuse(
			"key %s is replaced by %s, and its versions are disabled: keyd replace %s --status",
			p.Key,
			x.With,
			p.Key,
		)
	}
	var entries []chain.Entry
	if _, joins := rec.Joinable(true, w.Without); g.approving() || w.Compromise && !joins {
		var through bool
		if entries, through, err = g.passKey(rec, compromising(w)); !through {
			return asked, entries, err
		}
	}
	rec.Lift(r.now())
	spares := rec.SparePairs()
	asked.Request, asked.Joined, err = accept(r.now(), p, rec, w, r.newID)
	if err != nil {
		return asked, nil, err
	}
	entries = append(entries, chain.Entry{Event: chain.RotationRequested, Actor: w.Actor, Fields: map[string]string{
		"request": string(asked.ID), "reason": w.Reason, "compromise": fmt.Sprint(w.Compromise),
		"joined": fmt.Sprint(asked.Joined)}})
	if w.Compromise && !asked.Joined {
		entries = append(entries, discarded(spares)...)
	}
	return asked, entries, nil
}

// compromising is the act of calling a key's material compromised.
func compromising(w Wanted) key.Act {
	act := key.Act{Kind: key.ActCompromise, Reason: w.Reason, Effects: "calls all material that the key has so far " +
		"compromised: keyd makes new material now, and never places an earlier generation again"}
	if len(w.Without) > 0 {
		act.Arguments = map[string]string{"without": spacedSorted(w.Without)}
	}
	return act
}

// MayRequest reports whether an operator may request a rotation. Of a held key they may not, with one exception: a
// compromise resolves a refuted proof, because the key needs new material.
func MayRequest(rec record.Record, compromise bool) bool {
	return rec.Hold == nil || compromise && rec.Hold.Code == key.HoldRefuted
}

// accept adds the request to a record, or joins one that is pending.
func accept(now time.Time, p key.Policy, rec *record.Record, w Wanted, newID record.NewID) (
	q key.Request, joined bool, err error,
) {
	if q, ok := rec.Joinable(w.Compromise, w.Without); ok {
		return q, true, nil
	}
	if at, spent := plan.BudgetSpent(now, p, rec); spent && !w.Compromise {
		return q, false, refuse(
			"key %s has had its %d rotations of the last 24 hours: the next is possible at %s; a "+
				"higher budget in the configuration allows it now",
			p.Key,
			p.Budget,
			at.UTC().Format(time.RFC3339),
		)
	}
	id, err := newID()
	if err != nil {
		return q, false, err
	}
	q = key.Request{ID: id, At: now, By: w.Actor, Reason: w.Reason, Compromise: w.Compromise, Without: w.Without}
	return q, false, rec.Ask(q, newID)
}

// Pause holds a key for an operator.
func (r *Rotator) Pause(ctx context.Context, name, actor, reason string) error {
	return r.change(ctx, name, func(rec *record.Record) ([]chain.Entry, error) {
		if rec.Hold != nil {
			return nil, refuse("key %s is held already (%s): %s", name, rec.Hold.Code, rec.Hold.Reason)
		}
		rec.Hold = &key.Hold{Code: key.HoldPaused, Reason: reason, Since: r.now(), By: actor}
		return []chain.Entry{{Event: chain.KeyPaused, Actor: actor, Fields: map[string]string{"reason": reason}}}, nil
	})
}

// Resume lifts a key's hold. It gives no consent: if the cause is still there, the next look holds the key again.
// keyd may try a refuted generation again.
func (r *Rotator) Resume(ctx context.Context, name, actor, reason string) error {
	return r.resume(ctx, r.asking(ctx), name, actor, reason)
}

func (r *Rotator) resume(ctx context.Context, g *gate, name, actor, reason string) error {
	err := r.change(ctx, name, func(rec *record.Record) ([]chain.Entry, error) {
		if rec.Hold == nil {
			return nil, refuse("key %s is not held", name)
		}
		fields := map[string]string{"reason": reason, "code": string(rec.Hold.Code)}
		var before []chain.Entry
		if rec.Hold.Code == key.HoldRefuted || g.approving() {
			entries, through, err := g.passKey(rec, key.Act{Kind: key.ActResume, Reason: reason,
				Effects: "lifts the hold, and keyd may import a generation again whose proof a vault refuted: " +
					rec.Hold.Reason})
			if !through {
				return entries, err
			}
			before = entries
		}
		if rec.Hold.Code == key.HoldRefuted {
			rec.Retry()
		}
		rec.Lift(r.now())
		return append(before, chain.Entry{Event: chain.KeyResumed, Actor: actor, Fields: fields}), nil
	})
	err = g.outcome(err)
	if err == nil {
		r.Observer.Drop(name)
	}
	return err
}

// IsRefused reports whether keyd refused the request, and why.
func IsRefused(err error) (reason string, ok bool) {
	var e *RefusedError
	if errors.As(err, &e) {
		return strings.TrimSpace(e.Reason), true
	}
	return "", false
}
