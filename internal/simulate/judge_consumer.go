package simulate

import (
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// judgeReaders fails if keyd disables a version that a resource still needs: no consumer ever loses anything that it
// wrote, nor a backup within its time.
func (w *World) judgeReaders(v *vault, name string, x *version) {
	// keyd's clock may be off by some minutes without its notice. A resource that uses the version now needs it anyhow.
	for _, r := range w.resources {
		if r.requires(x.ID, w.now.Add(clocksAgree)) {
			w.violate("lost: %s %s still needs version %s of %s in %s, which keyd disables", r.service.Name,
				service.NameOf(r.id), x.ID, name, v.Name)
		}
	}
}

// countRetired counts what keyd disables, so that a loop that never does shows.
func (w *World) countRetired(name string) {
	w.result.Retired++
	if p := w.managed(name).home; len(p.Consumers)+len(p.Workspaces) > 0 || p.Discover {
		w.result.Vacated++
	}
}

// vacant is when those who use the key have left a version of a generation, as far as a careful look can show; ok is
// false if it cannot show it, or if they never will.
func (w *World) vacant(v *vault, rec *record.Record, g *record.Generation, x *version) (at time.Time, ok bool) {
	p := w.managed(rec.Key).policy
	rule, workspace := p.Retire, p.Workspaces[v.URL] != ""
	at = g.Deactivated
	if made := v.supersededAt(rec, rec.Key, g.Number); made.After(at) {
		at = made
	}
	superseded := at
	if workspace {
		quiet := rule.UnusedFor
		if !rule.NoConsumers && !p.Discover && len(p.Consumers) == 0 {
			if rule.Backups == 0 {
				return at, false
			}
			quiet = max(quiet, rule.Backups)
		}
		if at = later(at, v.log.lastOf(rec.Key, x.ID).Add(quiet)); v.log.anyVersionless(rec.Key) {
			return at, false
		}
	}
	for _, r := range w.resources {
		if r.key != rec.Key || !p.Discover && !named(p, r.id) {
			continue
		}
		due, ok := r.vacated(v, rec, g, x, superseded)
		if !ok {
			return at, false
		}
		at = later(at, due)
	}
	return at, true
}

func named(p key.Policy, id string) bool {
	return slices.ContainsFunc(p.Consumers, func(c key.Consumer) bool { return strings.EqualFold(c.ID, id) })
}

// vacated is vacant for one resource.
func (r *resource) vacated(v *vault, rec *record.Record, g *record.Generation, x *version, superseded time.Time) (
	at time.Time, ok bool) {
	const look = 5 * time.Hour // until keyd sees that the resource moved
	p := r.w.managed(rec.Key).policy
	on, placed := holderOf(rec, r.vault.URL, r.uses)
	here, s := r.vault == v, r.service
	_, ours := p.Vault(r.vault.URL)
	switch {
	case !r.back.IsZero() || !ours || r.uses == "":
		return at, false
	case here && (on == nil || on.Number <= g.Number || placed.State == key.Void): // such as one that was purged
		return at, false
	case !s.ShowsInUse && (!here || r.silent || r.versionless || strings.HasPrefix(r.caller, "shared")):
		return at, false
	case (!s.Stated || s.NeedsLog || !s.ShowsInUse) && here && p.Workspaces[v.URL] == "":
		return at, false
	case s.Backups && p.Retire.Backups == 0:
		return at, false
	}
	at = later(superseded, r.moved.Add(look))
	if !s.ShowsInUse {
		at = later(at, v.log.lastOf(rec.Key, x.ID))
	}
	if !here && (!s.Stated || s.NeedsLog) {
		return at, false // it counts for long
	}
	if s.Backups {
		return at.Add(max(s.Safe, p.Retire.Backups)), true
	}
	return at.Add(s.Safe), true
}

// lastOf is the last moment at which a careful reader cannot exclude a use of a version, or of all.
func (l *auditLog) lastOf(name, id string) time.Time {
	last := l.latest().until
	for _, version := range []string{id, ""} {
		for _, at := range l.seen(name).Uses[version] {
			last = later(last, at)
		}
	}
	return last
}

// anyVersionless reports whether anybody calls the key without a version.
func (l *auditLog) anyVersionless(name string) bool { return len(l.seen(name).Uses[""]) > 0 }
