package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// memory is what keyd remembers of the consumers of one key. Without it a restart would forget since when a consumer
// uses its version, and who was found once.
type memory struct {
	Standings map[string]*standing  `json:"standings,omitempty"` // by resource and key
	Found     map[string]*foundOnce `json:"found,omitempty"`     // by id in lower case
	changed   bool
}

// standing is which version a consumer uses, and which it left.
type standing struct {
	Version string               `json:"version,omitempty"` // "": not shown at the last look
	First   time.Time            `json:"first"`             // the first look that showed it
	Before  time.Time            `json:"before,omitzero"`   // the last look before that; zero: there was none
	Left    map[string]time.Time `json:"left,omitempty"`    // when it was first seen on another version
	Made    time.Time            `json:"made,omitzero"`     // see birth
	Own     string               `json:"own,omitempty"`
	Gone    bool                 `json:"gone,omitempty"` // a look since then did not find it
	Anew    time.Time            `json:"anew,omitzero"`  // when it began again
	last    time.Time            // the last look that showed the version, since this start of keyd
}

// foundOnce is a resource that a search found under the key.
type foundOnce struct {
	ID   string    `json:"id"`
	Seen time.Time `json:"seen"` // the last time, or up to a day earlier
}

func readMemory(blob []byte) (*memory, error) {
	m := &memory{}
	if len(blob) > 0 {
		if err := json.Unmarshal(blob, m); err != nil {
			return nil, fmt.Errorf("read what keyd remembers of consumers: %w", err)
		}
	}
	if m.Standings == nil {
		m.Standings = map[string]*standing{}
	}
	if m.Found == nil {
		m.Found = map[string]*foundOnce{}
	}
	for name, s := range m.Standings {
		if s == nil {
			return nil, emptyEntry(name)
		}
	}
	for name, f := range m.Found {
		if f == nil {
			return nil, emptyEntry(name)
		}
	}
	return m, nil
}

func emptyEntry(name string) error {
	return fmt.Errorf("read what keyd remembers of consumers: it says nothing of %s, so keyd did not write it; put "+
		"the state back from a backup", name)
}

// date gives each consumer the times since when it uses its version and since when it has left others, also those in
// other vaults. now is when the look ended: what it showed may have begun no later.
func (m *memory) date(u *record.Usage, now time.Time) {
	places, dated, unseen := map[string]int{}, map[string]bool{}, map[string]bool{}
	for i := range u.Consumers {
		c := &u.Consumers[i]
		place := placesOf(c.ID) + strings.ToLower(strings.TrimPrefix(c.Vault, "https://")+"/keys/"+c.Key)
		if places[place]++; places[place] > 1 { // a namespace can have one key twice, at two versions
			place = fmt.Sprintf("%s %d", place, places[place])
		}
		switch dated[place] = true; {
		case c.Err == nil:
			m.dateOne(place, c, now)
		case !isGone(c.ID, c.Err) && !errors.Is(c.Err, ErrOwnKey):
			unseen[placesOf(c.ID)] = true
		default:
			delete(dated, place)
		}
	}
	m.leave(u.Consumers, dated, unseen, now)
	for i := range u.Consumers {
		if c := &u.Consumers[i]; c.Err == nil {
			c.Left, c.Anew = m.left(c.ID)
		}
	}
}

// placesOf is how the places of a resource begin: the keys that it is or was set to.
func placesOf(id string) string { return strings.ToLower(id) + " https://" }

// leave notes which places the resources are not at any more. One that is not among the consumers at all may be a child
// of what could not be seen.
func (m *memory) leave(seen []record.ConsumerSeen, dated, unseen map[string]bool, now time.Time) {
	listed := map[string]bool{}
	for _, c := range seen {
		listed[placesOf(c.ID)] = true
	}
	for place, s := range m.Standings {
		id, _, _ := strings.Cut(place, placesOf(""))
		of := placesOf(id)
		if s.Gone || dated[place] || unseen[of] || !listed[of] && len(unseen) > 0 {
			continue
		}
		s.goes(now)
		m.changed = true
	}
}

// left has, by version, when a resource left it last, of those that it does not use, and when it began anew.
func (m *memory) left(id string) (left map[string]time.Time, anew time.Time) {
	for place, s := range m.Standings {
		if !strings.HasPrefix(place, placesOf(id)) {
			continue
		}
		if s.Anew.After(anew) {
			anew = s.Anew
		}
		for version, at := range s.Left {
			if left == nil {
				left = map[string]time.Time{}
			}
			if at.After(left[version]) {
				left[version] = at
			}
		}
	}
	for place, s := range m.Standings {
		if strings.HasPrefix(place, placesOf(id)) {
			delete(left, s.Version)
		}
	}
	return left, anew
}

