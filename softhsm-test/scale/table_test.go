package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/softhsm-test/measure"
)

func TestOnlyMoreCallsThanTheGoalAndWhatIsOnceForAVaultAreOver(t *testing.T) {
	within := row{"calls per new key", 60*6 + 10, 60, 6, 10}
	if within.over() {
		t.Errorf("%+v is over its goal", within)
	}
	over := within
	over.calls++
	if !over.over() {
		t.Errorf("%+v is not over its goal", over)
	}
	t2 := table{rows: []row{within, over}}
	if want := []string{"calls per new key 6.18, not 6"}; !cmp.Equal(t2.excess(), want) {
		t.Errorf("what is over: %s", cmp.Diff(want, t2.excess()))
	}
}

func TestWhatCameAfterLeavesOutWhatCameBefore(t *testing.T) {
	before := counts{vault: measure.Kinds{"get": 2}, throttled: 1, writes: 3}
	after := counts{vault: measure.Kinds{"get": 5, "wrap": 1}, throttled: 1, writes: 7}
	d := after.minus(before)
	if want := (measure.Kinds{"get": 3, "wrap": 1}); !cmp.Equal(d.vault, want) || d.throttled != 0 || d.writes != 4 {
		t.Errorf("after - before is %+v", d)
	}
	if after.vault["get"] != 5 {
		t.Error("the later counts were changed")
	}
}

func TestRoutineProofsAreNotCallsOfARotation(t *testing.T) {
	c := counts{vault: measure.Kinds{"import": 2, "wrap": 3, "unwrap": 4, "get": 5}}
	if got := c.ofTheKeys(); got != 2+2+2+5 {
		t.Errorf("2 imports with their proofs and 5 GETs are %d calls, not 11", got)
	}
}
