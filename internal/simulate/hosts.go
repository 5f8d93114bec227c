package simulate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/internal/term"
)

// In one story of five, 2 to 5 daemons on hosts of their own share the state: the real shared store of each on one
// engine in memory, which loses commits in failovers. What happens to hosts is drawn from a source of its own, so that
// the other stories are what they would be without these.

// hosts are the hosts of such a story; nil in the others.
type hosts struct {
	w        *World
	rnd      *rand.Rand
	dir      string        // of what each host has on its disk
	lease    time.Duration // how long a lease holds
	engine   *storetest.Memory
	behind   *standby // that has stopped to follow; nil: it has not
	saved    map[intent]*saved
	ended    map[term.Epoch]time.Time // when the lease of a term was over
	halted   time.Time                // since when all hosts are stopped; zero: they are not
	nested   int                      // daemons that stand still in the middle of a call
	direct   bool                     // calls of the engine are made between steps, where no crash strikes
	attended bool                     // operators will accept the store
	reports  map[string]leader.Report // that were published, by their text: to read them takes long
	breach
}

// breach is what a test breaks of the hosts themselves.
type breach struct {
	amend     func(stored.Change) stored.Change // what the engine is given to commit
	byNumber  bool                              // the engine shows a host its own lost entry in the place of another
	proud     bool                              // hosts never say that they cannot work
	trusting  bool                              // hosts accept by themselves a store that lost what they saw
	doze      bool                              // whoever takes the lease stands still, and a failover loses that
	credulous bool                              // consents stand although the store lost changes
	linger    func(what string) bool            // has an effect land 40 minutes after its check
}

// oneIn is true in one of n cases.
func (hs *hosts) oneIn(n int) bool { return hs.rnd.IntN(n) == 0 }

// spell draws a duration in [least, most), in whole seconds.
func (hs *hosts) spell(least, most time.Duration) time.Duration {
	return least + time.Duration(hs.rnd.Int64N(int64((most-least)/time.Second)))*time.Second
}

// share gives the world a shared store, if the seed says so. The daemons are employed after it.
func (w *World) share() {
	rnd := rand.New(rand.NewPCG(w.result.Seed, 19))
	if w.opts.OneHost || rnd.IntN(5) > 0 && !w.opts.SeveralHosts {
		return
	}
	dir, err := os.MkdirTemp("", "simulated-hosts")
	if err != nil {
		panic(err)
	}
	leases := []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute}
	w.hosts = &hosts{w: w, rnd: rnd, dir: dir, lease: leases[rnd.IntN(len(leases))], saved: map[intent]*saved{},
		ended: map[term.Epoch]time.Time{}, reports: map[string]leader.Report{}}
	w.hosts.engine = storetest.NewMemory(func() time.Time { return w.now })
	w.result.Hosts = 2 + rnd.IntN(4)
}

// unshare ends the world's hosts.
func (w *World) unshare() {
	if w.hosts != nil {
		_ = os.RemoveAll(w.hosts.dir) // in the directory for temporary files
	}
}

// host is one host with its daemon's part in the leading.
type host struct {
	hs    *hosts
	d     *daemon
	index int
	disk  string // its state directory
	*leading
	still  time.Time       // until then its process stands still
	stands int             // how often it stands still in the middle of a call
	busy   int             // calls of the store under way
	cut    time.Time       // until then it cannot reach the store
	noHSM  time.Time       // nor its HSM
	noNet  time.Time       // nor Azure
	doubt  chain.Linked    // the last entry of the last change whose answer was lost
	saving []record.Record // what its daemon has given to the store
	saw    stored.Tip      // what it was told last of the chain's end
	lacks  time.Time       // since when the store lacks that; zero: it has it
	runs   int             // processes so far
}

// newHost gives a daemon a host of its own; nil where daemons share one.
func (hs *hosts) newHost(d *daemon) *host {
	if hs == nil {
		return nil
	}
	h := &host{hs: hs, d: d, index: len(hs.w.daemons) + 1}
	hs.w.later(hs.spell(time.Second, hs.lease/3), h.tick)
	return h
}

// restart begins a new process. It has what the one before wrote to its disk.
func (h *host) restart() error {
	h.runs++
	disk := filepath.Join(h.hs.dir, fmt.Sprintf("%s-%d", h.d.name, h.runs))
	if err := os.Mkdir(disk, 0o700); err != nil {
		panic(err)
	}
	if h.disk != "" {
		was, err := os.ReadFile(filepath.Join(h.disk, "seen-head"))
		if err == nil {
			err = os.WriteFile(filepath.Join(disk, "seen-head"), was, 0o600)
		}
		if err != nil {
			panic(err)
		}
	}
	h.disk, h.busy = disk, 0
	h.leading = newLeading(h)
	return h.open()
}

// ctx is what the daemon acts under.
func (d *daemon) ctx() context.Context {
	if d.host == nil || !d.host.leads {
		return context.Background()
	}
	return term.With(context.Background(), d.host.epoch)
}

