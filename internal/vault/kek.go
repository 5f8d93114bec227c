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

// KEK returns one version of the KEK, "" for the newest. It checks that the version is RSA-HSM, allows only the
// operation import, is enabled, and is neither expired nor too small. present is false, and err nil, if the vault has
// none. With an error, the KEK has at most its kid.
func (c *Client) KEK(ctx context.Context, version string) (kek key.KEK, present bool, err error) {
	err = c.do(ctx, opGetKEK, c.cfg.KEKName, version, func(ctx context.Context) error {
		answer, err := c.keys.GetKey(ctx, c.cfg.KEKName, version, nil)
		if err != nil {
			return err
		}
		kek, err = c.checkKEK(answer.KeyBundle)
		if err == nil && version != "" && kek.Version() != version {
			return badAnswerf("it is about version %s", kek.Version())
		}
		return err
	})
	if IsNotFound(err) {
		return key.KEK{}, false, nil
	}
	if err == nil {
		kek.Attestation, err = c.Attestation(ctx, c.cfg.KEKName, kek.Version())
	}
	return kek, err == nil, err
}

// KEKVersions lists every version of the KEK, as Versions does.
func (c *Client) KEKVersions(ctx context.Context) ([]key.Version, error) {
	return c.Versions(ctx, c.cfg.KEKName)
}

// CreateKEK makes a new version of the KEK (RSA-HSM, Config.KEKBits, only the operation import), unless the newest
// version is not the version after, "" for none. It refuses without Config.CreateKEK. An error of class Ambiguous
// means that the version exists or may still appear; after Retry and Refused it certainly was not made.
func (c *Client) CreateKEK(ctx context.Context, after string, tags map[string]string) (key.KEK, error) {
	newest, err := c.newestKEK(ctx)
	if err != nil {
		return key.KEK{}, err
	}
	var kek key.KEK
	err = c.do(ctx, opCreateKEK, c.cfg.KEKName, "", func(ctx context.Context) error {
		if !c.cfg.CreateKEK {
			return refusef(
				fmt.Sprintf("to make it: az keyvault key create %s --name %s --kty RSA-HSM --size %d --ops import",
					c.cfg.Vault.AzScope(), c.cfg.KEKName, c.kekBits()),
				"keyd may not make one: kek.create is false",
			)
		}
		if newest != after {
			return refusef("keyd looks again by itself", "the newest version is %q by now, and was %q", newest, after)
		}
		p := azkeys.CreateKeyParameters{
			Kty:           to.Ptr(azkeys.KeyTypeRSAHSM),
			KeySize:       to.Ptr(int32(c.kekBits())),
			KeyOps:        []*azkeys.KeyOperation{to.Ptr(azkeys.KeyOperationImport)},
			KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true)},
			Tags:          make(map[string]*string, len(tags)),
		}
		for tag, value := range tags {
			p.Tags[tag] = to.Ptr(value)
		}
		answer, err := c.keys.CreateKey(c.once(ctx), c.cfg.KEKName, p, nil)
		if err != nil {
			return err
		}
		kek, err = c.checkKEK(answer.KeyBundle)
		return err
	})
	if err != nil {
		return key.KEK{}, err
	}
	return kek, nil
}

// newestKEK is the newest version of the KEK, in whatever state; "" for none.
func (c *Client) newestKEK(ctx context.Context) (version string, err error) {
	err = c.do(ctx, opGetKEK, c.cfg.KEKName, "", func(ctx context.Context) error {
		answer, err := c.keys.GetKey(ctx, c.cfg.KEKName, "", nil)
		if err != nil {
			return err
		}
		v, err := c.fromBundle(answer.KeyBundle, c.cfg.KEKName)
		version = v.ID
		return err
	})
	if IsNotFound(err) {
		return "", nil
	}
	return version, err
}

// DisableKEK sets enabled=false on one version of the KEK, as Disable does. This does not affect keys that were
// imported with it.
func (c *Client) DisableKEK(ctx context.Context, version string) error {
	return c.Disable(ctx, c.cfg.KEKName, version)
}

func (c *Client) checkKEK(b azkeys.KeyBundle) (key.KEK, error) {
	v, err := c.fromBundle(b, c.cfg.KEKName)
	if err != nil {
		return key.KEK{}, err
	}
	kek := key.KEK{Vault: c.cfg.Vault.URL, Kid: string(*b.Key.KID)}
	const remedy = "let keyd make its own under another name (kek.name), or remove this one"
	switch {
	case v.Kty != string(azkeys.KeyTypeRSAHSM):
		return kek, refusef(remedy, "it is of type %s, a KEK must be RSA-HSM", oneLine(v.Kty))
	case !sameOperations(v.Operations, []key.Operation{opImportOnly}):
		return kek, refusef(remedy, "its operations are %v, a KEK must have import and no other", v.Operations)
	case !v.Enabled:
		return kek, refusef("enable it, or make a new version of it", "it is disabled")
	case !v.Expires.IsZero() && !c.cfg.Clock().Before(v.Expires):
		return kek, refusef("make a new version of it, without an expiry date", "it expired at %s",
			v.Expires.Format(time.RFC3339))
	}
	switch spec := v.Material.Spec(); {
	case !slices.Contains(key.Specs(), spec):
		return kek, refusef(remedy, "it is %s, a KEK must be one of %v", spec, key.Specs())
	case spec.Bits() < c.cfg.KEKBits:
		return kek, refusef(remedy, "it has %d bits, the configuration asks for %d", spec.Bits(), c.cfg.KEKBits)
	}
	kek.Material = v.Material
	return kek, nil
}

func (c *Client) kekBits() int {
	if c.cfg.KEKBits == 0 {
		return DefaultKEKBits
	}
	return c.cfg.KEKBits
}
