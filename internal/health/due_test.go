package health

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	pace  = Pace{Newest: 5 * time.Minute, Older: 24 * time.Hour}
)

// waitingFrom is the queue of subjects that were first seen at a time.
func waitingFrom(now time.Time, subjects []Subject) *queue {
	q := &queue{}
	for _, s := range subjects {
		q.schedule(now, pace, newTracked(s, now))
	}
	return q
}

// simulate proves the subjects that are due; every proof passes at once. It returns the times of the proofs of each
// subject.
func simulate(subjects []Subject, from time.Time, length time.Duration) map[ID][]time.Time {
	q := waitingFrom(from, subjects)
	proofs := map[ID][]time.Time{}
	for now := from; now.Before(from.Add(length)); now = q.waiting[0].due {
		for t := q.next(now); t != nil; t = q.next(now) {
			t.last = t.last.ended(now, proof.Result{Outcome: key.Passed})
			q.schedule(now, pace, t)
			proofs[t.ID()] = append(proofs[t.ID()], now)
		}
	}
	return proofs
}

// simulateEach calls simulate for one subject at a time. The proofs of one subject do not depend on another's, and
// simulating hundreds together takes long.
func simulateEach(subjects []Subject, from time.Time, length time.Duration) map[ID][]time.Time {
	proofs := map[ID][]time.Time{}
	for _, s := range subjects {
		maps.Copy(proofs, simulate([]Subject{s}, from, length))
	}
	return proofs
}

func TestASubjectsProofsDoNotDependOnOthers(t *testing.T) {
	for _, subjects := range [][]Subject{many(50, true), many(50, false)} {
		length := 3 * pace.of(subjects[0])
		if diff := cmp.Diff(simulateEach(subjects, start, length), simulate(subjects, start, length)); diff != "" {
			t.Errorf("alone and together (-alone +together):\n%s", diff)
		}
	}
}

func many(n int, newest bool) []Subject {
	subjects := make([]Subject, n)
	for i := range subjects {
		subjects[i] = Subject{
			Subject: proof.Subject{Key: fmt.Sprintf("key-%03d", i), Version: "v"},
			Vault:   weu,
			Newest:  newest,
		}
	}
	return subjects
}

func TestNewestVersionsAreFirstProvenWithinAMinuteButNotAtOnce(t *testing.T) {
	perSecond := map[int]int{}
	for id, times := range simulateEach(many(500, true), start, 2*time.Minute) {
		wait := times[0].Sub(start)
		if wait > time.Minute {
			t.Errorf("%s was first proven after %s", id.Key, wait)
		}
		perSecond[int(wait/time.Second)]++
	}
	for second, n := range perSecond {
		if n > 30 {
			t.Errorf("%d of 500 proofs came in second %d", n, second)
		}
	}
}

func TestProofsAreSpreadEvenlyOverTheInterval(t *testing.T) {
	perMinute := make([]int, 15)
	for _, times := range simulateEach(many(250, true), start, 15*time.Minute) {
		for _, at := range times {
			perMinute[int(at.Sub(start)/time.Minute)]++
		}
	}
	for minute, n := range perMinute[5:] {
		if n < 30 || n > 70 {
			t.Errorf("minute %d had %d proofs, of about 50", minute+5, n)
		}
	}
}

func TestASubjectIsProvenOnceInEveryInterval(t *testing.T) {
	for id, times := range simulate(many(50, true), start, time.Hour) {
		for pair := range slices.Chunk(times, 2) {
			if len(pair) == 2 && pair[1].Sub(pair[0]) > pace.Newest {
				t.Errorf("%s: %s between two proofs", id.Key, pair[1].Sub(pair[0]))
			}
		}
		if len(times) < 12 || len(times) > 13 {
			t.Errorf("%s was proven %d times in an hour", id.Key, len(times))
		}
	}
}

func TestOlderVersionsAreProvenDailyAndNotTogether(t *testing.T) {
	perHour := map[int]int{}
	for id, times := range simulateEach(many(240, false), start, 48*time.Hour) {
		if len(times) != 2 {
			t.Errorf("%s was proven %d times in two days", id.Key, len(times))
		}
		perHour[int(times[0].Sub(start)/time.Hour)]++
	}
	if len(perHour) < 24 {
		t.Errorf("the first proofs came in %d of 24 hours", len(perHour))
	}
}

func TestARestartDoesNotPutOffTheDailyProof(t *testing.T) {
	subjects := many(20, false)
	before := simulate(subjects, start, 24*time.Hour)
	after := simulate(subjects, start.Add(-5*time.Hour), 48*time.Hour)
	for id, times := range before {
		if !slices.Contains(after[id], times[0]) {
			t.Errorf("%s is due at %s, but at %s when started 5 hours earlier", id.Key, times[0], after[id])
		}
	}
}

