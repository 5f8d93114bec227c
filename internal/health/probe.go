package health

import (
	"context"
	"errors"
	"fmt"
	"sync"

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
	known := h.keys[name]
	var subjects []Subject
	for _, s := range h.subjects {
		if s.Key == name {
			subjects = append(subjects, s)
		}
	}
	h.mu.Unlock()
	if !known {
		return nil, fmt.Errorf("key %s is unknown: `keyd status` lists the keys", name)
	}

	var proofs sync.WaitGroup
	slots := make(chan struct{}, h.Parallel)
	for _, s := range subjects {
		slots <- struct{}{}
		h.mu.Lock()
		h.begin(s)
		h.mu.Unlock()
		proofs.Go(func() {
			defer func() { <-slots }()
			h.probe(priority.With(ctx, priority.Operator), s)
		})
	}
	proofs.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("proving key %s was cut short: %w", name, err)
	}
	return h.Results(name), nil
}

// begin marks the proof of s as under way. The caller holds the lock.
func (h *Health) begin(s Subject) {
	l := h.last[s.ID()]
	l.Busy = true
	h.last[s.ID()] = l
	h.busy[s.Vault]++
}

// probe proves one subject and keeps the result.
func (h *Health) probe(ctx context.Context, s Subject) {
	started := h.now()
	h.mu.Lock()
	s.Shown = h.last[s.ID()].Result.Shown
	h.mu.Unlock()
	result := h.prove(ctx, s)
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.poke()
	now := h.now()
	h.busy[s.Vault]--
	before, known := h.last[s.ID()]
	if !known {
		return // meanwhile keyd disabled or forgot the version
	}
	before.Busy = false
	h.last[s.ID()] = before
	if ctx.Err() != nil {
		return // an interrupted proof proves nothing
	}
	after := before.ended(now, result)
	h.last[s.ID()] = after
	h.Metrics.proven(s, result, now.Sub(started))
	if h.Ended != nil {
		h.Ended(s, now, result)
	}
	h.showKey(now, s.Key)
	h.tell(s, before, after)
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
	var results []status.Proof
	for _, s := range h.subjects {
		if s.Key == name {
			results = append(results, result(s, h.last[s.ID()]))
		}
	}
	for _, s := range h.skipped {
		if s.Key == name {
			r := result(s, Last{})
			r.Outcome, r.Error = "", errNotConfigured.Error()
			results = append(results, r)
		}
	}
	return results
}

func result(s Subject, l Last) status.Proof {
	r := status.Proof{
		Vault: s.Vault, Version: s.Version, Generation: s.Generation, Newest: s.Newest,
		Outcome: l.Result.Outcome, At: l.At, PassedAt: s.ProvenAt, Leg: string(l.Result.Leg),
		Reason: reasonOf(l.Result),
	}
	if l.Passed.After(r.PassedAt) {
		r.PassedAt = l.Passed
	}
	if l.Result.Err != nil {
		r.Error = l.Result.Err.Error()
	}
	if l.At.IsZero() && !s.ProvenAt.IsZero() {
		r.Outcome, r.At = key.Passed, s.ProvenAt
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

// Failing reports whether the version deserves an alarm: its proof was refuted, or inconclusive twice in a row.
func (h *Health) Failing(id ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last[id].Failing()
}

// OnlyCloses reports whether a proof failed only because the vault neither wraps nor signs. Data encrypted under the
// version can then be read.
func OnlyCloses(p status.Proof) bool {
	return p.Outcome == key.Inconclusive && proof.Leg(p.Leg).Closes()
}
