package key

import (
	"maps"
	"time"
)

// SchemaVersion is the version of Record's form. A record of a newer one is
// refused.
const SchemaVersion = 1

// Cause says why a placement was made.
type Cause string

// The causes of a placement.
const (
	CauseRotation Cause = "rotation"
	CauseRollback Cause = "rollback"
	CauseRepair   Cause = "repair"
	CauseNewVault Cause = "new vault"
	CauseAdopted  Cause = "adopted" // found by keyd adopt, not imported by this record
)

// PlacementState is where one placement stands.
type PlacementState string

// The states of a placement, in the order in which a good one passes them.
const (
	// Intended: recorded before the PUT; whether it happened is not known.
	Intended PlacementState = "intended"
	// Imported: the vault holds the version; it is not proven.
	Imported PlacementState = "imported"
	// Proven: the proof passed; newest of ours in that vault.
	Proven PlacementState = "active"
	// Superseded: a newer placement in the same vault is proven; still
	// enabled, still unwraps.
	Superseded PlacementState = "superseded"
	// Disabled: enabled=false, by the retire rule.
	Disabled PlacementState = "disabled"
	// Refuted: the vault holds other material than the HSM. Stays enabled.
	Refuted PlacementState = "refuted"
	// Void: the import certainly did not happen.
	Void PlacementState = "void"
)

// Outcome of a proof.
type Outcome string

// The outcomes. Refuted is only ever a definite wrong modulus, key type or
// plaintext.
const (
	Passed       Outcome = "passed"
	WasRefuted   Outcome = "refuted"
	Inconclusive Outcome = "inconclusive"
)

// Placement is one generation in one vault.
type Placement struct {
	Seq       int            `json:"seq"`     // order among all placements of the record, from 1; 0: found by adopt, and older than those
	Attempt   ID             `json:"attempt"` // random, travels as the tag TagAttempt
	Vault     string         `json:"vault"`   // URL
	VaultName string         `json:"vault_name"`
	Cause     Cause          `json:"cause"`
	State     PlacementState `json:"state"`
	At        time.Time      `json:"at"`       // when it was recorded
	Deadline  time.Time      `json:"deadline"` // the PUT is given up at this time
	// VaultAt is At by the vault's clock, as far as it was known. The local clock
	// may jump while the outcome is open.
	VaultAt time.Time `json:"vault_at,omitzero"`

	Version    string    `json:"version,omitempty"` // the vault's id, once known
	Created    time.Time `json:"created,omitzero"`  // by the vault's clock
	ImportedAt time.Time `json:"imported_at,omitzero"`
	ProvenAt   time.Time `json:"proven_at,omitzero"`
	// DisableBegun is when keyd last began to disable its versions, by the vault's clock
	// as far as that was known, while it does not know what came of it; zero otherwise.
	DisableBegun time.Time `json:"disable_begun,omitzero"`
	DisabledAt   time.Time `json:"disabled_at,omitzero"`
	Aliases      []string  `json:"aliases,omitempty"` // other versions of the same material
	// Operations are those it was imported with; empty when they are not known.
	Operations []Operation `json:"operations,omitempty"`
	// Expires is the expiry date that the import asked for; zero: none.
	Expires  time.Time   `json:"expires,omitzero"`
	KEK      string      `json:"kek,omitempty"` // kid with version
	KEKPrint Fingerprint `json:"kek_fingerprint,omitempty"`
	Detail   string      `json:"detail,omitempty"` // why void or refuted, for people
	// Lifted: the operator resumed the key after this refutation, so the
	// generation may be placed here again.
	Lifted bool `json:"lifted,omitempty"`
}

// Counts reports whether the placement says anything of the present: it is not
// void, and if it was refuted, nobody has lifted that.
func (p Placement) Counts() bool {
	return p.State != Void && (p.State != Refuted || !p.Lifted)
}

// Versions is the version and its aliases: all that the vault has of the placement.
func (p Placement) Versions() []string {
	return append([]string{p.Version}, p.Aliases...)
}

// Good reports whether the placement was proven and still stands.
func (p Placement) Good() bool {
	return p.State == Proven || p.State == Superseded || p.State == Disabled
}

// State is the life-cycle state of a generation (NIST SP 800-57 part 1).
type State string

// The states of a generation.
const (
	PreActivation State = "pre-activation" // made or being made, newest nowhere yet
	Active        State = "active"
	Deactivated   State = "deactivated" // superseded everywhere; still unwraps
	Suspended     State = "suspended"   // disabled in every vault
	Compromised   State = "compromised"
	Destroyed     State = "destroyed" // the pair is gone from the HSM
)

