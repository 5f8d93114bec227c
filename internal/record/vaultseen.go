package record

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// VaultLook is what a vault showed of its KEKs. If Err is set, nothing else counts.
type VaultLook struct {
	At       time.Time // when it began, by the local clock
	Revision uint64    // of the vault's record when it was made
	Err      error
	// Versions is complete. A vault without a KEK has none.
	Versions []key.Version
	Newest   KEKSeen
	// Others holds, by version, the other KEKs that the record or a tag gave reason to look at: the active one, those
	// that wait, and keyd's own that the record does not have yet.
	Others   map[string]KEKSeen
	Skew     time.Duration // the vault's clock minus ours
	SkewSeen bool
}

// Moment is a time by both clocks.
func (l VaultLook) Moment(t time.Time) Moment {
	m := Moment{Here: t}
	if l.SkewSeen {
		m.There = t.Add(l.Skew)
	}
	return m
}

// KEK is what was seen of the KEK with this version; ok is false if nobody looked at it.
func (l VaultLook) KEK(version string) (seen KEKSeen, ok bool) {
	if version != "" && l.Newest.KEK.Version() == version {
		return l.Newest, true
	}
	seen, ok = l.Others[version]
	return seen, ok
}

// Version is the listed version with this id.
func (l VaultLook) Version(id string) (key.Version, bool) {
	return VaultSeen{Versions: l.Versions}.Version(id)
}
