package hsm

import (
	"context"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// AuditKey returns the public half of the instance's audit key. present is false if there is none yet. Incomplete:
// there is more than one.
func (c *Client) AuditKey(ctx context.Context) (m key.Material, present bool, err error) {
	r, err := do[publicKeyResult](ctx, c, "AuditKey", empty{}, c.limits.Call, key.Retry)
	if err != nil {
		return key.Material{}, false, err
	}
	return r.Material, r.Material.Known(), nil
}

// MakeAuditKey makes the audit key, RSA-3072, unless it exists, and returns its public half. A caller may repeat it.
func (c *Client) MakeAuditKey(ctx context.Context) (key.Material, error) {
	return c.publicKey(ctx, "MakeAuditKey", empty{}, c.limits.Generate, key.Ambiguous)
}

// Follow shows the HSM side a page of links of the audit chain, without Since: the first one begins after the entry
// that the checkpoint in its memory covers, and the last one ends with the entry that the newest checkpoint covers.
// Retry: it was restarted meanwhile, and the caller begins anew. ChainBroken: the links do not lead on.
func (c *Client) Follow(ctx context.Context, x chain.Extension) error {
	_, err := do[empty](ctx, c, "Follow", extensionParams{x}, c.limits.Call, key.Retry)
	return err
}

// SignCheckpoint signs the head to which x leads, if x continues the checkpoint that this HSM side signed last. If the
// chain does not have that one as its newest, nothing new is signed, and missed says that signed is that one. If
// another HSM side signed since, the caller shows this one the way there (Follow); otherwise it records that one if it
// belongs to the chain. Then it asks again. NotFound: there is no audit key.
// ChainBroken: the HSM side cannot tell that x continues anything that the audit key signed.
func (c *Client) SignCheckpoint(
	ctx context.Context, x chain.Extension,
) (signed key.SignedCheckpoint, missed bool, err error) {
	r, err := do[checkpointResult](ctx, c, "SignCheckpoint", extensionParams{x}, c.limits.Call, key.Retry)
	return r.Checkpoint, r.Missed, err
}
