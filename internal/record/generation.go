package record

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Generation is one key pair of a key.
type Generation struct {
	Number    int      `json:"number"` // from 1, never reused
	ID        key.ID   `json:"id"`     // CKA_ID
	Spec      key.Spec `json:"spec"`
	Reason    string   `json:"reason"`
	Requester string   `json:"requester"` // "schedule", or "uid N (name)"
	Requests  []key.ID `json:"requests,omitempty"`
	Without   []string `json:"without,omitempty"` // vault URLs that the operator left out

	// The rest is what became of it, and when, by the local clock.

	Reserved time.Time `json:"reserved"` // of a spare that was promoted: when that was
	// SpareSince is when a spare was reserved as one, also after its promotion; zero of any other generation.
	SpareSince time.Time `json:"spare_since,omitzero"`
	// GenerateBegun is set before C_GenerateKeyPair is called for ID. So it is called at most once.
	GenerateBegun time.Time       `json:"generate_begun,omitzero"`
	Fingerprint   key.Fingerprint `json:"fingerprint,omitempty"`
	Pinned        time.Time       `json:"pinned,omitzero"`
	Finished      time.Time       `json:"finished,omitzero"`    // active everywhere
	Deactivated   time.Time       `json:"deactivated,omitzero"` // a later one is active everywhere
	Compromised   time.Time       `json:"compromised,omitzero"`
	Discarded     time.Time       `json:"discarded,omitzero"` // never placed, and never will be
	// LostInHSM: the operator acknowledged that the HSM no longer has the pair.
	LostInHSM  time.Time   `json:"lost_in_hsm,omitzero"`
	Placements []Placement `json:"placements,omitempty"` // oldest first
}

// State is the generation's life-cycle state.
func (g *Generation) State() key.State {
	switch {
	case !g.Compromised.IsZero():
		return key.Compromised
	case !g.Discarded.IsZero():
		return key.Destroyed
	case g.suspended():
		return key.Suspended
	case !g.Deactivated.IsZero():
		return key.Deactivated
	case g.has(Placement.Good):
		return key.Active
	}
	return key.PreActivation
}

// suspended reports whether every placement that happened is disabled, and one is.
func (g *Generation) suspended() bool {
	return g.has(func(p Placement) bool { return p.State == key.Disabled }) &&
		!g.has(func(p Placement) bool { return p.State != key.Void && p.State != key.Disabled })
}

func (g *Generation) has(ok func(Placement) bool) bool { return slices.ContainsFunc(g.Placements, ok) }

// Usable reports whether the generation may be placed: pinned, and neither compromised, discarded nor gone from the
// HSM.
func (g *Generation) Usable() bool {
	return g.Fingerprint != "" && g.Compromised.IsZero() && g.Discarded.IsZero() && g.LostInHSM.IsZero()
}

// In returns the generation's newest placement in a vault that still counts; nil when there is none.
func (g *Generation) In(url string) *Placement {
	for i := range slices.Backward(g.Placements) {
		if p := &g.Placements[i]; p.Vault == url && p.Counts() {
			return p
		}
	}
	return nil
}

// VoidIn returns the generation's void placement in a vault to which a version belongs that came to light late: the
// one that had this version, or has its attempt; else the last one without a version; nil when there is none.
func (g *Generation) VoidIn(url string, version string, attempt key.ID) (last *Placement) {
	for i := range g.Placements {
		p := &g.Placements[i]
		switch {
		case p.Vault != url || p.State != key.Void || p.Version != "" && p.Version != version:
			continue
		case p.Version == version || p.Attempt == attempt:
			return p
		}
		last = p
	}
	return last
}

// Holds reports whether a version in a vault is of the generation's own material.
func (g *Generation) Holds(url, version string) bool {
	return version != "" && g.has(func(p Placement) bool {
		return p.Vault == url && p.Version != "" && slices.Contains(p.Versions(), version)
	})
}

// Placed reports whether an import of the generation into any vault may have happened.
func (g *Generation) Placed() bool {
	return g.has(func(p Placement) bool { return p.State != key.Void })
}

// ActiveIn reports whether the generation was proven in a vault, and that still stands.
func (g *Generation) ActiveIn(url string) bool {
	p := g.In(url)
	return p != nil && p.Good()
}

// LeavesOut reports whether the operator left the vault out of this generation. Leaving out every vault of the policy
// counts for nothing: the others went from the policy since.
func (g *Generation) LeavesOut(p key.Policy, url string) bool {
	rest := slices.ContainsFunc(p.Vaults, func(v key.Vault) bool { return !slices.Contains(g.Without, v.URL) })
	return rest && slices.Contains(g.Without, url)
}

// Everywhere reports whether the generation is active in each of the policy's vaults from which it was not left out.
func (g *Generation) Everywhere(p key.Policy) bool {
	return !slices.ContainsFunc(p.Vaults, func(v key.Vault) bool {
		return !g.LeavesOut(p, v.URL) && !g.ActiveIn(v.URL)
	})
}

// Answers reports whether the generation was made for a request.
func (g *Generation) Answers(request key.ID) bool { return slices.Contains(g.Requests, request) }

// ReservedAt is when the generation was reserved. Where a vault created a version of it clearly earlier, that time
// counts: a local clock that ran ahead must not put off the next rotation.
func (g *Generation) ReservedAt() time.Time {
	at := g.Reserved
	for _, p := range g.Placements {
		if !p.Created.IsZero() && p.Created.Before(g.Reserved.Add(-key.MaxSkew)) && p.Created.Before(at) {
			at = p.Created
		}
	}
	return at
}

func (g Generation) clone() Generation {
	g.Requests = slices.Clone(g.Requests)
	g.Without = slices.Clone(g.Without)
	g.Placements = cloneEach(g.Placements, func(p Placement) Placement {
		p.Aliases = slices.Clone(p.Aliases)
		p.Operations = slices.Clone(p.Operations)
		return p
	})
	return g
}
