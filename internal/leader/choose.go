package leader

import "time"

// Candidate is a host as it tells of itself, or as another sees it.
type Candidate struct {
	Host   string
	Able   bool // its HSM and its vaults answer, and its clock is right
	Agrees bool // it acts on the configuration in force
}

// place says how well a host may lead; 0 is best. One that acts on another configuration is the last resort among those
// that can work.
func (c Candidate) place() int {
	place := 0
	if !c.Agrees {
		place++
	}
	if !c.Able {
		place += 2
	}
	return place
}

// Patience is how many lease times a host waits before it changes anything about who leads though nobody has failed.
const Patience = 3

// MayLead decides whether a host may take a lease that has been over for so long: at once, unless another that is alive
// may lead better. That one has so much time to take it.
func MayLead(me Candidate, alive []Candidate, over, lease time.Duration) bool {
	return over >= Patience*lease || better(me, alive) == ""
}

// better names a host that may lead better than this one; "" for none. One that cannot work is none.
func better(me Candidate, alive []Candidate) (host string) {
	best := me.place()
	for _, c := range alive {
		if c.Able && c.Host != me.Host && c.place() < best {
			host, best = c.Host, c.place()
		}
	}
	return host
}

// Handover decides when a leader hands over: after another host could have led better for Patience lease times, without
// a break. The zero value has seen nothing.
type Handover struct {
	waits bool
	since time.Duration
}

// Next takes in how things are now. to is the host that should lead instead; "" for none.
func (h Handover) Next(now time.Duration, me Candidate, alive []Candidate, lease time.Duration) (
	next Handover, to string,
) {
	to = better(me, alive)
	switch {
	case to == "":
		return Handover{}, ""
	case !h.waits:
		return Handover{waits: true, since: now}, ""
	case now-h.since < Patience*lease:
		return h, ""
	}
	return h, to
}
