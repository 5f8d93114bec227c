package observe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// look sees all that one vault shows of one key.
func (o *Observer) look(ctx context.Context, nick, url, name string, rec *record.Record) record.VaultSeen {
	return o.ask(ctx, nick, url, name, rec, look.all)
}

// list sees the complete listing of one key, and what that tells of the newest version: where it lists what keyd knew,
// the newest is the one that it was.
func (o *Observer) list(ctx context.Context, nick, url, name string, rec *record.Record,
	last record.VaultSeen) record.VaultSeen {
	return o.ask(ctx, nick, url, name, rec, func(l look, ctx context.Context) error { return l.listing(ctx, last) })
}

// askNewest asks for the newest version alone. An answer that contradicts the listing makes a new look.
func (o *Observer) askNewest(ctx context.Context, url, name string, rec *record.Record,
	last record.VaultSeen) record.VaultSeen {
	return o.ask(ctx, "", url, name, rec, func(l look, ctx context.Context) error {
		begun := l.now()
		*l.seen = last
		if err := l.newest(ctx); err != nil {
			return err
		}
		l.seen.NewestAt = begun
		l.clock()
		return nil
	})
}

// ask asks one vault about one key.
func (o *Observer) ask(ctx context.Context, nick, url, name string, rec *record.Record,
	how func(look, context.Context) error) record.VaultSeen {
	begun := o.now()
	c := o.Vaults(url)
	if c == nil {
		return record.VaultSeen{Unconfigured: true, Err: fmt.Errorf("vault %s is not in the configuration", nick)}
	}
	if err := o.cache.downNow(url, begun); err != nil {
		return record.VaultSeen{Begun: begun, Err: err}
	}
	l := look{o, c, url, name, rec, &record.VaultSeen{Begun: begun, Revision: rec.Revision}}
	within, cancel := context.WithTimeout(ctx, plan.LookTimeout)
	defer cancel()
	if err := how(l, within); err != nil {
		o.failed(ctx, url, begun, err)
		return record.VaultSeen{Begun: begun, Err: err}
	}
	return *l.seen
}

// failed has a vault that does not answer left alone for a while.
func (o *Observer) failed(ctx context.Context, url string, begun time.Time, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the caller has gone; others may ask at once
	}
	if key.ClassOf(err) == key.Retry || errors.Is(err, context.DeadlineExceeded) {
		took := min(o.now().Sub(begun), plan.LookTimeout) // the clock may have been turned
		o.cache.putDown(url, err, o.now().Add(max(downTime, 2*took)))
	}
}

// look is one look for one key in one vault.
type look struct {
	*Observer
	c         Vault
	url, name string
	rec       *record.Record
	seen      *record.VaultSeen
}

func (l look) all(ctx context.Context) (err error) {
	seen := l.seen
	if seen.Versions, err = l.c.Versions(ctx, l.name); err != nil {
		return err
	}
	if err := l.head(ctx); err != nil {
		return err
	}
	if err := l.rest(ctx); err != nil {
		return err
	}
	if len(seen.Versions) > 0 {
		seen.WholeAt = seen.Begun
		l.slowFacts(ctx)
	}
	return nil
}

// listing is the listing alone, where it shows the versions that the last look showed.
func (l look) listing(ctx context.Context, last record.VaultSeen) (err error) {
	seen := l.seen
	if seen.Versions, err = l.c.Versions(ctx, l.name); err != nil {
		return err
	}
	known := last.Err == nil && !last.NewestAt.IsZero() && len(last.Versions) > 0
	if known && sameVersions(seen.Versions, last.Versions) {
		seen.Newest, seen.NewestAt = last.Newest, last.NewestAt
		seen.Material, seen.Operations = last.Material, last.Operations
	} else if err := l.head(ctx); err != nil {
		return err
	}
	seen.NativeRotation, seen.PolicyErr, seen.WholeAt = last.NativeRotation, last.PolicyErr, last.WholeAt
	return l.rest(ctx)
}

// head asks what callers without a version get.
func (l look) head(ctx context.Context) (err error) {
	l.seen.NewestAt = l.seen.Begun
	if len(l.seen.Versions) == 0 {
		l.seen.Deleted, err = l.c.Deleted(ctx, l.name)
		return err
	}
	return l.newest(ctx)
}

// rest is what a look sees besides, at no cost where nothing is new.
func (l look) rest(ctx context.Context) error {
	seen := l.seen
	if err := l.unknown(ctx); err != nil {
		return err
	}
	l.clock()
	*seen = l.withKEK(ctx, l.url, *seen)
	empty := len(seen.Versions) == 0 && !seen.Deleted
	seen.EmptySince = l.cache.emptySince(l.url, l.name, empty, seen.There(seen.Begun))
	return nil
}

