package rotate

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
)

// Loop steps every key and every vault whenever it is due. It is a thin shell around StepKey and StepVault: a queue of
// jobs, and one goroutine for each step that is under way. It never steps the same key twice at once.
type Loop struct {
	r        *Rotator
	steps    stepper
	parallel int
	changed  chan struct{} // of capacity 1: another job may be due, or a step ended

	mu         sync.Mutex
	policies   []key.Policy      // as given; nobody changes them
	vaultRules []key.VaultPolicy // likewise
	keys       map[string]*job
	vaults     map[string]*job // by URL
	busy       map[string]*job // those that are being stepped, also one that has left the loop since
	urgent     *job            // the one in the place that is kept for operators; nil for none
	queue      *queue
	needs      map[need]*needed
	unlooked   int    // vaults of which no first look was completed
	whenLooked func() // called once there is none; nil: it was
	begun      uint64 // keys that have begun something so far
	running    sync.WaitGroup
	started    bool
	once       bool // RunOnce: a job that has nothing left to do is done
	done       int  // how many are
}

// stepper is what the loop needs of a Rotator.
type stepper interface {
	StepKey(ctx context.Context, p key.Policy) (plan.Step, error)
	StepVault(ctx context.Context, p key.VaultPolicy) (plan.Step, error)
	// unfinished says by the record of what class the work on a key is, and whether it has begun.
	unfinished(ctx context.Context, p key.Policy) (work priority.Class, begun bool)
}

// Position is where the loop stands with one key.
type Position struct {
	Looked   bool       // a first look was completed
	Step     plan.Step  // the last one that ended
	Doing    bool       // another is under way, or a look
	Now      *plan.Step // what is under way acts; nil: it only looks, or nothing is under way
	Since    time.Time
	Err      error // of the last step; nil when it succeeded
	Failures int   // in a row
	Wake     time.Time
}

// UnderWay is the step that is under way; ok is false while there is none, or only a look.
func (p Position) UnderWay() (s plan.Step, ok bool) {
	if p.Now == nil {
		return s, false
	}
	return *p.Now, true
}

// NewLoop returns a loop that steps at most parallel keys and vaults at once, and one more for which an operator
// waits: a look at a vault that does not answer takes long.
func NewLoop(r *Rotator, parallel int) *Loop {
	l := &Loop{r: r, steps: r, parallel: max(1, parallel), changed: make(chan struct{}, 1), keys: map[string]*job{},
		vaults: map[string]*job{}, busy: map[string]*job{}, queue: newQueue(), needs: map[need]*needed{}}
	r.began = l.stepBegan
	return l
}

// stepBegan notes which step of a key is under way, so that every screen shows that one.
func (l *Loop) stepBegan(name string, s plan.Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j := l.busy[name]; j != nil {
		j.pos.Now = &s
	}
}

// SetPolicies makes these the keys of the loop. Every key is stepped at once, the new and the changed ones first. A
// key that is no longer named is left alone. The loop keeps the slice.
func (l *Loop) SetPolicies(policies []key.Policy) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.policies = policies
	l.r.Observer.Expect(policies)
	named := map[string]bool{}
	for i := range policies {
		p := &policies[i]
		named[p.Key] = true
		j, known := l.keys[p.Key]
		class := priority.Look
		switch {
		case !known:
			j = &job{id: p.Key, class: priority.Look, work: priority.Look}
			l.keys[p.Key] = j
			if l.started {
				class = priority.Due
			}
		case !reflect.DeepEqual(*j.policy, *p):
			class = priority.Due
			l.r.Observer.Drop(p.Key)
		}
		j.policy = p
		l.wake(j, wake{class, known})
	}
	for name, j := range l.keys {
		if !named[name] {
			delete(l.keys, name)
			l.dismiss(j)
			l.forget(j)
		}
	}
}

// dismiss ends what the loop does for a job that has left it. A step that has begun to act goes on to its end.
func (l *Loop) dismiss(j *job) {
	l.queue.remove(j)
	if j.stop != nil {
		j.stop()
	}
	if j.ofVault && !j.pos.Looked {
		l.unlooked--
		l.noteLooked()
	}
}

// forget drops what is shown of a key or a vault that has left the loop.
func (l *Loop) forget(j *job) {
	if j.ofVault {
		l.r.Observer.DropVault(j.id)
		if l.r.Metrics != nil {
			l.r.Metrics.ForgetVault(j.vault.Name)
		}
		return
	}
	l.r.Observer.Forget(j.id)
	if l.r.Metrics != nil {
		l.r.Metrics.Forget(j.id)
	}
}

// Poke has a key stepped now, as work of this class.
func (l *Loop) Poke(name string, c priority.Class) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j, ok := l.keys[name]; ok {
		l.wake(j, wake{class: c})
	}
}

// PokeAll has every key and every vault stepped now: what they wait for may be there.
func (l *Loop) PokeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, all := range []map[string]*job{l.vaults, l.keys} {
		for _, j := range all {
			l.wake(j, wake{j.work, j.ofVault || j.pos.Step.Kind == plan.Wait})
		}
	}
}

