package simulate

import (
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// The regions of a Managed HSM learn of each other's changes within minutes. So a model
// of one may answer as things were a while ago: without what is new, and without later
// changes to what is old.

// past is the state of something until a change.
type past[T any] struct {
	until time.Time
	was   T
}

// history is the earlier states of something, oldest first.
type history[T any] []past[T]

// changed notes the state that is about to change.
func (h *history[T]) changed(now time.Time, was T) { *h = append(*h, past[T]{now, was}) }

// at is the state at a time. The last argument is the present state.
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

// attributes are what can change in a version.
type attributes struct {
	enabled bool
	tags    map[string]string
}

// alter changes a version's attributes.
func (v *vault) alter(x *version, change func(*key.Version)) {
	x.past.changed(v.w.now, attributes{x.Enabled, maps.Clone(x.Tags)})
	change(&x.Version)
	if v.w.hosts != nil { // it tells a late disabling from a person's
		x.Updated = v.now().Truncate(time.Second)
	}
}

// as is the version as it was at a time.
func (x *version) as(at time.Time) key.Version {
	seen := x.Version
	a := x.past.at(at, attributes{x.Enabled, x.Tags})
	seen.Enabled, seen.Tags = a.enabled, a.tags
	return seen
}

// view is the time of which an answer shows the state: now, or a while ago where regions
// may be behind.
func (v *vault) view() time.Time {
	if v.Kind == key.ManagedHSM && !v.w.calm && v.w.chance(4) {
		return v.w.now.Add(-v.w.between(0, replication))
	}
	return v.w.now
}
