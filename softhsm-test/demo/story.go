package main

import (
	"fmt"
	"math"
	"time"
)

// keyStatus is what the demo reads from `keyd status KEY --json`.
type keyStatus struct {
	State string    `json:"state"`
	Error string    `json:"error"` // of the last step, if it failed
	Next  time.Time `json:"next_rotation"`
	Doing string    `json:"doing"`
	Hold  *struct {
		Reason string `json:"reason"`
	} `json:"hold"`
	Generations []generation `json:"generations"`
}

type generation struct {
	Number     int         `json:"number"`
	Requester  string      `json:"requester"`
	Begun      time.Time   `json:"generate_begun"`
	Pinned     time.Time   `json:"pinned"`
	Finished   time.Time   `json:"finished"`
	Placements []placement `json:"placements"`
}

type placement struct {
	Vault   string    `json:"vault_name"`
	Version string    `json:"version"`
	Proven  time.Time `json:"proven_at"`
}

// failing is the state of a key whose steps fail again and again.
const failing = "failing"

// making reports whether the HSM may be making a key.
func (k keyStatus) making() bool {
	n := len(k.Generations)
	return n == 0 || k.Generations[n-1].Pinned.IsZero()
}

// what is one kind of happening.
type what string

const (
	reserved what = "reserved" // a generation was asked for
	made     what = "made"     // its pair is in the HSM
	proven   what = "proven"   // it is in one vault, and the proof passed
	finished what = "finished" // it is active in every vault
)

// happening is one event to report.
type happening struct {
	what       what
	generation int
	requester  string        // of what was reserved
	took       time.Duration // of what was made
	vault      string        // of what was proven
	version    string
}

// story remembers what it has printed.
type story struct{ seen map[happening]bool }

// news returns what has happened since the last call, in order.
func (s *story) news(k keyStatus) (news []happening) {
	if s.seen == nil {
		s.seen = map[happening]bool{}
	}
	for _, g := range k.Generations {
		for _, h := range g.happenings() {
			if !s.seen[h] {
				s.seen[h] = true
				news = append(news, h)
			}
		}
	}
	return news
}

func (g generation) happenings() []happening {
	all := []happening{{what: reserved, generation: g.Number, requester: g.Requester}}
	if !g.Pinned.IsZero() {
		all = append(all, happening{what: made, generation: g.Number, took: g.Pinned.Sub(g.Begun)})
	}
	for _, p := range g.Placements {
		if !p.Proven.IsZero() {
			all = append(all, happening{what: proven, generation: g.Number, vault: p.Vault, version: p.Version})
		}
	}
	if !g.Finished.IsZero() {
		all = append(all, happening{what: finished, generation: g.Number})
	}
	return all
}

// doing describes what keyd does now, and how long that may take. end says when the
// demo ends.
func doing(k keyStatus, now time.Time, end string) (text, detail string) {
	if k.State == failing {
		return "a step failed and is tried again", k.Error
	}
	if len(k.Generations) == 0 {
		return "keyd looks at the HSM and into both vaults", ""
	}
	g := k.Generations[len(k.Generations)-1]
	switch {
	case k.Doing == "create-kek":
		return "a vault makes its key exchange key", ""
	case g.Begun.IsZero():
		return "keyd reserves the number of a generation", ""
	case g.Pinned.IsZero():
		return "the HSM makes an " + keySpec + " key", "SoftHSM takes 1 to 10 s"
	case g.Finished.IsZero():
		return g.placing(), ""
	}
	if k.Next.IsZero() || now.After(k.Next) {
		return "the next rotation is due", "now"
	}
	return "the next rotation is due", fmt.Sprintf("in %d s; %s", int(math.Ceil(k.Next.Sub(now).Seconds())), end)
}

// placing describes the progress of a generation into the vaults.
func (g generation) placing() string {
	if len(g.Placements) == 0 {
		return "keyd brings it to " + vaultNames[0]
	}
	switch p := g.Placements[len(g.Placements)-1]; {
	case p.Version == "":
		return p.Vault + " imports it"
	case p.Proven.IsZero():
		return "keyd proves it in " + p.Vault
	}
	return "keyd goes on to the next vault"
}
