package observe

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// A sweep lists all keys of a vault at once, 25 a call. It is a hint: keyd asks for a key itself if the item differs
// from the newest version at the last look, and from the item at the sweep before that look. A sweep is never a
// complete listing, and never a reason to hold. Nobody documents which version's attributes the list shows. So keyd
// lists the versions of each key every listEvery all the same, and asks key by key if the list does not follow keyd's
// own imports.
const (
	// listEvery is how often keyd lists each key's versions all the same, and wholeEvery how often it asks for all
	// that a vault shows of a key.
	listEvery  = 8 * time.Hour
	wholeEvery = 48 * time.Hour
	// keyByKey is how long keyd asks a vault key by key whose list is of no use, and sweepPause how long after the list
	// failed.
	keyByKey   = 24 * time.Hour
	sweepPause = 10 * time.Minute
)

// sweeps keeps the newest list of each vault.
type sweeps struct {
	mu sync.Mutex
	of map[string]*swept // by URL
}

// swept is what keyd knows of a vault's list of keys.
type swept struct {
	at      time.Time              // when the newest began; zero: none yet
	items   map[string]key.ItemSum // by name in lower case
	before  map[string]key.ItemSum // as they were at a sweep that began before the key's last look
	useless time.Time              // until when the vault is asked key by key
	keys    map[string]bool        // keyd's keys in the vault
}

func newSweeps() sweeps { return sweeps{of: map[string]*swept{}} }

// vault is called with the lock held.
func (s *sweeps) vault(url string) *swept {
	if s.of[url] == nil {
		s.of[url] = &swept{items: map[string]key.ItemSum{}, before: map[string]key.ItemSum{}, keys: map[string]bool{}}
	}
	return s.of[url]
}

// forget drops what is kept of a key in each vault.
func (s *sweeps) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name = strings.ToLower(name)
	for _, v := range s.of {
		delete(v.before, name)
		delete(v.keys, name)
	}
}

// need is what keyd asks a vault about a key with nothing due.
type need int

const (
	wholeLook   need = iota
	listingOnly      // the list of keys may hide something
	nothingNew
	notThere // the list of keys lacks a key that keyd never put there
)

// needs returns what to ask a vault about a key, by the last observation.
func (o *Observer) needs(ctx context.Context, p key.Policy, rec *record.Record, last *record.Observation,
	url string) need {
	name, part := strings.ToLower(p.Key), last.Vaults[url]
	o.sweeps.mu.Lock()
	o.sweeps.vault(url).keys[name] = true
	o.sweeps.mu.Unlock()
	now := o.now()
	c := o.Vaults(url)
	switch {
	case c != nil && (part.Begun.IsZero() || part.Unlisted) && rec.Untouched(url):
		if o.sweep(ctx, c, url) && o.lacks(url, name) {
			return notThere
		}
		return wholeLook
	case c == nil || part.Err != nil || len(part.Versions) == 0 || !within(now, part.WholeAt, wholeEvery),
		o.cache.factsOf(url, p.Key).again(now),
		!plan.Input{Now: now, Policy: p, Record: rec, Seen: last}.InOrder(url):
		return wholeLook
	case !o.sweep(ctx, c, url):
		return listingOnly
	}
	o.sweeps.mu.Lock()
	agrees := o.sweeps.vault(url).agrees(name, part)
	o.sweeps.mu.Unlock()
	switch {
	case !agrees:
		return wholeLook
	case !within(now, part.Begun, listEvery), rec.ExposedIn(url, last): // a person is to disable versions there
		return listingOnly
	}
	return nothingNew
}

// agrees reports whether the list shows a key as the last look did. It is called with the lock held.
func (s *swept) agrees(name string, part record.VaultSeen) bool {
	item, listed := s.items[name]
	newest, known := part.Version(part.Newest)
	switch before, swept := s.before[name]; {
	case !listed || !known:
		return false
	case item == key.ItemOf(newest).Sum():
		s.before[name] = item
		return true
	case !swept || item != before:
		s.before[name] = item // the look that follows sees what is behind it
		return false
	case part.Acted && s.at.Sub(part.NewestAt) > key.ManagedHSM.SettleTime():
		s.useless = s.at.Add(keyByKey) // keyd imported a version, and the list does not follow
		return false
	}
	return true
}

// sweep reads the vault's list unless the last one is recent. It reports whether keyd can use the list.
func (o *Observer) sweep(ctx context.Context, c Vault, url string) bool {
	fresh, most := o.swept(url)
	if fresh {
		return true
	}
	if most == 0 || o.cache.downNow(url, o.now()) != nil {
		return false
	}
	defer o.turns.take(url)()
	if fresh, most = o.swept(url); fresh {
		return true // somebody swept meanwhile
	}
	if most == 0 || o.cache.downNow(url, o.now()) != nil {
		return false // or has found that the list is of no use
	}
	begun := o.now()
	within, cancel := context.WithTimeout(ctx, plan.LookTimeout)
	defer cancel()
	items, err := c.Sweep(within, most)
	o.sweptNow(ctx, url, begun, items, err)
	if _, told := c.ClockSkew(); err == nil && told {
		o.cache.putAnswer(url, o.now())
	}
	return err == nil
}

