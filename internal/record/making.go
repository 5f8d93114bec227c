package record

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Reservation says what a new generation is made for.
type Reservation struct {
	ID        key.ID // fresh and random
	Reason    string
	Requester string
	Requests  []key.ID
	Without   []string // vault URLs
}

// Reserve adds a generation with the next number, and keeps the key's policy: keyd goes on proving a key that left
// the configuration.
func (r *Record) Reserve(now time.Time, p key.Policy, why Reservation) (*Generation, error) {
	if g := r.Current(); g != nil {
		return nil, fmt.Errorf("generation %d of %s is still under way: keyd reserves no other meanwhile",
			g.Number, r.Key)
	}
	if err := r.fresh(why.ID); err != nil {
		return nil, err
	}
	r.Generations = append(r.Generations, Generation{
		Number: r.NextNumber(), ID: why.ID, Spec: p.Spec, Reason: why.Reason, Requester: why.Requester,
		Requests: why.Requests, Without: why.Without, Reserved: now,
	})
	r.KeepPolicy(p)
	return &r.Generations[len(r.Generations)-1], nil
}

// fresh checks that an id was never used.
func (r *Record) fresh(id key.ID) error {
	if r.KnowsID(id) {
		return fmt.Errorf("the fresh id %s of %s was used before: the random source cannot be trusted", id, r.Key)
	}
	return nil
}

// KeepPolicy notes by which vaults and operations the key is proven if it leaves the configuration.
func (r *Record) KeepPolicy(p key.Policy) { r.Vaults, r.Operations = p.Vaults, p.Operations }

// numbered is Numbered for a transition, which cannot go on without it. Only what is about a pair asks for spares, too.
func (r *Record) numbered(n int) (*Generation, error) {
	if s := r.Spare(n); s != nil {
		return s, nil
	}
	return r.generation(n)
}

// BeginGenerate notes that C_GenerateKeyPair is about to be called for the id of a generation or a spare. It is called
// once.
func (r *Record) BeginGenerate(now time.Time, n int) (*Generation, error) {
	g, err := r.numbered(n)
	if err != nil {
		return nil, err
	}
	if g.Fingerprint != "" || !g.GenerateBegun.IsZero() {
		return nil, fmt.Errorf("a pair was already begun for generation %d of %s under CKA_ID %s: keyd begins "+
			"none twice", n, r.Key, g.ID)
	}
	g.GenerateBegun = now
	return g, nil
}

// AbandonID leaves to the sweeper what is or comes under the id of a generation or a spare, and gives it a fresh one.
func (r *Record) AbandonID(now time.Time, n int, fresh key.ID, why string) error {
	g, err := r.numbered(n)
	if err != nil {
		return err
	}
	if g.Fingerprint != "" {
		return fmt.Errorf("generation %d of %s is pinned: its CKA_ID %s is never given up", n, r.Key, g.ID)
	}
	r.abandon(now, g, fresh, why)
	return nil
}

func (r *Record) abandon(now time.Time, g *Generation, fresh key.ID, why string) {
	r.Abandoned = append(r.Abandoned, AbandonedID{ID: g.ID, Generation: g.Number, At: now, Reason: why})
	g.ID, g.GenerateBegun = fresh, time.Time{}
}

// discard ends a generation that has no pair. The sweeper gets whatever is or appears under its id: if the record is
// an old copy, it cannot know whether a pair was begun there.
func (r *Record) discard(now time.Time, g *Generation, newID NewID, why string) error {
	id, err := newID()
	if err != nil {
		return err
	}
	g.Discarded = now
	r.abandon(now, g, id, why)
	return nil
}

// NewID draws a fresh random id.
type NewID func() (key.ID, error)

// Pin records the material of the pair of a generation or a spare.
func (r *Record) Pin(now time.Time, n int, print key.Fingerprint) (*Generation, error) {
	g, err := r.numbered(n)
	switch {
	case err != nil:
		return nil, err
	case print == "":
		return nil, errors.New("nothing is pinned without a fingerprint")
	case g.Fingerprint != "":
		return nil, fmt.Errorf("generation %d of %s is pinned already, to %s", n, r.Key, g.Fingerprint)
	}
	other := r.WithFingerprint(print)
	if other == nil {
		other = r.findSpare(func(s *Generation) bool { return s.Fingerprint == print })
	}
	if other != nil {
		return nil, fmt.Errorf("the HSM made the same pair for generation %d and %d of %s: its random generator "+
			"cannot be trusted, stop using it", other.Number, n, r.Key)
	}
	g.Fingerprint, g.Pinned = print, now
	return g, nil
}

// BeginDestroy records that keyd is about to destroy what is under an abandoned id.
func (r *Record) BeginDestroy(now time.Time, id key.ID) error {
	g := r.WithID(id)
	if g == nil {
		g = r.SpareWithID(id)
	}
	if g != nil {
		return fmt.Errorf("CKA_ID %s is that of generation %d of %s: keyd does not destroy it", id, g.Number, r.Key)
	}
	i := slices.IndexFunc(r.Abandoned, func(a AbandonedID) bool { return a.ID == id })
	if i < 0 {
		return fmt.Errorf("CKA_ID %s of %s was never given up: keyd does not destroy it", id, r.Key)
	}
	r.Abandoned[i].DestroyBegun = now
	return nil
}

// Destroyed records that nothing is left under an abandoned id.
func (r *Record) Destroyed(id key.ID) {
	for i := range r.Abandoned {
		if r.Abandoned[i].ID == id {
			r.Abandoned[i].DestroyBegun = time.Time{}
		}
	}
}
