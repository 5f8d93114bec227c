package web

import "time"

// mostIntervals is how many intervals a scale has at most: their labels have room on a phone.
const mostIntervals = 4

// tick is one labelled point of a timeline's scale.
type tick struct{ X, Anchor, Label string }

// interval is the distance of a scale's ticks in the calendar. One of the numbers is not 0.
type interval struct {
	years, months, days, minutes int
	label                        string
}

// calendar is the intervals to choose from, the smallest first.
var calendar = []interval{
	{minutes: 1, label: inAnHour}, {minutes: 5, label: inAnHour}, {minutes: 15, label: inAnHour},
	{minutes: 60, label: inAnHour}, {minutes: 3 * 60, label: inAnHour}, {minutes: 6 * 60, label: inAnHour},
	{minutes: 12 * 60, label: inAnHour},
	{days: 1, label: inAMonth}, {days: 2, label: inAMonth}, {days: 7, label: inAMonth}, {days: 14, label: inAMonth},
	{months: 1, label: inYears}, {months: 2, label: inYears}, {months: 3, label: inYears}, {months: 6, label: inYears},
	{years: 1, label: "2006"}, {years: 2, label: "2006"}, {years: 5, label: "2006"}, {years: 10, label: "2006"},
	{years: 25, label: "2006"}, {years: 50, label: "2006"}, {years: 100, label: "2006"},
}

const (
	inAnHour = "15:04"
	inAMonth = "2 Jan"
	inYears  = "Jan 2006"
)

// size is about how long an interval is.
func (i interval) size() time.Duration {
	const day = 24 * time.Hour
	return time.Duration(i.years)*365*day + time.Duration(i.months)*31*day + time.Duration(i.days)*day +
		time.Duration(i.minutes)*time.Minute
}

// from returns the n-th tick after a round time that is not later than t.
func (i interval) from(t time.Time, n int) time.Time {
	year, month, date := t.Date()
	switch {
	case i.years > 0:
		year, month, date = year-year%i.years, time.January, 1
	case i.months > 0:
		month, date = time.January, 1
	}
	return time.Date(year+n*i.years, month+time.Month(n*i.months), date+n*i.days, 0, n*i.minutes, 0, 0, t.Location())
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
	for n := 0; ; n++ {
		t := by.from(s.from.In(zone), n)
		switch {
		case t.After(s.to):
			return ticks
		case t.Before(s.from):
			continue
		}
		x := s.at(t)
		ticks = append(ticks, tick{percent(x), anchorOf(x), by.labelOf(t, len(ticks) == 0)})
	}
}

// labelOf is a date at midnight. Of the times of day the first names its zone.
func (i interval) labelOf(t time.Time, first bool) string {
	switch {
	case i.minutes == 0:
		return t.Format(i.label)
	case t.Hour() == 0 && t.Minute() == 0:
		return t.Format(inAMonth)
	case first:
		return t.Format(i.label + " MST")
	}
	return t.Format(i.label)
}

// anchorOf is the side of a tick's label, as text-anchor has it: the label stays in the drawing.
func anchorOf(x float64) string {
	switch {
	case x < 8:
		return "start"
	case x > 92:
		return "end"
	}
	return "middle"
}
