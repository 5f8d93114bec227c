package simulate

import (
	"context"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// These are the operators who consent to retire rules, enable versions again, and accept an old copy of the state. They
// take no random numbers, so that worlds without a retire rule are what they would be without these operators.

// pauses are the pauses between two disablings, by the seed.
var pauses = []time.Duration{time.Hour, 3 * time.Hour, 6 * time.Hour}

func (w *World) pauseOf(i int) time.Duration {
	return pauses[(w.result.Seed+uint64(i))%uint64(len(pauses))]
}

// attendConsents has an operator consent to each retire rule that waits for it, some hours later.
func (w *World) attendConsents() {
	for _, k := range w.keys {
		if k.policy.Retire.Never() || k.policy.Retained || k.retiring.attended ||
			w.store.records[k.policy.Key].Hold != nil ||
			w.consentStands(k) {
			continue
		}
		k.retiring.attended = true
		w.later(time.Hour, func() {
			w.soon = append(w.soon, func() {
				k.retiring.attended = false
				w.consent(k)
			})
		})
	}
}

// consentStands reports whether keyd has a consent that covers all that is to be retired.
func (w *World) consentStands(k *managed) bool {
	rec := w.store.records[k.policy.Key]
	if !rec.ConsentsTo(k.policy.Retire) {
		return false
	}
	for _, v := range k.policy.Vaults {
		for _, x := range rec.Retirable(v.URL) {
			if !rec.Consent.Covers(x) {
				return false
			}
		}
	}
	return true
}

// consent does what keyd retire KEY does.
func (w *World) consent(k *managed) {
	d := w.console()
	if d == nil || k.policy.Retire.Never() || k.policy.Retained {
		return
	}
	d.act(func() {
		ctx, p := context.Background(), d.policy(k.policy.Key)
		shown, err := d.r.Retirement(ctx, p, p.Retire)
		if err != nil {
			w.log("the retirement of %s: %v", p.Key, err)
			return
		}
		if shown.Never && w.calm {
			w.violate("%s has a retire rule, and keyd shows none", p.Key)
		}
		if w.calm {
			w.judgeShown(k, shown)
		}
		k.retiring.digest = shown.Digest
		err = d.r.ConsentToRetire(ctx, p, operatorName, "as shown", shown.Digest)
		w.log("consent to the retire rule of %s, with %d versions: %v", p.Key, len(shown.Versions), err)
		d.poke(k)
	})
}

// judgeShown fails if what the operator is shown lacks a version that the record has as superseded.
func (w *World) judgeShown(k *managed, shown status.Retirement) {
	rec := w.store.records[k.policy.Key]
	for _, v := range k.policy.Vaults {
		for _, x := range rec.Retirable(v.URL) {
			if !slices.ContainsFunc(shown.Versions, func(s status.Retiring) bool { return s.Version == x.Version }) {
				w.violate("keyd does not show that version %s of %s is to be retired", x.Version, k.policy.Key)
			}
		}
	}
}

// regret has an operator enable every third version that keyd disables again, some hours later: a service still needs
// it.
func (w *World) regret(name, version string) {
	if w.disabled++; w.disabled%3 != 0 || w.calm {
		return
	}
	k := w.managed(name)
	w.later(2*time.Hour+time.Duration(w.disabled)*17*time.Minute, func() {
		w.soon = append(w.soon, func() { w.askEnable(k, version) })
	})
}

func (w *World) askEnable(k *managed, version string) {
	d := w.console()
	if d == nil || k.policy.Retained {
		return
	}
	d.act(func() {
		p := d.policy(k.policy.Key)
		err := d.r.AskEnable(context.Background(), p, operatorName, "a service needs it", version)
		w.log("enable version %s of %s: %v", version[:6], p.Key, err)
		k.retiring.enableAt = w.now
		d.poke(k)
	})
}

// seal is how the HSM side signs the audit chain: not after the state was put back.
func (w *World) seal(ctx context.Context) error {
	if w.unsealed {
		return failed(key.Refused, "model: the audit chain goes back")
	}
	if h := w.acting.host; h != nil {
		return h.doubtRecords(ctx)
	}
	return nil
}

// acceptHead has root accept the old copy of the state, some hours later. That ends every consent.
func (w *World) acceptHead() {
	w.unsealed = true
	w.later(3*time.Hour, func() {
		w.soon = append(w.soon, func() {
			d := w.console()
			if d == nil || !w.unsealed {
				w.retryAccepting()
				return
			}
			done := false
			d.act(func() {
				err := d.r.EndConsents(d.ctx(), operatorName, "an old copy of the state was accepted")
				w.log("the old copy of the state is accepted: %v", err)
				done = err == nil
			})
			if w.unsealed = !done; !done {
				w.retryAccepting()
			}
		})
	})
}

func (w *World) retryAccepting() {
	if w.unsealed {
		w.acceptHead()
	}
}
