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

// SetVaults makes these the vaults of the loop, whose key exchange keys it looks after. All are stepped at once.
func (l *Loop) SetVaults(policies []key.VaultPolicy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	named := map[string]bool{}
	for _, p := range policies {
		named[p.URL] = true
		l.r.Observer.DropVault(p.URL)
		if w, ok := l.vaults[p.URL]; ok {
			w.vault = p
			w.poke()
			continue
		}
		w := &worker{vault: p, ofVault: true, wake: make(chan struct{}, 1)}
		l.vaults[p.URL] = w
		if l.ctx != nil {
			l.start(w)
		}
	}
	for url, w := range l.vaults {
		if named[url] {
			continue
		}
		if w.stop != nil {
			w.stop()
		}
		delete(l.vaults, url)
		if l.r.Metrics != nil {
			l.r.Metrics.ForgetVault(w.vault.Name)
		}
	}
}

// PokeVault has a vault stepped now.
func (l *Loop) PokeVault(url string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.vaults[url]; ok {
		w.poke()
	}
}

// VaultPosition returns where the loop stands with a vault.
func (l *Loop) VaultPosition(url string) Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, ok := l.vaults[url]; ok {
		return w.pos
	}
	return Position{}
}

// all is every worker by the name of its key or the URL of its vault.
func (l *Loop) all() map[string]*worker {
	all := maps.Clone(l.keys)
	maps.Copy(all, l.vaults)
	return all
}

// vaultStepped steps a vault, and says how long to pause. Once a key exchange key is in use, the keys that waited for
// it are stepped.
func (l *Loop) vaultStepped(ctx context.Context, w *worker, p key.VaultPolicy) (pause time.Duration) {
	step, err := l.r.StepVault(ctx, p)
	now := l.r.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	pos := &w.pos
	pos.Doing, pos.Step, pos.Err, pos.Looked = false, step, err, true
	switch {
	case err != nil:
		pause = pos.failed()
	case step.Acts():
		pos.Failures = 0
	default:
		pos.Failures = 0
		until := now.Add(l.r.Look)
		if !step.Until.IsZero() && step.Until.Before(until) {
			until = step.Until
		}
		pause = max(until.Sub(now), 10*time.Millisecond)
	}
	if err == nil && step.Kind == plan.UseKEK {
		for _, k := range l.keys {
			if _, has := k.policy.Vault(p.URL); has {
				l.r.Observer.Drop(k.policy.Key)
				k.poke()
			}
		}
	}
	pos.Wake = now.Add(pause)
	l.logVault(p, *pos)
	return pause
}

func (l *Loop) logVault(p key.VaultPolicy, pos Position) {
	if l.r.Logger == nil {
		return
	}
	log := l.r.Logger.With("VAULT", p.Name, "STEP", string(pos.Step.Kind))
	switch {
	case pos.Err != nil && key.IsCancelled(pos.Err):
	case pos.Err != nil:
		log.Warn("step failed", "error", pos.Err.Error(), "failures", pos.Failures)
	case pos.Step.Acts():
		log.Info("step done", "why", pos.Step.Why)
	case pos.Step.Kind == plan.Wait:
		log.Debug("waiting", "why", pos.Step.Why)
	}
}

// settleVaults steps every vault until nothing is due there, all at once: none waits for one that does not answer. One
// that waits for a person's approval is left.
func (l *Loop) settleVaults(ctx context.Context) error {
	l.mu.Lock()
	workers := slices.Collect(maps.Values(l.vaults))
	l.mu.Unlock()
	errs := make([]error, len(workers))
	var running sync.WaitGroup
	for i, w := range workers {
		running.Go(func() { errs[i] = l.settleVault(ctx, w) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (l *Loop) settleVault(ctx context.Context, w *worker) error {
	begun := l.r.Clock()
	for {
		pause := l.stepOnce(ctx, w)
		pos := l.VaultPosition(w.vault.URL)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pos.Err != nil && pos.Failures >= onceFailures:
			return pos.Err
		case pos.Step.Kind == plan.Wait && l.r.Clock().Sub(begun) > onceWait:
			return fmt.Errorf("vault %s waits: %s", w.vault.Name, pos.Step.Why)
		case pos.Err == nil && !pos.Step.Acts() && pos.Step.Kind != plan.Wait:
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
