package rotate

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
)

// slow has every step of the fake take a second.
func slow(context.Context, string) (plan.Step, error) {
	time.Sleep(time.Second)
	return plan.Step{Kind: plan.Idle}, nil
}

func TestAnOperatorsRequestStartsNextAmongTwoThousandLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: slow}
		l := fakeLoop(f, 4)
		l.SetPolicies(keys(2000))
		run(t, l)
		synctest.Wait() // four looks are under way, and the others wait
		before := len(f.all())
		l.Poke("key-1999", priority.Operator)
		synctest.Wait()
		if calls := f.all(); before != 4 || len(calls) != 5 || calls[4] != (call{"key-1999", priority.Operator}) {
			t.Errorf("%d looks were under way, then came %v", before, calls[before:])
		}
	})
}

func TestASecondRequestStartsAsSoonAsAStepEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		f := &fakeSteps{key: func(context.Context, string) (plan.Step, error) {
			<-end
			return plan.Step{Kind: plan.Idle}, nil
		}}
		l := fakeLoop(f, 2)
		l.SetPolicies(keys(2000))
		run(t, l)
		defer close(end)
		synctest.Wait()
		l.Poke("key-1000", priority.Operator) // takes the place that is kept for it
		l.Poke("key-1001", priority.Operator)
		synctest.Wait()
		if n := len(f.all()); n != 3 {
			t.Fatalf("%d steps are under way, want 3", n)
		}
		end <- struct{}{}
		synctest.Wait()
		if calls := f.all(); len(calls) != 4 || calls[3] != (call{"key-1001", priority.Operator}) {
			t.Errorf("then came %v", calls[3:])
		}
	})
}

func TestEachClassKeepsATenthOfTheTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := map[string]work{}
		policies := keys(2000)
		for i, p := range policies {
			records[p.Key] = work{class: priority.All()[i%len(priority.All())]}
		}
		f := &fakeSteps{key: slow, records: records}
		l := fakeLoop(f, 4)
		l.SetPolicies(policies)
		run(t, l)
		time.Sleep(100*time.Second - 1)
		got := map[priority.Class]int{}
		for _, c := range f.all() {
			got[c.class]++
		}
		if len(f.all()) != 500 { // of which 100 in the place that is kept for operators
			t.Fatalf("%d turns", len(f.all()))
		}
		for _, c := range priority.All() {
			if got[c] < 40-1 {
				t.Errorf("class %s got %d turns: %v", c, got[c], got)
			}
		}
	})
}

// The steps of a new key.
var bringUp = []plan.Step{
	{Kind: plan.Reserve, Trigger: plan.Trigger{Scheduled: true}}, {Kind: plan.Generate}, {Kind: plan.Pin},
	{Kind: plan.Import}, {Kind: plan.Prove}, {Kind: plan.Finish},
}

func TestKeysFinishOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: scripts(bringUp...), records: map[string]work{}}
		policies := keys(500)
		for _, p := range policies {
			f.records[p.Key] = work{class: priority.Due}
		}
		l := fakeLoop(f, 1)
		l.SetPolicies(policies)
		run(t, l)
		synctest.Wait()
		begun, finished := map[string]int{}, 0
		for _, c := range f.all() {
			if begun[c.id]++; begun[c.id] == len(bringUp) {
				finished++
			}
			if open := len(begun) - finished; open > 2 {
				t.Fatalf("%d keys have begun, and %d are finished", len(begun), finished)
			}
		}
		if finished != 500 {
			t.Errorf("%d keys are finished", finished)
		}
	})
}

func TestNoKeyIsSteppedTwiceAtOnceWhenItLeavesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: slow} // a step that has begun to act does not end early
		l := fakeLoop(f, 4)
		l.SetPolicies(keys(1))
		run(t, l)
		synctest.Wait()
		for range 3 {
			l.SetPolicies(nil)
			l.SetPolicies(keys(1))
			synctest.Wait()
		}
		l.Poke("key-0000", priority.Operator)
		synctest.Wait()
		if f.most["key-0000"] != 1 {
			t.Errorf("%d goroutines stepped the key at once", f.most["key-0000"])
		}
		if l.Position("key-0000").Looked {
			t.Error("the key that came back counts as looked at")
		}
		time.Sleep(time.Second) // the first step ends; the key that came back begins
		wantCounts(t, f, map[string]int{"key-0000": 2})
		time.Sleep(time.Second)
		synctest.Wait()
		if !l.Position("key-0000").Looked {
			t.Error("the key that came back was not looked at")
		}
	})
}

func TestAKeyThatLeftWhileItWasSteppedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: slow}
		l := fakeLoop(f, 4)
		l.SetPolicies(keys(2))
		run(t, l)
		synctest.Wait()
		l.SetPolicies(keys(1))
		time.Sleep(time.Hour)
		synctest.Wait()
		if f.Last("key-0001") != nil || f.count("key-0001") != 1 {
			t.Errorf("it shows %v and was stepped %d times", f.Last("key-0001"), f.count("key-0001"))
		}
	})
}

func TestAPokeDuringAStepIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: slow}
		l := fakeLoop(f, 4)
		l.SetPolicies(keys(1))
		run(t, l)
		synctest.Wait()
		l.Poke("key-0000", priority.Look)
		l.Poke("key-0000", priority.Operator)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		want := []call{{"key-0000", priority.Look}, {"key-0000", priority.Operator}}
		if got := f.all(); !slices.Equal(got, want) {
			t.Errorf("steps %v, want %v", got, want)
		}
	})
}

