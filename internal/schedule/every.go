package schedule

import "time"

// Every fires this long after the last rotation, in whole seconds, at least one.
type Every time.Duration

// Next returns t plus the interval, rounded down to the second, in the host's zone.
func (e Every) Next(t time.Time) time.Time {
	return t.Add(time.Duration(e) - time.Duration(t.Nanosecond())).In(time.Local)
}
