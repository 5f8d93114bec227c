package vault

import (
	"context"
	"net/url"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/byok"
	"github.com/keyd-project/keyd/internal/key"
)

// Import makes one new version from a transfer blob. It sends the request at most once. An error of class Ambiguous
// means that the version exists or may still appear. Retry and Refused mean that it certainly does not exist.
//
// Import sets no nbf: with one, imported keys have been unusable for a day.
func (c *Client) Import(ctx context.Context, r key.ImportRequest) (key.Version, error) {
	var v key.Version
	err := c.do(ctx, opImport, r.Key, "", func(ctx context.Context) error {
		if err := c.checkImport(r); err != nil {
			return err
		}
		answer, err := c.keys.ImportKey(c.once(ctx), r.Key, importParameters(r), nil)
		if err != nil {
			return err
		}
		if v, err = c.fromBundle(answer.KeyBundle, r.Key); err != nil {
			return err
		}
		return checkImported(v, r)
	})
	if err != nil {
		return key.Version{}, err
	}
	return v, nil
}

// checkImport finds, before keyd sends anything, what the vault would refuse. Limits of tags: learn.microsoft.com,
// "About keys": 15 tags, 256 characters each way.
func (c *Client) checkImport(r key.ImportRequest) error {
	blob, err := byok.Parse(r.Blob)
	if err != nil {
		return refusef("", "%v", err)
	}
	if kid, err := url.Parse(blob.Kid); err != nil || !key.SameOrigin(kid, c.cfg.Vault.URL) {
		return refusef("", "the transfer blob is wrapped to %s, the KEK of another vault", blob.Kid)
	}
	if len(r.Operations) == 0 {
		return refusef("", "no operations were given")
	}
	if len(r.Tags) > 15 {
		return refusef("", "%d tags are more than the 15 that a vault allows", len(r.Tags))
	}
	for tag, value := range r.Tags {
		if utf8.RuneCountInString(tag) > 256 || utf8.RuneCountInString(value) > 256 {
			return refusef("", "tag %q is longer than 256 characters", oneLine(tag))
		}
	}
	return nil
}

func importParameters(r key.ImportRequest) azkeys.ImportKeyParameters {
	p := azkeys.ImportKeyParameters{
		Key:           &azkeys.JSONWebKey{Kty: to.Ptr(azkeys.KeyTypeRSAHSM), T: r.Blob},
		KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(true)},
		Tags:          make(map[string]*string, len(r.Tags)),
	}
	if !r.Expires.IsZero() {
		p.KeyAttributes.Expires = to.Ptr(r.Expires)
	}
	for _, op := range r.Operations {
		p.Key.KeyOps = append(p.Key.KeyOps, to.Ptr(azkeys.KeyOperation(op)))
	}
	for tag, value := range r.Tags {
		p.Tags[tag] = to.Ptr(value)
	}
	return p
}

// checkImported verifies the attributes that Azure's tools have set wrongly before (azure-powershell#16773,
// azure-cli#16223).
func checkImported(v key.Version, r key.ImportRequest) error {
	switch {
	case v.Kty != string(azkeys.KeyTypeRSAHSM):
		return badAnswerf("version %s was imported as %s instead of RSA-HSM", v.ID, oneLine(v.Kty))
	case !sameOperations(v.Operations, r.Operations):
		return badAnswerf("version %s was imported with operations %v instead of %v", v.ID, v.Operations, r.Operations)
	case !v.Enabled:
		return badAnswerf("version %s was imported disabled", v.ID)
	case !v.Expires.Equal(r.Expires):
		return badAnswerf("version %s was imported to expire at %v instead of %v", v.ID, v.Expires, r.Expires)
	}
	return nil
}
