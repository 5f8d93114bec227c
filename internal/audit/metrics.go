package audit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics shows how far the audit chain is signed.
type Metrics struct {
	last     prometheus.Gauge
	entries  prometheus.Gauge
	failures prometheus.Counter
	isBroken prometheus.Gauge
}

// NewMetrics registers the metrics with reg; nil registers none.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		last: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyd",
			Name: "audit_last_checkpoint_timestamp_seconds",
			Help: "When a checkpoint of the audit chain was last signed; of a chain that has none yet, when " +
				"it began."}),
		entries: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyd", Name: "audit_signed_entries",
			Help: "Entries of the audit chain that the last checkpoint covers."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "keyd",
			Name: "audit_checkpoint_failures_total",
			Help: "Checkpoints of the audit chain that could not be signed or recorded."}),
		isBroken: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyd", Name: "audit_broken",
			Help: "1 if the audit chain is not the one that the audit key signed, as far as the last try to sign it " +
				"showed."}),
	}
	if reg != nil {
		reg.MustRegister(m.last, m.entries, m.failures, m.isBroken)
	}
	return m
}

func (m *Metrics) read(at time.Time, entries uint64) {
	if !at.IsZero() {
		m.last.Set(float64(at.Unix()))
	}
	m.entries.Set(float64(entries))
}

func (m *Metrics) failed() { m.failures.Inc() }

func (m *Metrics) broken(yes bool) {
	m.isBroken.Set(0)
	if yes {
		m.isBroken.Set(1)
	}
}
