package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// StepVault observes one vault's KEKs if needed, plans, and applies one step, as StepKey does for a key. Two
// goroutines must not call it for the same vault at once.
func (r *Rotator) StepVault(ctx context.Context, p key.VaultPolicy) (plan.Step, error) {
	rec, err := r.loadVault(ctx, p.URL)
	if err != nil {
		return plan.Step{}, err
	}
	o := r.Observer.LastVault(p.URL)
	if r.wantsVaultLook(&rec, o) {
		o = r.Observer.Vault(ctx, p, rec)
	}
	step := plan.NextForVault(r.vaultInput(p, &rec, o))
	if step.Acts() && !r.vaultInput(p, &rec, o).Fresh() {
		o = r.Observer.Vault(ctx, p, rec)
		step = plan.NextForVault(r.vaultInput(p, &rec, o))
	}
	if !step.Acts() || ctx.Err() != nil {
		return step, ctx.Err()
	}
	if !r.vaultInput(p, &rec, o).Fresh() {
		return step, fmt.Errorf("vault %s: %s: stale observation: the clock was set, or it took too long; "+
			"keyd looks again", p.Name, step.Kind)
	}
	r.Observer.DropVault(p.URL)
	// As with a key, keyd finishes a step that it has begun.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), plan.StepTimeout)
	defer cancel()
	if err := r.applyToVault(ctx, vaultAct{p, rec.Clone(), o, step}); err != nil || step.Kind != plan.UseKEK {
		return step, err
	}
	if after, err := r.loadVault(ctx, p.URL); err == nil { // only the record has changed
		r.Observer.KeepVault(p.URL, *o, after.Revision)
	}
	return step, nil
}

func (r *Rotator) loadVault(ctx context.Context, url string) (record.Vault, error) {
	rec, err := r.Store.LoadVault(ctx, url)
	if err != nil {
		return rec, fmt.Errorf("read the record of vault %s: %w", url, err)
	}
	if rec.Instance == "" {
		rec.Instance = r.Instance
	}
	if rec.Instance != r.Instance {
		return rec, fmt.Errorf("the record of vault %s belongs to instance %q, and this is %q: set instance "+
			"back in the configuration",
			url, rec.Instance, r.Instance)
	}
	return rec, nil
}

func (r *Rotator) vaultInput(p key.VaultPolicy, rec *record.Vault, o *record.VaultLook) plan.VaultInput {
	return plan.VaultInput{Now: r.now(), Policy: p, Record: rec, Seen: o}
}

// vaultPoll is how often keyd looks at a vault in which work is under way or a KEK waits for approval.
const vaultPoll = 15 * time.Second

// quietVault is how often keyd looks at the key exchange keys of a quiet vault. A change by somebody else shows
// earlier, in the vault's list of keys.
const quietVault = time.Hour

// wantsVaultLook says whether a plan made now needs a new look.
func (r *Rotator) wantsVaultLook(rec *record.Vault, o *record.VaultLook) bool {
	if o == nil || o.Revision != rec.Revision {
		return true
	}
	age := r.now().Sub(o.At)
	quiet := o.Err == nil && rec.Active() != nil && rec.Making() == nil && rec.Waiting() == nil &&
		rec.Disabling() == nil
	slow := max(r.Look, quietVault)
	if len(rec.Superseded()) > 0 { // keyd disables it once nothing needs it any more
		slow = r.Look
	}
	return age < 0 || age >= slow || !quiet && age >= vaultPoll
}

// vaultAct is a step of a vault with everything that it was planned on. The act owns its copy of the record.
type vaultAct struct {
	policy key.VaultPolicy
	rec    record.Vault
	seen   *record.VaultLook
	step   plan.Step
}

// now is the moment by both clocks.
func (r *Rotator) moment(a vaultAct) record.Moment { return a.seen.Moment(r.now()) }

func (r *Rotator) applyToVault(ctx context.Context, a vaultAct) error {
	begun := r.Clock()
	r.emitVault(a, status.Begin, 0, nil)
	err := r.performOnVault(ctx, a)
	if err != nil {
		err = fmt.Errorf("vault %s: %s: %w", a.policy.Name, a.step.Kind, err)
	}
	elapsed := r.Clock().Sub(begun)
	phase := status.Done
	if err != nil {
		phase = status.Failed
	}
	if r.Metrics != nil {
		r.Metrics.steppedVault(a.policy, a.step, elapsed, err)
	}
	r.emitVault(a, phase, elapsed, err)
	return err
}

