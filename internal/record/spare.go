package record

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// A spare is a generation that is made in advance and parked. It stands in a list of its own, so no question about
// generations takes it for one: it is never the latest, counts for no schedule and no budget, and no placement can name
// it. It has its number from the start, because the label of its pair has that number, too: nothing in the HSM is
// renamed. The number of a spare that is discarded is never used again. A promotion moves the spare to the generations.

// Spare returns the spare with this number; nil for none.
func (r *Record) Spare(n int) *Generation {
	return r.findSpare(func(s *Generation) bool { return s.Number == n })
}

func (r *Record) findSpare(ok func(*Generation) bool) *Generation {
	for i := range r.Spares {
		if ok(&r.Spares[i]) {
			return &r.Spares[i]
		}
	}
	return nil
}

// Numbered returns the generation or the spare with this number; nil for none.
func (r *Record) Numbered(n int) *Generation {
	if g := r.Generation(n); g != nil {
		return g
	}
	return r.Spare(n)
}

// SpareWithID returns the spare that has a CKA_ID now; nil for none.
func (r *Record) SpareWithID(id key.ID) *Generation {
	return r.findSpare(func(s *Generation) bool { return s.ID == id })
}

// NextSpare is the spare that the next rotation promotes: the oldest that fits the policy, also while its pair is being
// made; nil for none.
func (r *Record) NextSpare(p key.Policy) *Generation {
	fit, _ := r.sortSpares(p)
	if len(fit) == 0 {
		return nil
	}
	return fit[0]
}

// UnmadeSpare is the spare whose pair is not pinned yet; nil for none. There is one at most.
func (r *Record) UnmadeSpare() *Generation {
	return r.findSpare(func(s *Generation) bool { return s.Fingerprint == "" })
}

// UnfitSpare is a spare that the policy no longer allows for, and why; ok is false when there is none.
func (r *Record) UnfitSpare(p key.Policy) (n int, why string, ok bool) {
	_, unfit := r.sortSpares(p)
	if len(unfit) == 0 {
		return 0, "", false
	}
	return unfit[0].number, unfit[0].why, true
}

// LacksSpare reports whether the policy asks for more spares than there are, those in the making included.
func (r *Record) LacksSpare(p key.Policy) bool {
	fit, _ := r.sortSpares(p)
	return len(fit) < p.Spares
}

// SparesReady counts the spares that a rotation under the policy could place at once.
func (r *Record) SparesReady(p key.Policy) (ready int) {
	fit, _ := r.sortSpares(p)
	for _, s := range fit {
		if s.Fingerprint != "" {
			ready++
		}
	}
	return ready
}

type unfitSpare struct {
	number int
	why    string
}

// sortSpares tells the spares that the policy allows for from those that it does not. The oldest are kept.
func (r *Record) sortSpares(p key.Policy) (fit []*Generation, unfit []unfitSpare) {
	for i := range r.Spares {
		s := &r.Spares[i]
		switch {
		case s.Spec != p.Spec:
			unfit = append(unfit, unfitSpare{s.Number, fmt.Sprintf("it is %s, and the configuration asks for %s",
				s.Spec, p.Spec)})
		case s.Number < r.highest():
			unfit = append(unfit, unfitSpare{s.Number, "a later generation is there already"})
		case len(fit) >= p.Spares:
			unfit = append(unfit, unfitSpare{s.Number, fmt.Sprintf("the configuration asks for %d spares", p.Spares)})
		default:
			fit = append(fit, s)
		}
	}
	return fit, unfit
}

// highest is the highest number of a generation; 0 for none.
func (r *Record) highest() int {
	if n := len(r.Generations); n > 0 {
		return r.Generations[n-1].Number
	}
	return 0
}

// SparePairs lists the spares, also those without a pair yet.
func (r *Record) SparePairs() (pairs []Pair) {
	for _, s := range r.Spares {
		pairs = append(pairs, Pair{s.Number, s.ID, s.Fingerprint, s.Pinned, true})
	}
	return pairs
}

