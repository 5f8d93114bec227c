package record

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Repointing is the moving of one consumer of the key to another version, or to the key that replaces this one. It is
// in the record before the first call. One that failed stays there, and no other begins, until an operator asks again.
type Repointing struct {
	Consumer string `json:"consumer"` // its resource id
	Vault    string `json:"vault"`    // URL
	From     string `json:"from"`     // the version that the consumer was set to; "": it follows the key
	Version  string `json:"version"`  // the one that it moves to
	// NewKey and NewVault (URL) are where a consumer of a replaced key goes; "" within the key.
	NewKey   string    `json:"new_key,omitempty"`
	NewVault string    `json:"new_vault,omitempty"`
	At       time.Time `json:"at"`
	Failed   string    `json:"failed,omitempty"` // why it did not happen; "" while it is open
}

// Open reports whether keyd does not know yet what came of it.
func (r *Repointing) Open() bool { return r != nil && r.Failed == "" }

// RepointRequest is an operator's request to move a consumer to the newest version.
type RepointRequest struct {
	Consumer string    `json:"consumer"`
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Reason   string    `json:"reason"`
}

// RepointLapse is a request that keyd could not carry out in time. It stays there until an operator asks again for the
// consumer, or it moves.
type RepointLapse struct {
	RepointRequest
	Lapsed time.Time `json:"lapsed"`
	Why    string    `json:"why"` // keyd could not
}

// AskRepoint adds requests, and clears away a repointing that failed. One that is open goes on. Another request for the
// same consumer replaces the first.
func (r *Record) AskRepoint(asked ...RepointRequest) {
	if !r.Repointing.Open() {
		r.Repointing = nil
	}
	for _, a := range asked {
		r.dropRepointRequest(a.Consumer)
		r.RepointRequests = append(r.RepointRequests, a)
	}
}

func (r *Record) dropRepointRequest(consumer string) {
	r.RepointRequests = slices.DeleteFunc(r.RepointRequests, func(x RepointRequest) bool {
		return strings.EqualFold(x.Consumer, consumer)
	})
	r.RepointLapses = slices.DeleteFunc(r.RepointLapses, func(x RepointLapse) bool {
		return strings.EqualFold(x.Consumer, consumer)
	})
}

// MeetRepoint records that there is nothing to move for a request.
func (r *Record) MeetRepoint(consumer string) { r.dropRepointRequest(consumer) }

// LapseRepoint records that a request counts no more, although the consumer has not moved.
func (r *Record) LapseRepoint(consumer string, at time.Time, why string) {
	lapse := RepointLapse{RepointRequest{Consumer: consumer}, at, why}
	for _, q := range r.RepointRequests {
		if strings.EqualFold(q.Consumer, consumer) {
			lapse.RepointRequest = q
		}
	}
	r.dropRepointRequest(consumer)
	r.RepointLapses = append(r.RepointLapses, lapse)
}

// BeginRepoint records that keyd is about to move a consumer.
func (r *Record) BeginRepoint(x Repointing) error {
	if r.Repointing != nil {
		return fmt.Errorf("consumer %s of %s is not moved to the end", r.Repointing.Consumer, r.Key)
	}
	if x.NewKey != "" && (r.Replacement == nil || r.Replacement.With != x.NewKey || r.Replacement.Disabling()) {
		return fmt.Errorf("key %s is not being replaced by %s", r.Key, x.NewKey)
	}
	r.Repointing, r.LastRepoint = &x, x.At
	return nil
}

// Repointed records that the consumer shows the version that it was to move to, which answers a request.
func (r *Record) Repointed(now time.Time) error {
	x := r.Repointing
	if !x.Open() {
		return fmt.Errorf("keyd moves no consumer of %s", r.Key)
	}
	if r.Replacement != nil && x.NewKey != "" {
		r.Replacement.Moved = append(r.Replacement.Moved, Moved{Consumer: x.Consumer, From: x.Vault, To: x.NewVault,
			Version: x.Version, At: x.At, Seen: now})
	}
	r.dropRepointRequest(x.Consumer)
	r.Repointing = nil
	return nil
}

// VoidRepoint records that the service certainly did not begin: keyd may try again.
func (r *Record) VoidRepoint() error {
	if !r.Repointing.Open() {
		return fmt.Errorf("keyd moves no consumer of %s", r.Key)
	}
	r.Repointing = nil
	return nil
}

// FailRepoint records that the consumer did not move, as far as anybody can tell. Requests wait no longer: an operator
// asks anew.
func (r *Record) FailRepoint(why string) error {
	if !r.Repointing.Open() {
		return fmt.Errorf("keyd moves no consumer of %s", r.Key)
	}
	r.Repointing.Failed = why
	r.RepointRequests = nil
	return nil
}
