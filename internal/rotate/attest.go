package rotate

import (
	"context"
	"maps"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/record"
)

// attested gets what the Managed HSM says of the version that a proof is about, verifies it, and adds it to the entry
// of the proof. It decides nothing: the proof says whether the version works.
func (r *Rotator) attested(ctx context.Context, a act, at record.Placed, fields map[string]string,
) map[string]string {
	if r.Attest == nil {
		return fields
	}
	e, asked := r.Attest(ctx, a.step.Vault, attest.Expect{
		Key: a.policy.Key, Version: a.step.Version, Fingerprint: at.Generation.Fingerprint,
	})
	if !asked {
		return fields
	}
	if e.Result != attest.Verified && r.Logger != nil {
		r.Logger.With("KEY", a.policy.Key, "VAULT", a.rec.VaultName(a.policy, a.step.Vault)).WarnContext(ctx,
			"the imported version is not attested", "version", a.step.Version, "result", e.Result, "reason", e.Why)
	}
	maps.Copy(fields, e.Fields())
	return fields
}
