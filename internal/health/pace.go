package health

import (
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/quota"
)

// Pace is how often versions are proven.
type Pace struct {
	Newest time.Duration // the newest version of a key in a vault
	Older  time.Duration // the others
	// slower are the vaults, by URL, whose limits allow fewer proofs.
	slower map[string]quota.Pace
}

func (p Pace) of(s Subject) time.Duration {
	possible, ok := p.slower[s.Vault]
	switch {
	case ok && s.Newest:
		return possible.Newest
	case ok:
		return possible.Older
	case s.Newest:
		return p.Newest
	}
	return p.Older
}

// fit spreads the proofs of each vault over as long as its limits make necessary, shows that, and reports whether it
// changed. The caller holds the lock.
func (h *Health) fit() (changed bool) {
	wanted := quota.Pace{Newest: h.pace.Newest, Older: h.pace.Older}
	slower := map[string]quota.Pace{}
	possible := map[string]quota.Pace{} // by URL
	for _, f := range quota.FitProofs(h.quotas, h.subscriptionShare, wanted, h.proofs()) {
		possible[f.Vault.URL] = f.Possible
		if !f.Fits() {
			slower[f.Vault.URL] = f.Possible
		}
	}
	shown := map[string]quota.Pace{} // by name
	for _, k := range h.keys {
		for _, t := range k.subjects {
			if p, ok := possible[t.Vault]; ok {
				shown[t.VaultName] = p // a key that is no longer configured may know the vault by an old name
			}
		}
	}
	for _, v := range h.quotas {
		shown[v.Name] = possible[v.URL]
	}
	h.Metrics.expect(h.paced, shown)
	changed = !maps.Equal(slower, h.pace.slower)
	h.pace.slower, h.paced = slower, shown
	return changed
}

// proofs counts the subjects of each vault, by URL. The caller holds the lock.
func (h *Health) proofs() map[string]quota.Proofs {
	proofs := map[string]quota.Proofs{}
	kinds := map[string]key.VaultKind{}
	for _, v := range h.quotas {
		kinds[v.URL] = v.Kind
	}
	for _, k := range h.keys {
		for _, t := range k.subjects {
			p := proofs[t.Vault]
			add := p.AddOlder
			if t.Newest {
				add = p.AddNewest
			}
			add(kinds[t.Vault], t.Spec, t.Operations)
			proofs[t.Vault] = p
		}
	}
	return proofs
}