func (r *Rotator) performOnVault(ctx context.Context, a vaultAct) error {
	switch a.step.Kind {
	case plan.CreateKEK:
		return r.createKEK(ctx, a)
	case plan.KEKMade:
		seen, _ := a.seen.KEK(a.step.Version)
		return r.kekMade(ctx, a, a.step.Attempt, seen.KEK, seen.Print)
	case plan.KEKVoid:
		return r.kekVoid(ctx, a, a.step.Attempt, false, map[string]string{"why": a.step.Why})
	case plan.UseKEK:
		return r.useKEK(ctx, a)
	case plan.DisableKEK:
		return r.disableKEK(ctx, a)
	case plan.KEKDisabled:
		return r.kekDisabled(ctx, a)
	case plan.KEKDisableAborted:
		return r.kekDisableAborted(ctx, a, map[string]string{"why": a.step.Why})
	}
	return fmt.Errorf("there is no step %q", a.step.Kind)
}

// createKEK makes the vault create a new KEK. keyd wraps nothing for it before the HSM side trusts it.
func (r *Rotator) createKEK(ctx context.Context, a vaultAct) error {
	c := r.Vaults(a.policy.URL)
	if c == nil {
		return fmt.Errorf("vault %s is no longer in the configuration", a.policy.Name)
	}
	attempt, err := r.newID()
	if err != nil {
		return err
	}
	t, begun := a.step.Trigger, r.instant()
	if err := a.rec.MakeKEK(a.seen.Moment(begun.Wall), attempt, t.Requester, t.Reason); err != nil {
		return err
	}
	a.rec, err = r.saveVault(ctx, a.rec, "keyd", chain.KEKIntended, map[string]string{
		"attempt": string(attempt), "reason": t.Reason, "requester": t.Requester})
	if err != nil {
		return err
	}
	killpoint.At("kek-before")
	var kek key.KEK
	err = r.effect(ctx, "the making of a key exchange key in vault "+a.policy.Name, begun, plan.ImportTimeout,
		func(ctx context.Context) (err error) {
			kek, err = c.CreateKEK(ctx, a.seen.Newest.KEK.Version(), map[string]string{
				key.TagInstance: r.Instance, key.TagAttempt: string(attempt)})
			return err
		})
	killpoint.At("kek-after")
	if class := key.ClassOf(err); err != nil && (class == key.Retry || class == key.Refused) {
		return errors.Join(err, r.kekVoid(ctx, a, attempt, true, map[string]string{"error": err.Error()}))
	}
	if err != nil {
		return err // it may still appear
	}
	return r.kekMade(ctx, a, attempt, kek, kek.Material.Fingerprint())
}

func (r *Rotator) kekMade(ctx context.Context, a vaultAct, attempt key.ID, kek key.KEK, print key.Fingerprint) error {
	if err := a.rec.KEKMade(r.moment(a), attempt, kek.Kid, print); err != nil {
		return err
	}
	_, err := r.saveVault(ctx, a.rec, "keyd", chain.KEKMade, kekFields(a.rec.KEK(kek.Version())))
	return err
}

// kekVoid records that the KEK that keyd began to make was not made, for certain or as far as keyd can see.
func (r *Rotator) kekVoid(ctx context.Context, a vaultAct, attempt key.ID, certain bool,
	fields map[string]string) error {
	if err := a.rec.KEKVoid(attempt, certain); err != nil {
		return err
	}
	_, err := r.saveVault(ctx, a.rec, "keyd", chain.KEKNotMade,
		withFields(map[string]string{"attempt": string(attempt)}, fields))
	return err
}

func (r *Rotator) useKEK(ctx context.Context, a vaultAct) error {
	seen, _ := a.seen.KEK(a.step.Version)
	if err := a.rec.UseKEK(r.moment(a), seen.KEK.Kid, seen.Print, seen.Trust); err != nil {
		return err
	}
	_, err := r.saveVault(ctx, a.rec, "keyd", chain.KEKUsed, withFields(kekFields(a.rec.Active()),
		map[string]string{"trust": seen.Trust}))
	return err
}

// disableKEK disables a superseded KEK. Keys that were imported with it do not need it.
func (r *Rotator) disableKEK(ctx context.Context, a vaultAct) error {
	c := r.Vaults(a.policy.URL)
	if c == nil {
		return fmt.Errorf("vault %s is no longer in the configuration", a.policy.Name)
	}
	begun := r.instant()
	err := a.rec.BeginDisablingKEK(a.seen.Moment(begun.Wall), a.step.Version)
	if err != nil {
		return err
	}
	k := a.rec.KEK(a.step.Version)
	if a.rec, err = r.saveVault(ctx, a.rec, "keyd", chain.KEKDisableIntended, withFields(kekFields(k),
		map[string]string{"why": a.step.Why})); err != nil {
		return err
	}
	killpoint.At("kek-disable-before")
	err = r.effect(ctx, "the disabling of key exchange key "+k.Kid, begun, plan.StepTimeout,
		func(ctx context.Context) error { return c.DisableKEK(ctx, a.step.Version) })
	killpoint.At("kek-disable-after")
	if class := key.ClassOf(err); err != nil && class == key.Refused {
		return errors.Join(err, r.kekDisableAborted(ctx, a, map[string]string{"error": err.Error()}))
	}
	if err != nil {
		return err
	}
	return r.kekDisabled(ctx, a)
}

