package vault

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts requests to vaults. One Metrics serves all Clients.
type Metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	throttled *prometheus.CounterVec
	clockSkew *prometheus.GaugeVec
}

// NewMetrics makes the metrics and registers them with reg, unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_vault_requests_total",
			Help: "HTTP requests to a vault, retries included, by operation and class of the answer (2xx, 3xx, 4xx, 5xx, error).",
		}, []string{"vault", "operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keyd_vault_request_duration_seconds",
			Help:    "Time from sending a request to a vault to its whole answer.",
			Buckets: []float64{0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}, []string{"vault", "operation"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_vault_throttled_total",
			Help: "Answers 429 (too many requests) from a vault.",
		}, []string{"vault"}),
		clockSkew: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "keyd_vault_clock_skew_seconds",
			Help: "The vault's clock minus the local clock, by the last answer's Date header.",
		}, []string{"vault"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.throttled, m.clockSkew)
	}
	return m
}

// Forget drops the series of a vault that has left the configuration.
func (m *Metrics) Forget(vault string) {
	labels := prometheus.Labels{"vault": vault}
	m.requests.DeletePartialMatch(labels)
	m.duration.DeletePartialMatch(labels)
	m.throttled.DeletePartialMatch(labels)
	m.clockSkew.DeletePartialMatch(labels)
}

// observe counts one request; status 0 means that no answer arrived.
func (m *Metrics) observe(vault, operation string, status int, elapsed time.Duration) {
	code := "error"
	if status >= 200 && status < 600 {
		code = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(vault, operation, code).Inc()
	m.duration.WithLabelValues(vault, operation).Observe(elapsed.Seconds())
	if status == http.StatusTooManyRequests {
		m.throttled.WithLabelValues(vault).Inc()
	}
}
