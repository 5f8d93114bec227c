package observe

import (
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// cache holds the last observation of each key and the material already seen. Losing it costs one look.
type cache struct {
	mu     *sync.Mutex
	last   map[string]*record.Observation
	used   map[string]bool              // a step was planned on the last observation
	shown  map[string]shown             // by url, version and key
	down   map[string]downVault         // by url
	facts  map[string]*facts            // by url and key
	vaults map[string]*record.VaultLook // by url
	empty  map[string]time.Time         // by url and key: since when the vault shows nothing of it
	answer map[string]time.Time         // by url: when a vault last answered that tells its clock
}

type downVault struct {
	err   error
	until time.Time
}

func newCache() cache {
	return cache{
		mu: new(sync.Mutex), last: map[string]*record.Observation{}, used: map[string]bool{}, shown: map[string]shown{},
		down: map[string]downVault{}, vaults: map[string]*record.VaultLook{}, facts: map[string]*facts{},
		empty: map[string]time.Time{}, answer: map[string]time.Time{},
	}
}

func (c *cache) put(name string, o *record.Observation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[name] = o
	delete(c.used, name)
}

// update replaces the newest observation by what change makes of it, if there is one and change returns another.
func (c *cache) update(name string, change func(last *record.Observation, used bool) *record.Observation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last[name]
	if last == nil {
		return
	}
	if next := change(last, c.used[name]); next != nil {
		c.last[name] = next
		delete(c.used, name)
	}
}

// forget drops what is kept of a key in each vault.
func (c *cache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ofKey := func(at string) bool { return strings.HasSuffix(at, "/"+name) }
	maps.DeleteFunc(c.shown, func(at string, _ shown) bool { return ofKey(at) })
	maps.DeleteFunc(c.facts, func(at string, _ *facts) bool { return ofKey(at) })
	maps.DeleteFunc(c.empty, func(at string, _ time.Time) bool { return ofKey(at) })
}

func (c *cache) use(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used[name] = true
}

func (c *cache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, name)
}

// get is the newest observation, and whether it was acted on.
func (c *cache) get(name string) (seen *record.Observation, used bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[name], c.used[name]
}

// downNow returns the error of a vault that recently did not answer.
func (c *cache) downNow(url string, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// If the moment is in the future, somebody set the clock back since.
	if d, ok := c.down[url]; ok && now.Before(d.until) && d.until.Sub(now) <= 2*plan.LookTimeout {
		return d.err
	}
	return nil
}

func (c *cache) putDown(url string, err error, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down[url] = downVault{err, until}
}

// putAnswer notes that a vault answered, and told its clock.
func (c *cache) putAnswer(url string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer[url] = at
}

func (c *cache) answerOf(url string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answer[url]
}

// AskAgain makes the next look ask the HSM and every vault, even those that recently did not answer; for example after
// a repair.
func (o *Observer) AskAgain() {
	o.inventory.forgetFailure()
	o.cache.mu.Lock()
	defer o.cache.mu.Unlock()
	clear(o.cache.down)
	clear(o.cache.answer) // a client made anew knows no clock
}

// emptySince returns since when a vault shows nothing of a key; zero while it shows something.
func (c *cache) emptySince(url, name string, empty bool, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := url + "/" + name
	if !empty {
		delete(c.empty, at)
	} else if c.empty[at].IsZero() {
		c.empty[at] = now
	}
	return c.empty[at]
}

func (c *cache) putVault(url string, seen *record.VaultLook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vaults[url] = seen
}

func (c *cache) vaultOf(url string) *record.VaultLook {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.vaults[url]
}

// shown is what a vault showed of a version that the record does not have.
type shown struct {
	material   key.Material    // never changes once it is known
	operations []key.Operation // when it was shown
}

func (c *cache) shownOf(url, version, name string) (shown, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.shown[url+"/"+version+"/"+name]
	return s, ok
}

func (c *cache) putShown(url, version, name string, s shown) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown[url+"/"+version+"/"+name] = s
}

// turns lets one look at each vault go on at once: who comes meanwhile takes what it sees.
type turns struct {
	mu sync.Mutex
	of map[string]*sync.Mutex // by url
}

// take waits for the vault's turn. The caller ends it by what take returns.
func (t *turns) take(url string) (end func()) {
	t.mu.Lock()
	if t.of == nil {
		t.of = map[string]*sync.Mutex{}
	}
	if t.of[url] == nil {
		t.of[url] = new(sync.Mutex)
	}
	turn := t.of[url]
	t.mu.Unlock()
	turn.Lock()
	return turn.Unlock
}
