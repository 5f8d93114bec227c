package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Memory is an engine in the memory of a test. All who hold it share one store.
type Memory struct {
	clock func() time.Time

	mu      sync.Mutex
	records map[string][]byte
	entries []chain.Linked
	blobs   map[string][]byte
	epoch   term.Epoch
	holder  string
	since   time.Time
	until   time.Time
	sealed  string
}

// NewMemory is an empty store; its lease goes by this clock.
func NewMemory(clock func() time.Time) *Memory {
	return &Memory{clock: clock, records: map[string][]byte{}, blobs: map[string][]byte{}}
}

// Clone is a store of its own with the same content, as a standby is.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{clock: m.clock, records: maps.Clone(m.records), entries: slices.Clone(m.entries),
		blobs: maps.Clone(m.blobs), epoch: m.epoch, holder: m.holder, since: m.since, until: m.until, sealed: m.sealed}
}

// Damage has fn change what is stored, as nobody should.
func (m *Memory) Damage(fn func(records map[string][]byte, entries []chain.Linked)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn(m.records, m.entries)
}

// Name is the engine's.
func (m *Memory) Name() string { return "memory" }

// locked runs fn, unless ctx has ended.
func (m *Memory) locked(ctx context.Context, fn func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return &stored.EngineError{Engine: m.Name(), Doing: "wait", Err: err}
	}
	return fn()
}

func (m *Memory) tip() stored.Tip {
	if len(m.entries) == 0 {
		return stored.Tip{}
	}
	last := m.entries[len(m.entries)-1]
	return stored.Tip{Seq: last.Seq, Hash: last.Hash}
}

// Tip is the end of the chain.
func (m *Memory) Tip(ctx context.Context) (at stored.Tip, err error) {
	err = m.locked(ctx, func() error { at = m.tip(); return nil })
	return at, err
}

// Record returns the bytes of one record with the tip.
func (m *Memory) Record(ctx context.Context, name string) (value []byte, at stored.Tip, err error) {
	err = m.locked(ctx, func() error {
		value, at = bytes.Clone(m.records[name]), m.tip()
		return nil
	})
	return value, at, err
}

// Heads returns the heads of all records with the tip.
func (m *Memory) Heads(ctx context.Context) (heads map[string]stored.Head, at stored.Tip, err error) {
	err = m.locked(ctx, func() error {
		heads, at = map[string]stored.Head{}, m.tip()
		for name, value := range m.records {
			head, err := stored.ParseHead(name, value)
			if err != nil {
				return err
			}
			heads[name] = head
		}
		return nil
	})
	return heads, at, err
}

// Entries returns at most limit entries from a number on.
func (m *Memory) Entries(ctx context.Context, from uint64, limit int) (found []chain.Linked, err error) {
	err = m.locked(ctx, func() error {
		begin := min(max(from, 1)-1, uint64(len(m.entries))) // the entry with number n is the n-th
		rest := m.entries[begin:]
		found = slices.Clone(rest[:min(limit, len(rest))])
		return nil
	})
	return found, err
}

// refuse checks what a guarded write needs.
func (m *Memory) refuse(e *term.Epoch) error {
	switch {
	case m.sealed != "":
		return fmt.Errorf("%w: %s", stored.ErrSealed, m.sealed)
	case e != nil && (*e != m.epoch || e.IsZero()):
		return stored.ErrEpoch
	}
	return nil
}

// Commit makes a change, or nothing of it.
func (m *Memory) Commit(ctx context.Context, c stored.Change) error {
	return m.locked(ctx, func() error {
		if err := m.refuse(c.Epoch); err != nil {
			return err
		}
		if c.Tip != m.tip() {
			return stored.ErrTip
		}
		for _, r := range c.Records {
			var was stored.Head
			if value := m.records[r.Name]; value != nil {
				was, _ = stored.ParseHead(r.Name, value)
			}
			if was != r.Was {
				return fmt.Errorf("%s: %w", r.Name, stored.ErrRecord)
			}
		}
		for _, r := range c.Records {
			m.records[r.Name] = bytes.Clone(r.Value)
		}
		m.entries = append(m.entries, c.Entries...)
		return nil
	})
}

// Blob returns what PutBlob kept last under a name.
func (m *Memory) Blob(ctx context.Context, name string) (value []byte, err error) {
	err = m.locked(ctx, func() error { value = bytes.Clone(m.blobs[name]); return nil })
	return value, err
}

// Blobs lists the names with a prefix.
func (m *Memory) Blobs(ctx context.Context, prefix string) (names []string, err error) {
	err = m.locked(ctx, func() error {
		for _, name := range slices.Sorted(maps.Keys(m.blobs)) {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}

// PutBlob replaces a blob, or removes it.
func (m *Memory) PutBlob(ctx context.Context, b stored.Blob) error {
	return m.locked(ctx, func() error {
		if err := m.refuse(b.Epoch); err != nil {
			return err
		}
		if len(b.Value) == 0 {
			delete(m.blobs, b.Name)
			return nil
		}
		if n := len(b.Value); n > stored.MaxBlob {
			return &stored.EngineError{Engine: m.Name(), Doing: "put " + b.Name,
				Err: fmt.Errorf("it has %d bytes, and may have %d", n, stored.MaxBlob)}
		}
		m.blobs[b.Name] = bytes.Clone(b.Value)
		return nil
	})
}

func (m *Memory) lease() stored.Lease {
	now := m.clock()
	return stored.Lease{Epoch: m.epoch, Holder: m.holder, Since: m.since, Left: m.until.Sub(now), Now: now}
}

// Lease is who leads.
func (m *Memory) Lease(ctx context.Context) (l stored.Lease, err error) {
	err = m.locked(ctx, func() error { l = m.lease(); return nil })
	return l, err
}

// Take makes a host the leader.
func (m *Memory) Take(
	ctx context.Context, holder string, nonce [16]byte, ttl time.Duration,
) (l stored.Lease, err error) {
	err = m.locked(ctx, func() error {
		if err := m.refuse(nil); err != nil {
			return err
		}
		if m.lease().Left > 0 && m.holder != holder {
			return stored.ErrHeld
		}
		m.epoch, m.holder = term.Epoch{Number: m.epoch.Number + 1, Nonce: nonce}, holder
		m.since = m.clock()
		m.until = m.since.Add(ttl)
		l = m.lease()
		return nil
	})
	return l, err
}

// Renew prolongs the lease of an epoch.
func (m *Memory) Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (l stored.Lease, err error) {
	err = m.locked(ctx, func() error {
		if err := m.refuse(&e); err != nil {
			return err
		}
		if m.lease().Left <= 0 {
			return stored.ErrEpoch
		}
		m.until = m.clock().Add(ttl)
		l = m.lease()
		return nil
	})
	return l, err
}

// Release ends the lease of an epoch.
func (m *Memory) Release(ctx context.Context, e term.Epoch) error {
	return m.locked(ctx, func() error {
		if e == m.epoch {
			m.until = m.clock()
		}
		return nil
	})
}

// Seal has it refuse every change.
func (m *Memory) Seal(ctx context.Context, why string) error {
	return m.locked(ctx, func() error { m.sealed = why; return nil })
}

// Sealed says why it refuses every change.
func (m *Memory) Sealed(ctx context.Context) (why string, err error) {
	err = m.locked(ctx, func() error { why = m.sealed; return nil })
	return why, err
}

// Warnings says that there is nothing to see to.
func (m *Memory) Warnings(ctx context.Context) ([]string, error) {
	return nil, m.locked(ctx, func() error { return nil })
}

// Close does nothing: others hold it, too.
func (m *Memory) Close() error { return nil }
