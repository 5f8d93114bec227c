package plan

import (
	"fmt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// refutation answers a refuted proof: it makes the predecessor newest again, in that vault only, and then holds the
// key.
func refutation(in Input) (Step, bool) {
	for _, v := range in.vaults() {
		last := in.Record.NewestIn(v.URL)
		if !last.Found() {
			continue
		}
		switch last.State {
		case key.Refuted:
			if last.Generation.Compromised.IsZero() {
				return in.rollBack(v, last)
			}
		case key.Imported:
			if last.Cause == key.CauseRollback {
				return prove(last), true
			}
		case key.Proven, key.Disabled: // somebody may have disabled the good one, which an adoption then found
			switch bad := in.Record.RefutedIn(v.URL); {
			case !bad.Found():
			case last.State == key.Disabled && bad.Version == v.seen.Newest: // consumers follow it
				return in.rollBack(v, bad)
			default:
				return in.rolledBack(v, last, bad)
			}
		}
	}
	return Step{}, false
}

// rollBack imports the latest good generation, and holds the key where there is none. That may be the refuted one
// itself, where an earlier version of it in the vault was proven.
func (in Input) rollBack(v visible, bad record.Placed) (Step, bool) {
	if bad.Cause != key.CauseRollback {
		if g := in.Record.GoodUpTo(v.URL, bad.Generation.Number); g != nil {
			why := fmt.Sprintf("generation %d was refuted", bad.Generation.Number)
			return in.importInto(v, g, key.CauseRollback, why), true
		}
	}
	return in.hold(key.HoldRefuted, v.URL, "generation %d of %s was refuted in vault %s (%s), and there is nothing to "+
		"go back to: version %s is the newest there, and stays enabled. Find out why before anything else; see "+
		"the runbook",
		bad.Generation.Number, in.Policy.Key, v.Name, bad.Detail, v.seen.Newest)
}

// rolledBack holds the key once the good generation is the newest again. Meanwhile a late duplicate of the refuted
// version may have become the newest: then keyd rolls back once more.
func (in Input) rolledBack(v visible, last, bad record.Placed) (Step, bool) {
	if s, ok := in.repair(v); ok {
		if s.Kind == Import {
			s.Cause = key.CauseRollback
		}
		return s, true
	}
	name := in.Policy.Key
	if bad.Generation == last.Generation {
		return in.hold(key.HoldRefuted, v.URL, "version %s of %s in vault %s was refuted (%s); another version of the "+
			"same generation %d was proven and is the newest there again. The refuted version stays enabled. Find out "+
			"why, then: keyd resume %s --reason …", bad.Version, name, v.Name, bad.Detail, last.Generation.Number, name)
	}
	return in.hold(key.HoldRefuted, v.URL, "generation %d of %s was refuted in vault %s (%s); generation %d is the "+
		"newest there again. Version %s stays enabled. Find out why, then: keyd resume %s --reason …, which tries "+
		"generation %d there once more; or keyd rotate --now --compromise %s --reason …, which gives its material "+
		"up and makes a new one",
		bad.Generation.Number, name, v.Name, bad.Detail, last.Generation.Number, bad.Version, name,
		bad.Generation.Number, name)
}

func prove(at record.Placed) Step {
	return Step{Kind: Prove, Generation: at.Generation.Number, Vault: at.Vault, Attempt: at.Attempt,
		Version: at.Version, Cause: at.Cause, Why: "imported"}
}
