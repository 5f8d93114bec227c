package rotate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

func TestADuplicateThatLandsLateIsReportedAndProven(t *testing.T) {
	w, p, late := lateDuplicate(t)
	x := w.vault[weu.URL].add(p.Key, w.pair(p.Key), map[string]string{key.TagAttempt: string(late)})
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	w.checkDone(p, 1, 1)
	if at := w.record(p.Key).Generations[0].In(weu.URL); at.Version != x.ID || at.State != key.Proven {
		t.Errorf("the newest placement is %s, version %s; want %s, proven", at.State, at.Version, x.ID)
	}
	// The event names the duplicate, not the version that it repeats.
	want := fmt.Sprintf("alias gen 1 %s version %q %s", weu.Name, x.ID, status.Done)
	if !strings.Contains(w.story(), want) {
		t.Errorf("the story lacks %q:\n%s", want, w.story())
	}
}

// It shows the right modulus, and does not decrypt. Consumers follow it until keyd has found out.
func TestADuplicateThatLandsLateAndDoesNotWorkDoesNotStayTheNewest(t *testing.T) {
	w, p, late := lateDuplicate(t)
	broken := *w.pair(p.Key)
	broken.Open = func([]byte) ([]byte, error) { return []byte("something else"), nil }
	w.vault[weu.URL].add(p.Key, &broken, map[string]string{key.TagAttempt: string(late)})
	w.now = w.now.Add(time.Hour)
	w.settle(p)
	rec := w.record(p.Key)
	if rec.Hold == nil || rec.Hold.Code != key.HoldRefuted {
		t.Errorf("hold %+v, want proof-refuted\n%s", rec.Hold, w.story())
	}
	if last := rec.NewestIn(weu.URL); last.State != key.Proven || last.Cause != key.CauseRollback {
		t.Errorf("the newest placement is %s, cause %s; want a proven rollback", last.State, last.Cause)
	}
}

// lateDuplicate is a key whose first PUT got no answer and was given up. The next one succeeded.
func lateDuplicate(t *testing.T) (w *world, p key.Policy, late key.ID) {
	w, p = newWorld(t, 1, weu), policy(weu)
	w.strike = func(_ int, call string) fault {
		if call == "weu.Import" && late == "" {
			late = w.record(p.Key).Generations[0].Placements[0].Attempt
			return failBeforeAmbiguous
		}
		return none
	}
	w.settle(p)
	return w, p, late
}

// pair is the private half of the first generation's pair.
func (w *world) pair(name string) *material {
	return w.hsm.pairs[w.record(name).Generations[0].ID][0].private
}
