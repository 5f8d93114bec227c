package observe

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
)

// withProof proves the version that a vault shows as its newest, with nothing kept of earlier proofs: before keyd
// disables an older version, the newest must work in this moment, in the vault and in the HSM.
func (o *Observer) withProof(ctx context.Context, url string, p key.Policy, rec *record.Record,
	seen record.VaultSeen) record.VaultSeen {
	c, last := o.Vaults(url), rec.NewestIn(url)
	if c == nil || seen.Err != nil || !last.Found() {
		return seen
	}
	seen.Proof = record.ProofSeen{At: o.now(), Version: seen.Newest}
	within, cancel := context.WithTimeout(ctx, plan.LookTimeout)
	defer cancel()
	r := proof.Prove(within, c, o.HSM, proof.Subject{
		Key: p.Key, Version: seen.Newest, ID: last.Generation.ID, Fingerprint: last.Generation.Fingerprint,
		Operations: last.ProvableBy(p.Operations), Now: seen.Proof.At,
	})
	if r.Outcome != key.Passed {
		seen.Proof.Err = fmt.Errorf("%s at %s: %w", r.Outcome, r.Leg, r.Err)
	}
	return seen
}