func (m *memory) dateOne(place string, c *record.ConsumerSeen, now time.Time) {
	s, known := m.Standings[place]
	if !known {
		s = &standing{Version: c.Uses, First: now}
		m.Standings[place], m.changed = s, true
	}
	if s.madeAgain(c) {
		s.begin(now)
		m.changed = true
	}
	if c.Uses != s.Version {
		s.move(c.Uses, now)
		m.changed = true
	}
	if s.keep(c) {
		m.changed = true
	}
	s.last = now
	if c.Uses == "" {
		c.Since = time.Time{}
		return
	}
	// What the service says counts if it can be true: not in the future, and not before keyd saw another version there.
	if c.Since.IsZero() || c.Since.After(now) || c.Since.Before(s.Before) {
		c.Since = s.First
	}
}

// madeAgain reports whether the resource is not the one that had its id before.
func (s *standing) madeAgain(c *record.ConsumerSeen) bool {
	return s.Gone || !s.Made.IsZero() && !c.Made.IsZero() && !s.Made.Equal(c.Made) ||
		s.Own != "" && c.Own != "" && s.Own != c.Own
}

// begin begins anew: the resource may have been restored from a backup that is older than its leaving a version.
func (s *standing) begin(now time.Time) {
	if s.Before = s.last; s.last.IsZero() { // keyd was started since
		s.Before = s.First
	}
	s.First, s.Gone, s.Anew = now, false, now
}

// goes notes that the resource is not there any more, or has another key.
func (s *standing) goes(now time.Time) {
	if s.Version != "" {
		s.leave(s.Version, now)
	}
	s.move("", now)
	s.Gone = true
}

func (s *standing) leave(version string, now time.Time) {
	if s.Left == nil {
		s.Left = map[string]time.Time{}
	}
	s.Left[version] = now
}

// keep keeps what Azure shows of the birth of the resource, and reports whether that is new.
func (s *standing) keep(c *record.ConsumerSeen) bool {
	made, own := s.Made, s.Own
	if !c.Made.IsZero() {
		s.Made = c.Made
	}
	if c.Own != "" {
		s.Own = c.Own
	}
	return !made.Equal(s.Made) || own != s.Own
}

// move notes that a consumer shows another version.
func (s *standing) move(to string, now time.Time) {
	if s.Version != "" && to != "" {
		s.leave(s.Version, now)
	}
	delete(s.Left, to)
	s.Before = s.last
	if s.last.IsZero() { // keyd was started since
		s.Before = s.First
	}
	s.Version, s.First = to, now
}

// remember notes who was found now, and forgets who no longer counts.
func (m *memory) remember(p key.Policy, all []*target, at time.Time) {
	for _, t := range all {
		name := strings.ToLower(t.id)
		switch known := m.Found[name]; {
		case t.configured:
		case t.concerns(p) || t.hidden(p, at):
			if known == nil || at.Sub(known.Seen) > day {
				m.Found[name], m.changed = &foundOnce{t.id, at}, true
			}
		case known != nil && !known.counts(p, at):
			delete(m.Found, name)
			m.changed = true
		}
	}
}

// earlier lists who was found.
func (m *memory) earlier() (all []foundOnce) {
	for _, f := range m.Found {
		all = append(all, *f)
	}
	return all
}

const (
	day = 24 * time.Hour
	// remembered is how long a resource that was found once counts after it left the key or vanished. A deleted storage
	// account can be restored for 14 days.
	remembered = 30 * day
)

// counts reports whether a resource still counts that was found once, and is found no more. One that keeps backups
// counts as long as the retire rule says that backups are kept, and for ever if it does not.
func (f foundOnce) counts(p key.Policy, at time.Time) bool {
	keep := remembered + day
	if s, _ := service.Of(f.ID); s.Backups {
		if p.Retire.Backups == 0 {
			return true
		}
		keep = max(keep, p.Retire.Backups+day)
	}
	return at.Before(f.Seen.Add(keep))
}

// ErrLeft says that a resource that a search once found under a key is not there any more, or not under the key.
var ErrLeft = errors.New("it was set to the key")

// left says why a resource counts that is no longer set to the key.
func (f foundOnce) left() error { return f.was("is not now") }

// gone says why a resource counts that Azure does not show any more.
func (f foundOnce) gone() error { return f.was("Azure does not show it any more") }

func (f foundOnce) was(now string) error {
	return trouble(f.ID, "it counts as a user of every version until nothing can be restored that needs one: see "+
		"retire.backups", "%w until %s, and %s", ErrLeft, f.Seen.UTC().Format(time.DateOnly), now)
}

func (m *memory) blob() ([]byte, error) { return json.Marshal(m) }
