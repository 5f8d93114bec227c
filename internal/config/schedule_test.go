package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestScheduleFiresInItsZone(t *testing.T) {
	s, err := parseSchedule("CRON_TZ=Europe/Berlin 0 3 1 */3 *")
	if err != nil {
		t.Fatal(err)
	}
	got := s.Next(time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC))
	if want := time.Date(2026, 4, 1, 1, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("next firing %v, want %v", got, want)
	}
}

func TestAScheduleWithoutAZoneUsesTheHostsZone(t *testing.T) {
	s, err := parseSchedule("0 3 * * *")
	if err != nil {
		t.Fatal(err)
	}
	last := time.Date(2027, 1, 15, 12, 0, 0, 0, time.FixedZone("far away", 13*60*60))
	got := s.Next(last)
	if got.Location() != time.Local || got.Hour() != 3 || !got.Equal(s.Next(last.UTC())) {
		t.Errorf("%s, and %s after the same time in UTC", got, s.Next(last.UTC()))
	}
}

func TestValidSchedules(t *testing.T) {
	for _, text := range []string{
		"0 3 1 */3 *", "  0\t3 1 * *  ", "TZ=UTC @daily", "CRON_TZ=Asia/Tokyo 0 0 * * MON-FRI", "@yearly", "@every 5s",
		"@every 90d", "0 0 29 2 *", "0 0 31 2,3 *", "30 2 * * 0", "0 0 30 2 1", "*/15 0-6 ? jan,jul ?",
	} {
		s, err := parseSchedule(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if next := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); next.IsZero() {
			t.Errorf("%q never fires after 2026", text)
		}
	}
}

func TestInvalidSchedules(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "is empty",
		"TZ=":                        "names no time zone",
		"CRON_TZ=":                   "names no time zone",
		"TZ=Europe/Berlin":           "no schedule",
		"CRON_TZ=  0 3 1 * *":        "names no time zone",
		"TZ=UTC TZ= 0 3 1 * *":       "seconds and years",
		"TZ=UTC TZ=UTC":              "1 fields instead of 5",
		"TZ=../../etc/passwd @daily": "unknown time zone",
		"0 0 30 2 *":                 "never fires",
		"0 0 31 4,6,9,11 *":          "never fires",
		"TZ=UTC 0 0 31 2 *":          "never fires",
		"0 0 3 1 * *":                "seconds and years",
		"0 3 1 * * 2027 0":           "seconds and years",
		"0 3 1 *":                    "4 fields",
		"60 3 1 * *":                 "above maximum",
		"0 3 1 * 7":                  "above maximum",
		", 3 1 * *":                  "empty entry",
		"1,,2 3 1 * *":               "empty entry",
		"*/0 3 1 * *":                "positive number",
		"@reboot":                    "unrecognized descriptor",
		"@daily 5":                   "text after @daily",
		"@every":                     "takes one duration",
		"@every 1h 5m":               "takes one duration",
		"@every 0s":                  "not a usable interval",
		"@every -5h":                 "not a usable interval",
		"@every 100ms":               "not a usable interval",
		"@every 1.5s":                "not a usable interval",
		"TZ=UTC @every 5h":           "does not depend on a time zone",
	} {
		_, err := parseSchedule(text)
		if err == nil {
			t.Errorf("%q was accepted, want an error with %q", text, want)
			continue
		}
		var f fault
		if !errors.As(err, &f) || !strings.Contains(f.message, want) || f.remedy == "" {
			t.Errorf("%q: %v, want a fault with %q and a remedy", text, err, want)
		}
	}
}

func TestPace(t *testing.T) {
	for _, c := range []struct {
		schedule string
		floor    time.Duration
		budget   int
		want     string // "" if the pace is right
	}{
		{"@daily", day, 1, ""},
		{"@daily", day + time.Second, 1, "it fires 1d apart, and the floor is 24h0m1s"},
		{"@every 5s", 0, 17280, ""},
		{"@every 5s", 0, 17279, "it fires more than 17279 times"},
		// The shortest gap counts, not the first: a Monday after a 31st.
		{"0 0 1,31 * *", 36 * time.Hour, 10, "it fires 1d apart"},
		{"0 0 29 2 *", 24 * time.Hour, 1, ""},
		// The hour that daylight saving repeats is not a second firing.
		{"CRON_TZ=Europe/Berlin 0 2 * * 0", day, 10, ""},
	} {
		s, err := parseSchedule(c.schedule)
		if err != nil {
			t.Fatal(err)
		}
		err = checkPace(s, c.floor, c.budget)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, floor %v, budget %d: %v, want %q", c.schedule, c.floor, c.budget, err, c.want)
		}
	}
}

func TestDurationsTakeDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90d": 90 * day, "1d12h": 36 * time.Hour, "0": 0, "0s": 0, "2160h": 90 * day, "1.5h": 90 * time.Minute,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "1", "-1h", "-1d", "1d-1h", "1h1d", "999999d", "106751d24h", "1w"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestSuggestionsAreSimilar(t *testing.T) {
	known := []string{"vaults", "schedule", "spec", "operations"}
	for word, want := range map[string]string{
		"valuts": "did you mean vaults?", "Schedule": "did you mean schedule?", "spce": "did you mean spec?",
		"x": "write one of vaults, schedule, spec, operations",
	} {
		if got := suggest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"TZ=", "CRON_TZ=UTC 0 3 1 */3 *", "@every 5s", "0 0 30 2 *", "1-5/2 * * * MON", ",",
		"@every "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSchedule(text)
		if err != nil {
			return
		}
		now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
		if next := s.Next(now); !next.After(now) {
			t.Errorf("%q was accepted, and fires after %v at %v", text, now, next)
		}
	})
}
