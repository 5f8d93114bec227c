package health

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/quota"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	// probeTimeout bounds one proof.
	probeTimeout = 30 * time.Second
	// refreshEvery is how often health looks for records that have changed, and refreshPause the shortest time between
	// two such looks, however often somebody asks for one.
	refreshEvery = 10 * time.Second
	refreshPause = time.Second

	defaultNewest   = 5 * time.Minute
	defaultOlder    = 24 * time.Hour
	defaultParallel = 4
)

// Config configures a Health.
type Config struct {
	HSM proof.HSM
	// Vaults finds the vault with this URL; nil when the configuration has none.
	Vaults func(url string) proof.Vault
	// Keys lists every key, including held and retained keys. Health reads the record of one whose revision or policy
	// has changed.
	Keys   func(ctx context.Context) ([]Key, error)
	Record func(ctx context.Context, name string) (record.Record, error)
	// Earlier returns a version of which the record says that a proof passed, as the vault showed it then; nil when
	// keyd does not know that any more. It may be nil.
	Earlier func(s Subject) *key.Version
	Clock   func() time.Time
	// Newest and Older are the longest times between two proofs of a newest version and of an older one. 0 means 5
	// minutes and 24 hours.
	Newest, Older time.Duration
	// Quotas returns the vaults of the configuration and how much keyd may use of each and of its subscription. Where
	// that is not enough, proofs come less often. nil: there are no limits.
	Quotas func() (vaults []quota.Vault, subscriptionShare float64)
	// Parallel limits the proofs that run at the same time in one vault. Each vault has its own limit, so a vault
	// that hangs does not delay the others. 0 means 4.
	Parallel int
	// Health calls Ended after every proof. Ended must not block; it may be nil.
	Ended   func(s Subject, at time.Time, r proof.Result)
	Metrics *Metrics // may be nil
	Logger  *slog.Logger
}

// Health keeps the results of its proofs in memory only. The proofs in the record come from rotations.
type Health struct {
	Config
	changed chan struct{} // of capacity 1: a proof ended, or the records may have changed

	mu        sync.Mutex
	pace      Pace
	keys      map[string]*trackedKey
	vaults    map[string]*queue // by URL
	turned    time.Time         // the last turn
	refreshed time.Time
	asked     bool // for a refresh
	unread    bool // the last reading of the records failed

	quotas            []quota.Vault
	subscriptionShare float64
	paced             map[string]quota.Pace // as shown, by the vault's name
}

// trackedKey is a key with its subjects, in the order of Subjects.
type trackedKey struct {
	Key
	subjects []*tracked
}

