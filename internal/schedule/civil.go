package schedule

import "time"

// mostShift exceeds every change of clocks so far: the largest was a day, when a place
// changed sides of the date line. Zones are within 15 hours of UTC.
const mostShift = 48 * time.Hour

// shown returns the civil time that the zone's clocks show at t.
func shown(t time.Time, zone *time.Location) time.Time {
	_, offset := t.In(zone).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// latestShown returns the latest civil time that the zone's clocks have shown up to t.
// They may show an earlier one at t, because they may have been set back.
func latestShown(t time.Time, zone *time.Location) time.Time {
	latest := shown(t, zone)
	for at := t; ; {
		start, _ := at.In(zone).ZoneBounds()
		if start.IsZero() || t.Sub(start) > mostShift {
			return latest
		}
		at = start.Add(-time.Nanosecond)
		if before := shown(at, zone); before.After(latest) {
			latest = before
		}
	}
}

// firstShown returns the first moment at which the zone's clocks show the civil time or
// a later one.
func firstShown(civil time.Time, zone *time.Location) time.Time {
	for at := civil.Add(-mostShift).In(zone); ; {
		_, offset := at.Zone()
		moment := civil.Add(-time.Duration(offset) * time.Second)
		if moment.Before(at) {
			moment = at // the clocks skipped it
		}
		end, ends := offsetEnd(at)
		if !ends || moment.Before(end) {
			return moment.In(zone)
		}
		at = end
	}
}

// offsetEnd returns a time up to which the zone's offset at t stays in force. On the
// last day of a leap year after the zone's table of changes (from 2037 on), package time
// returns an end in the past; offsetEnd then returns a minute.
func offsetEnd(t time.Time) (end time.Time, ends bool) {
	_, end = t.ZoneBounds()
	if !end.IsZero() && !end.After(t) {
		end = t.Add(time.Minute)
	}
	return end, !end.IsZero()
}
