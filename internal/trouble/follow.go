package trouble

import (
	"cmp"
	"maps"
	"slices"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// problem is one cause as it is found, with what follows from it. What follows is counted, and is no problem of its
// own.
type problem struct {
	status.Problem
	cause    Cause
	versions int             // that could not be proven
	late     map[string]bool // keys whose rotation, repair or spare waits
	vaults   int             // that cannot be used without a token
	users    int             // consumers that use the version that it is about
	unseen   int             // consumers that cannot be seen
	keys     map[string]bool // every key that is concerned
}

func (p *problem) concerns(name string) {
	if p.keys == nil {
		p.keys = map[string]bool{}
	}
	p.keys[name] = true
}

// unproven counts a version that could not be proven.
func (p *problem) unproven(name string) {
	p.versions++
	p.concerns(name)
}

// delays counts a key that waits.
func (p *problem) delays(name string) {
	if p.late == nil {
		p.late = map[string]bool{}
	}
	p.late[name] = true
	p.concerns(name)
}

// shown is the problem as people and programs see it.
func (p *problem) shown() status.Problem {
	out := p.Problem
	if p.vaults > 0 {
		out.Effects = append(out.Effects, words.Count(p.vaults, "vault")+" cannot be used meanwhile")
	}
	if p.versions > 0 {
		out.Effects = append(out.Effects, words.Count(p.versions, "version")+" could not be proven meanwhile")
	}
	if p.users > 0 {
		out.Effects = append(out.Effects, uses(p.users)+" the version")
	}
	if p.unseen > 0 {
		out.Effects = append(out.Effects, words.Count(p.unseen, "consumer")+" cannot be seen meanwhile")
	}
	if n := len(p.late); n == 1 {
		out.Effects = append(out.Effects, "1 key waits for it")
	} else if n > 1 {
		out.Effects = append(out.Effects, words.Count(n, "key")+" wait for it")
	}
	out.Concerns = slices.Sorted(maps.Keys(p.keys))
	return out
}

// uses says how many consumers use something.
func uses(n int) string {
	if n == 1 {
		return "1 consumer uses"
	}
	return words.Count(n, "consumer") + " use"
}

// causes are the problems found so far from which others may follow; nil where there is none.
type causes struct {
	store, hsm *problem
	signIn     *problem            // keyd gets no token
	vaults     map[string]*problem // that cannot be used, by URL
	throttled  map[string]*problem // vaults, by URL
	clocks     map[string]*problem // that differ so much that rotations wait, by the vault's URL
	vaultWide  map[wide]*problem
	keys       map[place]*problem // what somebody changed, and holds
}

// wide is a difference that concerns a vault as a whole.
type wide struct {
	url  string
	kind plan.DriftKind
}

// place is a cause about a key in a vault.
type place struct {
	key, url string
	cause    Cause
}

func newCauses() causes {
	return causes{vaults: map[string]*problem{}, throttled: map[string]*problem{}, clocks: map[string]*problem{},
		vaultWide: map[wide]*problem{}, keys: map[place]*problem{}}
}

// says has, for each reason that a vault gives about the version itself, the causes that explain it.
var says = map[key.Reason][]Cause{
	key.KeyDisabled:        {Drift(plan.DriftNewestDisabled), Drift(plan.DriftDisabled)},
	key.KeyExpired:         {VersionExpiresSoon, Drift(plan.DriftExpiring), Drift(plan.DriftExpiry)},
	key.KeyNotYetValid:     {Drift(plan.DriftNotYetValid)},
	key.OperationForbidden: {Drift(plan.DriftOperations)},
	key.KeyNotFound:        gone,
	key.KeyDeleted:         gone,
	key.KeyBeingDeleted:    gone,
}

var gone = []Cause{
	Hold(key.HoldKeyDeleted), Drift(plan.DriftDeleted), Hold(key.HoldVersionsMissing), Drift(plan.DriftMissing),
}

// ofProof is the problem because of which a proof did not pass; nil: there is none.
func (f *finder) ofProof(name string, p status.Proof) *problem {
	switch {
	case p.Outcome == key.WasRefuted:
		return nil
	case p.Reason == key.HSMFailed:
		return f.causes.hsm
	case p.Reason == key.NoToken && f.causes.signIn != nil:
		return f.causes.signIn
	case p.Reason == key.Throttled && f.causes.throttled[p.Vault] != nil:
		return f.causes.throttled[p.Vault]
	case !p.Reason.OfVersion():
		return f.causes.vaults[p.Vault]
	}
	for _, cause := range says[p.Reason] {
		if found := f.causes.keys[place{name, p.Vault, cause}]; found != nil {
			return found
		}
	}
	return nil
}

// ofDelay is the problem for which a key waits; nil: there is none, or it is not known.
func (f *finder) ofDelay(k status.Key) *problem {
	if f.causes.store != nil {
		return f.causes.store
	}
	if f.causes.hsm != nil {
		return f.causes.hsm
	}
	l := f.Looks[k.Name]
	if l == nil || k.Waiting == "" {
		return nil
	}
	for _, v := range l.Vaults {
		if found := cmp.Or(f.causes.vaults[v.URL], f.causes.clocks[v.URL]); found != nil {
			return found
		}
		if seen := l.Seen.Vaults[v.URL]; seen.Err == nil && seen.KEK.Err == nil {
			continue
		}
		for _, kind := range []plan.DriftKind{plan.DriftKEKMissing, plan.DriftKEKChanged, plan.DriftKEKRefused} {
			if found := f.causes.vaultWide[wide{v.URL, kind}]; found != nil {
				return found
			}
		}
	}
	return nil
}

// addLate adds a problem that a key is late, unless it waits for another problem.
func (f *finder) addLate(cause Cause, a about, text string, k status.Key) {
	if found := f.ofDelay(k); found != nil {
		found.delays(k.Name)
		return
	}
	f.add(cause, a, text)
}