// Generation is one key pair of a key.
type Generation struct {
	Number    int       `json:"number"` // from 1, never reused
	ID        ID        `json:"id"`     // CKA_ID
	Spec      Spec      `json:"spec"`
	Reason    string    `json:"reason"`
	Requester string    `json:"requester"` // "schedule", or "uid N (name)"
	Requests  []ID      `json:"requests,omitempty"`
	Without   []string  `json:"without,omitempty"` // vault URLs left out by the operator
	Reserved  time.Time `json:"reserved"`
	// GenerateBegun is set before C_GenerateKeyPair is called for ID, and so
	// makes sure that it is called at most once.
	GenerateBegun time.Time   `json:"generate_begun,omitzero"`
	Fingerprint   Fingerprint `json:"fingerprint,omitempty"`
	Pinned        time.Time   `json:"pinned,omitzero"`
	Finished      time.Time   `json:"finished,omitzero"`    // active everywhere
	Deactivated   time.Time   `json:"deactivated,omitzero"` // a later one is active everywhere
	Compromised   time.Time   `json:"compromised,omitzero"`
	Discarded     time.Time   `json:"discarded,omitzero"` // never placed, and never will be
	// LostInHSM: the operator acknowledged that the HSM no longer has the pair.
	LostInHSM  time.Time   `json:"lost_in_hsm,omitzero"`
	Placements []Placement `json:"placements,omitempty"` // oldest first
}

// State derives the generation's life-cycle state.
func (g Generation) State() State {
	switch {
	case !g.Compromised.IsZero():
		return Compromised
	case !g.Discarded.IsZero():
		return Destroyed
	case g.suspended():
		return Suspended
	case !g.Deactivated.IsZero():
		return Deactivated
	}
	for _, p := range g.Placements {
		if p.Good() {
			return Active
		}
	}
	return PreActivation
}

func (g Generation) suspended() bool {
	disabled := false
	for _, p := range g.Placements {
		if p.State == Void {
			continue
		}
		if p.State != Disabled {
			return false
		}
		disabled = true
	}
	return disabled
}

// Usable reports whether the generation may be placed: pinned, and neither
// compromised, discarded nor gone from the HSM.
func (g Generation) Usable() bool {
	return g.Fingerprint != "" && g.Compromised.IsZero() && g.Discarded.IsZero() && g.LostInHSM.IsZero()
}

// In returns the generation's newest placement in a vault that is not void and
// whose refutation was not lifted; nil when there is none.
func (g *Generation) In(vault string) *Placement {
	for i := len(g.Placements) - 1; i >= 0; i-- {
		p := &g.Placements[i]
		if p.Vault == vault && p.Counts() {
			return p
		}
	}
	return nil
}

// AbandonedID is a CKA_ID that was given up before it was pinned. Only these may
// be destroyed.
type AbandonedID struct {
	ID         ID        `json:"id"`
	Generation int       `json:"generation"`
	At         time.Time `json:"at"`
	Reason     string    `json:"reason"`
	// DestroyBegun is set while it is not known what became of destroying what is
	// under the id.
	DestroyBegun time.Time `json:"destroy_begun,omitzero"`
}

// HoldCode is the closed set of reasons for which a key is held.
type HoldCode string

// The codes of a hold. docs/runbooks.md has a section for each.
const (
	HoldPaused          HoldCode = "paused"           // an operator asked for it
	HoldForeign         HoldCode = "foreign-version"  // the vault's newest version is not ours
	HoldNameTaken       HoldCode = "name-taken"       // the name holds versions keyd never made
	HoldVersionsMissing HoldCode = "versions-missing" // the record has versions the vault does not show
	HoldKeyDeleted      HoldCode = "key-deleted"      // soft-deleted in the vault
	HoldRefuted         HoldCode = "proof-refuted"    // rolled back, or nothing to roll back to
	HoldRecordBehind    HoldCode = "record-behind"    // HSM or vault show more than the record
	HoldObjectMissing   HoldCode = "hsm-object-missing"
	HoldAdopted         HoldCode = "adopted" // the record was rebuilt; look before it goes on
)

// Hold is a recorded stop of one key.
type Hold struct {
	Code   HoldCode  `json:"code"`
	Reason string    `json:"reason"` // what happened, where, and what to do
	Vault  string    `json:"vault,omitempty"`
	Since  time.Time `json:"since"`
	By     string    `json:"by"` // "keyd", or "uid N (name)"
}

// Request is an operator's wish for a rotation, CASed into the record.
type Request struct {
	ID         ID        `json:"id"`
	At         time.Time `json:"at"`
	By         string    `json:"by"`
	Reason     string    `json:"reason"`
	Compromise bool      `json:"compromise,omitempty"` // only material reserved after At satisfies it
	Without    []string  `json:"without,omitempty"`    // vault URLs
}

