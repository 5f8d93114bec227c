package simulate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
)

// These are the resources that encrypt under a key. What they do is drawn from a source of its own, so that a world
// without them is what it would be if there were none.

const (
	tickTime = 30 * time.Minute           // between two things that a resource does
	forever  = 100 * 365 * 24 * time.Hour // longer than any world
)

// resource is one Azure resource that writes data under a key, and reads it again.
type resource struct {
	w           *World
	key         string
	vault       *vault
	id          string
	service     service.Service
	caller      string    // the identity with which it calls the vault
	pinned      bool      // it is set to a version, and people repoint it
	entrusted   bool      // unless keyd does
	pending     time.Time // until then, a move whose answer was lost may still happen
	silent      bool      // it calls the vault only when it moves
	versionless bool      // it names no version when it calls
	every       time.Duration
	next        time.Time     // when it moves to the newest version; with every 0 it never does again
	fragile     bool          // it is often deleted and restored
	lag         time.Duration // for so long after it moved, data is still under the version before
	keeps       time.Duration // for so long it keeps backups

	uses  string
	moved time.Time            // when it began to use that
	live  map[string]time.Time // until when it reads live data under an earlier version
	kept  map[string]time.Time // until when it keeps a backup under a version
	at    map[string]*vault    // that has a version which it used
	of    map[string]string    // the key of such a version
	back  time.Time            // when it comes back, if it is deleted
	born  time.Time            // when it was made, or came back
}

// populate gives half of the keys a retire rule and resources, in all the ways in which keyd can know of them.
func (w *World) populate() {
	w.fate = rand.New(rand.NewPCG(w.result.Seed, 17))
	for _, v := range w.vaults {
		v.log = &auditLog{w: w, gaps: []gap{{w.now, w.now}},
			first: map[string]map[string]time.Time{}, last: map[string]map[string]time.Time{}}
	}
	for _, k := range w.keys {
		if w.fate.IntN(2) == 0 {
			continue
		}
		w.inhabit(k, w.fate.IntN(5))
	}
	w.entrust(false)
	for _, k := range w.keys {
		k.policy = k.home
	}
}

// inhabit gives a key resources.
func (w *World) inhabit(k *managed, way int) {
	p := &k.home
	p.Retire.NoConsumers = false
	p.Retire.Pause = time.Hour
	if p.Retire.DisableAfter == 0 {
		p.Retire.DisableAfter = w.spell(12*time.Hour, 36*time.Hour)
	}
	if w.fate.IntN(4) > 0 {
		p.Retire.Backups = w.spell(20*time.Hour, 40*time.Hour)
	}
	logged := way == 0 || way == 1 || w.fate.IntN(3) == 0
	for range 1 + w.fate.IntN(3) {
		r := w.newResource(k, way)
		if way > 1 {
			p.Consumers = append(p.Consumers, key.Consumer{ID: r.id})
		}
		w.resources = append(w.resources, r)
	}
	p.Discover = way == 1 || way == 2
	if way == 2 { // a search finds some that the configuration lacks
		w.resources = append(w.resources, w.newResource(k, way))
	}
	if !logged {
		return
	}
	p.Retire.UnusedFor = w.spell(6*time.Hour, 24*time.Hour)
	p.Workspaces = map[string]string{}
	for _, v := range p.Vaults {
		p.Workspaces[v.URL] = "workspace"
	}
}

// spell draws a duration in [least, most), in whole minutes.
func (w *World) spell(least, most time.Duration) time.Duration {
	return least + time.Duration(w.fate.Int64N(int64((most-least)/time.Minute)))*time.Minute
}

// seldom is true in one of n cases.
func (w *World) seldom(n int) bool { return w.fate.IntN(n) == 0 }

func (w *World) newResource(k *managed, way int) *resource {
	services := slices.DeleteFunc(service.All(), func(s service.Service) bool { return strings.Count(s.Type, "/") > 1 })
	s := services[w.fate.IntN(len(services))]
	n := len(w.resources) + 1
	r := &resource{w: w, key: k.policy.Key, vault: w.vaults[w.fate.IntN(len(w.vaults))], service: s,
		id:     fmt.Sprintf("/subscriptions/s/resourceGroups/g/providers/%s/r%d", s.Type, n),
		caller: fmt.Sprintf("identity-%d", n), pinned: s.Follows == service.Never,
		live: map[string]time.Time{}, kept: map[string]time.Time{}, at: map[string]*vault{}, of: map[string]string{}}
	if w.seldom(4) {
		r.caller = "shared-by-" + r.key
	}
	stated := s.Stated && !s.NeedsLog && s.ShowsInUse
	r.silent = (stated || !s.ShowsInUse) && way > 1 && w.seldom(3)
	r.versionless = !s.ShowsInUse && w.seldom(4)
	r.paced(way)
	if s.Backups {
		r.keeps = forever
		if b := k.home.Retire.Backups; b > 0 {
			r.keeps = w.spell(b/2, b)
		}
	}
	w.later(w.spell(time.Minute, tickTime), r.tick)
	return r
}

