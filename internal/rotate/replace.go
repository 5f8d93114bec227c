package rotate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// Replacing is the replacing of a key that an operator asks for.
type Replacing struct {
	With  string // the new key; "": that of the replacement that has begun
	Vault string // URL where consumers go; "": each stays in its own vault
	// VaultName is its nickname, for people.
	VaultName string
	Digest    string // of what Replacement showed
}

// Replace records that an operator has a key replaced, as Replacement showed it under the digest. The loop then moves
// its consumers. Of a replacement that has begun, it clears away the move that failed.
func (r *Rotator) Replace(ctx context.Context, p key.Policy, actor, reason string, want Replacing) error {
	return r.replace(ctx, r.asking(ctx), p, actor, reason, want)
}

func (r *Rotator) replace(ctx context.Context, g *gate, p key.Policy, actor, reason string, want Replacing) error {
	err := r.changeBoth(ctx, p.Key, func(rec *record.Record) (string, error) {
		if rec.Replacement != nil {
			return "", nil // nothing of the new key changes
		}
		return want.With, nil
	}, func(rec, heir *record.Record) (entries, ofHeir []chain.Entry, err error) {
		if rec.Replacement != nil {
			entries, err = r.replaceAgain(g, rec, actor, reason, want)
			return entries, nil, err
		}
		return r.beginReplace(g, p, rec, heir, actor, reason, want)
	})
	return g.outcome(err)
}

// replaceAgain goes on with a replacement after a move that failed.
func (r *Rotator) replaceAgain(g *gate, rec *record.Record, actor, reason string, want Replacing) ([]chain.Entry,
	error) {
	x := rec.Replacement
	switch {
	case want.With != "" && !key.SameName(want.With, x.With) || want.Vault != "" && want.Vault != x.Vault:
		return nil, refuse("key %s is being replaced by %s already, as %s asked: stop that first: keyd replace %s "+
			"--stop --reason …", rec.Key, x.With, x.By, rec.Key)
	case rec.Repointing == nil || rec.Repointing.Open():
		return nil, refuse(
			"key %s is being replaced by %s already, and no move of a consumer has failed: keyd replace "+
				"%s --status",
			rec.Key,
			x.With,
			rec.Key,
		)
	}
	before, through, err := g.passKey(rec, key.Act{Kind: key.ActReplace, Reason: reason,
		Arguments: map[string]string{"with": x.With},
		Effects:   "keyd tries again to set the consumers of the key to " + x.With})
	if !through {
		return before, err
	}
	failed := rec.Repointing.Consumer
	rec.RetryReplace()
	return append(before, chain.Entry{Event: chain.ReplaceAgain, Actor: actor,
		Fields: map[string]string{"with": x.With, "consumer": failed, "reason": reason}}), nil
}

func (r *Rotator) beginReplace(g *gate, p key.Policy, rec, heir *record.Record, actor, reason string,
	want Replacing) (entries, ofHeir []chain.Entry, err error) {
	v, err := r.foresee(p, rec, heir, want)
	if err != nil {
		return nil, nil, err
	}
	if v.refused != "" {
		return nil, nil, refuse("%s", v.refused)
	}
	if digest := v.beginDigest(); digest != want.Digest {
		return nil, nil, refuse("what would follow for key %s has changed since it was shown: look again with keyd "+
			"replace %s --with %s", p.Key, p.Key, want.With)
	}
	before, through, err := g.passKey(rec, key.Act{Kind: key.ActReplace, Reason: reason,
		Arguments: map[string]string{"with": v.in.NewKey.Policy.Key, "vault": want.Vault, "digest": want.Digest},
		Effects: "keyd sets the consumers of the key to " + v.in.NewKey.Policy.Key + ", one after the other, also " +
			"those that follow by themselves; it disables nothing before another consent"})
	if !through {
		return before, nil, err
	}
	x := *v.in.Record.Replacement // as it was foreseen
	x.At, x.By, x.Reason = r.now(), actor, reason
	if err := rec.BeginReplace(x); err != nil {
		return nil, nil, refuse("%s", err)
	}
	var ids []string
	for _, c := range p.Consumers {
		ids = append(ids, c.ID)
	}
	heir.Inherit(p.Key, ids)
	entries = []chain.Entry{{Event: chain.ReplaceBegun, Actor: actor, Fields: map[string]string{
		"with": x.With, "vault": x.Vault, "reason": reason, "digest": want.Digest, "consumers": v.listed()}}}
	return slices.Concat(before, entries), []chain.Entry{{Event: chain.Inherits, Actor: actor,
		Fields: map[string]string{"from": p.Key, "consumers": spaced(ids)}}}, nil
}