func TestAFailureIsRetriedSoonAndThenLessAndLessOften(t *testing.T) {
	s := newTracked(Subject{Subject: proof.Subject{Key: "k", Version: "v"}, Vault: weu}, start)
	at := start.Add(time.Hour)
	var pauses []time.Duration
	for range 6 {
		s.last = s.last.ended(at, proof.Result{Outcome: key.Inconclusive})
		next := s.dueAt(at, pace)
		pauses = append(pauses, next.Sub(at))
		at = next
	}
	want := []time.Duration{
		30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute,
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("pauses after failures: %v, want %v", pauses, want)
	}
}

func TestASubjectUnderProofIsNotDue(t *testing.T) {
	q := waitingFrom(start, many(1, true))
	s := q.next(start.Add(time.Hour))
	q.remove(s)
	s.running++
	q.schedule(start.Add(time.Hour), pace, s) // such as after a refresh
	if again := q.next(start.Add(time.Hour)); again != nil {
		t.Errorf("%s is due", again.Key)
	}
	s.running--
	q.schedule(start.Add(time.Hour), pace, s)
	if q.next(start.Add(2*time.Hour)) != s {
		t.Error("it is not due after its proof has ended")
	}
}

func TestTheMostOverdueComesFirst(t *testing.T) {
	s := many(2, true)
	q := waitingFrom(start.Add(time.Hour), s[:1])
	q.schedule(start, pace, newTracked(s[1], start))
	if next := q.next(start.Add(2 * time.Hour)); next == nil || next.Key != s[1].Key {
		t.Errorf("first comes %v", next)
	}
}

func TestAClockPutBackDoesNotStopProofs(t *testing.T) {
	q := waitingFrom(start, many(1, true))
	s := q.waiting[0]
	s.last = s.last.ended(start.Add(48*time.Hour), proof.Result{Outcome: key.Passed})
	q.schedule(start.Add(48*time.Hour), pace, s)
	q.reschedule(start, pace)
	if q.next(start) != s {
		t.Error("nothing is due until the clock has come back to where it was")
	}
}

func TestOneInconclusiveProofIsNotFailing(t *testing.T) {
	inconclusive := proof.Result{Outcome: key.Inconclusive}
	l := Last{}.ended(start, inconclusive)
	if l.Failing() {
		t.Error("failing after one")
	}
	if l = l.ended(start, inconclusive); !l.Failing() {
		t.Error("not failing after two")
	}
	if l = l.ended(start, proof.Result{Outcome: key.Passed}); l.Failing() {
		t.Error("failing after a proof that passed")
	}
	if l = l.ended(start, proof.Result{Outcome: key.WasRefuted}); !l.Failing() {
		t.Error("not failing after a refuted one")
	}
}

func TestSubjectsAreTheEnabledProvenVersions(t *testing.T) {
	states := []struct {
		state  key.PlacementState
		proven bool
	}{
		{key.Intended, false}, {key.Imported, false}, {key.Proven, true}, {key.Superseded, true},
		{key.Disabled, false}, {key.Refuted, false}, {key.Void, false},
	}
	for _, c := range states {
		k := managed("k", weu, 1, start)
		k.Record.Generations[0].Placements[0].State = c.state
		if got := len(Subjects(KeyOf(k.Policy, 0), k.Record)) == 1; got != c.proven {
			t.Errorf("a placement that is %s: proven %v", c.state, got)
		}
	}
}

func TestTheNewestIsThePlacementMadeLastInEachVault(t *testing.T) {
	k := managed("k", weu, 3, start)
	// A rollback: keyd placed generation 2 again after 3.
	k.Record.Generations[1].Placements = append(k.Record.Generations[1].Placements,
		record.Placement{Seq: 9, Vault: weu, State: key.Proven, Version: "again"},
		record.Placement{Seq: 4, Vault: hsm, State: key.Proven, Version: "elsewhere"})
	var newest []string
	for _, s := range Subjects(KeyOf(k.Policy, 0), k.Record) {
		if s.Newest {
			newest = append(newest, s.Version)
		}
	}
	if want := []string{"again", "elsewhere"}; !slices.Equal(newest, want) {
		t.Errorf("newest %v, want %v", newest, want)
	}
}

func TestARetainedKeyIsProvenByItsFormerOperations(t *testing.T) {
	k := managed("k", weu, 1, start)
	k.Policy = key.Policy{Key: "k", Retained: true}
	k.Record.Operations = []key.Operation{key.Sign, key.Verify}
	s := Subjects(KeyOf(k.Policy, 0), k.Record)
	if len(s) != 1 || !slices.Equal(s[0].Operations, k.Record.Operations) || s[0].VaultName != "weu" {
		t.Errorf("subjects %+v", s)
	}
}
