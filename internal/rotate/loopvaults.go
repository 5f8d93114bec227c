package rotate

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
)

// SetVaults makes these the vaults of the loop, whose key exchange keys it looks after. All are stepped at once. The
// loop keeps the slice.
func (l *Loop) SetVaults(policies []key.VaultPolicy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.vaultRules = policies
	named := map[string]bool{}
	for i := range policies {
		p := &policies[i]
		named[p.URL] = true
		j, known := l.vaults[p.URL]
		if !known {
			j = &job{id: p.URL, ofVault: true, class: priority.Look, work: priority.Look}
			l.vaults[p.URL] = j
			l.unlooked++
		}
		j.vault = p
		l.wake(j, wake{priority.Due, true}) // keys may wait for its key exchange key
	}
	for url, j := range l.vaults {
		if !named[url] {
			delete(l.vaults, url)
			l.dismiss(j)
			l.forget(j)
		}
	}
}

// PokeVault has a vault stepped now, as work of this class.
func (l *Loop) PokeVault(url string, c priority.Class) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j, ok := l.vaults[url]; ok {
		l.wake(j, wake{class: c})
	}
}

// VaultPosition returns where the loop stands with a vault.
func (l *Loop) VaultPosition(url string) Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j, ok := l.vaults[url]; ok {
		return j.pos
	}
	return Position{}
}

// vaultPause says how long to wait after a step of a vault, as pause does for a key.
func (l *Loop) vaultPause(now time.Time, j *job) time.Duration {
	if j.pos.Err != nil {
		return j.pos.failed()
	}
	j.pos.Failures = 0
	step := j.pos.Step
	if step.Acts() {
		return 0
	}
	until := now.Add(l.r.Look)
	if !step.Until.IsZero() && step.Until.Before(until) {
		until = step.Until
		if step.Kind == plan.Idle {
			j.class = priority.Due
		}
	}
	return max(until.Sub(now), shortPause)
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
