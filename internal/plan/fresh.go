package plan

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Parts names the parts of an observation to look at again. It names vaults by URL.
type Parts struct {
	HSM      bool     // the HSM's inventory
	IDs      []key.ID // what the HSM has under these ids
	Listings []string // the complete listing of the key's versions in these vaults
	Vaults   []string // all that these vaults show of the key
	Newest   []string // which version is the newest in these vaults
	KEKs     []string // the key exchange key of these vaults
	Clocks   []string // the clock of these vaults
	Proofs   []string // a proof of the newest version in these vaults
	Usage    bool     // those who use the key
	NewKey   []string // the key that replaces this one in these vaults, with a proof of its newest version there
}

// None reports whether there is nothing to look at.
func (p Parts) None() bool {
	return !p.HSM && !p.Usage &&
		len(p.IDs)+len(p.Listings)+len(p.Vaults)+len(p.Newest)+len(p.KEKs)+len(p.Clocks)+len(p.Proofs)+
			len(p.NewKey) == 0
}

// Stale lists the parts of the observation that keyd must look at again before it takes a step. keyd does not look at
// everything before each step: it knows what came of its own steps. Each kind of step says what it needs:
//
//   - a step in the HSM: what is under its id;
//   - an import: the pair, and a complete listing that began in this very step. For the first import of a generation
//     every other vault must have answered lately, and been listed once: keyd touches none before all are ready;
//   - a step that follows from a listing: that listing;
//   - the end of a rotation: the newest version of each vault;
//   - the begin of a rotation: the newest pair or the spare that it takes, and the vaults' clocks, because a local
//     clock that somebody set makes up reasons;
//   - a hold: what it is about;
//   - a disabling: those who use the key, in this very step; once they need the version no more, everything, and a
//     proof of the newest version in that vault that began in this very step;
//   - a wait for those who use the key: those, but not more often than every hour;
//   - the repointing of a consumer: those who use the key, and the newest version with a proof, all in this very step.
//     Where it goes to the key that replaces this one, the newest version is that of the other key.
func (in Input) Stale(s Step) (p Parts) {
	switch s.Kind {
	case Generate:
		p.id(in, s.ID)
		p.known(in)
	case Pin, Abandon:
		p.id(in, s.ID)
	case Sweep:
		p.id(in, s.ID)
		if in.Record.DiscardedSpare(s.ID) { // every vault must show that it does not hold it
			in.eachVault(p.vault)
		}
	case Promote:
		p.id(in, in.Record.Spare(s.Generation).ID)
		in.clocks(s, &p)
	case Import:
		in.staleForImport(s, &p)
	case Land, Alias, Void, DisableLate:
		p.listing(in, s.Vault)
	case Finish:
		in.eachVault(p.newest)
	case Reserve:
		p.known(in)
		in.clocks(s, &p)
	case Hold:
		in.staleForHold(s, &p)
	case Wait:
		in.staleForWait(s, &p)
		p.Usage = s.AsksUsers
	case Repoint:
		in.staleForRepoint(s, &p)
	case RepointMet:
		p.vault(in, s.Vault)
	case Disable:
		in.staleForDisable(s, &p)
	case Idle:
		p.Usage = s.AsksUsers
	case DisableDone, DisableAborted:
		in.eachVault(p.vault)
	case EnableDone, EnableAborted:
		if _, configured := in.Policy.Vault(s.Vault); configured {
			p.vault(in, s.Vault)
		}
	}
	return p
}

// staleForImport: see Stale.
func (in Input) staleForImport(s Step, p *Parts) {
	g := in.Record.Generation(s.Generation)
	p.id(in, g.ID)
	if seen, ok := in.asked(s.Vault); ok && (!in.listed(seen) || seen.Begun.Before(in.Since)) {
		p.Listings = append(p.Listings, s.Vault)
	}
	if g.Placed() {
		return
	}
	in.eachVault(func(in Input, url string) {
		seen, ok := in.asked(url)
		if !ok || url == s.Vault || g.LeavesOut(in.Policy, url) {
			return
		}
		if seen.Err != nil || seen.Unlisted || !in.recent(seen.AsOf()) {
			p.Listings = append(p.Listings, url)
		}
	})
}

func (in Input) staleForDisable(s Step, p *Parts) {
	if in.AsksUsers() && !in.usersSeenNow() {
		p.Usage = true
		return // they may still need the version: then the rest is for nothing
	}
	in.eachVault(p.vault)
	p.HSM = !in.recent(in.Seen.HSM.Begun)
	if in.Record.Replacement.Disabling() {
		for _, url := range in.newVaults() {
			in.staleForNewKey(url, p)
		}
		return
	}
	if seen, ok := in.asked(s.Vault); ok && (!in.provenNow(seen) || seen.Proof.At.Before(in.Since)) {
		p.Proofs = append(p.Proofs, s.Vault)
	}
}

