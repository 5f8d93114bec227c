package rotate

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// StepKey observes one key if needed, plans, and applies one step. It returns the step. If it also returns an error,
// the step failed and may be tried again later. Two goroutines must not call it for the same key at once.
func (r *Rotator) StepKey(ctx context.Context, p key.Policy) (plan.Step, error) {
	rec, err := r.load(ctx, p.Key)
	if err != nil {
		return plan.Step{}, err
	}
	by, err := r.newKey(ctx, &rec)
	if err != nil {
		return plan.Step{}, err
	}
	if by != nil && by.Seen == nil { // its own loop has not come to it
		by.Seen = r.Observer.Inspect(ctx, by.Policy, *by.Record, nil)
	}
	p = withHeir(p, by)
	o := r.Observer.Last(p.Key)
	if r.wantsLook(p, o) {
		o = r.Observer.Observe(ctx, p, rec)
	}
	step, o, err := r.decide(ctx, p, &rec, o, by)
	if !step.Acts() || err != nil {
		if step.Kind == plan.Wait {
			r.emit(p, &rec, step, status.Wait, 0, nil)
		}
		return step, cmp.Or(err, ctx.Err())
	}
	// The next step looks again, unless learn records what came of this one. keyd finishes a step that it has begun,
	// even during a shutdown: after an import cut short it would not know for minutes whether the vault has the
	// version.
	r.Observer.Use(p.Key)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), plan.StepTimeout)
	defer cancel()
	return step, r.apply(ctx, act{p, rec, o, step, by, new(key.Version)})
}

// rounds is how often keyd plans one step again because a part of the observation is stale.
const rounds = 5

// decide plans the next step from an observation that is fresh where the step needs it.
func (r *Rotator) decide(ctx context.Context, p key.Policy, rec *record.Record,
	o *record.Observation, by *plan.NewKey) (step plan.Step, seen *record.Observation, err error) {
	since := r.now()
	for round := range rounds {
		in := r.input(p, rec, o, by)
		in.Since = since
		step = plan.Next(in)
		stale := in.Stale(step)
		// A step that waits asks once: what it waits for may not answer.
		if stale.None() || round > 0 && !step.Acts() || ctx.Err() != nil {
			return step, o, ctx.Err()
		}
		if len(stale.NewKey) > 0 {
			by.Seen = r.Observer.Inspect(ctx, by.Policy, *by.Record, stale.NewKey)
		}
		if stale.NewKey = nil; !stale.None() {
			o = r.Observer.Refresh(ctx, p, *rec, stale)
		}
	}
	return step, o, fmt.Errorf(
		"key %s: %s: stale observation: the clock was set, or a look took too long; keyd looks "+
			"again",
		p.Key,
		step.Describe(p),
	)
}

func (r *Rotator) load(ctx context.Context, name string) (record.Record, error) {
	rec, err := r.Store.Load(ctx, name)
	if err != nil {
		return rec, fmt.Errorf("read the record of %s: %w", name, err)
	}
	if rec.Instance == "" {
		rec.Instance = r.Instance
	}
	if rec.Instance != r.Instance {
		return rec, fmt.Errorf("the record of %s belongs to instance %q, and this is %q: set instance back in the "+
			"configuration",
			name, rec.Instance, r.Instance)
	}
	return rec, nil
}

// wantsLook says whether the next step needs a slow look: a quiet key gets one on the slow interval only.
func (r *Rotator) wantsLook(p key.Policy, o *record.Observation) bool {
	now := r.now()
	return o == nil || r.Observer.Used(p.Key) || now.Sub(o.At) >= r.look(p) || now.Before(o.At)
}

// look is a key's slow interval: between three quarters of the configured one and all of it, so that keys first
// looked at together drift apart.
func (r *Rotator) look(p key.Policy) time.Duration {
	return r.Look - time.Duration(plan.Share(p.Key, uint64(r.Look/4)))
}

// apply carries out one step, reports it, and counts it.
func (r *Rotator) apply(ctx context.Context, a act) error {
	begun := r.Clock()
	p, rec, s := a.policy, a.rec, a.step
	if r.began != nil {
		r.began(p.Key, s)
	}
	r.emit(p, &rec, s, status.Begin, 0, nil)
	a.rec = rec.Clone()
	after, err := r.perform(ctx, a)
	if err != nil {
		err = fmt.Errorf("key %s: %s: %w", p.Key, s.Describe(p), err)
		if s.Kind == plan.Import {
			r.Observer.DropVault(s.Vault) // somebody may have disabled the key exchange key
		}
	} else {
		r.learn(a, rec.Revision, after.Revision)
		rec = after
	}
	elapsed := r.Clock().Sub(begun)
	phase := status.Done
	if err != nil {
		phase = status.Failed
	}
	if r.Metrics != nil {
		r.Metrics.stepped(p, s, &rec, elapsed, err)
	}
	r.emit(p, &rec, s, phase, elapsed, err)
	return err
}

// act is a step with everything that it was planned on. The act owns its copy of the record.
type act struct {
	policy key.Policy
	rec    record.Record
	seen   *record.Observation
	step   plan.Step
	newKey *plan.NewKey // the key that replaces this one; nil: none
	// imported is the version that the step's import made.
	imported *key.Version
}

