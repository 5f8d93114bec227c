package health

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/status"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func last(h *History, now time.Time, n int) []status.Slot {
	all := h.Until(now).Slots
	return all[len(all)-n:]
}

func wantSlots(t *testing.T, got []status.Slot, want ...status.Slot) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("slots %v, want %v", got, want)
		}
	}
}

func TestAHistoryOfNothingIsUnknownAndNotGood(t *testing.T) {
	got := new(History).Until(noon)
	if len(got.Slots) != slots || got.Width.Duration() != slotWidth ||
		!got.Start.Equal(noon.Add(-(slots-1)*slotWidth)) {
		t.Fatalf("%d slots of %s from %s", len(got.Slots), got.Width.Duration(), got.Start)
	}
	for _, s := range got.Slots {
		if s != status.SlotUnknown {
			t.Fatalf("a slot is %s", s)
		}
	}
}

func TestASlotHasTheWorstStateSeenInIt(t *testing.T) {
	h := new(History)
	h.Note(noon, true)
	h.Note(noon.Add(slotWidth), true)
	h.Note(noon.Add(slotWidth+time.Second), false)
	h.Note(noon.Add(slotWidth+2*time.Second), true)
	h.Note(noon.Add(3*slotWidth), true)
	wantSlots(
		t, last(h, noon.Add(3*slotWidth+time.Minute), 4), status.SlotGood, status.SlotBad, status.SlotUnknown,
		status.SlotGood,
	)
}

func TestTroubleLastsFromABadObservationToTheNextGoodOne(t *testing.T) {
	h := new(History)
	h.Note(noon, true)
	h.Note(noon.Add(14*time.Minute+40*time.Second), false)
	h.Note(noon.Add(14*time.Minute+50*time.Second), false)
	h.Note(noon.Add(15*time.Minute+10*time.Second), true)
	h.Note(noon.Add(20*time.Minute), true)
	got := h.Until(noon.Add(slotWidth + time.Minute))
	if bad := got.Bad[len(got.Bad)-2:]; bad[0] != 20 || bad[1] != 10 {
		t.Errorf("trouble in the last two slots for %v s, want 20 and 10", bad)
	}
	wantSlots(t, got.Slots[slots-2:], status.SlotBad, status.SlotBad)
	if want := noon.Add(14*time.Minute + 50*time.Second); !got.LastBad.Equal(want) {
		t.Errorf("last seen in trouble at %s, want %s", got.LastBad, want)
	}
}

func TestTroubleUnderWayCountsUntilNow(t *testing.T) {
	h := new(History)
	h.Note(noon, false)
	for _, after := range []time.Duration{time.Minute, 2 * time.Minute} { // to look changes nothing
		got := h.Until(noon.Add(after))
		if bad := got.Bad[slots-1]; bad != after.Seconds() {
			t.Errorf("after %s: trouble for %v s", after, bad)
		}
	}
}

func TestNothingIsKnownOfATroubleThatNobodyLookedAtAgain(t *testing.T) {
	h := new(History)
	h.Note(noon, false)
	h.Note(noon.Add(8*slotWidth), true)
	got := h.Until(noon.Add(8 * slotWidth))
	wantSlots(t, got.Slots[slots-9:], status.SlotBad, status.SlotUnknown)
	sum := 0.0
	for _, bad := range got.Bad {
		sum += bad
	}
	if sum != slotWidth.Seconds() {
		t.Errorf("trouble for %v s, want one slot", sum)
	}
}

func TestHistoryOlderThanADayIsForgotten(t *testing.T) {
	h := new(History)
	h.Note(noon, false)
	wantSlots(t, h.Until(noon.Add((slots-1)*slotWidth)).Slots, status.SlotBad)
	for i, s := range h.Until(noon.Add(slots * slotWidth)).Slots {
		if s != status.SlotUnknown {
			t.Errorf("slot %d is %s a day later", i, s)
		}
	}
}

func TestAClockThatRanAheadAndWasPutBackLeavesTheHistoryUsable(t *testing.T) {
	h := new(History)
	h.Note(noon.Add(30*24*time.Hour), true)
	h.Note(noon, false)
	wantSlots(t, last(h, noon, 2), status.SlotUnknown, status.SlotBad)
}

func TestEveryProofIsReportedToEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now()))
		told := map[key.Outcome]int{}
		h, _ := w.health(t, func(c *Config) {
			c.Ended = func(s Subject, at time.Time, r proof.Result) {
				if s.Key != "k" || !at.Equal(time.Now()) {
					t.Errorf("%s at %s", s.Key, at)
				}
				told[r.Outcome]++
			}
		})
		run(t, h, func() {
			wait(9 * time.Minute)
			w.do(func() {
				w.fail = func(string, string, proof.Leg) error { return errors.New("429") }
			})
			wait(5 * time.Minute)
		})
		if told[key.Passed] != 2 || told[key.Inconclusive] == 0 {
			t.Errorf("told %v", told)
		}
	})
}
