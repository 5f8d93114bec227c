package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// Pairs shows the pairs in the HSM.
type Pairs interface {
	Inventory(ctx context.Context) ([]key.Object, error)
	Find(ctx context.Context, id key.ID) ([]key.Object, error)
}

// Base knows which pairs the HSM had when the audit chain began: those of a state that was lost. It records them once,
// at the first inventory. A pair that comes later, and that nobody reserved in the chain, is no sign of an old state.
type Base struct {
	chain Chain
	pairs Pairs
	now   func() time.Time

	mu   sync.Mutex
	had  map[key.ID]bool
	read bool // had is what the chain says
}

// NewBase returns a Base.
func NewBase(c Chain, p Pairs, now func() time.Time) *Base {
	return &Base{chain: c, pairs: p, now: now, had: map[key.ID]bool{}}
}

// Inventory lists every pair, and marks those that came after the chain began. The first one records the pairs before
// it returns.
func (b *Base) Inventory(ctx context.Context) ([]key.Object, error) {
	all, err := b.pairs.Inventory(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.begin(ctx, all); err != nil {
		return nil, err
	}
	return b.mark(all), nil
}

// Find shows what is under one id, and marks it as Inventory does. Before the first inventory it marks nothing.
func (b *Base) Find(ctx context.Context, id key.ID) ([]key.Object, error) {
	found, err := b.pairs.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return b.mark(found), nil
}

func (b *Base) mark(objects []key.Object) []key.Object {
	b.mu.Lock()
	defer b.mu.Unlock()
	objects = slices.Clone(objects)
	for i := range objects {
		objects[i].Late = b.read && !b.had[objects[i].ID]
	}
	return objects
}

// begin reads from the chain which pairs the HSM had, or records them.
func (b *Base) begin(ctx context.Context, all []key.Object) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read {
		return nil
	}
	recorded, err := b.load(ctx)
	if err == nil && !recorded {
		if err = b.chain.Append(ctx, pairsFound(b.now(), all)...); err == nil {
			_, err = b.load(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("which pairs the HSM had when the audit chain began: %w", err)
	}
	b.read = true
	return nil
}

// perEntry is how many pairs one entry lists.
const perEntry = 1000

// pairsFound are the entries that list the pairs. A chain gets all of them at once.
func pairsFound(now time.Time, all []key.Object) (entries []chain.Entry) {
	ids := make([]string, len(all))
	for i, o := range all {
		ids[i] = string(o.ID)
	}
	slices.Sort(ids)
	parts := slices.Collect(slices.Chunk(slices.Compact(ids), perEntry))
	if len(parts) == 0 {
		parts = [][]string{nil}
	}
	for i, part := range parts {
		entries = append(
			entries,
			chain.Entry{Time: now, Event: chain.PairsFound, Actor: keyd, Fields: map[string]string{
				"pairs": strings.Join(part, " "), "part": strconv.Itoa(i + 1), "of": strconv.Itoa(len(parts)),
			}},
		)
	}
	return entries
}

// load reads what an earlier start recorded. recorded is false if none did.
func (b *Base) load(ctx context.Context) (recorded bool, err error) {
	err = b.chain.Audit(ctx, 0, func(c chain.Linked) error {
		if c.Event != chain.PairsFound || c.Key != "" {
			return nil
		}
		for _, id := range strings.Fields(c.Fields["pairs"]) {
			b.had[key.ID(id)] = true
		}
		if recorded = c.Fields["part"] == c.Fields["of"]; recorded {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return recorded, err
}
