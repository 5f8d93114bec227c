package consumer

import (
	"encoding/json"
	"testing"
)

func TestACallerWithTwoNamesIsNobodyKnown(t *testing.T) {
	const long = "http://schemas.microsoft.com/identity/claims/objectidentifier"
	for claim, want := range map[string]string{
		`{"oid":"A"}`: "A", `{"` + long + `":"B"}`: "B", `{"oid":"a","` + long + `":"A"}`: "a",
		`{"oid":"A","` + long + `":"B"}`: "", `{}`: "",
	} {
		r := logReader{column: map[string]int{"Identity": 0}, cells: []json.RawMessage{
			json.RawMessage(`{"claim":` + claim + `}`)}}
		if got := r.objectID("Identity"); got != want || r.err != nil {
			t.Errorf("%s: %q, %v; want %q", claim, got, r.err, want)
		}
	}
}
