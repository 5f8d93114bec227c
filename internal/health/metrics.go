package health

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/quota"
	"github.com/keyd-project/keyd/internal/sample"
)

// The values of the label "age".
const (
	ageNewest = "newest"
	ageOlder  = "older"
)

// Metrics counts and shows the outcomes of proofs.
type Metrics struct {
	success  *prometheus.GaugeVec
	result   *prometheus.GaugeVec
	wrap     *prometheus.GaugeVec
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	expected *prometheus.GaugeVec
	wanted   *prometheus.GaugeVec
}

// NewMetrics registers the metrics of proofs.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(
			prometheus.GaugeOpts{Namespace: "keyd", Subsystem: "proof", Name: name, Help: help}, labels,
		)
	}
	m := &Metrics{
		success: gauge(
			"last_success_timestamp_seconds",
			"When a proof last passed; for the older versions, the oldest of their last passes.", "key",
			"vault", "age",
		),
		result: gauge(
			"last_result",
			"1 if the last proofs passed; 0 after a refuted one, or after two inconclusive ones in a row.",
			"key", "vault", "age",
		),
		wrap: gauge(
			"wrap_failing",
			"1 while last_result is 0 only because the vault does not wrap or sign; it still unwraps.",
			"key", "vault", "age",
		),
		expected: gauge("expected_interval_seconds",
			"The longest time between two proofs of one version, by what the vault's limits allow.", "vault", "age"),
		wanted: gauge("configured_interval_seconds",
			"The longest time between two proofs of one version, as configured.", "age"),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "keyd", Name: "proofs_total",
			Help: "Proofs that ended, by outcome, deciding leg (empty if passed) and reason (only if inconclusive).",
		}, []string{"key", "vault", "outcome", "leg", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "keyd", Name: "proof_duration_seconds", Help: "How long a proof took.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 8),
		}, []string{"vault"}),
	}
	reg.MustRegister(m.success, m.result, m.wrap, m.expected, m.wanted, m.total, m.duration)
	return m
}

func (m *Metrics) configured(p Pace) {
	m.wanted.WithLabelValues(ageNewest).Set(p.Newest.Seconds())
	m.wanted.WithLabelValues(ageOlder).Set(p.Older.Seconds())
}

// expect shows the intervals of each vault, by name, and drops those of vaults that are gone.
func (m *Metrics) expect(before, now map[string]quota.Pace) {
	for vault := range before {
		if _, ok := now[vault]; !ok {
			m.expected.DeletePartialMatch(prometheus.Labels{"vault": vault})
		}
	}
	for vault, p := range now {
		m.expected.WithLabelValues(vault, ageNewest).Set(p.Newest.Seconds())
		m.expected.WithLabelValues(vault, ageOlder).Set(p.Older.Seconds())
	}
}

func (m *Metrics) proven(s Subject, r proof.Result, took time.Duration) {
	m.total.WithLabelValues(s.Key, s.VaultName, string(r.Outcome), string(r.Leg), string(reasonOf(r))).Inc()
	m.duration.WithLabelValues(s.VaultName).Observe(took.Seconds())
}

// series names the metrics of a key in a vault. Newest and older versions have a series each.
type series struct{ key, vault, age string }

func seriesOf(s Subject) series {
	if s.Newest {
		return series{s.Key, s.VaultName, ageNewest}
	}
	return series{s.Key, s.VaultName, ageOlder}
}

// standing holds the values of a series.
type standing struct {
	counted bool      // at least one version has a result
	success time.Time // the oldest of the versions' last successes; zero: one never passed
	failing bool
	worse   bool // failing, and not only at wrapping or signing
}

// add includes one more version in a series. For a version that Health has not proven yet, the proof in the record
// counts, but only if it is recent or the version's first interval is over. So a restart neither raises an alarm nor
// hides one.
func (st *standing) add(now time.Time, interval time.Duration, s Subject, l Last) {
	waiting := l.At.IsZero() && now.Sub(l.Seen) < interval
	if waiting && now.Sub(s.ProvenAt) >= interval {
		return
	}
	success := s.ProvenAt
	if l.Passed.After(success) {
		success = l.Passed
	}
	if !st.counted || success.Before(st.success) {
		st.success = success
	}
	st.counted = true
	st.failing = st.failing || l.Failing()
	st.worse = st.worse || l.Failing() && !l.WrapFailing()
}

func (m *Metrics) set(at series, st standing) {
	m.total.WithLabelValues(at.key, at.vault, string(key.Passed), "", "")
	if !st.counted {
		m.forget(at)
		return
	}
	m.success.WithLabelValues(at.key, at.vault, at.age).Set(sample.Time(st.success))
	m.result.WithLabelValues(at.key, at.vault, at.age).Set(sample.Bool(!st.failing))
	m.wrap.WithLabelValues(at.key, at.vault, at.age).Set(sample.Bool(st.failing && !st.worse))
}

func (m *Metrics) forget(at series) {
	m.success.DeleteLabelValues(at.key, at.vault, at.age)
	m.result.DeleteLabelValues(at.key, at.vault, at.age)
	m.wrap.DeleteLabelValues(at.key, at.vault, at.age)
}

func (m *Metrics) forgetCounts(name, vault string) {
	m.total.DeletePartialMatch(prometheus.Labels{"key": name, "vault": vault})
}

// show updates every series and drops those whose versions are gone. The caller holds the lock, as for showKey.
func (h *Health) show(now time.Time) {
	standings := h.standings(now, func(Subject) bool { return true })
	inVault := map[[2]string]bool{}
	for at := range standings {
		inVault[[2]string{at.key, at.vault}] = true
	}
	for at := range h.shown {
		if _, ok := standings[at]; !ok {
			h.Metrics.forget(at)
			delete(h.shown, at)
		}
		if !inVault[[2]string{at.key, at.vault}] {
			h.Metrics.forgetCounts(at.key, at.vault)
		}
	}
	h.set(standings)
}

// showKey updates the series of one key.
func (h *Health) showKey(now time.Time, name string) {
	h.set(h.standings(now, func(s Subject) bool { return s.Key == name }))
}

func (h *Health) set(standings map[series]standing) {
	for at, st := range standings {
		h.shown[at] = true
		h.Metrics.set(at, st)
	}
}

func (h *Health) standings(now time.Time, in func(Subject) bool) map[series]standing {
	standings := map[series]standing{}
	for _, s := range h.subjects {
		if in(s) {
			st := standings[seriesOf(s)]
			st.add(now, h.pace.of(s), s, h.last[s.ID()])
			standings[seriesOf(s)] = st
		}
	}
	return standings
}
