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

// judgeDue fails if, some days after the last fault, the key is held or a rotation is overdue.
func (w *World) judgeDue(k *managed) {
	rec := w.store.records[k.policy.Key]
	if rec.Hold != nil {
		w.violate("%s is still held, days after the last fault: %s", rec.Key, rec.Hold.Reason)
	}
	if k.replacing.out {
		return
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

// judgePace fails if keyd spins.
func (w *World) judgePace(t *turn) {
	const most = 200 // steps of one key within a minute
	if w.now.Sub(t.minute) > time.Minute {
		t.minute, t.busy = w.now, 0
	}
	if t.busy++; t.busy > most {
		w.violate("keyd spins: %d steps within a minute, the last: %s", most, t.last)
	}
}

// judgeEnd judges one key in the end, when all is quiet.
func (w *World) judgeEnd(k *managed) {
	rec := w.store.records[k.policy.Key]
	if rec.Hold != nil {
		w.violate("%s is held in the end: %s", rec.Key, rec.Hold.Reason)
	}
	if k.replacing.out {
		return // it is out of use
	}
	if len(rec.Requests) > 0 {
		w.violate("%s has a request that no rotation has answered", rec.Key)
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
			w.violate("the HSM still has %s under %s, which was never the pair of a generation", o.label, o.id)
		}
	}
	w.judgeSparesEnd(k, &rec)
	w.judgeMoved(k)
	w.judgeEnabled(k, &rec)
	for _, g := range rec.Generations {
		if g.LostInHSM.IsZero() && g.Fingerprint != "" && w.hsm.find(g.ID) == nil {
			w.violate("lost: the pair of generation %d of %s is not in the HSM", g.Number, rec.Key)
		}
	}
}

// usurped reports whether keyd took a stranger's version for that of the attempt, because
// it carries the attempt's tag. A version that was damaged on its way can be recognised by
// nothing else.
func (v *vault) usurped(rec *record.Record, x *version) bool {
	_, p := placementOf(rec, x.attempt)
	if p == nil || p.Version == "" {
		return false
	}
	y := v.byID(rec.Key, p.Version)
	return y != nil && y.foreign
}

// judgeIntended fails if, in a quiet time, the newest version is not of the generation that
// was placed last and may be placed again, and keyd has not repaired that within an hour
// after its next look.
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
		if newest != nil && newest.mat.print != g.Fingerprint && w.now.Sub(newest.landed) > w.nextLook()+time.Hour {
			w.violate(
				"the newest version of %s in %s is not generation %d, which was placed last, and nobody repairs it",
				rec.Key,
				v.Name,
				g.Number,
			)
		}
	}
}

// nextLook is how long it takes at most until a daemon looks at a quiet key again. Of several hosts only the leader
// looks, whichever it is.
func (w *World) nextLook() time.Duration {
	choose := slices.Min[[]time.Duration]
	if w.hosts != nil {
		choose = slices.Max
	}
	looks := make([]time.Duration, 0, len(w.daemons))
	for _, d := range w.daemons {
		looks = append(looks, d.look)
	}
	return choose(looks)
}

// judgeVault fails unless the newest version is the latest generation's and was proven,
// the record has every version, and every version of keyd's works.
func (w *World) judgeVault(v *vault, rec *record.Record, last *record.Generation) {
	newest := v.newest(rec.Key)
	if newest == nil || newest.mat.print != last.Fingerprint {
		w.violate("the newest version of %s in %s is not generation %d", rec.Key, v.Name, last.Number)
	}
	if _, p := holderOf(rec, v.URL, newest.ID); p != nil && (p.Version != newest.ID || p.State != key.Proven) {
		w.violate("the newest version %s of %s in %s was never proven", newest.ID, rec.Key, v.Name)
	}
	for _, x := range v.content(rec.Key).versions {
		if x.foreign {
			continue
		}
		g, p := holderOf(rec, v.URL, x.ID)
		if p == nil && w.hsm.made[x.modulus.print] == nil && slices.Contains(rec.Known[v.URL], x.ID) {
			continue // it was damaged on its way, and then the record was lost
		}
		if p == nil && w.hsm.made[x.modulus.print] == nil && v.usurped(rec, x) {
			continue
		}
		if p == nil {
			w.violate("orphaned: version %s of %s in %s is in no record", x.ID, rec.Key, v.Name)
		}
		if x.mat.print != g.Fingerprint {
			continue // it was damaged on its way, and refuted
		}
		if x.retired {
			w.judgeUndone(v, rec.Key, g, p, x)
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