// foresee is the view of what would follow if the replacement began.
func (r *Rotator) foresee(p key.Policy, rec, heir *record.Record, want Replacing) (view, error) {
	v := view{in: r.input(p, rec, r.Observer.Last(p.Key), nil)}
	policy, known := r.policyOf(want.With)
	if !known || policy.Retained {
		return v, refuse("%s", notConfigured(p, want, staying(r.Observer.Users(p))))
	}
	future := rec.Clone()
	if err := future.BeginReplace(record.Replacement{With: policy.Key, Vault: want.Vault}); err != nil {
		return v, refuse("%s", err)
	}
	policy, v.in.Record = withHeir(policy, nil), &future
	v.in.NewKey = &plan.NewKey{Policy: policy, Record: heir, Seen: r.Observer.Last(policy.Key)}
	v.in.Seen = withUsers(v.in.Seen, r.Observer.Users(p))
	v.refused = v.refusal(want)
	return v, nil
}

// refusal says why a replacement must not begin; "" if it may.
func (v view) refusal(want Replacing) string {
	p, rec, heir := v.in.Policy, v.in.Record, v.in.NewKey
	_, there := heir.Policy.Vault(want.Vault)
	switch {
	case p.Retained:
		return fmt.Sprintf("key %s is not in the configuration: put it back, then: keyd reload", p.Key)
	case rec.Hold != nil:
		return fmt.Sprintf("key %s is held (%s): %s", p.Key, rec.Hold.Code, rec.Hold.Reason)
	case heir.Record.Replacement != nil:
		return fmt.Sprintf("key %s is replaced itself, by %s", heir.Policy.Key, heir.Record.Replacement.With)
	case v.in.Seen.Usage.At.IsZero() && (plan.Input{Policy: p, Seen: v.in.Seen}).AsksUsers():
		return fmt.Sprintf("keyd has not looked yet at who uses key %s: try again in a minute", p.Key)
	case v.in.Seen.Usage.Err != nil:
		return fmt.Sprintf("keyd could not look at who uses key %s: %v", p.Key, v.in.Seen.Usage.Err)
	case want.Vault != "" && !there:
		return notConfigured(p, want, staying(v.in.Seen.Usage))
	}
	var whys []string
	for _, l := range v.in.Leaving() {
		s, _ := service.Of(l.ID)
		if why := heir.Refusal(s, l.Target); why != "" && l.Configured && l.State == plan.LeavingByHand {
			whys = append(whys, fmt.Sprintf("%s %s: %s", l.Service, service.NameOf(l.ID), why))
		}
	}
	if len(whys) > 0 {
		return fmt.Sprintf(
			"key %s cannot take the place of %s:\n%s",
			heir.Policy.Key,
			p.Key,
			strings.Join(whys, "\n"),
		)
	}
	return ""
}

// notConfigured says what to write into the configuration so that a key can be replaced. stay are the vaults (URLs)
// that some consumers cannot leave.
func notConfigured(p key.Policy, want Replacing, stay []string) string {
	var names []string
	if want.Vault != "" {
		names = append(names, cmp.Or(want.VaultName, want.Vault))
	}
	for _, v := range p.Vaults {
		if want.Vault == "" || slices.Contains(stay, v.URL) && v.URL != want.Vault {
			names = append(names, v.Name)
		}
	}
	text := fmt.Sprintf("key %s is not in the configuration, or not in that vault. Write under keys:\n\n  %s:\n"+
		"    spec: %s\n    vaults: [%s]\n", want.With, want.With, p.Spec, strings.Join(names, ", "))
	if p.ScheduleText != "" {
		text += fmt.Sprintf("    schedule: %q\n", p.ScheduleText)
	}
	return text + fmt.Sprintf(
		"\nLeave the consumers under %s until the replacement is over. Then: keyd reload; and once "+
			"keyd status %s shows the key active, the same command again",
		p.Key,
		want.With,
	)
}

