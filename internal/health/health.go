package health

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/quota"
)

const (
	// probeTimeout bounds one proof.
	probeTimeout = 30 * time.Second
	// refreshEvery is how often health reads the records again.
	refreshEvery = 10 * time.Second

	defaultNewest   = 5 * time.Minute
	defaultOlder    = 24 * time.Hour
	defaultParallel = 4
)

// Config configures a Health.
type Config struct {
	HSM proof.HSM
	// Vaults finds the vault with this URL; nil when the configuration has none.
	Vaults func(url string) proof.Vault
	// Keys returns every key that has a record, including held and retained keys.
	Keys  func(ctx context.Context) ([]Key, error)
	Clock func() time.Time
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
	keys      map[string]bool
	subjects  []Subject // in vaults of the configuration
	skipped   []Subject // in vaults that are no longer in it
	noted     map[string]bool
	last      map[ID]Last
	busy      map[string]int // proofs under way, by vault URL
	shown     map[series]bool
	refreshed time.Time
	unread    bool // the last reading of the records failed

	quotas            []quota.Vault
	subscriptionShare float64
	paced             map[string]quota.Pace // as shown, by the vault's name
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
		keys:    map[string]bool{},
		noted:   map[string]bool{},
		last:    map[ID]Last{},
		busy:    map[string]int{},
		shown:   map[series]bool{},
	}
	h.SetPace(c.Newest, c.Older)
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
	h.mu.Unlock()
	h.poke()
}

// Refresh makes Health read the records again now instead of within 10 seconds.
func (h *Health) Refresh() {
	h.mu.Lock()
	h.refreshed = time.Time{}
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
	h.mu.Unlock()
	if stale < 0 || stale >= refreshEvery {
		_ = h.refresh(ctx) // refresh logs the error, and a later turn tries again
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	next, wake := Due(now, h.pace, h.subjects, h.last)
	for _, s := range next {
		// A subject that finds no free slot starts when another proof ends.
		if h.busy[s.Vault] >= h.Parallel {
			continue
		}
		h.begin(s)
		proofs.Go(func() { h.probe(priority.With(ctx, priority.Proof), s) })
	}
	if again := h.refreshed.Add(refreshEvery); wake.IsZero() || again.Before(wake) {
		wake = again
	}
	return max(wake.Sub(now), 10*time.Millisecond)
}

// refresh reads the records. When that fails, Health continues with what it read before.
func (h *Health) refresh(ctx context.Context) error {
	keys, err := h.Keys(ctx)
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
	h.keys = map[string]bool{}
	for _, k := range keys {
		h.keys[k.Policy.Key] = true
	}
	h.sort(Subjects(keys))
	h.fit()
	h.remember(now)
	h.show(now)
	return nil
}

// sort separates the subjects that Health can prove from those in vaults that left the configuration.
func (h *Health) sort(all []Subject) {
	h.subjects, h.skipped = nil, nil
	gone := map[string]bool{}
	for _, s := range all {
		if h.Vaults(s.Vault) != nil {
			h.subjects = append(h.subjects, s)
			continue
		}
		h.skipped = append(h.skipped, s)
		gone[s.Vault] = true
		if !h.noted[s.Vault] {
			h.Logger.Warn(
				"vault is not in the configuration: keyd does not prove its versions", "VAULT", s.VaultName, "url",
				s.Vault,
			)
		}
	}
	h.noted = gone
}

// remember starts a history for new subjects and drops the history of subjects that are gone.
func (h *Health) remember(now time.Time) {
	present := make(map[ID]bool, len(h.subjects))
	for _, s := range h.subjects {
		present[s.ID()] = true
		if _, ok := h.last[s.ID()]; !ok {
			h.last[s.ID()] = Last{Seen: now}
		}
	}
	for id := range h.last {
		if !present[id] {
			delete(h.last, id)
		}
	}
}
