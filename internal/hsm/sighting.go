package hsm

import (
	"sync"
	"time"
)

// searchShare is how many times longer keyd does other things than it searches for what must be on the token. However
// long a search took, it counts for searchCounts at most: a token that once answered late may be fast again.
const (
	searchShare  = 10
	searchCounts = 30 * time.Second
)

// sighting remembers when keyd last found something on the token that must be there, and how long the search took.
// Some tokens compare the name with that of every object. There a search takes longer the more objects there are: with
// thousands of them longer than the making of a pair. So a search counts for ten times as long as it took, up to half a
// minute. Meanwhile keyd only reads a pair by its handles.
type sighting struct {
	mu    sync.Mutex
	until time.Time
	share int // searchShare; 0: no search counts for another one
}

// saw notes a search, from its beginning on, that found what must be there.
func (s *sighting) saw(began time.Time) {
	ended := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = ended.Add(min(time.Duration(s.share)*ended.Sub(began), searchCounts))
}

// counts reports whether the last search still counts.
func (s *sighting) counts() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Before(s.until)
}
