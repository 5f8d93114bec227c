package hsm

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/recent"
)

// metrics are counted on the network side, because the HSM side has no listener.
type metrics struct {
	up         prometheus.Gauge
	degraded   prometheus.Gauge
	pinRefused prometheus.Gauge
	pinState   *prometheus.GaugeVec
	restarts   prometheus.Counter
	losses     prometheus.Counter
	duration   *prometheus.HistogramVec

	isUp  atomic.Bool // the value of up
	lost  *recent.Counter
	clock func() time.Time
}

// LossSpan is how far back Client.Lost counts.
const LossSpan = 30 * time.Minute

// newMetrics makes the metrics and registers them with reg, unless it is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_hsm_up", Help: "Whether the HSM process answers (1) or not (0).",
		}),
		degraded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_hsm_degraded",
			Help: "Whether the HSM process reports that it cannot work (1), for example without a PIN.",
		}),
		pinRefused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_hsm_pin_refused",
			Help: "Whether the token refused the PIN (1). keyd does not try the PIN again until it changes.",
		}),
		pinState: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "keyd_hsm_pin_state",
			Help: "1 for the state of the user PIN that the token last reported, 0 for the others.",
		}, []string{"state"}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyd_hsm_restarts_total", Help: "Times that keyd started the HSM process again after it ended.",
		}),
		losses: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyd_hsm_losses_total", Help: "Times that the HSM process no longer answered after it had answered.",
		}),
		lost: recent.New(LossSpan), clock: time.Now,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keyd_hsm_call_duration_seconds",
			Help:    "Time of calls to the HSM process, by call and outcome (ok, retry, ambiguous, refused, fatal).",
			Buckets: []float64{.001, .005, .025, .1, .5, 2, 10, 60, 120},
		}, []string{"call", "outcome"}),
	}
	m.pinIs("")
	if reg == nil {
		return m
	}
	reg.MustRegister(m.up, m.degraded, m.pinRefused, m.pinState, m.restarts, m.losses, m.duration)
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
		m.pinIs(key.PINRefused)
	}
}

// setUp notes whether the HSM side answers. If it recovers between two scrapes, or before the next call, only the
// count of losses shows it.
func (m *metrics) setUp(up bool) {
	m.up.Set(number(up))
	if was := m.isUp.Swap(up); was && !up {
		m.losses.Inc()
		m.lost.Add(m.clock())
	}
}

// Lost returns how often the HSM side stopped answering within the last LossSpan.
func (c *Client) Lost() int { return c.metrics.lost.Sum(c.metrics.clock()) }

func (m *metrics) described(degraded, pinRefused bool) {
	m.degraded.Set(number(degraded))
	m.pinRefused.Set(number(pinRefused))
}

// pinIs shows the state of the user PIN; "" means unknown.
func (m *metrics) pinIs(now key.PINState) {
	for _, s := range key.PINStates() {
		m.pinState.WithLabelValues(strings.ReplaceAll(string(s), " ", "-")).Set(number(s == now))
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
