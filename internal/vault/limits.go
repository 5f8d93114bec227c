package vault

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/quota"
)

// Limits keeps all Clients of a process within keyd's share of what Azure allows, so that keyd does not cause Azure to
// throttle the services that encrypt under its keys. It outlives the Clients: a reload of the configuration gives keyd
// no second share.
type Limits struct {
	mu            sync.Mutex
	gates         map[string]*gate    // by the vault's URL
	subscriptions map[string]*buckets // of Key Vaults
	commonShare   float64             // of what each subscription allows
}

// NewLimits lets keyd use the default share of every vault, until Set says otherwise.
func NewLimits() *Limits {
	return &Limits{gates: map[string]*gate{}, subscriptions: map[string]*buckets{}, commonShare: quota.DefaultShare}
}

// Set takes over the shares of vaults, and of their subscriptions.
func (l *Limits) Set(vaults []quota.Vault, subscriptionShare float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commonShare = subscriptionShare
	for _, v := range vaults {
		l.set(v)
	}
}

// Expect tells of which specs the configured keys are, for calls on versions that their vaults have not shown yet.
func (l *Limits) Expect(policies []key.Policy) {
	for _, p := range policies {
		for _, v := range p.Vaults {
			l.of(v).expect(p.Key, p.Spec)
		}
	}
}

// of returns the gate of a vault. One that was never set has the default share.
func (l *Limits) of(v key.Vault) *gate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.gates[v.URL]; g != nil {
		return g
	}
	return l.set(quota.Vault{Vault: v, Share: quota.DefaultShare})
}

// set is called with the lock held.
func (l *Limits) set(v quota.Vault) *gate {
	g := l.gates[v.URL]
	if g == nil {
		g = newGate(v.Kind)
		l.gates[v.URL] = g
	}
	var common *buckets
	if v.Kind == key.KeyVault {
		common = l.subscriptions[v.Subscription]
		if common == nil {
			common = new(buckets)
			l.subscriptions[v.Subscription] = common
		}
		common.fill(quota.SubscriptionPerSecond(l.commonShare), v.Kind)
	}
	g.own.fill(v.PerSecond(), v.Kind)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.common = common
	return g
}

// buckets fill evenly with what keyd may use of each limit. They hold one second's worth, so that keyd stays within a
// tenth of its share in every period of a Key Vault.
type buckets [quota.BucketCount]*rate.Limiter

// fill sets how much the buckets get in a second. New ones are full.
func (all *buckets) fill(perSecond float64, kind key.VaultKind) {
	for b, bucket := range all {
		most := max(int(perSecond), quota.Dearest(kind, quota.Bucket(b)))
		if bucket == nil {
			all[b] = rate.NewLimiter(rate.Limit(perSecond), most)
			continue
		}
		bucket.SetLimit(rate.Limit(perSecond))
		bucket.SetBurst(most)
	}
}

// gate is where the calls to one vault wait: for each bucket, one passes after the other, the highest class first (see
// package priority).
type gate struct {
	kind  key.VaultKind
	turns [quota.BucketCount]*priority.Slots
	own   buckets

	mu     sync.Mutex
	common *buckets // of the vault's subscription; nil for none
	// versions has the spec of each version that the vault showed, and keys the largest that is known of each key, by
	// its name in lower case.
	versions map[string]key.Spec
	keys     map[string]key.Spec
}

func newGate(kind key.VaultKind) *gate {
	g := &gate{kind: kind, versions: map[string]key.Spec{}, keys: map[string]key.Spec{}}
	for b := range g.turns {
		g.turns[b] = priority.NewSlots(1)
	}
	return g
}

// wait returns when the call may be sent. An error means that it must not be.
func (g *gate) wait(ctx context.Context, k call) error {
	spec := quota.SpecOf(ctx)
	if spec == "" {
		spec = g.specOf(k)
	}
	for _, b := range k.op.as.Buckets() {
		if err := g.pass(ctx, b, quota.Cost(g.kind, b, k.op.as, spec)); err != nil {
			return err
		}
	}
	return nil
}

// pass waits for the call's turn, and then until the bucket has what the call costs.
func (g *gate) pass(ctx context.Context, b quota.Bucket, cost int) error {
	if err := g.turns[b].Acquire(ctx); err != nil {
		return err
	}
	defer g.turns[b].Release()
	from := []*rate.Limiter{g.own[b]}
	g.mu.Lock()
	if g.common != nil {
		from = append(from, g.common[b])
	}
	g.mu.Unlock()
	return take(ctx, from, cost)
}

// saw notes the spec of a version, by which its calls count from now on.
func (g *gate) saw(name string, v key.Version) {
	g.mu.Lock()
	g.versions[v.ID] = v.Material.Spec()
	g.mu.Unlock()
	g.expect(name, v.Material.Spec())
}

func (g *gate) expect(name string, spec key.Spec) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if name = strings.ToLower(name); spec.Bits() > g.keys[name].Bits() {
		g.keys[name] = spec
	}
}

// specOf is what the vault showed of the version; of one that it has not shown, what is known of the key. A call that
// is about no key counts as one on the smallest.
func (g *gate) specOf(k call) key.Spec {
	if k.key == "" {
		return key.RSA2048
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if spec, ok := g.versions[k.version]; ok {
		return spec
	}
	return g.keys[strings.ToLower(k.key)]
}

// take takes a cost from all buckets and waits until each of them has it. If ctx ends before that, it takes nothing and
// returns an error, at once if it can know.
func take(ctx context.Context, from []*rate.Limiter, cost int) error {
	now := time.Now()
	var delay time.Duration
	taken := make([]*rate.Reservation, len(from))
	for i, b := range from {
		taken[i] = b.ReserveN(now, cost)
		delay = max(delay, taken[i].DelayFrom(now))
	}
	err := sleep(ctx, delay)
	if err != nil {
		for _, r := range taken {
			r.Cancel()
		}
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < d {
		return fmt.Errorf("its turn comes only after the call's deadline: %w", context.DeadlineExceeded)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
