package record

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Retirable is a version that later ones superseded in every vault, and since when.
type Retirable struct {
	Placed
	Version string // of the placement: its own, or a duplicate
	Since   time.Time
}

// Retirable lists the versions in a vault to which a retire rule may apply, oldest generation first: still enabled as
// far as the record knows, older than the vault's newest, and of a generation that is not active anywhere. Since is
// the later of two times: when the generation was deactivated, by the local clock, and when the vault first made a
// later version, by its own clock.
func (r *Record) Retirable(url string) (list []Retirable) {
	newest := r.NewestIn(url)
	if !newest.Found() {
		return nil
	}
	for at := range r.in(url) {
		g := at.Generation
		if g.Number >= newest.Generation.Number || !at.Older() || g.Deactivated.IsZero() {
			continue
		}
		since := g.Deactivated
		if made := r.supersededAt(g, url); made.After(since) {
			since = made
		}
		for _, version := range at.Enabled() {
			list = append(list, Retirable{at, version, since})
		}
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

// Disabling is a disabling in one vault of which keyd does not know the outcome.
type Disabling struct {
	Placed
	Versions []string // one, or all of the placement as keyd once disabled them
}

// Disablings lists the open disablings in a vault.
func (r *Record) Disablings(url string) (list []Disabling) {
	for at := range r.in(url) {
		if at.State == key.Disabling {
			list = append(list, Disabling{at, at.BeingDisabled()})
		}
	}
	return list
}

// OpenDisabling is a disabling in any vault of which keyd does not know the outcome.
func (r *Record) OpenDisabling() Placed {
	for at := range r.all {
		if at.State == key.Disabling {
			return at
		}
	}
	return Placed{}
}

// PauseFrom is when the pause between two disablings began: with the last one that the record has, or when it was found
// that the record may lack one.
func (r *Record) PauseFrom() (at Moment, doubted bool) {
	if r.Doubted.Here.After(r.LastDisabling.Here) {
		return r.Doubted, true
	}
	return r.LastDisabling, false
}

// BeginDisable records that keyd is about to disable one version of a superseded placement, for the first time or
// again. Only one may be open in the whole record.
func (r *Record) BeginDisable(attempt key.ID, version string, at Moment) error {
	of, err := r.placement(attempt, key.Superseded, key.Disabling)
	if err != nil {
		return err
	}
	if open := r.OpenDisabling(); open.Found() && (open.Placement != of.Placement ||
		!slices.Contains(of.BeingDisabled(), version)) {
		return fmt.Errorf("another disabling of %s is open, of import attempt %s", r.Key, open.Attempt)
	}
	if !slices.Contains(of.Enabled(), version) {
		return fmt.Errorf("import attempt %s of %s has no enabled version %s", attempt, r.Key, version)
	}
	if of.State != key.Disabling {
		r.LastDisabling = at
	}
	of.State, of.DisableBegun, of.Disables = key.Disabling, at.There, version
	if at.There.IsZero() {
		of.DisableBegun = at.Here
	}
	return nil
}

// Disable records that what was begun happened, but for the versions that are still enabled. A placement with one of
// those is not disabled: the retire rule goes on to ask for the rest.
func (r *Record) Disable(attempt key.ID, now time.Time, enabled []string) error {
	at, err := r.placement(attempt, key.Disabling)
	if err != nil {
		return err
	}
	off := slices.Clone(at.DisabledVersions)
	for _, id := range at.BeingDisabled() {
		if !slices.Contains(enabled, id) {
			off = append(off, id)
		}
	}
	at.DisableBegun, at.Disables = time.Time{}, ""
	if len(off) == len(at.Versions()) {
		at.State, at.DisabledAt, at.DisabledVersions = key.Disabled, now, nil
		return nil
	}
	at.State, at.DisabledVersions = key.Superseded, off
	return nil
}

// AbortDisable records that a disabling did not happen. A disabling of all versions, as keyd once did it, is not
// remembered as given up.
func (r *Record) AbortDisable(attempt key.ID) error {
	at, err := r.placement(attempt, key.Disabling)
	if err != nil {
		return err
	}
	at.State = key.Superseded
	return nil
}

// StillEnabled lists the versions of the attempt's generation in the attempt's vault that are superseded and enabled.
func (r *Record) StillEnabled(attempt key.ID) (versions []string) {
	of := r.Placement(attempt)
	for at := range r.in(of.Vault) {
		if at.Generation == of.Generation && at.Older() {
			versions = append(versions, at.Enabled()...)
		}
	}
	return versions
}