// staying are the vaults (URLs) that some consumers of a key cannot leave, by the last look.
func staying(usage record.Usage) (urls []string) {
	for _, c := range usage.Consumers {
		if s, _ := service.Of(c.ID); s.OneVault && c.Err == nil {
			urls = append(urls, c.Vault)
		}
	}
	return urls
}

// StopReplace ends a replacement where it is: what was moved stays moved.
func (r *Rotator) StopReplace(ctx context.Context, p key.Policy, actor, reason string) error {
	return r.changeBoth(ctx, p.Key, func(rec *record.Record) (string, error) {
		if rec.Replacement == nil {
			return "", refuse("key %s is not replaced by another one", p.Key)
		}
		return rec.Replacement.With, nil
	}, func(rec, heir *record.Record) (entries, ofHeir []chain.Entry, err error) {
		x := rec.Replacement
		if !x.Done.IsZero() {
			return nil, nil, refuse("key %s has been replaced by %s: nothing is left to stop; to enable a version "+
				"again: keyd enable %s VERSION --reason …", p.Key, x.With, p.Key)
		}
		var moved []string
		for _, m := range x.Moved {
			moved = append(moved, m.Consumer)
		}
		if err := rec.StopReplace(); err != nil {
			return nil, nil, err
		}
		heir.Disinherit(p.Key, moved...)
		fields := map[string]string{"with": x.With, "reason": reason, "moved": spaced(moved)}
		return []chain.Entry{{Event: chain.ReplaceStopped, Actor: actor, Fields: fields}},
			[]chain.Entry{{Event: chain.Inherits, Actor: actor,
				Fields: map[string]string{
					"from":      p.Key,
					"consumers": spaced(moved),
					"why":       "replacement stopped",
				}}}, nil
	})
}

// ConsentToDisable records an operator's consent to disable the versions of a replaced key, as Replacement showed them
// under the digest. All consumers must be seen to work under the new key by then.
func (r *Rotator) ConsentToDisable(ctx context.Context, p key.Policy, actor, reason, digest string) error {
	return r.consentToDisable(ctx, r.asking(ctx), p, actor, reason, digest)
}

func (r *Rotator) consentToDisable(ctx context.Context, g *gate, p key.Policy, actor, reason, digest string) error {
	err := r.change(ctx, p.Key, func(rec *record.Record) ([]chain.Entry, error) {
		v, err := r.viewOf(ctx, p, rec)
		if err != nil {
			return nil, err
		}
		if why := v.forbidsConsent(); why != "" {
			return nil, refuse("%s", why)
		}
		if v.disableDigest() != digest {
			return nil, refuse(
				"the versions of key %s have changed since they were shown: look again with keyd replace "+
					"%s --disable",
				p.Key,
				p.Key,
			)
		}
		before, through, err := g.passKey(rec, key.Act{Kind: key.ActReplace, Reason: reason,
			Arguments: map[string]string{
				"disable": digest,
			}, Effects: fmt.Sprintf("keyd disables every version of the "+
				"key that it placed, %d in all, once the evidence says that nobody can need them: keyd replace %s "+
				"--status",
				len(rec.Replaceable()), p.Key)})
		if !through {
			return before, err
		}
		c := record.Consent{Rule: plan.ReplaceRule(p), Digest: digest, At: r.now(), By: actor, Reason: reason}
		for _, x := range rec.Replaceable() {
			c.Versions = append(c.Versions, x.Version)
		}
		if err := rec.ConsentToDisable(c); err != nil {
			return nil, refuse("%s", err)
		}
		return append(before, chain.Entry{Event: chain.ReplaceConsented, Actor: actor, Fields: map[string]string{
			"with": rec.Replacement.With, "reason": reason, "digest": digest, "versions": spaced(c.Versions),
			"consumers": v.listed()}}), nil
	})
	return g.outcome(err)
}