// swept reports whether the last list of a vault is recent. If not, most is how many pages the next one may have: no
// more than keyd has keys there, and 0 while keyd asks key by key.
func (o *Observer) swept(url string) (fresh bool, most int) {
	now := o.now()
	o.sweeps.mu.Lock()
	defer o.sweeps.mu.Unlock()
	s := o.sweeps.vault(url)
	if within(now, s.useless.Add(-keyByKey), keyByKey) {
		return false, 0
	}
	return within(now, s.at, o.Slow), len(s.keys)
}

func (o *Observer) sweptNow(ctx context.Context, url string, begun time.Time, items []key.Item, err error) {
	o.sweeps.mu.Lock()
	s := o.sweeps.vault(url)
	switch {
	case err == nil:
		s.at, s.items = begun, make(map[string]key.ItemSum, len(items))
		for _, item := range items {
			s.items[strings.ToLower(item.Name)] = item.Sum()
		}
	case ctx.Err() != nil: // the caller has gone: others may ask at once
	case errors.Is(err, key.ErrTooManyPages), errors.Is(err, context.DeadlineExceeded),
		key.ClassOf(err) == key.Refused:
		s.useless = begun.Add(keyByKey)
	default:
		s.useless = begun.Add(sweepPause) // the list alone may be in trouble
	}
	kekChanged := err == nil && s.kekChanged(o.cache.vaultOf(url))
	o.sweeps.mu.Unlock()
	if kekChanged {
		o.DropVault(url) // whoever needs the key exchange key next looks at it
	}
}

// kekChanged reports whether the list shows the key exchange key otherwise than the last look at it. It is called with
// the lock held.
func (s *swept) kekChanged(seen *record.VaultLook) bool {
	if seen == nil || seen.Newest.KEK.Kid == "" {
		return false
	}
	newest, listed := seen.Version(seen.Newest.KEK.Version())
	item, swept := s.items[strings.ToLower(path.Base(path.Dir(seen.Newest.KEK.Kid)))]
	return listed && swept && item != key.ItemOf(newest).Sum()
}

// lacks reports whether the last list of a vault lacks a key.
func (o *Observer) lacks(url, name string) bool {
	o.sweeps.mu.Lock()
	defer o.sweeps.mu.Unlock()
	_, listed := o.sweeps.vault(url).items[name]
	return !listed
}

// unlisted is the part of a key that is new to a vault.
func (o *Observer) unlisted(ctx context.Context, url string, rec *record.Record) record.VaultSeen {
	o.sweeps.mu.Lock()
	begun := o.sweeps.vault(url).at
	o.sweeps.mu.Unlock()
	return o.confirmed(ctx, url, record.VaultSeen{Begun: begun, Unlisted: true, Revision: rec.Revision})
}

// Expect tells the observer the keys of every vault before the first look, so that the list of keys is asked for all of
// its pages.
func (o *Observer) Expect(policies []key.Policy) {
	o.sweeps.mu.Lock()
	defer o.sweeps.mu.Unlock()
	for _, p := range policies {
		for _, v := range p.Vaults {
			o.sweeps.vault(v.URL).keys[strings.ToLower(p.Key)] = true
		}
	}
}

// confirmed is a part of which the last sweep showed no change.
func (o *Observer) confirmed(ctx context.Context, url string, part record.VaultSeen) record.VaultSeen {
	if c := o.Vaults(url); c != nil {
		part.Skew, part.SkewSeen = c.ClockSkew()
		part.ClockAt = o.cache.answerOf(url)
	}
	return o.withKEK(ctx, url, part)
}

// withClock is a part with the vault's clock from its last answer to any key, or from a new look.
func (o *Observer) withClock(ctx context.Context, url string, part record.VaultSeen) record.VaultSeen {
	c := o.Vaults(url)
	if c == nil {
		return part
	}
	if !within(o.now(), o.cache.answerOf(url), key.MaxSkew) {
		if err := o.clockAgain(ctx, url); err != nil {
			return record.VaultSeen{Begun: o.now(), Err: err}
		}
	}
	part.Skew, part.SkewSeen = c.ClockSkew()
	if part.ClockAt = o.cache.answerOf(url); !part.SkewSeen {
		part.ClockAt = o.now() // the vault does not show its clock: asking again does not help
	}
	return part
}

// clockAgain looks at a vault for its clock, unless another key has got an answer meanwhile.
func (o *Observer) clockAgain(ctx context.Context, url string) error {
	defer o.turns.take(url)()
	if within(o.now(), o.cache.answerOf(url), key.MaxSkew) {
		return nil
	}
	rec, err := o.Records.LoadVault(ctx, url)
	if err != nil {
		return fmt.Errorf("read the record of vault %s: %w", url, err)
	}
	return o.Vault(ctx, key.VaultPolicy{Vault: key.Vault{URL: url, Name: url}}, rec).Err
}
