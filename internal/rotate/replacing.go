package rotate

import (
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
)

// disableReplaced disables one version of a replaced key. The plan has seen in this very step that the consumers work
// under the new key, that the new key is proven where they are, and that nobody can need the version.
func (r *Rotator) disableReplaced(ctx context.Context, a act) (record.Record, error) {
	c, err := r.vault(a.policy, &a.rec, a.step.Vault)
	if err != nil {
		return a.rec, err
	}
	x := a.rec.Replacement
	fields := map[string]string{"replaced_by": x.With, "consent": x.Consent.Digest}
	for _, v := range a.newKey.Policy.Vaults {
		seen := a.newKey.Seen.Vaults[v.URL].Proof
		if seen.At.IsZero() {
			continue
		}
		newest, err := r.newestThere(ctx, a, v.URL)
		if err != nil {
			return a.rec, err
		}
		if newest != seen.Version {
			return a.rec, fmt.Errorf("version %s of %s is now the newest in vault %s, and keyd proved %s: it disables "+
				"nothing", newest, x.With, v.Name, seen.Version)
		}
		fields["proven_"+v.Name] = seen.Version + " at " + seen.At.UTC().Format(time.RFC3339)
	}
	return r.disableOne(ctx, a, c, fields)
}

// newestThere asks a vault which version of the new key is its newest.
func (r *Rotator) newestThere(ctx context.Context, a act, url string) (string, error) {
	c, err := r.vault(a.newKey.Policy, a.newKey.Record, url)
	if err != nil {
		return "", err
	}
	v, err := c.Newest(ctx, a.newKey.Policy.Key)
	return v.ID, err
}

// replaced records that every version of a replaced key is disabled.
func (r *Rotator) replaced(ctx context.Context, a act) (record.Record, error) {
	if err := a.rec.Replaced(r.now()); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.Replaced, map[string]string{"with": a.rec.Replacement.With,
		"consent": a.rec.Replacement.Consent.Digest})
}
