package rotate

import (
	"context"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

const (
	// policyEvery is how often the vault's own rotation policy of a key is asked
	// for: one call for each key and vault.
	policyEvery = 6 * time.Hour
	// operationsEvery is the least time between two questions for the operations of
	// one older version. A look asks for one version at most.
	operationsEvery = time.Hour
	// policyPause is the least time between two questions for the rotation policy
	// while the vault fails to answer, and moreTimeout how long a look waits for what
	// only drift is found by: every step of a rotation waits for a look. What was
	// refused is asked for again after refusedPause: a role may have been given.
	policyPause  = 5 * time.Minute
	refusedPause = 30 * time.Minute
	// policyTries is how many failures in a row make the policy unknown. A refusal
	// does at once.
	policyTries = 3
	moreTimeout = 10 * time.Second
)

// more is what a look asks for in turn, because a listing does not show it.
type more struct {
	mu         sync.Mutex
	policyAt   time.Time     // when the rotation policy was last asked for
	policyFor  time.Duration // how long that holds
	policyErr  error         // why it is not known; nil when it is
	fails      int           // to answer it, in a row
	native     bool
	operations map[string][]key.Operation // by version
	askedAt    map[string]time.Time       // by version
}

// lookAtMore asks for what only drift is found by: at most two calls. What the
// vault will not tell stays as it was last known, and does not spoil the look.
func (r *Rotator) lookAtMore(ctx context.Context, c Vault, url, name string, rec key.Record, seen *VaultSeen) {
	if len(seen.Versions) == 0 {
		return
	}
	m := r.views.moreOf(url, name)
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, moreTimeout)
	defer cancel()
	if now := r.now(); !within(now, m.policyAt, m.policyFor) {
		on, err := c.NativeRotation(ctx, name)
		m.policyAt = now
		m.toldPolicy(on, err)
	}
	seen.NativeRotation, seen.PolicyErr = m.native, m.policyErr

	ours := placedVersions(&rec, url)
	if id := m.turn(r.now(), *seen, ours); id != "" {
		m.askedAt[id] = r.now()
		if v, err := c.Get(ctx, name, id); err == nil && len(v.Operations) > 0 {
			m.operations[id] = v.Operations
		}
	}
	for id, ops := range m.operations {
		if _, listed := seen.version(id); !listed || ours[id].p == nil {
			delete(m.operations, id)
			delete(m.askedAt, id)
		} else if id != seen.Newest {
			seen.Operations[id] = ops
		}
	}
}

// toldPolicy takes what the vault answered. A vault that refuses, or does not come to
// answer, makes keyd blind for drift of that kind, which must show.
func (m *more) toldPolicy(on bool, err error) {
	switch {
	case err == nil:
		m.native, m.policyErr, m.fails, m.policyFor = on, nil, 0, policyEvery
	case key.ClassOf(err) == key.Refused:
		m.policyErr, m.policyFor = err, refusedPause
	default:
		m.fails++
		m.policyFor = policyPause
		if m.fails >= policyTries {
			m.policyErr = err
		}
	}
}

// turn is the older version of keyd's whose operations were asked for the longest
// ago; "" when each was asked for a short while ago.
func (m *more) turn(now time.Time, seen VaultSeen, ours map[string]placed) (id string) {
	for _, v := range seen.Versions {
		if v.ID == seen.Newest || ours[v.ID].p == nil || !v.Enabled || within(now, m.askedAt[v.ID], operationsEvery) {
			continue
		}
		if id == "" || m.askedAt[v.ID].Before(m.askedAt[id]) {
			id = v.ID
		}
	}
	return id
}

// within reports whether t is less than d ago; a time in the future is not.
func within(now, t time.Time, d time.Duration) bool {
	return !t.After(now) && now.Sub(t) < d
}

// moreOf is what is remembered of one key in one vault.
func (v *views) moreOf(url, name string) *more {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := url + "/" + name
	if v.more[at] == nil {
		v.more[at] = &more{operations: map[string][]key.Operation{}, askedAt: map[string]time.Time{}}
	}
	return v.more[at]
}

// forgetPolicy has the rotation policy asked for at the next look.
func (v *views) forgetPolicy(url, name string) {
	m := v.moreOf(url, name)
	m.mu.Lock()
	m.policyAt = time.Time{}
	m.mu.Unlock()
}
