package plan

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// budgetSpan is the time to which a policy's budget applies.
const budgetSpan = 24 * time.Hour

// Trigger is why a rotation is due.
type Trigger struct {
	Reason     string
	Requester  string
	Requests   []key.ID
	Without    []string // vault URLs
	Scheduled  bool     // nobody asked for it
	Compromise bool
}

// rotationDue begins a new generation when one is due and nothing is on its way: the next spare, if there is one. A
// spare whose pair is still being made becomes one, too: nothing is made twice. keyd promotes a spare only while the
// HSM can be seen: the rule contradiction, which comes first, then knows that the spare is whole and was never wrapped.
func rotationDue(in Input) (Step, bool) {
	t, due, _ := Due(in)
	if !due {
		return Step{}, false
	}
	if why, again := in.obstacle(t); why != "" {
		return Step{Kind: Wait, Why: why, Until: again}, true
	}
	// What the HSM has must be seen: the newest pair, without which nothing is made on the token, or the spare.
	next := in.Record.NextNumber()
	s := in.Record.NextSpare(in.Policy)
	if s != nil {
		next = s.Number
	}
	if err := in.Seen.HSM.Err; err != nil && (s != nil || len(in.Record.Pairs()) > 0) {
		return in.wait(next, "", "the HSM cannot be used: %v", err), true
	}
	if s != nil {
		return Step{Kind: Promote, Generation: s.Number, Why: t.Reason, Trigger: t}, true
	}
	return Step{Kind: Reserve, Generation: next, Why: t.Reason, Trigger: t}, true
}

// Due reports whether a rotation is due now, and otherwise when the schedule makes one due (zero: never). It needs no
// observation.
func Due(in Input) (t Trigger, due bool, next time.Time) {
	if t, ok := requested(in.Record); ok {
		return t, true, in.Now
	}
	if in.Record.Latest() == nil {
		return Trigger{Reason: "the key has no generation yet", Requester: "keyd", Scheduled: true}, true, in.Now
	}
	at := NextRotation(in.Now, in.Policy, in.Record)
	if at.IsZero() || at.After(in.Now) {
		return Trigger{}, false, at
	}
	return Trigger{Reason: "schedule " + in.Policy.ScheduleText, Requester: "schedule", Scheduled: true}, true, at
}

// requested merges the first pending request and those that leave out the same vaults into one trigger. A request
// because of a compromise comes before others.
func requested(r *record.Record) (t Trigger, ok bool) {
	if len(r.Requests) == 0 {
		return Trigger{}, false
	}
	first := r.Requests[0]
	for _, q := range r.Requests {
		if q.Compromise {
			first = q
			break
		}
	}
	t = Trigger{Reason: first.Reason, Requester: first.By, Without: first.Without}
	for _, q := range r.Requests {
		if record.SameVaults(q.Without, first.Without) {
			t.Requests = append(t.Requests, q.ID)
			t.Compromise = t.Compromise || q.Compromise
		}
	}
	return t, true
}

// NextRotation is when the schedule makes a rotation due, which may be in the past. It is zero for a key without a
// schedule, and for one whose schedule never fires again. A key without a generation is due at once.
func NextRotation(now time.Time, p key.Policy, r *record.Record) time.Time {
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

// insideWindow moves a firing whose window is over to the next one whose window is not.
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
	return time.Duration(Share(p.Key, uint64(p.Spread)))
}

// Share is a key's own fixed number in [0, n), 0 for n = 0. It spreads over time what many keys would do at once.
func Share(name string, n uint64) uint64 {
	if n == 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64() % n
}

// obstacle says why keyd may not reserve a due rotation yet, and when to look again.
func (in Input) obstacle(t Trigger) (why string, again time.Time) {
	if !t.Compromise {
		if at, spent := BudgetSpent(in.Now, in.Policy, in.Record); spent {
			return fmt.Sprintf("the budget of %d rotations a day is spent: wait, or raise budget in the configuration",
				in.Policy.Budget), at
		}
	}
	var away []string
	for _, v := range in.Policy.Vaults {
		seen := in.shown(v)
		if seen.Err != nil {
			away = append(away, fmt.Sprintf("vault %s: %v", v.Name, seen.Err))
			continue
		}
		limit := v.Kind.MaxVersions()
		if limit > 0 && len(seen.Versions) >= limit && !slices.Contains(t.Without, v.URL) {
			return tooMany(v, seen), in.Now.Add(time.Hour)
		}
		if t.Scheduled && seen.SkewSeen && seen.Skew.Abs() > key.MaxSkew {
			return fmt.Sprintf("the local clock differs from vault %s's by %s: set it right (chronyc tracking); "+
				"rotate --now does not wait for it",
				v.Name, seen.Skew.Round(time.Second)), in.Now.Add(time.Minute)
		}
	}
	if t.Scheduled && len(away) == len(in.Policy.Vaults) {
		return "no scheduled rotation begins before keyd can see a vault: " + joined(away), in.Now.Add(pollWait)
	}
	return "", time.Time{}
}

// BudgetSpent reports whether the policy's budget for the last day is used up, and when the first part of it becomes
// free.
func BudgetSpent(now time.Time, p key.Policy, r *record.Record) (again time.Time, spent bool) {
	if p.Budget <= 0 {
		return time.Time{}, false
	}
	count, first := r.ReservedWithin(now, budgetSpan)
	if count > 0 {
		again = first.Add(budgetSpan)
	}
	return again, count >= p.Budget
}
