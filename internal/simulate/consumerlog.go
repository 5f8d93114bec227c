package simulate

import (
	"maps"
	"time"

	"github.com/keyd-project/keyd/internal/record"
)

const (
	logDelay = 10 * time.Minute // how late an entry may be
	logRead  = 15 * time.Minute // the last part of the log, which keyd does not count as seen
)

// auditLog is the audit log of a model vault, in which keyd finds the uses by others. Of keyd's own calls it has only
// that they tell keyd of each gap.
type auditLog struct {
	w       *World
	gaps    []gap // the first is before the log began
	pending []logged
	first   map[string]map[string]time.Time // by key and version; then by caller
	last    map[string]map[string]time.Time
}

type gap struct{ from, until time.Time }

// logged is an entry that is not in the log yet.
type logged struct {
	at, arrives time.Time
	of, caller  string
}

func (l *auditLog) latest() gap { return l.gaps[len(l.gaps)-1] }

// lose begins a gap, in which entries get lost.
func (l *auditLog) lose(long time.Duration) {
	if now := l.w.now; !now.Before(l.latest().until) {
		l.gaps = append(l.gaps, gap{now, now.Add(long)})
		l.w.log("the audit log loses entries for %s", long)
	}
}

func (l *auditLog) use(name, version, caller string) {
	if now := l.w.now; !now.Before(l.latest().until) {
		l.pending = append(l.pending, logged{now, now.Add(l.w.spell(0, logDelay)), name + "/" + version, caller})
	}
}

// seen is what a careful reader knows of the log of a key.
func (l *auditLog) seen(name string) record.LogSeen {
	now, kept := l.w.now, l.pending[:0]
	for _, e := range l.pending {
		if e.arrives.After(now) {
			kept = append(kept, e)
			continue
		}
		if l.last[e.of] == nil {
			l.first[e.of], l.last[e.of] = map[string]time.Time{}, map[string]time.Time{}
		}
		if at, known := l.first[e.of][e.caller]; !known || e.at.Before(at) {
			l.first[e.of][e.caller] = e.at
		}
		if e.at.After(l.last[e.of][e.caller]) {
			l.last[e.of][e.caller] = e.at
		}
	}
	l.pending = kept
	seen := record.LogSeen{From: l.latest().until, Until: now.Add(-logRead),
		Worked: map[string]map[string]record.Span{}, Uses: map[string]map[string]time.Time{}}
	if n := len(l.gaps); seen.Until.Before(seen.From) && n > 1 { // the part before the gap is all that is whole
		seen.From, seen.Until = l.gaps[n-2].until, l.gaps[n-1].from
	}
	for of, callers := range l.last {
		if len(of) > len(name) && of[:len(name)+1] == name+"/" {
			version := of[len(name)+1:]
			seen.Uses[version], seen.Worked[version] = maps.Clone(callers), map[string]record.Span{}
			for caller, last := range callers { // a model vault refuses nobody
				seen.Worked[version][caller] = record.Span{First: l.first[of][caller], Last: last}
			}
		}
	}
	return seen
}
