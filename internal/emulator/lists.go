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
	maxPage   = 25
	shortPage = 10 // pages may be short though more follow
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

// row is one row that the service passes through for a listing, with the token that continues after it. A row without
// an item is something that the listing does not show, so pages become short or empty.
type row struct {
	token string
	item  any
}

// page answers one page of versions, keys or deleted keys.
func (v *Vault) page(t target, query url.Values) (any, error) {
	rows, path := v.rows(t)
	number, rows, err := goOn(rows, query.Get("$skiptoken"))
	if err != nil {
		return nil, err
	}
	size, err := v.pageSize(query.Get("maxresults"), number)
	if err != nil {
		return nil, err
	}
	more := len(rows) > size
	scanned := rows[:min(len(rows), size)]
	values := make([]any, 0, len(scanned))
	for _, r := range scanned {
		if r.item != nil {
			values = append(values, r.item)
		}
	}
	var next *string
	if more {
		behind := query.Get("$skiptoken")
		if len(scanned) > 0 {
			behind = scanned[len(scanned)-1].token
		} else {
			_, behind, _ = readToken(behind)
		}
		link := v.nextLink(path, writeToken(number+1, behind), query)
		next = &link
	}
	if v.config.Profile == ManagedHSM {
		return hsmPage{values, next}, nil
	}
	return vaultPage{values, next}, nil
}

// pageSize is how many rows a page covers. If a client leaves the size to a vault, it gets a whole page, an empty
// one, and then whole and short ones in turn; a Managed HSM's are short.
func (v *Vault) pageSize(asked string, number int) (int, error) {
	size := maxPage
	if asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 1 || n > maxPage {
			return 0, badParameter("maxresults is from 1 to %d, not %q.", maxPage, asked)
		}
		size = n
	}
	switch {
	case v.config.Profile == ManagedHSM:
		return min(size, shortPage), nil
	case asked != "":
		return size, nil
	case number == 1:
		return 0, nil
	case number%2 == 1:
		return shortPage, nil
	}
	return size, nil
}

// writeToken names the page that begins after a row.
func writeToken(page int, behind string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(page) + "!" + behind))
}

func readToken(token string) (page int, behind string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return 0, "", badParameter("The skip token is not valid.")
	}
	number, behind, found := strings.Cut(string(text), "!")
	page, err = strconv.Atoi(number)
	if err != nil || !found || page < 1 {
		return 0, "", badParameter("The skip token is not valid.")
	}
	return page, behind, nil
}

// goOn returns the number of the page that a token names, and the rows from there on.
func goOn(rows []row, token string) (int, []row, error) {
	if token == "" {
		return 0, rows, nil
	}
	page, behind, err := readToken(token)
	if err != nil {
		return 0, nil, err
	}
	i := slices.IndexFunc(rows, func(r row) bool { return r.token == behind })
	if i < 0 {
		return 0, nil, badParameter("The skip token is not valid any more.")
	}
	return page, rows[i+1:], nil
}

// nextLink of a vault includes the port; that of a Managed HSM omits api-version.
func (v *Vault) nextLink(path, token string, query url.Values) string {
	size := query.Get("maxresults")
	if size != "" {
		size = "maxresults=" + url.QueryEscape(size)
	}
	token = "$skiptoken=" + token
	version := "api-version=" + url.QueryEscape(query.Get("api-version"))
	if v.config.Profile == ManagedHSM {
		return v.id(path) + "?" + joined(size, token)
	}
	return "https://" + v.config.Host + ":443/" + path + "?" + joined(version, token, size)
}

func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "&")
}

// rows are in the service's order. An unknown key has an empty list of versions.
func (v *Vault) rows(t target) ([]row, string) {
	s := v.replica()
	switch t.operation {
	case opVersions:
		return v.versionRows(s, t.key), "keys/" + t.key + "/versions"
	case opList:
		return v.keyRows(s), "keys"
	default:
		return v.deletedRows(s), "deletedkeys"
	}
}

func (v *Vault) versionRows(s *state, name string) []row {
	k, err := s.key(name)
	if err != nil {
		return nil
	}
	versions := slices.Clone(k.versions) // by time, as a Managed HSM lists them
	if v.config.Profile != ManagedHSM {
		slices.SortFunc(versions, func(a, b *version) int { return cmp.Compare(a.id, b.id) })
	}
	var rows []row
	for _, ver := range versions {
		rows = append(rows, row{ver.id, v.item(ver, "keys", k.name, ver.id)})
	}
	return rows
}

// keyRows of a vault pass through its deleted keys, too.
func (v *Vault) keyRows(s *state) []row {
	var rows []row
	for name := range s.keys {
		if k, err := s.key(name); err == nil {
			rows = append(rows, row{k.name, v.keyItem(k)})
		}
	}
	if v.config.Profile != ManagedHSM {
		for _, d := range s.deleted {
			rows = append(rows, row{d.entry.name, nil})
		}
	}
	return v.listed(rows)
}

// deletedRows of a vault pass through the keys that are not deleted, and through all versions.
func (v *Vault) deletedRows(s *state) []row {
	var rows []row
	hidden := func(k *entry) {
		for _, ver := range k.versions {
			rows = append(rows, row{k.name + "/" + ver.id, nil})
		}
	}
	for name, d := range s.deleted {
		r := row{token: d.entry.name}
		if _, err := v.deletedKey(s, name); err == nil {
			r.item = v.deletedItem(d)
		}
		if v.config.Profile != ManagedHSM {
			hidden(d.entry)
		} else if r.item == nil {
			continue
		}
		rows = append(rows, r)
	}
	if v.config.Profile != ManagedHSM {
		for _, k := range s.keys {
			rows = append(rows, row{k.name, nil})
			hidden(k)
		}
	}
	return sorted(rows)
}

func (v *Vault) deletedItem(d *deletedEntry) deletedItem {
	return deletedItem{
		RecoveryID:         v.id("deletedkeys", d.entry.name),
		DeletedDate:        d.at.Unix(),
		ScheduledPurgeDate: d.purgeAt.Unix(),
		keyItem:            v.item(d.entry.newest(), "keys", d.entry.name),
	}
}

func sorted(rows []row) []row {
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Compare(strings.ToUpper(a.token), strings.ToUpper(b.token))
	})
	return rows
}

func (v *Vault) item(ver *version, id ...string) keyItem {
	return keyItem{KID: v.id(id...), Attributes: v.attributes(ver), Tags: ver.tags}
}
