package simulate

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

var brokenReplacements = []breakage{
	{
		name:   "keyd takes a consumer of a replaced key for one that has moved",
		caught: `^replaced: version \w+ of \S+ in \S+ is disabled, and \S+ uses the key$`,
		breaks: func(w *World, c Parts) Parts {
			c.Consumers = &hopefulLooks{c.Consumers, w}
			return c
		},
		world: replacedWorld,
	},
	{
		name:   "keyd disables a replaced key once its consumers have moved, without consent",
		caught: `^replaced: the record of \S+ has a consent after "consumer repointed", and nobody gave it$`,
		breaks: func(w *World, c Parts) Parts {
			return editedStore(chain.Repointed, func(rec *record.Record) {
				if rec.Replacement == nil {
					return
				}
				given := record.Consent{Rule: plan.ReplaceRule(w.managed(rec.Key).policy), At: w.now}
				for _, r := range rec.Replaceable() {
					given.Versions = append(given.Versions, r.Version)
				}
				_ = rec.ConsentToDisable(given)
			})(w, c)
		},
		world: replacedWorld,
	},
}

// hopefulLooks shows every consumer of a key that is replaced as one that has moved.
type hopefulLooks struct {
	observe.Consumers
	w *World
}

func (h *hopefulLooks) Look(ctx context.Context, p key.Policy) record.Usage {
	u := h.Consumers.Look(ctx, p)
	h.hope(p.Key, &u)
	return u
}

func (h *hopefulLooks) Last(name string) record.Usage {
	u := h.Consumers.Last(name)
	h.hope(name, &u)
	return u
}

func (h *hopefulLooks) hope(name string, u *record.Usage) {
	with := h.w.managed(name).replacing.with
	if with == "" {
		return
	}
	for i := range u.Consumers {
		c := &u.Consumers[i]
		if x := h.w.vault(c.Vault); x != nil && x.newest(with) != nil {
			c.Key, c.Uses, c.Since, c.Needs = with, x.newest(with).ID, h.w.begun, nil
		}
	}
}

// replacedWorld gives every key two storage accounts, and replaces each key.
func replacedWorld(w *World) {
	if w.inhabited {
		return // a later start changes nothing
	}
	peopledWorld("microsoft.storage/storageaccounts", func(int, *managed, *resource) {})(w)
	for _, k := range w.keys {
		k.policy = k.home
		k.replacing.with = k.policy.Key + "-new"
		w.later(6*time.Hour, func() {
			w.soon = append(w.soon, func() {
				w.manageHeir(k)
				w.attendReplacing(k)
			})
		})
	}
}
