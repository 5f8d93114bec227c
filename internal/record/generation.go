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

	// The rest says what became of it and when, by the local clock.

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

// suspended reports whether the generation has versions and all of them are disabled.
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

// In returns the generation's newest placement in a vault, among those that still count; nil if there is none.
func (g *Generation) In(url string) *Placement {
	for i := range slices.Backward(g.Placements) {
		if p := &g.Placements[i]; p.Vault == url && p.Counts() {
			return p
		}
	}
	return nil
}

// VoidIn returns the generation's void placement in a vault for a version that appeared late: the one that had this
// version or has its attempt, otherwise the last one without a version; nil if there is none.
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

// Awaits returns the placement whose attempt a version carries as its tag, while the record has no other version of
// it; nil when there is none.
func (g *Generation) Awaits(url string, v key.Version) *Placement {
	for i := range g.Placements {
		p := &g.Placements[i]
		open := p.Version == "" || p.State == key.Void && p.Version == v.ID
		if p.Vault == url && open && p.Attempt == key.ID(v.Tags[key.TagAttempt]) {
			return p
		}
	}
	return nil
}

// Holds reports whether a version in a vault is of the generation's own material. A refuted version is not.
func (g *Generation) Holds(url, version string) bool {
	return version != "" && g.has(func(p Placement) bool {
		refuted := p.State == key.Refuted || p.State == key.Lifted
		return p.Vault == url && p.Version != "" && !refuted && slices.Contains(p.Versions(), version)
	})
}

// Placed reports whether an import of the generation into any vault may have happened.
func (g *Generation) Placed() bool {
	return g.has(func(p Placement) bool { return p.State != key.Void })
}

// ActiveIn reports whether the generation is active in a vault: proven there, and the proof still stands.
func (g *Generation) ActiveIn(url string) bool {
	p := g.In(url)
	return p != nil && p.Good()
}

// LeavesOut reports whether the operator left the vault out of this generation. Leaving out every vault of the policy
// has no effect: the other vaults have since left the policy.
func (g *Generation) LeavesOut(p key.Policy, url string) bool {
	rest := slices.ContainsFunc(p.Vaults, func(v key.Vault) bool { return !slices.Contains(g.Without, v.URL) })
	return rest && slices.Contains(g.Without, url)
}

// Everywhere reports whether the generation is active in each of the policy's vaults that the operator did not leave
// out.
func (g *Generation) Everywhere(p key.Policy) bool {
	return !slices.ContainsFunc(p.Vaults, func(v key.Vault) bool {
		return !g.LeavesOut(p, v.URL) && !g.ActiveIn(v.URL)
	})
}

// Answers reports whether the generation was made for a request.
func (g *Generation) Answers(request key.ID) bool { return slices.Contains(g.Requests, request) }

// ReservedAt is when the generation was reserved. If a vault created a version of it clearly earlier, that time
// counts: a local clock that ran ahead must not delay the next rotation.
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
		p.DisabledVersions = slices.Clone(p.DisabledVersions)
		p.Operations = slices.Clone(p.Operations)
		return p
	})
	return g
}
