package main

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/status"
)

func TestJSONShowsEveryListAsAList(t *testing.T) {
	for name, v := range map[string]any{
		"nothing":    []status.Planned(nil),
		"a snapshot": status.Snapshot{},
		"a key": status.Snapshot{Keys: []status.Key{{Spares: &status.Spares{},
			Generations: make([]status.Generation, 1)}}},
		"an adoption": status.Adoption{},
		"a check":     status.Summed(nil),
	} {
		text, err := json.Marshal(withLists(v))
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if hasNull(got) {
			t.Errorf("%s has a null: %s", name, text)
		}
	}
}

func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		for _, x := range v {
			if hasNull(x) {
				return true
			}
		}
	case map[string]any:
		for _, x := range v {
			if hasNull(x) {
				return true
			}
		}
	}
	return false
}

func TestFillingListsLeavesTheValueAsItWas(t *testing.T) {
	before := status.Snapshot{Keys: []status.Key{{Name: "a", Spares: &status.Spares{}}}}
	after := withLists(before).(status.Snapshot)
	if before.Problems != nil || before.Keys[0].Vaults != nil || before.Keys[0].Spares.Generations != nil {
		t.Errorf("it was changed: %+v", before)
	}
	if after.Keys[0].Name != "a" || after.Keys[0].Vaults == nil || !cmp.Equal(after.At, before.At) {
		t.Errorf("the copy is %+v", after)
	}
}