// learn records what came of a step, so that keyd need not look: its own change of the record, the pair that it made,
// the version that the vault took.
func (r *Rotator) learn(a act, from, to uint64) {
	l := record.Learnt{Key: a.policy.Key, From: from, To: to}
	switch a.step.Kind {
	case plan.Reserve, plan.Promote, plan.ReserveSpare, plan.DiscardSpare, plan.Pin, plan.Prove, plan.Finish,
		plan.EndConsent:
	case plan.Generate, plan.Abandon:
		l.ID = a.step.ID
	case plan.Import:
		l.Vault, l.Version = a.step.Vault, *a.imported
	default:
		return
	}
	r.Observer.Learn(l)
}

// in is what was seen in the step's vault.
func (a act) in() record.VaultSeen { return a.seen.Vaults[a.step.Vault] }

// perform carries out one step and returns the record as last saved.
func (r *Rotator) perform(ctx context.Context, a act) (record.Record, error) {
	switch a.step.Kind {
	case plan.Hold:
		return r.hold(ctx, a)
	case plan.Reserve:
		return r.reserve(ctx, a)
	case plan.Promote:
		return r.promote(ctx, a)
	case plan.ReserveSpare:
		return r.reserveSpare(ctx, a)
	case plan.DiscardSpare:
		return r.discardSpare(ctx, a)
	case plan.Generate:
		return r.generate(ctx, a)
	case plan.Abandon:
		return r.abandon(ctx, a, a.step.Why)
	case plan.Pin:
		return r.pin(ctx, a)
	case plan.Sweep:
		return r.sweep(ctx, a)
	case plan.Import:
		return r.importKey(ctx, a)
	case plan.Land:
		return r.land(ctx, a)
	case plan.Alias:
		return r.alias(ctx, a)
	case plan.Void:
		return r.void(ctx, a)
	case plan.Prove:
		return r.prove(ctx, a)
	case plan.Finish:
		return r.finish(ctx, a)
	case plan.Disable:
		return r.disable(ctx, a)
	case plan.DisableDone:
		return r.disableDone(ctx, a)
	case plan.DisableAborted:
		return r.disableAborted(ctx, a)
	case plan.DisableLate:
		return r.disableLate(ctx, a)
	case plan.Enable:
		return r.enable(ctx, a)
	case plan.EnableDone:
		return r.enabled(ctx, a)
	case plan.EnableAborted:
		return r.enableAborted(ctx, a, a.step.Why)
	case plan.Repoint:
		return r.repoint(ctx, a)
	case plan.RepointDone:
		return r.repointed(ctx, a)
	case plan.RepointFailed:
		return r.repointFailed(ctx, a, a.step.Why)
	case plan.ReplaceDone:
		return r.replaced(ctx, a)
	case plan.RepointMet:
		return r.repointMet(ctx, a)
	case plan.RepointLapsed:
		return r.repointLapsed(ctx, a)
	case plan.EndConsent:
		return r.endConsent(ctx, a)
	}
	return a.rec, fmt.Errorf("there is no step %q", a.step.Kind)
}

// save stores the record with one audit entry. The entry always has what a reader needs to follow the step without
// the record.
func (r *Rotator) save(ctx context.Context, rec record.Record, event chain.Event,
	fields map[string]string) (record.Record, error) {
	return r.saveAs(ctx, rec, "keyd", event, fields)
}

func (r *Rotator) saveAs(ctx context.Context, rec record.Record, actor string, event chain.Event,
	fields map[string]string) (record.Record, error) {
	return r.saveAll(ctx, rec, []chain.Entry{{Event: event, Actor: actor, Fields: fields}})
}

// saveAll stores the record with several entries in one transaction. The first names what happened.
func (r *Rotator) saveAll(ctx context.Context, rec record.Record, entries []chain.Entry) (record.Record, error) {
	event, now := entries[0].Event, r.now()
	for i := range entries {
		entries[i].Time, entries[i].Key = now, rec.Key
	}
	killpoint.At("save-before " + string(event))
	saved, err := r.Store.Save(ctx, rec, entries...)
	if err != nil {
		return rec, fmt.Errorf("record %q: %w", event, err)
	}
	killpoint.At("save-after " + string(event))
	return saved, nil
}

func (r *Rotator) emit(p key.Policy, rec *record.Record, s plan.Step, phase status.Phase, elapsed time.Duration,
	err error) {
	if r.Emit == nil {
		return
	}
	e := status.Event{At: r.now(), Key: p.Key, Generation: s.Generation, Version: s.Version, Step: string(s.Kind),
		Phase: phase, Detail: s.Why, Elapsed: status.Seconds(elapsed)}
	if s.Vault != "" {
		e.Vault = rec.VaultName(p, s.Vault)
	}
	if g := rec.Generation(s.Generation); g != nil {
		e.Requests = g.Requests
	}
	// A step that names a version is about that version, such as a duplicate.
	if at := rec.Placement(s.Attempt); at.Found() && s.Attempt != "" && e.Version == "" {
		e.Version = at.Version
	}
	if err != nil {
		e.Error = err.Error()
	}
	r.Emit(e)
}
