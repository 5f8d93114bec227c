package emulator

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxPage      = 25
	shortHSMPage = 10 // a Managed HSM's pages may be short though more follow
)

// vaultPage always has nextLink, null at the end; hsmPage leaves it out.
type vaultPage struct {
	Value    []any   `json:"value"`
	NextLink *string `json:"nextLink"`
}

type hsmPage struct {
	Value    []any   `json:"value"`
	NextLink *string `json:"nextLink,omitempty"`
}

// listed is one item with the token by which the next page starts after it.
type listed struct {
	token string
	item  any
}

// page answers one page of versions, keys or deleted keys.
func (v *Vault) page(t target, query url.Values) (any, error) {
	size := maxPage
	if s := query.Get("maxresults"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPage {
			return nil, badParameter("maxresults is from 1 to %d, not %q.", maxPage, s)
		}
		size = n
	}
	items, path := v.items(t)
	if after := query.Get("$skiptoken"); after != "" {
		token, err := base64.RawURLEncoding.DecodeString(after)
		if err != nil {
			return nil, badParameter("The skip token is not valid.")
		}
		i := slices.IndexFunc(items, func(l listed) bool { return l.token == string(token) })
		if i < 0 {
			return nil, badParameter("The skip token is not valid any more.")
		}
		items = items[i+1:]
	}
	if v.config.Profile == ManagedHSM {
		size = min(size, shortHSMPage)
	}
	more := len(items) > size
	items = items[:min(len(items), size)]
	values := make([]any, 0, len(items))
	for _, l := range items {
		values = append(values, l.item)
	}
	var next *string
	if more {
		link := v.nextLink(path, items[len(items)-1].token, query)
		next = &link
	}
	if v.config.Profile == ManagedHSM {
		return hsmPage{values, next}, nil
	}
	return vaultPage{values, next}, nil
}

// nextLink of a Managed HSM omits api-version; clients must add it.
func (v *Vault) nextLink(path, token string, query url.Values) string {
	q := url.Values{"$skiptoken": {base64.RawURLEncoding.EncodeToString([]byte(token))}}
	if m := query.Get("maxresults"); m != "" {
		q.Set("maxresults", m)
	}
	if v.config.Profile != ManagedHSM {
		q.Set("api-version", query.Get("api-version"))
	}
	if v.config.Profile != ManagedHSM {
		return "https://" + v.config.Host + ":443/" + path + "?" + q.Encode()
	}
	return v.id(path) + "?" + q.Encode()
}

// items are in the service's order. An unknown key has an empty list of versions.
func (v *Vault) items(t target) ([]listed, string) {
	s := v.replica()
	switch t.operation {
	case opVersions:
		return v.versionItems(s, t.key), "keys/" + t.key + "/versions"
	case opList:
		return v.keyItems(s), "keys"
	default:
		return v.deletedItems(s), "deletedkeys"
	}
}

func (v *Vault) versionItems(s *state, name string) []listed {
	k, err := s.key(name)
	if err != nil {
		return nil
	}
	versions := slices.Clone(k.versions) // by time, as a Managed HSM lists them
	if v.config.Profile != ManagedHSM {
		slices.SortFunc(versions, func(a, b *version) int { return cmp.Compare(a.id, b.id) })
	}
	var items []listed
	for _, ver := range versions {
		items = append(items, listed{ver.id, v.item(ver, "keys", k.name, ver.id)})
	}
	return items
}

func (v *Vault) keyItems(s *state) []listed {
	var items []listed
	for _, k := range s.keys {
		items = append(items, listed{k.name, v.item(k.newest(), "keys", k.name)})
	}
	return sorted(items)
}

func (v *Vault) deletedItems(s *state) []listed {
	var items []listed
	for name := range s.deleted {
		d, err := v.deletedKey(s, name)
		if err != nil {
			continue
		}
		items = append(items, listed{d.entry.name, deletedItem{
			RecoveryID:         v.id("deletedkeys", d.entry.name),
			DeletedDate:        d.at.Unix(),
			ScheduledPurgeDate: d.purgeAt.Unix(),
			keyItem:            v.item(d.entry.newest(), "keys", d.entry.name),
		}})
	}
	return sorted(items)
}

func sorted(items []listed) []listed {
	slices.SortFunc(items, func(a, b listed) int {
		return cmp.Compare(strings.ToLower(a.token), strings.ToLower(b.token))
	})
	return items
}

func (v *Vault) item(ver *version, id ...string) keyItem {
	return keyItem{KID: v.id(id...), Attributes: v.attributes(ver), Tags: ver.tags}
}
