package chain

import "github.com/keyd-project/keyd/internal/key"

// Stub is what an entry's hash covers besides its place: enough to follow the chain without reading what it says.
type Stub struct {
	Key string `json:"key"`
	Sum Hash   `json:"sum"` // of the content
}

// Stub returns the entry without its content.
func (l Linked) Stub() Stub { return Stub{Key: l.Key, Sum: BodySum(l.Body)} }

// Extension leads from a signed head to a later one: what the HSM side must see before it signs the later one.
type Extension struct {
	Since *key.SignedCheckpoint `json:"since,omitempty"` // the newest in the chain; nil: the chain has none
	Stubs []Stub                `json:"stubs"`           // the entries after Since; without one, from the first
	Seq   uint64                `json:"seq"`             // the number of the last of them
	Head  Hash                  `json:"head"`            // and its hash, as the chain has it
}

// MaxStubs is how many entries an Extension may have. A longer way takes several checkpoints.
const MaxStubs = 1000

// Leads reports whether the entries lead from the entry with this number and hash (0 and zero: from an empty chain) to
// the extension's head.
func (x Extension) Leads(seq uint64, hash Hash) bool {
	if len(x.Stubs) == 0 || len(x.Stubs) > MaxStubs || seq+uint64(len(x.Stubs)) != x.Seq {
		return false
	}
	for i, s := range x.Stubs {
		hash = LinkHash(hash, seq+uint64(i)+1, s.Key, s.Sum)
	}
	return hash == x.Head
}
