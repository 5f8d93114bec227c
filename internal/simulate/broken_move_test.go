package simulate

import (
	"context"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

var brokenMoves = []breakage{
	{
		name:   "keyd repeats the move of a consumer blindly",
		first:  15,
		caught: `^doubled: keyd moves r\d+ a second time by one intent$`,
		breaks: everyMove(func(w *World, m rotate.Move, move mover) error {
			err := move(context.Background(), m)
			if err != nil && key.ClassOf(err) == key.Ambiguous {
				err = move(context.Background(), m)
			}
			return err
		}),
		world: entrustedWorld,
	},
	{
		name:   "keyd moves a consumer to a version that is not the newest proven one",
		first:  7,
		caught: `^keyd moves r\d+ from version \w+ of \S+ to \w+, and the record has no such intent$`,
		breaks: everyMove(func(w *World, m rotate.Move, move mover) error {
			for _, x := range w.vault(m.Vault.URL).content(m.Key).versions {
				if x.ID != m.Version && x.ID != m.From {
					m.Version = x.ID
				}
			}
			return move(context.Background(), m)
		}),
		world: entrustedWorld,
	},
	{
		name:   "keyd moves a consumer without an intent in the record",
		caught: `^keyd moves r\d+ from version \w+ of \S+ to \w+, and the record has no such intent$`,
		breaks: func(w *World, c Parts) Parts {
			c.Consumers = &hastyLooks{c.Consumers, w}
			return c
		},
		world: entrustedWorld,
	},
	{
		name:   "keyd takes every failed move for one that did not happen",
		first:  15,
		caught: `^doubled: keyd moves r\d+ while an earlier move may still happen$`,
		breaks: everyMove(func(_ *World, m rotate.Move, move mover) error {
			if err := move(context.Background(), m); err != nil {
				return failed(key.Retry, "model: %v", err)
			}
			return nil
		}),
		world: entrustedWorld,
	},
}

type mover = func(context.Context, rotate.Move) error

// everyMove changes what keyd does to move a consumer.
func everyMove(change func(*World, rotate.Move, mover) error) breaks {
	return func(w *World, c Parts) Parts {
		move := c.Repoint
		c.Repoint = func(_ context.Context, m rotate.Move) error { return change(w, m, move) }
		return c
	}
}

// hastyLooks moves whoever is behind, as soon as it sees them.
type hastyLooks struct {
	observe.Consumers
	w *World
}

func (h *hastyLooks) Look(ctx context.Context, p key.Policy) record.Usage {
	u := h.Consumers.Look(ctx, p)
	for _, c := range u.Consumers {
		v, ours := p.Vault(c.Vault)
		if !ours || c.Asked == "" {
			continue
		}
		if x := h.w.vault(v.URL).newest(p.Key); x != nil && x.ID != c.Asked {
			_ = h.w.repoint(ctx, rotate.Move{Consumer: c.ID, Vault: v, Key: p.Key, From: c.Asked, Version: x.ID})
		}
	}
	return u
}

// entrustedWorld gives every key two AI accounts that keyd moves.
func entrustedWorld(w *World) {
	if w.inhabited {
		return // a later start changes nothing
	}
	peopledWorld("microsoft.cognitiveservices/accounts", func(_ int, _ *managed, r *resource) { r.pinned = true })(w)
	w.entrust(true)
	for _, k := range w.keys {
		k.policy = k.home
	}
}
