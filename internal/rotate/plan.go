package rotate

import (
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Kind names a step.
type Kind string

// The steps. Idle, Wait and Look change nothing.
const (
	Idle      Kind = "idle"       // nothing to do before Until
	Wait      Kind = "wait"       // something is to be done that cannot be done before Until
	Look      Kind = "look"       // observe first
	Hold      Kind = "hold"       // stop the key
	Reserve   Kind = "reserve"    // a new generation, with its id
	Generate  Kind = "generate"   // its pair in the HSM
	Abandon   Kind = "abandon"    // give its id up, take another
	Pin       Kind = "pin"        // record its fingerprint
	CreateKEK Kind = "create-kek" // in one vault
	Import    Kind = "import"     // place one generation in one vault
	Found     Kind = "found"      // a version in the listing is that of a placement
	Alias     Kind = "alias"      // a version in the listing repeats a placement's material
	GiveUp    Kind = "give-up"    // the import certainly did not happen
	Prove     Kind = "prove"      // one placement
	Finish    Kind = "finish"     // a generation is active everywhere
	Disable   Kind = "disable"    // one placement's versions, by the retire rule
	Disabled  Kind = "disabled"   // the vault shows what was begun to be disabled so
	Keep      Kind = "keep"       // a disabling that was begun did not happen
	Sweep     Kind = "sweep"      // destroy what is under an abandoned id
)

// Kinds lists every kind that changes something, for metrics.
func Kinds() []Kind {
	return []Kind{Hold, Reserve, Generate, Abandon, Pin, CreateKEK, Import, Found, Alias, GiveUp, Prove, Finish, Disable, Disabled, Keep, Sweep}
}

// Step is what Plan decides: one idempotent action. Only the fields that the kind
// needs are set.
type Step struct {
	Kind       Kind
	Why        string // in words
	Generation int
	Vault      string // URL
	Cause      key.Cause
	Attempt    key.ID
	Version    string
	ID         key.ID // CKA_ID, of Abandon and Sweep
	Hold       *key.Hold
	Until      time.Time // of Idle and Wait; zero: until something happens

	wish wish
}

// Acts reports whether the step changes anything.
func (s Step) Acts() bool { return s.Kind != Idle && s.Kind != Wait && s.Kind != Look }

const (
	pollSoon = 15 * time.Second // while an import is ambiguous
	pollWait = 30 * time.Second // while something outside keyd is in the way
)

// planner works out one plan. Its methods are rules; each returns the step it
// asks for, or ok false when it has nothing to say.
type planner struct {
	now time.Time
	p   key.Policy
	r   *key.Record
	o   *Observation

	hidden Step // the wait for a vault that may not show what it has
}

// Plan decides the next step of one key. It is pure: the same arguments give the
// same step. A nil observation means that the key was not looked at yet.
func Plan(now time.Time, p key.Policy, rec key.Record, o *Observation) Step {
	switch {
	case rec.Hold != nil:
		return Step{Kind: Idle, Why: "held: " + rec.Hold.Reason}
	case p.Retained:
		return Step{Kind: Idle, Why: "not in the configuration: kept, and not rotated"}
	case o == nil:
		return Step{Kind: Look, Why: "not looked at yet"}
	}
	pl := &planner{now: now, p: p, r: &rec, o: o}
	for _, rule := range []func() (Step, bool){
		pl.resolve,    // what the vaults show of our own attempts
		pl.distrust,   // what contradicts the record
		pl.kekMade,    // a key exchange key whose making was cut short
		pl.rollBack,   // what was refuted
		pl.material,   // the current generation's pair
		pl.placements, // every vault, one after the other
		pl.finish,     // the current generation
		pl.reserve,    // a new generation when due
		pl.retired,    // a disabling of which the result is not known
		pl.sweep,      // abandoned ids
		pl.retire,     // by rule; last, as a vault may refuse it for ever
	} {
		if s, ok := rule(); ok {
			return s
		}
	}
	if pl.hidden.Kind == Wait {
		return pl.hidden
	}
	_, _, next := due(now, p, &rec)
	return Step{Kind: Idle, Why: "nothing is due", Until: next}
}

// current is the generation on its way: the latest one, unless it is finished or
// may no longer be placed, as one that somebody disabled before it was everywhere.
func (pl *planner) current() *key.Generation {
	g := pl.r.Latest()
	if g == nil || !g.Finished.IsZero() || !g.Compromised.IsZero() || !g.LostInHSM.IsZero() || g.State() == key.Suspended {
		return nil
	}
	return g
}

// material gets the current generation its pair: generate, look, pin or abandon.
func (pl *planner) material() (Step, bool) {
	g := pl.current()
	if g == nil || g.Fingerprint != "" {
		return Step{}, false
	}
	step := Step{Generation: g.Number, ID: g.ID}
	if pl.o.HSM.Err != nil {
		step.Kind, step.Until = Wait, pl.now.Add(pollWait)
		step.Why = "the HSM cannot be used: " + pl.o.HSM.Err.Error()
		return step, true
	}
	var under []key.Object
	for _, o := range pl.o.HSM.Objects {
		if o.ID == g.ID {
			under = append(under, o)
		}
	}
	switch {
	case slices.ContainsFunc(under, func(o key.Object) bool { return !o.Label.Pending }):
		return pl.hold(key.HoldRecordBehind, "", "generation %d of %s (CKA_ID %s) was wrapped for a vault, and the record does not know that it was made: the state directory was lost or is an old copy. Look with: keyd adopt %s", g.Number, pl.p.Key, g.ID, pl.p.Key)
	case len(under) == 0 && g.GenerateBegun.IsZero():
		if sweep, ok := pl.sweepFirst(); ok {
			return sweep, true
		}
		step.Kind, step.Why = Generate, "reserved"
	case len(under) == 0:
		step.Kind, step.Why = Abandon, "a generation was begun under the id and no pair came of it"
	case len(under) > 1 || !under[0].Complete:
		step.Kind, step.Why = Abandon, "the HSM has no single whole pair under the id: "+under[0].Problem
	case g.GenerateBegun.IsZero():
		step.Kind, step.Why = Abandon, "the HSM has a pair under the id that this record did not ask for"
	default:
		step.Kind, step.Why = Pin, "the pair is whole"
	}
	return step, true
}

// finish ends the current generation when it is active everywhere it should be.
func (pl *planner) finish() (Step, bool) {
	g := pl.current()
	if g == nil || g.Fingerprint == "" || !pl.everywhere(g) {
		return Step{}, false
	}
	return Step{Kind: Finish, Generation: g.Number, Why: "active in every vault"}, true
}

// sweepFirst destroys what an earlier try left, so that tries that fail do not fill the
// HSM. An HSM that does not let go of it is asked once: the pair is needed all the same.
func (pl *planner) sweepFirst() (Step, bool) {
	for _, a := range pl.r.Abandoned {
		if a.DestroyBegun.IsZero() && pl.leftUnder(a.ID) {
			return Step{Kind: Sweep, ID: a.ID, Generation: a.Generation, Why: a.Reason}, true
		}
	}
	return Step{}, false
}

// leftUnder reports whether the HSM shows something under an abandoned id that may be
// destroyed.
func (pl *planner) leftUnder(id key.ID) bool {
	return slices.ContainsFunc(pl.o.HSM.Objects, func(o key.Object) bool { return o.ID == id && o.Label.Pending })
}

// sweep destroys what turned up under an abandoned id, and brings a destruction that
// a crash cut short to its end in the audit.
func (pl *planner) sweep() (Step, bool) {
	if pl.o.HSM.Err != nil {
		return Step{}, false
	}
	for _, a := range pl.r.Abandoned {
		if pl.leftUnder(a.ID) || !a.DestroyBegun.IsZero() {
			return Step{Kind: Sweep, ID: a.ID, Generation: a.Generation, Why: a.Reason}, true
		}
	}
	return Step{}, false
}

// reserve begins a new generation when one is due and nothing is on its way.
func (pl *planner) reserve() (Step, bool) {
	w, isDue, _ := due(pl.now, pl.p, pl.r)
	if !isDue {
		return Step{}, false
	}
	if why, again := obstacle(pl.now, pl.p, pl.r, pl.o, w); why != "" {
		return Step{Kind: Wait, Why: why, Until: again}, true
	}
	return Step{Kind: Reserve, Generation: pl.r.NextNumber(), Why: w.reason, wish: w}, true
}

// leftOut reports whether the operator left the vault out of this generation. That
// no vault would be left, because others went from the policy since, counts for
// nothing.
func (pl *planner) leftOut(g *key.Generation, url string) bool {
	rest := slices.ContainsFunc(pl.p.Vaults, func(v key.Vault) bool { return !slices.Contains(g.Without, v.URL) })
	return rest && slices.Contains(g.Without, url)
}

// newestIs reports whether the vault's newest version is the placement's material.
func (pl *planner) newestIs(seen VaultSeen, at placed) bool {
	return sameMaterial(at.g, at.p.Vault, seen.Newest)
}

// placed is a placement with its generation.
type placed struct {
	g *key.Generation
	p *key.Placement
}

// lastPlacement is the placement made last in a vault that is not void; its p is
// nil when there is none.
func lastPlacement(r *key.Record, url string) (last placed) {
	for i := range r.Generations {
		g := &r.Generations[i]
		for j := range g.Placements {
			p := &g.Placements[j]
			if p.Vault != url || !p.Counts() {
				continue
			}
			if last.p == nil || p.Seq > last.p.Seq {
				last = placed{g, p}
			}
		}
	}
	return last
}

// sameMaterial reports whether a version is one of the generation's own in a
// vault.
func sameMaterial(g *key.Generation, url, version string) bool {
	for _, p := range g.Placements {
		if p.Vault != url || p.Version == "" {
			continue
		}
		if p.Version == version {
			return true
		}
		for _, a := range p.Aliases {
			if a == version {
				return true
			}
		}
	}
	return false
}

func joined(whys []string) string { return strings.Join(whys, "; ") }