// Record is keyd's stored intent and knowledge of one key. It is changed only by
// compare-and-swap on Revision.
type Record struct {
	Schema   int    `json:"schema"`
	Key      string `json:"key"`
	Instance string `json:"instance"`
	// Revision is the store's: 0 for a record that was never saved.
	Revision    uint64        `json:"-"`
	Generations []Generation  `json:"generations,omitempty"` // ascending by number
	Abandoned   []AbandonedID `json:"abandoned,omitempty"`
	Requests    []Request     `json:"requests,omitempty"` // pending only
	Hold        *Hold         `json:"hold,omitempty"`
	// Lifted is when a hold was last lifted, by the local clock; zero: never. After one, a
	// Managed HSM that shows nothing of the key is not believed at once.
	Lifted time.Time `json:"lifted,omitzero"`
	// Known lists, by vault URL, the foreign versions whose presence an
	// operator has accepted.
	Known map[string][]string `json:"known,omitempty"`
	// KEKBegun is, by vault URL, when keyd last began to make the vault's key
	// exchange key for this key, by its clock as far as that was known. It may come
	// to light later.
	KEKBegun map[string]time.Time `json:"kek_begun,omitempty"`
	// KEKMade is, by vault URL, what came of that, once it is known.
	KEKMade map[string]Fingerprint `json:"kek_made,omitempty"`
	// Retained is kept for a key that left the configuration, so that it is
	// still proved: the vaults and operations it had.
	Vaults     []Vault     `json:"vaults,omitempty"`
	Operations []Operation `json:"operations,omitempty"`
}

// Generation returns the generation with this number; nil when there is none.
func (r *Record) Generation(n int) *Generation {
	for i := range r.Generations {
		if r.Generations[i].Number == n {
			return &r.Generations[i]
		}
	}
	return nil
}

// Lift ends the hold, if there is one.
func (r *Record) Lift(now time.Time) {
	if r.Hold != nil {
		r.Hold, r.Lifted = nil, now
	}
}

// Latest is the generation with the highest number that was not discarded; nil
// for none.
func (r *Record) Latest() *Generation {
	for i := len(r.Generations) - 1; i >= 0; i-- {
		if r.Generations[i].Discarded.IsZero() {
			return &r.Generations[i]
		}
	}
	return nil
}

// NextNumber is one more than the highest number ever used.
func (r *Record) NextNumber() int {
	if n := len(r.Generations); n > 0 {
		return r.Generations[n-1].Number + 1
	}
	return 1
}

// clocksDiffer is the difference between the local clock and a vault's from which
// the vault's is believed.
const clocksDiffer = 5 * time.Minute

// LastRotation is when the latest generation was reserved; zero when there is none.
func (r *Record) LastRotation() time.Time {
	g := r.Latest()
	if g == nil {
		return time.Time{}
	}
	return g.ReservedAt()
}

// ReservedAt is when the generation was reserved. Where a vault created a version of
// it clearly earlier, that time counts: a local clock that ran ahead must not put off
// the next rotation.
func (g *Generation) ReservedAt() time.Time {
	at := g.Reserved
	for _, p := range g.Placements {
		if !p.Created.IsZero() && p.Created.Before(g.Reserved.Add(-clocksDiffer)) && p.Created.Before(at) {
			at = p.Created
		}
	}
	return at
}

// Clone is a deep copy, so that a plan can be worked out on it without touching
// what was loaded.
func (r Record) Clone() Record {
	c := r
	c.Generations = cloneEach(r.Generations, func(g Generation) Generation {
		g.Requests = append([]ID(nil), g.Requests...)
		g.Without = append([]string(nil), g.Without...)
		g.Placements = cloneEach(g.Placements, func(p Placement) Placement {
			p.Aliases = append([]string(nil), p.Aliases...)
			p.Operations = append([]Operation(nil), p.Operations...)
			return p
		})
		return g
	})
	c.Abandoned = append([]AbandonedID(nil), r.Abandoned...)
	c.Requests = cloneEach(r.Requests, func(q Request) Request {
		q.Without = append([]string(nil), q.Without...)
		return q
	})
	if r.Hold != nil {
		h := *r.Hold
		c.Hold = &h
	}
	if r.Known != nil {
		c.Known = make(map[string][]string, len(r.Known))
		for k, v := range r.Known {
			c.Known[k] = append([]string(nil), v...)
		}
	}
	c.KEKBegun = maps.Clone(r.KEKBegun)
	c.KEKMade = maps.Clone(r.KEKMade)
	c.Vaults = append([]Vault(nil), r.Vaults...)
	c.Operations = append([]Operation(nil), r.Operations...)
	return c
}

func cloneEach[T any](in []T, clone func(T) T) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = clone(v)
	}
	return out
}