// SpareTried is when keyd last gave an id of a number up; zero for never.
func (r *Record) SpareTried(n int) (last time.Time) {
	for _, a := range r.Abandoned {
		if a.Generation == n && a.At.After(last) {
			last = a.At
		}
	}
	return last
}

// ReserveSpare adds a spare with the next number.
func (r *Record) ReserveSpare(now time.Time, p key.Policy, id key.ID) (*Generation, error) {
	if s := r.UnmadeSpare(); s != nil {
		return nil, fmt.Errorf("spare generation %d of %s is still being made: no other is reserved beside it",
			s.Number, r.Key)
	}
	if err := r.fresh(id); err != nil {
		return nil, err
	}
	r.Spares = append(r.Spares, Generation{Number: r.NextNumber(), ID: id, Spec: p.Spec, Reserved: now,
		SpareSince: now, Reason: "made in advance, as a spare", Requester: "keyd"})
	return &r.Spares[len(r.Spares)-1], nil
}

// Promote makes a spare the next generation, as Reserve makes a new one: for a request or the schedule, at this time.
// What was made of its pair is kept.
func (r *Record) Promote(now time.Time, p key.Policy, n int, why Reservation) (*Generation, error) {
	s := r.Spare(n)
	switch {
	case s == nil:
		return nil, fmt.Errorf("the record of %s has no spare generation %d", r.Key, n)
	case s != r.NextSpare(p):
		return nil, fmt.Errorf("spare generation %d of %s does not come next: it is not promoted", n, r.Key)
	}
	if g := r.Current(); g != nil {
		return nil, fmt.Errorf("generation %d of %s is still under way: no spare is promoted beside it",
			g.Number, r.Key)
	}
	g := s.clone()
	g.Reserved, g.Reason, g.Requester, g.Requests, g.Without = now, why.Reason, why.Requester, why.Requests, why.Without
	r.dropSpare(n)
	r.Generations = append(r.Generations, g)
	r.KeepPolicy(p)
	return &r.Generations[len(r.Generations)-1], nil
}

// DiscardSpare gives a spare up: it is never promoted, and the sweeper gets its pair.
func (r *Record) DiscardSpare(now time.Time, n int, why string) error {
	s := r.Spare(n)
	if s == nil {
		return fmt.Errorf("the record of %s has no spare generation %d", r.Key, n)
	}
	r.discardSpare(now, s, why, time.Time{})
	return nil
}

func (r *Record) discardSpare(now time.Time, s *Generation, why string, compromised time.Time) {
	r.Abandoned = append(r.Abandoned, AbandonedID{ID: s.ID, Generation: s.Number, At: now, Reason: why,
		Fingerprint: s.Fingerprint, Compromised: compromised})
	r.Burned = max(r.Burned, s.Number)
	r.dropSpare(s.Number)
}

// DiscardDoubtfulSpares gives up, once adopt found more than the record knew, every spare: the record may not know that
// the material was called compromised, or that the spare was used. Otherwise it gives up those that a generation with a
// higher number overtook. It lists their numbers.
func (r *Record) DiscardDoubtfulSpares(now time.Time, behind bool) (discarded []int) {
	for _, s := range slices.Clone(r.Spares) {
		if behind || r.heldBehind() || s.Number < r.highest() {
			r.discardSpare(now, &s, "a spare of a record that was behind", time.Time{})
			discarded = append(discarded, s.Number)
		}
	}
	return discarded
}

func (r *Record) dropSpare(n int) {
	r.Spares = slices.DeleteFunc(r.Spares, func(s Generation) bool { return s.Number == n })
}

// DiscardedSpare reports whether an abandoned id is that of a pair that was pinned and never used.
func (r *Record) DiscardedSpare(id key.ID) bool {
	return slices.ContainsFunc(r.Abandoned, func(a AbandonedID) bool { return a.ID == id && a.Fingerprint != "" })
}
