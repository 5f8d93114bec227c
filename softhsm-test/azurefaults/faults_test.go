package azurefaults_test

import (
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

// kind is one fault of Azure for an hour.
type kind struct {
	name   string
	sample bool // part of make test
	set    settings
	rules  []emulator.Rule // a Delay is by the world's clock
	// toxics spoil the network.
	toxics []string
	// how long the rules are in force and not in force, in turn; zero: always in force. Rules for the few disablings
	// are always in force.
	on, off time.Duration
	azure   time.Duration  // Azure's clock is ahead by this much
	still   bool           // nothing can be rotated in this hour
	says    *regexp.Regexp // keyd's log line for the fault; nil: none
	breaks  bool           // connections end in the middle, which keyd counts
}

const (
	often  = 0.25 // the probability of a fault at any call
	update = "update"
	struck = 3 // how many disablings a fault affects at least; there are few, so a fault of any call may miss them
)

// sometimes makes a rule affect any call, now and then.
func sometimes(r emulator.Rule) []emulator.Rule {
	r.Probability = often
	return []emulator.Rule{r}
}

// each returns the rule for each of these operations, at each call.
func each(r emulator.Rule, operations ...string) (rules []emulator.Rule) {
	for _, op := range operations {
		r.Operation = op
		rules = append(rules, r)
	}
	return rules
}

// ofDisablings adds, to a kind with rules for any call, a rule each that certainly affects the first disablings: they
// are few, and their time is short.
func ofDisablings(k kind) kind {
	var rules []emulator.Rule
	for _, r := range k.rules {
		if r.Operation == "" && r.Stale == 0 && !k.still {
			r.Operation, r.Probability, r.Count = update, 0, struck
			rules = append(rules, r)
		}
	}
	k.rules = slices.Concat(rules, k.rules) // the first outcome counts
	return k
}

func kinds() []kind {
	const minute = time.Minute
	all := []kind{
		{name: "throttled with Retry-After",
			rules: sometimes(emulator.Rule{Status: http.StatusTooManyRequests, RetryAfter: 20 * time.Second})},
		{name: "throttled without Retry-After",
			rules: sometimes(emulator.Rule{Status: http.StatusTooManyRequests, NoRetryAfter: true})},
		{name: "throttled for minutes", rules: []emulator.Rule{{Status: http.StatusTooManyRequests}}, on: 4 * minute,
			off: 3 * minute},
		{name: "500", rules: sometimes(emulator.Rule{Status: http.StatusInternalServerError})},
		{name: "503 for minutes", rules: []emulator.Rule{{Status: http.StatusServiceUnavailable}}, on: 5 * minute,
			off: 4 * minute},
		{name: "connections dropped before the effect",
			rules: sometimes(emulator.Rule{Drop: emulator.DropBeforeCommit})},
		{name: "connections dropped after the effect", rules: sometimes(emulator.Rule{Drop: emulator.DropAfterCommit})},
		{name: "every import's and disabling's answer lost", sample: true,
			rules: each(emulator.Rule{Drop: emulator.DropAfterCommit}, "import", update)},
		{name: "every import and disabling lost", rules: each(emulator.Rule{Drop: emulator.DropBeforeCommit}, "import",
			update), on: 20 * minute, off: 10 * minute},
		{name: "imports refused with 500 after nothing",
			rules: []emulator.Rule{{Operation: "import", Status: 500, Probability: 0.6}}},
		{name: "slow answers", rules: sometimes(emulator.Rule{Delay: 10 * time.Second})},
		{name: "imports and disablings that take effect when the client has gone", rules: []emulator.Rule{
			{Operation: "import", Delay: 40 * time.Second, Probability: 0.5},
			{Operation: update, Delay: 40 * time.Second, Count: struck}}},
		{name: "truncated answers", rules: sometimes(emulator.Rule{Truncate: true})},
		{name: "answers that are not JSON", rules: sometimes(emulator.Rule{Garbage: true})},
		{name: "JSON of another shape", rules: sometimes(emulator.Rule{WrongJSON: true})},
		{name: "tokens rejected with a fresh challenge",
			rules: sometimes(emulator.Rule{Status: http.StatusUnauthorized})},
		{name: "expired tokens", set: settings{tokenLife: 6 * minute},
			rules: []emulator.Rule{{Operation: "token", Expired: true}}, on: 5 * minute, off: 5 * minute},
		{name: "no tokens", set: settings{tokenLife: 6 * minute},
			rules: []emulator.Rule{{Operation: "token", Status: http.StatusBadRequest}}, on: 4 * minute,
			off: 4 * minute},
		{name: "stale lists", rules: []emulator.Rule{{Operation: "versions", Stale: 90 * time.Second}}},
		{name: "stale reads", rules: []emulator.Rule{{Stale: 90 * time.Second, Probability: 0.5}}},
		{name: "stale lists and lost answers", rules: []emulator.Rule{
			{Operation: "versions", Stale: 90 * time.Second},
			{Operation: "import", Drop: emulator.DropAfterCommit, Probability: 0.5},
			{Operation: update, Drop: emulator.DropAfterCommit, Count: struck}}},
		{name: "replication takes six minutes", set: settings{replication: 6 * minute}},
		{name: "replication takes six minutes and answers are lost", set: settings{replication: 6 * minute},
			rules: []emulator.Rule{{Operation: "import", Drop: emulator.DropAfterCommit, Probability: 0.5},
				{Operation: update, Drop: emulator.DropAfterCommit, Count: struck}}},
		{name: "Azure's clock is four minutes ahead", azure: 4 * minute},
		{name: "Azure's clock is four minutes behind", azure: -4 * minute},
		{name: "the Date header is an hour off", rules: []emulator.Rule{{SkewDate: time.Hour}}, still: true},
		{name: "created is an hour off", rules: []emulator.Rule{{SkewCreated: -time.Hour, Probability: 0.5}}},
		{name: "the sign-in to one vault is lost",
			rules: each(emulator.Rule{Host: hsmHost, Drop: emulator.DropBeforeCommit}, "connect"), on: 7 * minute,
			off: 8 * minute},
	}
	for _, inner := range []string{"", "ForbiddenByRbac", "ForbiddenByPolicy", "ForbiddenByFirewall"} {
		all = append(all,
			kind{name: "403 " + inner, rules: []emulator.Rule{{Status: http.StatusForbidden, Inner: inner}},
				on: 4 * minute, off: 4 * minute})
	}
	for _, inner := range []string{"KeyOperationForbidden", "KeyDisabled"} {
		all = append(all, kind{name: "403 " + inner, on: 4 * minute, off: 4 * minute,
			// Not each time: the fault would block the first requests, and the others would never be made.
			rules: append(each(emulator.Rule{Status: http.StatusForbidden, Inner: inner, Probability: 0.5}, "get",
				"wrap", "unwrap"),
				emulator.Rule{Operation: update, Status: http.StatusForbidden, Inner: inner, Count: struck})})
	}
	for i, k := range all {
		all[i] = ofDisablings(k)
	}
	return all
}

func TestAnHourOfEachFaultLosesAndDuplicatesNothing(t *testing.T) {
	for _, k := range append(kinds(), networks()...) {
		if !heavy() && !k.sample {
			continue // make faults runs them all
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, k.set)
			w.yesterday()
			w.hour(k)
			w.settle()
			w.check(k)
		})
	}
}

