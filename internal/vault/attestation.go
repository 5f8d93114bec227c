package vault

import (
	"context"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

// Attestation returns what the Managed HSM's hardware says of one version, as package attest reads it. It judges
// nothing. It returns "" without a call if the configuration asks for no attestation there.
func (c *Client) Attestation(ctx context.Context, name, version string) (raw string, err error) {
	if !c.cfg.Attested {
		return "", nil
	}
	if version == "" {
		return "", c.noVersion(ctx, opAttestation, name)
	}
	err = c.do(ctx, opAttestation, name, version, func(ctx context.Context) error {
		answer, err := c.keys.GetKeyAttestation(ctx, name, version, nil)
		if err != nil {
			return err
		}
		if answer.Attributes == nil || answer.Attributes.Attestation == nil {
			return badAnswerf("it has no attestation")
		}
		a := answer.Attributes.Attestation
		raw = string(attest.Encode(a.PrivateKeyAttestation, a.CertificatePEMFile))
		if len(raw) > key.MaxAttestation {
			return badAnswerf("its attestation has %d bytes, more than %d", len(raw), key.MaxAttestation)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return raw, nil
}
