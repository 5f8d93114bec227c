package daemon

import (
	"context"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// searched is how many of the chain's latest entries a look for those of one key reads: the status page waits for it.
const searched = 2000

// recent returns the last n entries of the audit chain, oldest first.
func (d *Daemon) recent(ctx context.Context, n int) ([]status.Entry, error) {
	found, err := d.store.Recent(ctx, n)
	return shownEntries(found), err
}

// recentOf returns the last n entries that are about one key among the latest of the audit chain, oldest first.
func (d *Daemon) recentOf(ctx context.Context, name string, n int) ([]status.Entry, error) {
	found, err := d.store.Recent(ctx, searched)
	var of []chain.Linked
	for _, c := range found {
		if key.SameName(c.Key, name) {
			of = append(of, c)
		}
	}
	return shownEntries(of[max(0, len(of)-n):]), err
}

func shownEntries(found []chain.Linked) []status.Entry {
	entries := make([]status.Entry, len(found))
	for i, c := range found {
		entries[i] = status.Entry{
			Seq: c.Seq, Time: c.Time, Key: c.Key, Event: string(c.Event), Actor: c.Actor, Fields: c.Fields,
		}
	}
	return entries
}
