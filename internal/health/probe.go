package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/quota"
	"github.com/keyd-project/keyd/internal/status"
)

// Prove proves every version of one key now and returns the results. It fails when there is no such key or the
// records cannot be read. A proof that did not pass is a result, not an error.
func (h *Health) Prove(ctx context.Context, name string) ([]status.Proof, error) {
	if err := h.refresh(ctx); err != nil {
		return nil, fmt.Errorf("read the records before proving key %s: %w", name, err)
	}
	h.mu.Lock()
	k := h.keys[name]
	var subjects []*tracked
	if k != nil {
		subjects = slices.DeleteFunc(slices.Clone(k.subjects), func(t *tracked) bool {
			return !h.vaults[t.Vault].configured
		})
	}
	h.mu.Unlock()
	if k == nil {
		return nil, fmt.Errorf("key %s is unknown: `keyd status` lists the keys", name)
	}

	var proofs sync.WaitGroup
	slots := make(chan struct{}, h.Parallel)
	for _, t := range subjects {
		slots <- struct{}{}
		h.mu.Lock()
		h.begin(t)
		h.mu.Unlock()
		proofs.Go(func() {
			defer func() { <-slots }()
			h.probe(priority.With(ctx, priority.Operator), t)
		})
	}
	proofs.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("proving key %s was cut short: %w", name, err)
	}
	return h.Results(name), nil
}

// begin marks a proof of a subject as under way. The caller holds the lock.
func (h *Health) begin(t *tracked) {
	q := h.vaults[t.Vault]
	q.remove(t)
	q.busy++
	t.running++
}

// probe proves one subject and keeps the result.
func (h *Health) probe(ctx context.Context, t *tracked) {
	h.mu.Lock()
	s := t.Subject // a refresh may change it meanwhile
	s.Shown = t.last.Result.Shown
	if s.Shown == nil && t.last.Failures == 0 && !s.ProvenAt.IsZero() && h.Earlier != nil {
		s.Shown = h.Earlier(s)
	}
	h.mu.Unlock()
	started := h.now()
	result := h.prove(ctx, s)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.poke()
	now := h.now()
	q := h.vaults[t.Vault]
	q.busy--
	t.running--
	if t.gone {
		return // meanwhile keyd disabled or forgot the version
	}
	defer func() { q.schedule(now, h.pace, t) }()
	if ctx.Err() != nil || !q.configured {
		return // an interrupted proof proves nothing
	}
	before := t.last
	t.last = before.ended(now, result)
	h.Metrics.ended(s, result, now.Sub(started))
	if h.Ended != nil {
		h.Ended(s, now, result)
	}
	h.tell(s, before, t.last)
}

func (h *Health) prove(ctx context.Context, s Subject) proof.Result {
	v := h.Vaults(s.Vault)
	if v == nil {
		return proof.Result{Outcome: key.Inconclusive, Leg: proof.LegModulus, Err: errNotConfigured}
	}
	ctx, cancel := context.WithTimeout(quota.WithSpec(ctx, s.Spec), probeTimeout)
	defer cancel()
	// An expired newest version is a fault: consumers wrap with it.
	s.MayHaveExpired, s.Now = !s.Newest, h.now()
	r := proof.Prove(ctx, v, h.HSM, s.Subject)
	if !s.Newest {
		r.Shown = nil // one call a day more costs less than what the older versions of all keys take of the memory
	}
	if r.Outcome == key.Inconclusive && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		r.Err = fmt.Errorf("the proof did not end within %s: %w", probeTimeout, r.Err)
	}
	return r
}

var errNotConfigured = errors.New(
	"the vault is not in the configuration, so keyd does not prove its versions: add it again if you still use it",
)

// tell logs when a version starts to fail and when it recovers, not every proof.
func (h *Health) tell(s Subject, before, after Last) {
	log := h.Logger.With("KEY", s.Key, "VAULT", s.VaultName, "generation", s.Generation, "version", s.Version)
	switch {
	case after.Result.Outcome == key.WasRefuted && before.Result.Outcome != key.WasRefuted:
		log.Error("proof refuted", "leg", string(after.Result.Leg), "error", after.Result.Err.Error())
	case after.Failing() && !before.Failing():
		log.Warn(
			"proof failing", "leg", string(after.Result.Leg), "reason", string(reasonOf(after.Result)), "error",
			after.Result.Err.Error(), "failures", after.Failures,
		)
	case !after.Failing() && before.Failing():
		log.Info("proof passes again")
	}
}

// Results returns the last result of every enabled version of a key, ordered by vault, the newest version first. If a
// vault left the configuration, the outcome of its versions is empty and the error says why. A version that Health
// has not proven since the start shows the proof in its record.
func (h *Health) Results(name string) []status.Proof {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.keys[name]
	if k == nil {
		return nil
	}
	var results []status.Proof
	for _, t := range k.subjects {
		results = append(results, h.result(t))
	}
	return results
}

// Overview returns, by key, those of the Results that tell how its proofs go: the ones of the newest versions, and of
// older versions whose proof fails or is late.
func (h *Health) Overview() map[string][]status.Proof {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	all := make(map[string][]status.Proof, len(h.keys))
	for name, k := range h.keys {
		for _, t := range k.subjects {
			if t.Newest || t.last.Failing() || now.Sub(t.passed()) > lateAfter(h.pace.of(t.Subject)) {
				all[name] = append(all[name], h.result(t))
			}
		}
	}
	return all
}

// lateAfter is the time without a passed proof after which a version is late: it was to be proven twice.
func lateAfter(interval time.Duration) time.Duration { return 2 * interval }

// passed is when the last proof of a subject passed, by its proofs or by its record; zero: never.
func (t *tracked) passed() time.Time {
	if t.last.Passed.After(t.ProvenAt) {
		return t.last.Passed
	}
	return t.ProvenAt
}

func (h *Health) result(t *tracked) status.Proof {
	s, l := t.Subject, t.last
	r := status.Proof{
		Vault: s.Vault, Version: s.Version, Generation: s.Generation, Newest: s.Newest,
		Outcome: l.Result.Outcome, At: l.At, PassedAt: t.passed(), Failing: l.Failing(), Leg: string(l.Result.Leg),
		Reason: reasonOf(l.Result),
	}
	if l.Result.Err != nil {
		r.Error = l.Result.Err.Error()
	}
	if l.At.IsZero() && !s.ProvenAt.IsZero() {
		r.Outcome, r.At = key.Passed, s.ProvenAt
	}
	if !h.vaults[s.Vault].configured {
		r.Outcome, r.Error = "", errNotConfigured.Error()
	}
	return r
}

// reasonOf is why a proof was inconclusive; "" for the other outcomes.
func reasonOf(r proof.Result) key.Reason {
	if r.Outcome != key.Inconclusive {
		return ""
	}
	reason := key.ReasonOf(r.Err)
	switch {
	case reason != key.OtherReason:
		return reason
	case r.Leg == proof.LegHSM:
		return key.HSMFailed
	case errors.Is(r.Err, context.DeadlineExceeded):
		return key.NoAnswer
	}
	return reason
}

// OnlyCloses reports whether a proof failed only because the vault neither wraps nor signs. Data encrypted under the
// version can then be read.
func OnlyCloses(p status.Proof) bool {
	return p.Outcome == key.Inconclusive && proof.Leg(p.Leg).Closes()
}
