package vault

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/keyd-project/keyd/internal/key"
)

// Bounds of one listing. A vault's backup fails past 500 versions and a Managed HSM stops at 100, so a correct
// listing stays far below.
const (
	mostVersions = 10_000
	mostPages    = 2_000
)

// Versions lists every version of a key, oldest first (by time, then by id). It never returns part of a listing: it
// fails instead. A key that the vault does not know, or that is deleted (see Deleted), has no versions. Listed
// versions have no kty, operations or public key.
func (c *Client) Versions(ctx context.Context, name string) ([]key.Version, error) {
	var versions []key.Version
	err := c.do(ctx, opVersions, name, "", func(ctx context.Context) error {
		var err error
		versions, err = c.versions(ctx, name)
		return err
	})
	if IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return versions, nil
}

func (c *Client) versions(ctx context.Context, name string) ([]key.Version, error) {
	seen := map[string]key.Version{}
	followed := map[string]bool{}
	pager := c.keys.NewListKeyPropertiesVersionsPager(name, nil)
	for pages := 0; pager.More(); pages++ {
		if pages == mostPages || len(seen) > mostVersions {
			return nil, badAnswerf("the listing does not end after %d pages", pages)
		}
		page, err := pager.NextPage(ctx)
		var answer *azcore.ResponseError
		if pages > 0 && errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
			return nil, badAnswerf("the key went away while it was listed")
		}
		if err != nil {
			return nil, err
		}
		if page.Value == nil {
			return nil, badAnswerf("a page of the listing has no list")
		}
		for _, item := range page.Value {
			if item == nil {
				return nil, badAnswerf("a page of the listing has an empty entry")
			}
			v, err := c.fromAttributes(item.KID, item.Attributes, item.Tags, name)
			if err != nil {
				return nil, err
			}
			if old, twice := seen[v.ID]; twice && !old.Created.Equal(v.Created) {
				return nil, badAnswerf("version %s is listed with two times of creation", v.ID)
			}
			seen[v.ID] = v
		}
		if page.NextLink != nil && *page.NextLink != "" {
			if followed[*page.NextLink] {
				return nil, badAnswerf("the listing does not end: its pages lead in a circle")
			}
			followed[*page.NextLink] = true
		}
	}
	versions := make([]key.Version, 0, len(seen))
	for _, v := range seen {
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b key.Version) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return versions, nil
}

// Newest gets the version that consumers use when they name none: the one created last, even if it is disabled.
// IsNotFound recognises the error for an absent key.
func (c *Client) Newest(ctx context.Context, name string) (key.Version, error) {
	return c.get(ctx, opNewest, name, "")
}

// Get gets one version.
func (c *Client) Get(ctx context.Context, name, version string) (key.Version, error) {
	if version == "" {
		return key.Version{}, c.noVersion(ctx, opGet, name)
	}
	return c.get(ctx, opGet, name, version)
}

func (c *Client) get(ctx context.Context, op operation, name, version string) (key.Version, error) {
	var v key.Version
	err := c.do(ctx, op, name, version, func(ctx context.Context) error {
		answer, err := c.keys.GetKey(ctx, name, version, nil)
		if err != nil {
			return err
		}
		if v, err = c.fromBundle(answer.KeyBundle, name); err != nil {
			return err
		}
		if version != "" && v.ID != version {
			return badAnswerf("it describes version %s instead", v.ID)
		}
		return nil
	})
	if err != nil {
		return key.Version{}, err
	}
	return v, nil
}

// noVersion refuses a call that names no version but must.
func (c *Client) noVersion(ctx context.Context, op operation, name string) error {
	return c.do(ctx, op, name, "", func(context.Context) error {
		return refusef("", "the call names no version, and the vault would take the newest")
	})
}

// Disable sets enabled=false on one version. The version no longer unwraps until someone enables it again.
func (c *Client) Disable(ctx context.Context, name, version string) error {
	return c.setEnabled(ctx, opDisable, name, version, false)
}

// Enable sets enabled=true on one version.
func (c *Client) Enable(ctx context.Context, name, version string) error {
	return c.setEnabled(ctx, opEnable, name, version, true)
}

func (c *Client) setEnabled(ctx context.Context, op operation, name, version string, enabled bool) error {
	if version == "" {
		return c.noVersion(ctx, op, name)
	}
	return c.do(ctx, op, name, version, func(ctx context.Context) error {
		answer, err := c.keys.UpdateKey(ctx, name, version, azkeys.UpdateKeyParameters{
			KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(enabled)},
		}, nil)
		if err != nil {
			return err
		}
		v, err := c.fromBundle(answer.KeyBundle, name)
		if err != nil {
			return err
		}
		if v.ID != version || v.Enabled != enabled {
			return badAnswerf("version %s is enabled=%t after enabled=%t was asked for", v.ID, v.Enabled, enabled)
		}
		return nil
	})
}

// Deleted reports whether the key is soft-deleted.
func (c *Client) Deleted(ctx context.Context, name string) (bool, error) {
	err := c.do(ctx, opDeleted, name, "", func(ctx context.Context) error {
		answer, err := c.keys.GetDeletedKey(ctx, name, nil)
		if err == nil && answer.Key == nil {
			err = badAnswerf("it has no key")
		}
		return err
	})
	if IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// Recover restores a soft-deleted key with all its versions. A Key Vault does so in the background: the key may stay
// unreadable for some seconds.
func (c *Client) Recover(ctx context.Context, name string) error {
	return c.do(ctx, opRecover, name, "", func(ctx context.Context) error {
		_, err := c.keys.RecoverDeletedKey(ctx, name, nil)
		return err
	})
}

// PurgeProtected reports whether nobody can purge deleted keys of this vault before their retention ends. It reads
// the key's recoveryLevel attribute.
func (c *Client) PurgeProtected(ctx context.Context, name string) (bool, error) {
	v, err := c.Newest(ctx, name)
	if err == nil && v.Recovery == "" {
		err = c.do(
			ctx, opNewest, name, "", func(context.Context) error { return badAnswerf("it has no recovery level") },
		)
	}
	return err == nil && !v.Purgeable(), err
}

// NativeRotation reports whether the key's rotation policy makes the vault rotate the key itself. A vault cannot
// rotate imported keys; if it could, it would make other material.
func (c *Client) NativeRotation(ctx context.Context, name string) (on bool, err error) {
	err = c.do(ctx, opRotationPolicy, name, "", func(ctx context.Context) error {
		answer, err := c.keys.GetKeyRotationPolicy(ctx, name, nil)
		if err != nil {
			return err
		}
		for _, a := range answer.LifetimeActions {
			if a != nil && a.Action != nil && a.Action.Type != nil &&
				strings.EqualFold(string(*a.Action.Type), string(azkeys.KeyRotationPolicyActionRotate)) {
				on = true
			}
		}
		return nil
	})
	return on, err
}
