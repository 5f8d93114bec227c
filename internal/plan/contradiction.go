package plan

import (
	"slices"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// contradiction holds the key if what was seen contradicts the record.
func contradiction(in Input) (Step, bool) {
	if in.Seen.HSM.Err == nil {
		if s, ok := in.unknownPair(); ok {
			return s, true
		}
		if s, ok := in.missingPair(in.Record.Pairs()); ok {
			return s, true
		}
	}
	var wait Step
	for _, v := range in.vaults() {
		for _, rule := range []func(visible) (Step, bool){in.deleted, in.missingVersion, in.stranger} {
			switch s, ok := rule(v); {
			case ok && s.Kind == Wait:
				wait = s // another vault may give cause for a hold
			case ok:
				return s, true
			}
		}
	}
	return wait, wait.Kind != ""
}

// unknownPair holds when the HSM has a pair of the key that the record does not know, or has given up unwrapped, or has
// as a spare unwrapped.
func (in Input) unknownPair() (Step, bool) {
	for _, o := range in.Seen.HSM.Objects {
		if s, ok := in.wrappedSpare(o); ok {
			return s, true
		}
		if !in.Record.KnowsID(o.ID) || in.Record.GaveUp(o.ID) && !o.Label.Pending {
			return in.holdFor(o.ID, key.HoldRecordBehind, "the HSM has %s under CKA_ID %s, which the record of %s "+
				"does not know: the state directory was lost or is an old copy. Look with: keyd adopt %s",
				o.Label, o.ID, in.Policy.Key, in.Policy.Key)
		}
	}
	return Step{}, false
}

// missingPair holds the key if the HSM lacks a pair or shows it altered: a token that was wiped or exchanged works
// like a healthy one.
func (in Input) missingPair(pairs []record.Pair) (Step, bool) {
	name := in.Policy.Key
	byID := map[key.ID]key.Object{}
	for _, o := range in.Seen.HSM.Objects {
		byID[o.ID] = o
	}
	for _, pair := range pairs {
		o, there := byID[pair.ID]
		what := "generation"
		if pair.Spare {
			what = "spare generation"
		}
		switch {
		case !there:
			return in.holdFor(pair.ID, key.HoldObjectMissing, "%s %d of %s (CKA_ID %s) is not in the HSM: the token "+
				"was wiped, exchanged, or the pair removed. Put it back, then: keyd resume %s --reason …; if it is "+
				"gone for good: keyd adopt %s",
				what, pair.Generation, name, pair.ID, name, name)
		case !o.Complete || o.Material.Matches(pair.Fingerprint) != key.MatchYes:
			return in.holdFor(pair.ID, key.HoldObjectMissing, "%s %d of %s (CKA_ID %s) is in the HSM, but is not the "+
				"pair that was pinned (%s): %s. Put it back, then: keyd resume %s --reason …",
				what, pair.Generation, name, pair.ID, pair.Fingerprint.Short(), o.Problem, name)
		}
	}
	return Step{}, false
}

func (in Input) deleted(v visible) (Step, bool) {
	if !v.seen.Deleted {
		return Step{}, false
	}
	name := in.Policy.Key
	return in.hold(key.HoldKeyDeleted, v.URL, "key %s is soft-deleted in vault %s, and every version with it: "+
		"consumers lose their data at their next look. Recover it: az keyvault key recover %s --name %s, then: keyd "+
		"resume %s --reason …",
		name, v.Name, v.AzScope(), name, name)
}

// missingVersion holds the key if a complete listing lacks a version that the record has there.
func (in Input) missingVersion(v visible) (Step, bool) {
	at := v.seen.Missing(in.Record, v.Vault)
	if !at.Found() {
		return Step{}, false
	}
	return in.hold(key.HoldVersionsMissing, v.URL, "vault %s no longer shows version %s of %s (generation %d): the "+
		"key was purged, or the vault is another one. Find out which; then: keyd adopt %s",
		v.Name, at.Version, in.Policy.Key, at.Generation.Number, in.Policy.Key)
}

// stranger holds the key for versions that are in no record: a name that was taken before the first import, a foreign
// newest version, or a version with this instance's tags.
func (in Input) stranger(v visible) (Step, bool) {
	name := in.Policy.Key
	strangers := in.Record.Foreign(v.URL, v.seen.Versions)
	for _, x := range strangers {
		if in.origin(v.seen, x) == own {
			return in.hold(key.HoldRecordBehind, v.URL, "vault %s holds version %s of %s, made by this instance and "+
				"unknown to the record: the state directory was lost or is an old copy. Look with: keyd adopt %s",
				v.Name, x.ID, name, name)
		}
	}
	newest := slices.IndexFunc(strangers, func(x key.Version) bool { return x.ID == v.seen.Newest })
	taken := len(strangers) > 0 && !in.Record.NewestIn(v.URL).Found()
	if newest < 0 && !taken {
		return Step{}, false
	}
	for _, x := range strangers {
		if in.origin(v.seen, x) == unclear {
			return in.wait(0, v.URL, "vault %s holds version %s of %s, which the record does not have, and keyd "+
				"cannot ask the HSM whether it is keyd's own: %v", v.Name, x.ID, name, in.Seen.HSM.Err), true
		}
	}
	if taken {
		return in.hold(key.HoldNameTaken, v.URL, "the name %s in vault %s already holds %d versions that keyd did not "+
			"make, such as %s: keyd never imports over them unasked. Look with: keyd adopt %s",
			name, v.Name, len(strangers), strangers[0].ID, name)
	}
	return in.hold(key.HoldForeign, v.URL, "the newest version of %s in vault %s, %s, is not keyd's: versionless "+
		"consumers follow it. Find out who made it; to import over it: keyd adopt %s",
		name, v.Name, v.seen.Newest, name)
}
