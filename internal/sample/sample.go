// Package sample converts Go values to the numbers that Prometheus expects. Its rule: the same in every room's
// metrics.
package sample

import "time"

// Time is t in seconds since 1970, with milliseconds; 0 for the zero time.
func Time(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Bool is 1 for true and 0 for false.
func Bool(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
