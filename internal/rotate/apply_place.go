package rotate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/byok"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/proof"
)

// importKey is one placement's import: the attempt is in the record before its
// PUT, and what is known of the answer after it.
func (r *Rotator) importKey(ctx context.Context, p key.Policy, rec key.Record, seen VaultSeen, s Step) (key.Record, error) {
	c, err := r.vault(p, s.Vault)
	if err != nil {
		return rec, err
	}
	attempt, err := key.NewID(r.Random)
	if err != nil {
		return rec, err
	}
	mark := ""
	if r.Mark != nil {
		mark = r.Mark(ctx)
	}
	begun, now := r.Clock(), r.now()
	g := rec.Generation(s.Generation)
	expires := expiry(p, &rec, s, seen.there(now))
	g.Placements = append(g.Placements, key.Placement{
		Seq: nextSeq(rec), Attempt: attempt, Vault: s.Vault, VaultName: r.vaultName(p, s.Vault), Cause: s.Cause,
		State: key.Intended, At: now, Deadline: now.Add(importTimeout), VaultAt: seen.clock(now),
		Operations: p.Operations, Expires: expires, KEK: seen.KEK.KEK.Kid, KEKPrint: seen.KEK.Print,
	})
	rec.Vaults, rec.Operations = p.Vaults, p.Operations
	rec, err = r.save(ctx, rec, "import intended", placementFields(rec, attempt, map[string]string{"checkpoint": mark}))
	if err != nil {
		return rec, err
	}
	killpoint.At("import-before")

	// The disk may have taken long, and the deadline is recorded.
	ctx, cancel := context.WithTimeout(ctx, importTimeout-r.Clock().Sub(begun))
	defer cancel()
	v, sent, err := r.put(ctx, c, *rec.Generation(s.Generation), seen.KEK.KEK, key.ImportRequest{
		Key: p.Key, Operations: p.Operations, Expires: expires, Tags: r.tags(s.Generation, attempt, mark)})
	killpoint.At("import-after")
	// What happened is recorded even when the call used up its time.
	ctx = context.WithoutCancel(ctx)
	if err != nil {
		return r.importFailed(ctx, rec, attempt, sent, err)
	}
	return r.imported(ctx, rec, attempt, v)
}

// put wraps the pair for the KEK, in memory only, and sends it with the request. sent is false
// when the PUT was certainly never begun.
func (r *Rotator) put(ctx context.Context, c Vault, g key.Generation, kek key.KEK, req key.ImportRequest) (v key.Version, sent bool, err error) {
	ciphertext, err := r.HSM.WrapFor(ctx, g.ID, kek)
	if err != nil {
		return v, false, fmt.Errorf("wrap for the key exchange key: %w", err)
	}
	blob, err := byok.Encode(kek.Kid, ciphertext, r.Generator)
	if err != nil {
		return v, false, err
	}
	killpoint.At("put-before")
	req.Blob = blob
	v, err = c.Import(ctx, req)
	return v, true, err
}

// tags are what an imported version carries.
func (r *Rotator) tags(generation int, attempt key.ID, mark string) map[string]string {
	tags := map[string]string{
		key.TagInstance:   r.Instance,
		key.TagGeneration: strconv.Itoa(generation),
		key.TagAttempt:    string(attempt),
	}
	if mark != "" {
		tags[key.TagCheckpoint] = mark
	}
	return tags
}

// expiry is the expiry date of an import that is made now, by the vault's clock, in
// whole seconds; zero for none. Only a key's latest generation gets one, as what a
// rotation has made. What is put back as newest because something went wrong, or is
// brought in after the others, must not end by itself while nobody rotates.
func expiry(p key.Policy, rec *key.Record, s Step, now time.Time) time.Time {
	latest := rec.Latest()
	rotation := s.Cause == key.CauseRotation || s.Cause == key.CauseNewVault
	// A signing key has nothing else to be proven by than what the date ends.
	pair, _ := key.ProofPair(p.Operations)
	if p.ExpiresAfter <= 0 || pair[0] == key.Sign || !rotation || latest == nil || latest.Number != s.Generation {
		return time.Time{}
	}
	return now.Add(p.ExpiresAfter).UTC().Truncate(time.Second)
}

