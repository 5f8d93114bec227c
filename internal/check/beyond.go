package check

import (
	"context"
	"fmt"
	"slices"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// excess is a right that keyd may have no need of, and what whoever takes its identity over could do by it.
type excess struct {
	right vault.Right
	means string
}

func excesses() []excess {
	return []excess{
		{vault.MayDelete, "delete every key, with all its versions"},
		{vault.MayPurge, "destroy deleted keys for good"},
		{vault.MayUpdate, "disable every version, and so stop all that encrypts under it"},
		{vault.MayRotate, "make versions of other material, which consumers follow"},
		{vault.MaySetRotation, "have the vault make versions of other material, which consumers follow"},
		{vault.MayBackup, "copy keys to another vault of the subscription"},
		{vault.MayRelease, "take exportable keys out of the vault"},
		{vault.MayRecover, "bring deleted keys back"},
		{vault.MayEncrypt, "encrypt with keys"},
		{vault.MayDecrypt, "decrypt what others encrypted with keys"},
		{vault.MaySign, "sign in the name of keys"},
	}
}

// beyond warns of every right that keyd does not need.
func (c *checker) beyond(ctx context.Context, client Vault, v config.Vault) {
	needs := c.needs(v)
	for _, x := range excesses() {
		if x.right == vault.MayUpdate && v.KEK.Create {
			continue // to disable key exchange keys that it replaced
		}
		if !slices.ContainsFunc(needs, func(n need) bool { return n.right == x.right }) {
			c.refuses(ctx, client, v, x)
		}
	}
}

// refuses reports whether the vault refuses one right.
func (c *checker) refuses(ctx context.Context, client Vault, v config.Vault, x excess) {
	name := "no right to " + string(x.right)
	switch yes, err := client.May(ctx, x.right); {
	case x.right == vault.MayPurge && key.ReasonOf(err) == key.Forbidden:
		c.add("role", v.Name, name, nil, "the vault's purge protection refuses it, whatever the role", "")
	case err != nil:
		reason, hint := explained(err)
		c.warn("role", v.Name, name, reason, hint)
	case yes:
		c.warn("role", v.Name, name, fmt.Sprintf("keyd's identity has it and does not need it: whoever takes the "+
			"identity over can %s", x.means), "remove the wider role, and "+roleFor(v))
	default:
		c.add("role", v.Name, name, nil, "refused, as it should be", "")
	}
}
