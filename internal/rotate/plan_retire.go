package rotate

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// retire disables one version that its rule allows to disable: of several the one that was
// not tried yet, or the longest ago. It never touches the newest version, its
// material, or anything in a vault where some placement is not settled.
func (pl *planner) retire() (s Step, ok bool) {
	if pl.p.Retire.Never() {
		return Step{}, false
	}
	var begun time.Time
	for _, v := range pl.p.Vaults {
		last := lastPlacement(pl.r, v.URL)
		seen := pl.o.Vaults[v.URL]
		if seen.Err != nil || last.p == nil || last.p.State != key.Proven || !pl.newestIs(seen, last) {
			continue
		}
		if !seen.SkewSeen || seen.Skew.Abs() > maxSkew {
			continue // a local clock that runs ahead must not disable anything early
		}
		if !pl.newestStands(seen, last.g) {
			continue // consumers may have to go back to what is older
		}
		for i := range pl.r.Generations {
			g := &pl.r.Generations[i]
			p := g.In(v.URL)
			if p == nil || g.Number >= last.g.Number || p.State != key.Superseded || g.Deactivated.IsZero() {
				continue
			}
			since := g.Deactivated
			if at := pl.supersededAt(g, v.URL); at.After(since) {
				since = at
			}
			if pl.now.Sub(since) < pl.p.Retire.DisableAfter || ok && !p.DisableBegun.Before(begun) {
				continue
			}
			begun, ok = p.DisableBegun, true
			s = Step{Kind: Disable, Generation: g.Number, Vault: v.URL, Attempt: p.Attempt, Version: p.Version,
				Why: fmt.Sprintf("deactivated since %s, and retire says disable_after %s", since.Format(time.DateOnly), pl.p.Retire.DisableAfter)}
		}
	}
	return s, ok
}

// newestStands reports whether the vault shows its newest version enabled, not expired
// and, where it shows it, with the generation's material.
func (pl *planner) newestStands(seen VaultSeen, g *key.Generation) bool {
	x, listed := seen.version(seen.Newest)
	expired := !x.Expires.IsZero() && !pl.now.Before(x.Expires)
	print := seen.Material[seen.Newest]
	return listed && x.Enabled && !expired && (print == "" || print == g.Fingerprint)
}

// supersededAt is when the vault, by its own clock, first made a version of a
// later generation: the local clock may have been wrong when it wrote down
// Deactivated.
func (pl *planner) supersededAt(g *key.Generation, url string) (first time.Time) {
	for _, later := range pl.r.Generations {
		for _, p := range later.Placements {
			if later.Number > g.Number && p.Vault == url && p.Good() && (first.IsZero() || p.Created.Before(first)) {
				first = p.Created
			}
		}
	}
	return first
}

// retired settles a disabling that was begun and may have been cut short: it happened, as
// the vault shows, or once its time is over it did not. Versions of which only some
// are disabled by then count as disabled.
func (pl *planner) retired() (Step, bool) {
	for _, v := range pl.p.Vaults {
		seen := pl.o.Vaults[v.URL]
		if seen.Err != nil {
			continue
		}
		for i := range pl.r.Generations {
			g := &pl.r.Generations[i]
			versions, last := disabling(g, v.URL)
			if len(versions) == 0 {
				continue
			}
			step := Step{Generation: g.Number, Vault: v.URL, Attempt: last.Attempt, Version: last.Version}
			on, off := seen.count(versions)
			over := !mayBeDisabling(v, seen, last)
			switch {
			case off > 0 && (on == 0 || over):
				step.Kind, step.Why = Disabled, "it was begun, and now shows"
				return step, true
			case over:
				step.Kind, step.Why = Keep, "it was begun, and its time is over"
				return step, true
			}
		}
	}
	return Step{}, false
}

// disabling is the generation's versions in a vault that keyd began to disable, with the
// last placement of them.
func disabling(g *key.Generation, url string) (versions []string, last key.Placement) {
	for _, p := range g.Placements {
		if p.Vault == url && p.State == key.Superseded && !p.DisableBegun.IsZero() {
			versions, last = append(versions, p.Versions()...), p
		}
	}
	return versions, last
}

// mayBeDisabling reports whether what was begun may still come to light, by the vault's
// clock: the call may take as long as a step.
func mayBeDisabling(v key.Vault, seen VaultSeen, p key.Placement) bool {
	return near(seen.there(seen.Begun), p.DisableBegun, stepTimeout+v.Kind.SettleTime())
}

// count is how many of the versions the vault shows enabled, and how many disabled.
func (v VaultSeen) count(versions []string) (on, off int) {
	for _, id := range versions {
		switch x, listed := v.version(id); {
		case listed && x.Enabled:
			on++
		case listed:
			off++
		}
	}
	return on, off
}

// near reports whether two times are less than d apart, whichever is the later: a clock
// may have been put back a little between them.
func near(a, b time.Time, d time.Duration) bool { return a.Sub(b).Abs() < d }