func (in Input) staleForHold(s Step, p *Parts) {
	if s.ID != "" {
		p.id(in, s.ID)
	}
	if s.Vault != "" {
		p.vault(in, s.Vault)
	}
}

// staleForWait asks again for what the wait is about, but not more often than a wait takes.
func (in Input) staleForWait(s Step, p *Parts) {
	if in.Seen.HSM.Err != nil && in.older(in.Seen.HSM.Begun, pollSoon) {
		p.HSM = true
	}
	in.eachVault(func(in Input, url string) {
		seen := in.Seen.Vaults[url]
		switch {
		case seen.Unconfigured:
		case (seen.Err != nil || url == s.Vault) && in.older(seen.Begun, pollSoon):
			p.Listings = append(p.Listings, url)
		case seen.Err == nil && seen.KEK.Err != nil:
			if in.older(seen.KEK.At, pollSoon) {
				p.KEKs = append(p.KEKs, url)
			}
		}
		if seen.SkewSeen && seen.Skew.Abs() > key.MaxSkew {
			p.clock(in, url)
		}
	})
}

// clocks wants the vaults' clocks for a rotation by the schedule. What an operator asked for does not wait for a clock.
func (in Input) clocks(s Step, p *Parts) {
	if s.Trigger.Scheduled {
		in.eachVault(p.clock)
	}
}

func (in Input) eachVault(do func(Input, string)) {
	for _, v := range in.Policy.Vaults {
		do(in, v.URL)
	}
}

// id wants an id that was not looked for since the record changed.
func (p *Parts) id(in Input, id key.ID) {
	asked := in.Seen.HSM.Asked.Of(id)
	if asked.At.IsZero() || asked.Revision != in.Record.Revision || !in.recent(asked.At) {
		p.IDs = append(p.IDs, id)
	}
}

// known wants the newest pair that the HSM should have: keyd makes nothing on a token that has lost what it had.
func (p *Parts) known(in Input) {
	if pairs := in.Record.Pairs(); len(pairs) > 0 {
		p.id(in, pairs[len(pairs)-1].ID)
	}
}

// listing wants a listing that began before keyd's last import, or before the record changed.
func (p *Parts) listing(in Input, url string) {
	if seen, ok := in.asked(url); ok && !in.listed(seen) {
		p.Listings = append(p.Listings, url)
	}
}

func (in Input) listed(v record.VaultSeen) bool {
	return v.Err == nil && !v.Unlisted && !v.Acted && v.Revision == in.Record.Revision && in.recent(v.Begun)
}

func (p *Parts) vault(in Input, url string) {
	if seen, ok := in.asked(url); ok && (!in.listed(seen) || !in.recent(seen.NewestAt)) {
		p.Vaults = append(p.Vaults, url)
	}
}

func (p *Parts) newest(in Input, url string) {
	if seen, ok := in.asked(url); ok && !in.recent(seen.NewestAt) {
		p.Newest = append(p.Newest, url)
	}
}

func (p *Parts) clock(in Input, url string) {
	if seen, ok := in.asked(url); ok && seen.Err == nil && !in.recent(seen.ClockAt) {
		p.Clocks = append(p.Clocks, url)
	}
}

// asked returns what keyd saw in a vault; ok is false if there is no use in asking it again now.
func (in Input) asked(url string) (record.VaultSeen, bool) {
	seen := in.Seen.Vaults[url]
	return seen, !seen.Unconfigured && (seen.Err == nil || in.older(seen.Begun, pollSoon))
}

// recent reports whether only a look separates t from now. A clock that somebody set in between makes up reasons to
// act, and the vaults' clocks in the observation do not reveal it.
func (in Input) recent(t time.Time) bool {
	age := in.Now.Sub(t)
	return age >= 0 && age <= in.recently()
}

// recently is how long ago a recent look began at most.
func (in Input) recently() time.Duration {
	return key.MaxSkew + LookTimeout*time.Duration(len(in.Policy.Vaults))
}

// older reports whether t is at least d ago, or in the future because somebody set the clock back.
func (in Input) older(t time.Time, d time.Duration) bool {
	age := in.Now.Sub(t)
	return age < 0 || age >= d
}

// InOrder reports whether nothing that keyd saw in a vault keeps it from a step, and nothing there drifts. keyd looks
// again at every slow look until all is in order.
func (in Input) InOrder(url string) bool {
	v, ok := in.Policy.Vault(url)
	if !ok || in.shown(v).Err != nil {
		return false
	}
	seen := visible{v, in.shown(v)}
	if last := in.Record.NewestIn(url); last.Found() &&
		(!last.Generation.Holds(url, seen.seen.Newest) || !in.newestStands(seen, last.Generation)) {
		return false
	}
	if in.awaitsDisabling(seen) {
		return false
	}
	var drifts []Drift
	d := drifter{in, seen, &drifts}
	d.versions()
	d.placed()
	return !slices.ContainsFunc(drifts, func(d Drift) bool {
		return d.Kind != DriftUnprotected && d.Kind != DriftNearLimit
	})
}
