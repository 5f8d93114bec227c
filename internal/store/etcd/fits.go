package etcd

import (
	"context"
	"errors"
	"fmt"
)

// Growth is how an instance fills etcd.
type Growth struct {
	Bytes   int64 // of etcd's database per audit entry, after compaction
	Entries int64 // audit entries of one key in one year
}

// Fits is how many keys × years fit into half a quota: at half of it keyd warns, and what etcd has not compacted yet
// needs room, too.
func Fits(quota int64, g Growth) int64 {
	if g.Bytes <= 0 || g.Entries <= 0 {
		return 0
	}
	return quota / 2 / (g.Bytes * g.Entries)
}

// Sentence says it to a person.
func (g Growth) Sentence(quota int64) string {
	return fmt.Sprintf("With %d bytes an entry and %d entries a key and year, half of a quota of %d MiB holds "+
		"%d keys × years.", g.Bytes, g.Entries, quota>>20, Fits(quota, g))
}

// Room says to a person how much etcd holds, by what its database has now. It counts the data of others in the same
// etcd as keyd's, and says then that less fits than does. entries is how many one key adds to the chain in a year.
func (e *Engine) Room(ctx context.Context, entries int64) (string, error) {
	tip, err := e.Tip(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range e.members(ctx) {
		if m.err == nil && tip.Seq > 0 {
			return Growth{m.status.DbSizeInUse / int64(tip.Seq), entries}.Sentence(e.quotaOf(m)), nil
		}
	}
	return "", e.failed("look how much etcd holds", errors.New("no member answers, or nothing is stored yet"), false)
}
