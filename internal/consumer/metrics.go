package consumer

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts the requests to Azure about consumers. One Metrics serves all Clients.
type Metrics struct {
	requests  *prometheus.CounterVec
	throttled prometheus.Counter
}

// NewMetrics makes the metrics and registers them with reg, unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_consumer_requests_total",
			Help: "HTTP requests to Azure about consumers, by operation and answer (2xx to 5xx, error).",
		}, []string{"operation", "code"}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyd_consumer_throttled_total",
			Help: "Answers 429 (too many requests) from Resource Manager.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.throttled)
	}
	return m
}

// observe counts one request. Status 0 means that no answer arrived.
func (m *Metrics) observe(op operation, status int) {
	code := "error"
	if status >= 200 && status < 600 {
		code = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(op.name, code).Inc()
	if status == http.StatusTooManyRequests {
		m.throttled.Inc()
	}
}