func (r *Rotator) kekDisabled(ctx context.Context, a vaultAct) error {
	if err := a.rec.KEKDisabled(r.moment(a), a.step.Version); err != nil {
		return err
	}
	_, err := r.saveVault(ctx, a.rec, "keyd", chain.KEKDisabled, kekFields(a.rec.KEK(a.step.Version)))
	return err
}

func (r *Rotator) kekDisableAborted(ctx context.Context, a vaultAct, fields map[string]string) error {
	if err := a.rec.KEKStaysEnabled(a.step.Version); err != nil {
		return err
	}
	_, err := r.saveVault(ctx, a.rec, "keyd", chain.KEKDisableAborted,
		withFields(kekFields(a.rec.KEK(a.step.Version)), fields))
	return err
}

// kekFields returns the audit fields of an entry about one KEK.
func kekFields(k *record.KEK) map[string]string {
	return withFields(map[string]string{"attempt": string(k.Attempt), "kek": k.Kid,
		"kek_fingerprint": string(k.Fingerprint)}, nil)
}

// saveVault stores the record with one audit entry, as save does for a key.
func (r *Rotator) saveVault(ctx context.Context, rec record.Vault, actor string, event chain.Event,
	fields map[string]string) (record.Vault, error) {
	fields = withFields(maps.Clone(fields), nil)
	return r.saveVaultAll(ctx, rec, []chain.Entry{{Event: event, Actor: actor, Fields: fields}})
}

// saveVaultAll stores a vault's record with several entries in one transaction. The first names what happened.
func (r *Rotator) saveVaultAll(ctx context.Context, rec record.Vault, entries []chain.Entry) (record.Vault, error) {
	event, now := entries[0].Event, r.now()
	for i := range entries {
		fields := maps.Clone(entries[i].Fields)
		fields["vault"] = rec.URL
		entries[i].Time, entries[i].Key, entries[i].Fields = now, rec.URL, fields
	}
	ctx = context.WithoutCancel(ctx) // keyd records the outcome even if the call used up its time
	killpoint.At("save-before " + string(event))
	saved, err := r.Store.SaveVault(ctx, rec, entries...)
	if err != nil {
		return rec, fmt.Errorf("record %q: %w", event, err)
	}
	killpoint.At("save-after " + string(event))
	return saved, nil
}

func (r *Rotator) emitVault(a vaultAct, phase status.Phase, elapsed time.Duration, err error) {
	if r.Emit == nil {
		return
	}
	e := status.Event{At: r.now(), Vault: a.policy.Name, Version: a.step.Version, Step: string(a.step.Kind),
		Phase:  phase,
		Detail: a.step.Why, Elapsed: status.Seconds(elapsed)}
	if err != nil {
		e.Error = err.Error()
	}
	r.Emit(e)
}

// RequestKEK adds a request for a new KEK to the vault's record, or joins one that is pending.
func (r *Rotator) RequestKEK(ctx context.Context, p key.VaultPolicy, actor, reason string) (q key.KEKRequest,
	joined bool, err error) {
	return r.requestKEK(ctx, r.asking(ctx), p, actor, reason)
}

func (r *Rotator) requestKEK(ctx context.Context, g *gate, p key.VaultPolicy, actor, reason string) (q key.KEKRequest,
	joined bool, err error) {
	if !p.Create {
		return q, false,
			refuse("kek.create is false for vault %s: make the new version of %s yourself; keyd uses it once its "+
				"fingerprint is pinned in kek.fingerprints", p.Name, p.KEK)
	}
	err = r.changeVault(ctx, p.URL, func(rec *record.Vault) ([]chain.Entry, error) {
		joined = false
		switch k := plan.WaitingKEK(p.Vault, rec, r.Observer.LastVault(p.URL)); {
		case k != nil:
			return nil,
				refuse("vault %s has a new key exchange key already, which waits for approval: %s; see: keyd kek %s",
					p.Name, k.Fingerprint, p.Name)
		case rec.Request != nil && !g.approving():
			q, joined = *rec.Request, true
			return nil, nil
		}
		entries, through, err := g.passVault(
			rec,
			key.Act{Kind: key.ActKEK, Reason: reason, Effects: "makes a new key " +
				"exchange key in vault " + p.Name + "; keyd wraps for it only once its fingerprint is pinned"},
		)
		if !through {
			return entries, err
		}
		id, err := r.newID()
		if err != nil {
			return nil, err
		}
		q = key.KEKRequest{ID: id, At: r.now(), By: actor, Reason: reason}
		rec.Request = &q
		return append(entries, chain.Entry{Event: chain.KEKRequested, Actor: actor, Fields: map[string]string{
			"request": string(id), "reason": reason}}), nil
	})
	return q, joined, g.outcome(err)
}
