package main

import (
	"fmt"
	"io"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/schedule"
	"github.com/keyd-project/keyd/internal/status"
)

// shownFirings is how many firings of each schedule plan shows.
const shownFirings = 3

// firings is when a key's schedule fires next.
type firings struct {
	Key      string   `json:"key"`
	Schedule string   `json:"schedule,omitempty"`
	Next     []firing `json:"next"`
}

// firing is one moment, in the schedule's zone and in UTC.
type firing struct {
	Local time.Time `json:"local"`
	UTC   time.Time `json:"utc"`
}

// firingsOf returns every key's next firings after now.
func firingsOf(policies []key.Policy, snap status.Snapshot, now time.Time) []firings {
	out := make([]firings, len(policies))
	for i, p := range policies {
		out[i] = firings{Key: p.Key, Schedule: p.ScheduleText, Next: []firing{}}
		if p.Schedule == nil {
			continue
		}
		at := now
		if _, ok := p.Schedule.(schedule.Every); ok {
			at = lastBefore(snap, p, now)
		}
		for range shownFirings {
			if at = p.Schedule.Next(at); at.IsZero() {
				break
			}
			out[i].Next = append(out[i].Next, firing{at, at.UTC()})
		}
	}
	return out
}

// lastBefore is the time from which @every counts: the last rotation, or now if none is known or the next is overdue.
func lastBefore(snap status.Snapshot, p key.Policy, now time.Time) time.Time {
	k, ok := snap.Key(p.Key)
	if !ok || k.LastRotation.IsZero() || p.Schedule.Next(k.LastRotation).Before(now) {
		return now
	}
	return k.LastRotation
}

func writeFirings(w io.Writer, s style, all []firings) {
	fmt.Fprintln(w, s.bold("When its schedules fire next"))
	t := s.table()
	t.title(s, "KEY", "LOCAL", "UTC")
	for _, f := range all {
		if f.Schedule == "" {
			t.add(plain(f.Key, "no schedule: only by keyd rotate --now")...)
		}
		name := f.Key
		for _, at := range f.Next {
			t.add(plain(name, at.Local.Format("Mon 2006-01-02 15:04 MST"), at.UTC.Format("Mon 2006-01-02 15:04"))...)
			name = ""
		}
	}
	t.write(w, "  ")
}
