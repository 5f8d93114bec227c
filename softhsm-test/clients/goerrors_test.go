//go:build clients

package clients

import (
	"context"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// bearer is a credential that always returns the same token, valid or not.
type bearer string

func (b bearer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(b), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func getting(name string) doing {
	return func(ctx context.Context, v *goVault) error { return get(ctx, v.keys, name) }
}

func get(ctx context.Context, keys *azkeys.Client, name string) error {
	_, err := keys.GetKey(ctx, name, "", nil)
	return err
}

// creating requests a key that cannot be created.
func creating(name string, kty func(*goVault) string, q azkeys.CreateKeyParameters) doing {
	return func(ctx context.Context, v *goVault) error {
		_, err := v.create(ctx, name, kty(v), q)
		return err
	}
}

// goErrors are requests that a vault refuses.
func goErrors() map[string]doing {
	ec := func(v *goVault) string { return v.EC }
	rsa := func(v *goVault) string { return v.RSA }
	tags := map[string]*string{}
	for i := range 16 {
		tags[fmt.Sprint("t", i)] = to.Ptr("")
	}
	return map[string]doing{
		"call with a token that is none": func(ctx context.Context, v *goVault) error {
			return get(ctx, v.with(bearer("none"), "7.6"), "seen")
		},
		"call with a token for another audience": func(ctx context.Context, v *goVault) error {
			token, err := v.cred.GetToken(ctx,
				policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
			if err != nil {
				return err
			}
			return get(ctx, v.with(bearer(token.Token), "7.6"), "seen")
		},
		"call a vault that names another service's " +
			"resource": func(ctx context.Context, v *goVault) error { return get(ctx, v.at(v.Foreign), "seen") },
		"call without a role": func(ctx context.Context,
			v *goVault) error {
			return get(ctx, v.at(v.Roles), "seen")
		},
		"call without an access policy": func(ctx context.Context,
			v *goVault) error {
			return get(ctx, v.at(v.Policies), "seen")
		},
		"call from outside the firewall": func(ctx context.Context,
			v *goVault) error {
			return get(ctx, v.at(v.Firewall), "seen")
		},
		"call by an api-version that is not served": func(ctx context.Context,
			v *goVault) error {
			return get(ctx, v.with(v.cred, "7.0"), "seen")
		},
		"get an unknown key": getting("absent"),
		"get a deleted key that is not": func(ctx context.Context, v *goVault) error {
			_, err := v.keys.GetDeletedKey(ctx, "seen", nil)
			return err
		},
		"create over a deleted key": func(ctx context.Context, v *goVault) error {
			if _, err := v.create(ctx, "taken", v.EC, azkeys.CreateKeyParameters{}); err != nil {
				return err
			}
			if _, err := gone(ctx, v.keys, "taken"); err != nil {
				return err
			}
			_, err := v.create(ctx, "taken", v.EC, azkeys.CreateKeyParameters{})
			return err
		},
		"create over a key that is being deleted": func(ctx context.Context, v *goVault) error {
			if _, err := v.create(ctx, "going", v.EC, azkeys.CreateKeyParameters{}); err != nil {
				return err
			}
			if _, err := v.keys.DeleteKey(ctx, "going", nil); err != nil {
				return err
			}
			_, err := v.create(ctx, "going", v.EC, azkeys.CreateKeyParameters{})
			return err
		},
		"create by a name that is none": creating("a_b", ec, azkeys.CreateKeyParameters{}),
		"create a kind of key that is none": creating("kind", func(*goVault) string { return "OKP-HSM" },
			azkeys.CreateKeyParameters{}),
		"create RSA of 1024 bits": creating("small", rsa, bits(1024)),
		"create with 16 tags":     creating("tagged", ec, azkeys.CreateKeyParameters{Tags: tags}),
		"create a key that may import and more": creating("both", rsa,
			azkeys.CreateKeyParameters{KeyOps: ops("import", "wrapKey")}),
		"page by more than 25": func(context.Context, *goVault) error { return errNoMethod },

		"call a vault that is busy once":                          getting("busy"),
		"call a vault that is busy":                               getting("throttled"),
		"call a vault that is busy and does not say for how long": getting("throttled-silently"),
		"call a vault that is unavailable":                        getting("unavailable"),
		"call a vault that fails":                                 getting("broken"),
	}
}
