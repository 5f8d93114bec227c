package rotate_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

var errMayNot = &classError{"model: the HSM side makes nothing now", key.Refused}

// Without this, record and audit would grow with each try, for as long as the configuration has a mistake.
func TestARefusalBeforeAPairIsBegunChangesNothingAndKeepsTheID(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.hsm.mayNot = errMayNot
	r := w.rotator()
	w.stepUntil(p, func() bool { return len(w.record(p.Key).Generations) == 1 })
	reserved, entries := w.record(p.Key), len(w.store.entries)
	for range 20 {
		w.now = w.now.Add(time.Hour)
		if _, err := w.step(r, p); !errors.Is(err, errMayNot) {
			t.Fatalf("%v, want the refusal", err)
		}
	}
	if rec := w.record(p.Key); rec.Revision != reserved.Revision || len(w.store.entries) != entries ||
		len(rec.Abandoned) != 0 {
		t.Errorf("%d new entries, and %d ids are abandoned\n%s", len(w.store.entries)-entries, len(rec.Abandoned),
			w.story())
	}
	w.hsm.mayNot = nil
	w.settle(p)
	w.checkDone(p, 1, 0)
	if is, was := w.record(p.Key).Generations[0].ID, reserved.Generations[0].ID; is != was {
		t.Errorf("the pair is under %s, and %s was reserved", is, was)
	}
}

// The HSM side may refuse a spare for long, and the rules after that of the spares must have their turn.
func TestARefusedSpareKeepsNothingElseWaiting(t *testing.T) {
	w, _, p := due(t)
	p.Spares = 1
	w.hsm.mayNot = errMayNot
	r := w.rotator()
	refused := 0
	for range 20 {
		if _, err := w.step(r, p); errors.Is(err, errMayNot) {
			refused++
		}
	}
	wantDisabled(t, w, "after the refusal of a spare", 1)
	if refused != 1 {
		t.Errorf("the HSM side was asked for the spare %d times within a moment, want once", refused)
	}
	w.hsm.mayNot = nil
	w.now = w.now.Add(31 * time.Minute)
	w.settle(p)
	rec := w.record(p.Key)
	if n := rec.SparesReady(p); n != 1 {
		t.Errorf("%d spares are ready, want 1", n)
	}
}
