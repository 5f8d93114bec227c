package simulate

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

const instance = "simulated"

// daemon is one keyd: the real Rotator, driven as the real shell drives it.
type daemon struct {
	w         *World
	host      *host // nil: all daemons are on one
	run       int   // the process that is acting, on a host of its own
	name      string
	offset    time.Duration // its clock minus true time
	clockSet  time.Time     // when somebody last turned its clock, true time
	look      time.Duration
	observer  *observe.Observer
	r         *rotate.Rotator
	consumers observe.Consumers
	shell     *rotate.Loop // never run: it only hands changed policies on
	down      bool
	back      time.Time        // when a daemon that crashed starts again
	began     time.Time        // of the step under way, true time
	under     key.Policy       // what the configuration says, for the step under way
	turns     map[string]*turn // by key, and by the URL of a vault
	lastEvent status.Event     // what the daemon reported last
}

// turn is when a daemon steps a key or a vault next, and how its last steps went.
type turn struct {
	wake     time.Time // true time
	failures int
	minute   time.Time // when the count of busy began
	busy     int       // how many steps it has made since then
	last     string    // its last line in the trace
}

func (d *daemon) clock() time.Time { return d.w.now.Add(d.offset) }

func (d *daemon) policy(name string) key.Policy {
	p, _ := d.shell.Policy(name)
	return p
}

// start starts a new process, which remembers nothing of the one before.
func (d *daemon) start() {
	if d.host != nil {
		if err := d.host.restart(); err != nil {
			d.w.log("%s cannot start: %v", d.name, err)
			d.down, d.back = true, d.w.now.Add(time.Minute)
			return
		}
	}
	d.down = false
	d.assemble()
}

// assemble makes what a new process, or a new term, begins with.
func (d *daemon) assemble() {
	parts := Parts{HSM: d.w.hsm, Store: d.w.store, Emit: d.emit, Seal: d.w.seal, Vaults: func(url string) Vault {
		if v := d.w.vault(url); v != nil && d.w.configured(url) {
			return v
		}
		return nil
	}}
	parts.Repoint, parts.Clock, parts.Boot = d.w.repoint, d.clock, d.w.boot
	if d.host != nil {
		parts.Store, parts.Boot = d.host, d.host.boot
	}
	parts.Consumers = &watcher{d, map[string]record.Usage{}}
	if d.w.opts.Break != nil {
		parts = d.w.opts.Break(d.w, parts)
	}
	d.build(parts)
	d.shell = rotate.NewLoop(d.r, 1)
	d.turns = map[string]*turn{}
	for _, v := range d.w.vaults {
		delete(v.refused, d) // the new process does not know of it
	}
	d.reload()
}

// reload gives the policies to the daemon, as a reload of its configuration does.
func (d *daemon) reload() {
	var ps []key.Policy
	for _, k := range d.w.keys {
		p := k.policy
		if d.w.opts.Misread != nil {
			p = d.w.opts.Misread(p)
		}
		ps = append(ps, p)
		d.turns[k.policy.Key] = &turn{wake: d.w.now}
	}
	d.shell.SetPolicies(ps)
	for _, v := range d.w.vaults {
		d.observer.DropVault(v.URL)
		d.turns[v.URL] = &turn{wake: d.w.now}
	}
}

func (d *daemon) emit(e status.Event) {
	d.lastEvent = e
	if e.Phase != status.Begin || d.w.opts.Trace == 0 {
		return
	}
	d.w.log("%s: %s generation %d %s: %s", e.Key, e.Step, e.Generation, e.Vault, e.Detail)
}

// act runs f as this daemon. If f crashes, the daemon is down for a while.
func (d *daemon) act(f func()) {
	was, began, run := d.w.acting, d.began, d.run
	d.w.acting, d.began = d, d.w.now
	if d.host != nil {
		d.run = d.host.runs
	}
	ours := d.run
	defer func() {
		v := recover()
		switch _, crashed := v.(crash); {
		case crashed && (d.host == nil || d.host.runs == ours):
			d.w.result.Crashes++
			d.down, d.back = true, d.w.now.Add(d.w.between(0, 30*time.Minute))
		case !crashed && v != nil:
			panic(v)
		}
		d.w.acting, d.began, d.run = was, began, run
	}()
	f()
}

// step calls StepKey once, and sets when the daemon steps the key next, as the shell does.
func (d *daemon) step(k *managed) {
	d.act(func() {
		p := d.policy(k.policy.Key)
		d.under = k.policy
		t := d.turns[p.Key]
		d.w.result.Steps++
		d.w.judgePace(t)
		d.watch(p)
		s, err := d.r.StepKey(d.ctx(), p)
		if err == nil {
			d.w.judgeChangedRule(d, k, string(s.Kind))
		}
		if s.Kind == plan.Alias && err == nil {
			d.judgeReport(p.Key, s.Vault, s.Version)
		}
		var pause time.Duration
		switch {
		case err != nil:
			t.failures++
			pause = min(5*time.Minute, time.Second<<min(t.failures-1, 20))
			d.w.log("%s failed: %v", s.Kind, err)
		case s.Acts():
			if s.Kind != plan.Abandon {
				t.failures = 0
			}
		default:
			if s.Kind != plan.Wait {
				t.failures = 0
			}
			pause = d.quiet(p.Key, s)
		}
		t.wake = d.w.now.Add(pause)
		if s.Acts() {
			return // its begin event has traced it
		}
		if news := p.Key + " " + string(s.Kind) + ": " + s.Why; err == nil && news != t.last {
			d.w.log("%s", news)
			t.last = news
		}
	})
	d.w.judgeNow(k)
}

func (d *daemon) quiet(name string, s plan.Step) time.Duration {
	now := d.clock()
	until := now.Add(d.look)
	if o := d.observer.Last(name); o != nil {
		until = o.At.Add(d.look)
	}
	if !s.Until.IsZero() && s.Until.Before(until) {
		until = s.Until
	}
	return max(until.Sub(now), time.Second)
}

// managed is one key, with what the judges remember about it.
type managed struct {
	w          *World
	policy     key.Policy // in the configuration now
	home       key.Policy // in the configuration at the beginning and in the end
	highest    int        // the highest generation number ever
	attempts   map[key.ID]*attempt
	compromise map[key.ID]int // the first generation that may answer the request
	attended   bool           // an operator will look at its hold
	asking     bool           // an operator will ask again for a move that failed
	retiring   retiring
	replacing  replacing
	heir       bool // it was configured to replace another key
}

// attempt is what really happened with one import.
type attempt struct {
	intended time.Time
	sent     time.Time
	looked   time.Time // when the step began that recorded its intent
	turned   bool      // somebody set the daemon's clock during that step
	refused  bool      // its PUT certainly had no effect
}

func (k *managed) attempt(id key.ID) *attempt {
	if k.attempts[id] == nil {
		k.attempts[id] = &attempt{}
	}
	return k.attempts[id]
}

func (w *World) configured(url string) bool {
	return slices.ContainsFunc(w.keys, func(k *managed) bool {
		_, ok := k.policy.Vault(url)
		return ok
	})
}
