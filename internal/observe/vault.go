package observe

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// vault looks for one key in one vault.
func (o *Observer) vault(ctx context.Context, c Vault, url, name string, rec *record.Record) record.VaultSeen {
	begun := o.now()
	if err := o.cache.downNow(url, begun); err != nil {
		return record.VaultSeen{Begun: begun, Err: err}
	}
	look := look{o, c, url, name, rec, &record.VaultSeen{
		Begun: begun, Material: map[string]key.Material{}, Operations: map[string][]key.Operation{},
	}}
	within, cancel := context.WithTimeout(ctx, plan.LookTimeout)
	defer cancel()
	if err := look.all(within); err != nil {
		o.failed(ctx, url, look.seen, err)
		return record.VaultSeen{Begun: begun, Err: err}
	}
	return *look.seen
}

// failed makes keyd leave a vault that does not answer alone for a while.
func (o *Observer) failed(ctx context.Context, url string, seen *record.VaultSeen, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the caller has gone; others may ask at once
	}
	if key.ClassOf(err) == key.Retry || errors.Is(err, context.DeadlineExceeded) {
		took := min(o.now().Sub(seen.Begun), plan.LookTimeout) // somebody may have set the clock
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
	if len(seen.Versions) == 0 {
		seen.Deleted, err = l.c.Deleted(ctx, l.name)
	} else {
		err = l.newest(ctx)
	}
	if err != nil {
		return err
	}
	if err := l.unknown(ctx); err != nil {
		return err
	}
	if err := l.kek(ctx); err != nil {
		return err
	}
	seen.Skew, seen.SkewSeen = l.c.ClockSkew()
	empty := len(seen.Versions) == 0 && !seen.Deleted
	seen.EmptySince = l.cache.emptySince(l.url, l.name, empty, seen.There(seen.Begun))
	l.slowFacts(ctx)
	return nil
}

// newest asks for the key without a version. If the listing and the newest version contradict each other, one of them
// is stale, and the look fails.
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
	l.seen.Material[newest.ID] = newest.Material
	if len(newest.Operations) > 0 {
		l.seen.Operations[newest.ID] = newest.Operations
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
		l.seen.Material[v.ID] = s.material
		if len(s.operations) > 0 && v.ID != l.seen.Newest {
			l.seen.Operations[v.ID] = s.operations
		}
	}
	return nil
}

// show gets from the vault a version that the record does not have. Once the vault has shown it, keyd does not ask
// again.
func (l look) show(ctx context.Context, v key.Version) (shown, error) {
	if s, ok := l.cache.shownOf(l.url, v.ID); ok {
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
	l.cache.putShown(l.url, v.ID, s)
	return s, nil
}
