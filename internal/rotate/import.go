package rotate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/byok"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/term"
)

// The protocol of an import, in order:
//
//  1. intend: the record has the attempt, its random id and its deadline before the PUT;
//  2. wrap:   the HSM side wraps the pair for the vault's KEK, in memory only;
//  3. send:   one PUT, never repeated, which ends at the recorded deadline;
//  4. record what the answer proves: the version ("imported"), or that the import certainly did not happen;
//  5. otherwise the attempt stays open, and later listings decide: land, when one shows the version; void, when a
//     complete one that began after deadline and settle time does not; alias, when the same material appears again.

// importKey does steps 1 to 4 for one placement.
func (r *Rotator) importKey(ctx context.Context, a act) (record.Record, error) {
	c, err := r.vault(a.policy, &a.rec, a.step.Vault)
	if err != nil {
		return a.rec, err
	}
	if err := r.stillActive(ctx, a); err != nil {
		return a.rec, err
	}
	rec, req, attempt, begun, err := r.intend(ctx, a)
	if err != nil {
		return rec, err
	}
	killpoint.At("import-before")
	var v key.Version
	sent := false
	what := fmt.Sprintf("the import of generation %d into vault %s", a.step.Generation,
		a.rec.VaultName(a.policy, a.step.Vault))
	err = r.effect(ctx, what, begun, plan.ImportTimeout, func(ctx context.Context) error {
		blob, err := r.wrap(ctx, rec.Generation(a.step.Generation).ID, a.in().KEK.KEK)
		if sent = err == nil; !sent {
			return err
		}
		killpoint.At("put-before")
		req.Blob = blob
		v, err = c.Import(ctx, req)
		return err
	})
	killpoint.At("import-after")
	// keyd records the outcome even if the call used up its time.
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return r.importFailed(ctx, rec, attempt, sent, err)
	}
	*a.imported = v
	return r.landed(ctx, rec, attempt, v)
}

// intend records the attempt, and makes the request except for its blob.
func (r *Rotator) intend(ctx context.Context, a act) (rec record.Record, req key.ImportRequest, attempt key.ID,
	begun term.Instant, err error) {
	if attempt, err = r.newID(); err != nil {
		return a.rec, req, attempt, begun, err
	}
	mark := ""
	if r.Mark != nil {
		mark = r.Mark(ctx)
	}
	begun = r.instant()
	p, seen, now := a.policy, a.in(), begun.Wall
	expires := expiry(p, &a.rec, a.step, seen.There(now))
	err = a.rec.Intend(a.step.Generation, record.Placement{
		Attempt: attempt, Vault: a.step.Vault, VaultName: a.rec.VaultName(p, a.step.Vault), Cause: a.step.Cause,
		At: now, Deadline: now.Add(plan.ImportTimeout), VaultAt: seen.Clock(now),
		Operations: p.Operations, Expires: expires, KEK: seen.KEK.KEK.Kid, KEKPrint: seen.KEK.Print,
	})
	if err != nil {
		return a.rec, req, attempt, begun, err
	}
	a.rec.KeepPolicy(p)
	rec, err = r.save(ctx, a.rec, chain.ImportIntended,
		placementFields(&a.rec, attempt, map[string]string{"checkpoint": mark}))
	return rec, key.ImportRequest{
		Key: p.Key, Operations: p.Operations, Expires: expires, Tags: r.tags(a.step.Generation, attempt, mark),
	}, attempt, begun, err
}

// stillActive checks that the KEK in the observation is the one in use: the time for which a KEK is still needed
// counts from here.
func (r *Rotator) stillActive(ctx context.Context, a act) error {
	v, err := r.loadVault(ctx, a.step.Vault)
	if err != nil {
		return err
	}
	if k := v.Active(); k == nil || k.Kid != a.in().KEK.KEK.Kid {
		return fmt.Errorf("vault %s now uses another key exchange key: keyd looks again",
			a.rec.VaultName(a.policy, a.step.Vault))
	}
	return nil
}

// wrap makes the transfer blob of a pair for a KEK, in memory only.
func (r *Rotator) wrap(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error) {
	ciphertext, err := r.HSM.WrapFor(ctx, id, kek)
	if err != nil {
		return nil, fmt.Errorf("wrap for the key exchange key: %w", err)
	}
	return byok.Encode(kek.Kid, ciphertext, r.Generator)
}

// tags returns the tags of an imported version.
func (r *Rotator) tags(generation int, attempt key.ID, mark string) map[string]string {
	return withFields(map[string]string{
		key.TagInstance:   r.Instance,
		key.TagGeneration: strconv.Itoa(generation),
		key.TagAttempt:    string(attempt),
	}, map[string]string{key.TagCheckpoint: mark})
}

