package simulate

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Run plays one seed: a storm of faults for some days, then calm, then the judgement
// on what is left.
func (ps Primes) Run(seed uint64, opts Options) Result {
	w := newWorld(ps, seed, opts)
	defer w.unshare()
	w.guard(func() {
		w.settings()
		w.storm()
		w.settle()
	})
	return w.result
}

func newWorld(ps Primes, seed uint64, opts Options) *World {
	w := &World{opts: opts, rnd: rand.New(rand.NewPCG(seed, 0)), primes: ps,
		now: time.Date(
			2026,
			3,
			1,
			12,
			0,
			0,
			0,
			time.UTC,
		), spares: map[key.ID]*spare{}, result: Result{Seed: seed, Holds: map[key.HoldCode]int{}}}
	w.hsm, w.store = newHSM(w), newStore(w)
	w.stills = newStills(seed)
	w.ledger, w.found = map[string]*sighting{}, map[string]bool{}
	w.moved = map[string]bool{}
	return w
}

// guard turns a broken promise into the run's failure.
func (w *World) guard(f func()) {
	w.begun = w.now
	defer func() {
		w.result.Days = int(w.now.Sub(w.begun) / (24 * time.Hour))
		switch v := recover().(type) {
		case nil:
		case violation:
			w.log("BROKEN: %s", v.text)
			w.result.Failure = v.text
		default:
			panic(v)
		}
	}()
	f()
}

// settings draws the settings of this world.
func (w *World) settings() {
	for i := range 1 + w.rnd.IntN(3) {
		v := key.Vault{Name: fmt.Sprintf("vault-%d", i+1), Kind: key.KeyVault}
		v.URL = fmt.Sprintf("https://%s.vault.azure.net", v.Name)
		if w.chance(2) {
			v.Kind, v.URL = key.ManagedHSM, fmt.Sprintf("https://%s.managedhsm.azure.net", v.Name)
		}
		model := w.newVault(v)
		model.skew = w.between(-30*time.Second, 30*time.Second)
		model.list = pick(w, listings())
		w.vaults = append(w.vaults, model)
	}
	for i := range 1 + w.rnd.IntN(2) {
		w.manage(fmt.Sprintf("key-%d", i+1), w.between(12*time.Hour, 48*time.Hour))
		k := w.keys[i]
		k.home.Operations = pick(w, operations())
		if w.chance(3) {
			k.home.Retire.DisableAfter = w.between(12*time.Hour, 72*time.Hour)
			k.home.Retire.Pause = w.pauseOf(i)
		}
		if w.chance(3) {
			k.home.ExpiresAfter = time.Duration(k.home.Schedule.(grid)) + w.between(24*time.Hour, 96*time.Hour)
		}
		// By the seed alone, so that a world without spares is what it was before there were any.
		k.home.Spares = int(w.result.Seed+uint64(i)) % 3
		k.policy = k.home
	}
	w.populate()
	w.rate = pick(w, []float64{0, 0.002, 0.01, 0.03, 0.1})
	if w.opts.Rate > 0 {
		w.rate = w.opts.Rate
	}
	w.share()
	for i := range max(1+w.rnd.IntN(2), w.result.Hosts) {
		w.employ(
			fmt.Sprintf("daemon-%d", i+1),
			pick(w, []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour, 4 * time.Hour}),
		)
	}
}

func (w *World) manage(name string, every time.Duration) {
	p := key.Policy{Key: name, Spec: key.RSA2048, Schedule: grid(every), ScheduleText: "@every " + every.String(),
		Operations: operations()[0], Budget: 10, Floor: time.Hour,
		Retire: key.RetireRule{NoConsumers: true}}
	for _, v := range w.vaults {
		p.Vaults = append(p.Vaults, v.Vault)
	}
	w.keys = append(
		w.keys,
		&managed{w: w, policy: p, home: p, attempts: map[key.ID]*attempt{}, compromise: map[key.ID]int{}},
	)
}

func (w *World) employ(name string, look time.Duration) {
	d := &daemon{w: w, name: name, look: look}
	d.host = w.hosts.newHost(d)
	w.daemons = append(w.daemons, d)
	d.start()
}

// storm lets time pass with faults and meddling.
func (w *World) storm() {
	end := w.now.Add(w.between(12*time.Hour, 5*24*time.Hour))
	every := w.between(2*time.Hour, 48*time.Hour)
	if w.hosts != nil {
		w.hosts.meddle()
	}
	meddle := w.now.Add(every)
	for w.now.Before(end) {
		w.turn(meddle)
		if !w.now.Before(meddle) {
			w.meddle(w.rnd.IntN(meddlings))
			meddle = w.now.Add(w.between(time.Second, 2*every))
		}
		w.attend()
	}
}

// turn lets the next thing happen, or time pass until limit if that comes first.
func (w *World) turn(limit time.Time) {
	d, name, at := w.next()
	limit = w.hosts.limit(limit)
	if d == nil || at.After(limit) {
		w.passTo(limit)
	} else {
		w.passTo(at)
	}
	for len(w.soon) > 0 {
		act := w.soon[0]
		w.soon = w.soon[1:]
		act()
	}
	for _, d := range w.daemons {
		if d.down && !w.now.Before(d.back) {
			w.log("%s starts again", d.name)
			d.start()
		}
	}
	if d == nil || !d.acts() || d.turns[name].wake.After(w.now) {
		return
	}
	if v := w.vault(name); v != nil {
		d.stepVault(v)
	} else {
		d.step(w.managed(name))
	}
}

// next is the daemon whose turn comes first, with its key or vault. A start after a crash is a turn, too.
func (w *World) next() (next *daemon, of string, at time.Time) {
	var names []string
	for _, v := range w.vaults {
		names = append(names, v.URL)
	}
	for _, k := range w.keys {
		names = append(names, k.policy.Key)
	}
	for _, d := range w.daemons {
		if !d.down && !d.acts() {
			continue
		}
		for _, name := range names {
			when := d.back
			if !d.down {
				when = d.turns[name].wake
			}
			if next == nil || when.Before(at) {
				next, of, at = d, name, when
			}
		}
	}
	return next, of, at
}

// settle is the calm after the storm. keyd must do what is due, and then all must be in order.
func (w *World) settle() {
	const calm = 80 * time.Hour
	w.calm = true
	w.log("the faults cease")
	w.settleHosts()
	w.repair()
	w.unscheduled(12 * time.Hour) // so that no rotation hides what keyd should repair
	for _, k := range w.keys {
		w.judgeIntended(k)
		k.policy = k.home
	}
	w.reloadAll()
	w.quiet(w.now.Add(calm))
	for _, k := range w.keys {
		w.judgeDue(k)
	}
	w.unscheduled(24 * time.Hour)
	for _, k := range w.keys {
		w.judgeEnd(k)
	}
	for _, v := range w.vaults {
		w.judgeKEKs(v)
	}
	w.judgeOwed()
	w.judgeHosts()
}

// unscheduled lets time pass in which nothing disturbs keyd and no schedule fires.
func (w *World) unscheduled(long time.Duration) {
	for _, k := range w.keys {
		k.policy.Schedule = nil
	}
	w.reloadAll()
	w.quiet(w.now.Add(long))
}

func (w *World) reloadAll() {
	for _, d := range w.daemons {
		d.reload()
	}
}

func (w *World) quiet(end time.Time) {
	for w.now.Before(end) {
		w.turn(end)
		w.attend()
	}
}
