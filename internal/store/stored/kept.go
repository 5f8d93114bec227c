package stored

import "sync"

// maxKept bounds the decoded records that a store keeps: the sum of their encoded sizes, in bytes (2 MiB). Beyond it
// the store gives up kept records at random. It is enough for the keys that are worked on and looked at now: whoever
// shows all keys reads the changed records only.
const maxKept = 2 << 20

// Kept holds decoded records, so that reading one again costs no decoding. A kept record counts only as long as the
// engine has the record at that revision with that sum. Nobody else gets hold of a kept record: Put and Get copy it.
type Kept[R any] struct {
	clone func(R) R
	limit int

	mu      sync.Mutex
	records map[string]decoded[R]
	size    int
}

// decoded is a record with what the engine said of it.
type decoded[R any] struct {
	head   Head
	size   int
	record R
}

// NewKept keeps no record yet; clone copies one.
func NewKept[R any](clone func(R) R) *Kept[R] {
	return &Kept[R]{clone: clone, limit: maxKept, records: map[string]decoded[R]{}}
}

// Get returns the record of that name if it was kept with this head.
func (k *Kept[R]) Get(name string, head Head) (rec R, ok bool) {
	k.mu.Lock()
	found, ok := k.records[name]
	k.mu.Unlock()
	if !ok || found.head != head {
		return rec, false
	}
	return k.clone(found.record), true
}

// Put keeps a copy of a record as the engine has it.
func (k *Kept[R]) Put(name string, r Record, rec R) {
	rec = k.clone(rec)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drop(name)
	k.records[name] = decoded[R]{head: r.Head, size: len(r.Body), record: rec}
	k.size += len(r.Body)
	for other := range k.records { // in random order
		if k.size <= k.limit {
			return
		}
		k.drop(other)
	}
}

// drop is called with the lock held.
func (k *Kept[R]) drop(name string) {
	k.size -= k.records[name].size
	delete(k.records, name)
}
