package daemon

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
)

// metrics shows the state of the daemon itself.
type metrics struct {
	ready      prometheus.Gauge
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, version string) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyd", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	build := prometheus.NewGaugeVec(
		prometheus.GaugeOpts{
			Namespace: "keyd",
			Name:      "build_info",
			Help:      "1, with the version of keyd and of Go as labels.",
		},
		[]string{"version", "goversion"},
	)
	reg.MustRegister(build)
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m := &metrics{
		ready: gauge("ready", "1 once keyd has looked at every vault."),
		reloadOK: gauge(
			"config_last_reload_successful",
			"Whether the last reload of the configuration succeeded (1); the start counts as one.",
		),
		reloadTime: gauge(
			"config_last_reload_success_timestamp_seconds",
			"When the configuration was last loaded without a mistake.",
		),
	}
	m.reloaded(true)
	return m
}

func (m *metrics) reloaded(ok bool) {
	if !ok {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
}

// metricsPause is how often keyd updates the metrics from the records.
const metricsPause = 5 * time.Second

// keepMetrics updates the loop's metrics from the records: a key's at once after its event, and all of them from time
// to time, because some values change with time alone. Then it also counts the looks for the vaults' histories.
func (d *Daemon) keepMetrics(ctx context.Context) {
	events := d.hub.subscribe(ctx)
	tick := time.NewTicker(metricsPause)
	defer tick.Stop()
	d.showRecords(ctx, "")
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			d.showRecords(ctx, e.Key)
			if e.Phase == status.Done && e.Step == string(plan.Prove) {
				d.health.Refresh()
			}
			if e.Phase == status.Done && (e.Step == string(plan.Finish) || e.Step == string(plan.Hold)) {
				d.keeper.Poke()
			}
		case <-tick.C:
			d.showRecords(ctx, "")
			d.noteLooks()
		}
	}
}

// showRecords updates the metrics from the records of one key, or of all keys and vaults.
func (d *Daemon) showRecords(ctx context.Context, name string) {
	if name == "" {
		d.showVaultRecords(ctx)
	}
	for _, known := range d.loop.Names() {
		if name != "" && name != known {
			continue
		}
		p, ok := d.loop.Policy(known)
		rec, err := d.store.Load(ctx, known)
		if !ok || err != nil {
			continue // the store's own metrics count it
		}
		d.rotator.Metrics.Recorded(time.Now(), p, &rec)
	}
}

// noteLooks counts what the newest looks at the keys saw.
func (d *Daemon) noteLooks() {
	for _, name := range d.loop.Names() {
		d.histories.Looked(d.observer.Last(name))
	}
}
