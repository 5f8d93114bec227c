package status

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// crowd has so many keys, in one vault, that are well.
func crowd(n int) *Snapshot {
	const url = "https://weu.vault.azure.net"
	s := &Snapshot{At: noon, Vaults: []Vault{{Vault: key.Vault{Name: "weu", URL: url}}}}
	for i := range n {
		s.Keys = append(s.Keys, Key{Name: fmt.Sprintf("key-%04d", i), State: StateOK, Vaults: []string{url}})
	}
	return s
}

func names(s *Snapshot) (names []string) {
	for _, k := range s.Keys {
		names = append(names, k.Name)
	}
	return names
}

func TestASmallInstallationShowsAllItsKeys(t *testing.T) {
	s := crowd(FewKeys)
	s.Summarise()
	s.Select(Selection{Few: true})
	if len(s.Keys) != FewKeys || s.Summary.Found != FewKeys {
		t.Errorf("%d keys, %+v", len(s.Keys), s.Summary)
	}
}

func TestALargeInstallationShowsTheKeysThatNeedSomebodyAndCountsTheOthers(t *testing.T) {
	s := crowd(1000)
	s.Keys[500].State, s.Keys[700].State, s.Keys[900].State = StateRotating, StateHeld, StateRetained
	s.Keys[600].Proofs = []Proof{{Newest: true, Failing: true, Outcome: key.WasRefuted}}
	s.Keys[100].Doing = "import"
	s.Summarise()
	s.Select(Selection{Few: true})
	if got := strings.Join(names(s), " "); got != "key-0700 key-0600 key-0500" {
		t.Errorf("keys %s", got)
	}
	sum, in := s.Summary, s.Vaults[0].Keys
	if sum.Keys != 1000 || sum.Found != 3 || sum.States[StateOK] != 997 || sum.States[StateHeld] != 1 ||
		in[StateOK] != 997 || !slices.Equal(sum.UnderWay, []string{"key-0100"}) {
		t.Errorf("summary %+v, in the vault %v", sum, in)
	}
}

func TestOfManyProblemsTheWorstAreShownAndAllAreCounted(t *testing.T) {
	s := crowd(1000)
	s.Problems = append(s.Problems, Problem{Severity: Critical, Text: "the worst"})
	for i := range s.Keys {
		s.Keys[i].State = StateFailing
		s.Problems = append(s.Problems, Problem{Severity: Warning, Key: s.Keys[i].Name})
	}
	s.Summarise()
	s.Select(Selection{Few: true})
	if len(s.Keys) != FewKeys || len(s.Problems) != FewProblems || s.Problems[0].Text != "the worst" {
		t.Errorf("%d keys, %d problems, the first is %+v", len(s.Keys), len(s.Problems), s.Problems[0])
	}
	if s.Summary.Found != 1000 || s.Summary.Problems[Warning] != 1000 || s.Summary.Problems[Critical] != 1 {
		t.Errorf("summary %+v", s.Summary)
	}
}

func TestNamedKeysComeWithTheirProblemsOnly(t *testing.T) {
	s := crowd(100)
	s.Problems = []Problem{{Text: "the HSM is down"}, {Key: "key-0007"}, {Key: "key-0008"}}
	s.Summarise()
	s.Select(Selection{Only: []string{"KEY-0007", "key-0007", "none"}})
	got := strings.Join(names(s), " ")
	if got != "key-0007" || len(s.Problems) != 1 || s.Problems[0].Key != "key-0007" {
		t.Errorf("keys %s, problems %+v", got, s.Problems)
	}
	if s.Summary.Keys != 100 {
		t.Errorf("the summary is of %d keys", s.Summary.Keys)
	}
}

func TestPagesHaveEveryKeyOnceTheWorstFirst(t *testing.T) {
	seen := map[string]bool{}
	for page := 1; page <= 3; page++ {
		s := crowd(120)
		s.Keys[110].State, s.Keys[111].NextRotation = StatePartial, noon.Add(-2*time.Hour)
		s.Summarise()
		s.Select(Selection{Page: page})
		if page == 1 && strings.Join(names(s)[:3], " ") != "key-0110 key-0111 key-0000" {
			t.Errorf("the first page begins with %v", names(s)[:3])
		}
		for _, name := range names(s) {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
	}
	if len(seen) != 120 {
		t.Errorf("the pages have %d keys", len(seen))
	}
}
