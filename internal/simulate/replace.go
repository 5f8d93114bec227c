package simulate

import (
	"context"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// These are the operators who replace a key after a compromise: they configure another key, have the consumers set to
// it, move by hand whom keyd does not, and consent to disable the old key once keyd lets them.

const replaceTime = 2 * time.Hour // between two looks of such an operator

// replacing is what the judges remember of the replacement of a key.
type replacing struct {
	with    string     // the new key; "": nobody replaces this one
	consent *consented // to disable the versions; nil: nobody consented, or the consent has ended
	out     bool       // an operator consented once: what the key owes then, nobody can say any more
}

// plotReplacing has an operator replace a key some hours after a compromise.
func (w *World) plotReplacing(k *managed) {
	if len(k.home.Consumers) == 0 || k.replacing.with != "" || k.heir || w.calm {
		return
	}
	k.replacing.with = k.policy.Key + "-new"
	w.later(w.spell(time.Hour, 6*time.Hour), func() {
		w.soon = append(w.soon, func() {
			w.manageHeir(k)
			w.attendReplacing(k)
		})
	})
}

// manageHeir writes the new key into the configuration.
func (w *World) manageHeir(k *managed) {
	p := k.home
	p.Key, p.Consumers, p.Workspaces, p.Discover, p.Spares = k.replacing.with, nil, nil, false, 0
	p.Retire, p.ExpiresAfter = key.RetireRule{NoConsumers: true}, 0
	p.Schedule, p.ScheduleText = grid(48*time.Hour), "@every 48h"
	if len(k.home.Workspaces) > 0 {
		p.Workspaces = k.home.Workspaces
	}
	w.log("%s is configured, to replace %s", p.Key, k.policy.Key)
	w.keys = append(w.keys, &managed{w: w, policy: p, home: p, heir: true, attempts: map[key.ID]*attempt{},
		compromise: map[key.ID]int{}})
	w.reloadAll()
}

// attendReplacing does what is to be done now, and comes again later.
func (w *World) attendReplacing(k *managed) {
	w.later(replaceTime, func() { w.soon = append(w.soon, func() { w.attendReplacing(k) }) })
	d := w.console()
	rec := w.store.records[k.policy.Key]
	if d == nil || k.policy.Retained || rec.Hold != nil || rec.Replacement.Disabling() {
		return
	}
	d.act(func() {
		ctx, p := context.Background(), d.policy(k.policy.Key)
		if heir, known := d.shell.Policy(k.replacing.with); known {
			p.Heir = &key.Heir{Key: heir.Key, Vaults: heir.Vaults}
		}
		d.consumers.Look(ctx, p)
		want := rotate.Replacing{With: k.replacing.with}
		shown, err := d.r.Replacement(ctx, p, want)
		switch {
		case err != nil:
			w.log("the replacement of %s: %v", p.Key, err)
		case shown.Begun.IsZero() || shown.Failed != "":
			want.Digest = shown.Digest
			err = d.r.Replace(ctx, p, operatorName, "compromised", want)
			w.log("replace %s: %v", p.Key, err)
		case shown.MayConsent:
			err = d.r.ConsentToDisable(ctx, p, operatorName, "all of them work", shown.Digest)
			w.log("consent to disable %s: %v", p.Key, err)
		default:
			w.moveByHand(k, shown)
		}
		d.poke(k)
	})
}

// moveByHand sets to the new key whom keyd cannot move.
func (w *World) moveByHand(k *managed, shown status.Replacement) {
	for _, c := range shown.Consumers {
		r := w.resource(c.ID)
		if c.State != "by hand" || r == nil || !r.back.IsZero() || r.key != k.policy.Key {
			continue
		}
		if x := r.vault.newest(k.replacing.with); x != nil && x.Enabled && r.vault.expired(x) == nil {
			r.set(r.vault, k.replacing.with, x.ID)
		}
	}
}

// judgeReplaced fails unless keyd may disable the version of a replaced key now: an operator consented to it, and no
// consumer uses the key any more.
func (w *World) judgeReplaced(v *vault, name string, x *version) {
	k := w.managed(name)
	switch c := k.replacing.consent; {
	case c == nil:
		w.violate(
			"replaced: version %s of %s in %s is disabled, and no consent of an operator stands",
			x.ID,
			name,
			v.Name,
		)
	case !slices.Contains(c.listed, x.ID):
		w.violate(
			"replaced: version %s of %s in %s is disabled, and the consent does not list it",
			x.ID,
			name,
			v.Name,
		)
	}
	for _, r := range w.resources {
		if r.key == name && r.back.IsZero() && r.uses != "" && (named(k.home, r.id) || k.home.Discover) &&
			w.now.After(
				later(r.moved, r.born).Add(clocksAgree)) {
			w.violate("replaced: version %s of %s in %s is disabled, and %s uses the key", x.ID, name, v.Name, r.id)
		}
	}
}

// judgeReplacing follows the consent by what is recorded.
func (w *World) judgeReplacing(is *record.Record, entries []chain.Entry) {
	k := w.managed(is.Key)
	for _, e := range entries {
		switch e.Event {
		case chain.Adopted, chain.EnableIntended, chain.RetireConsentEnded, chain.ReplaceStopped:
			k.replacing.consent = nil
		case chain.ReplaceConsented:
			if e.Actor != operatorName {
				w.violate("replaced: the consent to disable %s is %s's", is.Key, e.Actor)
			}
			c := is.Replacement.Consent
			k.replacing.consent, k.replacing.out = &consented{c.Rule, w.now, slices.Clone(c.Versions)}, true
		case chain.Replaced:
			w.result.Replaced++
		}
	}
	if is.Replacement.Disabling() && k.replacing.consent == nil {
		w.violate("replaced: the record of %s has a consent after %q, and nobody gave it", is.Key, entries[0].Event)
	}
}