// paced draws how fast the resource moves to new versions, and how long it needs the old one then: for at most as
// long as the table says, or as the vault's log shows.
func (r *resource) paced(way int) {
	w, s := r.w, r.service
	switch {
	case w.seldom(8): // once, and never again
	case s.Follows == service.Never || w.seldom(6):
		r.every = w.spell(8*time.Hour, 40*time.Hour)
	default:
		r.every = max(tickTime, w.spell(0, max(s.Within, time.Minute)))
	}
	switch {
	case r.silent && !s.ShowsInUse: // only the log could show that it needs the old version
	case !s.Stated || s.NeedsLog || !s.ShowsInUse || way == 0:
		r.lag = w.spell(0, s.Safe+12*time.Hour)
	case s.Type == disks:
		r.lag = w.spell(0, 30*time.Hour) // it says for how long it needs it
	case s.Safe > 0:
		r.lag = w.spell(0, s.Safe)
	}
}

// disks is the type that says itself which versions it still needs.
const disks = "microsoft.compute/diskencryptionsets"

// tick is what the resource does every half hour.
func (r *resource) tick() {
	r.w.later(tickTime, r.tick)
	switch now := r.w.now; {
	case now.Before(r.back):
		return
	case !r.back.IsZero():
		r.comeBack()
	case r.uses != "" && (!r.w.calm && r.w.seldom(250) || r.fragile && r.w.seldom(30)):
		r.vanish()
		return
	case r.uses != "" && !r.w.calm && !r.w.inhabited && r.w.seldom(150):
		r.relocate()
	case r.uses == "" || r.every > 0 && !now.Before(r.next):
		r.follow()
	}
	r.work()
	if !r.w.calm && r.w.seldom(100) {
		r.vault.log.lose(r.w.spell(time.Hour, 7*time.Hour))
	}
}

// follow moves the resource to the newest version, if it can wrap with it.
func (r *resource) follow() {
	r.next = r.w.now.Add(r.every)
	if x := r.vault.newest(r.key); x != nil && x.Enabled && r.vault.expired(x) == nil && x.ID != r.uses {
		r.move(x.ID)
	}
}

// relocate has people set the resource to the key in another vault.
func (r *resource) relocate() {
	v := r.w.vaults[r.w.fate.IntN(len(r.w.vaults))]
	if x := v.newest(r.key); v != r.vault && x != nil && x.Enabled && v.expired(x) == nil {
		r.w.log("%s goes from %s to %s", service.NameOf(r.id), r.vault.Name, v.Name)
		r.vault = v
		r.move(x.ID)
	}
}

func (r *resource) move(id string) {
	now := r.w.now
	if r.uses != "" {
		r.live[r.uses] = now.Add(r.lag)
		r.keep()
	}
	r.w.log("%s moves from version %.6s of %s to %.6s", service.NameOf(r.id), r.uses, r.key, id)
	r.uses, r.moved, r.at[id], r.of[id] = id, now, r.vault, r.key
	delete(r.live, id)
	if r.silent {
		r.vault.log.use(r.key, id, r.caller)
	}
}

// keep makes the last backup under the version in use.
func (r *resource) keep() {
	if r.keeps > 0 {
		r.kept[r.uses] = r.w.now.Add(r.keeps)
	}
}

// work calls the vault for what the resource writes and reads.
func (r *resource) work() {
	if r.silent || r.uses == "" {
		return
	}
	named := r.uses
	if r.versionless {
		named = ""
	}
	r.vault.log.use(r.key, named, r.caller)
	for _, id := range slices.Sorted(maps.Keys(r.live)) {
		if r.w.now.Before(r.live[id]) {
			r.at[id].log.use(r.of[id], id, r.caller)
		}
	}
}

// vanish deletes the resource for some hours. Then somebody restores it, from a backup if it has any.
func (r *resource) vanish() {
	r.keep()
	clear(r.live)
	r.back = r.w.now.Add(r.w.spell(time.Hour, 20*time.Hour))
	r.w.log("%s is deleted", service.NameOf(r.id))
}

func (r *resource) comeBack() {
	r.back, r.born = time.Time{}, r.w.now
	var from []string
	for _, id := range slices.Sorted(maps.Keys(r.kept)) {
		if x := r.at[id].byID(r.of[id], id); x != nil && r.w.now.Before(r.kept[id]) {
			from = append(from, id)
		}
	}
	r.uses = ""
	if len(from) > 0 {
		r.uses, r.moved = from[r.w.fate.IntN(len(from))], r.w.now
		r.vault, r.key = r.at[r.uses], r.of[r.uses]
	}
	r.next = r.w.now.Add(r.every)
	r.w.log("%s comes back, with version %.6s of %s", service.NameOf(r.id), r.uses, r.key)
}

// requires reports whether the resource needs a version at a time or later, for what it wrote or keeps a backup of.
func (r *resource) requires(id string, at time.Time) bool {
	exists := r.back.IsZero()
	return exists && (r.uses == id || r.live[id].After(at)) || r.kept[id].After(at)
}
