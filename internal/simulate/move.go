package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/service"
)

// atMove: a service often carries out a change after its answer was lost.
var atMove = append([]fault{late, late}, atVault...)

// mostLate is how late a service carries out a change whose answer was lost: before any operator asks again.
const mostLate = 10 * time.Minute

// entrust has keyd move half of the resources that are set to a version and that the configuration names. It draws from
// a source of its own, so that all else about the world stays as it is.
func (w *World) entrust(all bool) {
	draw := rand.New(rand.NewPCG(w.result.Seed, 18))
	for _, r := range w.resources {
		k := w.managed(r.key)
		if !r.pinned || !named(k.home, r.id) || !all && draw.IntN(2) == 0 {
			continue
		}
		r.entrusted, r.every = true, 0
		for i, c := range k.home.Consumers {
			if c.ID == r.id {
				k.home.Consumers[i].Follow = key.FollowKeyd
			}
		}
	}
}

// repoint is the call that sets a resource to another version.
func (w *World) repoint(ctx context.Context, m rotate.Move) error {
	err := w.begins(ctx, effect{"the moving of " + service.NameOf(m.Consumer),
		intent{chain.RepointIntended, "", m.Vault.URL}, plan.RepointTimeout, func() { w.judgeMove(m) }})
	if err != nil {
		return err
	}
	r := w.resource(m.Consumer)
	move := func() error {
		to, name := m.Vault, m.Key
		if m.NewKey != "" {
			to, name = m.NewVault, m.NewKey
		}
		x := w.vault(to.URL).byID(name, m.Version)
		switch {
		case r == nil || !r.back.IsZero():
			return failed(key.Refused, "model: 404, no resource %s", service.NameOf(m.Consumer))
		case r.vault.URL != m.Vault.URL || r.key != m.Key || r.pinned && r.uses != m.From || !r.pinned && m.From != "":
			return failed(key.Refused, "model: %s is not set to version %.6s", service.NameOf(r.id), m.From)
		case x == nil || !x.Enabled || w.vault(to.URL).expired(x) != nil:
			return failed(key.Refused, "model: %s cannot use version %.6s", service.NameOf(r.id), m.Version)
		}
		r.set(w.vault(to.URL), name, x.ID)
		w.result.Moved++
		return nil
	}
	return w.call("azure", &w.azure, "Repoint", atMove, move, nil, func() {
		delay := w.between(time.Second, mostLate)
		if r != nil {
			r.pending = w.now.Add(delay)
		}
		w.later(delay, func() { _ = move() })
	})
}

func (w *World) resource(id string) *resource {
	for _, r := range w.resources {
		if r.id == id {
			return r
		}
	}
	return nil
}

// judgeMove fails unless keyd moves a consumer by an intent in the record, for the first time by that one, and to the
// newest version of the key in that vault, which is proven.
func (w *World) judgeMove(m rotate.Move) {
	rec, name := w.store.records[m.Key], service.NameOf(m.Consumer)
	open := rec.Repointing
	if open == nil || open.Consumer != m.Consumer || open.Vault != m.Vault.URL || open.Version != m.Version ||
		open.From != m.From || open.NewKey != m.NewKey || open.NewVault != m.NewVault.URL {
		w.violate(
			"keyd moves %s from version %.6s of %s to %.6s, and the record has no such intent",
			name,
			m.From,
			m.Key,
			m.Version,
		)
	}
	intent := fmt.Sprintf("%s %s %d", m.Key, m.Consumer, open.At.UnixNano())
	if w.moved[intent] {
		w.violate("doubled: keyd moves %s a second time by one intent", name)
	}
	w.moved[intent] = true
	if r := w.resource(m.Consumer); r != nil && w.now.Before(r.pending) {
		w.violate("doubled: keyd moves %s while an earlier move may still happen", name)
	}
	url := m.Vault.URL
	if m.NewKey != "" {
		rec, url = w.store.records[m.NewKey], m.NewVault.URL
	}
	_, p := holderOf(&rec, url, m.Version)
	if newest := rec.NewestIn(url); p == nil || !p.Good() || newest.Placement != p {
		w.violate(
			"keyd moves %s to version %.6s of %s, which is not the newest proven one in %s",
			name,
			m.Version,
			rec.Key,
			m.Vault.Name,
		)
	}
}

// set sets the resource to a version of a key, whichever that is.
func (r *resource) set(v *vault, name, id string) {
	if name != r.key {
		r.entrusted = false // the configuration of the new key does not name it
	}
	r.vault, r.key = v, name
	r.move(id)
}

// attendMoves has an operator ask again for moves that failed.
func (w *World) attendMoves() {
	for _, k := range w.keys {
		if x := w.store.records[k.policy.Key].Repointing; x == nil || x.Open() || k.asking {
			continue
		}
		k.asking = true
		w.later(w.between(10*time.Minute, 8*time.Hour), func() {
			w.soon = append(w.soon, func() {
				k.asking = false
				if d := w.console(); d != nil {
					d.act(func() {
						err := d.r.AskRepoint(
							context.Background(),
							d.policy(k.policy.Key),
							operatorName,
							"mended",
							nil,
						)
						w.log("repoint %s: %v", k.policy.Key, err)
						d.poke(k)
					})
				}
			})
		})
	}
}

// judgeMoved fails if, in the end, a consumer that keyd moves is not on the newest version.
func (w *World) judgeMoved(k *managed) {
	for _, r := range w.resources {
		_, ours := k.policy.Vault(r.vault.URL)
		x := r.vault.newest(k.policy.Key)
		if r.key != k.policy.Key || !r.entrusted || !ours || !r.back.IsZero() || x == nil || r.uses == "" {
			continue
		}
		if quiet := w.now.Sub(later(r.born, r.moved)) > 12*time.Hour; quiet && x.Enabled &&
			r.vault.expired(x) == nil &&
			r.uses != x.ID {
			w.violate(
				"%s is still on version %.6s of %s in the end, and keyd was to move it",
				service.NameOf(r.id),
				r.uses,
				r.key,
			)
		}
	}
}
