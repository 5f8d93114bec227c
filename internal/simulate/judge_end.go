package simulate

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// judgeDue: some days after the last fault, nothing that is due is left undone.
func (w *World) judgeDue(k *managed) {
	rec := w.store.records[k.policy.Key]
	if rec.Hold != nil {
		w.violate("%s is still held, days after the last fault: %s", rec.Key, rec.Hold.Reason)
	}
	const patience = 2 * time.Hour
	due := k.policy.Schedule.Next(rec.LastRotation()).Add(k.policy.Spread + patience)
	if due.Before(w.now) {
		w.violate(
			"the rotation of %s is overdue since %s, days after the last fault",
			rec.Key,
			due.Format(time.DateTime),
		)
	}
}

// judgePace: keyd does not spin.
func (w *World) judgePace(t *turn) {
	const most = 200 // steps of one key within a minute
	if w.now.Sub(t.minute) > time.Minute {
		t.minute, t.busy = w.now, 0
	}
	if t.busy++; t.busy > most {
		w.violate("keyd spins: %d steps within a minute, the last: %s", most, t.last)
	}
}

// judgeEnd is the judgement on one key when all is quiet.
func (w *World) judgeEnd(k *managed) {
	rec := w.store.records[k.policy.Key]
	if rec.Hold != nil {
		w.violate("%s is held in the end: %s", rec.Key, rec.Hold.Reason)
	}
	if len(rec.Requests) > 0 {
		w.violate("%s has a request for a rotation that nobody answered", rec.Key)
	}
	last := rec.Latest()
	if last == nil || last.Finished.IsZero() || !last.Usable() {
		w.violate("%s has no finished generation in the end", rec.Key)
	}
	for _, v := range w.vaults {
		w.judgeVault(v, &rec, last)
	}
	for _, o := range w.hsm.objects {
		if o.label.Key == rec.Key && !w.hsm.pinned[o.id] {
			w.violate("the HSM still has %s under %s, which never was a generation's pair", o.label, o.id)
		}
	}
	w.judgeSparesEnd(k, &rec)
	for _, g := range rec.Generations {
		if g.LostInHSM.IsZero() && g.Fingerprint != "" && w.hsm.find(g.ID) == nil {
			w.violate("lost: the pair of generation %d of %s is not in the HSM", g.Number, rec.Key)
		}
	}
}

// usurped reports whether another version was taken for the one of the attempt: a
// stranger's with its tag. One that was damaged on its way has nothing else to be told by.
func (v *vault) usurped(rec *record.Record, x *version) bool {
	_, p := placementOf(rec, x.attempt)
	if p == nil || p.Version == "" {
		return false
	}
	y := v.byID(rec.Key, p.Version)
	return y != nil && y.foreign
}

// judgeRetired: what the retire rule has asked to be disabled for half a day is.
func (w *World) judgeRetired(v *vault, rec *record.Record, g *record.Generation, p *record.Placement, x *version) {
	rule := w.managed(rec.Key).policy.Retire
	since := v.supersededAt(rec, rec.Key, g.Number)
	if g.Deactivated.After(since) {
		since = g.Deactivated
	}
	if newest := v.newest(rec.Key); !newest.Enabled || v.expired(newest) != nil {
		return // consumers may have to go back to what is older
	}
	due := !rule.Never() && p.State == key.Superseded && !g.Deactivated.IsZero() && g.In(v.URL) == p
	if due && w.now.Sub(since) > rule.DisableAfter+12*time.Hour {
		w.violate(
			"version %s of %s in %s (generation %d) is enabled %s after it was superseded, and the rule says %s",
			x.ID,
			rec.Key,
			v.Name,
			g.Number,
			w.now.Sub(since),
			rule.DisableAfter,
		)
	}
}

// judgeIntended: in a quiet time the newest version is what was placed last, unless it may
// not be placed again; hours after another has come over it, keyd has repaired that.
func (w *World) judgeIntended(k *managed) {
	rec := w.store.records[k.policy.Key]
	if rec.Hold != nil || w.now.Sub(rec.HoldLifted) < 3*time.Hour {
		return // a person looks, or has just looked
	}
	for _, v := range w.vaults {
		last := lastIn(&rec, v.URL)
		g, _ := placementOf(&rec, last.Attempt)
		if g == nil || last.State != key.Proven || !g.Usable() {
			continue
		}
		if _, configured := k.policy.Vault(v.URL); !configured {
			continue
		}
		newest := v.newest(rec.Key)
		if newest != nil && newest.late && newest.modulus.print == g.Fingerprint {
			continue // a late duplicate that was damaged on its way: its proofs alone can tell, and there are none here
		}
		if newest != nil && newest.mat.print != g.Fingerprint && w.now.Sub(newest.landed) > 3*time.Hour {
			w.violate(
				"the newest version of %s in %s is not generation %d, which was placed last, and nobody repairs it",
				rec.Key,
				v.Name,
				g.Number,
			)
		}
	}
}

// judgeVault: the newest version is the latest generation, every version is
// accounted for, and every one of ours works.
func (w *World) judgeVault(v *vault, rec *record.Record, last *record.Generation) {
	newest := v.newest(rec.Key)
	if newest == nil || newest.mat.print != last.Fingerprint {
		w.violate("the newest version of %s in %s is not generation %d", rec.Key, v.Name, last.Number)
	}
	for _, x := range v.content(rec.Key).versions {
		if x.foreign {
			continue
		}
		g, p := holderOf(rec, v.URL, x.ID)
		if p == nil && w.hsm.made[x.modulus.print] == nil && slices.Contains(rec.Known[v.URL], x.ID) {
			continue // damaged on its way, and then the record was lost
		}
		if p == nil && w.hsm.made[x.modulus.print] == nil && v.usurped(rec, x) {
			continue
		}
		if p == nil {
			w.violate("orphaned: version %s of %s in %s is in no record", x.ID, rec.Key, v.Name)
		}
		if x.mat.print != g.Fingerprint {
			continue // damaged on its way, and refuted
		}
		if x.retired {
			continue
		}
		w.judgeRetired(v, rec, g, p, x)
		if !x.Enabled {
			w.violate("lost: version %s of %s in %s is disabled", x.ID, rec.Key, v.Name)
		}
		secret := []byte(rec.Key)
		c, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, x.modulus.pub, secret, nil)
		if err != nil {
			panic(err)
		}
		if got, err := x.mat.open(c); err != nil || !bytes.Equal(got, secret) {
			w.violate("lost: version %s of %s in %s does not unwrap", x.ID, rec.Key, v.Name)
		}
	}
}
