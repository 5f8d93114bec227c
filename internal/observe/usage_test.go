package observe

import (
	"context"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// askedConsumers counts the looks at those who use a key, each of which costs calls to Azure.
type askedConsumers struct {
	clock func() time.Time
	age   time.Duration // of what a look returns
	looks int
	last  record.Usage
}

func (c *askedConsumers) Look(context.Context, key.Policy) record.Usage {
	c.looks++
	c.last = record.Usage{At: c.clock().Add(-c.age), Unseen: []string{"a subscription"}}
	return c.last
}

func (c *askedConsumers) Last(string) record.Usage { return c.last }

func TestThoseWhoUseAKeyAreAskedOnlyWhereAStepNeedsIt(t *testing.T) {
	o, v, _ := newSwept(t)
	users := &askedConsumers{clock: func() time.Time { return *v.now }}
	o.Consumers = users
	p := key.Policy{Key: "sa-cmk-key", Vaults: []key.Vault{{Name: "weu", URL: sweptURL}}}
	rec := record.Record{Key: p.Key}
	o.Observe(t.Context(), p, rec)
	o.Look(t.Context(), p, rec)
	o.Refresh(t.Context(), p, rec, plan.Parts{Clocks: []string{sweptURL}})
	if users.looks != 0 {
		t.Errorf("looks that need nobody asked %d times", users.looks)
	}
	o.Refresh(t.Context(), p, rec, plan.Parts{Usage: true})
	if seen := o.Last(p.Key).Usage; users.looks != 1 || len(seen.Unseen) != 1 || !seen.At.Equal(*v.now) {
		t.Errorf("a step that needs it asked %d times, and knows %+v", users.looks, seen)
	}
	*v.now = v.now.Add(time.Hour)
	o.Observe(t.Context(), p, rec)
	o.Refresh(t.Context(), p, rec, plan.Parts{Clocks: []string{sweptURL}})
	o.Learn(record.Learnt{Key: p.Key})
	o.Doubt(p.Key)
	if seen := o.Last(p.Key).Usage; users.looks != 1 || len(seen.Unseen) != 1 {
		t.Errorf("later looks asked %d times more, and know %+v", users.looks-1, seen)
	}
}

func TestAnOldLookAtThoseWhoUseAKeyIsNone(t *testing.T) {
	o, v, _ := newSwept(t)
	p := key.Policy{Key: "sa-cmk-key", Vaults: []key.Vault{{Name: "weu", URL: sweptURL}}}
	look := func() record.Usage {
		return o.Refresh(t.Context(), p, record.Record{Key: p.Key}, plan.Parts{Usage: true}).Usage
	}
	o.Observe(t.Context(), p, record.Record{Key: p.Key})
	if seen := look(); seen.Err == nil || !seen.At.Equal(*v.now) {
		t.Errorf("nobody looks, and keyd knows %+v", seen)
	}
	users := &askedConsumers{clock: func() time.Time { return *v.now }, age: time.Second}
	o.Consumers = users
	if seen := look(); seen.Err == nil || users.looks != 1 {
		t.Errorf("a look from a second ago counts: %+v", seen)
	}
}
