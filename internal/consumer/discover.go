package consumer

import (
	"context"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Discover looks now at those who use these keys, for a person. It searches every subscription that keyd's identity may
// see, and keeps nothing: what nobody configured must not count for a retire rule because somebody looked. The usages
// are by key.
func (w *Watcher) Discover(ctx context.Context, policies []key.Policy) map[string]record.Usage {
	r := w.round()
	r.everywhere(ctx)
	all := make(map[string]record.Usage, len(policies))
	for _, p := range policies {
		if ctx.Err() != nil {
			break
		}
		p.Discover = true
		all[p.Key] = w.once(ctx, r, p)
	}
	return all
}

// everywhere adds the subscriptions that keyd's identity may see to those that it is to search. If it cannot list them,
// the search says so.
func (r *round) everywhere(ctx context.Context) {
	if r.client == nil {
		return
	}
	shown, err := visible(ctx, r.client)
	if err != nil {
		return
	}
	r.subscriptions = slices.Clone(r.subscriptions)
	for _, id := range sortedNames(shown) {
		if !slices.ContainsFunc(r.subscriptions, func(have string) bool { return strings.EqualFold(have, id) }) {
			r.subscriptions = append(r.subscriptions, id)
		}
	}
}

func sortedNames(shown map[string]bool) (ids []string) {
	for id := range shown {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// once looks at one key, and keeps nothing of it.
func (w *Watcher) once(ctx context.Context, r *round, p key.Policy) record.Usage {
	k := w.of(p.Key)
	u, _, err := w.ask(ctx, r, k, p)
	if err != nil {
		return record.Usage{At: r.at, Err: err}
	}
	k.mu.Lock()
	blob, err := k.memory.blob()
	k.mu.Unlock()
	if err != nil {
		return record.Usage{At: r.at, Err: err}
	}
	copied, err := readMemory(blob)
	if err != nil {
		return record.Usage{At: r.at, Err: err}
	}
	copied.date(&u, w.cfg.Clock())
	return u
}
