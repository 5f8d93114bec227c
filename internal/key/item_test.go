package key

import (
	"testing"
	"time"
)

func TestTwoItemsAreTheSameIfTheyShowTheSame(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	shown := func(change func(*Item)) Item {
		i := Item{Name: "cmk", Created: noon, Updated: noon, Expires: noon, NotBefore: noon, Enabled: true,
			Tags: map[string]string{"a": "1", "b": "2"}}
		change(&i)
		return i
	}
	as := shown(func(*Item) {})
	for name, c := range map[string]struct {
		change func(*Item)
		same   bool
	}{
		"nothing":       {func(*Item) {}, true},
		"its name":      {func(i *Item) { i.Name = "CMK" }, true},
		"another zone":  {func(i *Item) { i.Created = noon.In(time.FixedZone("CET", 3600)) }, true},
		"made":          {func(i *Item) { i.Created = noon.Add(time.Second) }, false},
		"changed":       {func(i *Item) { i.Updated = noon.Add(time.Nanosecond) }, false},
		"a far expiry":  {func(i *Item) { i.Expires = time.Unix(1<<45, 0) }, false},
		"no expiry":     {func(i *Item) { i.Expires = time.Time{} }, false},
		"not before":    {func(i *Item) { i.NotBefore = time.Time{} }, false},
		"two exchanged": {func(i *Item) { i.Created, i.Updated = time.Time{}, noon }, false},
		"disabled":      {func(i *Item) { i.Enabled = false }, false},
		"no tags":       {func(i *Item) { i.Tags = nil }, false},
		"another tag":   {func(i *Item) { i.Tags = map[string]string{"a": "1", "b": "3"} }, false},
		"tags joined":   {func(i *Item) { i.Tags = map[string]string{"a": `1","b":"2`} }, false},
	} {
		if same := as.Same(shown(c.change)); same != c.same {
			t.Errorf("%s: the same %t, want %t", name, same, c.same)
		}
	}
	if !(Item{Tags: map[string]string{}}).Same(Item{}) {
		t.Error("no tags differ from none")
	}
}
