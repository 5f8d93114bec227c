package schedule

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// oracle walks through the minutes one by one and fires when the zone's clocks first show
// a civil minute that matches, or have skipped it.
func oracle(c Calendar, after, until time.Time) time.Time {
	at := after.Truncate(time.Minute).Add(-mostShift)
	latest := shown(at, c.zone)
	for ; !at.After(until); at = at.Add(time.Minute) {
		now := shown(at, c.zone)
		matched := false
		for latest.Before(now) {
			latest = latest.Add(time.Minute)
			matched = matched || c.matches(latest)
		}
		if matched && at.After(after) {
			return at
		}
	}
	return time.Time{}
}

func (c Calendar) matches(civil time.Time) bool {
	return has(c.fields.Minute, civil.Minute()) && has(c.fields.Hour, civil.Hour()) &&
		has(c.fields.Month, int(civil.Month())) && c.onDay(civil)
}

// zones change their clocks at midnight, in the evening, by half an hour, by two hours or by a
// day, twice a year for Ramadan, or not at all.
var zones = []string{
	"Africa/Cairo", "Asia/Beirut", "Europe/London", "America/New_York", "Atlantic/Azores", "America/Havana",
	"America/Santiago", "Asia/Gaza", "America/Nuuk", "Pacific/Apia", "Australia/Lord_Howe", "Antarctica/Troll",
	"Africa/Casablanca", "America/Sao_Paulo", "Europe/Dublin", "Asia/Kathmandu", "Asia/Tehran", "Pacific/Kwajalein",
	"America/Caracas", "Asia/Pyongyang", "UTC",
}

// nearChange is a time within three days of a change of the zone's clocks, if it has any
// after a random one.
func nearChange(r *rand.Rand, zone *time.Location) time.Time {
	from := time.Date(1975, 1, 1, 0, 0, 0, 0, time.UTC)
	at := from.Add(time.Duration(r.Int64N(int64(65 * 365 * 24 * time.Hour))))
	if _, end := at.In(zone).ZoneBounds(); !end.IsZero() && end.Year() < 2060 {
		at = end.Add(-time.Duration(r.Int64N(int64(72 * time.Hour))))
	}
	if r.IntN(2) == 0 {
		at = at.Truncate(time.Minute)
	}
	return at
}

func randomFields(r *rand.Rand) string {
	field := func(most, least int, rare string) string {
		n := func() int { return least + r.IntN(most-least+1) }
		switch r.IntN(5) {
		case 0:
			return fmt.Sprint(n())
		case 1:
			return fmt.Sprintf("%d,%d", n(), n())
		case 2:
			a, b := n(), n()
			return fmt.Sprintf("%d-%d", min(a, b), max(a, b))
		case 3:
			return fmt.Sprintf("*/%d", 1+r.IntN(most))
		}
		return rare
	}
	hours := field(23, 0, "*")
	if r.IntN(2) == 0 {
		hours = fmt.Sprint([]int{22, 23, 0, 1, 2, 3}[r.IntN(6)]) // where clocks are changed
	}
	return field(59, 0, "*") + " " + hours + " " + field(31, 1, "*") + " " + field(12, 1, "*") + " " + field(6, 0, "*")
}

func TestEveryFiringMatchesAMinuteByMinuteSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(20261129, 7))
	for range 600 {
		name, fields := zones[r.IntN(len(zones))], randomFields(r)
		c := parse(t, name+" "+fields)
		at := nearChange(r, c.zone)
		compare(t, name+" "+fields, c, at)
	}
}

// compare looks five days ahead with the oracle: beyond them it must agree that nothing fires
// within.
func compare(t *testing.T, text string, c Calendar, at time.Time) {
	t.Helper()
	until := at.Add(5 * 24 * time.Hour)
	got, want := c.Next(at), oracle(c, at, until)
	if want.IsZero() && (got.IsZero() || got.After(until)) {
		return
	}
	if !got.Equal(want) {
		t.Errorf("%s after %s: %s, want %s", text, at.In(c.zone), got, want.In(c.zone))
	}
}

func FuzzNext(f *testing.F) {
	f.Add("0 12 30 4 *", uint8(0), int64(1_809_000_000))
	f.Add("30 1 * * *", uint8(2), int64(1_824_943_500))
	f.Add("0 0 30 2 *", uint8(9), int64(1_325_239_200))
	f.Add("*/7 * */2 * 5", uint8(10), int64(1_822_000_000))
	f.Fuzz(func(t *testing.T, fields string, n uint8, sec int64) {
		name := zones[int(n)%len(zones)]
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(fields) > 3 && (fields[:3] == "TZ=" || fields[0] == 'C') {
			return
		}
		c, err := Parse(fields, zone)
		if err != nil {
			return
		}
		const since, span = 157_766_400, 2_500_000_000 // from 1975 on, where zones change at whole minutes
		at := time.Unix(since+(sec%span+span)%span, 0)
		compare(t, name+" "+fields, c, at)
		if next := c.Next(at); !next.IsZero() && !next.After(at) {
			t.Errorf("%s %s fires at %s, not after %s", name, fields, next, at)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	c := parse(b, "Africa/Cairo 0 12 30 4 *")
	at := moment(b, "2049-11-29T00:00Z")
	for b.Loop() {
		c.Next(at)
	}
}
