package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/plan"
)

const (
	// onceFailures ends RunOnce for a key that fails this often in a row, and onceWait for one that waits this long:
	// longer than an import of which it is not known whether a Managed HSM took it.
	onceFailures = 6
	onceWait     = 15 * time.Minute
)

// RunOnce steps every key and every vault until nothing is due, and reports those that were not brought there. A vault
// that waits for a person's approval is left.
func (l *Loop) RunOnce(ctx context.Context) error {
	l.once = true
	l.start(ctx)
	for ctx.Err() == nil && !l.allDone() {
		l.await(ctx, l.turn(ctx))
	}
	l.running.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, all := range []map[string]*job{l.keys, l.vaults} {
		for _, id := range slices.Sorted(maps.Keys(all)) {
			errs = append(errs, all[id].err)
		}
	}
	return errors.Join(errs...)
}

// allDone reports whether RunOnce is done with every job.
func (l *Loop) allDone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done == len(l.keys)+len(l.vaults)
}

// settled reports whether RunOnce has nothing more to do with a job after its last step.
func (l *Loop) settled(now time.Time, j *job) bool {
	switch step := j.pos.Step; {
	case j.pos.Err != nil:
		j.done = j.pos.Failures >= onceFailures
		j.err = j.pos.Err
	case step.Kind == plan.Hold:
		j.done, j.err = true, fmt.Errorf("%s is held: %s", j.name(), step.Why)
	case step.Kind == plan.Wait:
		if j.waiting.IsZero() {
			j.waiting = now
		}
		j.done = now.Sub(j.waiting) > onceWait
		j.err = fmt.Errorf("%s waits: %s", j.name(), step.Why)
	default:
		j.done, j.err = !step.Acts(), nil
		j.waiting = time.Time{}
	}
	if j.done {
		l.done++
	}
	return j.done
}

// name is how people call the key or the vault.
func (j *job) name() string {
	if j.ofVault {
		return "vault " + j.vault.Name
	}
	return "key " + j.id
}
