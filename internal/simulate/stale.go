package simulate

import (
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Regions of a Managed HSM learn of each other's changes within minutes, so what a
// model of one shows may be as it was: not only without what came lately, but also
// with what was changed since.

// past is what something was until a change.
type past[T any] struct {
	until time.Time
	was   T
}

// history is the earlier states of something, oldest first.
type history[T any] []past[T]

// changed notes what is about to be no more.
func (h *history[T]) changed(now time.Time, was T) { *h = append(*h, past[T]{now, was}) }

// at is the state at a time, of which is is the present one.
func (h history[T]) at(t time.Time, is T) T {
	for _, p := range h {
		if t.Before(p.until) {
			return p.was
		}
	}
	return is
}

// last is when the last change was.
func (h history[T]) last() (at time.Time) {
	if len(h) > 0 {
		at = h[len(h)-1].until
	}
	return at
}

// attributes is what can change of a version.
type attributes struct {
	enabled bool
	tags    map[string]string
}

// alter changes a version's attributes.
func (v *vault) alter(x *version, change func(*key.Version)) {
	x.past.changed(v.w.now, attributes{x.Enabled, maps.Clone(x.Tags)})
	change(&x.Version)
}

// as is the version as it was at a time.
func (x *version) as(at time.Time) key.Version {
	seen := x.Version
	a := x.past.at(at, attributes{x.Enabled, x.Tags})
	seen.Enabled, seen.Tags = a.enabled, a.tags
	return seen
}

// view is the time as of which an answer is: now, or a while ago where regions may be
// behind.
func (v *vault) view() time.Time {
	if v.Kind == key.ManagedHSM && !v.w.calm && v.w.chance(4) {
		return v.w.now.Add(-v.w.between(0, replication))
	}
	return v.w.now
}
