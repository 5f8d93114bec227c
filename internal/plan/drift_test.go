package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

func foreignDrift(in plan.Input) bool {
	return slices.ContainsFunc(plan.Drifts(in), func(d plan.Drift) bool { return d.Kind == plan.DriftForeign })
}

// The record knows the version, or the HSM does, or nobody could say: in each case "find out who made it" would be
// wrong, and would frighten an operator who has just lost a disk.
func TestAVersionIsForeignOnlyOnceTheRecordAndTheHSMWereBothAsked(t *testing.T) {
	lost := func() *world { // the state is gone; HSM and vaults are as they were
		w := given().rotated()
		for url, seen := range w.vaults { // as a vault shows what the record does not know
			seen.Material = record.Few[string, key.Material]{}.With(seen.Newest, material(1))
			w.vaults[url] = seen
		}
		w.record = record.Record{Key: w.record.Key}
		return w
	}
	for _, c := range []struct {
		name string
		in   plan.Input
		want bool
	}{
		{"known to the record", given().rotated().input(), false},
		{"known to the HSM alone", lost().input(), false},
		{"the HSM cannot be asked", lost().noHSM().input(), false},
		{"stranger, and the HSM cannot be asked", given().rotated().noHSM().foreign(weu).input(), false},
		{"known to neither", given().rotated().foreign(weu).input(), true},
		{"its material is not shown", given().rotated().lists(weu, "", key.Material{}).input(), true},
	} {
		if got := foreignDrift(c.in); got != c.want {
			t.Errorf("%s: called foreign %v, want %v", c.name, got, c.want)
		}
	}
}

func TestWhatConcernsAVaultNamesNoKey(t *testing.T) {
	w := given().rotated().sees(weu, func(s *record.VaultSeen) {
		s.KEK = record.KEKSeen{Print: "sha256:other", Was: kekSeen}
		s.Versions[0].Recovery = "Recoverable+Purgeable"
	})
	found := 0
	for _, d := range plan.Drifts(w.input()) {
		if !d.Kind.OfVault() {
			t.Errorf("%s is about one key", d.Kind)
			continue
		}
		found++
		if strings.Contains(d.Text, w.policy.Key) {
			t.Errorf("%s names the key %s, and concerns every key in the vault: %s", d.Kind, w.policy.Key, d.Text)
		}
	}
	if found != 2 {
		t.Errorf("%d drifts, want 2", found)
	}
}

// refusedBy is a vault's refusal for a reason.
type refusedBy key.Reason

func (r refusedBy) Error() string      { return "refused: " + string(r) }
func (r refusedBy) Class() key.Class   { return key.Refused }
func (r refusedBy) Reason() key.Reason { return key.Reason(r) }

// Otherwise a credential that Azure refuses would ask a person to look into the KEK.
func TestAKEKIsRefusedOnlyByAVaultThatLetKeydIn(t *testing.T) {
	for reason, want := range map[key.Reason]bool{
		key.NoToken: false, key.ProxyRefused: false, key.ForbiddenByFirewall: false, key.ForbiddenByRBAC: true,
		key.KeyDisabled: true, key.OtherReason: true,
	} {
		w := given().rotated().sees(weu, func(s *record.VaultSeen) {
			s.KEK = record.KEKSeen{Err: refusedBy(reason)}
		})
		got := slices.ContainsFunc(plan.Drifts(w.input()),
			func(d plan.Drift) bool { return d.Kind == plan.DriftKEKRefused })
		if got != want {
			t.Errorf("%s: drift of the KEK %v, want %v", reason, got, want)
		}
	}
}

// Whoever reads an old backup may have enabled it, or the record of keyd's own enabling was lost with its store.
func TestAVersionThatSomebodyEnabledAgainDrifts(t *testing.T) {
	retired := func() *world { return given().rotated().rotated().retired(1).disabled(weu, 1).wait(day) }
	for _, c := range []struct {
		name string
		when *world
		want bool
	}{
		{"keyd disabled it", retired(), false},
		{"somebody enabled it", retired().enabled(weu, 1), true},
		{"the vault does not show yet that keyd disabled it", given().rotated().rotated().retired(1), false},
		{"an operator has keyd enable it", retired().enabled(weu, 1).toEnable(1), false},
		{"its material is compromised, of which keyd tells elsewhere", retired().enabled(weu, 1).compromised(), false},
		{"one of two versions of its material",
			given().rotated().rotated().aliased(1, weu).retired(1).wait(day).enabled(weu, 1), true},
	} {
		got := slices.ContainsFunc(plan.Drifts(c.when.input()),
			func(d plan.Drift) bool { return d.Kind == plan.DriftEnabled && strings.Contains(d.Text, version(1)) })
		if got != c.want {
			t.Errorf("%s: drift %v, want %v", c.name, got, c.want)
		}
	}
}

// Consumers that follow the key fail, unless another key has replaced it.
func TestANewestVersionThatIsDisabledDriftsUnlessKeydDisabledItForAnotherKey(t *testing.T) {
	for _, c := range []struct {
		name string
		when *world
		want bool
	}{
		{"the key is not replaced", given(weu).rotated().rotated().disabled(weu, 2), true},
		{"keyd disabled it", gone().retired(2).disabled(weu, 2), false},
		{"keyd is disabling it", gone().disabling(2).disabled(weu, 2), false},
		{"nobody consented yet", monthIn(weu, on(storageID, 2)).replacedBy(active()).disabled(weu, 2), true},
		{"somebody was quicker than keyd", gone().disabled(weu, 2), true},
		{"the replacement was stopped", gone().retired(2).disabled(weu, 2).stopped(), true},
	} {
		got := slices.ContainsFunc(plan.Drifts(c.when.input()),
			func(d plan.Drift) bool { return d.Kind == plan.DriftNewestDisabled })
		if got != c.want {
			t.Errorf("%s: drift %v, want %v", c.name, got, c.want)
		}
	}
}
