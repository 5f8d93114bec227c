package record_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Another host's clock may differ by a few minutes. The vault's clock is the same for both.
func TestAnAttemptIsSettledByTheVaultsClockOrALittleLater(t *testing.T) {
	later := func(d time.Duration, known bool) record.Moment {
		m := record.Moment{Here: start.Add(d)}
		if known {
			m.There = m.Here
		}
		return m
	}
	for _, c := range []struct {
		begun, now record.Moment
		over       bool
	}{
		{later(0, true), later(3*time.Minute-1, true), false},
		{later(0, true), later(3*time.Minute, true), true},
		{later(0, false), later(3*time.Minute, true), false},
		{later(0, true), later(3*time.Minute, false), false},
		{later(0, false), later(3*time.Minute+key.MaxSkew, false), true},
		{later(0, true), record.Moment{Here: start.Add(time.Hour), There: start.Add(time.Minute)}, false},
	} {
		if got := c.begun.Over(c.now, 3*time.Minute); got != c.over {
			t.Errorf("begun at %v and seen at %v: over %v, want %v", c.begun, c.now, got, c.over)
		}
	}
}

func TestOnlyAGivenUpDisablingComesLate(t *testing.T) {
	b := newBook(t).rotate().rotate()
	late := func() error {
		_, err := b.CameLate(attempt(1), record.Enabling{Attempt: attempt(1), Version: version(1), At: b.clock,
			By: "keyd"})
		return err
	}
	refused(t, late(), "gave up no disabling")
	b.ok(b.BeginDisable(attempt(1), version(1), b.moment()))
	refused(t, late(), "gave up no disabling")
	b.ok(b.AbortDisable(attempt(1)))
	b.ok(late())
	if len(b.Enabling) != 1 || !b.LateIn(weu).Found() {
		t.Errorf("nothing undoes it: %+v", b.Enabling)
	}
	refused(t, late(), "gave up no disabling") // only once
	b.Consented(record.Consent{})
	if b.LateIn(weu).Found() {
		t.Error("it is still told of after an operator consented again")
	}
}

// Who has the version enabled knows what happened to it.
func TestAnOperatorWhoEnablesTheVersionEndsTheWaitForALateDisabling(t *testing.T) {
	b := newBook(t).rotate().rotate()
	b.ok(b.BeginDisable(attempt(1), version(1), b.moment()))
	b.ok(b.AbortDisable(attempt(1)))
	_, err := b.AskEnable(record.Enabling{Attempt: attempt(1), Version: version(1), At: b.clock, By: "uid 0"})
	if b.ok(err); len(b.GivenUp(weu)) > 0 {
		t.Error("keyd still waits for it")
	}
}
