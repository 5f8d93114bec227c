package record

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// GivenUp lists the placements in a vault with a version whose disabling keyd gave up. Its call may have been held up
// on the way, and may still happen.
func (r *Record) GivenUp(url string) (list []Placed) {
	for at := range r.in(url) {
		if at.State == key.Superseded && at.Disables != "" {
			list = append(list, at)
		}
	}
	return list
}

// CameLate records that a disabling which keyd had given up happened all the same, and that keyd is to undo it. It
// reports whether there was a consent to the retire rule, which ends.
func (r *Record) CameLate(attempt key.ID, undo Enabling) (hadConsent bool, err error) {
	at := r.Placement(attempt)
	if !at.Found() || at.State != key.Superseded || at.Disables != undo.Version {
		return false, fmt.Errorf("keyd gave up no disabling of version %s of %s", undo.Version, r.Key)
	}
	at.LateAt = undo.At
	return r.AskEnable(undo)
}

// LateIn is the placement in a vault of which a disabling last happened although keyd had given it up, unless an
// operator has consented to the retire rule since.
func (r *Record) LateIn(url string) (last Placed) {
	for at := range r.in(url) {
		if !at.LateAt.IsZero() && (!last.Found() || at.LateAt.After(last.LateAt)) {
			last = at
		}
	}
	return last
}

// Consented records an operator's consent to the retire rule, and so to whatever came late before.
func (r *Record) Consented(c Consent) {
	r.Consent = &c
	for at := range r.all {
		at.LateAt = time.Time{}
	}
}