// clock notes the vault's clock as its last answer told it.
func (l look) clock() {
	l.seen.Skew, l.seen.SkewSeen = l.c.ClockSkew()
	l.seen.ClockAt = l.now()
	if l.seen.SkewSeen {
		l.cache.putAnswer(l.url, l.seen.ClockAt)
	}
}

// sameVersions reports whether two listings are of the same versions, with the same attributes.
func sameVersions(a, b []key.Version) bool {
	if len(a) != len(b) {
		return false
	}
	by := make(map[string]key.Version, len(b))
	for _, v := range b {
		by[v.ID] = v
	}
	return !slices.ContainsFunc(a, func(v key.Version) bool {
		was, listed := by[v.ID]
		return !listed || !key.ItemOf(v).Same(key.ItemOf(was))
	})
}

// newest asks for the versionless key, and refuses a view in which listing and newest contradict each other: one of
// them is stale.
func (l look) newest(ctx context.Context) error {
	newest, err := l.c.Newest(ctx, l.name)
	if latest := l.seen.Latest(); key.ClassOf(err) == key.Refused && !latest.Enabled {
		newest, err = latest, nil // a vault may refuse to show a disabled version
	}
	if err != nil {
		return err
	}
	if newest.Material.State() == key.Unsupported && l.rec.Holds(l.url, newest.ID) {
		// Otherwise it would pass for a version whose material the vault does not show.
		return fmt.Errorf("the newest version %s of %s is keyd's, and the vault shows it as a key of the type %.20q: "+
			"keyd does not trust that answer, and looks again", newest.ID, l.name, newest.Kty)
	}
	if _, listed := l.seen.Version(newest.ID); !listed {
		return fmt.Errorf("the newest version %s of %s is not in the listing yet: the vault's answers are stale, "+
			"keyd looks again", newest.ID, l.name)
	}
	for _, x := range l.seen.Versions {
		if x.Created.After(newest.Created) && !l.placedBefore(x, newest) {
			return fmt.Errorf("version %s of %s is listed as newer than the newest, %s: the vault's answers are "+
				"stale, keyd looks again", x.ID, l.name, newest.ID)
		}
	}
	l.seen.Newest = newest.ID
	l.seen.Material = l.seen.Material.With(newest.ID, newest.Material)
	if len(newest.Operations) > 0 {
		l.seen.Operations = l.seen.Operations.With(newest.ID, newest.Operations)
	}
	return nil
}

// placedBefore reports whether the newest version is the one that keyd placed last in the vault, and x one that it
// placed there earlier. If so, the vault's clock was put back between the two, and the newest is the newest all the
// same.
func (l look) placedBefore(x, newest key.Version) bool {
	last := l.rec.NewestIn(l.url)
	if !last.Found() || newest.ID != last.Version && newest.Tags[key.TagAttempt] != string(last.Attempt) {
		return false
	}
	return l.rec.Earlier(l.url, x.ID, last)
}

// unknown fetches the material and operations of versions that the record does not have, newest first.
func (l look) unknown(ctx context.Context) error {
	unknown := l.rec.Foreign(l.url, l.seen.Versions)
	sort.SliceStable(unknown, func(i, j int) bool { return unknown[i].Created.After(unknown[j].Created) })
	for _, v := range unknown[:min(maxUnknown, len(unknown))] {
		s, err := l.show(ctx, v)
		if err != nil {
			return err
		}
		l.seen.Material = l.seen.Material.With(v.ID, s.material)
		if len(s.operations) > 0 && v.ID != l.seen.Newest {
			l.seen.Operations = l.seen.Operations.With(v.ID, s.operations)
		}
	}
	return nil
}

// show gets from the vault a version that the record does not have. Once the vault has shown it, keyd does not ask
// again.
func (l look) show(ctx context.Context, v key.Version) (shown, error) {
	if s, ok := l.cache.shownOf(l.url, v.ID, l.name); ok {
		return s, nil
	}
	full, err := l.c.Get(ctx, l.name, v.ID)
	if err != nil {
		if key.ClassOf(err) == key.Refused {
			return shown{}, nil
		}
		return shown{}, err
	}
	if !full.Material.Known() {
		return shown{material: full.Material}, nil // the next look asks again
	}
	s := shown{full.Material, full.Operations}
	l.cache.putShown(l.url, v.ID, l.name, s)
	return s, nil
}