func TestTheClassOfATurnIsWhatTheWorkIsFor(t *testing.T) {
	wait := plan.Step{Kind: plan.Wait}
	ambiguous := plan.Step{Kind: plan.Wait, Attempt: "a"}
	for name, c := range map[string]struct {
		script []plan.Step
		want   priority.Class // of the turn after the script
	}{
		"asked for":           {[]plan.Step{{Kind: plan.Reserve}, {Kind: plan.Generate}}, priority.Operator},
		"scheduled":           {bringUp[:2], priority.Due},
		"a late import":       {[]plan.Step{{Kind: plan.Land}}, priority.Repair},
		"a repair":            {[]plan.Step{{Kind: plan.Import, Cause: key.CauseRepair}}, priority.Repair},
		"a rollback":          {[]plan.Step{{Kind: plan.Import, Cause: key.CauseRollback}}, priority.Repair},
		"a duplicate":         {[]plan.Step{{Kind: plan.Alias}}, priority.Repair},
		"retiring":            {[]plan.Step{{Kind: plan.Disable}}, priority.Due},
		"a wait":              {append(bringUp[:1:1], wait), priority.Look},
		"an unsettled import": {append(bringUp[:1:1], ambiguous), priority.Due},
		"nothing":             {nil, priority.Look},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakeSteps{key: scripts(c.script...)}
				l := fakeLoop(f, 1)
				l.SetPolicies(keys(1))
				run(t, l)
				time.Sleep(2 * testLook)
				synctest.Wait()
				if calls := f.all(); calls[len(c.script)].class != c.want {
					t.Errorf("calls %v", calls)
				}
			})
		})
	}
}

func TestARotationThatBecomesDueIsNoLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(time.Minute)
		f := &fakeSteps{key: func(context.Context, string) (plan.Step, error) {
			if time.Now().Before(at) {
				return plan.Step{Kind: plan.Idle, Until: at}, nil
			}
			return plan.Step{Kind: plan.Idle}, nil
		}}
		l := fakeLoop(f, 1)
		l.SetPolicies(keys(1))
		run(t, l)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if calls := f.all(); len(calls) != 2 || calls[1].class != priority.Due {
			t.Errorf("steps %v", calls)
		}
	})
}

func TestAfterARestartWhatIsNotFinishedGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{records: map[string]work{"key-0200": {priority.Due, false},
			"key-0300": {priority.Due, true}, "key-0400": {priority.Operator, false}}}
		l := fakeLoop(f, 1)
		l.SetPolicies(keys(500))
		run(t, l)
		synctest.Wait()
		want := []call{{"key-0400", priority.Operator}, {"key-0300", priority.Due}, {"key-0200", priority.Due},
			{"key-0000", priority.Look}}
		if got := f.all()[:4]; !slices.Equal(got, want) {
			t.Errorf("the first steps were %v", got)
		}
	})
}

func TestTheLoopIsStuckWhenAStepTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		f := &fakeSteps{key: func(_ context.Context, name string) (plan.Step, error) {
			if name == "key-0001" {
				<-forever
			}
			return plan.Step{Kind: plan.Idle}, nil
		}}
		l := fakeLoop(f, 4)
		l.SetPolicies(keys(2))
		run(t, l)
		defer close(forever)
		time.Sleep(plan.StepTimeout)
		if name := l.Stuck(time.Now()); name != "" {
			t.Errorf("stuck at %q already", name)
		}
		time.Sleep(2 * time.Minute)
		if name := l.Stuck(time.Now()); name != "key-0001" {
			t.Errorf("stuck at %q", name)
		}
		if l.Position("key-0001").Looked {
			t.Error("the key counts as looked at")
		}
	})
}

func TestAFailureIsTriedAgainAfterALongerAndLongerPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: func(context.Context, string) (plan.Step, error) {
			return plan.Step{Kind: plan.Import}, errors.New("no")
		}}
		l := fakeLoop(f, 1)
		l.SetPolicies(keys(1))
		run(t, l)
		time.Sleep(7500 * time.Millisecond) // after 0, 1, 3 and 7 seconds
		wantCounts(t, f, map[string]int{"key-0000": 4})
		if pos := l.Position("key-0000"); pos.Failures != 4 || pos.Err == nil {
			t.Errorf("%+v", pos)
		}
	})
}

func TestOneRunEndsWhenNothingIsDueAndReportsWhatIsNotDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSteps{key: func(_ context.Context, name string) (plan.Step, error) {
			switch name {
			case "key-0001":
				return plan.Step{Kind: plan.Import}, errors.New("it fails")
			case "key-0002":
				return plan.Step{Kind: plan.Wait, Why: "for Godot", Until: time.Now().Add(time.Minute)}, nil
			case "key-0003":
				return plan.Step{Kind: plan.Hold, Why: "odd", Hold: &key.Hold{}}, nil
			}
			return plan.Step{Kind: plan.Idle}, nil
		}}
		l := fakeLoop(f, 2)
		l.SetPolicies(keys(5))
		l.SetVaults(weu)
		err := l.RunOnce(t.Context())
		want := "it fails\nkey key-0002 waits: for Godot\nkey key-0003 is held: odd"
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if f.count("key-0001") != onceFailures || f.count("key-0004") != 1 || f.count(testVault) != 1 {
			t.Errorf("stepped %v", f.counts())
		}
	})
}