// hourly is the time between two rotations in the hour.
func hourly() time.Duration { return time.Hour / time.Duration(pace.rotations) }

// hour runs keyd for an hour under the faults, which begin before keyd starts.
func (w *world) hour(k kind) {
	w.t.Helper()
	w.configure(hourly())
	w.skew(k.azure)
	made, begun := len(w.record().Generations), w.clock.Now()
	f := w.faults(k)
	for since := time.Duration(0); since < time.Hour; since = w.clock.Now().Sub(begun) {
		f.turn(since)
		if w.daemon == nil {
			w.start()
		}
		w.tick()
	}
	seen, err := w.look()
	if err != nil {
		w.fail("keyd status: %v", err)
	}
	switch n := len(seen.Generations) - made; {
	case k.still && n > 0:
		w.t.Errorf("%d generations were made", n)
	case !k.still && n == 0:
		w.fail("no generation was made in the hour")
	}
	if k.rules == nil && k.toxics == nil {
		figures.faults.Add(1) // it was there all the time
	}
	w.prolong(f, begun)
	if n := len(w.disablings(begun)); k.still && n > 0 {
		w.t.Errorf("%d disablings, although the clocks differ", n)
	}
	f.end()
	w.wantStruck(k, f.hits)
	w.skew(0)
}

// wantStruck requires that every rule affected a call in the hour, and that the network
// had faults.
func (w *world) wantStruck(k kind, hits []int) {
	w.t.Helper()
	for i, n := range hits {
		if n == 0 {
			w.t.Errorf("the fault %+v affected no call in the hour: it was not tried", k.rules[i])
		}
	}
	if k.says != nil && !k.says.MatchString(w.log()) {
		w.t.Errorf("keyd says nothing of %q in the hour: the network was not spoiled", k.says)
	}
	if k.breaks && !unanswered.MatchString(w.metrics()) {
		w.t.Error("keyd counts no request without an answer in the hour: no connection was broken")
	}
}

// faults are a kind's rules and toxics in one world.
type faults struct {
	w      *world
	k      kind
	spoilt bool                   // the faults that take turns are in force now
	active []*emulator.ActiveRule // nil: not in force
	hits   []int
}

func (w *world) faults(k kind) *faults {
	return &faults{w: w, k: k, active: make([]*emulator.ActiveRule, len(k.rules)), hits: make([]int, len(k.rules))}
}

// turn activates the rules that are in force this long after the hour's beginning, and
// ends the others.
func (f *faults) turn(since time.Duration) {
	f.w.t.Helper()
	on := f.k.off == 0 || since%(f.k.on+f.k.off) < f.k.on
	for i, r := range f.k.rules {
		switch want := on || r.Operation == update; {
		case want && f.active[i] == nil:
			r.Delay = f.w.clock.Real(r.Delay)
			f.active[i] = f.w.emu.Fail(r)
		case !want && f.active[i] != nil:
			f.clear(i)
		}
	}
	switch {
	case on && !f.spoilt:
		f.w.spoil(f.k.toxics)
	case !on && f.spoilt:
		f.w.spoil(nil)
	}
	f.spoilt = on
}

// end ends all of them.
func (f *faults) end() {
	f.w.t.Helper()
	for i, a := range f.active {
		if a != nil {
			f.clear(i)
		}
	}
	f.w.spoil(nil)
}

// met returns how many calls a rule has affected.
func (f *faults) met(i int) int {
	if a := f.active[i]; a != nil {
		return f.hits[i] + a.Hits()
	}
	return f.hits[i]
}

func (f *faults) clear(i int) {
	f.active[i].Clear()
	n := f.active[i].Hits()
	figures.faults.Add(int64(n))
	f.hits[i] += n
	f.active[i] = nil
}
