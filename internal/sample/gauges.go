package sample

import "github.com/prometheus/client_golang/prometheus"

// Gauges are series that a room makes when somebody scrapes. A Collector makes them under its lock, and sends them
// without it.
type Gauges []prometheus.Metric

// Add adds a series with the values of its labels, in the order of the metric's labels.
func (g *Gauges) Add(d *prometheus.Desc, v float64, labels ...string) {
	*g = append(*g, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...))
}

// Send hands the series to a registry.
func (g Gauges) Send(out chan<- prometheus.Metric) {
	for _, series := range g {
		out <- series
	}
}
