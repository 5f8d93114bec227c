//go:build clients

package clients

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

const versions = 101

// goKeys are operations that create, import, read and change keys; goLives has the
// rest.
func goKeys() map[string]doing {
	all := goLives()
	for name, do := range map[string]doing{
		"create RSA": func(ctx context.Context, v *goVault) error {
			q := bits(2048)
			q.Tags = map[string]*string{"made": to.Ptr("here")}
			k, err := v.create(ctx, "rsa", "RSA", q)
			return orWant(err, func() bool {
				return strings.HasPrefix(string(*k.Key.Kty), "RSA") && len(k.Key.N) == 256 && *k.Tags["made"] == "here"
			})
		},
		"create RSA-HSM": func(ctx context.Context, v *goVault) error {
			k, err := v.create(ctx, "rsa-hsm", "RSA-HSM", bits(2048))
			return orWant(err, func() bool { return *k.Key.Kty == "RSA-HSM" })
		},
		"create EC": func(ctx context.Context, v *goVault) error {
			k, err := v.create(ctx, "ec", "EC", curve("P-256"))
			return orWant(err, func() bool { return *k.Key.Crv == "P-256" })
		},
		"create EC-HSM": func(ctx context.Context, v *goVault) error {
			k, err := v.create(ctx, "ec-hsm", "EC-HSM", curve("P-384"))
			return orWant(err, func() bool { return *k.Key.Crv == "P-384" && len(k.Key.X) == 48 })
		},
		"create oct-HSM": func(ctx context.Context, v *goVault) error {
			k, err := v.create(ctx, "oct-hsm", "oct-HSM", bits(256))
			return orWant(err, func() bool { return *k.Key.Kty == "oct-HSM" })
		},
		"create a key exchange key": func(ctx context.Context, v *goVault) error {
			q := bits(2048)
			q.KeyOps = ops("import")
			k, err := v.create(ctx, "kek", "RSA-HSM", q)
			return orWant(err, func() bool { return len(k.Key.KeyOps) == 1 && *k.Key.KeyOps[0] == "import" })
		},
		"import RSA":                           importRSA,
		"import EC as an HSM key":              importECHSM,
		"BYOK import RSA-HSM":                  byokRSA,
		"BYOK import EC-HSM":                   byokEC,
		"BYOK import oct-HSM":                  byokOct,
		"BYOK import of a blob to another key": byokBad,
		"get": func(ctx context.Context, v *goVault) error {
			made, err := v.create(ctx, "seen", v.EC,
				azkeys.CreateKeyParameters{Tags: map[string]*string{"a": to.Ptr("b")}})
			if err != nil {
				return err
			}
			k, err := v.keys.GetKey(ctx, "seen", "", nil)
			return orWant(err, func() bool {
				return *k.Key.KID == *made.Key.KID && *k.Attributes.Enabled &&
					strings.Contains(*k.Attributes.RecoveryLevel, "Purgeable")
			})
		},
		"get by each api-version that is served": func(ctx context.Context, v *goVault) error {
			for _, version := range []string{"7.3", "7.4", "7.5", "7.6", "2025-07-01"} {
				if err := get(ctx, v.with(v.cred, version), "seen"); err != nil {
					return err
				}
			}
			return nil
		},
		"get a version": func(ctx context.Context, v *goVault) error {
			old := v.version("seen")
			newer, err := v.create(ctx, "seen", v.EC, azkeys.CreateKeyParameters{})
			if err != nil {
				return err
			}
			k, err := v.keys.GetKey(ctx, "seen", old, nil)
			if err := orWant(err, func() bool { return k.Key.KID.Version() == old }); err != nil {
				return err
			}
			k, err = v.keys.GetKey(ctx, "seen", "", nil)
			return orWant(err, func() bool { return *k.Key.KID == *newer.Key.KID })
		},
		"list keys":                   listKeys,
		"list versions, page by page": listVersions,
		"create a 101st version": func(ctx context.Context, v *goVault) error {
			_, err := v.create(ctx, "many", v.EC, azkeys.CreateKeyParameters{})
			return err
		},
		"list the versions of an unknown key": func(ctx context.Context, v *goVault) error {
			ids, _, err := versionsOf(ctx, v, "absent")
			return orWant(err, func() bool { return len(ids) == 0 })
		},
		"update": changeKey,
	} {
		all[name] = do
	}
	return all
}

// orWant returns err, or the error of a failed check.
func orWant(err error, check func() bool) error {
	if err != nil {
		return err
	}
	return want(check(), "the answer is not what was asked for")
}

func importRSA(ctx context.Context, v *goVault) error {
	key, _, err := rsaPair()
	if err != nil {
		return err
	}
	jwk := rsaJWK(key)
	k, err := v.bring(ctx, "plain-rsa", azkeys.ImportKeyParameters{Key: &jwk})
	return orWant(err, func() bool { return bytes.Equal(k.Key.N, jwk.N) })
}

