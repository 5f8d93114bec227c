package key

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ActKind is a kind of act for which the configuration may require a second operator.
type ActKind string

// The acts.
const (
	ActAdopt      ActKind = "adopt"
	ActCompromise ActKind = "compromise" // to call a key's material compromised
	ActKEK        ActKind = "kek"        // to request a new key exchange key
	ActRetire     ActKind = "retire"     // to consent to a retire rule
	ActResume     ActKind = "resume"     // after a refuted proof
	ActEnable     ActKind = "enable"
	ActRepoint    ActKind = "repoint" // to move a consumer to the newest version by hand
	ActReplace    ActKind = "replace" // to set a key's consumers to another key, and to disable the key after that
)

// ActConfigure is to change guarded settings. It needs a second operator wherever any act does.
const ActConfigure ActKind = "configure"

// ActKinds lists the acts that the configuration may name.
var ActKinds = []ActKind{ActAdopt, ActCompromise, ActKEK, ActRetire, ActResume, ActEnable, ActRepoint, ActReplace}

// Approvals is what the configuration says about acts that need a second operator.
type Approvals struct {
	Acts []ActKind
	Wait time.Duration // a proposal ends after this time
	Self uint32        // the daemon's own uid, which approves nothing
	// Config is the digest of the configuration's files: a proposal counts only under the one it was made under.
	Config string
	// People: the configuration says who is who, and only persons in it may approve.
	People bool
}

// Needs reports whether an act needs a second operator. To replace a key moves consumers and disables versions, so it
// needs one wherever either does.
func (a Approvals) Needs(act ActKind) bool {
	listed := func(k ActKind) bool { return slices.Contains(a.Acts, k) }
	return listed(act) || act == ActReplace && (listed(ActRepoint) || listed(ActRetire))
}

// Person is an operator, as far as keyd knows them.
type Person struct {
	Actor string `json:"actor"` // as the audit shows them: "uid 1000 (alice)"
	UID   uint32 `json:"uid"`
	Login string `json:"login,omitempty"` // "": not known, as of root
	// Host is where they asked, and Names are those in people who have the uid or the login there. They are empty where
	// the configuration has no people.
	Host  string   `json:"host,omitempty"`
	Names []string `json:"names,omitzero"`
	// Unmapped: the uid or the login is nobody's in people.
	Unmapped bool `json:"unmapped,omitempty"`
}

// Known reports whether keyd knows which person it is.
func (p Person) Known() bool { return p.Login != "" }

// MayBe reports whether two may be the same person. A uid tells persons apart on one host only.
func (p Person) MayBe(other Person) bool {
	oneHost := p.Host == other.Host || p.Host == "" || other.Host == ""
	return p.Login == other.Login || oneHost && p.UID == other.UID ||
		slices.ContainsFunc(p.Names, func(name string) bool { return slices.Contains(other.Names, name) })
}

// Act is what an operator asks for, as a second one must know it to approve it.
type Act struct {
	Kind   ActKind `json:"act"`
	Key    string  `json:"key,omitempty"`   // what it is about: a key
	Vault  string  `json:"vault,omitempty"` // or a vault, by its URL; neither: keyd itself
	Reason string  `json:"reason"`
	// Arguments are those besides the reason. Effects says for people what follows from the act.
	Arguments map[string]string `json:"arguments,omitempty"`
	Effects   string            `json:"effects"`
}

// Proposal is an act that waits for a second operator. Its id is random, so it serves as the nonce of the digest, too.
type Proposal struct {
	ID ID `json:"id"`
	Act
	By    Person    `json:"by"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Digest is of all the above, of the record and of the configuration, as they were at that time.
	Digest string `json:"digest"`
}

// Sum is the digest that the proposal has if record and config are the digests of the record that it is about, and of
// the configuration.
func (p Proposal) Sum(record, config string) (string, error) {
	p.Digest = ""
	p.Since, p.Until = p.Since.UTC(), p.Until.UTC()
	text, err := json.Marshal(struct {
		Proposal Proposal `json:"proposal"`
		Record   string   `json:"record"`
		Config   string   `json:"config"`
	}{p, record, config})
	if err != nil {
		return "", fmt.Errorf("encode a proposal: %w", err)
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// Over reports whether the proposal has ended without approval. A clock that was set back to before its beginning ends
// it, too.
func (p Proposal) Over(now time.Time) bool {
	return !now.Before(p.Until) || now.Before(p.Since.Add(-MaxSkew))
}

// Subject names what the proposal is about: a key, a vault's URL, or keyd itself.
func (a Act) Subject() string { return cmp.Or(a.Key, a.Vault, "keyd") }

// String is the act with its arguments, for people: "enable sa-cmk-key version=4f1d".
func (a Act) String() string {
	words := []string{string(a.Kind), a.Subject()}
	for _, name := range slices.Sorted(maps.Keys(a.Arguments)) {
		words = append(words, name+"="+a.Arguments[name])
	}
	return strings.Join(words, " ")
}
