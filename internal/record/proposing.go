package record

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Proposals are the acts about one key or one vault that wait for a second operator. They are in the record itself, so
// that an approved one is consumed by the same save as its act.
type Proposals []key.Proposal

// Find returns the proposal with this id.
func (l Proposals) Find(id key.ID) (key.Proposal, bool) {
	i := slices.IndexFunc(l, func(p key.Proposal) bool { return p.ID == id })
	if i < 0 {
		return key.Proposal{}, false
	}
	return l[i], true
}

// Remove removes the proposal with this id.
func (l *Proposals) Remove(id key.ID) {
	*l = slices.DeleteFunc(slices.Clone(*l), func(p key.Proposal) bool { return p.ID == id })
}

// Over lists the proposals that have ended without approval.
func (l Proposals) Over(now time.Time) (over []key.Proposal) {
	for _, p := range l {
		if p.Over(now) {
			over = append(over, p)
		}
	}
	return over
}

// State is a digest of everything in the record but its proposals. It takes the place of the revision, which grows
// with every proposal, too.
func (r Record) State() (string, error) {
	r.Proposals, r.Schema = nil, 0
	return stateOf(r)
}

// State is a digest of everything in the record but its proposals.
func (v Vault) State() (string, error) {
	v.Proposals, v.Schema = nil, 0
	return stateOf(v)
}

func stateOf(rec any) (string, error) {
	text, err := json.Marshal(rec)
	if err != nil {
		return "", fmt.Errorf("encode a record: %w", err)
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}
