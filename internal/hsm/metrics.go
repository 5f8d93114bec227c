package hsm

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
)

// metrics are counted on the network side: the HSM side has no listener.
type metrics struct {
	up         prometheus.Gauge
	degraded   prometheus.Gauge
	pinRefused prometheus.Gauge
	restarts   prometheus.Counter
	duration   *prometheus.HistogramVec
}

// newMetrics registers with reg, unless that is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_hsm_up", Help: "Whether the HSM process answers (1) or not (0).",
		}),
		degraded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_hsm_degraded", Help: "Whether the HSM process said that it cannot work (1), such as for want of a wrap mechanism or a PIN.",
		}),
		pinRefused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_hsm_pin_refused", Help: "Whether the token refused the PIN (1). It is not tried again until it changes.",
		}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyd_hsm_restarts_total", Help: "Times that keyd started the HSM process again after it ended.",
		}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keyd_hsm_call_duration_seconds",
			Help:    "Time of calls to the HSM process, by call and outcome (ok, retry, ambiguous, refused, fatal).",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60, 120},
		}, []string{"call", "outcome"}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.up, m.degraded, m.pinRefused, m.restarts, m.duration)
	return m
}

func (m *metrics) observe(call string, begun time.Time, err error) {
	outcome := "ok"
	if err != nil {
		outcome = key.ClassOf(err).String()
	}
	m.duration.WithLabelValues(call, outcome).Observe(time.Since(begun).Seconds())
	m.setUp(!IsCode(err, Connection))
	if IsCode(err, PINRefused) {
		m.described(true, true)
	}
}

func (m *metrics) setUp(up bool) { m.up.Set(number(up)) }

func (m *metrics) described(degraded, pinRefused bool) {
	m.degraded.Set(number(degraded))
	m.pinRefused.Set(number(pinRefused))
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
