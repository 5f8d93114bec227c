package main

import (
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// day is a time as people write it, in their zone: "2026-03-01 12:00 UTC".
func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04 MST") }

// dated is a time in words and as a date: "3 days ago, 2026-03-01 12:00 UTC".
func dated(now, t time.Time) string {
	if t.IsZero() {
		return when(now, t)
	}
	return when(now, t) + ", " + day(t)
}

// datedRotation is nextRotation with the date.
func datedRotation(snap status.Snapshot, k status.Key) string {
	next := nextRotation(snap, k)
	if next == when(snap.At, k.NextRotation) {
		return dated(snap.At, k.NextRotation)
	}
	return next
}

// turn is something that happened, and when.
type turn struct {
	what string
	at   time.Time
}

// turns lists what happened, with its dates.
func turns(all ...turn) string {
	var parts []string
	for _, t := range all {
		if !t.at.IsZero() {
			parts = append(parts, t.what+" "+day(t.at))
		}
	}
	return strings.Join(parts, ", ")
}

func generationDates(g status.Generation) string {
	return turns(
		turn{"reserved", g.Reserved},
		turn{"active everywhere", g.Finished},
		turn{"deactivated", g.Deactivated},
		turn{"compromised", g.Compromised},
		turn{"discarded", g.Discarded},
		turn{"lost in the HSM", g.LostInHSM},
	)
}

func placementDates(p status.Placement) string {
	return turns(turn{"imported", p.ImportedAt}, turn{"expires", p.Expires}, turn{"disabled", p.DisabledAt},
		turn{"acknowledged", p.Acknowledged})
}
