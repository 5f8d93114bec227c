package record

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Record is keyd's stored intent and knowledge of one key. It changes only by compare-and-swap on Revision.
type Record struct {
	Schema   int    `json:"schema"`
	Key      string `json:"key"`
	Instance string `json:"instance"`
	// Revision is the store's: 0 for a record that was never saved.
	Revision    uint64       `json:"-"`
	Generations []Generation `json:"generations,omitempty"` // ascending by number
	// Spares are generations that are made in advance. None of them was ever placed.
	Spares []Generation `json:"spares,omitempty"` // ascending by number
	// Burned is the highest number of a spare that was discarded.
	Burned    int           `json:"burned,omitempty"`
	Abandoned []AbandonedID `json:"abandoned,omitempty"`
	// Strays are pairs that nobody reserved, and that keyd leaves alone by a person's consent.
	Strays   []Stray       `json:"strays,omitempty"`
	Requests []key.Request `json:"requests,omitempty"` // pending only
	Hold     *key.Hold     `json:"hold,omitempty"`
	// HoldLifted is when a hold was last lifted, by the local clock; zero: never. After one, keyd does not
	// trust at once a Managed HSM that shows nothing of the key.
	HoldLifted time.Time `json:"lifted,omitzero"`
	// Consent is an operator's consent to the retire rule; nil: nothing may be disabled.
	Consent *Consent `json:"consent,omitempty"`
	// LastDisabling is when keyd last began to disable a version, by the local clock and by that vault's. To try the
	// same one again does not count.
	LastDisabling Moment `json:"last_disabling,omitzero"`
	// Doubted is when it was last found that the record lacks changes: a disabling may be among them.
	Doubted Moment `json:"doubted,omitzero"`
	// Enabling lists the versions that an operator asked to enable again and that are not enabled yet.
	Enabling []Enabling `json:"enabling,omitempty"`
	// Repointing is the consumer that keyd moves to another version now, or the last one if it failed; nil for none.
	Repointing      *Repointing      `json:"repointing,omitempty"`
	RepointRequests []RepointRequest `json:"repoint_requests,omitempty"` // pending only
	RepointLapses   []RepointLapse   `json:"repoint_lapses,omitempty"`   // at most one for each consumer
	// LastRepoint is when keyd last began to move a consumer: what was seen before shows nothing of it.
	LastRepoint time.Time `json:"last_repoint,omitzero"`
	// Replacement is the replacing of the key by another one; nil: it is not replaced.
	Replacement *Replacement `json:"replacement,omitempty"`
	// Inherits lists the consumers that replacements of other keys set to this one.
	Inherits []Inherited `json:"inherits,omitempty"`
	// Proposals lists the acts that wait for a second operator.
	Proposals Proposals `json:"proposals,omitempty"`
	// Known lists, by vault URL, the foreign versions whose presence an operator has accepted.
	Known map[string][]string `json:"known,omitempty"`
	// Vaults and Operations are from the key's last policy. keyd needs them to go on proving a key that left the
	// configuration.
	Vaults     []key.Vault     `json:"vaults,omitempty"`
	Operations []key.Operation `json:"operations,omitempty"`
}

// AbandonedID is a CKA_ID that was given up before its pair was used: one that was never pinned, or that of a discarded
// spare. keyd may destroy what is under it, and nothing else.
type AbandonedID struct {
	ID         key.ID    `json:"id"`
	Generation int       `json:"generation"`
	At         time.Time `json:"at"`
	Reason     string    `json:"reason"`
	// Fingerprint is that of a discarded spare's pair, or of one that adopt found; "" of what was never pinned. keyd
	// destroys such a pair only while every vault of the key shows that it does not hold it: an old copy of the state
	// may call a generation a spare.
	Fingerprint key.Fingerprint `json:"fingerprint,omitempty"`
	// Compromised is when the key's material was called compromised while this was a spare, or was being made.
	Compromised time.Time `json:"compromised,omitzero"`
	// DestroyBegun is set while keyd does not know what became of destroying what is under the id.
	DestroyBegun time.Time `json:"destroy_begun,omitzero"`
}

