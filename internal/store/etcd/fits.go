package etcd

import "fmt"

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
	return fmt.Sprintf("With %d bytes an entry and %d entries a key and year, half of a quota of %d MiB holds %d keys × "+
		"years.", g.Bytes, g.Entries, quota>>20, Fits(quota, g))
}
