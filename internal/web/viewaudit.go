package web

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// maxEntries is how many entries of the audit chain a page has.
const maxEntries = 20

// audit is entries of the audit chain, the newest first.
type audit struct {
	Entries []entryView
	Error   string
}

type entryView struct {
	Seq              uint64
	Time             string
	Key, Event, More string
	Actor            string
}

// viewAudit shows entries with version ids as id returns them.
func viewAudit(now time.Time, entries []status.Entry, err error, vaults map[string]string,
	id func(string) string) (a audit) {
	for _, e := range slices.Backward(entries) {
		a.Entries = append(a.Entries, viewEntry(now, e, vaults, id))
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// whole is a version id as it is.
func whole(id string) string { return id }

// shownFields are the fields of an audit entry that the page shows, in this order. It is an allow
// list: reasons are operators' own text and stay out.
var shownFields = []string{"generation", "vault", "version", "cause", "code", "leg", "alias", "keys", "vaults"}

func viewEntry(now time.Time, e status.Entry, vaults map[string]string, id func(string) string) entryView {
	v := entryView{Seq: e.Seq, Time: clock(now, e.Time), Key: e.Key, Event: e.Event, Actor: e.Actor}
	var others []string
	for _, name := range shownFields {
		value := e.Fields[name]
		switch {
		case value == "":
			continue
		case name == "vault":
			value = "in " + cmp.Or(vaults[value], value)
		case name == "version" || name == "alias":
			value = name + " " + id(value)
		case name == "keys" || name == "vaults":
			value += " " + name
		default:
			value = name + " " + value
		}
		others = append(others, value)
	}
	v.More = strings.Join(others, ", ")
	return v
}

// entries returns the last entries of the audit chain.
func (c Config) entries(ctx context.Context) ([]status.Entry, error) {
	if c.Recent == nil {
		return nil, nil
	}
	return c.Recent(ctx, maxEntries)
}

// entriesOf returns the last entries of the audit chain that are about one key.
func (c Config) entriesOf(ctx context.Context, name string) ([]status.Entry, error) {
	if c.RecentOf == nil {
		return nil, nil
	}
	return c.RecentOf(ctx, name, maxEntries)
}
