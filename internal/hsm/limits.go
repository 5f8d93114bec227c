package hsm

import (
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// A caller chooses the key and the number of a pair that it has made, and nothing but the HSM side bounds how many. So
// the HSM side makes a pair only near the highest number that was placed, which is wrapped for some vault, and only few
// pairs that nobody has wrapped.
const (
	maxAhead     = 64        // how far a number may be ahead of the highest placed one
	mostNumber   = 1_000_000 // of any pair: after the highest number that an int holds no other could follow
	maxPending   = 3         // pairs of a key that were made within a day and never wrapped, besides its spares
	maxUnwrapped = 16        // pairs of a key that were never wrapped, whenever they were made, besides its spares
)

// mostMade is how many pairs of a key are made within a day: a rotation may need a second try, and a compromise does
// not count against the rotations of a day.
func mostMade(k KeyRights) int { return 10 + 2*(k.Budget+k.Spares) }

// limits knows what the token holds of each key, from the last pass over it and from what happened since, and which
// pairs were made within a day.
type limits struct {
	now func() time.Time

	mu     sync.Mutex
	passed bool                            // a pass has shown the whole token
	labels map[key.ID]key.Label            // of all pairs
	ofKey  map[string]map[key.ID]key.Label // the same, by the key's name
	placed map[string]int                  // the highest placed number of each key that this process has seen
	inUse  map[key.ID]bool                 // the placed pairs that this process has seen
	made   *madePairs
}

func newLimits(stateDir string) (*limits, error) {
	made, err := readMadePairs(stateDir)
	if err != nil {
		return nil, err
	}
	return &limits{
		now:    time.Now,
		labels: map[key.ID]key.Label{}, ofKey: map[string]map[key.ID]key.Label{}, placed: map[string]int{},
		inUse: map[key.ID]bool{},
		made:  made,
	}, nil
}

// needsPass reports whether no pass has shown the token yet.
func (l *limits) needsPass() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.passed
}

// shown takes over what a pass over the whole token found.
func (l *limits) shown(all []key.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.labels, l.ofKey, l.passed = map[key.ID]key.Label{}, map[string]map[key.ID]key.Label{}, true
	for _, o := range all {
		l.note(o)
	}
}

// looked takes over what a look at one id found.
func (l *limits) looked(id key.ID, found []key.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(id)
	for _, o := range found {
		l.note(o)
	}
}

// label notes the label of a pair. The caller holds mu.
func (l *limits) label(id key.ID, label key.Label) {
	l.forget(id)
	l.labels[id] = label
	if l.ofKey[label.Key] == nil {
		l.ofKey[label.Key] = map[key.ID]key.Label{}
	}
	l.ofKey[label.Key][id] = label
}

// forget notes that nothing is under an id. The caller holds mu.
func (l *limits) forget(id key.ID) {
	delete(l.ofKey[l.labels[id].Key], id)
	delete(l.labels, id)
}

// note remembers the label of an object of ours. A pair that was placed stays so, even if a copy of the HSM that lags
// behind still shows the mark. The caller holds mu.
func (l *limits) note(o key.Object) {
	if o.Label.Key == "" {
		return
	}
	l.label(o.ID, o.Label)
	if l.inUse[o.ID] || !o.Label.Pending {
		l.inUse[o.ID] = true
		l.label(o.ID, o.Label.Placed())
		l.placed[o.Label.Key] = max(l.placed[o.Label.Key], o.Label.Number)
	}
}

// wasPlaced reports whether this process has seen that a pair was wrapped for some vault.
func (l *limits) wasPlaced(id key.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inUse[id]
}

// reserve notes a pair that is about to be made, or says why it must not be.
func (l *limits) reserve(id key.ID, label key.Label, k KeyRights) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.labels[id]; ok {
		return refused(Exists, "the HSM has %s under CKA_ID %s already: nothing was generated", known, id)
	}
	if err := l.within(label, k); err != nil {
		return err
	}
	l.label(id, label)
	l.made.add(madeLine{id, label.Key, l.now()})
	return nil
}

// permit says why a pair must not be made now, if it must not.
func (l *limits) permit(label key.Label, k KeyRights) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.within(label, k)
}

// within compares one more pair with the limits. The caller holds mu.
func (l *limits) within(label key.Label, k KeyRights) error {
	made, has := l.made.within(l.now(), label.Key), l.ofKey[label.Key]
	var recent, unwrapped int
	for other, its := range has {
		if !its.Pending {
			continue
		}
		unwrapped++
		if _, ok := made[other]; ok {
			recent++
		}
	}
	today := len(made)
	highest := l.placed[label.Key]
	switch {
	case label.Number > mostNumber:
		return refused(NotPermitted, "%s is not made: the number of a pair is at most %d", label, mostNumber)
	case label.Number < highest:
		return refused(NotPermitted, "%s is not made: generation %d of the key was placed already, so the caller's "+
			"record is behind; look with: keyd adopt %s", label, highest, label.Key)
	case highest > 0 && label.Number > highest+maxAhead:
		return refused(
			NotPermitted,
			"%s is not made: the highest placed generation of the key is %d, and a number may "+
				"be at most %d ahead; look with: keyd adopt %s",
			label,
			highest,
			maxAhead,
			label.Key,
		)
	case recent >= maxPending+k.Spares || unwrapped >= maxUnwrapped+k.Spares:
		return refused(NotPermitted, "%s is not made: the HSM has %d pairs of the key that were never wrapped for a "+
			"vault, %d of them from the last day; at most %d besides the spares are made within a day, and %d in all; "+
			"keyd plan %s shows what keeps them from being used", label, unwrapped, recent, maxPending, maxUnwrapped,
			label.Key)
	case today >= mostMade(k):
		return refused(
			NotPermitted,
			"%s is not made: %d pairs of the key were made within a day, and the limit is that "+
				"many; find out why so many were needed: keyd audit --key %s",
			label,
			today,
			label.Key,
		)
	}
	return nil
}

// settle notes how the generation of a reserved pair ended: the pair is there, or it may be there, or it certainly is
// not.
func (l *limits) settle(id key.ID, label key.Label, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		return l.made.save(l.now(), label.Key, id)
	}
	l.made.drop(label.Key, id) // a failure does not count as a pair of the day
	if key.ClassOf(err) != key.Ambiguous {
		l.forget(id)
	}
	return nil
}

// wrapped notes that a pair is pending no longer.
func (l *limits) wrapped(id key.ID, label key.Label) {
	l.looked(id, []key.Object{{ID: id, Label: label.Placed()}})
}
