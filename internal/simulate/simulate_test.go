package simulate

import (
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// number reads a count from the environment, as make simulate sets it.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s is not a number: %v", name, err)
	}
	return n
}

// lines is how many lines of a story a test shows.
const lines = 60

// TestSimulation runs SEEDS seeds from FIRST on, or the one SEED with its story.
func TestSimulation(t *testing.T) {
	const few = 5 // seconds with the race detector, not minutes; make simulate runs 500
	primes := NewPrimes()
	if os.Getenv("SEED") != "" {
		r := primes.Run(number(t, "SEED", 0), Options{Trace: int(number(t, "LINES", lines))})
		fmt.Println(strings.Join(r.Trace, "\n"))
		report(t, []Result{r}, 0, replay)
		return
	}
	first, seeds := number(t, "FIRST", 1), number(t, "SEEDS", few)
	begun := time.Now()
	var all []Result
	shown := false // whether the story of the first failed run was
	for seed := first; seed < first+seeds; seed++ {
		r := primes.Run(seed, Options{})
		if all = append(all, r); r.Failure != "" && !shown {
			shown = true
			fmt.Printf("the story of seed %d, which failed; the other seeds go on:\n", seed)
			fmt.Println(strings.Join(primes.Run(seed, Options{Trace: lines}).Trace, "\n"))
		}
	}
	report(t, all, time.Since(begun), replay)
}

// replay is the command that repeats a run.
func replay(seed uint64) string { return fmt.Sprintf("make simulate SEED=%d", seed) }

// report prints the first runs that failed, with how to replay each, and one line with
// the figures of all.
func report(t *testing.T, all []Result, took time.Duration, replay func(seed uint64) string) {
	t.Helper()
	const most = 10
	var sum Result
	failed, lost, doubled, forked := 0, 0, 0, 0
	holds, stories := 0, 0
	for _, r := range all {
		sum.Days += r.Days
		sum.Steps += r.Steps
		sum.Calls += r.Calls
		sum.Faults += r.Faults
		sum.Meddled += r.Meddled
		sum.Crashes += r.Crashes
		sum.Late += r.Late
		if r.Hosts > 0 {
			stories++
		}
		sum.Hosts += r.Hosts
		sum.Terms += r.Terms
		sum.Lost += r.Lost
		sum.Pairs += r.Pairs
		sum.Reserved += r.Reserved
		sum.Imports += r.Imports
		sum.Retired += r.Retired
		sum.Vacated += r.Vacated
		sum.Moved += r.Moved
		sum.Replaced += r.Replaced
		for _, n := range r.Holds {
			holds += n
		}
		if r.Failure == "" {
			continue
		}
		lost += strings.Count(r.Failure, "lost:")
		doubled += strings.Count(r.Failure, "doubled:")
		forked += strings.Count(r.Failure, "forked:")
		if failed++; failed <= most {
			t.Errorf("seed %d: %s\nreplay it with: %s", r.Seed, r.Failure, replay(r.Seed))
		}
	}
	fmt.Printf(
		"%d seeds in %s: %d days, %d steps, %d calls, %d faults, %d crashes, %d acts of meddling, %d holds "+
			"lifted, %d generations, %d pairs, %d versions imported, %d late effects, %d versions "+
			"retired, %d of them left by consumers, %d consumers moved, %d keys replaced; several hosts in %d stories "+
			"(%d hosts, %d terms, %d failovers that lost changes); failed %d, lost %d, doubled %d, forked %d\n",
		len(
			all,
		),
		took.Round(time.Second/10),
		sum.Days,
		sum.Steps,
		sum.Calls,
		sum.Faults,
		sum.Crashes,
		sum.Meddled,
		holds,
		sum.Reserved,
		sum.Pairs,
		sum.Imports,
		sum.Late,
		sum.Retired,
		sum.Vacated,
		sum.Moved,
		sum.Replaced,
		stories,
		sum.Hosts,
		sum.Terms,
		sum.Lost,
		failed,
		lost,
		doubled,
		forked,
	)
}

// TestADecadePasses simulates ten years of KEYS keys.
func TestADecadePasses(t *testing.T) {
	keys := int(number(t, "KEYS", 1))
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	begun := time.Now()
	state := newDecadeState(t)
	r := NewPrimes().Decade(number(t, "SEED", 1), keys, Options{Trace: lines, Saved: state.saved})
	if r.Failure != "" {
		fmt.Println(strings.Join(r.Trace, "\n"))
	}
	report(t, []Result{r}, time.Since(begun), func(seed uint64) string {
		return fmt.Sprintf("make decade KEYS=%d SEED=%d", keys, seed)
	})
	state.report()
	// Each key gets a first generation, and one for each quarter. The spread may put the
	// last firing off beyond the end.
	least, most := keys*40, keys*41
	if r.Reserved < least || r.Reserved > most {
		t.Errorf("keyd made %d generations, want %d to %d", r.Reserved, least, most)
	}
	if allowed := r.Reserved + r.Reserved/50 + 2; r.Pairs < r.Reserved || r.Pairs > allowed {
		t.Errorf(
			"keyd made %d pairs for %d generations; faults in one of five hundred calls explain at most %d",
			r.Pairs,
			r.Reserved,
			allowed,
		)
	}
}

func TestASeedAlwaysGivesTheSameTrace(t *testing.T) {
	const seed = 1
	primes := NewPrimes()
	a, b := primes.Run(seed, Options{Trace: lines}), primes.Run(seed, Options{Trace: lines})
	if !reflect.DeepEqual(a, b) {
		t.Errorf("seed %d: two runs differ:\n%+v\n%+v", seed, a, b)
	}
}
