package record

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Retirable is a placement that later ones superseded in every vault, and since when.
type Retirable struct {
	Placed
	Since time.Time
}

// Retirable lists the placements in a vault to which a retire rule may apply: still enabled as far as the record
// knows, older than the vault's newest, and of a generation that is not active anywhere. Since is the later of two
// times: when the generation was deactivated, by the local clock, and when the vault first made a later version, by
// its own clock.
func (r *Record) Retirable(url string) (list []Retirable) {
	newest := r.NewestIn(url)
	if !newest.Found() {
		return nil
	}
	for i := range r.Generations {
		g := &r.Generations[i]
		p := g.In(url)
		if p == nil || g.Number >= newest.Generation.Number || !p.Older() || g.Deactivated.IsZero() {
			continue
		}
		since := g.Deactivated
		if at := r.supersededAt(g, url); at.After(since) {
			since = at
		}
		list = append(list, Retirable{Placed{g, p}, since})
	}
	return list
}

// supersededAt is when the vault first made a version of a later generation, by its own clock: the local clock may
// have been wrong when Deactivated was recorded.
func (r *Record) supersededAt(g *Generation, url string) (first time.Time) {
	for at := range r.in(url) {
		if at.Generation.Number > g.Number && at.Good() && (first.IsZero() || at.Created.Before(first)) {
			first = at.Created
		}
	}
	return first
}

// Disabling is a disabling of one generation in one vault of which keyd does not know the outcome.
type Disabling struct {
	Placed            // the last of its placements
	Versions []string // all that were enabled before
}

// Disablings lists the open disablings in a vault, one for each generation.
func (r *Record) Disablings(url string) (list []Disabling) {
	for at := range r.in(url) {
		if at.State != key.Disabling {
			continue
		}
		versions := at.Enabled()
		if n := len(list); n > 0 && list[n-1].Generation == at.Generation {
			list[n-1].Placed, list[n-1].Versions = at, append(list[n-1].Versions, versions...)
			continue
		}
		list = append(list, Disabling{at, versions})
	}
	return list
}

// BeginDisable marks a generation's superseded placements in a vault as being disabled, and lists the versions of them
// to disable. at is by the vault's clock as far as that is known.
func (r *Record) BeginDisable(attempt key.ID, at time.Time) (versions []string, err error) {
	err = r.older(attempt, func(p *Placement) {
		versions = append(versions, p.Enabled()...)
		p.State, p.DisableBegun = key.Disabling, at
	})
	return versions, err
}

// Disable records that what was begun happened, but for the versions that are still enabled. A placement with one of
// those is not disabled: the retire rule goes on to ask for the rest.
func (r *Record) Disable(attempt key.ID, now time.Time, enabled []string) error {
	return r.older(attempt, func(p *Placement) {
		if p.State != key.Disabling {
			return
		}
		p.DisableBegun = time.Time{}
		off := slices.DeleteFunc(p.Versions(), func(id string) bool { return slices.Contains(enabled, id) })
		if len(off) == len(p.Versions()) {
			p.State, p.DisabledAt, p.DisabledVersions = key.Disabled, now, nil
			return
		}
		p.State, p.DisabledVersions = key.Superseded, off
	})
}

// AbortDisable records that a disabling did not happen.
func (r *Record) AbortDisable(attempt key.ID) error {
	return r.older(attempt, func(p *Placement) {
		p.State, p.DisableBegun = key.Superseded, time.Time{}
	})
}

// older changes each superseded placement of the attempt's generation in the attempt's vault.
func (r *Record) older(attempt key.ID, change func(*Placement)) error {
	of, err := r.placement(attempt, key.Superseded, key.Disabling)
	if err != nil {
		return err
	}
	for at := range r.in(of.Vault) {
		if at.Generation == of.Generation && at.Older() {
			change(at.Placement)
		}
	}
	return nil
}

// StillEnabled lists the versions of the attempt's generation in the attempt's vault that a disabling has left over.
func (r *Record) StillEnabled(attempt key.ID) (versions []string) {
	of := r.Placement(attempt)
	for at := range r.in(of.Vault) {
		if at.Generation == of.Generation && at.Older() {
			versions = append(versions, at.Enabled()...)
		}
	}
	return versions
}
