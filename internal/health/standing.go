package health

import (
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/sample"
)

// standing sums up how the proofs of some versions go.
type standing struct {
	counted bool      // at least one version has a result
	success time.Time // the oldest of the versions' last successes; zero: one never passed
	failing bool
	worse   bool   // failing, and not only at wrapping or signing
	why     string // of the worst failure: refuted, or a reason
	certain bool   // it shows that the version itself fails
	late    bool   // one was to be proven twice since its last success
}

// add includes one more version. For a version that Health has not proven yet, the proof in the record counts, but
// only if it is recent or the version's first interval is over. So a restart neither raises an alarm nor hides one.
func (st *standing) add(now time.Time, interval time.Duration, t *tracked) {
	l, success := t.last, t.passed()
	waiting := l.At.IsZero() && now.Sub(l.Seen) < interval
	if waiting && now.Sub(t.ProvenAt) >= interval {
		return
	}
	if !st.counted || success.Before(st.success) {
		st.success = success
	}
	st.counted = true
	if l.Failing() && (st.why == "" || l.certain() && !st.certain || l.Result.Outcome == key.WasRefuted) {
		st.why, st.certain = l.why(), l.certain()
	}
	st.failing = st.failing || l.Failing()
	st.worse = st.worse || l.Failing() && !l.WrapFailing()
	st.late = st.late || now.Sub(success) > lateAfter(interval)
}

// why names what went wrong in the last proof: its outcome if it was refuted, otherwise the reason.
func (l Last) why() string {
	if l.Result.Outcome == key.WasRefuted {
		return string(key.WasRefuted)
	}
	return string(reasonOf(l.Result))
}

// certain reports whether the last proof shows that the version itself fails its consumers.
func (l Last) certain() bool {
	return l.Result.Outcome == key.WasRefuted || reasonOf(l.Result).OfVersion()
}

// yesNo has the values of the label "certain".
var yesNo = map[bool]string{true: "yes", false: "no"}

// series names a vault and an age.
type series struct{ vault, age string }

func ageOf(t *tracked) string {
	if t.Newest {
		return ageNewest
	}
	return ageOlder
}

// collect shows where the proofs of every key stand now.
func (h *Health) collect() (all sample.Gauges) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, m := h.now(), h.Metrics
	oldest := map[series]time.Time{}
	for _, name := range slices.Sorted(maps.Keys(h.keys)) { // the registry sorts what is sorted faster
		var newest standing
		k := h.keys[name]
		for at, st := range h.standings(now, k, &newest) {
			if !st.counted {
				continue
			}
			if before, ok := oldest[at]; !ok || st.success.Before(before) {
				oldest[at] = st.success
			}
			if st.failing {
				all.Add(m.result, 0, name, at.vault, at.age, yesNo[st.certain], st.why)
			}
			if st.failing && !st.worse {
				all.Add(m.wrap, 1, name, at.vault, at.age)
			}
			if st.failing || st.late {
				all.Add(m.success, sample.Time(st.success), name, at.vault, at.age)
			}
		}
		if newest.counted {
			all.Add(m.proven, sample.Time(newest.success), name)
		}
	}
	for at, success := range oldest {
		all.Add(m.oldest, sample.Time(success), at.vault, at.age)
	}
	return all
}

// standings yields those of a key in each of its vaults, by age, and adds its newest versions to newest.
func (h *Health) standings(now time.Time, k *trackedKey, newest *standing) func(yield func(series, standing) bool) {
	return func(yield func(series, standing) bool) {
		// The subjects are ordered by vault, the newest of each first.
		for i := 0; i < len(k.subjects); {
			first := k.subjects[i]
			at, st := series{first.VaultName, ageOf(first)}, standing{}
			for ; i < len(k.subjects); i++ {
				t := k.subjects[i]
				if t.Vault != first.Vault || t.Newest != first.Newest {
					break
				}
				if !h.vaults[t.Vault].configured {
					continue
				}
				st.add(now, h.pace.of(t.Subject), t)
				if t.Newest {
					newest.add(now, h.pace.of(t.Subject), t)
				}
			}
			if !yield(at, st) {
				return
			}
		}
	}
}