// importFailed voids the placement when nothing can have happened, and leaves it
// intended when something may have.
func (r *Rotator) importFailed(ctx context.Context, rec key.Record, attempt key.ID, sent bool, cause error) (key.Record, error) {
	at := findPlacement(&rec, attempt)
	class := key.ClassOf(cause)
	if sent && class != key.Retry && class != key.Refused {
		return rec, fmt.Errorf("whether the vault took the import is not known; keyd does not repeat it and looks in the listing until %s: %w", at.p.Deadline.UTC().Format(time.TimeOnly), cause)
	}
	at.p.State, at.p.Detail = key.Void, cause.Error()
	if _, err := r.save(ctx, rec, "import did not happen", placementFields(rec, attempt, map[string]string{"error": cause.Error()})); err != nil {
		return rec, errors.Join(cause, err)
	}
	return rec, cause
}

func (r *Rotator) imported(ctx context.Context, rec key.Record, attempt key.ID, v key.Version) (key.Record, error) {
	at := findPlacement(&rec, attempt)
	at.p.State, at.p.Version, at.p.Created, at.p.ImportedAt = key.Imported, v.ID, v.Created, r.now()
	at.p.Detail = ""
	return r.save(ctx, rec, "imported", placementFields(rec, attempt, nil))
}

// found records the version of an attempt whose answer was lost.
func (r *Rotator) found(ctx context.Context, rec key.Record, seen VaultSeen, s Step) (key.Record, error) {
	v, ok := seen.version(s.Version)
	if !ok {
		return rec, fmt.Errorf("version %s is not in the last listing", s.Version)
	}
	if at := findPlacement(&rec, s.Attempt); at.p.Version == v.ID && !v.Enabled && v.ID != seen.Newest {
		// It had been given up as gone. No proof of it can pass, and nothing must wait for one.
		at.p.State, at.p.DisabledAt, at.p.Detail = key.Disabled, r.now(), ""
		return r.save(ctx, rec, "imported", placementFields(rec, s.Attempt, nil))
	}
	return r.imported(ctx, rec, s.Attempt, v)
}

// alias records a version that repeats a placement's material.
func (r *Rotator) alias(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	at := findPlacement(&rec, s.Attempt)
	at.p.Aliases = append(at.p.Aliases, s.Version)
	if !at.g.Deactivated.IsZero() {
		at.g.Deactivated = r.now() // it may have been newest until now
	}
	return r.save(ctx, rec, "duplicate version adopted", placementFields(rec, s.Attempt, map[string]string{"alias": s.Version}))
}

// giveUp voids an attempt that certainly did not happen.
func (r *Rotator) giveUp(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	at := findPlacement(&rec, s.Attempt)
	at.p.State, at.p.Detail = key.Void, s.Why
	return r.save(ctx, rec, "import did not happen", placementFields(rec, s.Attempt, map[string]string{"why": s.Why}))
}

// prove decides a placement. An inconclusive proof changes nothing and is an
// error, so that it is tried again.
func (r *Rotator) prove(ctx context.Context, p key.Policy, rec key.Record, s Step) (key.Record, error) {
	c, err := r.vault(p, s.Vault)
	if err != nil {
		return rec, err
	}
	at := findPlacement(&rec, s.Attempt)
	pair, _ := key.ProofPair(operationsOf(*at.p, p))
	killpoint.At("prove-before")
	result := proof.Prove(ctx, c, r.HSM, proof.Subject{
		Key: p.Key, Version: s.Version, ID: at.g.ID, Fingerprint: at.g.Fingerprint,
		Operations: operationsOf(*at.p, p), LostInHSM: !at.g.LostInHSM.IsZero(),
		// One that expired before it was proven must not stop the next rotation.
		MayHaveExpired: pair[0] != key.Sign, Now: r.now(),
	})
	killpoint.At("prove-after")
	switch result.Outcome {
	case key.Passed:
		r.activate(&rec, at)
		return r.save(ctx, rec, "proof passed", placementFields(rec, s.Attempt, map[string]string{"checked": spaced(result.Passed)}))
	case key.WasRefuted:
		at.p.State, at.p.Detail = key.Refuted, fmt.Sprintf("%s: %v", result.Leg, result.Err)
		return r.save(ctx, rec, "proof refuted", placementFields(rec, s.Attempt, map[string]string{"leg": string(result.Leg), "error": result.Err.Error()}))
	}
	return rec, fmt.Errorf("the proof was inconclusive at %s, version %s: %w", result.Leg, s.Version, result.Err)
}

