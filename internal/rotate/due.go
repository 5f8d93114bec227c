package rotate

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// maxSkew is how far the local clock may be from a vault's before a scheduled
// rotation waits.
const maxSkew = 5 * time.Minute

// budgetSpan is the time over which a policy's budget counts.
const budgetSpan = 24 * time.Hour

// wish is a rotation that is due.
type wish struct {
	reason     string
	requester  string
	requests   []key.ID
	without    []string
	scheduled  bool // not asked for by a person
	compromise bool
}

// due says whether a rotation is due now, and otherwise when it will be by the
// schedule (zero: never by itself).
func due(now time.Time, p key.Policy, r *key.Record) (w wish, isDue bool, next time.Time) {
	if w, ok := requested(r); ok {
		return w, true, now
	}
	if r.Latest() == nil {
		return wish{reason: "the key has no generation yet", requester: "keyd", scheduled: true}, true, now
	}
	at := NextRotation(now, p, r)
	if at.IsZero() || at.After(now) {
		return wish{}, false, at
	}
	return wish{reason: "schedule " + p.ScheduleText, requester: "schedule", scheduled: true}, true, at
}

// requested joins the first pending request, that of a compromise before others,
// and those that leave out the same vaults into one wish.
func requested(r *key.Record) (w wish, ok bool) {
	if len(r.Requests) == 0 {
		return wish{}, false
	}
	first := r.Requests[0]
	for _, q := range r.Requests {
		if q.Compromise {
			first = q
			break
		}
	}
	w = wish{reason: first.Reason, requester: first.By, without: first.Without}
	for _, q := range r.Requests {
		if sameSet(q.Without, first.Without) {
			w.requests = append(w.requests, q.ID)
			w.compromise = w.compromise || q.Compromise
		}
	}
	return w, true
}

// NextRotation is when the schedule makes a rotation due, which may be past; zero
// for a key without a schedule, or whose schedule never fires again. A key
// without a generation is due at once.
func NextRotation(now time.Time, p key.Policy, r *key.Record) time.Time {
	if p.Retained {
		return time.Time{}
	}
	last := r.LastRotation()
	if last.IsZero() {
		return now
	}
	if p.Schedule == nil {
		return time.Time{}
	}
	at := p.Schedule.Next(last)
	if p.Window > 0 {
		at = insideWindow(now, p, at)
	}
	if at.IsZero() {
		return at
	}
	at = at.UTC().Add(spread(p))
	if floor := last.Add(p.Floor); at.Before(floor) {
		return floor
	}
	return at
}

// insideWindow moves a firing whose window is over to the first one whose window
// is not.
func insideWindow(now time.Time, p key.Policy, at time.Time) time.Time {
	if at.IsZero() || at.Add(spread(p)+p.Window).After(now) {
		return at
	}
	return p.Schedule.Next(now.Add(-spread(p) - p.Window))
}

// spread is a key's own fixed share of the policy's spread.
func spread(p key.Policy) time.Duration {
	if p.Spread <= 0 {
		return 0
	}
	return time.Duration(share(p.Key, uint64(p.Spread)))
}

// share is a key's own fixed number in [0, n), 0 for n = 0.
func share(name string, n uint64) uint64 {
	if n == 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64() % n
}

// obstacle says why a rotation that is due may not be reserved yet, and when to
// look again.
func obstacle(now time.Time, p key.Policy, r *key.Record, o *Observation, w wish) (why string, again time.Time) {
	if !w.compromise {
		if at, spent := budgetSpent(now, p, r); spent {
			return fmt.Sprintf("the budget of %d rotations a day is spent: wait, or raise budget in the configuration", p.Budget), at
		}
	}
	var away []string
	for _, v := range p.Vaults {
		seen := o.Vaults[v.URL]
		if seen.Err != nil {
			away = append(away, fmt.Sprintf("vault %s: %v", v.Name, seen.Err))
			continue
		}
		if limit := v.Kind.MaxVersions(); limit > 0 && len(seen.Versions) >= limit {
			return tooMany(v, seen), now.Add(time.Hour)
		}
		if w.scheduled && seen.SkewSeen && seen.Skew.Abs() > maxSkew {
			return fmt.Sprintf("the local clock differs from vault %s's by %s: set it right (chronyc tracking); rotate --now does not wait for it", v.Name, seen.Skew.Round(time.Second)), now.Add(time.Minute)
		}
	}
	if w.scheduled && len(away) == len(p.Vaults) {
		return "nothing is begun by the schedule before a vault can be seen: " + joined(away), now.Add(pollWait)
	}
	return "", time.Time{}
}

func tooMany(v key.Vault, seen VaultSeen) string {
	return fmt.Sprintf("vault %s holds %d versions of the key and takes at most 100: give the key a new name in the configuration and repoint its consumers", v.Name, len(seen.Versions))
}

// budgetSpent reports whether the policy's budget of the last day is used up, and
// when the first of it comes back.
func budgetSpent(now time.Time, p key.Policy, r *key.Record) (again time.Time, spent bool) {
	if p.Budget <= 0 {
		return time.Time{}, false
	}
	count := 0
	for _, g := range r.Generations {
		// A reservation in the future is a clock that ran ahead: it counts.
		at := g.ReservedAt()
		if now.Sub(at) >= budgetSpan {
			continue
		}
		if count == 0 {
			again = at.Add(budgetSpan)
		}
		count++
	}
	return again, count >= p.Budget
}
