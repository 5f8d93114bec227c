//go:build !killpoints

// Package killpoint names the boundaries around external effects at which a crash must do no harm. Its rule: in the
// ordinary build a point does nothing at all; only the crash tests' build (tag killpoints) can die at one.
package killpoint

// At marks a boundary.
func At(string) {}