// changeBoth changes the record of a key and that of the key that replaces it in one transaction. other says which that
// is, "" for none.
func (r *Rotator) changeBoth(ctx context.Context, name string, other func(*record.Record) (string, error),
	f func(rec, heir *record.Record) (entries, ofHeir []chain.Entry, err error)) error {
	return tryChange("key "+name, func() (save func() error, err error) {
		rec, err := r.load(ctx, name)
		if err != nil {
			return nil, err
		}
		with, err := other(&rec)
		if err != nil {
			return nil, err
		}
		recs := []record.Record{rec.Clone(), {}}
		if with != "" {
			if policy, known := r.policyOf(with); known {
				with = policy.Key
			}
			heir, err := r.load(ctx, with)
			if err != nil {
				return nil, err
			}
			recs[1] = heir.Clone()
		}
		entries, ofHeir, err := f(&recs[0], &recs[1])
		if err != nil || len(entries) == 0 {
			return nil, err
		}
		return func() error { return r.saveBoth(ctx, recs, entries, ofHeir) }, nil
	})
}

// saveBoth saves the first record alone if nothing happened to the second.
func (r *Rotator) saveBoth(ctx context.Context, recs []record.Record, entries, ofHeir []chain.Entry) error {
	if len(ofHeir) == 0 {
		_, err := r.saveAll(ctx, recs[0], entries)
		return err
	}
	all := [][]chain.Entry{entries, ofHeir}
	for i := range all {
		for j := range all[i] {
			all[i][j].Time, all[i][j].Key = r.now(), recs[i].Key
		}
	}
	at := func(when string) {
		killpoint.At(when + string(entries[len(entries)-1].Event))
		killpoint.At(when + string(ofHeir[0].Event))
	}
	at("save-before ")
	if err := r.Store.SaveTogether(ctx, recs, all); err != nil {
		return err
	}
	at("save-after ")
	return nil
}

// policyOf is the policy of another key, by a name whose case may differ.
func (r *Rotator) policyOf(name string) (key.Policy, bool) {
	if r.Policy == nil {
		return key.Policy{}, false
	}
	return r.Policy(name)
}

// newKey is the key that replaces the one of a record; nil: none does, or the configuration lacks it.
func (r *Rotator) newKey(ctx context.Context, rec *record.Record) (*plan.NewKey, error) {
	if rec.Replacement == nil {
		return nil, nil //nolint:nilnil // none is no error
	}
	policy, known := r.policyOf(rec.Replacement.With)
	if !known || policy.Retained {
		return nil, nil //nolint:nilnil // the plan says so
	}
	heir, err := r.load(ctx, policy.Key)
	if err != nil {
		return nil, err
	}
	return &plan.NewKey{Policy: policy, Record: &heir, Seen: r.Observer.Last(policy.Key)}, nil
}

// withHeir is the policy of a key that another one replaces, or not.
func withHeir(p key.Policy, by *plan.NewKey) key.Policy {
	p.Heir = nil
	if by != nil {
		p.Heir = &key.Heir{Key: by.Policy.Key, Vaults: by.Policy.Vaults}
	}
	return p
}

// Heir is the key that replaces another one; nil: none does. It comes from the record, so that a new process knows it
// before its first step: who looks at consumers without it takes one that went to the new key for gone.
func (r *Rotator) Heir(ctx context.Context, name string) (*key.Heir, error) {
	rec, err := r.load(ctx, name)
	if err != nil {
		return nil, err
	}
	by, err := r.newKey(ctx, &rec)
	if err != nil {
		return nil, err
	}
	return withHeir(key.Policy{}, by).Heir, nil
}

func sumOf(shown any) string {
	text, err := json.Marshal(shown)
	if err != nil { // strings and numbers always encode
		panic(fmt.Sprintf("encode what is shown: %v", err))
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(text))
}

// byID sorts texts that begin with an id.
func byID(texts []string) []string {
	slices.SortFunc(texts, cmp.Compare[string])
	return texts
}
