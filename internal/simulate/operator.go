package simulate

import (
	"context"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// operatorName is the person who does what docs/runbooks.md says, some hours after
// the alert.
const operatorName = "uid 0 (root)"

// attend has an operator look at every key that is held.
func (w *World) attend() {
	if w.calm {
		w.enable()
	}
	w.hosts.attend()
	w.attendKEKs()
	w.attendConsents()
	w.attendMoves()
	for _, k := range w.keys {
		if w.store.records[k.policy.Key].Hold == nil || k.attended {
			continue
		}
		k.attended = true
		w.later(w.between(10*time.Minute, 8*time.Hour), func() {
			w.soon = append(w.soon, func() {
				k.attended = false
				w.lift(k)
			})
		})
	}
}

// enable enables versions that keyd disabled by the retire rule, and that a restored
// record has as not yet proven. keyd reports such a disabled version.
func (w *World) enable() {
	for _, v := range w.vaults {
		for _, k := range w.keys {
			rec := w.store.records[k.policy.Key]
			for _, x := range v.content(rec.Key).versions {
				if !x.retired {
					continue
				}
				if _, p := holderOf(&rec, v.URL, x.ID); p != nil && p.State == key.Imported {
					v.alter(x, func(is *key.Version) { is.Enabled = true })
					x.retired = false
					w.log("the operator enables version %s of %s in %s", x.ID[:6], rec.Key, v.Name)
				}
			}
		}
	}
}

// console is a daemon that takes the operator's commands; nil when none is up.
func (w *World) console() *daemon {
	var up []*daemon
	for _, d := range w.daemons {
		if d.heeds() {
			up = append(up, d)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return pick(w, up)
}

// lift removes the cause of a key's hold, and then the hold.
func (w *World) lift(k *managed) {
	d := w.console()
	h := w.store.records[k.policy.Key].Hold
	if d == nil || h == nil {
		return
	}
	w.log("the operator attends to %s, held for %s", k.policy.Key, h.Code)
	w.result.Holds[h.Code]++
	switch h.Code {
	case key.HoldForeign, key.HoldNameTaken, key.HoldRecordBehind, key.HoldVersionsMissing:
		w.adopt(d, k)
		return
	case key.HoldKeyDeleted:
		w.vault(h.Vault).recover(k.policy.Key)
	case key.HoldObjectMissing:
		if !w.calm && w.chance(4) {
			w.adopt(d, k)
			return
		}
		w.putBack(k)
		if w.goneForGood(k) {
			w.adopt(d, k)
			return
		}
	case key.HoldRefuted:
		w.vault(h.Vault).damage = ""
	}
	w.resume(d, k)
}

func (w *World) resume(d *daemon, k *managed) {
	d.act(func() {
		err := d.r.Resume(context.Background(), k.policy.Key, operatorName, "looked at it")
		w.log("resume %s: %v", k.policy.Key, err)
		d.poke(k)
	})
}

// adopt consents to what the daemon shows, unless it calls a version of keyd's own
// foreign. The operator knows who imported what, and in that case has keyd look again.
func (w *World) adopt(d *daemon, k *managed) {
	d.act(func() {
		ctx := context.Background()
		p := d.policy(k.policy.Key)
		shown, err := d.r.Adoption(ctx, p, false)
		switch {
		case err != nil:
			w.log("adoption of %s: %v", p.Key, err)
			return
		case w.mistaken(k, shown):
			w.log("the operator knows better than the adoption of %s", p.Key)
		default:
			err = d.r.Adopt(ctx, p, operatorName, "as shown", shown.Token)
			w.log("adopt %s: %v", p.Key, err)
		}
		if err != nil || w.mistaken(k, shown) {
			err = d.r.Resume(ctx, p.Key, operatorName, "look again")
			w.log("resume %s: %v", p.Key, err)
		}
		d.poke(k)
	})
}

func (w *World) mistaken(k *managed, shown status.Adoption) bool {
	for _, v := range w.vaults {
		for _, id := range shown.Foreign[v.Name] {
			if x := v.byID(k.policy.Key, id); x != nil && !x.foreign && w.hsm.made[x.modulus.print] != nil {
				return true
			}
		}
	}
	return false
}

func (d *daemon) poke(k *managed) {
	if d.host == nil {
		d.turns[k.policy.Key].wake = d.w.now
		return
	}
	for _, other := range d.w.daemons { // the leader follows the chain
		if t := other.turns[k.policy.Key]; t != nil {
			t.wake = d.w.now
		}
	}
}

// putBack puts a key's pairs back into the HSM from its backup.
func (w *World) putBack(k *managed) {
	for _, o := range slices.Clone(w.hsm.removed) {
		if o.label.Key == k.policy.Key {
			w.hsm.removed = slices.DeleteFunc(w.hsm.removed, func(r *object) bool { return r == o })
			w.hsm.put(o)
			w.log("the operator puts %s back into the HSM", o.label)
		}
	}
	for _, o := range w.hsm.objects {
		if o.label.Key == k.policy.Key && w.hsm.pinned[o.id] && o.half {
			o.half, w.hsm.listed = false, nil
		}
	}
}

// goneForGood reports whether no backup has what the record, an old copy, calls a spare.
func (w *World) goneForGood(k *managed) bool {
	rec := w.store.records[k.policy.Key]
	return slices.ContainsFunc(rec.Spares, func(s record.Generation) bool {
		return s.Fingerprint != "" && w.hsm.find(s.ID) == nil
	})
}

// requestRotation does what keyd rotate --now does.
func (w *World) requestRotation(k *managed, compromise bool) {
	d := w.console()
	if d == nil {
		return
	}
	d.act(func() {
		p := d.policy(k.policy.Key)
		want := rotate.Wanted{Actor: operatorName, Reason: "on request", Compromise: compromise}
		if len(p.Vaults) > 1 && w.chance(4) {
			want.Without = []string{pick(w, p.Vaults).URL}
		}
		floor := k.highest + 1
		q, joined, err := d.r.Request(context.Background(), p, want)
		w.log("rotate --now %s compromise %v without %v: joined %v %v", p.Key, compromise, want.Without, joined, err)
		if err == nil && compromise && !joined {
			k.compromise[q.ID] = floor
			w.plotReplacing(k)
		}
		d.poke(k)
	})
}

func (w *World) pause(k *managed) {
	if d := w.console(); d != nil {
		d.act(func() {
			err := d.r.Pause(context.Background(), k.policy.Key, operatorName, "maintenance")
			w.log("pause %s: %v", k.policy.Key, err)
		})
	}
}

// repair removes what meddlers and damage left behind, when the storm is over.
func (w *World) repair() {
	for _, v := range w.vaults {
		v.damage, v.trouble = "", trouble{}
		if k := v.newestKEK(); k != nil {
			w.hsm.approve(k)
		}
		for _, k := range w.keys {
			c := v.content(k.policy.Key)
			v.recover(k.policy.Key)
			for _, x := range c.versions {
				if x.meddled && (w.hosts == nil || !x.retired) {
					v.alter(x, func(is *key.Version) { is.Enabled = true })
					x.meddled = false
				}
			}
		}
	}
	w.hsm.trouble, w.store.trouble, w.azure = trouble{}, trouble{}, trouble{}
	for _, k := range w.keys {
		w.putBack(k)
		k.policy = k.home
	}
	for _, d := range w.daemons {
		if d.offset != 0 {
			w.setClock(d, 0)
		}
		if d.down {
			d.start()
		}
		d.reload()
	}
}