// Stray is a pair in the HSM that carries the key's label and that nobody reserved. It is no generation.
type Stray struct {
	ID          key.ID          `json:"id"`
	Number      int             `json:"number"` // in its label
	Fingerprint key.Fingerprint `json:"fingerprint,omitempty"`
	At          time.Time       `json:"at"`
}

// Placed is a placement with its generation. Both are nil when a question has no answer.
type Placed struct {
	Generation *Generation
	*Placement
}

// Found reports whether the question had an answer.
func (p Placed) Found() bool { return p.Placement != nil }

// Generation returns the generation with this number; nil when there is none.
func (r *Record) Generation(n int) *Generation {
	return r.find(func(g *Generation) bool { return g.Number == n })
}

// find returns the first generation for which ok holds; nil when there is none.
func (r *Record) find(ok func(*Generation) bool) *Generation {
	for i := range r.Generations {
		if ok(&r.Generations[i]) {
			return &r.Generations[i]
		}
	}
	return nil
}

// findLast is find from the latest generation on.
func (r *Record) findLast(ok func(*Generation) bool) *Generation {
	for i := range slices.Backward(r.Generations) {
		if ok(&r.Generations[i]) {
			return &r.Generations[i]
		}
	}
	return nil
}

// all yields every placement with its generation, oldest generation first. The placements may be changed.
func (r *Record) all(yield func(Placed) bool) {
	for i := range r.Generations {
		g := &r.Generations[i]
		for j := range g.Placements {
			if !yield(Placed{g, &g.Placements[j]}) {
				return
			}
		}
	}
}

// in yields every placement in one vault.
func (r *Record) in(url string) func(yield func(Placed) bool) {
	return func(yield func(Placed) bool) {
		for at := range r.all {
			if at.Vault == url && !yield(at) {
				return
			}
		}
	}
}

// Placement returns the placement of an attempt.
func (r *Record) Placement(attempt key.ID) Placed {
	for at := range r.all {
		if at.Attempt == attempt {
			return at
		}
	}
	return Placed{}
}

// generation is Generation for a transition that cannot go on without it.
func (r *Record) generation(n int) (*Generation, error) {
	if g := r.Generation(n); g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("the record of %s has no generation %d", r.Key, n)
}

// placement is Placement for a transition that only some states permit.
func (r *Record) placement(attempt key.ID, from ...key.PlacementState) (Placed, error) {
	at := r.Placement(attempt)
	if !at.Found() {
		return at, fmt.Errorf("the record of %s has no import attempt %s", r.Key, attempt)
	}
	if !slices.Contains(from, at.State) {
		return at, fmt.Errorf("import attempt %s of %s is %s: this change is only possible from %v",
			attempt, r.Key, at.State, from)
	}
	return at, nil
}

// Clone is a deep copy, so that a caller can work out a change without touching what was loaded.
func (r Record) Clone() Record {
	c := r
	c.Generations = cloneEach(r.Generations, Generation.clone)
	c.Spares = cloneEach(r.Spares, Generation.clone)
	c.Abandoned = slices.Clone(r.Abandoned)
	c.Strays = slices.Clone(r.Strays)
	c.Requests = cloneEach(r.Requests, func(q key.Request) key.Request {
		q.Without = slices.Clone(q.Without)
		return q
	})
	if r.Hold != nil {
		h := *r.Hold
		c.Hold = &h
	}
	c.Consent = r.Consent.clone()
	c.Enabling = slices.Clone(r.Enabling)
	if r.Repointing != nil {
		x := *r.Repointing
		c.Repointing = &x
	}
	c.RepointRequests = slices.Clone(r.RepointRequests)
	c.Replacement = r.Replacement.clone()
	c.Inherits = slices.Clone(r.Inherits)
	c.RepointLapses = slices.Clone(r.RepointLapses)
	c.Proposals = slices.Clone(r.Proposals)
	if r.Known != nil {
		c.Known = make(map[string][]string, len(r.Known))
		for url, versions := range r.Known {
			c.Known[url] = slices.Clone(versions)
		}
	}
	c.Vaults = slices.Clone(r.Vaults)
	c.Operations = slices.Clone(r.Operations)
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
