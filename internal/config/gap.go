package config

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/schedule"
)

const (
	// gapStep is the grid of the search for gaps: every longer gap contains a grid
	// point. Shorter gaps count as this long.
	gapStep = 7 * day
	// gapYears is how many years are searched for gaps. Within 28 years every month has
	// begun on every day of the week, with and without a leap day, and so have the days
	// on which clocks change.
	gapYears = 32
)

// longestGap returns the longest time between two firings of a schedule, in its own
// time zone with its clock changes; at least gapStep. bounded is false if the schedule
// stops firing.
func longestGap(s key.Schedule) (longest time.Duration, bounded bool) {
	if every, ok := s.(schedule.Every); ok {
		return max(time.Duration(every), gapStep), true
	}
	longest = gapStep
	at := s.Next(time.Date(2024, time.January, 1, 0, 0, 0, 0, time.Local))
	for end := at.AddDate(gapYears, 0, 0); at.Before(end); {
		// The firing after the grid's next point ends the gap that holds the point.
		point := at.Add(gapStep)
		after := s.Next(point)
		if at.IsZero() || after.IsZero() {
			return 0, false
		}
		if s.Next(after.Add(-longest)).Equal(after) { // nothing fires within the longest so far
			longest = max(longest, after.Sub(lastBefore(s, at, point, after)))
		}
		at = after
	}
	return longest, true
}

// lastBefore returns the last firing up to point by bisection. at is a firing, and
// after is the first one past point.
func lastBefore(s key.Schedule, at, point, after time.Time) time.Time {
	if s.Next(at).Equal(after) {
		return at
	}
	for point.Sub(at) > time.Second {
		if middle := at.Add(point.Sub(at) / 2).Truncate(time.Second); s.Next(middle).Equal(after) {
			point = middle
		} else {
			at = middle
		}
	}
	return point
}

// longestGap returns the longest gap of the key's schedule, from a cache: many keys
// share a schedule, and the search takes a while.
func (r *report) longestGap(p *key.Policy) (longest time.Duration, bounded bool) {
	if known, ok := r.gaps[p.ScheduleText]; ok {
		return known, known > 0
	}
	if r.gaps == nil {
		r.gaps = map[string]time.Duration{}
	}
	longest, bounded = longestGap(p.Schedule)
	r.gaps[p.ScheduleText] = longest
	return longest, bounded
}

// checkExpiry refuses an expires_after that would let the newest version expire before the next one exists.
func checkExpiry(p *key.Policy, s *section) {
	const field = "expires_after"
	if p.ExpiresAfter == 0 {
		return
	}
	where, name := s.conflict(field, "schedule", "spread", "operations")
	without := "remove it"
	if s.byName[field].inherited {
		without = "write expires_after: never for the key"
	}
	if pair, _ := key.ProofPair(p.Operations); pair[0] == key.Sign {
		s.rep.add(where, without, "%s: the key signs, and keyd cannot prove an expired version", name)
		return
	}
	if p.Schedule == nil {
		if text, _ := s.byName["schedule"].text(); !s.has("schedule") || text == "never" {
			s.rep.add(where, "write a schedule, or "+without,
				"%s: the key has no schedule, so nothing would replace a version before it expires; then nobody "+
					"could wrap with it", name)
		}
		return
	}
	gap, bounded := s.rep.longestGap(p)
	if !bounded {
		s.rep.add(where, "write a schedule that goes on firing, or "+without, "%s: the schedule stops firing", name)
		return
	}
	least := gap + p.Spread + key.ExpiryMargin
	least = (least + day - 1) / day * day
	if p.ExpiresAfter < least {
		s.rep.add(where, fmt.Sprintf("write %s or more, or a schedule that fires more often",
			showDuration(least)),
			"%s: %s is shorter than the schedule's longest gap of %s, its spread and a margin of %s",
			name, showDuration(p.ExpiresAfter), showDuration(gap), showDuration(key.ExpiryMargin))
	}
}