// expiry is the expiry date of an import made now: by the vault's clock, in whole seconds; zero for none. Only a
// key's latest generation gets one, because a rotation made it. A version that a repair or rollback makes newest
// again, or that a new vault catches up on, must not expire while nobody rotates.
func expiry(p key.Policy, rec *record.Record, s plan.Step, now time.Time) time.Time {
	latest := rec.Latest()
	rotation := s.Cause == key.CauseRotation || s.Cause == key.CauseNewVault
	// A signing key can be proven only by the operations that the date ends.
	pair, _ := key.ProofPair(p.Operations)
	if p.ExpiresAfter <= 0 || pair[0] == key.Sign || !rotation || latest == nil || latest.Number != s.Generation {
		return time.Time{}
	}
	return now.Add(p.ExpiresAfter).UTC().Truncate(time.Second)
}

// importFailed voids the placement if the import certainly had no effect, and otherwise leaves it open.
func (r *Rotator) importFailed(ctx context.Context, rec record.Record, attempt key.ID, sent bool,
	cause error) (record.Record, error) {
	class := key.ClassOf(cause)
	if sent && class != key.Retry && class != key.Refused {
		deadline := rec.Placement(attempt).Deadline
		return rec, fmt.Errorf("keyd does not know whether the vault took the import; it does not repeat it, and "+
			"looks in the listing until %s: %w",
			deadline.UTC().Format(time.TimeOnly), cause)
	}
	if err := rec.Void(attempt, cause.Error()); err != nil {
		return rec, errors.Join(cause, err)
	}
	if _, err := r.save(ctx, rec, chain.ImportVoid,
		placementFields(&rec, attempt, map[string]string{"error": cause.Error()})); err != nil {
		return rec, errors.Join(cause, err)
	}
	return rec, cause
}

func (r *Rotator) landed(ctx context.Context, rec record.Record, attempt key.ID, v key.Version) (record.Record, error) {
	if err := rec.Land(r.now(), attempt, v); err != nil {
		return rec, err
	}
	return r.save(ctx, rec, chain.Imported, placementFields(&rec, attempt, nil))
}

// land records the version of an attempt whose answer was lost.
func (r *Rotator) land(ctx context.Context, a act) (record.Record, error) {
	seen, attempt := a.in(), a.step.Attempt
	v, ok := seen.Version(a.step.Version)
	if !ok {
		return a.rec, fmt.Errorf("version %s is not in the last listing", a.step.Version)
	}
	if a.rec.Placement(attempt).Version != v.ID || v.Enabled || v.ID == seen.Newest {
		return r.landed(ctx, a.rec, attempt, v)
	}
	if err := a.rec.LandDisabled(r.now(), attempt); err != nil { // adopt had given the version up as gone
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.Imported, placementFields(&a.rec, attempt, nil))
}

// alias records a version that repeats a placement's material.
func (r *Rotator) alias(ctx context.Context, a act) (record.Record, error) {
	v, ok := a.in().Version(a.step.Version)
	if !ok {
		return a.rec, fmt.Errorf("version %s is not in the last listing", a.step.Version)
	}
	vault := key.Vault{Name: a.rec.VaultName(a.policy, a.step.Vault), URL: a.step.Vault}
	if err := a.rec.Alias(r.now(), a.step.Attempt, record.FoundVersion{
		Vault: vault, Version: v, Newest: v.ID == a.in().Newest, Operations: a.in().Operations.Of(v.ID),
	}); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.AliasAdopted,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"alias": a.step.Version}))
}

// void gives up an attempt that certainly did not happen.
func (r *Rotator) void(ctx context.Context, a act) (record.Record, error) {
	if err := a.rec.Void(a.step.Attempt, a.step.Why); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.ImportVoid,
		placementFields(&a.rec, a.step.Attempt, map[string]string{"why": a.step.Why}))
}

// placementFields are the fields of an entry about a placement. Those without a value are left out.
func placementFields(rec *record.Record, attempt key.ID, extra map[string]string) map[string]string {
	at := rec.Placement(attempt)
	f := generationFields(at.Generation, map[string]string{
		"attempt": string(attempt), "vault": at.Vault, "cause": string(at.Cause),
		"version": at.Version, "kek": at.KEK, "kek_fingerprint": string(at.KEKPrint),
	})
	if !at.Expires.IsZero() {
		f["expires"] = at.Expires.Format(time.RFC3339)
	}
	return withFields(f, extra)
}
