package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Every is how often keyd looks at the consumers of each key.
const Every = time.Hour

// Config is what a Watcher works with.
type Config struct {
	Policies func() []key.Policy
	// Logs reads what the audit logs of a key's vaults show; nil: nothing does.
	Logs    func(ctx context.Context, p key.Policy, now time.Time) map[string]record.LogSeen
	Ledgers Ledgers // nil: what is remembered ends with this process
	Clock   func() time.Time
	Logger  *slog.Logger
}

// Watcher looks at the consumers of all keys from time to time, and at those of one key when somebody asks. It is safe
// for concurrent use.
type Watcher struct {
	cfg  Config
	poke chan struct{}

	mu            sync.Mutex
	client        *Client
	subscriptions []string
	keys          map[string]*watched
	began         time.Time // the last look at all keys
	tokenless     bool      // since then, not all could be asked for want of a token
}

// watched is what a Watcher has of one key.
type watched struct {
	mu     sync.Mutex
	memory *memory // nil: not loaded yet
	last   record.Usage
	unseen []string // at the last look, as it was logged
}

// NewWatcher makes a watcher. It asks nobody before Use.
func NewWatcher(cfg Config) *Watcher {
	return &Watcher{cfg: cfg, poke: make(chan struct{}, 1), keys: map[string]*watched{}}
}

// Use makes the watcher ask through a client, and search these subscriptions, from the next look on, which begins soon.
func (w *Watcher) Use(c *Client, subscriptions []string) {
	w.mu.Lock()
	w.client, w.subscriptions = c, slices.Clone(subscriptions)
	w.mu.Unlock()
	w.again()
}

// Run looks at the consumers of all keys every hour, and at once after Use, or when sign-ins work again. Other looks it
// spreads over half of the hour.
func (w *Watcher) Run(ctx context.Context) {
	for soon := true; ; {
		begun := w.cfg.Clock()
		soon = w.lookAtAll(ctx, soon) || w.sleep(ctx, Every-w.cfg.Clock().Sub(begun))
		if ctx.Err() != nil {
			return
		}
	}
}

// lookAtAll looks at every key once. It reports whether something cut it short for which keyd looks at all at once.
func (w *Watcher) lookAtAll(ctx context.Context, soon bool) (again bool) {
	select {
	case <-w.poke: // this round asks through the new client already
	default:
	}
	policies := w.cfg.Policies()
	w.forget(policies)
	var busy []key.Policy
	for _, p := range policies {
		if p.AsksUsers() {
			busy = append(busy, p)
		}
	}
	r := w.round()
	w.mu.Lock()
	w.began = r.at
	w.mu.Unlock()
	for i, p := range busy {
		if i > 0 && !soon && w.sleep(ctx, Every/2/time.Duration(len(busy))) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		w.look(ctx, r, p)
	}
	w.looked(r, true)
	return false
}

// sleep reports whether something ended it for which keyd looks at all at once.
func (w *Watcher) sleep(ctx context.Context, d time.Duration) (used bool) {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-w.poke:
		return true
	}
	return false
}

// forget drops what was seen of keys about which nobody is to be asked any more.
func (w *Watcher) forget(policies []key.Policy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.keys {
		if !slices.ContainsFunc(policies, func(p key.Policy) bool { return p.Key == name && p.AsksUsers() }) {
			delete(w.keys, name)
		}
	}
}

// Look looks now. It returns the zero value for a key about which nobody is to be asked.
func (w *Watcher) Look(ctx context.Context, p key.Policy) record.Usage {
	if !p.AsksUsers() {
		return record.Usage{}
	}
	return w.look(ctx, w.round(), p)
}

// Last is what the last look at a key's consumers showed. The zero value: there was none.
func (w *Watcher) Last(name string) record.Usage {
	w.mu.Lock()
	k, ok := w.keys[name]
	w.mu.Unlock()
	if !ok {
		return record.Usage{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

func (w *Watcher) of(name string) *watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	k, ok := w.keys[name]
	if !ok {
		k = &watched{}
		w.keys[name] = k
	}
	return k
}

func (w *Watcher) round() *round {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &round{client: w.client, subscriptions: w.subscriptions, at: w.cfg.Clock()}
}

var errNoClient = errors.New("keyd has no client of Azure's Resource Manager yet")

// look looks at one key as a part of a round. What a look shows that began later counts.
func (w *Watcher) look(ctx context.Context, r *round, p key.Policy) record.Usage {
	k := w.of(p.Key)
	u, targets, err := w.ask(ctx, r, k, p)
	w.looked(r, false)
	if err != nil {
		return record.Usage{At: r.at, Err: err}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if u.At.Before(k.last.At) {
		return k.last
	}
	k.memory.date(&u, w.cfg.Clock())
	k.memory.remember(p, targets, u.At)
	k.last = u
	w.save(ctx, p.Key, k)
	w.say(p.Key, k)
	return u
}

// ask asks about one key, and keeps nothing of it.
func (w *Watcher) ask(ctx context.Context, r *round, k *watched, p key.Policy) (u record.Usage, targets []*target,
	err error) {
	if r.client == nil {
		return u, nil, errNoClient
	}
	earlier, err := w.earlier(ctx, k, p.Key)
	if err != nil {
		return u, nil, err
	}
	u, targets = r.usage(ctx, p, earlier)
	if w.cfg.Logs != nil && len(p.Workspaces) > 0 {
		u.Logs = w.cfg.Logs(ctx, p, r.at)
	}
	if ctx.Err() != nil { // then every error is the same
		return u, nil, fmt.Errorf("the look was cut short: %w", context.Cause(ctx))
	}
	return u, targets, nil
}

// earlier is who was found earlier. It loads what keyd remembers of a key.
func (w *Watcher) earlier(ctx context.Context, k *watched, name string) ([]foundOnce, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.memory == nil {
		var blob []byte
		var err error
		if w.cfg.Ledgers != nil {
			blob, err = w.cfg.Ledgers.LoadLedger(ctx, ledgerOf(name))
		}
		if err != nil {
			return nil, fmt.Errorf("read what keyd remembers of consumers: %w", err)
		}
		if k.memory, err = readMemory(blob); err != nil {
			return nil, err
		}
	}
	return k.memory.earlier(), nil
}

func ledgerOf(name string) string { return "consumers/" + name }

// save keeps what changed. What could not be saved is tried again at the next look; until then it is only in memory.
func (w *Watcher) save(ctx context.Context, name string, k *watched) {
	if w.cfg.Ledgers == nil || !k.memory.changed {
		return
	}
	blob, err := k.memory.blob()
	if err == nil {
		err = w.cfg.Ledgers.SaveLedger(ctx, ledgerOf(name), blob)
	}
	if err != nil {
		w.cfg.Logger.Warn("what keyd saw of consumers could not be saved, and keyd tries again", "KEY", name,
			"error", err.Error())
		return
	}
	k.memory.changed = false
}

// say logs which consumers of a key keyd does not see, once until that changes.
func (w *Watcher) say(name string, k *watched) {
	var which, why []string
	for _, c := range k.last.Consumers {
		if c.Err != nil {
			which, why = append(which, c.ID), append(why, c.Err.Error())
		}
	}
	which, why = append(which, k.last.Unseen...), append(why, k.last.Unseen...)
	switch {
	case slices.Equal(which, k.unseen):
	case len(why) == 0:
		w.cfg.Logger.Info("keyd sees all consumers again", "KEY", name)
	default:
		w.cfg.Logger.Warn("keyd does not see all consumers", "KEY", name, "unseen", len(why), "first", why[0])
	}
	k.unseen = which
}
