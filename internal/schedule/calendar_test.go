package schedule

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests need the same zones on every machine

	"github.com/robfig/cron/v3"
)

// parse takes the zone as a configuration writes it.
func parse(t testing.TB, text string) Calendar {
	t.Helper()
	name, fields, _ := strings.Cut(strings.TrimPrefix(text, "CRON_TZ="), " ")
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(fields, zone)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func moment(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04Z", text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

type firingsCase struct {
	schedule, after string
	want            string // UTC, each firing after the one before
}

func checkFirings(t *testing.T, cases []firingsCase) {
	t.Helper()
	for _, c := range cases {
		s, at := parse(t, c.schedule), moment(t, c.after)
		for _, want := range strings.Fields(c.want) {
			next := s.Next(at)
			if !next.Equal(moment(t, want)) {
				t.Errorf("%s: after %s it fires at %s, want %s", c.schedule, at.UTC(), next.UTC(), want)
				break
			}
			at = next
		}
	}
}

func TestADayWithoutMidnightIsNotLost(t *testing.T) {
	checkFirings(t, []firingsCase{
		{"CRON_TZ=Africa/Cairo 0 12 30 4 *", "2026-11-29T00:00Z", "2027-04-30T09:00Z"},
		{"CRON_TZ=Asia/Beirut 0 12 28 3 *", "2026-11-29T00:00Z", "2027-03-28T09:00Z"},
		{"CRON_TZ=Africa/Cairo 0 12 * * 5", "2027-04-20T00:00Z",
			"2027-04-23T10:00Z 2027-04-30T09:00Z 2027-05-07T09:00Z"},
		{"CRON_TZ=America/Havana 0 12 14 3 *", "2026-11-29T00:00Z", "2027-03-14T16:00Z"},
		{"CRON_TZ=America/Santiago 0 12 5 9 *", "2026-11-29T00:00Z", "2027-09-05T15:00Z"},
		{"CRON_TZ=Atlantic/Azores 0 12 28 3 *", "2026-11-29T00:00Z", "2027-03-28T12:00Z"},
		{"CRON_TZ=Asia/Gaza 0 12 28 3 *", "2014-11-29T00:00Z", "2015-03-28T09:00Z"},
		{"CRON_TZ=Pacific/Apia 0 12 * * 6", "2011-12-20T00:00Z",
			"2011-12-24T22:00Z 2011-12-30T22:00Z 2012-01-06T22:00Z"},
	})
}

func TestASkippedTimeFiresRightAfterTheGap(t *testing.T) {
	checkFirings(t, []firingsCase{
		// From 00:00 to 01:00: midnight itself does not exist.
		{"CRON_TZ=Africa/Cairo 30 0 30 4 *", "2026-11-29T00:00Z", "2027-04-29T22:00Z"},
		{"CRON_TZ=Asia/Beirut @daily", "2027-03-26T23:00Z", "2027-03-27T22:00Z 2027-03-28T21:00Z"},
		{"CRON_TZ=America/Havana 0 0 9 3 *", "2024-11-29T00:00Z", "2025-03-09T05:00Z"},
		{"CRON_TZ=America/Santiago 15 0 5 9 *", "2026-11-29T00:00Z", "2027-09-05T04:00Z"},
		{"CRON_TZ=Atlantic/Azores 0 0 28 3 *", "2026-11-29T00:00Z", "2027-03-28T01:00Z"},
		// From 01:00 to 02:00, and from 02:00 to 03:00.
		{"CRON_TZ=Europe/London 30 1 * * *", "2027-03-27T00:00Z",
			"2027-03-27T01:30Z 2027-03-28T01:00Z 2027-03-29T00:30Z"},
		{"CRON_TZ=America/New_York 30 2 14 3 *", "2026-11-29T00:00Z", "2027-03-14T07:00Z"},
		{"CRON_TZ=Asia/Gaza 30 2 29 4 *", "2022-11-29T00:00Z", "2023-04-29T00:00Z"},
		// In the evening: from 22:00 to 23:00, later from 23:00 to midnight.
		{"CRON_TZ=America/Nuuk 30 22 25 3 *", "2022-11-29T00:00Z", "2023-03-26T01:00Z"},
		{"CRON_TZ=America/Nuuk 30 23 27 3 *", "2026-11-29T00:00Z", "2027-03-28T01:00Z"},
		// Half an hour, and two hours.
		{"CRON_TZ=Australia/Lord_Howe 15 2 3 10 *", "2026-11-29T00:00Z", "2027-10-02T15:30Z"},
		{"CRON_TZ=Antarctica/Troll 15 1 28 3 *", "2026-11-29T00:00Z", "2027-03-28T01:00Z"},
		// All of Friday, 30 December.
		{"CRON_TZ=Pacific/Apia 0 12 30 12 *", "2011-06-01T00:00Z", "2011-12-30T10:00Z 2012-12-29T22:00Z"},
		{"CRON_TZ=Pacific/Apia 0 12 * * 5", "2011-12-24T00:00Z", "2011-12-30T10:00Z 2012-01-05T22:00Z"},
		// What is skipped and the moment after it are one firing, not several.
		{"CRON_TZ=Africa/Cairo */15 * 30 4 *", "2026-11-29T00:00Z", "2027-04-29T22:00Z 2027-04-29T22:15Z"},
	})
}

func TestATimeThatComesTwiceFiresOnce(t *testing.T) {
	checkFirings(t, []firingsCase{
		{"CRON_TZ=Africa/Cairo 30 23 28 10 *", "2026-11-29T00:00Z", "2027-10-28T20:30Z 2028-10-28T21:30Z"},
		{"CRON_TZ=Asia/Beirut 0 23 * * *", "2027-10-29T21:00Z", "2027-10-30T20:00Z 2027-10-31T21:00Z"},
		{"CRON_TZ=Europe/London 30 1 * * *", "2027-10-30T12:00Z", "2027-10-31T00:30Z 2027-11-01T01:30Z"},
		{"CRON_TZ=America/New_York 30 1 * * *", "2027-11-06T12:00Z", "2027-11-07T05:30Z 2027-11-08T06:30Z"},
		{"CRON_TZ=Atlantic/Azores 30 0 * * *", "2027-10-30T12:00Z", "2027-10-31T00:30Z 2027-11-01T01:30Z"},
		{"CRON_TZ=America/Havana 0 0 * * *", "2027-11-06T12:00Z", "2027-11-07T04:00Z 2027-11-08T05:00Z"},
		{"CRON_TZ=America/Santiago 30 23 * * *", "2027-04-03T12:00Z", "2027-04-04T02:30Z 2027-04-05T03:30Z"},
		{"CRON_TZ=Asia/Gaza 30 0 * * *", "2015-10-22T12:00Z", "2015-10-22T21:30Z 2015-10-23T22:30Z"},
		{"CRON_TZ=America/Nuuk 30 23 * * *", "2027-10-30T12:00Z", "2027-10-31T00:30Z 2027-11-01T01:30Z"},
		{"CRON_TZ=Pacific/Apia 30 3 2 4 *", "2011-04-01T20:00Z", "2011-04-02T13:30Z 2012-04-01T14:30Z"},
		// Asked between the first and the second time.
		{"CRON_TZ=Europe/London 30 1 * * *", "2027-10-31T00:45Z", "2027-11-01T01:30Z"},
		{"CRON_TZ=Europe/London 30 1 * * *", "2027-10-31T01:15Z", "2027-11-01T01:30Z"},
		// An hourly schedule rests for the hour that comes again.
		{"CRON_TZ=Europe/London @hourly", "2027-10-30T23:30Z", "2027-10-31T00:00Z 2027-10-31T02:00Z"},
		// The end of what appears twice comes once.
		{"CRON_TZ=Europe/London 0 2 * * *", "2027-10-31T00:30Z", "2027-10-31T02:00Z 2027-11-01T02:00Z"},
	})
}

func TestAFiringIsInTheSchedulesZone(t *testing.T) {
	next := parse(t, "CRON_TZ=Africa/Cairo 0 12 30 4 *").Next(moment(t, "2026-11-29T00:00Z"))
	if got := next.Format(time.RFC3339); got != "2027-04-30T12:00:00+03:00" {
		t.Error(got)
	}
}

func TestAFiringDoesNotDependOnTheZoneOfTheGivenTime(t *testing.T) {
	asked := time.Date(2027, 10, 31, 0, 45, 0, 0, time.UTC)
	c := parse(t, "CRON_TZ=Europe/London 30 1 * * *")
	want := c.Next(asked)
	for _, zone := range []string{"Asia/Kathmandu", "Pacific/Apia", "Europe/London"} {
		if got := c.Next(asked.In(parse(t, zone+" @daily").zone)); !got.Equal(want) {
			t.Errorf("asked in %s: %s, want %s", zone, got, want)
		}
	}
}

func TestALeapDayIsFoundAcrossACenturyWithoutOne(t *testing.T) {
	checkFirings(t, []firingsCase{{"CRON_TZ=UTC 0 0 29 2 *", "2096-02-29T00:00Z", "2104-02-29T00:00Z"}})
}

// time.Time.ZoneBounds is wrong there: it ends before it begins.
func TestTheLastDayOfALeapYearFarAheadEnds(t *testing.T) {
	checkFirings(t, []firingsCase{
		{"CRON_TZ=Europe/Berlin 0 12 31 12 *", "2040-12-30T00:00Z", "2040-12-31T11:00Z 2041-12-31T11:00Z"},
		{"CRON_TZ=Europe/Berlin @daily", "2044-12-29T23:30Z", "2044-12-30T23:00Z 2044-12-31T23:00Z 2045-01-01T23:00Z"},
		{"CRON_TZ=America/Santiago @daily", "2040-12-30T12:00Z",
			"2040-12-31T03:00Z 2041-01-01T03:00Z 2041-01-02T03:00Z"},
	})
}

func TestAScheduleThatNeverMatchesEnds(t *testing.T) {
	for _, fields := range []string{
		"0 0 30 2 *", "0 0 31 4,6,9,11 *", ", * * * *", "0 , * * *", "0 0 * , *", "0 0 , * ,",
	} {
		for _, zone := range []string{"UTC", "Africa/Cairo", "Pacific/Apia"} {
			c := parse(t, zone+" "+fields)
			if next := c.Next(moment(t, "2026-11-29T00:00Z")); !next.IsZero() {
				t.Errorf("%q in %s fires at %s", fields, zone, next)
			}
		}
	}
}

func TestExtremeTimesEnd(t *testing.T) {
	c := parse(t, "CRON_TZ=Africa/Cairo 0 12 30 4 *")
	endOfTime := time.Date(9999, 12, 31, 23, 59, 59, 999, time.UTC)
	for _, at := range []time.Time{{}, time.Unix(-1<<40, 0), time.Unix(1<<40, 0), endOfTime} {
		if next := c.Next(at); !next.After(at) {
			t.Errorf("after %s: %s", at, next)
		}
	}
}

// In UTC, where clocks are never changed, robfig/cron is right, too.
func FuzzLikeRobfigInUTC(f *testing.F) {
	for _, text := range []string{
		"0 3 1 */3 *", "*/15 0-6 ? jan,jul ?", "0 0 29 2 *", "0 0 1,31 * 1", "59 23 31 12 *", "@weekly", "0 0 30 2 *",
	} {
		f.Add(text, int64(1_795_910_400), int64(0))
	}
	f.Fuzz(func(t *testing.T, text string, sec, nanos int64) {
		sec, nanos = sec%(1<<33), nanos%1_000_000_000
		if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
			return // robfig/cron panics on some; package config takes it off
		}
		parsed, err := cron.ParseStandard(text)
		spec, ok := parsed.(*cron.SpecSchedule)
		if err != nil || !ok {
			return
		}
		spec.Location = time.UTC
		at := time.Unix(sec, nanos).UTC()
		got, want := Calendar{*spec, time.UTC}.Next(at), spec.Next(at)
		if want.IsZero() && !got.IsZero() && got.Year() > at.Year()+4 {
			return // it looks five years ahead only
		}
		if !got.Equal(want) {
			t.Errorf("%q after %s: %s, want %s", text, at, got, want)
		}
	})
}
