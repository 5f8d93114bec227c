package rotate

import (
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/status"
)

// StepKey observes one key as far as needed, plans, and applies one step. It
// returns the step; with an error, the step failed and may be tried again later.
// It must not be called for the same key by two goroutines at once.
func (r *Rotator) StepKey(ctx context.Context, p key.Policy) (Step, error) {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return Step{}, err
	}
	o := r.LastLook(p.Key)
	if r.wantsLook(p, rec, o) {
		o = r.observe(ctx, p, rec)
	}
	step := Plan(r.now(), p, rec, o)
	if step.Acts() && !r.justLooked(p, o) {
		o = r.observe(ctx, p, rec)
		step = Plan(r.now(), p, rec, o)
	}
	if !step.Acts() {
		if step.Kind == Wait {
			r.emit(p, rec, step, status.Wait, 0, nil)
		}
		return step, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return step, err
	}
	if !r.justLooked(p, o) {
		return step, fmt.Errorf("key %s: %s: the clock was set, or the look took too long: keyd looks again", p.Key, describe(p, step))
	}
	// What was seen is acted on once: the step changes it. A step that was begun
	// is brought to its end also when keyd is told to stop: an import cut short
	// would leave it unknown for minutes whether the vault has it.
	r.views.use(p.Key)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	return step, r.apply(ctx, p, rec, o, step)
}

func (r *Rotator) load(ctx context.Context, name string) (key.Record, error) {
	rec, err := r.Store.Load(ctx, name)
	if err != nil {
		return rec, fmt.Errorf("read the record of %s: %w", name, err)
	}
	if rec.Instance == "" {
		rec.Instance = r.Instance
	}
	if rec.Instance != r.Instance {
		return rec, fmt.Errorf("the record of %s belongs to instance %q, and this is %q: set instance back in the configuration", name, rec.Instance, r.Instance)
	}
	return rec, nil
}

// wantsLook says whether a plan made now needs a new observation. A quiet key is
// looked at on the slow interval only.
func (r *Rotator) wantsLook(p key.Policy, rec key.Record, o *Observation) bool {
	now := r.now()
	switch {
	case o == nil, r.views.isUsed(p.Key), now.Sub(o.At) >= r.look(p), now.Before(o.At):
		return true
	case rec.Hold != nil || p.Retained:
		return false
	case o.Revision != rec.Revision: // another daemon did something since
		return true
	case unfinished(p, rec):
		return true
	}
	_, isDue, _ := due(now, p, &rec)
	return isDue
}

// justLooked reports whether nothing but a look lies between the beginning of that and
// now. A clock that was set in between makes up reasons to act, and what the look says
// of the vaults' clocks does not tell.
func (r *Rotator) justLooked(p key.Policy, o *Observation) bool {
	age := r.now().Sub(o.At)
	return age >= 0 && age <= maxSkew+lookTimeout*time.Duration(len(p.Vaults))
}

// look is the slow interval of a key: between three quarters of it and the whole,
// so that keys which were first looked at together drift apart.
func (r *Rotator) look(p key.Policy) time.Duration {
	return r.Look - time.Duration(share(p.Key, uint64(r.Look/4)))
}

// unfinished reports whether the record shows work that is begun or missing.
func unfinished(p key.Policy, rec key.Record) bool {
	if rec.Latest() == nil {
		return true
	}
	for _, g := range rec.Generations {
		if !g.Discarded.IsZero() || !g.Compromised.IsZero() || !g.LostInHSM.IsZero() {
			continue
		}
		if g.Finished.IsZero() {
			return true
		}
		for _, at := range g.Placements {
			switch at.State {
			case key.Intended, key.Imported:
				return true
			case key.Refuted:
				if !at.Lifted {
					return true
				}
			}
		}
	}
	for _, v := range p.Vaults {
		pl := &planner{p: p, r: &rec}
		if pl.missing(v.URL) != nil {
			return true
		}
	}
	return false
}