func importECHSM(ctx context.Context, v *goVault) error {
	jwk, _, err := ecPair()
	if err != nil {
		return err
	}
	k, err := v.bring(ctx, "plain-ec", azkeys.ImportKeyParameters{Key: &jwk, HSM: to.Ptr(true)})
	return orWant(err, func() bool { return *k.Key.Kty == "EC-HSM" && bytes.Equal(k.Key.X, jwk.X) })
}

// transfer imports plaintext in a transfer blob; key has the rest of its JWK.
func transfer(ctx context.Context, v *goVault, name string, plaintext []byte, key azkeys.JSONWebKey,
	wrong bool) (azkeys.KeyBundle, error) {
	other, err := otherRSA()
	if err != nil {
		return azkeys.KeyBundle{}, err
	}
	kid, kek := v.Vault+"/keys/kek/"+strings.Repeat("0", 32), &other.PublicKey // where none can exist
	if made, ok := v.made["kek"]; ok {
		kid = string(*made.Key.KID)
		if !wrong {
			kek = publicOf(made)
		}
	}
	if key.T, err = transferBlob(kid, kek, plaintext); err != nil {
		return azkeys.KeyBundle{}, err
	}
	return v.bring(ctx, name, azkeys.ImportKeyParameters{Key: &key})
}

func byokRSA(ctx context.Context, v *goVault) error {
	key, pkcs8, err := rsaPair()
	if err != nil {
		return err
	}
	k, err := transfer(ctx, v, "byok-rsa", pkcs8,
		azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeyOps: ops("wrapKey", "unwrapKey")}, false)
	if err := orWant(err,
		func() bool { return bytes.Equal(k.Key.N, key.N.Bytes()) && len(k.Key.KeyOps) == 2 }); err != nil {
		return err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, secret(), nil)
	if err != nil {
		return err
	}
	opened, err := v.keys.UnwrapKey(ctx, "byok-rsa", k.Key.KID.Version(), cipher("RSA-OAEP-256", wrapped), nil)
	return orWant(err, func() bool { return bytes.Equal(opened.Result, secret()) })
}

func byokEC(ctx context.Context, v *goVault) error {
	jwk, pkcs8, err := ecPair()
	if err != nil {
		return err
	}
	asked := azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeECHSM), Crv: jwk.Crv, KeyOps: ops("sign", "verify")}
	k, err := transfer(ctx, v, "byok-ec", pkcs8, asked, false)
	return orWant(err, func() bool { return bytes.Equal(k.Key.X, jwk.X) })
}

func byokOct(ctx context.Context, v *goVault) error {
	asked := azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeOctHSM), KeyOps: ops("wrapKey", "unwrapKey")}
	k, err := transfer(ctx, v, "byok-oct", secret(), asked, false)
	return orWant(err, func() bool { return *k.Key.Kty == "oct-HSM" })
}

func byokBad(ctx context.Context, v *goVault) error {
	_, pkcs8, err := rsaPair()
	if err != nil {
		return err
	}
	asked := azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), KeyOps: ops("wrapKey", "unwrapKey")}
	_, err = transfer(ctx, v, "byok-bad", pkcs8, asked, true)
	return err
}

func listKeys(ctx context.Context, v *goVault) error {
	seen := map[string]bool{}
	for pager := v.keys.NewListKeyPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, p := range page.Value {
			seen[p.KID.Name()] = true
		}
	}
	for name := range v.made {
		if !seen[name] {
			return want(false, "%s is not in the list", name)
		}
	}
	return nil
}

func versionsOf(ctx context.Context, v *goVault, name string) (ids []string, pages int, err error) {
	for pager := v.keys.NewListKeyPropertiesVersionsPager(name, nil); pager.More(); pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, 0, err
		}
		for _, p := range page.Value {
			ids = append(ids, p.KID.Version())
		}
	}
	return ids, pages, nil
}

func listVersions(ctx context.Context, v *goVault) error {
	var made []string
	for range versions - 1 {
		k, err := v.create(ctx, "many", v.EC, azkeys.CreateKeyParameters{})
		if err != nil {
			return err
		}
		made = append(made, k.Key.KID.Version())
	}
	ids, pages, err := versionsOf(ctx, v, "many")
	slices.Sort(ids)
	slices.Sort(made)
	return orWant(err, func() bool { return pages >= 4 && slices.Equal(ids, made) })
}

func changeKey(ctx context.Context, v *goVault) error {
	version, expires := v.version("seen"), time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err := v.keys.UpdateKey(ctx, "seen", version, azkeys.UpdateKeyParameters{
		KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false), Expires: &expires},
		Tags:          map[string]*string{"c": to.Ptr("d")}, KeyOps: ops("sign"),
	}, nil)
	if err != nil {
		return err
	}
	for pager := v.keys.NewListKeyPropertiesVersionsPager("seen", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, p := range page.Value {
			if p.KID.Version() == version {
				return want(!*p.Attributes.Enabled && p.Attributes.Expires.Equal(expires) && *p.Tags["c"] == "d", "%+v",
					p.Attributes)
			}
		}
	}
	return want(false, "the version is not in the list")
}