// operationsOf is what a placement can be proven by: the operations it was imported
// with, which the policy may have changed since.
func operationsOf(at key.Placement, p key.Policy) []key.Operation {
	if len(at.Operations) > 0 {
		return at.Operations
	}
	return p.Operations
}

// activate makes a placement the active one of its vault, unless a later one
// already is, and deactivates the generations that are now superseded.
func (r *Rotator) activate(rec *key.Record, at placed) {
	now := r.now()
	at.p.State, at.p.ProvenAt = key.Proven, now
	newest := at.p
	for i := range rec.Generations {
		for j := range rec.Generations[i].Placements {
			p := &rec.Generations[i].Placements[j]
			if p.Vault == at.p.Vault && p.State == key.Proven && p.Seq > newest.Seq {
				newest = p
			}
		}
	}
	for i := range rec.Generations {
		for j := range rec.Generations[i].Placements {
			p := &rec.Generations[i].Placements[j]
			if p.Vault == at.p.Vault && p.State == key.Proven && p != newest {
				p.State = key.Superseded
			}
		}
	}
	deactivate(rec, now)
}

// deactivate marks each generation that has been active, is active nowhere any
// more, and has a finished successor; one that is active again loses the mark.
func deactivate(rec *key.Record, now time.Time) {
	finishedLater := false
	for i := len(rec.Generations) - 1; i >= 0; i-- {
		g := &rec.Generations[i]
		switch {
		case activeSomewhere(*g):
			g.Deactivated = time.Time{}
		case finishedLater && g.Deactivated.IsZero() && g.State() == key.Active:
			g.Deactivated = now
		}
		finishedLater = finishedLater || !g.Finished.IsZero()
	}
}

func activeSomewhere(g key.Generation) bool {
	for _, p := range g.Placements {
		if p.State == key.Proven {
			return true
		}
	}
	return false
}

// finish records that a generation is active everywhere, which answers its
// requests.
func (r *Rotator) finish(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	now := r.now()
	g := rec.Generation(s.Generation)
	g.Finished = now
	pending := rec.Requests[:0:0]
	for _, q := range rec.Requests {
		if !answers(*g, q) {
			pending = append(pending, q)
		}
	}
	rec.Requests = pending
	deactivate(&rec, now)
	return r.save(ctx, rec, "rotation finished", generationFields(*g, nil))
}

func answers(g key.Generation, q key.Request) bool {
	for _, id := range g.Requests {
		if id == q.ID {
			return true
		}
	}
	return false
}

func (r *Rotator) vault(p key.Policy, url string) (Vault, error) {
	if c := r.Vaults(url); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("vault %s is no longer in the configuration", r.vaultName(p, url))
}

func nextSeq(rec key.Record) int {
	n := 0
	for _, g := range rec.Generations {
		for _, p := range g.Placements {
			n = max(n, p.Seq)
		}
	}
	return n + 1
}

// findPlacement returns the placement of an attempt. The plan was made on the
// same record, so it is there.
func findPlacement(rec *key.Record, attempt key.ID) (at placed) {
	for i := range rec.Generations {
		g := &rec.Generations[i]
		for j := range g.Placements {
			if g.Placements[j].Attempt == attempt {
				return placed{g, &g.Placements[j]}
			}
		}
	}
	return at
}

func placementFields(rec key.Record, attempt key.ID, more map[string]string) map[string]string {
	at := findPlacement(&rec, attempt)
	f := generationFields(*at.g, map[string]string{
		"attempt": string(attempt), "vault": at.p.Vault, "cause": string(at.p.Cause),
		"version": at.p.Version, "kek": at.p.KEK, "kek_fingerprint": string(at.p.KEKPrint),
	})
	if !at.p.Expires.IsZero() {
		f["expires"] = at.p.Expires.Format(time.RFC3339)
	}
	for k, v := range more {
		if v != "" {
			f[k] = v
		}
	}
	return f
}

// digest is the short form in which keyd adopt names what it showed.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:8])
}
