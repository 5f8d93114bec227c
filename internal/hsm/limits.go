package hsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
)

// A caller chooses the key and the number of a pair that it has made, and nothing but the HSM side bounds how many. So
// the HSM side makes a pair only near the highest number that was placed, which is wrapped for some vault, and only few
// pairs that nobody has wrapped.
const (
	maxAhead     = 64        // how far a number may be ahead of the highest placed one
	mostNumber   = 1_000_000 // of any pair: after the highest number that an int holds no other could follow
	maxPending   = 3         // pairs of a key that were made within a day and never wrapped, besides its spares
	maxUnwrapped = 16        // pairs of a key that were never wrapped, whenever they were made, besides its spares
	day          = 24 * time.Hour
)

// mostMade is how many pairs of a key are made within a day: a rotation may need a second try, and a compromise does
// not count against the rotations of a day.
func mostMade(k KeyRights) int { return 10 + 2*(k.Budget+k.Spares) }

// limits knows what the token holds of each key, from the last pass over it and from what happened since, and which
// pairs were made within a day.
type limits struct {
	path string
	now  func() time.Time

	mu     sync.Mutex
	passed bool // a pass has shown the whole token
	labels map[key.ID]key.Label
	placed map[string]int  // the highest placed number of each key that this process has seen
	inUse  map[key.ID]bool // the placed pairs that this process has seen
	made   map[key.ID]madePair
}

// madePair is a pair that was made within a day.
type madePair struct {
	Key string    `json:"key"`
	At  time.Time `json:"at"`
}

type madeFile struct {
	Schema int                 `json:"schema"`
	Pairs  map[key.ID]madePair `json:"pairs"` // by CKA_ID
}

func newLimits(stateDir string) (*limits, error) {
	l := &limits{
		path: filepath.Join(stateDir, "made-pairs.json"), now: time.Now,
		labels: map[key.ID]key.Label{}, placed: map[string]int{}, inUse: map[key.ID]bool{},
		made: map[key.ID]madePair{},
	}
	data, err := ownership.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the note of the pairs that were made within a day: %w", err)
	}
	file := madeFile{}
	if err := decodeStrict(data, &file); err != nil || file.Schema != 1 || file.Pairs == nil {
		return nil, fmt.Errorf("%s, the note of the pairs that were made within a day, is damaged: remove it; "+
			"the limits of a day then begin anew", l.path)
	}
	l.made = file.Pairs
	return l, nil
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
	l.labels, l.passed = map[key.ID]key.Label{}, true
	for _, o := range all {
		l.note(o)
	}
}

// looked takes over what a look at one id found.
func (l *limits) looked(id key.ID, found []key.Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.labels, id)
	for _, o := range found {
		l.note(o)
	}
}

// note remembers the label of an object of ours. A pair that was placed stays so, even if a copy of the HSM that lags
// behind still shows the mark. The caller holds mu.
func (l *limits) note(o key.Object) {
	if o.Label.Key == "" {
		return
	}
	l.labels[o.ID] = o.Label
	if l.inUse[o.ID] || !o.Label.Pending {
		l.inUse[o.ID] = true
		l.labels[o.ID] = o.Label.Placed()
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
	l.labels[id], l.made[id] = label, madePair{label.Key, l.now()}
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
	now := l.now()
	var today, recent, unwrapped int
	for other, m := range l.made {
		switch age := now.Sub(m.At).Abs(); {
		case age >= day:
			delete(l.made, other)
		case m.Key == label.Key:
			today++
			if l.labels[other].Pending {
				recent++
			}
		}
	}
	for _, other := range l.labels {
		if other.Key == label.Key && other.Pending {
			unwrapped++
		}
	}
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

// settle notes how a generation ended: the pair is there, or it may be there, or it certainly is not.
func (l *limits) settle(id key.ID, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		return l.save()
	}
	delete(l.made, id) // a failure does not count as a pair of the day
	if key.ClassOf(err) != key.Ambiguous {
		delete(l.labels, id)
	}
	return nil
}

// wrapped notes that a pair is pending no longer.
func (l *limits) wrapped(id key.ID, label key.Label) {
	l.looked(id, []key.Object{{ID: id, Label: label.Placed()}})
}

func (l *limits) save() error {
	data, err := json.Marshal(madeFile{1, l.made})
	if err != nil {
		return err
	}
	return writeDurable(l.path, append(data, '\n'))
}
