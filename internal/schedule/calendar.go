// Package schedule says when a cron schedule fires. Its rule: pure functions of the
// time asked at. robfig/cron parses the fields. Its own Next loses a whole day where
// clocks skip midnight, so keyd computes the firings itself.
package schedule

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

// Calendar fires at the civil times that five cron fields name, in a time zone.
//
// It fires at the first moment at which the zone's clocks show such a time or a later
// one. So a skipped time fires right after the gap, and a time that appears twice fires
// only once.
type Calendar struct {
	fields cron.SpecSchedule
	zone   *time.Location
}

// horizonYears is how far ahead Next searches. Every day of the year that exists comes
// again within eight years: 29 February of 2096 and of 2104.
const horizonYears = 9

// Parse reads five cron fields (minute, hour, day of month, month, day of week) or a
// descriptor such as @monthly, without a time zone; zone is where the schedule fires.
func Parse(text string, zone *time.Location) (Calendar, error) {
	parsed, err := cron.ParseStandard(text)
	if err != nil {
		return Calendar{}, err
	}
	fields, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Calendar{}, fmt.Errorf("%q is not a schedule of fields", text)
	}
	return Calendar{*fields, zone}, nil
}

// In returns the same schedule in another time zone.
func (c Calendar) In(zone *time.Location) Calendar {
	c.zone = zone
	return c
}

// Next returns the first firing strictly after t, in the schedule's zone; the zero time
// if no civil time matches, as for 30 February.
func (c Calendar) Next(t time.Time) time.Time {
	civil, ok := c.nextCivil(latestShown(t, c.zone))
	if !ok {
		return time.Time{}
	}
	return firstShown(civil, c.zone)
}

// nextCivil returns the first civil time after the given one that matches the fields. A
// civil time is a clock reading; this package holds it as if it were UTC.
func (c Calendar) nextCivil(after time.Time) (civil time.Time, ok bool) {
	from := after.Truncate(time.Minute).Add(time.Minute)
	date := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, time.UTC)
	minute := from.Hour()*60 + from.Minute()
	for end := date.AddDate(horizonYears, 0, 0); date.Before(end); minute = 0 {
		if !has(c.fields.Month, int(date.Month())) {
			date = time.Date(date.Year(), date.Month()+1, 1, 0, 0, 0, 0, time.UTC)
			continue
		}
		if c.onDay(date) {
			if m, ok := c.minuteFrom(minute); ok {
				return date.Add(time.Duration(m) * time.Minute), true
			}
		}
		date = date.AddDate(0, 0, 1)
	}
	return time.Time{}, false
}

// onDay reports whether the day fields match. If both are restricted, either is enough,
// as crontab(5) says.
func (c Calendar) onDay(date time.Time) bool {
	const star = 1 << 63 // robfig/cron's mark for a field written as * or ?
	dom, dow := has(c.fields.Dom, date.Day()), has(c.fields.Dow, int(date.Weekday()))
	if (c.fields.Dom|c.fields.Dow)&star != 0 {
		return dom && dow
	}
	return dom || dow
}

// minuteFrom returns the first minute of a day, at or after from, that matches.
func (c Calendar) minuteFrom(from int) (minute int, ok bool) {
	for m := from; m < 24*60; m++ {
		if !has(c.fields.Hour, m/60) {
			m = m/60*60 + 59
		} else if has(c.fields.Minute, m%60) {
			return m, true
		}
	}
	return 0, false
}

func has(bits uint64, n int) bool { return bits>>n&1 != 0 }
