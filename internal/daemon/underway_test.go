package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// The step before would say "reserve" for as long as the HSM makes the pair.
func TestAKeyIsShownWithTheStepThatIsUnderWay(t *testing.T) {
	st := &standing{}
	pos := rotate.Position{Doing: true, Step: plan.Step{Kind: plan.Reserve}, Now: &plan.Step{Kind: plan.Generate}}
	if k := st.shown(pos, nil); k.Doing != string(plan.Generate) {
		t.Errorf("shown as doing %q", k.Doing)
	}
	pos = rotate.Position{Doing: true, Step: plan.Step{Kind: plan.Wait, Why: "the HSM does not answer"}}
	if k := st.shown(pos, nil); k.Doing != "" || k.Waiting == "" {
		t.Errorf("while keyd only looks again, the key is shown as doing %q and waiting for %q", k.Doing, k.Waiting)
	}
}

// What a step does is not in the observation on which it was planned: the plan would abandon a pair in the making.
func TestThePlanOfAKeyWhoseStepIsUnderWayIsThatStep(t *testing.T) {
	d, _ := newDaemon(t)
	rec := oneRecord(time.Now())
	rec.Hold = nil
	save(t, d, rec)
	d.observer.Use("one")
	all, err := d.Plan(t.Context())
	if err != nil || len(all) != 1 || all[0].Step != string(plan.Look) {
		t.Errorf("after a step whose result keyd did not see, the plan is %+v, %v", all, err)
	}
	if e, err := d.Explain(t.Context(), "one"); err != nil || e.Next.Step != string(plan.Look) || len(e.Rules) > 0 {
		t.Errorf("and the explanation is %+v, %v", e, err)
	}
}

// Every key has its newest look only. When that fails for each of them, the vault was seen before all the same.
func TestAVaultThatAnsweredBeforeIsNotShownAsNeverSeen(t *testing.T) {
	const url = "https://weu-keyd-test.vault.azure.net"
	minuteAgo := time.Now().Add(-time.Minute)
	look := func(at time.Time, err error) *record.Observation {
		return &record.Observation{Vaults: map[string]record.VaultSeen{url: {Begun: at, Err: err}}}
	}
	shown := func(s *standings, o *record.Observation) (v status.Vault) {
		l := &vaultLooks{url: url}
		l.add(o)
		l.good = s.lastGood(url, l.good)
		l.show(&v)
		return v
	}
	s := newStandings()
	if v := shown(s, look(minuteAgo, nil)); v.State() != status.VaultReachable {
		t.Errorf("it answers, and is shown as %s", v.State())
	}
	v := shown(s, look(time.Now(), errors.New("i/o timeout")))
	if v.State() != status.VaultUnreachable || !v.SeenAt.Equal(minuteAgo) || v.Reason != key.OtherReason {
		t.Errorf("%s, seen %s, because of %s", v.State(), v.SeenAt, v.Reason)
	}
	if v := (status.Vault{}); v.State() != status.VaultUnasked {
		t.Errorf("a vault that was never asked is shown as %s", v.State())
	}
}
