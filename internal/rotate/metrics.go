package rotate

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/sample"
)

// Metrics counts the steps of the loop and shows the state of each key.
type Metrics struct {
	generation   *prometheus.GaugeVec
	held         *prometheus.GaugeVec
	partial      *prometheus.GaugeVec
	spares       *prometheus.GaugeVec
	next         *prometheus.GaugeVec
	last         *prometheus.GaugeVec
	started      *prometheus.GaugeVec
	requested    *prometheus.GaugeVec
	rotations    *prometheus.CounterVec
	steps        *prometheus.CounterVec
	stepDuration *prometheus.HistogramVec
	stepFailures *prometheus.GaugeVec
	placements   *prometheus.GaugeVec
	kekWaiting   *prometheus.GaugeVec
}

// NewMetrics registers the loop's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "keyd", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "keyd", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		generation: gauge("key_generation", "Number of the latest generation that is active everywhere, 0 for none.",
			"key"),
		held: gauge("key_held", "1 while the key is held, by the code of the hold and the vault that "+
			"caused it, empty for none.", "key", "vault", "code"),
		partial: gauge("key_partial", "1 while the latest generation is active in other vaults of the key and "+
			"not in this one.", "key", "vault"),
		spares: gauge("key_spares_missing", "Spares that the configuration asks for and that are not ready; no series "+
			"for a key without spares.", "key"),
		next: gauge("key_next_rotation_timestamp_seconds", "When the schedule makes the next rotation due, 0 "+
			"for never.", "key"),
		last: gauge("key_last_rotation_timestamp_seconds", "When the latest generation was reserved, 0 "+
			"for never.", "key"),
		started: gauge("rotation_started_timestamp_seconds", "When the rotation under way was reserved, 0 while "+
			"there is none.", "key"),
		requested: gauge("rotation_requested_timestamp_seconds", "When the oldest unanswered request for a "+
			"rotation was made, 0 for none.", "key", "compromise"),
		rotations: counter("rotations_total", "Rotations that ended, by outcome.", "key", "outcome"),
		steps:     counter("steps_total", "Steps of the loop, by kind and outcome.", "step", "outcome"),
		stepFailures: gauge("step_failures", "How many steps of the key failed in a row in the vault, empty "+
			"for steps without one.", "key", "vault"),
		placements: gauge("placements", "Placements of the key in a vault, by state.", "key", "vault", "state"),
		kekWaiting: gauge("kek_waiting_since_timestamp_seconds", "Since when a key exchange key of the vault has "+
			"waited for approval, 0 for none.", "vault"),
		stepDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "keyd", Name: "step_duration_seconds", Help: "How long a step took.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 8),
		}, []string{"step"}),
	}
	reg.MustRegister(m.stepDuration)
	for _, kind := range plan.Kinds() {
		for _, outcome := range []string{"done", "failed"} {
			m.steps.WithLabelValues(string(kind), outcome)
		}
	}
	return m
}

func (m *Metrics) stepped(p key.Policy, s plan.Step, rec *record.Record, elapsed time.Duration, err error) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	m.failedInARow(p.Key, rec.VaultName(p, s.Vault), err != nil)
	m.steps.WithLabelValues(string(s.Kind), outcome).Inc()
	m.stepDuration.WithLabelValues(string(s.Kind)).Observe(elapsed.Seconds())
	switch {
	case err == nil && s.Kind == plan.Finish:
		m.rotations.WithLabelValues(p.Key, "done").Inc()
	case err == nil && s.Kind == plan.Hold && rec.Hold.Code == key.HoldRefuted:
		m.rotations.WithLabelValues(p.Key, "failed").Inc()
	}
}

// steppedVault counts a step about a vault's KEKs, which belongs to no key.
func (m *Metrics) steppedVault(p key.VaultPolicy, s plan.Step, elapsed time.Duration, err error) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
		m.stepFailures.WithLabelValues("", p.Name).Inc()
	} else {
		m.stepFailures.DeleteLabelValues("", p.Name)
	}
	m.steps.WithLabelValues(string(s.Kind), outcome).Inc()
	m.stepDuration.WithLabelValues(string(s.Kind)).Observe(elapsed.Seconds())
}

// RecordedVault shows the state of a vault's KEKs according to the vault's record.
func (m *Metrics) RecordedVault(p key.VaultPolicy, rec *record.Vault) {
	var since time.Time
	if k := rec.Waiting(); k != nil {
		since = k.Made.Here
	}
	m.kekWaiting.WithLabelValues(p.Name).Set(sample.Time(since))
}

// ForgetVault drops every series of a vault that has left the configuration.
func (m *Metrics) ForgetVault(name string) {
	m.kekWaiting.DeleteLabelValues(name)
	m.stepFailures.DeleteLabelValues("", name)
}

// Recorded shows the state of a key according to its record.
func (m *Metrics) Recorded(now time.Time, p key.Policy, rec *record.Record) {
	name := p.Key
	m.rotations.WithLabelValues(name, "done")
	m.rotations.WithLabelValues(name, "failed")
	m.stepFailures.WithLabelValues(name, "")
	stage := rec.Stage(p)
	m.generation.WithLabelValues(name).Set(float64(stage.Active))
	m.started.WithLabelValues(name).Set(sample.Time(stage.Since))
	m.partial.DeletePartialMatch(prometheus.Labels{"key": name})
	for _, v := range p.Vaults {
		m.partial.WithLabelValues(name, v.Name).Set(sample.Bool(slices.Contains(stage.MissingFrom, v.URL)))
	}
	m.spares.DeleteLabelValues(name)
	if p.Spares > 0 {
		m.spares.WithLabelValues(name).Set(float64(p.Spares - rec.SparesReady(p)))
	}
	m.next.WithLabelValues(name).Set(sample.Time(plan.NextRotation(now, p, rec)))
	m.last.WithLabelValues(name).Set(sample.Time(rec.LastRotation()))
	m.held.DeletePartialMatch(prometheus.Labels{"key": name})
	if rec.Hold != nil {
		m.held.WithLabelValues(name, rec.VaultName(p, rec.Hold.Vault), string(rec.Hold.Code)).Set(1)
	}
	m.requested.WithLabelValues(name, "no").Set(sample.Time(rec.OldestRequest(false)))
	m.requested.WithLabelValues(name, "yes").Set(sample.Time(rec.OldestRequest(true)))
	m.placements.DeletePartialMatch(prometheus.Labels{"key": name})
	for at, n := range rec.Counts() {
		m.placements.WithLabelValues(name, at.VaultName, string(at.State)).Set(float64(n))
	}
}

// failedInARow counts a step that failed in a vault. A step that succeeds resets all counts of the key.
func (m *Metrics) failedInARow(name, vault string, failed bool) {
	if failed {
		m.stepFailures.WithLabelValues(name, vault).Inc()
		return
	}
	m.stepFailures.DeletePartialMatch(prometheus.Labels{"key": name})
	m.stepFailures.WithLabelValues(name, "")
}

// Forget drops every series of a key that keyd no longer manages.
func (m *Metrics) Forget(name string) {
	labels := prometheus.Labels{"key": name}
	for _, v := range []*prometheus.GaugeVec{
		m.generation, m.held, m.partial, m.spares, m.next, m.last, m.started, m.requested, m.stepFailures, m.placements,
	} {
		v.DeletePartialMatch(labels)
	}
	m.rotations.DeletePartialMatch(labels)
}
