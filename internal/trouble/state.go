package trouble

import (
	"slices"

	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// KeyState is one of the values of status.Key.State: the worst that is true of the key. The key has its hold and its
// requests already.
func KeyState(k status.Key, stage record.Stage, pos rotate.Position) string {
	switch {
	case k.Hold != nil:
		return status.StateHeld
	case k.Retained:
		return status.StateRetained
	case pos.Err != nil && pos.Failures > 1:
		return status.StateFailing
	case stage.Partial() && (pos.Step.Kind == plan.Wait || !stage.UnderWay()):
		return status.StatePartial
	case stage.Active == 0 && stage.Generation <= 1:
		return status.StateNew
	case stage.UnderWay(), stage.Phase == record.Ended && len(k.Requests) > 0:
		return status.StateRotating
	}
	return status.StateOK
}

// MarkKeys gives a key that is well by its record the state StateTrouble if one of the critical problems is about it:
// the list of keys must not say "ok" beside such a problem.
func MarkKeys(s *status.Snapshot) {
	bad := map[string]bool{}
	for _, p := range s.Problems {
		if p.Severity == status.Critical && p.Key != "" {
			bad[p.Key] = true
		}
	}
	for i := range s.Keys {
		k := &s.Keys[i]
		if bad[k.Name] && slices.Contains([]string{status.StateOK, status.StateRetained}, k.State) {
			k.State = status.StateTrouble
		}
	}
}
