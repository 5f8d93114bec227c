package recent

import (
	"testing"
	"time"
)

func TestOnlyWhatIsWithinTheSpanIsCounted(t *testing.T) {
	begin := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	c := New(15 * time.Minute)
	if n := c.Sum(begin); n != 0 {
		t.Errorf("%d before anything was added", n)
	}
	for i := range 20 {
		c.Add(begin.Add(time.Duration(i) * time.Minute))
	}
	for _, at := range []struct {
		after time.Duration
		want  int
	}{
		{19 * time.Minute, 15}, // those of the minutes 5 to 19
		{25 * time.Minute, 9},
		{34 * time.Minute, 0},
		{-time.Hour, 0}, // the clock was put back
		{48 * time.Hour, 0},
	} {
		if got := c.Sum(begin.Add(at.after)); got != at.want {
			t.Errorf("after %s: %d, want %d", at.after, got, at.want)
		}
	}
	c.Add(begin.Add(48 * time.Hour))
	if n := c.Sum(begin.Add(48 * time.Hour)); n != 1 {
		t.Errorf("%d after two days and one more, want 1: what was long ago is still counted", n)
	}
}
