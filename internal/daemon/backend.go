package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// Subscribe delivers the loop's events until ctx ends.
func (d *Daemon) Subscribe(ctx context.Context) <-chan status.Event { return d.hub.subscribe(ctx) }

// policy finds a managed key by its name, whose case may differ.
func (d *Daemon) policy(name string) (key.Policy, error) {
	p, ok := d.loop.Policy(name)
	if !ok {
		return p, &control.UsageError{Text: "there is no key " + name + ": keyd status lists the keys"}
	}
	return p, nil
}

// refusal converts a refusal to the control room's type.
func refusal(err error) error {
	if reason, ok := rotate.IsRefused(err); ok {
		return &control.RefusedError{Text: reason}
	}
	return waits(err)
}

// Rotate records one request per key. If keyd refuses one of them, it records none. If no key is named, it leaves out
// those that are held.
func (d *Daemon) Rotate(ctx context.Context, actor string, o control.RotateOptions) ([]control.Accepted, error) {
	policies, err := d.toRotate(ctx, o)
	if err != nil {
		return nil, err
	}
	wanted := make([]rotate.Wanted, len(policies))
	for i, p := range policies {
		without, err := urls(p, o.Without)
		if err != nil {
			return nil, err
		}
		wanted[i] = rotate.Wanted{Actor: actor, Reason: o.Reason, Compromise: o.Compromise, Without: without}
	}
	requests, err := d.rotator.RequestAll(d.asked(ctx), policies, wanted)
	var partly *rotate.PartlyError
	if errors.As(err, &partly) {
		for _, name := range partly.Recorded {
			d.loop.Poke(name, priority.Operator)
		}
		return nil, err
	}
	if err != nil {
		return nil, refusal(err)
	}
	accepted := make([]control.Accepted, len(requests))
	for i, q := range requests {
		accepted[i] = control.Accepted{Key: policies[i].Key, Request: q.ID, Joined: q.Joined}
		d.loop.Poke(policies[i].Key, priority.Operator)
	}
	return accepted, nil
}

// toRotate returns the requested keys that may be rotated.
func (d *Daemon) toRotate(ctx context.Context, o control.RotateOptions) (policies []key.Policy, err error) {
	names := o.Keys
	if len(names) == 0 {
		for _, p := range d.config().Policies {
			names = append(names, p.Key)
		}
	}
	var held []string
	named := map[string]bool{}
	for _, name := range names {
		p, err := d.policy(name)
		if err != nil {
			return nil, err
		}
		if named[p.Key] {
			continue
		}
		named[p.Key] = true
		rec, err := d.store.Load(ctx, p.Key)
		if err != nil {
			return nil, err
		}
		if rec.Hold != nil && !rotate.MayRequest(rec, o.Compromise) {
			held = append(held, fmt.Sprintf("key %s is held (%s): %s", p.Key, rec.Hold.Code, rec.Hold.Reason))
			continue
		}
		policies = append(policies, p)
	}
	if len(held) > 0 && (len(o.Keys) > 0 || len(policies) == 0) {
		return nil, &control.RefusedError{Text: strings.Join(held, "\n")}
	}
	return policies, nil
}

// urls converts nicknames to the URLs by which records know vaults.
func urls(p key.Policy, nicknames []string) (out []string, err error) {
	for _, name := range nicknames {
		found := false
		for _, v := range p.Vaults {
			if key.SameName(v.Name, name) {
				out, found = append(out, v.URL), true
			}
		}
		if !found {
			return nil, &control.UsageError{Text: "key " + p.Key + " has no vault " + name + " to leave out"}
		}
	}
	return out, nil
}

// Pause holds a key.
func (d *Daemon) Pause(ctx context.Context, actor, name, reason string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	return d.poked(p.Key, d.rotator.Pause(ctx, p.Key, actor, reason))
}

// Resume lifts a key's hold.
func (d *Daemon) Resume(ctx context.Context, actor, name, reason string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	return d.poked(p.Key, d.rotator.Resume(d.asked(ctx), p.Key, actor, reason))
}

// Adoption shows what could be adopted for a key; unreserved: with pairs that nobody reserved.
func (d *Daemon) Adoption(ctx context.Context, name string, unreserved bool) (status.Adoption, error) {
	p, err := d.policy(name)
	if err != nil {
		return status.Adoption{}, err
	}
	a, err := d.rotator.Adoption(priority.With(ctx, priority.Operator), p, unreserved)
	return a, refusal(err)
}

// Adopt records consent to what was shown with the token.
func (d *Daemon) Adopt(ctx context.Context, actor, name, reason, token string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	if err := d.agreed(); err != nil {
		return err
	}
	return d.poked(p.Key, d.rotator.Adopt(priority.With(d.asked(ctx), priority.Operator), p, actor, reason, token))
}

func (d *Daemon) poked(name string, err error) error {
	d.loop.Poke(name, priority.Operator)
	return refusal(err)
}

