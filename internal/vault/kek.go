package vault

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/key"
)

// opImportOnly is the one operation a KEK has; it excludes every other.
const opImportOnly = key.Operation(azkeys.KeyOperationImport)

// KEK returns the newest version of the key exchange key, checked: RSA-HSM, only
// the operation import, enabled, neither expired nor too small. present is false,
// and err nil, when the vault has none.
func (c *Client) KEK(ctx context.Context) (kek key.KEK, present bool, err error) {
	err = c.do(ctx, opGetKEK, c.cfg.KEKName, "", func(ctx context.Context) error {
		answer, err := c.keys.GetKey(ctx, c.cfg.KEKName, "", nil)
		if err != nil {
			return err
		}
		kek, err = c.checkKEK(answer.KeyBundle)
		return err
	})
	if IsNotFound(err) {
		return key.KEK{}, false, nil
	}
	return kek, err == nil, err
}

// CreateKEK makes the key exchange key (RSA-HSM, Config.KEKBits, only the
// operation import) unless it is there. It is refused without Config.CreateKEK.
// An error of class Ambiguous means that it may be made, or may come to light yet.
func (c *Client) CreateKEK(ctx context.Context) (key.KEK, error) {
	kek, present, err := c.KEK(ctx)
	if present || err != nil {
		return kek, err
	}
	err = c.do(ctx, opCreateKEK, c.cfg.KEKName, "", func(ctx context.Context) error {
		if !c.cfg.CreateKEK {
			return refusef(fmt.Sprintf("to make it: az keyvault key create %s --name %s --kty RSA-HSM --size %d --ops import",
				c.cfg.Vault.AzScope(), c.cfg.KEKName, c.kekBits()), "there is none, and kek.create is false")
		}
		answer, err := c.keys.CreateKey(c.once(ctx), c.cfg.KEKName, azkeys.CreateKeyParameters{
			Kty:           to.Ptr(azkeys.KeyTypeRSAHSM),
			KeySize:       to.Ptr(int32(c.kekBits())),
			KeyOps:        []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationImport)},
			KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true)},
		}, nil)
		if err != nil {
			return err
		}
		kek, err = c.checkKEK(answer.KeyBundle)
		return err
	})
	return kek, err
}

func (c *Client) checkKEK(b azkeys.KeyBundle) (key.KEK, error) {
	v, err := c.fromBundle(b, c.cfg.KEKName)
	if err != nil {
		return key.KEK{}, err
	}
	const remedy = "let keyd make its own under another name (kek.name), or remove this one"
	switch {
	case v.Kty != string(azkeys.KeyTypeRSAHSM):
		return key.KEK{}, refusef(remedy, "it is of type %s, a KEK must be RSA-HSM", oneLine(v.Kty))
	case !sameOperations(v.Operations, []key.Operation{opImportOnly}):
		return key.KEK{}, refusef(remedy, "its operations are %v, a KEK must have import and no other", v.Operations)
	case !v.Enabled:
		return key.KEK{}, refusef("enable it, or make a new version of it", "it is disabled")
	case !v.Expires.IsZero() && !c.cfg.Clock().Before(v.Expires):
		return key.KEK{}, refusef("make a new version of it, without an expiry date", "it expired at %s", v.Expires.Format(time.RFC3339))
	}
	switch spec := v.Material.Spec(); {
	case !slices.Contains(key.Specs(), spec):
		return key.KEK{}, refusef(remedy, "it is %s, a KEK must be one of %v", spec, key.Specs())
	case spec.Bits() < c.cfg.KEKBits:
		return key.KEK{}, refusef(remedy, "it has %d bits, the configuration asks for %d", spec.Bits(), c.cfg.KEKBits)
	}
	return key.KEK{Vault: c.cfg.Vault.URL, Kid: string(*b.Key.KID), Material: v.Material}, nil
}

func (c *Client) kekBits() int {
	if c.cfg.KEKBits == 0 {
		return DefaultKEKBits
	}
	return c.cfg.KEKBits
}
