package status

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Consumers is what keyd saw of those who use a key.
type Consumers struct {
	At    time.Time `json:"at,omitzero"`     // when the look began; zero: keyd has not looked yet
	Error string    `json:"error,omitempty"` // why the look failed as a whole; then keyd knows nothing else
	// None: the configuration says `consumers: none`.
	None bool `json:"none"`
	// Searched: keyd also searches azure.subscriptions for consumers. Unseen is what the search did not see.
	Searched bool     `json:"searched"`
	Unseen   []string `json:"unseen"`
	// PartialSince is since when keyd does not see all of it: Error or Unseen; zero: it does.
	PartialSince time.Time  `json:"partial_since,omitzero"`
	List         []Consumer `json:"list"`
	// Moves are the moves to the newest version that have not ended well.
	Moves []Move `json:"moves"`
	// Add lists the ids that the configuration lacks, and could have.
	Add  []string  `json:"add"`
	Logs []UsedLog `json:"logs"`
}

// Asked reports whether keyd asks anybody about who uses the key.
func (c Consumers) Asked() bool { return len(c.List)+len(c.Logs) > 0 || c.Searched || !c.At.IsZero() }

// KeyConsumers are the consumers of one key.
type KeyConsumers struct {
	Key string `json:"key"`
	Consumers
}

// Consumer is one resource that encrypts under a key, as keyd saw it.
type Consumer struct {
	ID         string `json:"id"`
	Service    string `json:"service"` // for people: "storage account"
	Name       string `json:"name"`    // the last one in the id
	Configured bool   `json:"configured"`
	// Understood: keyd knows what resources of this type do.
	Understood bool `json:"understood"`
	// Error is why keyd does not know what it uses, and UnseenSince since when it does not.
	Error       string     `json:"error,omitempty"`
	Reason      key.Reason `json:"reason,omitempty"` // of the error
	UnseenSince time.Time  `json:"unseen_since,omitzero"`

	// Left is why it still counts, although it is no longer set to the key; "": it is set to it.
	Left string `json:"left,omitempty"`

	Vault string `json:"vault,omitempty"` // URL
	Key   string `json:"key,omitempty"`   // name of the key that it is set to
	// OtherKey: it is set to another key, or to one in a vault that is none of the key's.
	OtherKey bool `json:"other_key,omitempty"`
	// Replaced: that other key replaces this one.
	Replaced bool   `json:"replaced,omitempty"`
	Asked    string `json:"asked,omitempty"` // the version that it is set to; "": none
	// Uses is the version in use; "": it is not shown. Generation is that version's; 0: not known.
	Uses       string `json:"uses,omitempty"`
	Generation int    `json:"generation,omitempty"`
	Newest     bool   `json:"newest"` // Uses is the newest version in its vault
	// NewestGeneration is that of the newest version there; 0: not known.
	NewestGeneration int       `json:"newest_generation,omitempty"`
	Since            time.Time `json:"since,omitzero"`
	Moves            Mover     `json:"moves"`          // who moves it to a new version
	Within           Seconds   `json:"within_seconds"` // how fast it moves by itself
	// Due is when it should have moved to the newest version, by its service's documents; zero: it uses that one, or
	// keyd does not know.
	Due time.Time `json:"due,omitzero"`

	Disabled    bool      `json:"disabled,omitempty"`    // the version in use is
	Compromised bool      `json:"compromised,omitempty"` // its material is
	Expires     time.Time `json:"expires,omitzero"`      // the version in use does
	Needs       []string  `json:"needs"`                 // other versions
	// Log is the newest version that the vault's log shows it to use; nil: none.
	Log *LogUse `json:"log,omitempty"`
	// InTheWay is what keeps it from being well, in words.
	InTheWay []string `json:"in_the_way"`
}

// Mover is who moves a consumer to a new version.
type Mover string

// The movers.
const (
	MovesItself  Mover = "itself"
	MovedByKeyd  Mover = "keyd"
	MovedByHand  Mover = "person"
	MoverUnknown Mover = "unknown"
)

// ConsumerState is what a consumer uses, in short.
type ConsumerState string

// The states of a consumer.
const (
	UsesNewest  ConsumerState = "newest"
	UsesOlder   ConsumerState = "older"
	UsesUnknown ConsumerState = "unknown" // it is seen, and does not show its version
	UsesOther   ConsumerState = "other-key"
	UsedOnce    ConsumerState = "left" // it was found under the key, and is not now
	NotSeen     ConsumerState = "unseen"
)

// ConsumerStates lists every state.
func ConsumerStates() []ConsumerState {
	return []ConsumerState{UsesNewest, UsesOlder, UsesUnknown, UsesOther, UsedOnce, NotSeen}
}

// State is one of the states above.
func (c Consumer) State() ConsumerState {
	switch {
	case c.Error != "":
		return NotSeen
	case c.OtherKey:
		return UsesOther
	case c.Left != "":
		return UsedOnce
	case c.Newest:
		return UsesNewest
	case c.Uses == "":
		return UsesUnknown
	}
	return UsesOlder
}

// LogUse is a use of a version that a vault's audit log shows.
type LogUse struct {
	Version    string    `json:"version"` // "": the call named none
	Generation int       `json:"generation,omitempty"`
	At         time.Time `json:"at"`
	// Shared: other consumers call the vault as the same identity, so it may have been one of them.
	Shared bool `json:"shared"`
}

// UsedLog is what the audit log of one vault shows of a key.
type UsedLog struct {
	Vault     string    `json:"vault"` // URL
	Workspace string    `json:"workspace"`
	Error     string    `json:"error,omitempty"` // why keyd does not trust the log now
	From      time.Time `json:"from,omitzero"`   // keyd has seen the whole log from then
	Until     time.Time `json:"until,omitzero"`  // to then
	// Retired is the last use of a version after it was disabled; nil: the log shows none.
	Retired *RetiredUse `json:"retired,omitempty"`
}

// RetiredUse is a use of a version that was disabled before.
type RetiredUse struct {
	Version    string    `json:"version"`
	Generation int       `json:"generation"`
	At         time.Time `json:"at"`
	Caller     string    `json:"caller"` // object id; "": the log names none
}

// Worst sorts consumers: first those that something is in the way of, then by service and name.
func Worst(list []Consumer) []Consumer {
	return slices.SortedStableFunc(slices.Values(list), func(a, b Consumer) int {
		if (len(a.InTheWay) == 0) != (len(b.InTheWay) == 0) {
			return cmp.Compare(len(b.InTheWay), len(a.InTheWay))
		}
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}
