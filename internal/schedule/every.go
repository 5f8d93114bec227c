package schedule

import "time"

// Every fires this long after the last rotation, in whole seconds; at least one.
type Every time.Duration

// Next is t and the interval, to the second below, in the host's zone.
func (e Every) Next(t time.Time) time.Time {
	return t.Add(time.Duration(e) - time.Duration(t.Nanosecond())).In(time.Local)
}
