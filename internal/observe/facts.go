package observe

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	// policyEvery is the least time between two requests for the vault's own rotation policy of a key. That is one call
	// for each key and vault.
	policyEvery = 6 * time.Hour
	// operationsEvery is the least time between two requests for the operations of one older version. A look asks for
	// one version at most.
	operationsEvery = time.Hour
	// policyPause is the least time between two requests for the rotation policy while the vault fails to answer.
	// factsTimeout is how long a look waits for these facts: every step of a rotation waits for a look. After
	// refusedPause keyd asks again for what the vault refused, because somebody may have assigned the role.
	policyPause  = 5 * time.Minute
	refusedPause = 30 * time.Minute
	// policyTries is how many failures in a row make the policy unknown. A refusal makes it unknown at once.
	policyTries  = 3
	factsTimeout = 10 * time.Second
)

// facts are what a listing does not show. Looks ask for them in turn.
type facts struct {
	mu        sync.Mutex
	policyAt  time.Time     // when the rotation policy was last asked for
	policyFor time.Duration // how long that answer holds
	policyErr error         // why the policy is unknown; nil when it is known
	fails     int           // failures to get an answer, in a row
	native    bool
	older     record.Few[string, older] // by version
}

// older are the facts of a version that is not the newest.
type older struct {
	askedAt    time.Time
	operations []key.Operation // the last answer; nil: there was none
}

// askedAt is when keyd last asked for a version; zero: never.
func (f *facts) askedAt(id string) time.Time {
	return f.older.Of(id).askedAt
}

// slowFacts asks for the facts that only drift needs, with at most two calls. If the vault does not give a fact, the
// last known value stays, and the look still counts.
func (l look) slowFacts(ctx context.Context) {
	seen := l.seen
	if len(seen.Versions) == 0 {
		return
	}
	f := l.cache.factsOf(l.url, l.name)
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	if now := l.now(); !within(now, f.policyAt, f.policyFor) {
		on, err := l.c.NativeRotation(ctx, l.name)
		f.policyAt = now
		f.answered(on, err)
	}
	seen.NativeRotation, seen.PolicyErr = f.native, f.policyErr

	ours := l.rec.Versions(l.url)
	if id := f.turn(l.now(), *seen, ours); id != "" {
		o := f.older.Of(id)
		o.askedAt = l.now()
		if v, err := l.c.Get(ctx, l.name, id); err == nil && len(v.Operations) > 0 {
			o.operations = v.Operations
		}
		f.older = f.older.With(id, o)
	}
	f.older = slices.DeleteFunc(f.older, func(o record.One[string, older]) bool {
		_, listed := seen.Version(o.Key)
		return !listed || !ours[o.Key].Found()
	})
	for _, o := range f.older {
		if o.Key != seen.Newest && o.Value.operations != nil {
			seen.Operations = seen.Operations.With(o.Key, o.Value.operations)
		}
	}
}

// again reports whether keyd asks for the rotation policy at this look, because the vault did not give it last time.
func (f *facts) again(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return (f.policyErr != nil || f.fails > 0) && !within(now, f.policyAt, f.policyFor)
}

// answered takes what the vault answered. A vault that refuses, or does not come to
// answer, makes keyd blind for drift of that kind, which must show.
func (f *facts) answered(on bool, err error) {
	switch {
	case err == nil:
		f.native, f.policyErr, f.fails, f.policyFor = on, nil, 0, policyEvery
	case key.ClassOf(err) == key.Refused:
		f.policyErr, f.policyFor = err, refusedPause
	default:
		f.fails++
		f.policyFor = policyPause
		if f.fails >= policyTries {
			f.policyErr = err
		}
	}
}

// turn is keyd's older version whose operations were asked for longest ago; "" if each was asked for recently.
func (f *facts) turn(now time.Time, seen record.VaultSeen, ours map[string]record.Placed) (id string) {
	for _, v := range seen.Versions {
		if v.ID == seen.Newest || !ours[v.ID].Found() || !v.Enabled || within(now, f.askedAt(v.ID), operationsEvery) {
			continue
		}
		if id == "" || f.askedAt(v.ID).Before(f.askedAt(id)) {
			id = v.ID
		}
	}
	return id
}

// within reports whether t is less than d ago. A time in the future is not.
func within(now, t time.Time, d time.Duration) bool {
	return !t.After(now) && now.Sub(t) < d
}

// factsOf returns what keyd remembers of one key in one vault.
func (c *cache) factsOf(url, name string) *facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := url + "/" + name
	if c.facts[at] == nil {
		c.facts[at] = &facts{}
	}
	return c.facts[at]
}

// forgetPolicy makes the next look ask for the rotation policy.
func (c *cache) forgetPolicy(url, name string) {
	f := c.factsOf(url, name)
	f.mu.Lock()
	f.policyAt = time.Time{}
	f.mu.Unlock()
}
