package check

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// fakeShared is a store for several hosts.
type fakeShared struct {
	lease    stored.Lease
	away     error
	lost     error
	warnings []string
}

func (f fakeShared) Name() string { return "PostgreSQL at db1/keyd" }

func (f fakeShared) Lease(context.Context) (stored.Lease, error) { return f.lease, f.away }

func (f fakeShared) Lost(context.Context) error { return f.lost }

func (f fakeShared) Warnings(context.Context) ([]string, error) { return f.warnings, nil }

func TestCheckLooksAtAStoreForSeveralHosts(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	led := stored.Lease{Holder: "hq-b", Epoch: term.Epoch{Number: 3}, Left: time.Second, Now: now}
	late := led
	late.Now = now.Add(-time.Hour)
	const ok, warning, failed = status.CheckOK, status.CheckWarning, status.CheckFailed
	for what, c := range map[string]struct {
		store fakeShared
		want  map[string]status.CheckResult // by the line's name
		say   string                        // in one of the details
	}{
		"all is well": {fakeShared{lease: led}, map[string]status.CheckResult{"answers": ok, "clock": ok,
			"has what this host saw": ok, "engine": ok}, "hq-b leads, epoch 3"},
		"nobody leads": {fakeShared{lease: stored.Lease{Now: now}}, map[string]status.CheckResult{"answers": ok,
			"clock": ok, "has what this host saw": ok, "engine": ok}, "nobody leads"},
		"it does not answer": {fakeShared{away: errors.New("no route")}, map[string]status.CheckResult{
			"answers": failed}, "no route"},
		"its clock is late": {fakeShared{lease: late}, map[string]status.CheckResult{"answers": ok, "clock": warning,
			"has what this host saw": ok, "engine": ok}, "this host's clock and the store's are 1h0m0s apart"},
		"it lost changes": {fakeShared{lease: led, lost: errors.New("entry 7 is missing")},
			map[string]status.CheckResult{"answers": ok, "clock": ok, "has what this host saw": failed, "engine": ok},
			"entry 7 is missing"},
		"its quota is half used": {fakeShared{lease: led, warnings: []string{"1 of 2 GiB"}},
			map[string]status.CheckResult{"answers": ok, "clock": ok, "has what this host saw": ok, "engine": warning},
			"1 of 2 GiB"},
	} {
		lines := checked(t, func(x *checker) {
			x.Shared = c.store
			x.shared(t.Context(), func() time.Time { return now })
		})
		said := false
		for _, l := range lines {
			if l.Result != c.want[l.Name] || l.Subject != c.store.Name() || l.Result != ok && l.Remedy == "" {
				t.Errorf("%s: %+v", what, l)
			}
			said = said || l.Detail == c.say
		}
		if len(lines) != len(c.want) || !said {
			t.Errorf("%s: %+v", what, lines)
		}
	}
}

func TestOneHostHasNoLinesAboutAStoreForSeveral(t *testing.T) {
	if lines := checked(t, func(x *checker) { x.shared(t.Context(), time.Now) }); len(lines) > 0 {
		t.Errorf("%+v", lines)
	}
}
