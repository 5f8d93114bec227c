package simulate

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// meddlings is the number of ways in which meddle meddles. The first amidCalls of them
// may also come in the middle of a call.
const meddlings, amidCalls = 25, 19

// meddle does one thing that people, configurations and clocks may do at any time.
func (w *World) meddle(way int) {
	k := pick(w, w.keys)
	v := pick(w, w.vaults)
	w.result.Meddled++
	switch way {
	case 0, 1, 2:
		w.requestRotation(k, false)
	case 3:
		w.requestRotation(k, true)
	case 4:
		w.pause(k)
	case 5, 6:
		w.reconfigure(k)
	case 7, 8, 9:
		w.turnClock()
	case 10:
		w.deleteKey(v, k)
	case 11:
		w.disable(v, k)
	case 12, 13:
		w.importForeign(v, k)
	case 14, 15:
		w.changeTags(v, k)
	case 16:
		w.removePair(k)
	case 17:
		w.changeKEK(v)
	case 18:
		v.damage = pick(w, []string{"modulus", "private", ""})
		w.log("%s now damages what it imports: %q", v.Name, v.damage)
	case 19:
		w.restart()
	case 20:
		w.backup()
	case 21:
		w.restore()
	case 22:
		w.purge(v, k)
	case 23, 24:
		w.requestKEK(v)
	}
}

func (w *World) deleteKey(v *vault, k *managed) {
	c := v.content(k.policy.Key)
	if len(c.versions) == 0 {
		return
	}
	c.remove(w.now)
	w.log("somebody deletes %s in %s", k.policy.Key, v.Name)
	w.later(w.between(time.Minute, 10*time.Hour), func() { v.recover(k.policy.Key) })
}

// purge destroys all that a vault has of a key. The vault then shows only that it is gone.
func (w *World) purge(v *vault, k *managed) {
	c := v.content(k.policy.Key)
	if len(c.versions) == 0 || c.deleted {
		return
	}
	w.log("somebody purges %s in %s", k.policy.Key, v.Name)
	for _, x := range c.versions {
		w.store.owed = slices.DeleteFunc(w.store.owed, func(o owing) bool { return strings.Contains(o.effect, x.ID) })
	}
	c.versions, c.purged = nil, w.now
}

func (w *World) disable(v *vault, k *managed) {
	if c := v.content(k.policy.Key); len(c.versions) > 0 {
		x := pick(w, c.versions)
		if x.Enabled {
			v.alter(x, func(is *key.Version) { is.Enabled = false })
			x.meddled = true
			w.log("somebody disables version %s of %s in %s", x.ID[:6], k.policy.Key, v.Name)
		}
	}
}

// importForeign makes a version that is not keyd's, sometimes with the tags of one
// that is.
func (w *World) importForeign(v *vault, k *managed) {
	c := v.content(k.policy.Key)
	var tags map[string]string
	if len(c.versions) > 0 && w.chance(3) {
		tags = maps.Clone(pick(w, c.versions).Tags)
	}
	if c.deleted {
		return
	}
	x := v.add(k.policy.Key, w.primes.draw(w.rnd, 2048), tags)
	x.foreign = true
	w.log("somebody imports a foreign version of %s into %s, with tags: %v", k.policy.Key, v.Name, tags != nil)
}

func (w *World) changeTags(v *vault, k *managed) {
	c := v.content(k.policy.Key)
	if len(c.versions) == 0 {
		return
	}
	x, y := pick(w, c.versions), pick(w, c.versions)
	w.log("somebody changes the tags of version %s of %s in %s", x.ID[:6], k.policy.Key, v.Name)
	tags := maps.Clone(y.Tags)
	if w.chance(2) {
		tags = nil
	}
	v.alter(x, func(is *key.Version) { is.Tags = tags })
}

func (w *World) removePair(k *managed) {
	var own []*object
	for _, o := range w.hsm.objects {
		if o.label.Key == k.policy.Key && w.hsm.pinned[o.id] {
			own = append(own, o)
		}
	}
	if len(own) == 0 {
		return
	}
	o := pick(w, own)
	if w.chance(3) {
		o.half, w.hsm.listed = true, nil
		w.log("somebody removes half of %s", o.label)
		return
	}
	w.hsm.removed = append(w.hsm.removed, w.hsm.take(o.id))
	w.log("somebody removes %s from the HSM", o.label)
}

// turnClock sets one daemon's clock wrong, and most times right again later.
func (w *World) turnClock() {
	d := pick(w, w.daemons)
	jump := pick(
		w,
		[]time.Duration{
			w.between(time.Second, 5*time.Minute),
			w.between(5*time.Minute, 2*time.Hour),
			w.between(2*time.Hour, 80*time.Hour),
		},
	)
	if w.chance(2) {
		jump = -jump
	}
	w.setClock(d, jump)
	if !w.chance(4) {
		w.later(w.between(time.Minute, 12*time.Hour), func() { w.setClock(d, 0) })
	}
}

