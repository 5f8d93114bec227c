//go:build clients

package clients

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// goLives are operations that delete, recover, rotate and attest keys.
func goLives() map[string]doing {
	return map[string]doing{
		"delete": func(ctx context.Context, v *goVault) error {
			if _, err := v.create(ctx, "gone", v.EC, azkeys.CreateKeyParameters{}); err != nil {
				return err
			}
			k, err := gone(ctx, v.keys, "gone")
			return orWant(err, func() bool { return *k.RecoveryID == v.Vault+"/deletedkeys/gone" })
		},
		"get a deleted key": func(ctx context.Context, v *goVault) error {
			k, err := v.keys.GetDeletedKey(ctx, "gone", nil)
			return orWant(err, func() bool { return k.ScheduledPurgeDate.After(*k.DeletedDate) })
		},
		"list deleted keys": func(ctx context.Context, v *goVault) error {
			for pager := v.keys.NewListDeletedKeyPropertiesPager(nil); pager.More(); {
				page, err := pager.NextPage(ctx)
				if err != nil {
					return err
				}
				for _, p := range page.Value {
					if p.KID.Name() == "gone" {
						return nil
					}
				}
			}
			return want(false, "gone is not in the list")
		},
		"recover": func(ctx context.Context, v *goVault) error {
			if _, err := v.keys.RecoverDeletedKey(ctx, "gone", nil); err != nil {
				return err
			}
			var k azkeys.GetKeyResponse
			err := shown(func() (err error) {
				k, err = v.keys.GetKey(ctx, "gone", "", nil)
				return err
			})
			return orWant(err, func() bool { return k.Key.KID.Version() == v.version("gone") })
		},
		"purge": func(ctx context.Context, v *goVault) error {
			if _, err := gone(ctx, v.keys, "gone"); err != nil {
				return err
			}
			if _, err := v.keys.PurgeDeletedKey(ctx, "gone", nil); err != nil {
				return err
			}
			_, err := v.create(ctx, "gone", v.EC, azkeys.CreateKeyParameters{}) // the name is free again
			return err
		},
		"purge where purge protection is on": func(ctx context.Context, v *goVault) error {
			keys := v.at(v.Protected)
			if _, err := keys.CreateKey(ctx, "kept", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyType(v.EC))},
				nil); err != nil {
				return err
			}
			if _, err := gone(ctx, keys, "kept"); err != nil {
				return err
			}
			_, err := keys.PurgeDeletedKey(ctx, "kept", nil)
			return err
		},
		"set a rotation policy": func(ctx context.Context, v *goVault) error {
			if _, err := v.create(ctx, "turned", v.EC, azkeys.CreateKeyParameters{}); err != nil {
				return err
			}
			p, err := v.keys.UpdateKeyRotationPolicy(ctx, "turned", azkeys.KeyRotationPolicy{
				Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: to.Ptr("P90D")},
				LifetimeActions: []*azkeys.LifetimeAction{{
					Action:  &azkeys.LifetimeActionType{Type: to.Ptr(azkeys.KeyRotationPolicyActionRotate)},
					Trigger: &azkeys.LifetimeActionTrigger{TimeBeforeExpiry: to.Ptr("P30D")},
				}},
			}, nil)
			return orWant(err, func() bool { return *p.Attributes.ExpiryTime == "P90D" })
		},
		"get a rotation policy": func(ctx context.Context, v *goVault) error {
			p, err := v.keys.GetKeyRotationPolicy(ctx, "turned", nil)
			return orWant(err, func() bool {
				a := p.LifetimeActions[0]
				return *p.Attributes.ExpiryTime == "P90D" && *a.Action.Type == azkeys.KeyRotationPolicyActionRotate &&
					*a.Trigger.TimeBeforeExpiry == "P30D"
			})
		},
		"rotate": func(ctx context.Context, v *goVault) error {
			k, err := v.keys.RotateKey(ctx, "turned", nil)
			return orWant(err, func() bool {
				return k.Key.KID.Version() != v.version("turned") &&
					k.Attributes.Expires.Equal(k.Attributes.Created.AddDate(0, 0, 90))
			})
		},
		"rotate an imported key": func(ctx context.Context, v *goVault) error {
			jwk, _, err := ecPair()
			if err != nil {
				return err
			}
			jwk.Kty = to.Ptr(azkeys.KeyType(v.EC))
			if _, err := v.bring(ctx, "brought", azkeys.ImportKeyParameters{Key: &jwk}); err != nil {
				return err
			}
			_, err = v.keys.RotateKey(ctx, "brought", nil)
			return err
		},
		"attestation": func(ctx context.Context, v *goVault) error {
			made, err := v.create(ctx, "attested", v.EC, azkeys.CreateKeyParameters{})
			if err != nil {
				return err
			}
			k, err := v.keys.GetKeyAttestation(ctx, "attested", made.Key.KID.Version(), nil)
			return orWant(err, func() bool {
				a := k.Attributes.Attestation
				return *a.Version == "MRVL-1" && bytes.HasPrefix(a.CertificatePEMFile,
					[]byte("-----BEGIN CERTIFICATE")) &&
					len(a.PrivateKeyAttestation) > 256 && len(a.PublicKeyAttestation) > 256
			})
		},
	}
}

// gone deletes a key and waits until the deletion is complete.
func gone(ctx context.Context, keys *azkeys.Client, name string) (azkeys.DeletedKey, error) {
	deleted, err := keys.DeleteKey(ctx, name, nil)
	if err != nil {
		return azkeys.DeletedKey{}, err
	}
	return deleted.DeletedKey, shown(func() error {
		_, err := keys.GetDeletedKey(ctx, name, nil)
		return err
	})
}

// shown polls until a vault shows the key: it deletes and recovers asynchronously.
func shown(ask func() error) error {
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		err := ask()
		var response *azcore.ResponseError
		if err == nil || time.Now().After(limit) || !errors.As(err, &response) || response.StatusCode != 404 {
			return err
		}
	}
}
