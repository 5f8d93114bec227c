package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// keyd asks Azure who uses the key only when nothing else keeps it from disabling a version, and proves the newest
// version only when nobody does.
func TestThoseWhoUseTheKeyAreLookedAtInTheVeryStepOfADisabling(t *testing.T) {
	const never = 1000 * day
	urls := []string{weu.URL}
	users, rest := plan.Parts{Usage: true}, plan.Parts{Proofs: urls}
	for _, c := range []struct {
		name string
		w    *world
		age  time.Duration // of the look at them
		want plan.Parts
	}{
		{"nobody uses it: they are asked first", monthIn(weu, on(storageID, 2)), time.Minute, users},
		{"nobody uses it, seen in this step: the rest follows", monthIn(weu, on(storageID, 2)), 0, rest},
		{"an operator said that there is nobody", month(weu), time.Minute, rest},
		{"somebody uses it, and was asked a moment ago", monthIn(weu, on(storageID, 1)), time.Minute, plan.Parts{}},
		{"somebody used it an hour ago", monthIn(weu, on(storageID, 1)), time.Hour, users},
		{"they were never asked", monthIn(weu, on(storageID, 2)), never, users},
		{"another thing is in the way", monthIn(weu, on(storageID, 1)).withoutConsent(), time.Hour, plan.Parts{}},
	} {
		c.w.looked(func(u *record.Usage) {
			if u.At = c.w.clock.Add(-c.age); c.age == never || len(u.Consumers) == 0 {
				*u = record.Usage{}
			}
		})
		c.w.hsm.Begun = c.w.clock
		in := c.w.input()
		in.Since = in.Now
		if diff := cmp.Diff(c.want, in.Stale(plan.Next(in))); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

// What a consumer in another vault keeps from being disabled does not hold up the same generation elsewhere, and is
// asked for again all the same.
func TestAnyVersionThatWaitsForThoseWhoUseTheKeyHasThemLookedAt(t *testing.T) {
	w := monthIn(neu, on(storageID, 1)).away(neu) // the vault is in the way, not the consumer
	if in := w.wait(2 * time.Hour).input(); plan.Next(in).AsksUsers {
		t.Error("keyd asks who uses the key although it could disable nothing")
	}
	w = month().with(func(p *key.Policy) { p.Retire.NoConsumers = false }).consented().away(neu)
	w.uses(but(on(storageID, 1), func(c *record.ConsumerSeen) {})).looked(func(u *record.Usage) { u.At = w.clock })
	w.with(func(p *key.Policy) { p.Discover = true; p.Vaults[0], p.Vaults[1] = p.Vaults[1], p.Vaults[0] })
	if s := plan.Next(w.wait(2 * time.Hour).input()); !s.AsksUsers {
		t.Errorf("keyd does not ask again: %s", s.Why)
	}
}
