package plan_test

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// abortedDisabling: keyd gave up the disabling of an attempt's version.
func (w *world) abortedDisabling(n int) *world { return w.must(w.record.AbortDisable(attempt(n))) }

// updated: the vault changed a version last at this time, by its own clock.
func (w *world) updated(v key.Vault, n int, at time.Time) *world {
	return w.sees(v, func(s *record.VaultSeen) {
		for i := range s.Versions {
			if s.Versions[i].ID == version(n) {
				s.Versions[i].Updated = at
			}
		}
	})
}

func lateDisabling() []example {
	givenUp := func() *world {
		return given(weu).disableAfter(30 * day).rotated().rotated().wait(31 * day).disabling(1).wait(10 * time.Minute).
			abortedDisabling(1)
	}
	late := by("late-disabling", plan.DisableLate, "gave its disabling up").of(1).in(weu).ofAttempt(1).ofVersion(1)
	return []example{
		{"A disabling that keyd had given up, and that the vault shows all the same, is undone.",
			givenUp().disabled(weu, 1), late},
		{"keyd may see it long after: the vault says when it changed the version.",
			givenUp().disabled(weu, 1).updated(weu, 1, givenUp().clock).wait(day), late},
		{"What was disabled later was disabled by somebody else.",
			givenUp().wait(2*time.Hour).disabled(weu, 1).withoutConsent(),
			by("retirement-waits", plan.Idle, "must consent").of(1).in(weu).ofVersion(1)},
		{"A compromised version stays disabled.",
			givenUp().compromised().disabled(weu, 1), by("due", plan.Reserve, "stolen").of(3)},
		{"A held key stays as it is.",
			givenUp().disabled(weu, 1).held(key.HoldPaused), by("held", plan.Idle, "held")},
		{"A version that stays enabled needs nothing.",
			givenUp().withoutConsent(), by("retirement-waits", plan.Idle, "must consent").of(1).in(weu).ofVersion(1)},
		{"What the listing shows of keyd's own attempts is recorded first.",
			givenUp().disabled(weu, 1).lists(weu, "", material(1)),
			by("own-versions", plan.Alias, "the same material again").of(1).in(weu).ofAttempt(1).ofVersion(3)},
		{"It comes before a hold, which would leave the version disabled.",
			givenUp().disabled(weu, 1).lost(2), late},
	}
}
