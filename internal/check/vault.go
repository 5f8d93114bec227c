package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// vault tries one vault. After a failure it skips what cannot work.
func (c *checker) vault(ctx context.Context, v config.Vault) {
	client := c.Vaults(v.URL)
	if client == nil {
		return
	}
	if !c.admits(ctx, client, v) {
		c.away.vaults[v.URL] = true
		c.skip("vault", v.Name, "rights, key exchange key, marks of the audit chain", notAdmitted(v.Name))
		return
	}
	if skew, known := client.ClockSkew(); known {
		var err error
		if skew.Abs() > key.MaxSkew {
			err = fmt.Errorf("the local clock differs by %s from the vault's", skew.Round(time.Second))
		}
		c.add("clock", v.Name, "difference", err, skew.Round(time.Second).String(),
			"set the clock right (chronyc tracking)")
	}
	c.roles(ctx, client, v)
	c.beyond(ctx, client, v)
	c.purgeProtection(ctx, client, v)
	c.kek(ctx, client, v)
}

// admits reports whether the vault answers this machine at all. That depends on the network, its firewall and the
// sign-in, not on roles.
func (c *checker) admits(ctx context.Context, client Vault, v config.Vault) bool {
	_, err := client.May(ctx, vault.MayGet)
	reason := key.ReasonOf(err)
	if reason == key.NoToken && c.away.signIn[v.Kind] {
		c.skip("vault", v.Name, "answers", "keyd cannot sign in for "+service(v.Kind))
		return false
	}
	if err != nil && reason != key.ForbiddenByFirewall {
		c.add("vault", v.Name, "answers", err, "", "")
		return false
	}
	c.add("vault", v.Name, "answers", nil, v.URL, "")
	c.add("vault", v.Name, "firewall", err, "admits this machine", "")
	return err == nil
}

func notAdmitted(vault string) string {
	return "vault " + vault + " does not let keyd in, or does not answer"
}

// need is one right, and what does not work without it.
type need struct {
	right vault.Right
	what  string
	soft  bool // keyd works without it
}

// needs returns the rights that keyd needs in a vault, by its configuration.
func (c *checker) needs(v config.Vault) []need {
	all := []need{
		{vault.MayGet, "keyd can neither prove nor watch a key", false},
		{vault.MayList, "keyd cannot watch a key, and no import is safe", false},
		{vault.MayImport, "keyd cannot import there", false},
		{vault.MaySeeDeleted, "keyd cannot tell a soft-deleted key from one that never existed", false},
		{vault.MayReadRotation, "keyd cannot see whether the vault has a rotation policy of its own", true},
	}
	if v.KEK.Create {
		all = append(all, need{vault.MayCreate, "keyd cannot make a key exchange key (or: kek.create: false)", false})
	}
	uses := uses(c.Config.Policies, v.URL)
	for _, r := range []vault.Right{vault.MayWrap, vault.MayUnwrap, vault.MayEncrypt, vault.MayDecrypt, vault.MaySign} {
		if uses[r] {
			all = append(all, need{r, "keyd cannot prove versions", false})
		}
	}
	if uses[vault.MayUpdate] {
		all = append(all, need{vault.MayUpdate, "the retire rule cannot disable anything", false})
	}
	return all
}

// uses returns the further rights that a vault's keys need. A vault without keys is checked
// for the rights of a key with default settings, so that a check works before the first key.
func uses(policies []key.Policy, url string) map[vault.Right]bool {
	uses := map[vault.Right]bool{}
	for _, p := range policies {
		if _, in := p.Vault(url); !in {
			continue
		}
		for _, r := range vault.MayUse(p.Operations) {
			uses[r] = true
		}
		if !p.Retire.Never() {
			uses[vault.MayUpdate] = true
		}
	}
	if len(uses) == 0 {
		for _, r := range vault.MayUse(nil) {
			uses[r] = true
		}
	}
	return uses
}

// roles tries each right that keyd needs.
func (c *checker) roles(ctx context.Context, client Vault, v config.Vault) {
	var may []string
	for _, n := range c.needs(v) {
		yes, err := client.May(ctx, n.right)
		name := "right to " + string(n.right)
		switch {
		case err != nil:
			c.add("role", v.Name, name, err, "", "")
		case yes:
			may = append(may, string(n.right))
		case n.soft:
			c.warn("role", v.Name, name, "keyd's identity does not have it: "+n.what, remedy(v, n.right))
		default:
			c.line(status.CheckFailed, "role", v.Name, name, "keyd's identity does not have it: "+n.what, remedy(v,
				n.right))
		}
	}
	if len(may) > 0 {
		c.add("role", v.Name, "rights that keyd needs", nil, "has "+strings.Join(may, ", "), "")
	}
}

