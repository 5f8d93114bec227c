package record

import (
	"strings"
	"time"
)

// Usage is what keyd saw of those who use a key. What it does not show counts as use. A resource that was found once,
// and that a later look does not find, is still among the consumers, with an Err, until its backups can need no old
// version.
type Usage struct {
	At        time.Time      // when the look began; zero: keyd has not looked
	Err       error          // why the look failed as a whole; then nothing else counts
	Consumers []ConsumerSeen // the configured ones, their children, and those that were found besides
	// Unseen says what a search could not see, one reason each: a subscription that is not shown, a result that was
	// cut. It is empty where nothing is searched.
	Unseen []string
	Logs   map[string]LogSeen // by vault URL, of every vault with a workspace
}

// ConsumerSeen is what was seen of one resource that encrypts under a key.
type ConsumerSeen struct {
	ID         string // resource id, as written or as found
	Service    string // for people: "storage account"
	Configured bool   // the configuration names it, or its parent
	// Err is why keyd does not know what the resource uses; then it counts as a user of every version.
	Err error

	Vault   string // URL of the vault that it is set to
	Key     string // name of the key that it is set to; or OwnKey
	Asked   string // the version that it is set to; "": it follows
	Uses    string // the version in use; "": not shown
	Follows bool   // it moves to new versions by itself
	// Since is when it began to use that version: as the service says, else when keyd first saw it. Zero: not known.
	Since time.Time
	// Left has, by version, when it was first seen on another one after it had used this one. It lacks a version that
	// it uses again, and one that it was never seen to use.
	Left map[string]time.Time
	// Made is when the resource was made, and Own the object id of its own identity. One that has the id of another,
	// which was deleted, differs in these. Zero: not shown.
	Made time.Time
	Own  string
	// Anew is when keyd first saw it after it had been made again, or had been away. It may have been restored from a
	// backup, so what it did before does not count. Zero: it was not.
	Anew time.Time
	// Needs lists other versions that the resource says it still needs, such as a disk encryption set's previous keys.
	Needs []string
	// Callers lists the object ids of the identities with which the resource calls the vault.
	Callers []string
}

// Of lists what was seen of one resource: it can have several keys.
func (u Usage) Of(id string) (all []ConsumerSeen) {
	for _, c := range u.Consumers {
		if strings.EqualFold(c.ID, id) {
			all = append(all, c)
		}
	}
	return all
}

// OwnKey stands in the place of a key's name where a resource is set to a key of the service's own. No key in a vault
// can have this name.
const OwnKey = "(service-managed)"

// LogSeen is what the audit log of one vault shows of a key.
type LogSeen struct {
	Err error // why keyd does not trust the log now
	// From and Until bound the time of which keyd has seen the whole log: it found every call of its own in it.
	From, Until time.Time
	// Asked is from when on the workspace itself showed this when keyd asked it again: every use, and calls of keyd's
	// without a long pause. What is before Asked rests on keyd's own ledger alone, because the workspace no longer has
	// it. Zero: all of it does.
	Asked time.Time
	// Uses has, by version, the last use by others than keyd of each caller (object id; "" where the log names none).
	// Under the version "" are calls that named no version.
	Uses map[string]map[string]time.Time
	// Worked has likewise the uses that prove that a consumer uses a version: those that the vault carried out, and not
	// by an identity under which keyd itself calls the vault.
	Worked map[string]map[string]Span
}

// Span is the first and the last time of something.
type Span struct{ First, Last time.Time }
