package record

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Replacement is the replacing of this key by another one, as after a compromise: its consumers go to the other key one
// by one, and then, by consent, its versions are disabled. It is in the record of the old key, and stays there.
type Replacement struct {
	With   string    `json:"with"`            // name of the new key
	Vault  string    `json:"vault,omitempty"` // URL of the vault to which consumers go; "": each stays in its own
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	// Moved lists the consumers that keyd has moved, in that order.
	Moved []Moved `json:"moved,omitempty"`
	// Consent is an operator's consent to disable the versions that it lists; nil: none may be disabled.
	Consent *Consent `json:"consent,omitempty"`
	// Done is when the last version of the old key was disabled; zero: it is not yet.
	Done time.Time `json:"done,omitzero"`
}

// Moved is a consumer that keyd has set to the new key, and that showed it.
type Moved struct {
	Consumer string    `json:"consumer"` // its resource id
	From     string    `json:"from"`     // URL of the vault that it left
	To       string    `json:"to"`       // URL
	Version  string    `json:"version"`  // of the new key, that was newest then
	At       time.Time `json:"at"`       // when keyd began
	Seen     time.Time `json:"seen"`     // when keyd saw that it had happened
}

// Inherited is a consumer that a replacement sets to this key. It is in the record of the new key until the
// configuration names the consumer under it: before that, keyd retires no version here.
type Inherited struct {
	Consumer string `json:"consumer"`
	From     string `json:"from"` // name of the key that it leaves
}

// Disabling reports whether an operator consented to disable the old key's versions. Then nothing else happens to it.
func (x *Replacement) Disabling() bool { return x != nil && x.Consent != nil }

// LastMove is when keyd last moved a consumer to the new key; before that, when the replacement began.
func (x *Replacement) LastMove() time.Time {
	last := x.At
	for _, m := range x.Moved {
		if m.Seen.After(last) {
			last = m.Seen
		}
	}
	return last
}

// Took is the last move of a consumer out of a vault; ok is false if keyd did not move it.
func (x *Replacement) Took(consumer, to string) (last Moved, ok bool) {
	for _, m := range x.Moved {
		if strings.EqualFold(m.Consumer, consumer) && m.To == to {
			last, ok = m, true
		}
	}
	return last, ok
}

// BeginReplace records that an operator has this key replaced.
func (r *Record) BeginReplace(x Replacement) error {
	switch {
	case r.Replacement != nil:
		return fmt.Errorf("key %s is replaced by %s already", r.Key, r.Replacement.With)
	case key.SameName(x.With, r.Key):
		return fmt.Errorf("key %s cannot be replaced by itself", r.Key)
	case r.Repointing != nil:
		return fmt.Errorf("consumer %s of %s is not moved to the end", r.Repointing.Consumer, r.Key)
	}
	r.Replacement = &x
	return nil
}

// RetryReplace clears away the move of a consumer to the new key that failed, so that keyd tries again.
func (r *Record) RetryReplace() (cleared bool) {
	if r.Repointing == nil || r.Repointing.Open() {
		return false
	}
	r.Repointing = nil
	return true
}

// StopReplace ends a replacement where it is. What was moved stays moved, and what is disabled stays disabled. A move
// that is open goes on until keyd knows what came of it.
func (r *Record) StopReplace() error {
	if r.Replacement == nil {
		return fmt.Errorf("key %s is not replaced by another one", r.Key)
	}
	if r.Repointing != nil && !r.Repointing.Open() && r.Repointing.NewKey != "" {
		r.Repointing = nil
	}
	r.endDisabling()
	r.Replacement = nil
	return nil
}

