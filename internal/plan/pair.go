package plan

import (
	"slices"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// pair gets the current generation its pair: generate, look, pin or abandon.
func pair(in Input) (Step, bool) {
	g := in.Record.Current()
	if g == nil || g.Fingerprint != "" {
		return Step{}, false
	}
	if err := in.Seen.HSM.Err; err != nil {
		return in.wait(g.Number, "", "the HSM cannot be used: %v", err), true
	}
	return in.makePair(g), true
}

// makePair is the next step on the way of a generation or a spare to its pair.
func (in Input) makePair(g *record.Generation) Step {
	under := in.under(g.ID)
	step := Step{Generation: g.Number, ID: g.ID}
	switch {
	case slices.ContainsFunc(under, func(o key.Object) bool { return !o.Label.Pending }):
		s, _ := in.holdFor(g.ID, key.HoldRecordBehind, "generation %d of %s (CKA_ID %s) was wrapped for a vault, and "+
			"the record does not know that it was made: the state directory was lost or is an old copy. "+
			"Look with: keyd adopt %s",
			g.Number, in.Policy.Key, g.ID, in.Policy.Key)
		return s
	case len(under) == 0 && g.GenerateBegun.IsZero():
		step.Kind, step.Why = Generate, "reserved"
	case len(under) == 0:
		step.Kind, step.Why = Abandon, "keyd began to make a pair under the id, and the HSM has none"
	case len(under) > 1 || !under[0].Complete:
		step.Kind, step.Why = Abandon, "the HSM has no single whole pair under the id: "+under[0].Problem
	case g.GenerateBegun.IsZero():
		step.Kind, step.Why = Abandon, "the HSM has a pair under the id that this record did not ask for"
	default:
		step.Kind, step.Why = Pin, "the pair is whole"
	}
	return step
}

// under lists what the HSM shows under a CKA_ID.
func (in Input) under(id key.ID) (objects []key.Object) {
	for _, o := range in.Seen.HSM.Objects {
		if o.ID == id {
			objects = append(objects, o)
		}
	}
	return objects
}

// leftUnder reports whether the HSM shows something under an abandoned id that was never wrapped, by its label.
func (in Input) leftUnder(id key.ID) bool {
	return slices.ContainsFunc(in.under(id), func(o key.Object) bool { return o.Label.Pending })
}

// leftover destroys what an earlier try left, so that tries that fail do not fill the HSM. keyd asks once an HSM that
// does not let go of it: the pair is needed all the same. Discarded spares come later: after a compromise the new pair
// is urgent, and they are few.
func leftover(in Input) (Step, bool) {
	g := in.Record.Current()
	if in.Seen.HSM.Err != nil || g == nil || g.Fingerprint != "" || !g.GenerateBegun.IsZero() ||
		len(in.under(g.ID)) > 0 {
		return Step{}, false // keyd is not about to make a pair
	}
	for _, a := range in.Record.Abandoned {
		if a.Fingerprint == "" && a.DestroyBegun.IsZero() && in.leftUnder(a.ID) {
			return Step{Kind: Sweep, ID: a.ID, Generation: a.Generation, Why: a.Reason}, true
		}
	}
	return Step{}, false
}

// finished ends the current generation if it is active in every vault where it should be.
func finished(in Input) (Step, bool) {
	g := in.Record.Current()
	if g == nil || g.Fingerprint == "" || !g.Everywhere(in.Policy) {
		return Step{}, false
	}
	return Step{Kind: Finish, Generation: g.Number, Why: "active in every vault"}, true
}

// abandonedID destroys what appeared under an abandoned id, and completes the audit entries of a destruction that a
// crash cut short.
func abandonedID(in Input) (Step, bool) {
	if in.Seen.HSM.Err != nil {
		return Step{}, false
	}
	for _, a := range in.Record.Abandoned {
		if in.mayDestroy(a) || !a.DestroyBegun.IsZero() {
			return Step{Kind: Sweep, ID: a.ID, Generation: a.Generation, Why: a.Reason}, true
		}
	}
	return Step{}, false
}
