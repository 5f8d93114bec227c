package status_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// groups is a snapshot of three keys in two vaults, with a problem of each kind.
func groups() *status.Snapshot {
	s := &status.Snapshot{
		Vaults: []status.Vault{{Vault: key.Vault{Name: "weu", URL: "https://weu"}},
			{Vault: key.Vault{Name: "neu", URL: "https://neu"}}},
		Keys: []status.Key{
			{Name: "a", State: status.StateOK, Labels: []string{"prod", "eu"},
				Vaults: []string{"https://weu", "https://neu"}},
			{Name: "b", State: status.StateHeld, Labels: []string{"prod"}, Vaults: []string{"https://weu"}},
			{Name: "c", State: status.StateOK, Vaults: []string{"https://neu"}},
		},
		Problems: []status.Problem{{Key: "a", Vault: "neu", Text: "a in neu"},
			{Key: "a", Vault: "gone", Text: "a in gone"},
			{Key: "b", Text: "b"}, {Vault: "neu", Text: "neu"}, {Text: "hsm"}},
	}
	s.Summarise()
	return s
}

// show has the names of a snapshot's keys and vaults, and the texts of its problems.
func show(s *status.Snapshot) (out [3][]string) {
	for _, k := range s.Keys {
		out[0] = append(out[0], k.Name)
	}
	for _, v := range s.Vaults {
		out[1] = append(out[1], v.Name)
	}
	for _, p := range s.Problems {
		out[2] = append(out[2], p.Text)
	}
	return out
}

func TestASelectionLeavesItsKeysWithTheirVaultsAndProblems(t *testing.T) {
	for _, test := range []struct {
		name string
		sel  status.Selection
		want [3][]string
	}{
		{"a label", status.Selection{Labels: []string{"prod"}},
			[3][]string{{"a", "b"}, {"weu", "neu"}, {"a in neu", "a in gone", "b", "neu", "hsm"}}},
		{"two labels", status.Selection{Labels: []string{"eu", "prod"}},
			[3][]string{{"a"}, {"weu", "neu"}, {"a in neu", "a in gone", "neu", "hsm"}}},
		{"a label and few", status.Selection{Labels: []string{"eu"}, Few: true},
			[3][]string{{"a"}, {"weu", "neu"}, {"a in neu", "a in gone", "neu", "hsm"}}},
		{"a vault in another case", status.Selection{Vault: "WEU"},
			[3][]string{{"a", "b"}, {"weu"}, {"b", "hsm"}}},
		{"a label and a vault", status.Selection{Labels: []string{"eu"}, Vault: "neu"},
			[3][]string{{"a"}, {"neu"}, {"a in neu", "neu", "hsm"}}},
		{"who needs somebody", status.Selection{Troubled: true},
			[3][]string{{"a", "b"}, {"weu", "neu"}, {"a in neu", "a in gone", "b", "neu", "hsm"}}},
		{"an unknown label", status.Selection{Labels: []string{"test"}}, [3][]string{nil, nil, {"hsm"}}},
	} {
		s := groups()
		s.Select(test.sel)
		if diff := cmp.Diff(test.want, show(s)); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.name, diff)
		}
		if s.Summary.Keys != len(test.want[0]) {
			t.Errorf("%s: the summary counts %d keys", test.name, s.Summary.Keys)
		}
	}
}
