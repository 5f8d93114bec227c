package config

import (
	"testing"
	"time"
)

func TestTheLongestGapOfASchedule(t *testing.T) {
	const year = 365 * day
	for text, want := range map[string]time.Duration{
		"@every 5h":                gapStep,
		"@every 100d":              100 * day,
		"CRON_TZ=UTC * * * * *":    gapStep,
		"CRON_TZ=UTC @daily":       gapStep,
		"CRON_TZ=UTC @weekly":      7 * day,
		"CRON_TZ=UTC @monthly":     31 * day,
		"CRON_TZ=UTC @yearly":      366 * day,
		"CRON_TZ=UTC 0 3 1 */3 *":  92 * day,
		"CRON_TZ=UTC 0 0 29 2 *":   4*year + day,
		"CRON_TZ=UTC 0 0 31 1,3 *": 306 * day,
		"CRON_TZ=UTC 0 0,12 * * 1": gapStep,
		// Summer time ends in it: one hour more.
		"CRON_TZ=Europe/Berlin @monthly": 31*day + time.Hour,
		// A firing in the skipped hour comes less than an hour late, and is not lost.
		"CRON_TZ=Europe/Berlin 30 2 * * 0":  7*day + time.Hour,
		"CRON_TZ=Europe/Berlin 30 2 31 3 *": 366*day + time.Hour/2,
		// The clocks skip midnight, and no day is lost.
		"CRON_TZ=Africa/Cairo 0 12 30 4 *": 366*day + time.Hour,
	} {
		s, err := parseSchedule(text)
		if err != nil {
			t.Fatal(err)
		}
		got, bounded := longestGap(s)
		if !bounded || (got-want).Abs() > time.Hour {
			t.Errorf("%q: %s (%v), want %s", text, showDuration(got), bounded, showDuration(want))
		}
		if got < want-time.Hour {
			t.Errorf("%q: understated", text)
		}
	}
}

// Compares with stepping from firing to firing.
func TestTheLongestGapIsTheLongestOfAllGaps(t *testing.T) {
	for _, text := range []string{"CRON_TZ=Europe/Berlin 30 2 1,15 * *", "CRON_TZ=America/New_York 0 4 * 1,2,6 1-3",
		"CRON_TZ=Australia/Lord_Howe 15 2 13 * 5", "CRON_TZ=UTC 5 4 29 2,11 *"} {
		s, err := parseSchedule(text)
		if err != nil {
			t.Fatal(err)
		}
		var want time.Duration
		at := s.Next(time.Date(2024, time.January, 1, 0, 0, 0, 0, time.Local))
		for end := at.AddDate(gapYears, 0, 0); at.Before(end); {
			next := s.Next(at)
			want, at = max(want, next.Sub(at)), next
		}
		if got, _ := longestGap(s); got != max(want, gapStep) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestAScheduleThatStopsHasNoLongestGap(t *testing.T) {
	if gap, bounded := longestGap(once{}); bounded {
		t.Errorf("%s", gap)
	}
}

type once struct{}

func (once) Next(t time.Time) time.Time {
	if at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC); t.Before(at) {
		return at
	}
	return time.Time{}
}

func BenchmarkLongestGapOfADenseSchedule(b *testing.B) {
	s, err := parseSchedule("CRON_TZ=Europe/Berlin * * * * *")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		longestGap(s)
	}
}
