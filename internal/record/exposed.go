package record

import "time"

// Exposed is a version of compromised material that is enabled, as far as anybody knows: whoever has the material can
// still read what is encrypted under it.
type Exposed struct {
	Generation int
	Vault      string // URL
	Version    string
}

// Exposed lists the versions of compromised generations that are enabled as far as the record and a look (nil: none
// yet) know, and that no operator has acknowledged. What a look could not see counts as enabled.
func (r *Record) Exposed(seen *Observation) (list []Exposed) {
	for at := range r.all {
		g := at.Generation
		if g.Compromised.IsZero() || !g.Acknowledged.IsZero() || !at.InVault() {
			continue
		}
		for _, id := range at.Enabled() {
			if !seen.disabled(at.Vault, id) {
				list = append(list, Exposed{g.Number, at.Vault, id})
			}
		}
	}
	return list
}

// ExposedIn reports whether one of the exposed versions is in a vault.
func (r *Record) ExposedIn(url string, seen *Observation) bool {
	for _, e := range r.Exposed(seen) {
		if e.Vault == url {
			return true
		}
	}
	return false
}

// disabled reports whether a look showed that a version is disabled.
func (o *Observation) disabled(url, version string) bool {
	if o == nil || o.Vaults[url].Err != nil {
		return false
	}
	v, listed := o.Vaults[url].Version(version)
	return listed && !v.Enabled
}

// Acknowledge records that an operator knows of the versions of compromised generations that are still enabled, and
// answers for them. A later compromise is not acknowledged by it.
func (r *Record) Acknowledge(now time.Time) {
	for i := range r.Generations {
		if g := &r.Generations[i]; !g.Compromised.IsZero() && g.Acknowledged.IsZero() && g.Placed() {
			g.Acknowledged = now
		}
	}
}
