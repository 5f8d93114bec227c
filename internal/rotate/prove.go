package rotate

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
)

// prove records the outcome of a placement's proof. An inconclusive proof changes nothing and is an error, so that
// keyd tries again.
func (r *Rotator) prove(ctx context.Context, a act) (record.Record, error) {
	c, err := r.vault(a.policy, &a.rec, a.step.Vault)
	if err != nil {
		return a.rec, err
	}
	attempt := a.step.Attempt
	at := a.rec.Placement(attempt)
	operations := at.ProvableBy(a.policy.Operations)
	pair, _ := key.ProofPair(operations)
	var shown *key.Version
	if v, ok := a.in().Version(a.step.Version); ok && v.Kty != "" &&
		v.Material.Matches(at.Generation.Fingerprint) == key.MatchYes {
		shown = &v // as the vault answered the import; the proof asks again where that answer was another
	}
	killpoint.At("prove-before")
	result := proof.Prove(ctx, c, r.HSM, proof.Subject{
		Key: a.policy.Key, Version: a.step.Version, ID: at.Generation.ID, Fingerprint: at.Generation.Fingerprint,
		Operations: operations, LostInHSM: !at.Generation.LostInHSM.IsZero(),
		// A version that expired before it was proven must not block the next rotation.
		MayHaveExpired: pair[0] != key.Sign, Now: r.now(), Shown: shown,
	})
	killpoint.At("prove-after")
	switch result.Outcome {
	case key.Passed:
		says := r.attested(ctx, a, at, map[string]string{"checked": spaced(result.Passed)})
		if err := a.rec.Prove(r.now(), attempt); err != nil {
			return a.rec, err
		}
		return r.save(ctx, a.rec, chain.ProofPassed, placementFields(&a.rec, attempt, says))
	case key.WasRefuted:
		if err := a.rec.Refute(attempt, fmt.Sprintf("%s: %v", result.Leg, result.Err)); err != nil {
			return a.rec, err
		}
		return r.save(ctx, a.rec, chain.ProofRefuted,
			placementFields(&a.rec, attempt, map[string]string{"leg": string(result.Leg), "error": result.Err.Error()}))
	}
	return a.rec, fmt.Errorf("the proof was inconclusive at %s, version %s: %w", result.Leg, a.step.Version, result.Err)
}

// finish records that a generation is active everywhere, which answers its requests.
func (r *Rotator) finish(ctx context.Context, a act) (record.Record, error) {
	g, err := a.rec.Finish(r.now(), a.policy, a.step.Generation)
	if err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.RotationFinished, generationFields(g, nil))
}
