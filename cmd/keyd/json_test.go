package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/control"
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

// An empty list that "omitempty" leaves out would be absent.
func TestJSONLeavesOutNoEmptyList(t *testing.T) {
	for _, v := range []any{
		status.Snapshot{}, status.Adoption{}, status.Retirement{}, status.Explanation{}, status.Summed(nil),
		audit.Receipt{}, audit.Verdict{}, control.AuditReport{}, planned{}, provenNow{}, rotated{}, change{},
	} {
		emptyListsLeftOut(t, reflect.TypeOf(v), map[reflect.Type]bool{})
	}
}

func emptyListsLeftOut(t *testing.T, typ reflect.Type, seen map[reflect.Type]bool) {
	t.Helper()
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		emptyListsLeftOut(t, typ.Elem(), seen)
	case reflect.Struct:
		if seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Type.Kind() == reflect.Slice && strings.Contains(f.Tag.Get("json"), ",omitempty") {
				t.Errorf("%s.%s is absent where it is empty; tag it omitzero, or nothing", typ, f.Name)
			}
			emptyListsLeftOut(t, f.Type, seen)
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