// remedy says how to get a missing right.
func remedy(v config.Vault, r vault.Right) string {
	switch r {
	case vault.MayUpdate:
		return retireRoleFor(v)
	case vault.MayEncrypt, vault.MayDecrypt, vault.MaySign:
		return fmt.Sprintf("add the right to %s to its role or access policy, which as shipped in "+
			"/usr/share/keyd/azure does not have it: operations.md, Checking, has its names; "+
			"a change takes a few minutes to work", r)
	}
	return roleFor(v)
}

func roleFor(v config.Vault) string {
	if v.Kind == key.ManagedHSM {
		return "give it the role of /usr/share/keyd/azure/managed-hsm-role.json at / or /keys; a new assignment " +
			"takes a few minutes to work"
	}
	return "give it the role of /usr/share/keyd/azure/key-vault-role.json on the vault, or the permissions of " +
		"key-vault-access-policy.json; a new assignment takes a few minutes to work"
}

func retireRoleFor(v config.Vault) string {
	if v.Kind == key.ManagedHSM {
		return "add the second role, /usr/share/keyd/azure/managed-hsm-retire-role.json; a new " +
			"assignment takes a few minutes to work"
	}
	return "add the second role, /usr/share/keyd/azure/key-vault-retire-role.json, or the permissions of " +
		"key-vault-retire-access-policy.json; a new assignment takes a few minutes to work"
}

// purgeProtection is a setting of the vault, which any key in it shows.
func (c *checker) purgeProtection(ctx context.Context, client Vault, v config.Vault) {
	names := []string{v.KEK.Name}
	for _, p := range c.Config.Policies {
		if _, in := p.Vault(v.URL); in && !slices.Contains(names, p.Key) {
			names = append(names, p.Key)
		}
	}
	for _, name := range names {
		protected, err := client.PurgeProtected(ctx, name)
		switch {
		case vault.IsNotFound(err):
			continue
		case err != nil:
			c.add("vault", v.Name, "purge protection", err, "", "")
		case protected:
			c.add("vault", v.Name, "purge protection", nil, "on", "")
		default:
			c.away.unprotected[v.URL] = true
			c.warn("vault", v.Name, "purge protection",
				"it is off: whoever may purge can destroy every version at once",
				plan.ProtectCommand(v.Vault))
		}
		return
	}
	c.warn("vault", v.Name, "purge protection", "not known: the vault holds no key of keyd's yet",
		"check again after the first import")
}

// noKEK says why a vault has no key exchange key. keyd cannot make one under the name of a soft-deleted key.
func (c *checker) noKEK(ctx context.Context, client Vault, v config.Vault, name string) {
	deleted, err := client.Deleted(ctx, v.KEK.Name)
	switch {
	case err != nil:
		reason, hint := explained(err)
		c.warn("vault", v.Name, name, "there is none, and whether "+v.KEK.Name+" is soft-deleted is not known: "+reason,
			hint)
	case deleted:
		c.line(status.CheckFailed, "vault", v.Name, name,
			"the key "+v.KEK.Name+" is soft-deleted, so the vault has no key of that name and takes no new one",
			fmt.Sprintf("az keyvault key recover %s --name %s", v.AzScope(), v.KEK.Name))
	case !v.KEK.Create:
		c.warn("vault", v.Name, name, "there is none yet", "make it, or set kek.create: true")
	default:
		c.warn("vault", v.Name, name, "there is none yet", "nothing: keyd makes it by itself")
	}
}

func (c *checker) kek(ctx context.Context, client Vault, v config.Vault) {
	const name = "key exchange key"
	kek, present, err := client.KEK(ctx, "")
	if err != nil {
		c.add("vault", v.Name, name, err, "", "")
		return
	}
	if !present {
		c.noKEK(ctx, client, v, name)
		return
	}
	print := kek.Material.Fingerprint()
	const compare = "confirm the fingerprint with the vault's owner out of band, then pin it as kek.fingerprint"
	how, err := c.HSM.CheckKEK(ctx, kek)
	if err != nil && c.away.hsm != "" && key.ClassOf(err) != key.Refused {
		c.skip("vault", v.Name, name, c.away.hsm)
		return
	}
	if err != nil && len(v.KEK.Fingerprints) == 0 && !v.KEK.FirstUse {
		c.warn("vault", v.Name, name, fmt.Sprintf("%s is not approved: keyd wraps nothing to this vault", print),
			compare+": keyd kek "+v.Name+" shows how")
		return
	}
	if err == nil && how != key.TrustConfigured {
		c.warn("vault", v.Name, name, fmt.Sprintf("%s, trusted: %s", print, how), compare)
		return
	}
	c.add("vault", v.Name, name, err, fmt.Sprintf("%s, trusted: %s", print, how), compare)
}
