package web

import (
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

func TestTheKeyPageShowsHowFarTheReplacingOfAKeyIs(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	k := status.Key{Name: "one", Replaced: &status.Replaced{With: "two", Begun: now.Add(-time.Hour), Moved: 2}}
	want := "being replaced by two since " + stamp(now, now.Add(-time.Hour)) +
		"; 2 consumers moved by keyd so far (keyd replace one --status)"
	if facts := keyFacts(now, k); !slices.Contains(facts, want) {
		t.Errorf("%q, want %q", facts, want)
	}
}

func TestTheKeyPageShowsTheRetireRuleAndItsConsent(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	k := status.Key{Name: "one", Retire: &status.RetireRule{DisableAfter: 90 * 86400}}
	asked := "retires versions after 90 days, once an operator consents (keyd retire one)"
	if facts := keyFacts(now, k); !slices.Contains(facts, asked) {
		t.Errorf("%q, want %q", facts, asked)
	}
	k.Retire.Consent = &status.Consent{By: "uid 0 (root)", At: now}
	agreed := "retires versions after 90 days, with the consent of uid 0 (root), " + day(now, now)
	if facts := keyFacts(now, k); !slices.Contains(facts, agreed) {
		t.Errorf("%q, want %q", facts, agreed)
	}
}
