package bolt

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	writes   *prometheus.CounterVec
	duration prometheus.Histogram
	entries  prometheus.Gauge
	healthy  prometheus.Gauge
}

// newMetrics registers the store's metrics; none if reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		writes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_store_writes_total",
			Help: "Transactions on the state file by outcome: " +
				"done, conflict (the record was changed meanwhile) or failed.",
		}, []string{"outcome"}),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "keyd_store_write_duration_seconds",
			Help:    "Time of one transaction on the state file, flushing to disk included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
		entries: f.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_audit_entries",
			Help: "Entries in the audit chain.",
		}),
		healthy: f.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_store_healthy",
			Help: "1 when the last write to the state file succeeded, 0 when it failed.",
		}),
	}
	for _, outcome := range []string{"done", "conflict", "failed"} {
		m.writes.WithLabelValues(outcome)
	}
	return m
}

func (m *metrics) wrote(err error, took time.Duration) {
	m.duration.Observe(took.Seconds())
	switch {
	case err == nil:
		m.writes.WithLabelValues("done").Inc()
		m.healthy.Set(1)
	case isConflict(err):
		m.writes.WithLabelValues("conflict").Inc()
	default:
		m.writes.WithLabelValues("failed").Inc()
		m.healthy.Set(0)
	}
}
