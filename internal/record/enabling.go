package record

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Enabling is an operator's request to enable one version again. It stays in the record until the vault has done it
// or keyd gives it up.
type Enabling struct {
	Attempt key.ID    `json:"attempt"`
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
}

// WithVersion lists the placements that have a version, as their own or as a duplicate.
func (r *Record) WithVersion(version string) (list []Placed) {
	for at := range r.all {
		if at.InVault() && slices.Contains(at.Versions(), version) {
			list = append(list, at)
		}
	}
	return list
}

// AskEnable adds a request to enable a version again, and ends the consent to the retire rule: otherwise the rule would
// disable the version again. It reports whether there was a consent. A second request for a version replaces the first.
func (r *Record) AskEnable(e Enabling) (hadConsent bool, err error) {
	at := r.Placement(e.Attempt)
	if !at.Found() || !at.InVault() || !slices.Contains(at.Versions(), e.Version) {
		return false, fmt.Errorf("import attempt %s of %s has no version %s", e.Attempt, r.Key, e.Version)
	}
	r.Enabling = slices.DeleteFunc(r.Enabling, func(x Enabling) bool { return x.Version == e.Version })
	r.Enabling = append(r.Enabling, e)
	if at.State == key.Superseded && at.Disables == e.Version {
		at.Disables = ""
	}
	return r.EndConsent(), nil
}

// Enabled records that a version is enabled again, which answers the request.
func (r *Record) Enabled(attempt key.ID, version string) error {
	if err := r.AbortEnabling(attempt, version); err != nil {
		return err
	}
	at := r.Placement(attempt)
	switch {
	case at.State == key.Disabled:
		at.DisabledVersions = at.Versions()
		at.State, at.DisabledAt = key.Superseded, time.Time{}
	case slices.Contains(at.BeingDisabled(), version): // this undoes the disabling that is open
		at.State, at.DisableBegun, at.Disables = key.Superseded, time.Time{}, ""
	}
	at.DisabledVersions = slices.DeleteFunc(at.DisabledVersions, func(id string) bool { return id == version })
	if len(at.DisabledVersions) == 0 {
		at.DisabledVersions = nil
	}
	return nil
}

// AskedToEnable is when an operator asked to enable a version; zero: nobody did.
func (r *Record) AskedToEnable(attempt key.ID, version string) time.Time {
	for _, e := range r.Enabling {
		if e.Attempt == attempt && e.Version == version {
			return e.At
		}
	}
	return time.Time{}
}

// AbortEnabling records that a version was not enabled, as far as anybody can tell.
func (r *Record) AbortEnabling(attempt key.ID, version string) error {
	asked := func(x Enabling) bool { return x.Attempt == attempt && x.Version == version }
	if !slices.ContainsFunc(r.Enabling, asked) {
		return fmt.Errorf("nobody asked to enable version %s of %s", version, r.Key)
	}
	r.Enabling = slices.DeleteFunc(r.Enabling, asked)
	return nil
}

// dropEnabling drops the requests about a placement whose versions are gone.
func (r *Record) dropEnabling(attempt key.ID) {
	r.Enabling = slices.DeleteFunc(r.Enabling, func(x Enabling) bool { return x.Attempt == attempt })
}
