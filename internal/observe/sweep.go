package observe

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// A sweep lists all keys of a vault at once, 25 a call. It is a hint: keyd asks a key itself when its item is neither
// what the newest version was like at the last look, nor what it was at the sweep before that look. It is never a
// complete listing, and never a reason to hold. Which version's attributes the list shows is not promised: so keyd asks
// each key every listEvery, and key by key in a vault whose list does not follow keyd's own imports.
const (
	// listEvery is how often each key's versions are listed all the same, and wholeEvery how often keyd asks for all
	// that a vault shows of a key.
	listEvery  = 8 * time.Hour
	wholeEvery = 48 * time.Hour
	// keyByKey is for how long a vault whose list is of no use is asked key by key.
	keyByKey = 24 * time.Hour
	// pageSize is how many keys are on a page of the list (AZURE.md section 2).
	pageSize = 25
)

// sweeps keeps the newest list of each vault.
type sweeps struct {
	mu sync.Mutex
	of map[string]*swept // by URL
}

// swept is what keyd knows of a vault's list of keys.
type swept struct {
	at      time.Time           // when the newest began; zero: none yet
	items   map[string]key.Item // by name in lower case
	before  map[string]key.Item // as they were at a sweep that began before the key's last look
	useless time.Time           // until when the vault is asked key by key
	keys    map[string]bool     // keyd's keys in the vault
}

func newSweeps() sweeps { return sweeps{of: map[string]*swept{}} }

// vault is called with the lock held.
func (s *sweeps) vault(url string) *swept {
	if s.of[url] == nil {
		s.of[url] = &swept{items: map[string]key.Item{}, before: map[string]key.Item{}, keys: map[string]bool{}}
	}
	return s.of[url]
}

// need is what a key with nothing due needs of a vault.
type need int

const (
	wholeLook   need = iota
	listingOnly      // as a check that the list of keys hides nothing
	nothingNew
)

// needs says what to ask a vault about a key, by what was seen of it last.
func (o *Observer) needs(ctx context.Context, p key.Policy, rec *record.Record, last *record.Observation,
	url string) need {
	name, part := strings.ToLower(p.Key), last.Vaults[url]
	o.sweeps.mu.Lock()
	o.sweeps.vault(url).keys[name] = true
	o.sweeps.mu.Unlock()
	now := o.now()
	c := o.Vaults(url)
	switch {
	case c == nil || part.Err != nil || len(part.Versions) == 0 || !within(now, part.NewestAt, wholeEvery),
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
	case !within(now, part.Begun, listEvery):
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
	case item.Same(key.ItemOf(newest)):
		s.before[name] = item
		return true
	case !swept || !item.Same(before):
		s.before[name] = item // the look that follows sees what is behind it
		return false
	case part.Acted && s.at.Sub(part.NewestAt) > key.ManagedHSM.SettleTime():
		s.useless = s.at.Add(keyByKey) // keyd imported a version, and the list does not follow
		return false
	}
	return true
}

// sweep has the vault's list read when the newest is older than the slow interval. It reports whether the list can be
// gone by.
func (o *Observer) sweep(ctx context.Context, c Vault, url string) bool {
	fresh, most := o.swept(url)
	if fresh {
		return true
	}
	if most == 0 || o.cache.downNow(url, o.now()) != nil {
		return false
	}
	defer o.turns.take(url)()
	if fresh, _ := o.swept(url); fresh {
		return true // somebody swept meanwhile
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

// swept reports whether a vault's list is young enough, and else how many pages it may have: no more than keyd has keys
// there; 0 while the vault is asked key by key.
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
		s.at, s.items = begun, make(map[string]key.Item, len(items))
		for _, item := range items {
			s.items[strings.ToLower(item.Name)] = item
		}
	case errors.Is(err, key.ErrTooManyPages) || key.ClassOf(err) == key.Refused:
		s.useless = begun.Add(keyByKey)
	}
	kekChanged := err == nil && s.kekChanged(o.cache.vaultOf(url))
	o.sweeps.mu.Unlock()
	if err != nil {
		o.failed(ctx, url, begun, err)
	}
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
	return listed && swept && !item.Same(key.ItemOf(newest))
}

// confirmed is a part that still stands: the vault answered at the last sweep, and told its clock.
func (o *Observer) confirmed(ctx context.Context, url string, part record.VaultSeen) record.VaultSeen {
	if c := o.Vaults(url); c != nil {
		part.Skew, part.SkewSeen = c.ClockSkew()
		part.ClockAt = o.cache.answerOf(url)
	}
	return o.withKEK(ctx, url, part)
}

// withClock is a part with the vault's clock as it told it a moment ago: to any key, or now.
func (o *Observer) withClock(ctx context.Context, url string, part record.VaultSeen) record.VaultSeen {
	c := o.Vaults(url)
	if c == nil {
		return part
	}
	if !within(o.now(), o.cache.answerOf(url), key.MaxSkew) {
		if rec, err := o.Records.LoadVault(ctx, url); err == nil {
			o.clockAgain(ctx, url, rec)
		}
	}
	part.Skew, part.SkewSeen = c.ClockSkew()
	if part.ClockAt = o.cache.answerOf(url); !part.SkewSeen {
		part.ClockAt = o.now() // the vault never tells its clock: asking again tells no more
	}
	return part
}

// clockAgain looks at a vault for the sake of its clock, unless it answered to somebody meanwhile.
func (o *Observer) clockAgain(ctx context.Context, url string, rec record.Vault) {
	defer o.turns.take(url)()
	if !within(o.now(), o.cache.answerOf(url), key.MaxSkew) {
		o.Vault(ctx, key.VaultPolicy{Vault: key.Vault{URL: url, Name: url}}, rec)
	}
}
