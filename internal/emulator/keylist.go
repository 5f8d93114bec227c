package emulator

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
)

// KeyList is how the vaults' lists of keys (GET /keys) are. Which version's attributes the service shows there, and in
// which order, is not documented.
type KeyList int

// The kinds of list.
const (
	// NewestListed shows each key with the attributes and tags of its newest version, by name.
	NewestListed KeyList = iota
	OldestListed         // with those of its oldest version
	BareListed           // with a kid alone
	ShuffledListed
	// GappyListed misses now one key, now another, as when keys change between two pages.
	GappyListed
)

var keyLists = []string{"newest", "oldest", "bare", "shuffled", "gappy"}

// String is the kind as the command line spells it.
func (l KeyList) String() string { return keyLists[l] }

// ParseKeyList reads "newest", "oldest", "bare", "shuffled" or "gappy".
func ParseKeyList(s string) (KeyList, error) {
	if i := slices.Index(keyLists, s); i >= 0 {
		return KeyList(i), nil
	}
	return 0, fmt.Errorf("unknown list of keys %q: write newest, oldest, bare, shuffled or gappy", s)
}

// bareItem is an item of a list that shows no attributes.
type bareItem struct {
	KID string `json:"kid"`
}

// keyItem is a key in the list of keys.
func (v *Vault) keyItem(k *entry) any {
	switch v.opts.KeyList {
	case OldestListed:
		return v.item(k.versions[0], "keys", k.name)
	case BareListed:
		return bareItem{KID: v.id("keys", k.name)}
	}
	return v.item(k.newest(), "keys", k.name)
}

// listed puts the rows of the list of keys into its order. A row that is missed is one that the list does not show.
func (v *Vault) listed(rows []row) []row {
	switch v.opts.KeyList {
	case ShuffledListed:
		slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(scatter(a.token), scatter(b.token)) })
		return rows
	case GappyListed:
		minute := uint32(v.opts.Now().Unix() / 60)
		for i := range rows {
			if (scatter(rows[i].token)+minute)%5 == 0 {
				rows[i].item = nil
			}
		}
	}
	return sorted(rows)
}

func scatter(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(fold(name)))
	return h.Sum32()
}
