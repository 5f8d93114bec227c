package config

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/schedule"
)

const (
	// gapStep is the grid on which gaps are looked for: every longer gap holds a point
	// of it. Shorter ones are taken for this long.
	gapStep = 7 * day
	// gapYears is how far gaps are looked for. After 28 years the calendar has had
	// every month begin on every day of the week, with and without a leap day, and
	// so have the days on which clocks change.
	gapYears = 32
)

// longestGap is the longest time between two firings of a schedule, in its own time
// zone with its clock changes; at least gapStep.
// bounded is false when the schedule stops firing.
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

// lastBefore is the last firing up to point, where at is a firing and after the
// first one behind point, found by halving: the next firing from there on is after.
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

// longestGap is that of the key's schedule. Many keys have the same one, and it takes
// a while.
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

// readExpiry reads expires_after and refuses what would let a newest version expire
// before the next one is there.
func readExpiry(p *key.Policy, s *section) {
	const field = "expires_after"
	p.ExpiresAfter = read(s, field, 0, durationIn(day, 36500*day))
	if p.ExpiresAfter == 0 {
		return
	}
	if pair, _ := key.ProofPair(p.Operations); pair[0] == key.Sign {
		s.rep.add(s.whereOf(field), "remove it",
			"%s: the key signs, and after the date nothing could prove a version of it", s.name(field))
		return
	}
	if p.Schedule == nil {
		if !s.has("schedule") {
			s.rep.add(s.whereOf(field), "write a schedule, or remove it",
				"%s: the key has no schedule, so nothing would replace a version before it expires, and nobody could "+
					"wrap with it", s.name(field))
		}
		return
	}
	gap, bounded := s.rep.longestGap(p)
	if !bounded {
		s.rep.add(s.whereOf(field), "write a schedule that goes on firing, or remove it",
			"%s: the schedule stops firing", s.name(field))
		return
	}
	least := gap + p.Spread + key.ExpiryMargin
	least = (least + day - 1) / day * day
	if p.ExpiresAfter < least {
		s.rep.add(s.whereOf(field), fmt.Sprintf("write %s or more, or a schedule that fires more often",
			showDuration(least)),
			"%s: %s is shorter than the schedule's longest gap of %s, its spread and a margin of %s",
			s.name(field), showDuration(p.ExpiresAfter), showDuration(gap), showDuration(key.ExpiryMargin))
	}
}
