package web

import "time"

// mostIntervals is how many intervals a scale has at most: their labels have room on a phone.
const mostIntervals = 4

// apart is how far a label at an end of the scale must be from the one beside it, in percent of the width. It has no
// label otherwise: they would meet.
const apart = 26

// tick is one point of a timeline's scale, usually with a label.
type tick struct{ X, Anchor, Label string }

// interval is the distance of a scale's ticks in the calendar. One of the numbers is not 0.
type interval struct {
	years, months, days, seconds int
	label                        string
}

// calendar is the intervals to choose from, the smallest first.
var calendar = []interval{
	{seconds: 1, label: inAMinute}, {seconds: 5, label: inAMinute}, {seconds: 15, label: inAMinute},
	{
		seconds: minute,
		label:   inAnHour,
	}, {seconds: 5 * minute, label: inAnHour}, {seconds: 15 * minute, label: inAnHour},
	{seconds: hour, label: inAnHour}, {seconds: 3 * hour, label: inAnHour}, {seconds: 6 * hour, label: inAnHour},
	{seconds: 12 * hour, label: inAnHour},
	{days: 1, label: inAMonth}, {days: 2, label: inAMonth}, {days: 7, label: inAMonth}, {days: 14, label: inAMonth},
	{
		months: 1,
		label:  inYears,
	}, {months: 2, label: inYears}, {months: 3, label: inYears}, {months: 6, label: inYears},
	{years: 1, label: "2006"}, {years: 2, label: "2006"}, {years: 5, label: "2006"}, {years: 10, label: "2006"},
	{years: 25, label: "2006"}, {years: 50, label: "2006"}, {years: 100, label: "2006"},
}

const (
	minute = 60
	hour   = 60 * minute

	inAMinute = "15:04:05"
	inAnHour  = "15:04"
	inAMonth  = "2 Jan"
	inYears   = "Jan 2006"
)

// size is about how long an interval is.
func (i interval) size() time.Duration {
	const day = 24 * time.Hour
	return time.Duration(i.years)*365*day + time.Duration(i.months)*31*day + time.Duration(i.days)*day +
		time.Duration(i.seconds)*time.Second
}

// from returns the n-th tick after a round time that is not later than t.
func (i interval) from(t time.Time, n int) time.Time {
	year, month, date := t.Date()
	hours := 0
	switch {
	case i.seconds > 0 && i.seconds <= hour:
		hours = t.Hour()
	case i.years > 0:
		year, month, date = year-year%i.years, time.January, 1
	case i.months > 0:
		month, date = time.January, 1
	}
	return time.Date(year+n*i.years, month+time.Month(n*i.months), date+n*i.days, hours, 0, n*i.seconds, 0,
		t.Location())
}

// ticks are the scale's labels, at round times of the zone's calendar.
func (s scale) ticks(zone *time.Location) (ticks []tick) {
	by := calendar[len(calendar)-1]
	for _, c := range calendar {
		if s.to.Sub(s.from)/mostIntervals <= c.size() {
			by = c
			break
		}
	}
	var times []time.Time
	for n := 0; ; n++ {
		t := by.from(s.from.In(zone), n)
		if t.After(s.to) {
			break
		}
		if !t.Before(s.from) {
			times = append(times, t)
		}
	}
	first := true // no label has named the zone yet
	for i, t := range times {
		x := s.at(t)
		here := tick{X: percent(x), Anchor: anchorOf(x)}
		roomBefore := i == 0 || x-s.at(times[i-1]) > apart
		roomAfter := i == len(times)-1 || s.at(times[i+1])-x > apart
		if here.Anchor == "middle" || here.Anchor == "start" && roomAfter || here.Anchor == "end" && roomBefore {
			here.Label = by.labelOf(t, first)
			first = first && here.Label == by.labelOf(t, false)
		}
		ticks = append(ticks, here)
	}
	return ticks
}

// labelOf is a date at midnight. Of the times of day the first names its zone.
func (i interval) labelOf(t time.Time, first bool) string {
	switch {
	case i.seconds == 0:
		return t.Format(i.label)
	case t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0:
		return t.Format(inAMonth)
	case first:
		return t.Format(i.label + " MST")
	}
	return t.Format(i.label)
}

// anchorOf is the side of a tick's label, as text-anchor has it: the label stays in the drawing.
func anchorOf(x float64) string {
	switch {
	case x < 5:
		return "start"
	case x > 95:
		return "end"
	}
	return "middle"
}
