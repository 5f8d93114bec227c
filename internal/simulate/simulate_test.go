package simulate

import (
	"os"
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

// TestSimulation runs SEEDS seeds from FIRST on, or the one SEED with its story.
func TestSimulation(t *testing.T) {
	const few = 60 // seconds with the race detector, not minutes
	primes := NewPrimes()
	if os.Getenv("SEED") != "" {
		r := primes.Run(number(t, "SEED", 0), Options{Trace: true})
		t.Log("\n" + strings.Join(r.Trace, "\n"))
		report(t, []Result{r}, 0)
		return
	}
	first, seeds := number(t, "FIRST", 1), number(t, "SEEDS", few)
	begun := time.Now()
	var all []Result
	for seed := first; seed < first+seeds; seed++ {
		all = append(all, primes.Run(seed, Options{}))
	}
	report(t, all, time.Since(begun))
}

// report tells the figures of all runs in one line, and the story of the first
// that failed.
func report(t *testing.T, all []Result, took time.Duration) {
	t.Helper()
	var sum Result
	failures := 0
	for _, r := range all {
		sum.Days += r.Days
		sum.Steps += r.Steps
		sum.Calls += r.Calls
		sum.Faults += r.Faults
		sum.Meddled += r.Meddled
		sum.Crashes += r.Crashes
		sum.Late += r.Late
		sum.Pairs += r.Pairs
		sum.Imports += r.Imports
		if r.Failure == "" {
			continue
		}
		if failures++; failures <= 20 {
			t.Errorf("seed %d: %s\nreplay: make simulate SEED=%d", r.Seed, r.Failure, r.Seed)
		}
	}
	t.Logf("%d seeds, %d days, %d steps, %d calls, %d faults, %d acts of meddling, %d crashes, %d pairs, %d imports, %d late duplicates adopted, %d failed (%s)",
		len(all), sum.Days, sum.Steps, sum.Calls, sum.Faults, sum.Meddled, sum.Crashes, sum.Pairs, sum.Imports, sum.Late, failures, took.Round(time.Millisecond))
}
