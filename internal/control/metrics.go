package control

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	requests    *prometheus.CounterVec
	connections prometheus.Gauge
	dropped     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_control_requests_total",
			Help: "Requests on the control socket, by what was asked and how it ended.",
		}, []string{"request", "result"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_control_connections",
			Help: "Open connections on the control socket.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyd_control_connections_dropped_total",
			Help: "Connections closed because their user had too many open.",
		}),
	}
	reg.MustRegister(m.requests, m.connections, m.dropped)
	for _, r := range routes() {
		for _, result := range []string{kindOK, kindFailed, kindUsage, kindRefused} {
			m.requests.WithLabelValues(r.name, result)
		}
	}
	return m
}
