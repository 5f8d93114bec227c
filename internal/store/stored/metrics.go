package stored

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are a store's, the same ones on every engine.
type Metrics struct {
	writes   *prometheus.CounterVec
	duration prometheus.Histogram
	entries  prometheus.Gauge
	healthy  prometheus.Gauge
}

// NewMetrics registers a store's metrics; none if reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	m := &Metrics{
		writes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_store_writes_total",
			Help: "Transactions on the store by outcome: " +
				"done, conflict (the record was changed meanwhile) or failed.",
		}, []string{"outcome"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "keyd_store_write_duration_seconds",
			Help:    "Time of one transaction on the store, flushing to disk included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
		entries: f.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_audit_entries",
			Help: "Entries in the audit chain.",
		}),
		healthy: f.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_store_healthy",
			Help: "1 when the last write to the store succeeded, 0 when it failed.",
		}),
	}
	for _, outcome := range []string{"done", "conflict", "failed"} {
		m.writes.WithLabelValues(outcome)
	}
	return m
}

// Opened notes that a store was opened that has so many entries.
func (m *Metrics) Opened(entries uint64) {
	m.healthy.Set(1)
	m.Entries(entries)
}

// Entries notes how long the chain is now.
func (m *Metrics) Entries(n uint64) { m.entries.Set(float64(n)) }

// Wrote notes what became of a transaction.
func (m *Metrics) Wrote(err error, took time.Duration) {
	m.duration.Observe(took.Seconds())
	switch {
	case err == nil:
		m.writes.WithLabelValues("done").Inc()
		m.healthy.Set(1)
	case IsConflict(err):
		m.writes.WithLabelValues("conflict").Inc()
	default:
		m.writes.WithLabelValues("failed").Inc()
		m.healthy.Set(0)
	}
}
