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

// Metrics counts and shows the outcomes of proofs. Of a key whose proofs pass it shows one series; the others of a key
// are there while something is wrong. It makes them when somebody scrapes, so a proof pays nothing for them.
type Metrics struct {
	proven  *prometheus.Desc
	oldest  *prometheus.Desc
	success *prometheus.Desc
	result  *prometheus.Desc
	wrap    *prometheus.Desc
	collect func() sample.Gauges // nil: there is nothing to show yet

	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	expected *prometheus.GaugeVec
	wanted   *prometheus.GaugeVec
}

// NewMetrics registers the metrics of proofs.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyd_"+name, help, labels, nil)
	}
	m := &Metrics{
		proven: desc("key_proven_timestamp_seconds",
			"When a proof of the key's newest version last passed; of several vaults, in the one where that is "+
				"longest ago.", "key"),
		oldest: desc("proof_oldest_success_timestamp_seconds",
			"When a proof last passed of that version in the vault for which that is longest ago.", "vault", "age"),
		success: desc("proof_last_success_timestamp_seconds",
			"Only while the proofs of a version fail, or none has passed for twice their interval: when one last "+
				"passed; for the older versions, the oldest of their last passes.", "key", "vault", "age"),
		result: desc("proof_last_result",
			"0 after a refuted proof, or after two inconclusive ones in a row; no series otherwise. certain is "+
				"yes if the version itself fails its consumers, no if keyd does not know.",
			"key", "vault", "age", "certain", "reason"),
		wrap: desc("proof_wrap_failing",
			"1 while last_result is 0 only because the vault does not wrap or sign, and still unwraps; no series "+
				"otherwise.", "key", "vault", "age"),
		expected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "keyd", Name: "proof_expected_interval_seconds",
			Help: "The longest time between two proofs of one version, by what the vault's limits allow.",
		}, []string{"vault", "age"}),
		wanted: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "keyd", Name: "proof_configured_interval_seconds",
			Help: "The longest time between two proofs of one version, as configured.",
		}, []string{"age"}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "keyd", Name: "proofs_total",
			Help: "Proofs that ended, by outcome, deciding leg (empty if passed) and reason (only if inconclusive).",
		}, []string{"vault", "outcome", "leg", "reason"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "keyd", Name: "proof_duration_seconds", Help: "How long a proof took.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 8),
		}, []string{"vault"}),
	}
	reg.MustRegister(m, m.expected, m.wanted, m.total, m.duration)
	return m
}

// Describe is for the registry.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.proven, m.oldest, m.success, m.result, m.wrap} {
		out <- d
	}
}

// Collect is for the registry.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	if m.collect != nil {
		m.collect().Send(out)
	}
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

// has makes the counter of a vault in which there is something to prove.
func (m *Metrics) has(vault string) { m.total.WithLabelValues(vault, string(key.Passed), "", "") }

// ForgetVault drops what was counted of a vault that left the configuration.
func (m *Metrics) ForgetVault(vault string) {
	m.total.DeletePartialMatch(prometheus.Labels{"vault": vault})
	m.duration.DeleteLabelValues(vault)
}

func (m *Metrics) ended(s Subject, r proof.Result, took time.Duration) {
	m.total.WithLabelValues(s.VaultName, string(r.Outcome), string(r.Leg), string(reasonOf(r))).Inc()
	m.duration.WithLabelValues(s.VaultName).Observe(took.Seconds())
}
