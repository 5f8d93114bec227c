package daemon

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
)

// metrics shows the state of the daemon itself.
type metrics struct {
	ready      prometheus.Gauge
	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
	hsmDiffers prometheus.Gauge
	proposals  prometheus.Gauge
	oldest     prometheus.Gauge
}

// newMetrics makes them; led are those that only the leader exports.
func newMetrics(reg, led prometheus.Registerer, version string) *metrics {
	gaugeIn := func(reg prometheus.Registerer, name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "keyd", Name: name, Help: help})
		reg.MustRegister(g)
		return g
	}
	gauge := func(name, help string) prometheus.Gauge { return gaugeIn(reg, name, help) }
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
		ready: gauge("ready", "1 once keyd has looked at every vault, or follows a leader."),
		reloadOK: gauge(
			"config_last_reload_successful",
			"Whether the last reload of the configuration succeeded (1); the start counts as one.",
		),
		reloadTime: gauge(
			"config_last_reload_success_timestamp_seconds",
			"When the configuration was last loaded without a mistake.",
		),
		hsmDiffers: gauge(
			"hsm_config_differs",
			"1 while the HSM side acts on another configuration than the daemon, or cannot use the one on the disk.",
		),
	}
	m.proposals = gaugeIn(led, "proposals", "Acts that wait for a second operator.")
	m.oldest = gaugeIn(
		led,
		"proposal_oldest_timestamp_seconds",
		"When the oldest act that waits for a second operator was proposed, or since when settings of the "+
			"configuration are not in force because they need one; 0 for none.",
	)
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

// waiting shows the acts that wait for a second operator, oldest first, and since when settings are not in force for
// want of one; zero: all are.
func (m *metrics) waiting(list []key.Proposal, since time.Time) {
	m.proposals.Set(float64(len(list)))
	if len(list) > 0 && (since.IsZero() || list[0].Since.Before(since)) {
		since = list[0].Since
	}
	m.oldest.Set(0)
	if !since.IsZero() {
		m.oldest.Set(float64(since.Unix()))
	}
}

// metricsPause is how often keyd looks for changes that no event announced.
const metricsPause = 5 * time.Second

// keepMetrics updates the loop's metrics from the records: a key's at once after its event, and from time to time
// those of every key that changed without one.
func (d *Daemon) keepMetrics(ctx context.Context) {
	events := d.hub.subscribe(ctx)
	tick := time.NewTicker(metricsPause)
	defer tick.Stop()
	d.showRecords(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			d.showRecord(ctx, e.Key)
			if e.Phase == status.Done && e.Step == string(plan.Prove) {
				d.health.Refresh()
			}
			if e.Phase == status.Done && (e.Step == string(plan.Finish) || e.Step == string(plan.Hold)) {
				d.keeper.Poke()
			}
		case <-tick.C:
			d.showRecords(ctx)
		}
	}
}

// showRecords updates the metrics from all records.
func (d *Daemon) showRecords(ctx context.Context) {
	d.showVaultRecords(ctx)
	d.keepProposals(ctx, d.current(ctx, time.Now()))
}

// showRecord updates the metrics of one key from its record.
func (d *Daemon) showRecord(ctx context.Context, name string) {
	p, ok := d.loop.Policy(name)
	if !ok {
		return // an event of a vault
	}
	if rec, err := d.store.Load(ctx, p.Key); err == nil { // the store's own metrics count it
		d.rotator.Metrics.Recorded(time.Now(), p, &rec)
		d.rotator.Metrics.Looked(p, &rec, d.observer.Last(p.Key))
	}
}
