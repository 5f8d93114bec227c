package record

import (
	"slices"
	"time"
)

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
		for _, id := range at.exposed(seen) {
			list = append(list, Exposed{at.Generation.Number, at.Vault, id})
		}
	}
	return list
}

// exposed lists the versions of a placement that are exposed.
func (at Placed) exposed(seen *Observation) (versions []string) {
	if at.Generation.Compromised.IsZero() || !at.Acknowledged.IsZero() || !at.InVault() {
		return nil
	}
	return slices.DeleteFunc(at.Enabled(), func(id string) bool { return seen.disabled(at.Vault, id) })
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

// Acknowledge records that an operator answers for the versions that are exposed by a look. A later compromise is not
// acknowledged by it, nor is a version that comes to light later, or is enabled again.
func (r *Record) Acknowledge(now time.Time, seen *Observation) {
	for at := range r.all {
		if len(at.exposed(seen)) > 0 {
			at.Acknowledged = now
		}
	}
}