// wake has a job stepped now, or once more if a goroutine steps it. It is called with the lock held.
func (l *Loop) wake(j *job, w wake) {
	if j.done {
		return
	}
	if w.fresh {
		l.doubt(j)
	}
	j.class, j.work = min(j.class, w.class), min(j.work, w.class)
	if l.busy[j.id] != nil {
		if j.woken != nil {
			w = wake{min(w.class, j.woken.class), w.fresh || j.woken.fresh}
		}
		j.woken = &w
		return
	}
	if now := l.r.Clock(); j.in == nil || j.due.After(now) { // else it keeps its place
		j.due = now
	}
	l.queue.put(j)
	l.poke()
}

// doubt has the next step of a job ask again for what the last look did not find.
func (l *Loop) doubt(j *job) {
	if j.ofVault {
		l.r.Observer.DropVault(j.id)
	} else {
		l.r.Observer.Doubt(j.id)
	}
}

// poke has the loop look at its queue.
func (l *Loop) poke() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Position returns where the loop stands with a key.
func (l *Loop) Position(name string) Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j, ok := l.keys[name]; ok {
		return j.pos
	}
	return Position{}
}

// Policy returns the policy under which a key is stepped. Its name may be written in another case.
func (l *Loop) Policy(name string) (key.Policy, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if j, ok := l.keys[name]; ok {
		return *j.policy, true
	}
	for other, j := range l.keys {
		if key.SameName(other, name) {
			return *j.policy, true
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

// waitsForVaults reports whether a job waits until every vault was looked at: a first look at a quiet key is in no
// hurry then. It is called with the lock held.
func (l *Loop) waitsForVaults(c priority.Class) bool {
	first := l.queue.ready[c].first()
	return l.unlooked > 0 && !l.once && c == priority.Look && first != nil && !first.ofVault
}

// WhenLooked has f called once, as soon as every vault was looked at. Quiet keys are looked at after that. f must not
// call the loop.
func (l *Loop) WhenLooked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.whenLooked = f
}

// noteLooked is called with the lock held.
func (l *Loop) noteLooked() {
	if f := l.whenLooked; f != nil && l.started && l.unlooked == 0 {
		l.whenLooked = nil
		f()
	}
}

// Looked reports whether every vault was looked at once. The keys follow one after the other, those first with which
// something is to be done.
func (l *Loop) Looked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unlooked == 0
}

// Stuck names a key whose step has been under way for longer than any step may take, or which was not woken when it
// should have been; "" when the loop turns.
func (l *Loop) Stuck(now time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	late := func(t time.Time) bool { return !t.IsZero() && now.Sub(t) > plan.StepTimeout+time.Minute }
	for id, j := range l.busy {
		if late(j.pos.Since) {
			return id
		}
	}
	if j := l.queue.later.first(); j != nil && late(j.pos.Wake) {
		return j.id
	}
	return ""
}

// Run steps keys and vaults until ctx ends, and returns when no step is under way any more.
func (l *Loop) Run(ctx context.Context) {
	l.start(ctx)
	for ctx.Err() == nil {
		l.await(ctx, l.turn(ctx))
	}
	l.running.Wait()
}

// start puts the keys first whose records show that something is asked for or not finished, as after a restart.
func (l *Loop) start(ctx context.Context) {
	l.mu.Lock()
	l.started = true
	l.noteLooked() // there may be no vault
	l.mu.Unlock()
	for _, name := range l.Names() {
		if ctx.Err() != nil {
			return
		}
		p, _ := l.Policy(name)
		work, begun := l.steps.unfinished(ctx, p)
		l.mu.Lock()
		if j, ok := l.keys[name]; ok && work != priority.Look {
			if begun {
				l.begins(j)
			}
			l.wake(j, wake{class: work})
		}
		l.mu.Unlock()
	}
}

// begins notes that a key has begun something, after those that have begun already.
func (l *Loop) begins(j *job) {
	if j.begun == 0 {
		l.begun++
		j.begun = l.begun
	}
}

// await returns when another job may be due.
func (l *Loop) await(ctx context.Context, next time.Time) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(next.Sub(l.r.Clock()))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-l.changed:
	case <-due:
	}
}

// turn begins every step that may begin now, and returns when the next job is due; zero for never.
func (l *Loop) turn(ctx context.Context) (next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.promote(l.r.Clock())
	for j := l.next(); j != nil; j = l.next() {
		l.begin(ctx, j)
	}
	if j := l.queue.later.first(); j != nil {
		return j.due
	}
	return time.Time{}
}

// next is the job that may begin now; nil for none. What an operator asked for has one place more.
func (l *Loop) next() *job {
	switch {
	case len(l.busy) < l.parallel || l.urgent != nil && len(l.busy) == l.parallel:
		return l.queue.next(l.waitsForVaults)
	case l.urgent == nil:
		l.urgent = l.queue.nextOf(priority.Operator)
		return l.urgent
	}
	return nil
}
