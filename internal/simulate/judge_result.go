package simulate

import (
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// owing is an effect that keyd had, and whose result is not in the audit yet. If the
// daemon crashes, its successor must record the result.
type owing struct {
	key        string // "" for an effect on what all keys share
	effect     string // in words
	recordedBy func(e chain.Entry, is *record.Record) bool
}

// owe notes an effect as it happens.
func (s *store) owe(o owing) { s.owed = append(s.owed, o) }

// crossOff removes the effects whose result the entry records. An adoption covers every effect on its key.
func (s *store) crossOff(e chain.Entry, is *record.Record) {
	s.owed = slices.DeleteFunc(s.owed, func(o owing) bool {
		return (o.key == "" || o.key == is.Key) && (o.recordedBy(e, is) || o.key != "" && e.Event == chain.Adopted)
	})
}

// crossOffVault is crossOff for an entry about a vault.
func (s *store) crossOffVault(e chain.Entry) {
	s.owed = slices.DeleteFunc(s.owed, func(o owing) bool { return o.key == "" && o.recordedBy(e, nil) })
}

// judgeOwed fails if, in the end, the audit lacks the result of an effect.
func (w *World) judgeOwed() {
	for _, o := range w.store.owed {
		w.violate("%s, and no audit entry has the result", o.effect)
	}
}

// oweGeneration expects an entry for the new pair, or for giving up its id.
func (h *hsm) oweGeneration(o *object) {
	givenUp := func(is *record.Record) bool {
		return slices.ContainsFunc(is.Abandoned, func(a record.AbandonedID) bool { return a.ID == o.id })
	}
	if rec := h.w.store.records[o.label.Key]; givenUp(&rec) {
		return // already, and it came late
	}
	h.w.store.owe(
		owing{
			key:    o.label.Key,
			effect: "a pair of " + o.label.Key + " was made under " + string(o.id),
			recordedBy: func(e chain.Entry, is *record.Record) bool {
				made := e.Event == chain.GenerationMade || e.Event == chain.GenerationPinned
				return made && e.Fields["id"] == string(o.id) || givenUp(is)
			},
		},
	)
}

func (h *hsm) oweDestruction(name string, id key.ID) {
	h.w.store.owe(
		owing{
			key:    name,
			effect: "the pair under " + string(id) + " was destroyed",
			recordedBy: func(e chain.Entry, _ *record.Record) bool {
				return e.Event == chain.Destroyed && e.Fields["id"] == string(id)
			},
		},
	)
}

func (v *vault) oweImport(name string, x *version) {
	v.w.store.owe(
		owing{
			key:    name,
			effect: "version " + x.ID + " of " + name + " was imported into " + v.Name,
			recordedBy: func(e chain.Entry, _ *record.Record) bool {
				// A version that was damaged on its way is known by its attempt only. A stranger's
				// version may have been taken for it.
				damaged := v.w.hsm.made[x.modulus.print] == nil
				imported := e.Event == chain.Imported &&
					(e.Fields["version"] == x.ID || damaged && e.Fields["attempt"] == string(x.attempt))
				return imported || e.Event == chain.AliasAdopted && e.Fields["alias"] == x.ID
			},
		},
	)
}

func (v *vault) oweDisabling(name string, x *version) {
	v.w.store.owe(
		owing{
			key:    name,
			effect: "version " + x.ID + " of " + name + " was disabled in " + v.Name,
			recordedBy: func(e chain.Entry, _ *record.Record) bool {
				result := e.Event == chain.Disabled || e.Event == chain.Enabled // an operator undid it
				return result && e.Fields["version"] == x.ID && e.Fields["vault"] == v.URL
			},
		},
	)
}

// judgeAlias fails unless the entry about an adopted duplicate names it.
func (w *World) judgeAlias(name string, was, is *record.Placement, entries []chain.Entry) {
	for _, id := range is.Aliases {
		if was != nil && slices.Contains(was.Aliases, id) {
			continue
		}
		if !slices.ContainsFunc(entries, func(e chain.Entry) bool {
			consented := e.Event == chain.Adopted && strings.Contains(e.Fields["adopted"], id)
			return consented ||
				e.Event == chain.AliasAdopted && e.Fields["alias"] == id && e.Fields["vault"] == is.Vault &&
					e.Fields["attempt"] == string(is.Attempt)
		}) {
			w.violate(
				"the duplicate version %s of %s in %s is adopted, and no audit entry names it",
				id,
				name,
				is.VaultName,
			)
		}
	}
}

// judgeReport fails unless the last event names, by its own id, the duplicate that the step
// adopted.
func (d *daemon) judgeReport(name, vault, version string) {
	if e := d.lastEvent; e.Phase != status.Done || e.Step != "alias" || e.Key != name || e.Version != version ||
		e.Vault == "" {
		d.w.violate(
			"the duplicate version %s of %s in %s is adopted, and the report says %q of version %s",
			version,
			name,
			vault,
			e.Step,
			e.Version,
		)
	}
}
