package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
)

const (
	// The pause after the n-th failure in a row doubles from the first to the
	// last of these.
	firstPause = time.Second
	lastPause  = 5 * time.Minute
	// onceFailures ends RunOnce for a key that fails this often in a row, and
	// onceWait for one that waits this long: longer than an import of which it is
	// not known whether a Managed HSM took it.
	onceFailures = 6
	onceWait     = 15 * time.Minute
)

// Loop steps every key and every vault whenever it is due. It is a thin shell around StepKey and StepVault: one
// goroutine for each, at most Parallel of them stepping.
type Loop struct {
	r     *Rotator
	slots chan struct{}

	mu      sync.Mutex
	keys    map[string]*worker
	vaults  map[string]*worker // by URL
	ctx     context.Context    // set by Run
	running sync.WaitGroup
}

// Position is where the loop stands with one key.
type Position struct {
	Looked   bool      // a first look was completed
	Step     plan.Step // the last one decided
	Doing    bool      // it is under way
	Since    time.Time
	Err      error // of the last step; nil when it succeeded
	Failures int   // in a row
	Wake     time.Time
}

// worker is one key's or one vault's part of the loop.
type worker struct {
	policy key.Policy
	vault  key.VaultPolicy
	// ofVault: it steps the vault, and not a key.
	ofVault bool
	wake    chan struct{} // of capacity 1
	stop    context.CancelFunc
	pos     Position
}

// NewLoop returns a loop that steps at most parallel keys at once.
func NewLoop(r *Rotator, parallel int) *Loop {
	return &Loop{r: r, slots: make(chan struct{}, max(1, parallel)), keys: map[string]*worker{},
		vaults: map[string]*worker{}}
}

// SetPolicies makes these the keys of the loop. A key whose policy changed is
// stepped at once; one that is no longer named is left alone.
func (l *Loop) SetPolicies(policies []key.Policy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	named := map[string]bool{}
	for _, p := range policies {
		named[p.Key] = true
		if w, ok := l.keys[p.Key]; ok {
			w.policy = p
			l.r.Observer.Drop(p.Key)
			w.poke()
			continue
		}
		w := &worker{policy: p, wake: make(chan struct{}, 1)}
		l.keys[p.Key] = w
		if l.ctx != nil {
			l.start(w)
		}
	}
	for name, w := range l.keys {
		if named[name] {
			continue
		}
		if w.stop != nil {
			w.stop()
		}
		delete(l.keys, name)
		l.r.Observer.Forget(name)
		if l.r.Metrics != nil {
			l.r.Metrics.Forget(name)
		}
	}
}

// Poke has a key stepped now.
func (l *Loop) Poke(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.keys[name]; ok {
		w.poke()
	}
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Position returns where the loop stands with a key.
func (l *Loop) Position(name string) Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.keys[name]; ok {
		return w.pos
	}
	return Position{}
}

// Policy returns the policy under which a key is stepped. Its name may be written in
// another case.
func (l *Loop) Policy(name string) (key.Policy, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.keys[name]; ok {
		return w.policy, true
	}
	for other, w := range l.keys {
		if key.SameName(other, name) {
			return w.policy, true
		}
	}
	return key.Policy{}, false
}

// Names lists the keys of the loop, in order.
func (l *Loop) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.keys))
}

// Looked reports whether every key was looked at once.
func (l *Loop) Looked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.keys {
		if !w.pos.Looked {
			return false
		}
	}
	return true
}

// Stuck names a key whose step has been under way for longer than any step may
// take, or which was not woken when it should have been; "" when the loop turns.
func (l *Loop) Stuck(now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, w := range l.all() {
		switch {
		case w.pos.Doing && now.Sub(w.pos.Since) > plan.StepTimeout+time.Minute:
			return name
		case !w.pos.Doing && !w.pos.Wake.IsZero() && now.Sub(w.pos.Wake) > plan.StepTimeout+time.Minute:
			return name
		}
	}
	return ""
}

// Run steps keys until ctx ends, and returns when no step is under way any more.
func (l *Loop) Run(ctx context.Context) {
	l.mu.Lock()
	l.ctx = ctx
	for _, w := range l.vaults {
		l.start(w)
	}
	for _, w := range l.keys {
		l.start(w)
	}
	l.mu.Unlock()
	<-ctx.Done()
	l.running.Wait()
}

// start is called with the lock held.
func (l *Loop) start(w *worker) {
	ctx, cancel := context.WithCancel(l.ctx)
	w.stop = cancel
	l.running.Go(func() {
		defer cancel()
		for ctx.Err() == nil {
			pause := l.stepOnce(ctx, w)
			timer := time.NewTimer(pause)
			select {
			case <-ctx.Done():
			case <-w.wake:
			case <-timer.C:
			}
			timer.Stop()
		}
	})
}

