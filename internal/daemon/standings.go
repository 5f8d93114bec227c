package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// standing is what a key's policy, its record and the last look for it say together.
type standing struct {
	revision uint64 // of the record
	policies int    // which reading of the configuration the policy is from
	key      status.Key
	// proposals are the acts about the key that wait for a second operator.
	proposals []key.Proposal
	stage     record.Stage
	look      *trouble.Look // nil: nobody looked yet
	usedAt    time.Time     // when the last look at those who use the key began
	err       error         // why the record could not be read
}

// standings keeps where each key stands. A key's record is read again only after the record, the policy or the look has
// changed, so whoever asks for all keys pays for the changed ones.
type standings struct {
	mu       sync.Mutex
	kept     map[string]*standing
	policies int
	good     map[string]*record.Observation // the last look at each vault that succeeded, by URL
}

func newStandings() *standings {
	return &standings{kept: map[string]*standing{}, good: map[string]*record.Observation{}}
}

// lastGood keeps the newest good look at a vault, and returns it: nil for none. Every key has its newest look only, and
// that may be one that failed.
func (s *standings) lastGood(url string, now *record.Observation) *record.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now != nil {
		s.good[url] = now
	}
	return s.good[url]
}

// reloaded makes every policy count as changed.
func (s *standings) reloaded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies++
}

// current brings the standings up to now, and the loop's metrics and the vaults' histories with them. They are in the
// order of the names.
func (d *Daemon) current(ctx context.Context, at time.Time) []*standing {
	names := d.loop.Names()
	revisions, err := d.store.Revisions(ctx)
	s := d.standings
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*standing, 0, len(names))
	for _, name := range names {
		if st := d.standing(ctx, at, name, revisions[name], err); st != nil {
			all = append(all, st)
		}
	}
	s.forgetOthers(names, func(name string) {
		d.rotator.Metrics.Forget(name)
		d.usersShown.seen(name, nil)
	})
	return all
}

// forgetOthers drops what is kept of keys that keyd manages no more.
func (s *standings) forgetOthers(names []string, forget func(name string)) {
	if len(s.kept) <= len(names) {
		return // a key that comes in the same moment as another goes is found the next time
	}
	for name := range s.kept {
		if _, managed := slices.BinarySearch(names, name); !managed {
			delete(s.kept, name)
			forget(name)
		}
	}
}

// standing is where one key stands; nil for a key that has just left. The lock of the standings is held.
func (d *Daemon) standing(ctx context.Context, at time.Time, name string, revision uint64, err error) *standing {
	seen := d.observer.Last(name)
	was := d.standings.kept[name]
	usage := d.consumers.Last(name)
	same := was != nil && was.revision == revision && was.policies == d.standings.policies && !was.moves(at)
	if err == nil && same && was.seen() == seen && was.usedAt.Equal(usage.At) {
		return was
	}
	p, ok := d.loop.Policy(name)
	if !ok {
		return nil
	}
	now := &standing{policies: d.standings.policies, key: keyOf(p)}
	var rec record.Record
	if err == nil {
		rec, err = d.store.Load(ctx, name)
	}
	if err == nil && rec.Replacement != nil {
		p.Heir, err = d.rotator.Heir(ctx, name)
	}
	if err != nil {
		now.err = err
		return now
	}
	now.revision, now.stage = rec.Revision, rec.Stage(p)
	k := &now.key
	k.LastRotation, k.NextRotation = rec.LastRotation(), plan.NextRotation(at, p, &rec)
	k.Hold, k.Requests, k.Abandoned = rec.Hold, rec.Requests, len(rec.Abandoned)
	k.Replaced = shownReplaced(&rec)
	now.proposals = rec.Proposals
	k.RotationSince, k.MissingFrom = now.stage.Since, now.stage.MissingFrom
	if seen != nil {
		now.look = trouble.NewLook(p, &rec, seen)
		d.histories.Looked(seen)
	}
	for _, e := range rec.Exposed(seen) {
		k.Exposed = append(k.Exposed, status.Exposed{Vault: e.Vault, Version: e.Version, Generation: e.Generation})
	}
	var before *status.Consumers
	if was != nil {
		before = was.key.Consumers
	}
	now.usedAt, k.Consumers = usage.At, trouble.SeenConsumers(p, &rec, seen, usage, before)
	if k.Consumers != nil {
		k.Consumers.Moves = shownMoves(plan.Input{Now: at, Policy: p, Record: &rec, Seen: seen})
	}
	d.usersShown.seen(name, k.Consumers)
	d.rotator.Metrics.Looked(p, &rec, seen)
	if !same {
		d.rotator.Metrics.Recorded(at, p, &rec)
	}
	d.standings.kept[name] = now
	return now
}

// seen is the look that the standing is of; nil for none.
func (s *standing) seen() *record.Observation {
	if s.look == nil {
		return nil
	}
	return s.look.Seen
}

// moves reports whether time alone changes the standing: a key that was never rotated is due now at any time, and a
// rotation that missed its window is due in the next one.
func (s *standing) moves(at time.Time) bool {
	return !s.key.NextRotation.IsZero() && !s.key.NextRotation.After(at)
}

// keyOf is what a policy says of a key.
func keyOf(p key.Policy) status.Key {
	k := status.Key{Name: p.Key, Spec: p.Spec, Schedule: p.ScheduleText, Labels: p.Labels, Retained: p.Retained}
	for _, v := range p.Vaults {
		k.Vaults = append(k.Vaults, v.URL)
	}
	return k
}
