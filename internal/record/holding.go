package record

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Lift lifts the hold, if there is one.
func (r *Record) Lift(now time.Time) {
	if r.Hold != nil {
		r.Hold, r.HoldLifted = nil, now
	}
}

// Retry lifts every refutation, so that keyd may place the refuted generations in their vaults again.
func (r *Record) Retry() {
	for at := range r.all {
		if at.State == key.Refuted {
			at.State = key.Lifted
		}
	}
}
