package status

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

const (
	// FewKeys is how many keys have room on a screen, and how many there are on a page.
	FewKeys = 50
	// FewProblems is how many problems a snapshot with few keys has.
	FewProblems = 50
	// overdueAfter is how late a rotation may begin before it counts as overdue.
	overdueAfter = time.Hour
)

// Selection says which keys a snapshot has, and how much of them. The zero Selection is every key in full, by name.
type Selection struct {
	// Only are the names of the keys, in any case; none: all keys. The problems are then those of these keys.
	Only []string
	// Labels leaves the keys that have all of these labels, Vault those of the vault with this nickname, in any case,
	// and Troubled those that need somebody. The problems, the vaults and the summary are then of what is left.
	Labels   []string
	Vault    string
	Troubled bool
	// Few is what has room on a screen: every key where there are no more than FewKeys. Otherwise those that are not
	// well, the worst first, and no more of them than that. Of the problems it has the worst.
	Few bool
	// Page is one page of FewKeys keys, from 1, the worst first; 0: no pages. Search leaves the keys on it whose names
	// have this text in them, in any case.
	Page   int
	Search string
	// Brief leaves out generations and proofs.
	Brief bool
}

// Summary counts what a snapshot is about, whichever keys it has.
type Summary struct {
	Keys     int              `json:"keys"`
	States   map[string]int   `json:"states,omitempty"`   // keys by state
	Problems map[Severity]int `json:"problems,omitempty"` // by severity
	Found    int              `json:"found"`              // keys that were asked for, of which a snapshot may have some
	UnderWay []string         `json:"under_way"`
}

// Summarise counts the keys and problems of a snapshot, of all of it and in each vault.
func (s *Snapshot) Summarise() {
	s.Summary = Summary{Keys: len(s.Keys), States: map[string]int{}, Problems: map[Severity]int{}}
	vaults := make(map[string]map[string]int, len(s.Vaults))
	for i := range s.Vaults {
		s.Vaults[i].Keys = map[string]int{}
		vaults[s.Vaults[i].URL] = s.Vaults[i].Keys
	}
	for _, k := range s.Keys {
		s.Summary.States[k.State]++
		for _, url := range k.Vaults {
			if in := vaults[url]; in != nil {
				in[k.State]++
			}
		}
		if k.Doing != "" {
			s.Summary.UnderWay = append(s.Summary.UnderWay, k.Name)
		}
	}
	for _, p := range s.Problems {
		s.Summary.Problems[p.Severity]++
	}
}

// Select leaves the keys and the problems that were asked for in a snapshot of everything.
func (s *Snapshot) Select(sel Selection) {
	s.narrow(sel)
	switch {
	case len(sel.Only) > 0:
		s.only(sel.Only)
	case sel.Few:
		s.few()
	case sel.Page > 0:
		s.page(sel)
	}
	s.Summary.Found = max(s.Summary.Found, len(s.Keys))
}

func (s *Snapshot) only(names []string) {
	var keys []Key
	chosen := map[string]bool{}
	for _, name := range names {
		if k, ok := s.Key(name); ok && !chosen[k.Name] {
			chosen[k.Name] = true
			keys = append(keys, k)
		}
	}
	s.Keys = keys
	s.Problems = slices.DeleteFunc(s.Problems, func(p Problem) bool {
		return !slices.ContainsFunc(keys, func(k Key) bool { return p.About(k.Name) })
	})
}

func (s *Snapshot) few() {
	s.Problems = s.Problems[:min(len(s.Problems), FewProblems)]
	if len(s.Keys) <= FewKeys {
		return
	}
	s.Keys = slices.DeleteFunc(s.Keys, func(k Key) bool { return k.Calm() })
	s.Summary.Found = len(s.Keys)
	WorstFirst(s.At, s.Keys)
	s.Keys = s.Keys[:min(len(s.Keys), FewKeys)]
}

func (s *Snapshot) page(sel Selection) {
	if sel.Search != "" {
		wanted := strings.ToLower(sel.Search)
		s.Keys = slices.DeleteFunc(s.Keys, func(k Key) bool {
			return !strings.Contains(strings.ToLower(k.Name), wanted)
		})
	}
	s.Summary.Found = len(s.Keys)
	WorstFirst(s.At, s.Keys)
	from := (min(sel.Page, s.Summary.Pages()) - 1) * FewKeys
	s.Keys = s.Keys[from:min(from+FewKeys, len(s.Keys))]
}

// Pages is how many pages the keys make that were found; at least one.
func (s Summary) Pages() int { return max(1, (s.Found+FewKeys-1)/FewKeys) }

// states has the states of keys in the order in which they need somebody. StateUnproven is no state of a key.
var states = []string{
	StateHeld, StateTrouble, StateFailing, StateUnproven, StatePartial, StateRotating, StateNew, StateOK, StateRetained,
}

// StateUnproven stands, in that order, for a key that is well except that its newest version fails its proofs.
const StateUnproven = "unproven"

// Standing is the key's state, or StateUnproven.
func (k Key) Standing() string {
	if Rank(k.State) >= Rank(StateOK) && k.Unproven() != nil {
		return StateUnproven
	}
	return k.State
}

// Rank is the place of a state in the order of states; one that is not known comes last.
func Rank(state string) int {
	if i := slices.Index(states, state); i >= 0 {
		return i
	}
	return len(states)
}

// Calm reports whether nobody needs to look at the key.
func (k Key) Calm() bool { return Rank(k.Standing()) >= Rank(StateOK) }

// Unproven returns a newest version that certainly fails; nil if there is none. A proof that the HSM or the vault did
// not answer says nothing of its key.
func (k Key) Unproven() *Proof {
	for i, p := range k.Proofs {
		if p.Newest && p.Failing && p.Certain() && p.Outcome != "" {
			return &k.Proofs[i]
		}
	}
	return nil
}

// Overdue reports whether the key's rotation should have begun by now.
func (k Key) Overdue(now time.Time) bool {
	return !k.NextRotation.IsZero() && now.Sub(k.NextRotation) > overdueAfter
}

// WorstFirst sorts keys by how much they need somebody: by their standing, then those whose rotation is overdue, then
// by name.
func WorstFirst(now time.Time, keys []Key) {
	type place struct {
		rank, index int
		name        string
	}
	places := make([]place, len(keys))
	for i, k := range keys {
		places[i] = place{2 * Rank(k.Standing()), i, k.Name}
		if !k.Overdue(now) {
			places[i].rank++
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.name, b.name))
	})
	before := slices.Clone(keys)
	for i, p := range places {
		keys[i] = before[p.index]
	}
}