// Plan returns the next step of every key, based on the last observation.
func (d *Daemon) Plan(ctx context.Context) ([]status.Planned, error) {
	if _, err := d.under(ctx); err != nil {
		return nil, err
	}
	var out []status.Planned
	for _, name := range d.loop.Names() {
		p, ok := d.loop.Policy(name)
		if !ok {
			continue
		}
		rec, err := d.store.Load(ctx, name)
		if err != nil {
			return nil, err
		}
		in, err := d.rotator.Input(ctx, p, &rec)
		if err != nil {
			return nil, err
		}
		step, under := d.underWay(name)
		if !under || rec.Hold != nil {
			step = plan.Next(in)
		}
		out = append(out, planned(in, step))
	}
	return out, nil
}

// Explain returns what each rule says about one key, based on the last observation.
func (d *Daemon) Explain(ctx context.Context, name string) (status.Explanation, error) {
	p, err := d.policy(name)
	if err == nil {
		_, err = d.under(ctx)
	}
	if err != nil {
		return status.Explanation{}, err
	}
	rec, err := d.store.Load(ctx, name)
	if err != nil {
		return status.Explanation{}, err
	}
	in, err := d.rotator.Input(ctx, p, &rec)
	if err != nil {
		return status.Explanation{}, err
	}
	if step, under := d.underWay(p.Key); under && rec.Hold == nil {
		return status.Explanation{Next: planned(in, step)}, nil
	}
	return explanation(in), nil
}

// underWay is the step of a key that is under way, or the look that follows one that failed. What was seen before does
// not show what the step did meanwhile, so the plan is not asked.
func (d *Daemon) underWay(name string) (plan.Step, bool) {
	pos := d.loop.Position(name)
	if s, ok := pos.UnderWay(); ok {
		s.Why, s.Until = "under way since "+words.Moment(pos.Since)+": "+s.Why, time.Time{}
		return s, true
	}
	return plan.Step{Kind: plan.Look, Why: "keyd looks again after its last step"}, d.observer.Used(name)
}

func explanation(in plan.Input) status.Explanation {
	said, next := plan.Explain(in)
	e := status.Explanation{Next: planned(in, next)}
	for _, s := range said {
		answer := status.RuleAnswer{Rule: s.Name, Says: s.Says, Asked: s.Asked}
		if s.Step != nil {
			step := planned(in, *s.Step)
			answer.Step = &step
		}
		e.Rules = append(e.Rules, answer)
	}
	return e
}

// planned is a step as people and programs see it.
func planned(in plan.Input, step plan.Step) status.Planned {
	out := status.Planned{
		Key: in.Policy.Key, Step: string(step.Kind), Why: step.Why, Generation: step.Generation, At: step.Until,
	}
	if in.Record.Hold != nil {
		out.Step = status.StateHeld
	}
	if v, ok := in.Policy.Vault(step.Vault); ok {
		out.Vault = v.Name
	}
	return out
}

// Audit calls fn with the entries of the chain.
func (d *Daemon) Audit(ctx context.Context, from uint64, name string, fn func(control.AuditEntry) error) error {
	return auditEntries(ctx, d.store, from, name, fn)
}

// ExportAudit writes the requested part of the chain.
func (d *Daemon) ExportAudit(ctx context.Context, r audit.Request, w io.Writer) error {
	return exportAudit(ctx, d.store, r, w)
}

// AuditKey asks the HSM side for the public half of the key that signs checkpoints.
func (d *Daemon) AuditKey(ctx context.Context) (control.AuditKey, error) {
	m, present, err := d.hsm.AuditKey(priority.With(ctx, priority.Operator))
	if err != nil {
		return control.AuditKey{}, err
	}
	if !present {
		return control.AuditKey{}, &control.RefusedError{
			Text: "the HSM has no audit key yet: keyd makes it with the first checkpoint; to take one " +
				"now: `keyd audit checkpoint`",
		}
	}
	return control.AuditKey{Fingerprint: m.Fingerprint(), PEM: string(audit.EncodeKey(m))}, nil
}

// Checkpoint has the chain's head signed now.
func (d *Daemon) Checkpoint(ctx context.Context, actor string) (key.Checkpoint, error) {
	ctx, err := d.under(ctx)
	if err != nil {
		return key.Checkpoint{}, err
	}
	return d.keeper.Checkpoint(priority.With(ctx, priority.Operator), actor)
}

// VerifyAudit walks the whole chain.
func (d *Daemon) VerifyAudit(ctx context.Context) (control.AuditReport, error) {
	return verifyAudit(ctx, d.store)
}

// Backup writes a consistent copy of the state, and records who took it.
func (d *Daemon) Backup(ctx context.Context, actor string, w io.Writer) error {
	if err := d.store.Append(ctx, chain.Entry{Event: chain.BackupTaken, Actor: actor}); err != nil {
		return err
	}
	return d.store.Backup(ctx, w)
}
