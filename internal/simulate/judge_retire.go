package simulate

import (
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// These judges look at what keyd retires: only what an operator consented to, one version after the other, and only
// while the newest version works.

// consented is an operator's consent to a key's retire rule, as it really was given.
type consented struct {
	rule   key.RetireRule
	at     time.Time // true time
	listed []string  // the versions
}

// retiring is what the judges remember of a key's retirement.
type retiring struct {
	digest    string     // that the operator was shown last
	consent   *consented // nil: nobody consented, or the consent has ended
	last      time.Time  // when keyd last disabled a version
	turned    bool       // somebody set the daemon's clock during that step
	attended  bool       // an operator will consent
	enableAt  time.Time  // when an operator last asked to enable a version
	disabling string     // the version that was disabled last
}

// clocksAgree is how far apart the time of an intent and of its effect may be, with the clocks' differences.
const clocksAgree = 10 * time.Minute

// judgeRetiring fails unless keyd may disable the version now.
func (w *World) judgeRetiring(v *vault, name string, g *record.Generation, x *version) {
	r, rule := &w.managed(name).retiring, w.acting.under.Retire
	rec := w.store.records[name]
	superseded := later(v.supersededAt(&rec, name, g.Number), g.Deactivated)
	switch {
	case r.consent == nil || r.consent.rule != rule:
		w.violate("version %s of %s in %s is disabled, and no consent of an operator to the rule stands", x.ID, name,
			v.Name)
	case !slices.Contains(r.consent.listed, x.ID) && superseded.Before(r.consent.at.Add(-clocksAgree)):
		w.violate(
			"version %s of %s in %s is disabled, and the operator's consent does not list it",
			x.ID,
			name,
			v.Name,
		)
	}
	if since := w.now.Sub(r.last); !r.last.IsZero() && !r.turned && r.disabling != x.ID &&
		since < rule.Between()-clocksAgree {
		w.violate(
			"version %s of %s in %s is disabled %s after version %s was, and the rule says %s",
			x.ID,
			name,
			v.Name,
			since,
			r.disabling,
			rule.Between(),
		)
	}
	w.judgeNewestProven(v, &rec, g, x)
	r.last, r.turned, r.disabling = w.now, w.acting.turned(), x.ID
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// judgeNewestProven fails unless, in this very step, a version of a later generation worked in the vault, and the HSM
// opened what it closed. The HSM has no part in the proof of a key that only signs.
func (w *World) judgeNewestProven(v *vault, rec *record.Record, g *record.Generation, x *version) {
	for _, y := range v.content(rec.Key).versions {
		later, p := holderOf(rec, v.URL, y.ID)
		if later == nil || later.Number <= g.Number || y.used.Before(w.acting.began) {
			continue
		}
		ops := p.Operations
		if len(ops) == 0 {
			ops = w.acting.under.Operations
		}
		pair, _ := key.ProofPair(ops)
		if o := w.hsm.pair(later.ID); pair[0] == key.Sign || o != nil && !o.opened.Before(w.acting.began) {
			return
		}
	}
	w.violate(
		"version %s of %s in %s is disabled, and the newest was not proven in the same step",
		x.ID,
		rec.Key,
		v.Name,
	)
}

// judgeConsent follows the consent of a key by what is recorded.
func (w *World) judgeConsent(was, is *record.Record, entries []chain.Entry) {
	w.judgeReplacing(is, entries)
	r := &w.managed(is.Key).retiring
	for _, e := range entries {
		switch e.Event {
		case chain.Adopted, chain.EnableIntended, chain.RetireConsentEnded:
			r.consent = nil
			if e.Event == chain.EnableIntended && len(is.Enabling) == 0 {
				w.violate("the record of %s lacks the request to enable version %s", is.Key, e.Fields["version"])
			}
		case chain.RetireConsented:
			if e.Actor != operatorName || e.Fields["digest"] != r.digest {
				w.violate("the consent to the retire rule of %s is %s's, or not to what was shown", is.Key, e.Actor)
			}
			r.consent = &consented{is.Consent.Rule, w.now, slices.Clone(is.Consent.Versions)}
		}
	}
	for _, e := range was.Enabling {
		ended := entries[0].Event == chain.Enabled || entries[0].Event == chain.EnableAborted ||
			entries[0].Event == chain.Adopted
		if !ended &&
			!slices.ContainsFunc(is.Enabling, func(x record.Enabling) bool { return x.Version == e.Version }) {
			w.violate("the request to enable version %s of %s is gone after %q", e.Version, is.Key, entries[0].Event)
		}
	}
	if is.Consent != nil && r.consent == nil && entries[0].Event != chain.RetireConsentEnded &&
		(was.Consent == nil || entries[0].Event == chain.Adopted || entries[0].Event == chain.EnableIntended) {
		w.violate("the record of %s has a consent to the retire rule after %q", is.Key, entries[0].Event)
	}
}

// judgeChangedRule fails if a step leaves a consent to another rule than the configured one standing.
func (w *World) judgeChangedRule(d *daemon, k *managed, step string) {
	rec := w.store.records[k.policy.Key]
	if rec.Consent != nil && d.under.Retire == k.policy.Retire && rec.Consent.Rule != d.under.Retire &&
		!strings.HasPrefix(step, "enable") && !d.down {
		w.violate(
			"the consent to the rule %v of %s stands after %q, and the rule is %v",
			rec.Consent.Rule,
			rec.Key,
			step,
			d.under.Retire,
		)
	}
}

// judgeEnable fails unless an operator asked for it.
func (w *World) judgeEnable(v *vault, name string, x *version) {
	rec := w.store.records[name]
	g, _ := holderOf(&rec, v.URL, x.ID)
	if g == nil || !w.store.intents[intent{chain.EnableIntended, g.ID, v.URL}] {
		w.violate("version %s of %s in %s is enabled before its intent is in the record", x.ID, name, v.Name)
	}
}

func (v *vault) oweEnabling(name string, x *version) {
	v.w.store.owe(owing{
		key:    name,
		effect: "version " + x.ID + " of " + name + " was enabled in " + v.Name,
		recordedBy: func(e chain.Entry, _ *record.Record) bool {
			return e.Event == chain.Enabled && e.Fields["version"] == x.ID
		},
	})
}

// judgeEnabled fails if, in the end, a version that an operator asked for is still to be enabled.
func (w *World) judgeEnabled(k *managed, rec *record.Record) {
	if len(rec.Enabling) > 0 && w.now.Sub(k.retiring.enableAt) > 2*time.Hour {
		w.violate("version %s of %s is still to be enabled", rec.Enabling[0].Version, rec.Key)
	}
}

// judgeRetired fails if, in the end, a version of the oldest generation that is to be retired is still enabled,
// although nothing speaks against it for half a day.
func (w *World) judgeRetired(v *vault, rec *record.Record, g *record.Generation, p *record.Placement, x *version) {
	k := w.managed(rec.Key)
	r, rule := &k.retiring, k.policy.Retire
	if newest := v.newest(rec.Key); !newest.Enabled || v.expired(newest) != nil || rule.Never() ||
		rec.Replacement != nil {
		return // consumers may have to go back to an older version
	}
	oldest := 0
	for _, v := range w.vaults {
		for _, x := range rec.Retirable(v.URL) {
			if oldest == 0 || x.Generation.Number < oldest {
				oldest = x.Generation.Number
			}
		}
	}
	if p.State != key.Superseded || g.Deactivated.IsZero() || g.Number != oldest || r.consent == nil {
		return
	}
	last := lastIn(rec, v.URL)
	if newest, _ := placementOf(rec, last.Attempt); newest == nil || !newest.LostInHSM.IsZero() {
		return
	}
	due := later(v.supersededAt(rec, rec.Key, g.Number), g.Deactivated).Add(rule.DisableAfter)
	due = later(due, later(r.consent.at, r.last.Add(rule.Between())))
	due = later(due, rec.Doubted.Here.Add(rule.Between()))
	left, ok := w.vacant(v, rec, g, x)
	if !ok {
		return
	}
	due = later(due, left)
	if w.now.Sub(due) > 12*time.Hour {
		w.violate("version %s of %s in %s (generation %d) is enabled %s after it was to be disabled", x.ID, rec.Key,
			v.Name, g.Number, w.now.Sub(due))
	}
}