// ConsentToDisable records the consent to disable the versions of a key that is replaced. From then on they count as
// superseded.
func (r *Record) ConsentToDisable(c Consent) error {
	switch x := r.Replacement; {
	case x == nil:
		return fmt.Errorf("key %s is not replaced by another one", r.Key)
	case r.Repointing != nil:
		return fmt.Errorf("consumer %s of %s is not moved to the end", r.Repointing.Consumer, r.Key)
	case r.OpenDisabling().Found():
		return fmt.Errorf("a disabling of %s is open", r.Key)
	}
	r.Replacement.Consent = &c
	for at := range r.all {
		if at.LateAt = (time.Time{}); at.State != key.Proven {
			continue
		}
		at.State = key.Superseded
		if at.Generation.Deactivated.IsZero() {
			at.Generation.Deactivated = c.At
		}
	}
	return nil
}

// endDisabling takes the consent to disable the old key's versions back, and reports whether there was one. The newest
// version of a vault is in use again, unless it was disabled.
func (r *Record) endDisabling() (had bool) {
	if !r.Replacement.Disabling() {
		return false
	}
	r.Replacement.Consent, r.Replacement.Done = nil, time.Time{}
	for at := range r.all {
		newest := r.NewestIn(at.Vault).Placement == at.Placement
		if newest && at.State == key.Superseded && len(at.DisabledVersions) == 0 && at.Disables == "" {
			at.State, at.Generation.Deactivated = key.Proven, time.Time{}
		}
	}
	return true
}

// Replaceable lists the versions of a replaced key that are still enabled as far as the record knows, the oldest
// generation first and what is newest last. Since is when the last consumer was moved.
func (r *Record) Replaceable() (list []Retirable) {
	if r.Replacement == nil {
		return nil
	}
	for at := range r.all {
		if !at.Older() && at.State != key.Proven {
			continue
		}
		for _, version := range at.Enabled() {
			list = append(list, Retirable{at, version, r.Replacement.LastMove()})
		}
	}
	slices.SortStableFunc(list, func(a, b Retirable) int { return a.Generation.Number - b.Generation.Number })
	return list
}

// Replaced records that the last version of a replaced key is disabled.
func (r *Record) Replaced(now time.Time) error {
	if !r.Replacement.Disabling() || !r.Replacement.Done.IsZero() {
		return fmt.Errorf("nobody consented to disable the versions of %s, or all are disabled already", r.Key)
	}
	if left := r.Replaceable(); len(left) > 0 {
		return fmt.Errorf("version %s of %s is not disabled", left[0].Version, r.Key)
	}
	r.Replacement.Done = now
	return nil
}

// Inherit records that a replacement sets consumers to this key.
func (r *Record) Inherit(from string, consumers []string) {
	r.Disinherit(from)
	for _, id := range consumers {
		r.Inherits = append(r.Inherits, Inherited{Consumer: id, From: from})
	}
}

// Disinherit forgets the consumers of a replacement, but for those that are set to this key by now.
func (r *Record) Disinherit(from string, but ...string) {
	r.Inherits = slices.DeleteFunc(r.Inherits, func(x Inherited) bool {
		return key.SameName(x.From, from) && !slices.ContainsFunc(but, func(id string) bool {
			return strings.EqualFold(id, x.Consumer)
		})
	})
}

// Unlisted lists the consumers that a replacement set to this key, and that a policy does not name.
func (r *Record) Unlisted(p key.Policy) (list []Inherited) {
	for _, x := range r.Inherits {
		if !slices.ContainsFunc(p.Consumers, func(c key.Consumer) bool { return names(c.ID, x.Consumer) }) {
			list = append(list, x)
		}
	}
	return list
}

// names reports whether a configured id names a resource: itself, or as its parent.
func names(configured, id string) bool {
	configured, id = strings.ToLower(configured), strings.ToLower(id)
	return configured == id || strings.HasPrefix(id, configured+"/")
}

func (x *Replacement) clone() *Replacement {
	if x == nil {
		return nil
	}
	c := *x
	c.Moved = slices.Clone(x.Moved)
	c.Consent = x.Consent.clone()
	return &c
}
