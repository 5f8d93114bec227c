package rotate

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
)

const (
	// The pause after the n-th failure in a row doubles from the first to the
	// last of these.
	firstPause = time.Second
	lastPause  = 5 * time.Minute
	// shortPause is the least time before keyd looks again where no step followed from the last look.
	shortPause = 10 * time.Millisecond
)

// begin has a goroutine step a job once.
func (l *Loop) begin(ctx context.Context, j *job) {
	ctx, cancel := context.WithTimeout(priority.With(ctx, j.class), plan.StepTimeout)
	l.busy[j.id] = j
	j.stop = cancel
	j.pos.Doing, j.pos.Since = true, l.r.Clock()
	p, v := j.policy, j.vault
	l.running.Go(func() {
		defer cancel()
		var step plan.Step
		var err error
		if j.ofVault {
			step, err = l.steps.StepVault(ctx, *v)
		} else {
			step, err = l.steps.StepKey(ctx, *p)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.end(j, step, err)
		l.poke()
	})
}

// end notes how a step ended, and queues its job again.
func (l *Loop) end(j *job, step plan.Step, err error) {
	delete(l.busy, j.id)
	if l.urgent == j {
		l.urgent = nil
	}
	if successor := l.current(j); successor != j {
		l.forget(j) // the step may have shown something again
		l.again(successor)
		return
	}
	pos := &j.pos
	pos.Doing, pos.Now, pos.Step, pos.Err = false, nil, step, err
	now := l.r.Clock()
	var pause time.Duration
	if j.ofVault {
		l.vaultSeen(j)
		l.classify(j)
		pause = l.vaultPause(now, j)
		l.logVault(*j.vault, *pos)
	} else {
		l.keySeen(j)
		l.classify(j)
		pause = l.pause(now, j)
		l.log(*j.policy, *pos)
	}
	if l.once && l.settled(now, j) {
		return
	}
	j.due = now.Add(pause)
	pos.Wake = j.due
	l.queue.put(j)
	l.again(j)
}

// current is the job that the loop has for the key or vault of j; nil when it has left the loop.
func (l *Loop) current(j *job) *job {
	if j.ofVault {
		return l.vaults[j.id]
	}
	return l.keys[j.id]
}

// again has a job stepped if it was woken while it could not be.
func (l *Loop) again(j *job) {
	if j == nil || j.woken == nil {
		return
	}
	w := *j.woken
	j.woken = nil
	l.wake(j, w)
}

// classify says what the next turn of a job is for.
func (l *Loop) classify(j *job) {
	step, failed := j.pos.Step, j.pos.Err != nil
	switch {
	case step.Kind == "":
		j.class = j.work // not even the record could be read
	case step.Acts():
		l.begins(j)
		if step.Kind == plan.Finish && !failed {
			j.begun = 0 // what follows is only a look
		}
		j.work = min(j.work, classOf(step))
		j.class = j.work
	case failed:
		j.class = j.work
	case step.Kind == plan.Wait:
		// To try again is a look like others, unless keyd soon knows whether an import happened.
		j.work = min(j.work, priority.Due)
		j.class = priority.Look
		if step.Attempt != "" {
			j.class = j.work
		}
	default:
		j.begun, j.work, j.class = 0, priority.Look, priority.Look
	}
}

// classOf is the class of a step that acts, and of those that follow it.
func classOf(s plan.Step) priority.Class {
	switch s.Kind {
	case plan.ReserveSpare, plan.DiscardSpare:
		return priority.Look
	case plan.Reserve, plan.Promote, plan.CreateKEK:
		if !s.Trigger.Scheduled {
			return priority.Operator
		}
	case plan.Enable, plan.EnableDone, plan.EnableAborted:
		return priority.Operator
	case plan.Land, plan.Alias, plan.Void:
		return priority.Repair
	case plan.Import, plan.Prove:
		if s.Cause == key.CauseRepair || s.Cause == key.CauseRollback {
			return priority.Repair
		}
	}
	return priority.Due
}

// unfinished says by a key's record of what class the work on the key is, and whether it has begun.
func (r *Rotator) unfinished(ctx context.Context, p key.Policy) (work priority.Class, begun bool) {
	rec, err := r.load(ctx, p.Key)
	if err == nil && len(rec.Enabling) > 0 {
		return priority.Operator, false
	}
	if err != nil || rec.Hold != nil || p.Retained {
		return priority.Look, false // the first step says what is wrong
	}
	stage := rec.Stage(p)
	switch {
	case len(rec.Requests) > 0:
		return priority.Operator, stage.UnderWay()
	case stage.UnderWay() && len(rec.Generation(stage.Generation).Requests) > 0:
		return priority.Operator, true
	case stage.Pending:
		return priority.Due, stage.Generation > 0
	}
	return priority.Look, false
}

// pause says how long to wait after a step of a key: not at all after one that was done, longer and longer after
// failures, and otherwise until something is due or the slow interval is over.
func (l *Loop) pause(now time.Time, j *job) time.Duration {
	pos, step := &j.pos, j.pos.Step
	if pos.Err != nil {
		return pos.failed()
	}
	if step.Acts() {
		// An abandoned id is the answer to a failure, not the end of it.
		if step.Kind != plan.Abandon {
			pos.Failures = 0
		}
		return 0
	}
	if step.Kind != plan.Wait {
		pos.Failures = 0
	}
	until := now.Add(l.r.look(*j.policy))
	if o := l.r.Observer.Last(j.id); o != nil {
		until = o.At.Add(l.r.look(*j.policy))
	}
	at := step.Until
	if !at.IsZero() && !l.tries(j, now, at) {
		at = later(at, now.Add(lastPause))
	}
	if !at.IsZero() && at.Before(until) {
		until = at
		if step.Kind == plan.Idle {
			j.class = priority.Due
		}
	}
	return max(until.Sub(now), shortPause)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
	if pos.Step.Consumer != "" {
		log = log.With("consumer", pos.Step.Consumer)
	}
	switch {
	case pos.Err != nil && key.IsCancelled(pos.Err):
	case pos.Err != nil:
		log.Warn("step failed", "error", pos.Err.Error(), "failures", pos.Failures)
	case pos.Step.Kind == plan.Hold:
		log.Error("key held", "code", string(pos.Step.Hold.Code), "reason", pos.Step.Hold.Reason)
	case pos.Step.Kind == plan.RepointLapsed:
		log.Warn("request to move a consumer lapsed", "why", pos.Step.Why)
	case pos.Step.Acts():
		log.Info("step done", "why", pos.Step.Why)
	case pos.Step.Kind == plan.Wait:
		log.Debug("waiting", "why", pos.Step.Why)
	}
}
