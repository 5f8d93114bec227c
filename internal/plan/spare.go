package plan

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// sparePause is how long keyd waits before it tries once more to make a spare's pair. A spare is never urgent, and an
// HSM that cannot make pairs must not keep the rules after this one waiting for ever.
const sparePause = 30 * time.Minute

// spares makes the pairs that the policy asks for in advance, one after the other, and gives up those that it no longer
// allows for.
func spares(in Input) (Step, bool) {
	if n, why, ok := in.Record.UnfitSpare(in.Policy); ok {
		return Step{Kind: DiscardSpare, Generation: n, Why: why}, true
	}
	if in.Seen.HSM.Err != nil {
		return Step{}, false
	}
	s := in.Record.UnmadeSpare()
	switch {
	case s == nil && in.Record.LacksSpare(in.Policy):
		return Step{Kind: ReserveSpare, Generation: in.Record.NextNumber(),
			Why: "the configuration asks for another spare"}, true
	case s == nil || near(in.Now, in.Record.SpareTried(s.Number), sparePause) ||
		near(in.Now, in.SpareRefused, sparePause):
		return Step{}, false
	}
	return in.makePair(s), true
}

// wrappedSpare holds when the HSM shows that a spare's pair was wrapped for a vault: the record is an old copy, and the
// spare may be in use.
func (in Input) wrappedSpare(o key.Object) (Step, bool) {
	s := in.Record.SpareWithID(o.ID)
	if s == nil || o.Label.Pending {
		return Step{}, false
	}
	return in.holdFor(o.ID, key.HoldRecordBehind, "the record of %s has generation %d (CKA_ID %s) as a spare that was "+
		"never used, and the HSM shows that it was wrapped for a vault: the state directory is an old copy. Look "+
		"with: keyd adopt %s",
		in.Policy.Key, s.Number, o.ID, in.Policy.Key)
}

// mayDestroy reports whether the HSM shows something under an abandoned id that may be destroyed: it was never wrapped,
// by its label. A discarded spare was a whole pair, so every vault must show besides that it does not hold it. A vault
// that cannot be seen counts as holding it, as does one that the configuration no longer names.
func (in Input) mayDestroy(a record.AbandonedID) bool {
	if !in.leftUnder(a.ID) {
		return false
	}
	if a.Fingerprint == "" {
		return true
	}
	for _, v := range in.Record.Vaults {
		if _, ok := in.Policy.Vault(v.URL); !ok {
			return false
		}
	}
	for _, v := range in.Policy.Vaults {
		seen := in.shown(v)
		if seen.Err != nil || seen.Deleted {
			return false
		}
		for _, m := range seen.Material {
			if m.Value.Matches(a.Fingerprint) == key.MatchYes {
				return false
			}
		}
		for _, x := range in.Record.Foreign(v.URL, seen.Versions) {
			if seen.Material.Of(x.ID).Matches(a.Fingerprint) != key.MatchNo {
				return false // it may be of this very pair
			}
		}
	}
	return true
}
