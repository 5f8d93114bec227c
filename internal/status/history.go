package status

import (
	"time"
)

// Slot is the state of a vault or of the HSM during one slot of its history.
type Slot string

// The values of a slot. The worst one seen in it counts.
const (
	SlotUnknown Slot = "unknown" // nothing was asked, or keyd did not run
	SlotGood    Slot = "good"
	SlotBad     Slot = "bad"
)

// History is the health of a vault or of the HSM over the last day, as far as this
// process has seen it.
type History struct {
	Start time.Time `json:"start"`         // of the first slot
	Width Seconds   `json:"width_seconds"` // of each slot
	Slots []Slot    `json:"slots"`         // oldest first; the last one has not ended
	// Bad is how long there was trouble in each slot, in seconds, and LastBad when keyd last saw some.
	Bad     []float64 `json:"bad_seconds"`
	LastBad time.Time `json:"last_bad,omitzero"`
}

// Entry is one entry of the audit chain with its number.
type Entry struct {
	Seq    uint64            `json:"seq"` // from 1
	Time   time.Time         `json:"time"`
	Key    string            `json:"key"`
	Event  string            `json:"event"`
	Actor  string            `json:"actor"`
	Fields map[string]string `json:"fields,omitempty"`
}