// apply carries out one step, tells of it, and counts it.
func (r *Rotator) apply(ctx context.Context, p key.Policy, rec key.Record, o *Observation, s Step) error {
	begun := r.Clock()
	r.emit(p, rec, s, status.Begin, 0, nil)
	after, err := r.perform(ctx, p, rec.Clone(), o, s)
	if err != nil {
		err = fmt.Errorf("key %s: %s: %w", p.Key, describe(p, s), err)
	} else {
		rec = after
	}
	elapsed := r.Clock().Sub(begun)
	phase := status.Done
	if err != nil {
		phase = status.Failed
	}
	if r.Metrics != nil {
		r.Metrics.stepped(p, s, rec, elapsed, err)
	}
	r.emit(p, rec, s, phase, elapsed, err)
	return err
}

func (r *Rotator) perform(ctx context.Context, p key.Policy, rec key.Record, o *Observation, s Step) (key.Record, error) {
	switch s.Kind {
	case Hold:
		return r.hold(ctx, rec, s)
	case Reserve:
		return r.reserve(ctx, p, rec, s)
	case Generate:
		return r.generate(ctx, rec, s)
	case Abandon:
		return r.abandon(ctx, rec, s)
	case Pin:
		return r.pin(ctx, rec, s)
	case Sweep:
		return r.sweep(ctx, rec, s)
	case CreateKEK:
		if seen := o.Vaults[s.Vault].KEK; seen.Print != "" {
			return r.kekMade(ctx, rec, s.Vault, seen.KEK.Kid, seen.Print)
		}
		return r.createKEK(ctx, p, rec, s)
	case Import:
		return r.importKey(ctx, p, rec, o.Vaults[s.Vault], s)
	case Found:
		return r.found(ctx, rec, o.Vaults[s.Vault], s)
	case Alias:
		return r.alias(ctx, rec, s)
	case GiveUp:
		return r.giveUp(ctx, rec, s)
	case Prove:
		return r.prove(ctx, p, rec, s)
	case Finish:
		return r.finish(ctx, rec, s)
	case Disable:
		return r.disable(ctx, p, rec, o.Vaults[s.Vault], s)
	case Disabled:
		return r.disabled(ctx, rec, s)
	case Keep:
		return r.keep(ctx, rec, s)
	}
	return rec, fmt.Errorf("no such step %q", s.Kind)
}

// describe names a step for people.
func describe(p key.Policy, s Step) string {
	text := string(s.Kind)
	if s.Generation > 0 {
		text += fmt.Sprintf(" generation %d", s.Generation)
	}
	if v, ok := p.Vault(s.Vault); ok {
		text += " in vault " + v.Name
	}
	return text
}

// save stores the record with one audit entry. The entry always carries what a
// reader needs to follow the step without the record.
func (r *Rotator) save(ctx context.Context, rec key.Record, event string, fields map[string]string) (key.Record, error) {
	return r.saveAs(ctx, rec, "keyd", event, fields)
}

func (r *Rotator) saveAs(ctx context.Context, rec key.Record, actor, event string, fields map[string]string) (key.Record, error) {
	killpoint.At("save-before " + event)
	saved, err := r.Store.Save(ctx, rec, key.Entry{Time: r.now(), Key: rec.Key, Event: event, Actor: actor, Fields: fields})
	if err != nil {
		return rec, fmt.Errorf("record %q: %w", event, err)
	}
	killpoint.At("save-after " + event)
	return saved, nil
}

func (r *Rotator) emit(p key.Policy, rec key.Record, s Step, phase status.Phase, elapsed time.Duration, err error) {
	if r.Emit == nil {
		return
	}
	e := status.Event{At: r.now(), Key: p.Key, Generation: s.Generation, Version: s.Version, Step: string(s.Kind), Phase: phase, Detail: s.Why, Elapsed: elapsed}
	if s.Vault != "" {
		e.Vault = r.vaultName(p, s.Vault)
	}
	if g := rec.Generation(s.Generation); g != nil {
		e.Requests = g.Requests
		for _, at := range g.Placements {
			// A step that names a version is about that one, such as a duplicate.
			if at.Attempt == s.Attempt && s.Attempt != "" && e.Version == "" {
				e.Version = at.Version
			}
		}
	}
	if err != nil {
		e.Error = err.Error()
	}
	r.Emit(e)
}
