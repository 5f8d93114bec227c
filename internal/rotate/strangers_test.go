package rotate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Ten thousand unknown versions in a listing cost time and do no harm: a disabling happens when it is due, and not
// before.
func TestTenThousandVersionsMakeTheLoopDoNothing(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.p.Schedule = nil
	h.lies(listsToo(strangers(9998, 1)))
	h.now = h.now.Add(8 * time.Hour) // when the versions are listed though the list of keys shows nothing new
	h.run(5 * time.Minute)
	h.wantNothingDone()
	if seen := h.rotator.Observer.Last(h.p.Key).Vaults[weu.URL]; len(seen.Versions) != 10_000 {
		t.Errorf("the loop saw %d versions: %v", len(seen.Versions), seen.Err)
	}
	h.disablingIsDue()
	h.wantDisabledWhenTruthful()
}

// If they are newer than the newest, everything due waits until the lie ends.
func TestTenThousandNewerVersionsKeepTheLoopFromEveryDueStep(t *testing.T) {
	t.Parallel()
	newer := strings.ReplaceAll(strangers(9998, 1), "1700000000", "1900000000")
	for _, due := range []string{"a disabling", "a rotation"} {
		t.Run(due, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.isDue(due)
			h.lies(listsToo(newer))
			h.run(40 * time.Minute)
			h.wantNothingDone()
			if seen := h.rotator.Observer.Last(h.p.Key).Vaults[weu.URL]; seen.Err == nil {
				t.Errorf("the loop trusted %d versions", len(seen.Versions))
			}
			h.lies(nil)
			h.runUnheld(40 * time.Minute)
			h.wantDone(due)
		})
	}
}

// If they are older, the newest version is not in doubt: keyd does what is due once, to its own versions, and nothing
// else.
func TestOlderStrangersAreLeftAlone(t *testing.T) {
	t.Parallel()
	for _, due := range []string{"a disabling", "a rotation"} {
		t.Run(due, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t)
			h.isDue(due)
			h.lies(listsToo(strangers(5, 1))) // keyd asks for each one at each look, which is slow
			h.runUnheld(40 * time.Minute)
			h.wantDone(due)
		})
	}
}

// listsToo adds entries to every listing.
func listsToo(entries string) lie {
	return says(func(s string) string { return strings.Replace(s, `"value":[`, `"value":[`+entries+",", 1) },
		"versions")
}

// isDue lets time pass until a disabling or a rotation is due, and only that.
func (h *hostile) isDue(what string) {
	if what == "a disabling" {
		h.disablingIsDue()
		return
	}
	h.p.Retire = key.RetireRule{}
	h.now = h.now.Add(24 * time.Hour)
}

// wantDone requires that what was due was done once, and nothing else.
func (h *hostile) wantDone(what string) {
	h.tb.Helper()
	imports, first := 3, h.record(h.p.Key).Generations[0].Placements[0].Version
	var off []string
	if what == "a disabling" {
		imports, off = 2, []string{first}
	}
	if got := h.vault[weu.URL].disabled; h.puts != imports || !slices.Equal(got, off) {
		h.tb.Errorf("%d imports, disabled %v; want %d and %v\n%s", h.puts, got, imports, off, h.story())
	}
	h.wantNothingStrayed()
}
