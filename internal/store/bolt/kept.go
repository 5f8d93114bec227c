package bolt

import (
	"sync"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// maxKept bounds the decoded records that a store keeps: the sum of their encoded sizes, in bytes (8 MiB). Beyond it
// the store gives up kept records at random. It is enough for the keys that are worked on and looked at now: whoever
// shows all keys reads the changed records only.
const maxKept = 8 << 20

// kept holds decoded records, so that reading one again costs no decoding. A kept record counts only as long as the
// file has the record at that revision with that sum. Nobody else gets hold of a kept record: put and get copy it.
type kept[R any] struct {
	clone func(R) R
	limit int

	mu      sync.Mutex
	records map[string]decoded[R]
	size    int
}

// decoded is a record with what the file said of it.
type decoded[R any] struct {
	revision uint64
	sum      chain.Hash
	size     int
	record   R
}

func newKept[R any](clone func(R) R) *kept[R] {
	return &kept[R]{clone: clone, limit: maxKept, records: map[string]decoded[R]{}}
}

// get returns the record of that name if it was kept at this revision with this sum.
func (k *kept[R]) get(name string, revision uint64, sum chain.Hash) (rec R, ok bool) {
	k.mu.Lock()
	found, ok := k.records[name]
	k.mu.Unlock()
	if !ok || found.revision != revision || found.sum != sum {
		return rec, false
	}
	return k.clone(found.record), true
}

// put keeps a copy of a record as the file has it.
func (k *kept[R]) put(name string, r stored.Record, rec R) {
	rec = k.clone(rec)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drop(name)
	k.records[name] = decoded[R]{revision: r.Revision, sum: r.Sum, size: len(r.Body), record: rec}
	k.size += len(r.Body)
	for other := range k.records { // in random order
		if k.size <= k.limit {
			return
		}
		k.drop(other)
	}
}

// drop is called with the lock held.
func (k *kept[R]) drop(name string) {
	k.size -= k.records[name].size
	delete(k.records, name)
}
