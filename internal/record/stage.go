package record

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Phase is how far a key's latest generation has come.
type Phase string

// The phases, in the order of a rotation.
const (
	NoGeneration Phase = "none"    // the key has no generation yet
	Making       Phase = "making"  // reserved; its pair is not pinned
	Placing      Phase = "placing" // pinned; keyd places it in one vault after the other
	Finished     Phase = "finished"
	// Ended: it may no longer be placed, and was not active everywhere: it is compromised or disabled, or its pair is
	// lost. It stays as it is until another rotation.
	Ended Phase = "ended"
)

// Stage is where a key stands according to its record. It is the one answer to "is a rotation under way?" for the
// plan, the metrics, the status and the page.
type Stage struct {
	Phase      Phase
	Generation int       // the latest that was not discarded; 0 for none
	Active     int       // the latest that is active everywhere; 0 for none
	Since      time.Time // when the rotation under way was reserved; zero when none is
	// MissingFrom lists the URLs of the policy's vaults where the latest generation is not active, although it is
	// active in another.
	MissingFrom []string
	// Pending: the record shows work that is begun or missing, not only for the latest generation.
	Pending bool
}

// UnderWay reports whether a rotation has begun that keyd will finish by itself.
func (s Stage) UnderWay() bool { return s.Phase == Making || s.Phase == Placing }

// Partial reports whether the latest generation is active in some of its vaults but not in all.
func (s Stage) Partial() bool { return len(s.MissingFrom) > 0 }

// Stage is where the key stands under a policy.
func (r *Record) Stage(p key.Policy) Stage {
	g := r.Latest()
	s := Stage{Phase: r.phase(g), Active: r.active(), Pending: r.pending(p)}
	if g == nil {
		return s
	}
	s.Generation = g.Number
	if s.UnderWay() {
		s.Since = g.Reserved
	}
	for _, v := range p.Vaults {
		if !g.ActiveIn(v.URL) {
			s.MissingFrom = append(s.MissingFrom, v.URL)
		}
	}
	if g.Fingerprint == "" || len(s.MissingFrom) == len(p.Vaults) {
		s.MissingFrom = nil
	}
	return s
}

func (r *Record) phase(g *Generation) Phase {
	switch {
	case g == nil:
		return NoGeneration
	case !g.Finished.IsZero():
		return Finished
	case r.Current() == nil:
		return Ended
	case g.Fingerprint == "":
		return Making
	}
	return Placing
}

// active is the number of the latest finished generation; 0 for none.
func (r *Record) active() int {
	if g := r.findLast(func(g *Generation) bool { return !g.Finished.IsZero() }); g != nil {
		return g.Number
	}
	return 0
}

// pending reports whether the record shows work that is begun or missing.
func (r *Record) pending(p key.Policy) bool {
	if r.Latest() == nil {
		return true
	}
	begun := r.find(func(g *Generation) bool {
		given := !g.Discarded.IsZero() || !g.Compromised.IsZero() || !g.LostInHSM.IsZero()
		return !given && (g.Finished.IsZero() || g.has(unresolved))
	})
	missing := func(v key.Vault) bool { return r.Missing(p, v.URL) != nil }
	return begun != nil || slices.ContainsFunc(p.Vaults, missing)
}

func unresolved(p Placement) bool {
	return p.State == key.Intended || p.State == key.Imported || p.State == key.Refuted
}