// acts reports whether a daemon takes steps now: it runs, and it leads if there are others.
func (d *daemon) acts() bool {
	if d.host == nil || d.down {
		return !d.down
	}
	return d.host.runsNow() && d.host.leads && d.host.boot() < d.host.until
}

// runsNow reports whether the host's process runs, and is not in the middle of a call of the store.
func (h *host) runsNow() bool {
	return !h.d.down && h.stands == 0 && h.busy == 0 && !h.hs.w.now.Before(h.still)
}

// heeds reports whether a daemon takes an operator's command now.
func (d *daemon) heeds() bool { return !d.down && (d.host == nil || d.host.runsNow()) }

// boot is the host's clock that nobody can set.
func (h *host) boot() time.Duration {
	return h.hs.w.now.Sub(h.hs.w.begun) + time.Duration(h.index)*time.Hour
}

// limit bounds how long the world waits for the next turn: who leads may change meanwhile.
func (hs *hosts) limit(until time.Time) time.Time {
	if hs == nil {
		return until
	}
	if soon := hs.w.now.Add(hs.lease / 3); soon.Before(until) {
		return soon
	}
	return until
}

// stand has the process of a daemon stand still in the middle of a call, while the world goes on.
func (hs *hosts) stand(d *daemon, long time.Duration) {
	const deepest = 2
	w := hs.w
	if hs.nested >= deepest || hs.direct {
		return
	}
	w.log("%s stands still for %s", d.name, long)
	end, acting, overtaking := w.now.Add(long), w.acting, w.overtaking
	hs.nested++
	d.host.stands++
	w.acting, w.overtaking = nil, true
	defer func() {
		hs.nested--
		d.host.stands--
		w.acting, w.overtaking = acting, overtaking
	}()
	for w.now.Before(end) {
		w.turn(end)
		w.attend()
	}
}

// alive ends what a daemon does whose process was ended while the world went on.
func (w *World) alive() {
	if d := w.acting; d != nil && d.host != nil && (d.down || d.host.runs != d.run) {
		panic(crash{})
	}
}

// unreachable reports whether the acting host cannot reach a part of the world.
func (hs *hosts) unreachable(part string) error {
	if hs == nil || hs.w.acting == nil || hs.w.acting.host == nil {
		return nil
	}
	h, now := hs.w.acting.host, hs.w.now
	switch {
	case part == "hsm" && now.Before(h.noHSM), part != "hsm" && part != "store" && now.Before(h.noNet),
		part == "store" && now.Before(h.cut):
		return failed(key.Retry, "model: %s cannot reach %s", h.d.name, part)
	}
	return nil
}

// meddle does one thing to a host now and then.
func (hs *hosts) meddle() {
	w := hs.w
	if w.calm {
		return
	}
	w.later(hs.spell(30*time.Minute, 10*time.Hour), hs.meddle)
	d := w.daemons[hs.rnd.IntN(len(w.daemons))]
	if hs.oneIn(2) {
		for _, x := range w.daemons {
			if x.host.leads {
				d = x
			}
		}
	}
	h, long := d.host, hs.spell(time.Minute, 6*time.Hour)
	w.result.Meddled++
	switch hs.rnd.IntN(8) {
	case 0, 1:
		h.still = w.now.Add(hs.spell(time.Second, 40*time.Minute))
		w.log("%s stands still until %s", d.name, h.still.Format(time.TimeOnly))
	case 2:
		h.cut = w.now.Add(long)
		w.log("%s cannot reach the store for %s", d.name, long)
	case 3:
		h.noHSM = w.now.Add(long)
		w.log("%s cannot reach its HSM for %s", d.name, long)
	case 4:
		h.noNet = w.now.Add(long)
		w.log("%s cannot reach Azure for %s", d.name, long)
	case 5:
		w.soon = append(w.soon, h.hands)
	case 6, 7:
		hs.lag(20 * time.Minute)
		if hs.oneIn(2) { // then the number of an epoch is used again
			w.soon = append(w.soon, h.hands)
		}
	}
}

// hands has the daemon stop and start again; it hands over.
func (h *host) hands() {
	if h.runsNow() {
		h.stop()
	}
	h.d.start()
}

// disturb lets one host stay in trouble when all else is in order: the one that leads then.
func (hs *hosts) disturb() {
	const ever = 1000 * time.Hour
	for _, d := range hs.w.daemons {
		d.host.still, d.host.cut, d.host.noHSM, d.host.noNet = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
	for _, d := range hs.w.daemons {
		if !d.host.leads {
			continue
		}
		if hs.oneIn(2) {
			d.host.noHSM = hs.w.now.Add(ever)
		} else {
			d.host.noNet = hs.w.now.Add(ever)
		}
		hs.w.log("%s cannot reach its HSM, or Azure, any more", d.name)
		return
	}
}

var _ rotate.Store = (*host)(nil)