// New returns a Health. It does nothing until Run or Prove is called.
func New(c Config) *Health {
	c.Parallel = cmp.Or(max(c.Parallel, 0), defaultParallel)
	if c.Metrics == nil {
		c.Metrics = NewMetrics(prometheus.NewRegistry())
	}
	if c.Quotas == nil {
		c.Quotas = func() ([]quota.Vault, float64) { return nil, quota.DefaultShare }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Health{
		Config:  c,
		changed: make(chan struct{}, 1),
		keys:    map[string]*trackedKey{},
		vaults:  map[string]*queue{},
	}
	h.SetPace(c.Newest, c.Older)
	c.Metrics.collect = h.collect
	return h
}

// SetPace changes the intervals, for example after keyd reloads its configuration, and reads the quotas again. 0 means
// the default.
func (h *Health) SetPace(newest, older time.Duration) {
	pace := Pace{Newest: cmp.Or(max(newest, 0), defaultNewest), Older: cmp.Or(max(older, 0), defaultOlder)}
	quotas, subscriptionShare := h.Quotas()
	h.mu.Lock()
	h.pace, h.quotas, h.subscriptionShare = pace, quotas, subscriptionShare
	h.Metrics.configured(pace)
	h.fit()
	h.reschedule(h.now())
	h.mu.Unlock()
	h.poke()
}

// Refresh makes Health look for changed records within a second instead of within 10.
func (h *Health) Refresh() {
	h.mu.Lock()
	h.asked = true
	h.mu.Unlock()
	h.poke()
}

func (h *Health) poke() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// now drops the monotonic reading, so that Health notices when the clock goes back.
func (h *Health) now() time.Time { return h.Clock().Round(0) }

// Run proves what is due until ctx ends, and returns after the last proof ended. Start it after the loop's first
// observation: only then does keyd know that the records belong to this HSM and these vaults.
func (h *Health) Run(ctx context.Context) {
	var proofs sync.WaitGroup
	defer proofs.Wait()
	for ctx.Err() == nil {
		pause := h.turn(ctx, &proofs)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-h.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// turn starts the proofs that are due and returns how long to wait for the next ones.
func (h *Health) turn(ctx context.Context, proofs *sync.WaitGroup) (pause time.Duration) {
	h.mu.Lock()
	stale := h.now().Sub(h.refreshed)
	due := stale < 0 || stale >= refreshEvery || h.asked && stale >= refreshPause
	h.mu.Unlock()
	if due {
		_ = h.refresh(ctx) // refresh logs the error, and a later turn tries again
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if now.Before(h.turned) {
		h.reschedule(now) // the clock was put back
	}
	h.turned = now
	wake := h.refreshed.Add(refreshEvery)
	if h.asked {
		wake = h.refreshed.Add(refreshPause)
	}
	for _, q := range h.vaults {
		// A subject that finds no free slot starts when another proof ends.
		for q.configured && q.busy < h.Parallel {
			t := q.next(now)
			if t == nil {
				break
			}
			h.begin(t)
			proofs.Go(func() { h.probe(priority.With(ctx, priority.Proof), t) })
		}
		if q.configured && q.busy < h.Parallel && len(q.waiting) > 0 && q.waiting[0].due.Before(wake) {
			wake = q.waiting[0].due
		}
	}
	return max(wake.Sub(now), 10*time.Millisecond)
}

// reschedule puts every subject at its place anew. The caller holds the lock.
func (h *Health) reschedule(now time.Time) {
	for _, q := range h.vaults {
		q.reschedule(now, h.pace)
	}
}

// refresh reads the records that have changed. When that fails, Health continues with what it read before.
func (h *Health) refresh(ctx context.Context) error {
	h.mu.Lock()
	h.asked = false
	h.mu.Unlock()
	keys, err := h.Keys(ctx)
	var changed map[string][]Subject
	if err == nil {
		changed, err = h.reread(ctx, keys)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	h.refreshed = now
	if err != nil {
		if !h.unread && ctx.Err() == nil {
			h.Logger.Warn("cannot read the records: proofs continue with those read last", "error", err.Error())
		}
		h.unread = true
		return err
	}
	h.unread = false
	h.take(now, keys, changed)
	h.sort(now)
	if h.fit() {
		h.reschedule(now)
	}
	return nil
}

// reread reads the record of each key whose record or policy is not the one that Health knows, and returns the
// subjects of these keys.
func (h *Health) reread(ctx context.Context, keys []Key) (map[string][]Subject, error) {
	changed := map[string][]Subject{}
	for _, k := range keys {
		h.mu.Lock()
		known := h.keys[k.Name]
		h.mu.Unlock()
		if known != nil && known.same(k) {
			continue
		}
		rec, err := h.Record(ctx, k.Name)
		if err != nil {
			return nil, err
		}
		changed[k.Name] = Subjects(k, rec)
	}
	return changed, nil
}

// take takes over the keys that there are now, and the subjects of those that have changed. A subject keeps what its
// proofs showed. The caller holds the lock.
func (h *Health) take(now time.Time, keys []Key, changed map[string][]Subject) {
	present := make(map[string]bool, len(keys))
	for _, k := range keys {
		present[k.Name] = true
		if subjects, ok := changed[k.Name]; ok {
			h.track(now, k, subjects)
		}
	}
	for name, k := range h.keys {
		if !present[name] {
			h.drop(k.subjects)
			delete(h.keys, name)
		}
	}
}

func (h *Health) track(now time.Time, k Key, subjects []Subject) {
	before := map[ID]*tracked{}
	if known := h.keys[k.Name]; known != nil {
		for _, t := range known.subjects {
			before[t.ID()] = t
		}
	}
	next := &trackedKey{Key: k, subjects: make([]*tracked, 0, len(subjects))}
	for _, s := range subjects {
		t := before[s.ID()]
		delete(before, s.ID())
		if t == nil {
			t = newTracked(s, now)
		}
		t.Subject = s
		if h.queueOf(s.Vault).configured {
			h.Metrics.has(s.VaultName)
		}
		h.queueOf(s.Vault).schedule(now, h.pace, t)
		next.subjects = append(next.subjects, t)
	}
	h.drop(slices.Collect(maps.Values(before)))
	h.keys[k.Name] = next
}

// drop forgets subjects. The result of a proof under way then counts for nothing.
func (h *Health) drop(subjects []*tracked) {
	for _, t := range subjects {
		h.queueOf(t.Vault).remove(t)
		t.gone = true
	}
}

func (h *Health) queueOf(url string) *queue {
	q := h.vaults[url]
	if q == nil {
		q = &queue{configured: true}
		h.vaults[url] = q
	}
	return q
}

// sort separates the vaults in which Health can prove from those that left the configuration. Nothing that was known
// of the proofs in a vault outlives its leaving. The caller holds the lock.
func (h *Health) sort(now time.Time) {
	for url, q := range h.vaults {
		if configured := h.Vaults(url) != nil; configured != q.configured {
			q.configured = configured
			h.moved(now, url, configured)
			q.reschedule(now, h.pace)
		}
	}
}

// moved begins anew with the subjects of a vault that left the configuration, or came back.
func (h *Health) moved(now time.Time, url string, configured bool) {
	noted := configured
	for _, k := range h.keys {
		for _, t := range k.subjects {
			if t.Vault != url {
				continue
			}
			t.last = Last{Seen: now}
			if !noted {
				h.Metrics.ForgetVault(t.VaultName)
				h.Logger.Warn("vault is not in the configuration: keyd does not prove its versions",
					"VAULT", t.VaultName, "url", url)
			}
			noted = true
		}
	}
}
