package simulate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Options are the settings of a run besides its seed.
type Options struct {
	// Trace is how many lines of the story, the last ones, a result keeps. Writing
	// the story takes time.
	Trace int
	// Rate is the chance that a fault strikes a call; 0: the seed decides.
	Rate float64
	// SeveralHosts has several daemons share a store whatever the seed says, and OneHost none.
	SeveralHosts, OneHost bool
	// Break replaces parts of a daemon by broken ones, for tests of the simulator.
	Break func(*World, Parts) Parts
	// Misread changes a policy before the daemons get it, for the same tests.
	Misread func(key.Policy) key.Policy
	// Saved sees every record of a key that was saved, with its entries; nil: nobody.
	Saved func(rec record.Record, entries []chain.Entry)
}

// Result is how a run ended.
type Result struct {
	Seed     uint64
	Days     int // simulated
	Steps    int // calls of StepKey
	Calls    int // of the HSM, the vaults and the store
	Faults   int // that struck
	Meddled  int // by people and their configurations
	Crashes  int
	Late     int                  // effects that landed after their deadline, or after keyd had given them up
	Reserved int                  // generations
	Pairs    int                  // made
	Imports  int                  // versions made by keyd
	Retired  int                  // versions disabled by keyd
	Vacated  int                  // of those, versions that consumers had to leave
	Moved    int                  // consumers, by keyd
	Replaced int                  // keys, to the end
	Hosts    int                  // daemons that share a store; 0: it is no such story
	Terms    int                  // of leaders
	Lost     int                  // failovers that lost changes
	Holds    map[key.HoldCode]int // that the operator attended to
	Failure  string
	Trace    []string
}

// World is everything around the loop.
type World struct {
	opts   Options
	rnd    *rand.Rand
	primes Primes

	begun    time.Time
	now      time.Time // true time; each daemon's clock has its own error
	landings []landing
	stills   stills
	hsm      *hsm
	store    *store
	vaults   []*vault
	daemons  []*daemon
	keys     []*managed
	// fate decides what the resources do that use the keys.
	fate      *rand.Rand
	resources []*resource
	hosts     *hosts               // nil: there is one
	ledger    map[string]*sighting // of what keyd saw of resources, by id
	found     map[string]bool      // which resources keyd saw under which key, by both
	azure     trouble
	moved     map[string]bool // the intents by which keyd moved a consumer
	inhabited bool            // a test has chosen the resources
	murky     bool            // searches often miss something
	acting    *daemon         // the one that makes the calls now; nil: none does

	rate        float64                  // the chance that a fault strikes one call
	calm        bool                     // no faults any more
	plain       bool                     // records are copied, not written as JSON and read back
	overtaking  bool                     // something happens in the middle of a daemon's call
	alone       bool                     // nobody meddles
	spares      map[key.ID]*spare        // every pair that was ever reserved as one
	saved       map[string]record.Record // a copy of the state
	savedVaults map[string]record.Vault
	soon        []func() // what people do in the next turn
	disabled    int      // versions that keyd disabled
	restoring   bool     // a test has the state put back
	unsealed    bool     // the state was put back, and the HSM side does not sign its audit chain
	result      Result
}

// landing is an effect that happens later.
type landing struct {
	at     time.Time
	effect func()
}

// violation says which promise keyd broke. It ends the run.
type violation struct{ text string }

// violate ends the run with a broken promise.
func (w *World) violate(format string, args ...any) {
	panic(violation{fmt.Sprintf(format, args...)})
}

func (w *World) log(format string, args ...any) {
	if w.opts.Trace == 0 {
		return
	}
	who := "world"
	if w.acting != nil {
		who = w.acting.name
	}
	line := fmt.Sprintf("%s  %-9s  %s", w.now.Format("01-02 15:04:05"), who, fmt.Sprintf(format, args...))
	if len(w.result.Trace) >= w.opts.Trace {
		w.result.Trace = slices.Delete(w.result.Trace, 0, 1)
	}
	w.result.Trace = append(w.result.Trace, line)
}

// pass lets time pass, and the effects happen that come due meanwhile.
func (w *World) pass(d time.Duration) { w.passTo(w.now.Add(d)) }

func (w *World) passTo(at time.Time) {
	for len(w.landings) > 0 && !w.landings[0].at.After(at) {
		l := w.landings[0]
		w.landings = w.landings[1:]
		if l.at.After(w.now) {
			w.now = l.at
		}
		l.effect()
	}
	if at.After(w.now) {
		w.now = at
	}
}

// later makes an effect happen after a while.
func (w *World) later(after time.Duration, effect func()) {
	l := landing{w.now.Add(after), effect}
	i, _ := slices.BinarySearchFunc(w.landings, l, func(a, b landing) int {
		if a.at.After(b.at) {
			return 1
		}
		return -1
	})
	w.landings = slices.Insert(w.landings, i, l)
}

// chance is true in one of n cases.
func (w *World) chance(n int) bool { return w.rnd.IntN(n) == 0 }

// between draws a duration in [least, most), in whole seconds.
func (w *World) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rnd.Int64N(int64((most-least)/time.Second)))*time.Second
}

func pick[T any](w *World, from []T) T { return from[w.rnd.IntN(len(from))] }

// Read makes the world a source of ids.
func (w *World) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(w.rnd.Uint32())
	}
	return len(b), nil
}

func (w *World) vault(url string) *vault {
	for _, v := range w.vaults {
		if v.URL == url {
			return v
		}
	}
	return nil
}

func (w *World) managed(name string) *managed {
	for _, k := range w.keys {
		if k.policy.Key == name {
			return k
		}
	}
	return nil
}

// grid is a schedule that fires at whole multiples of a duration.
type grid time.Duration

func (g grid) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(g)).Add(time.Duration(g))
}

var _ key.Schedule = grid(0)
