package rotate_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/schedule"
)

func TestARotationIsDueOnTheDayOnWhichClocksSkipMidnight(t *testing.T) {
	cairo, err := time.LoadLocation("Africa/Cairo")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schedule.Parse("0 12 30 4 *", cairo)
	if err != nil {
		t.Fatal(err)
	}
	last := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	rec := &record.Record{Generations: []record.Generation{{Number: 1, Reserved: last}}}
	want := time.Date(2027, 4, 30, 9, 0, 0, 0, time.UTC)
	for about, p := range map[string]key.Policy{
		"plain":                       {Schedule: s},
		"within its window":           {Schedule: s, Window: 4 * time.Hour},
		"with a floor that is passed": {Schedule: s, Floor: 24 * time.Hour},
	} {
		if got := plan.NextRotation(want.Add(time.Hour), p, rec); got != want {
			t.Errorf("%s: %s, want %s", about, got, want)
		}
	}
}
