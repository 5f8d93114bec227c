package simulate

import (
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
)

// intentOf is the intent of an effect on a version of keyd's own.
func (v *vault) intentOf(event chain.Event, name, id string) intent {
	rec := v.w.store.records[name]
	if g, _ := holderOf(&rec, v.URL, id); g != nil {
		return intent{event, g.ID, v.URL}
	}
	return intent{event, key.ID(id), v.URL}
}

// enabling is the effect that enables a version. Its request may be old; each try has a deadline of its own.
func (v *vault) enabling(name, id string) effect {
	return effect{what: "the enabling of version " + id, of: v.intentOf(chain.EnableIntended, name, id)}
}

// disabling is the effect that disables a version.
func (v *vault) disabling(name, id string) effect {
	e := effect{what: "the disabling of version " + id, of: v.intentOf(chain.DisableIntended, name, id),
		within: plan.StepTimeout}
	if x := v.byID(name, id); x != nil && v.w.hosts != nil {
		e.judge = func() { v.w.judgeDisable(v, name, x) }
	}
	return e
}