func (w *World) setClock(d *daemon, offset time.Duration) {
	d.offset, d.clockSet = offset, w.now
	w.log("the clock of %s is off by %s", d.name, offset)
}

// backup copies the state. restore puts the last copy in its place, or an empty state
// when there is no copy.
func (w *World) backup() {
	w.saved, w.savedVaults = maps.Clone(w.store.records), maps.Clone(w.store.vaults)
	w.log("somebody makes a copy of the state")
}

func (w *World) restore() {
	if w.hosts != nil {
		return // a store that lost changes is one of the hosts' own troubles
	}
	w.log("the state is lost; the copy put in its place has %d keys", len(w.saved))
	w.acceptHead()
	w.revert(state{w.saved, w.savedVaults}, func(was, _ uint64) uint64 { return was + 1 })
	for _, d := range w.daemons {
		d.start()
	}
}

// state is a copy of the state.
type state struct {
	records map[string]record.Record
	vaults  map[string]record.Vault
}

// revert puts a copy of the state in its place, with these revisions.
func (w *World) revert(to state, revision func(was, is uint64) uint64) {
	w.store.owed = nil // the audit is lost with it
	for _, v := range w.vaults {
		was, is := w.store.vaults[v.URL], to.vaults[v.URL].Clone()
		is.URL, is.Schema, is.Revision = v.URL, record.SchemaVersion, revision(was.Revision, is.Revision)
		w.store.vaults[v.URL], v.restored = is, w.now
		if is.Request != nil {
			v.wanted++
		}
	}
	for _, k := range w.keys {
		name := k.policy.Key
		was, is := w.store.records[name], to.records[name].Clone()
		is.Key, is.Schema, is.Revision = name, record.SchemaVersion, revision(was.Revision, is.Revision)
		w.store.records[name] = is
		k.highest = is.NextNumber() - 1
		k.retiring.consent = nil
		for _, g := range is.Generations {
			// Nobody knows any more of a generation that was begun and came to nothing.
			if g.GenerateBegun.IsZero() && w.hsm.pair(g.ID) == nil {
				delete(w.hsm.generated, g.ID)
			}
		}
		for _, g := range was.Generations {
			// Nobody knows any more of a pair that was pinned and never wrapped.
			remembered := slices.ContainsFunc(
				is.Generations,
				func(h record.Generation) bool { return h.ID == g.ID && h.Fingerprint != "" },
			)
			if o := w.hsm.pair(g.ID); o != nil && !o.wrapped && !remembered && is.SpareWithID(g.ID) == nil {
				delete(w.hsm.pinned, g.ID)
			}
		}
		w.restoreSpares(&was, &is)
	}
}

func (w *World) restart() {
	d := pick(w, w.daemons)
	w.log("%s is restarted", d.name)
	d.start()
}

// reconfigure changes one setting of a key's policy, or sets all of them back.
func (w *World) reconfigure(k *managed) {
	p := k.home
	p.Vaults = slices.Clone(p.Vaults)
	switch w.rnd.IntN(9) {
	case 0:
		p.Retained = true
	case 1:
		if len(p.Vaults) > 1 {
			i := w.rnd.IntN(len(p.Vaults))
			p.Vaults = slices.Delete(p.Vaults, i, i+1)
		}
	case 2:
		slices.Reverse(p.Vaults)
	case 3:
		p.Schedule = grid(w.between(2*time.Hour, 48*time.Hour))
	case 4:
		p.Operations = pick(w, operations())
	case 5:
		p.Retire.DisableAfter = pick(w, []time.Duration{0, w.between(time.Hour, 72*time.Hour)})
	case 6:
		p.Spares = w.rnd.IntN(4)
	case 7:
		p.Spec = key.RSA3072
	}
	k.policy = p
	w.log(
		"the configuration of %s: retained %v, %d vaults, schedule %v, %v, disable after %v, %s, %d spares",
		p.Key,
		p.Retained,
		len(p.Vaults),
		time.Duration(p.Schedule.(grid)),
		p.Operations,
		p.Retire.DisableAfter,
		p.Spec,
		p.Spares,
	)
	for _, d := range w.daemons {
		if !d.down {
			d.reload()
		}
	}
}

func operations() [][]key.Operation {
	return [][]key.Operation{
		{key.WrapKey, key.UnwrapKey},
		{key.WrapKey, key.UnwrapKey},
		{key.Encrypt, key.Decrypt},
		{key.Sign, key.Verify},
	}
}
