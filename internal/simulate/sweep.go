package simulate

import (
	"context"

	"github.com/keyd-project/keyd/internal/key"
)

// listing is how a model vault's list of keys is: nobody promises which version's attributes it shows, in which order,
// or that a key that changes between two pages is on one of them.
type listing struct {
	name    string
	version func(shown []*version) *version // whose attributes it shows; nil: none
	misses  bool                            // now and then it misses a key
	refuses bool                            // the roles are on single keys
	lacks   bool                            // it is longer than keyd reads
}

func listings() []listing {
	newest := func(shown []*version) *version { return shown[len(shown)-1] }
	oldest := func(shown []*version) *version { return shown[0] }
	return []listing{
		{name: "newest", version: newest},
		{name: "newest, with gaps", version: newest, misses: true},
		{name: "oldest", version: oldest},
		{name: "oldest, with gaps", version: oldest, misses: true},
		{name: "no attributes"},
		{name: "refused", refuses: true},
		{name: "too long", lacks: true},
	}
}

// Sweep lists the keys of the vault as its list is.
func (v *vault) Sweep(context.Context, int) (items []key.Item, err error) {
	err = v.call("Sweep", func() error {
		switch {
		case v.list.refuses:
			return failed(key.Refused, "model: 403, no role on the vault")
		case v.list.lacks:
			return key.ErrTooManyPages
		}
		for _, k := range v.w.keys {
			if item, ok := v.item(k.policy.Key); ok && (!v.list.misses || !v.w.chance(4)) {
				items = append(items, item)
			}
		}
		v.w.rnd.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
		return nil
	})
	return items, err
}

func (v *vault) item(name string) (key.Item, bool) {
	shown, at := v.shown(name)
	if len(shown) == 0 {
		return key.Item{}, false
	}
	item := key.Item{}
	if v.list.version != nil {
		item = key.ItemOf(v.list.version(shown).as(at))
	}
	item.Name = name
	return item, true
}
