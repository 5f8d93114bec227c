package config

import (
	"strconv"

	"github.com/keyd-project/keyd/internal/quota"
)

// leastShare and mostShare bound a share. With less, an import into a Managed HSM could wait for longer than its step
// may take. With more, nothing would be left for the services that encrypt under the keys.
const leastShare, mostShare = 0.05, 0.9

func parseShare(s string) (float64, error) {
	share, err := strconv.ParseFloat(s, 64)
	if err != nil || !(share >= leastShare && share <= mostShare) {
		return 0, faultf("write a number from 0.05 to 0.9, such as 0.5 for half", "%q is not such a share", s)
	}
	return share, nil
}

// checkRoom refuses more keys than a vault holds, its key exchange key among them.
func checkRoom(c *Config, vaults knownVaults, rep *report) {
	keys := map[string]int{} // by the vault's URL
	for _, p := range c.Policies {
		for _, v := range p.Vaults {
			keys[v.URL]++
		}
	}
	for _, v := range c.Vaults {
		if most := quota.MostKeys(v.Kind); most > 0 && keys[v.URL]+1 > most {
			rep.add(vaults.byName[v.Name].at, "put some of the keys into another one",
				"vault %s: a Managed HSM holds %d keys, and here are %d and the key exchange key", v.Name, most,
				keys[v.URL])
		}
	}
}

// Quotas is how much keyd may use of what each vault allows.
func (c *Config) Quotas() []quota.Vault {
	vaults := make([]quota.Vault, len(c.Vaults))
	for i, v := range c.Vaults {
		vaults[i] = quota.Vault{Vault: v.Vault, Share: v.Share, Subscription: v.Subscription}
	}
	return vaults
}

// Slower lists the vaults whose newest versions keyd cannot prove as often as the configuration wants, because of the
// limits.
func (c *Config) Slower() (list []quota.Fit) {
	proofs := map[string]quota.Proofs{}
	for _, p := range c.Policies {
		for _, v := range p.Vaults {
			all := proofs[v.URL]
			all.AddNewest(v.Kind, p.Spec, p.Operations)
			proofs[v.URL] = all
		}
	}
	for _, f := range quota.FitProofs(c.Quotas(), c.Azure.SubscriptionShare, c.Health.Pace(), proofs) {
		if !f.Fits() {
			list = append(list, f)
		}
	}
	return list
}

// Pace is how often versions are to be proven.
func (h Health) Pace() quota.Pace { return quota.Pace{Newest: h.Newest, Older: h.Older} }