// stepOnce applies one step and says how long to pause before the next.
func (l *Loop) stepOnce(ctx context.Context, w *worker) (pause time.Duration) {
	l.mu.Lock()
	w.pos.Wake = time.Time{} // awake, and perhaps queued: that is not being stuck
	l.mu.Unlock()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return 0
	}
	l.mu.Lock()
	p, v := w.policy, w.vault
	w.pos.Doing, w.pos.Since = true, l.r.Clock()
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, plan.StepTimeout)
	defer cancel()
	if w.ofVault {
		return l.vaultStepped(ctx, w, v)
	}
	step, err := l.r.StepKey(ctx, p)

	now := l.r.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	pos := &w.pos
	pos.Doing, pos.Step, pos.Err = false, step, err
	pos.Looked = pos.Looked || l.r.Observer.Last(p.Key) != nil
	pause = l.pause(now, p, pos)
	pos.Wake = now.Add(pause)
	l.log(p, *pos)
	return pause
}

// pause says how long to wait after a step: not at all after one that was done,
// longer and longer after failures, and otherwise until something is due or the
// slow interval is over.
func (l *Loop) pause(now time.Time, p key.Policy, pos *Position) time.Duration {
	if pos.Err != nil {
		return pos.failed()
	}
	if pos.Step.Acts() {
		// An abandoned id is the answer to a failure, not the end of it.
		if pos.Step.Kind != plan.Abandon {
			pos.Failures = 0
		}
		return 0
	}
	if pos.Step.Kind != plan.Wait {
		pos.Failures = 0
	}
	until := now.Add(l.r.look(p))
	if o := l.r.Observer.Last(p.Key); o != nil {
		until = o.At.Add(l.r.look(p))
	}
	if s := pos.Step.Until; !s.IsZero() && s.Before(until) {
		until = s
	}
	return max(until.Sub(now), 10*time.Millisecond)
}

// failed counts a failure, and says how long to pause after it.
func (pos *Position) failed() time.Duration {
	pos.Failures++
	return min(lastPause, firstPause<<min(pos.Failures-1, 20))
}

func vaultName(p key.Policy, url string) string {
	if v, ok := p.Vault(url); ok {
		return v.Name
	}
	return url
}

func (l *Loop) log(p key.Policy, pos Position) {
	if l.r.Logger == nil {
		return
	}
	log := l.r.Logger.With("KEY", p.Key, "STEP", string(pos.Step.Kind))
	if pos.Step.Vault != "" {
		log = log.With("VAULT", vaultName(p, pos.Step.Vault))
	}
	if pos.Step.Generation > 0 {
		log = log.With("generation", pos.Step.Generation)
	}
	switch {
	case pos.Err != nil && key.IsCancelled(pos.Err):
	case pos.Err != nil:
		log.Warn("step failed", "error", pos.Err.Error(), "failures", pos.Failures)
	case pos.Step.Kind == plan.Hold:
		log.Error("key held", "code", string(pos.Step.Hold.Code), "reason", pos.Step.Hold.Reason)
	case pos.Step.Acts():
		log.Info("step done", "why", pos.Step.Why)
	case pos.Step.Kind == plan.Wait:
		log.Debug("waiting", "why", pos.Step.Why)
	}
}

// RunOnce steps every key until nothing is due, one after the other and beside the vaults. It reports those that were
// not brought there.
func (l *Loop) RunOnce(ctx context.Context) error {
	l.mu.Lock()
	workers := make([]*worker, 0, len(l.keys))
	for _, w := range l.keys {
		workers = append(workers, w)
	}
	l.mu.Unlock()
	var vaults error
	var running sync.WaitGroup
	running.Go(func() { vaults = l.settleVaults(ctx) }) // no key waits for the KEK of a vault that is not its own
	var errs []error
	for _, w := range workers {
		errs = append(errs, l.settle(ctx, w))
	}
	running.Wait()
	return errors.Join(append(errs, vaults)...)
}

func (l *Loop) settle(ctx context.Context, w *worker) error {
	var waiting time.Time
	for {
		pause := l.stepOnce(ctx, w)
		pos := l.Position(w.policy.Key)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pos.Err != nil && pos.Failures >= onceFailures:
			return pos.Err
		case pos.Step.Kind == plan.Wait:
			if now := l.r.Clock(); waiting.IsZero() {
				waiting = now
			} else if now.Sub(waiting) > onceWait {
				return fmt.Errorf("key %s waits: %s", w.policy.Key, pos.Step.Why)
			}
		case pos.Step.Kind == plan.Hold:
			return fmt.Errorf("key %s is held: %s", w.policy.Key, pos.Step.Why)
		case pos.Err == nil && !pos.Step.Acts():
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-w.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}
