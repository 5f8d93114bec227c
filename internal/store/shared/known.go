package shared

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// page is how many entries one call of the engine reads.
const page = 256

// known is what this host knows of the store: where its chain ends, and which state of each record is the newest. The
// chain itself tells of both, so that following it is enough.
type known struct {
	busy    chan struct{} // holds one while the chain is followed
	tip     stored.Tip
	first   chain.Hash // of the first entry; zero for an empty chain
	heads   map[string]stored.Head
	names   map[string]string // of the records, by the name in lower case
	seen    *seen
	missing atomic.Pointer[HeadMissing] // the store does not contain what was seen
}

// lock waits until nobody follows, or ctx ends.
func (k *known) lock(ctx context.Context) error {
	select {
	case k.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lockAnyway waits as long as it takes: each call of the engine ends.
func (k *known) lockAnyway() { k.busy <- struct{}{} }

func (k *known) unlock() { <-k.busy }

// apply goes on by one entry.
func (k *known) apply(l chain.Linked) error {
	if k.tip.Seq == 0 {
		k.first = l.Hash
	}
	k.tip = stored.Tip{Seq: l.Seq, Hash: l.Hash}
	if l.Record == "" {
		return nil
	}
	head := stored.Head{Revision: l.Seq}
	if err := head.Sum.UnmarshalText([]byte(l.Record)); err != nil {
		return fmt.Errorf("entry %d: %w", l.Seq, err)
	}
	k.heads[l.Key] = head
	k.names[strings.ToLower(l.Key)] = l.Key
	return nil
}

// see remembers the end of the chain on this host's disk, unless the store lacks what was seen before, or the disk has
// it already. A server that lags behind may tell of an end that is older than what was seen.
func (k *known) see() error {
	tip, first := k.tip, k.first
	if tip.Seq < k.seen.Seq {
		tip, first = k.seen.Tip, k.seen.first
	}
	if k.missing.Load() == nil {
		return k.seen.put(tip, first)
	}
	return nil
}

// begin reads all that there is to know, and looks whether the store contains what this host saw. If it cannot find
// out, this host knows what it knew, so that it changes nothing meanwhile.
func (s *Store) begin(ctx context.Context) error {
	k := &s.known
	heads, tip, err := s.engine.Heads(ctx)
	if err != nil {
		return err
	}
	first, err := s.hashAt(ctx, 1)
	if err != nil {
		return err
	}
	kept, err := s.keeps(ctx)
	if err != nil {
		return err
	}
	k.tip, k.first, k.heads, k.names = tip, first, heads, map[string]string{}
	for name := range heads {
		k.names[strings.ToLower(name)] = name
	}
	s.looked(ctx, kept)
	return nil
}

// hashAt is the hash of the entry with a number; zero for none.
func (s *Store) hashAt(ctx context.Context, seq uint64) (chain.Hash, error) {
	found, err := s.engine.Entries(ctx, seq, 1)
	if err != nil || len(found) == 0 || found[0].Seq != seq {
		return chain.Hash{}, err
	}
	return found[0].Hash, nil
}

// follow reads what other hosts added to the chain. It is what finds a store that lost changes: the entry that this
// host knows as the last one must be there, with its hash, and every later one must link to it.
func (s *Store) follow(ctx context.Context) error {
	if err := s.known.lock(ctx); err != nil {
		return err
	}
	defer s.known.unlock()
	return s.followLocked(ctx)
}

func (s *Store) followLocked(ctx context.Context) error {
	if s.isClosed() {
		return stored.ErrClosed
	}
	k := &s.known
	for {
		found, err := s.engine.Entries(ctx, max(k.tip.Seq, 1), page)
		if err != nil {
			return err
		}
		if k.tip.Seq > 0 {
			if len(found) == 0 || found[0].Seq != k.tip.Seq || found[0].Hash != k.tip.Hash {
				_ = k.see()         // what it compares with is all that this host knows, on its disk or not
				return s.begin(ctx) // another history
			}
			found = found[1:]
		}
		for _, l := range found {
			if l.Seq != k.tip.Seq+1 || l.Prev != k.tip.Hash || !chain.Links(l.Prev, l.Seq, l.Key, l.Body, l.Hash) {
				return s.damaged("audit entry %d does not follow the one before it", l.Seq)
			}
			if err := k.apply(l); err != nil {
				return s.damaged("%v", err)
			}
		}
		if len(found) < page-1 {
			break
		}
	}
	s.metrics.Entries(k.tip.Seq)
	if k.missing.Load() != nil {
		return s.look(ctx) // the store that has it may be back
	}
	_ = k.see() // what cannot be remembered stops the next write, and no read
	return nil
}

// committed goes on by a change that this host made, and remembers it on the disk.
func (s *Store) committed(c stored.Change) {
	k := &s.known
	k.lockAnyway()
	defer k.unlock()
	if k.tip != c.Tip {
		return // it was followed already, or will be
	}
	for _, l := range c.Entries {
		_ = k.apply(l) // this host made its sums
	}
	s.metrics.Entries(k.tip.Seq)
	_ = k.see()
}

// state is what a change is linked by.
type state struct {
	tip   stored.Tip
	heads map[string]stored.Head // of the records that were asked for
	names map[string]string      // by the name in lower case
}

// state returns what is known of these records.
func (k *known) state(names []string) state {
	k.lockAnyway()
	defer k.unlock()
	st := state{tip: k.tip, heads: map[string]stored.Head{}, names: map[string]string{}}
	for _, name := range names {
		if head, ok := k.heads[name]; ok {
			st.heads[name] = head
		}
		if other, ok := k.names[strings.ToLower(name)]; ok {
			st.names[strings.ToLower(name)] = other
		}
	}
	return st
}

// newest returns the head of every record. If the chain cannot be followed now, perhaps because of a change whose fate
// is open, it asks for the heads themselves.
func (s *Store) newest(ctx context.Context) (map[string]stored.Head, error) {
	heads, err := s.followed(ctx)
	var engine *stored.EngineError
	if errors.As(err, &engine) && ctx.Err() == nil {
		heads, _, err = s.engine.Heads(ctx)
	}
	return heads, err
}

func (s *Store) followed(ctx context.Context) (map[string]stored.Head, error) {
	if err := s.known.lock(ctx); err != nil {
		return nil, err
	}
	defer s.known.unlock()
	if err := s.followLocked(ctx); err != nil {
		return nil, err
	}
	return maps.Clone(s.known.heads), nil
}

// Head returns the number and the hash of the last entry of the audit chain; zero for an empty one.
func (s *Store) Head(ctx context.Context) (seq uint64, hash chain.Hash, err error) {
	if err := s.known.lock(ctx); err != nil {
		return 0, chain.Hash{}, err
	}
	defer s.known.unlock()
	if err := s.followLocked(ctx); err != nil {
		return 0, chain.Hash{}, err
	}
	return s.known.tip.Seq, s.known.tip.Hash, nil
}

// Names lists the keys that have a record, in byte order.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	heads, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(heads, func(name string, _ stored.Head) bool { return !stored.IsKey(name) })
	return slices.Sorted(maps.Keys(heads)), nil
}

// Revisions returns the revision of the record of every key that has one. It reads no record.
func (s *Store) Revisions(ctx context.Context) (map[string]uint64, error) {
	heads, err := s.newest(ctx)
	if err != nil {
		return nil, err
	}
	revisions := map[string]uint64{}
	for name, head := range heads {
		if stored.IsKey(name) {
			revisions[name] = head.Revision
		}
	}
	return revisions, nil
}
