package rotate

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
)

// Metrics counts what the loop does and shows where each key stands.
type Metrics struct {
	generation   *prometheus.GaugeVec
	held         *prometheus.GaugeVec
	partial      *prometheus.GaugeVec
	next         *prometheus.GaugeVec
	last         *prometheus.GaugeVec
	started      *prometheus.GaugeVec
	requested    *prometheus.GaugeVec
	rotations    *prometheus.CounterVec
	steps        *prometheus.CounterVec
	stepDuration *prometheus.HistogramVec
	stepFailures *prometheus.GaugeVec
	placements   *prometheus.GaugeVec
	drift        *prometheus.GaugeVec
	expires      *prometheus.GaugeVec
	unreadable   *prometheus.GaugeVec
	vaultUp      *prometheus.GaugeVec
	vaultSeen    *prometheus.GaugeVec

	mu    sync.Mutex
	looks map[string][]string // names of the vaults that a key was looked for in last
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
		looks:        map[string][]string{},
		generation:   gauge("key_generation", "Number of the latest generation that is active everywhere, 0 for none.", "key"),
		held:         gauge("key_held", "1 while the key is held, by the code of the hold and the vault that gave cause, empty for none.", "key", "vault", "code"),
		partial:      gauge("key_partial", "1 while the latest generation is active in other vaults of the key and not in this one.", "key", "vault"),
		next:         gauge("key_next_rotation_timestamp_seconds", "When the schedule makes the next rotation due, 0 for never.", "key"),
		last:         gauge("key_last_rotation_timestamp_seconds", "When the latest generation was reserved, 0 for never.", "key"),
		started:      gauge("rotation_started_timestamp_seconds", "When the rotation under way was reserved, 0 while there is none.", "key"),
		requested:    gauge("rotation_requested_timestamp_seconds", "When the oldest request for a rotation that is not answered yet was made, 0 for none.", "key", "compromise"),
		rotations:    counter("rotations_total", "Rotations that ended, by outcome.", "key", "outcome"),
		steps:        counter("steps_total", "Steps of the loop, by kind and outcome.", "step", "outcome"),
		stepFailures: gauge("step_failures", "Steps of the key in the vault, empty for steps without one, that have failed in a row.", "key", "vault"),
		placements:   gauge("placements", "Placements of the key in a vault, by state.", "key", "vault", "state"),
		drift:        gauge("drift", "1 while a vault or the HSM shows something that keyd did not do.", "key", "vault", "kind"),
		expires:      gauge("version_expiry_timestamp_seconds", "When the newest version of the key in a vault expires and can no longer be wrapped with, 0 for never.", "key", "vault"),
		unreadable:   gauge("rotation_policy_unreadable", "1 while a vault does not tell whether it rotates the key itself.", "key", "vault"),
		vaultUp:      gauge("vault_up", "1 if the last look at the vault succeeded.", "vault"),
		vaultSeen:    gauge("vault_last_seen_timestamp_seconds", "When a look at the vault last succeeded.", "vault"),
		stepDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "keyd", Name: "step_duration_seconds", Help: "How long a step took.", Buckets: prometheus.ExponentialBuckets(0.005, 4, 8)}, []string{"step"}),
	}
	reg.MustRegister(m.stepDuration)
	for _, kind := range Kinds() {
		for _, outcome := range []string{"done", "failed"} {
			m.steps.WithLabelValues(string(kind), outcome)
		}
	}
	return m
}

func (m *Metrics) stepped(p key.Policy, s Step, rec key.Record, elapsed time.Duration, err error) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	m.failedInARow(p.Key, vaultName(p, &rec, s.Vault), err != nil)
	m.steps.WithLabelValues(string(s.Kind), outcome).Inc()
	m.stepDuration.WithLabelValues(string(s.Kind)).Observe(elapsed.Seconds())
	switch {
	case err == nil && s.Kind == Finish:
		m.rotations.WithLabelValues(p.Key, "done").Inc()
	case err == nil && s.Kind == Hold && rec.Hold.Code == key.HoldRefuted:
		m.rotations.WithLabelValues(p.Key, "failed").Inc()
	}
}

// Recorded shows where a key stands by its record.
func (m *Metrics) Recorded(now time.Time, p key.Policy, rec key.Record) {
	name := p.Key
	m.rotations.WithLabelValues(name, "done")
	m.rotations.WithLabelValues(name, "failed")
	m.stepFailures.WithLabelValues(name, "")
	finished, started := 0, time.Time{}
	for _, g := range rec.Generations {
		if !g.Finished.IsZero() {
			finished = g.Number
		}
	}
	if g := rec.Latest(); g != nil && g.Finished.IsZero() {
		started = g.Reserved
	}
	m.generation.WithLabelValues(name).Set(float64(finished))
	m.started.WithLabelValues(name).Set(unix(started))
	lacking := lacking(p, &rec)
	m.partial.DeletePartialMatch(prometheus.Labels{"key": name})
	for _, v := range p.Vaults {
		m.partial.WithLabelValues(name, v.Name).Set(truth(slices.Contains(lacking, v.URL)))
	}
	m.next.WithLabelValues(name).Set(unix(NextRotation(now, p, &rec)))
	m.last.WithLabelValues(name).Set(unix(rec.LastRotation()))
	m.held.DeletePartialMatch(prometheus.Labels{"key": name})
	if rec.Hold != nil {
		m.held.WithLabelValues(name, vaultName(p, &rec, rec.Hold.Vault), string(rec.Hold.Code)).Set(1)
	}
	m.requested.WithLabelValues(name, "no").Set(unix(oldestRequest(&rec, false)))
	m.requested.WithLabelValues(name, "yes").Set(unix(oldestRequest(&rec, true)))
	m.placements.DeletePartialMatch(prometheus.Labels{"key": name})
	for _, g := range rec.Generations {
		for _, at := range g.Placements {
			m.placements.WithLabelValues(name, at.VaultName, string(at.State)).Inc()
		}
	}
}

// failedInARow counts a step that failed in a vault, and forgets all of a key's when
// one succeeds.
func (m *Metrics) failedInARow(name, vault string, failed bool) {
	if failed {
		m.stepFailures.WithLabelValues(name, vault).Inc()
		return
	}
	m.stepFailures.DeletePartialMatch(prometheus.Labels{"key": name})
	m.stepFailures.WithLabelValues(name, "")
}

// vaultName is the nickname of a vault's URL, also of one that has left the policy.
func vaultName(p key.Policy, r *key.Record, url string) string {
	for _, v := range p.Vaults {
		if v.URL == url {
			return v.Name
		}
	}
	for _, g := range r.Generations {
		for _, at := range g.Placements {
			if at.Vault == url {
				return at.VaultName
			}
		}
	}
	return url
}

// oldestRequest is when the longest waiting request was made, among those because
// of a compromise or among the others; zero for none.
func oldestRequest(r *key.Record, compromise bool) (at time.Time) {
	for _, q := range r.Requests {
		if q.Compromise == compromise && (at.IsZero() || q.At.Before(at)) {
			at = q.At
		}
	}
	return at
}

// ForgetVault drops the series of a vault that has left the configuration.
func (m *Metrics) ForgetVault(name string) {
	m.vaultUp.DeleteLabelValues(name)
	m.vaultSeen.DeleteLabelValues(name)
	m.drift.DeletePartialMatch(prometheus.Labels{"vault": name})
	m.unreadable.DeletePartialMatch(prometheus.Labels{"vault": name})
}

// Forget drops every series of a key that is managed no more.
func (m *Metrics) Forget(name string) {
	m.mu.Lock()
	delete(m.looks, name)
	m.mu.Unlock()
	labels := prometheus.Labels{"key": name}
	for _, v := range []*prometheus.GaugeVec{m.generation, m.held, m.partial, m.next, m.last, m.started, m.requested, m.stepFailures, m.placements, m.drift, m.expires, m.unreadable} {
		v.DeletePartialMatch(labels)
	}
	m.rotations.DeletePartialMatch(labels)
}

// forgetDrift drops what drifted of a key where the look saw, and where it is no longer
// looked for. That a vault or the HSM does not answer mends nothing there.
func (m *Metrics) forgetDrift(p key.Policy, o *Observation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stale := m.looks[p.Key]
	m.looks[p.Key] = nil
	if o.HSM.Err == nil {
		stale = append(stale, "")
	}
	for _, v := range p.Vaults {
		m.looks[p.Key] = append(m.looks[p.Key], v.Name)
		if seen := o.Vaults[v.URL]; seen.Err != nil && !seen.Unconfigured {
			stale = slices.DeleteFunc(stale, func(name string) bool { return name == v.Name })
		} else {
			stale = append(stale, v.Name)
		}
	}
	for _, name := range stale {
		labels := prometheus.Labels{"key": p.Key, "vault": name}
		m.drift.DeletePartialMatch(labels)
		m.unreadable.DeletePartialMatch(labels)
	}
}

// observed shows what a look found that keyd did not do.
func (m *Metrics) observed(p key.Policy, rec key.Record, o *Observation) {
	m.forgetDrift(p, o)
	for _, d := range Drifts(p, rec, o) {
		m.drift.WithLabelValues(p.Key, d.Vault.Name, string(d.Kind)).Set(1)
	}
	for _, v := range p.Vaults {
		seen := o.Vaults[v.URL]
		if seen.Unconfigured {
			continue // nobody is to mend it
		}
		m.vaultUp.WithLabelValues(v.Name).Set(truth(seen.Err == nil))
		if seen.Err != nil {
			continue
		}
		m.vaultSeen.WithLabelValues(v.Name).Set(unix(seen.Begun))
		m.unreadable.WithLabelValues(p.Key, v.Name).Set(truth(seen.PolicyErr != nil))
		if newest, ok := seen.version(seen.Newest); ok {
			m.expires.WithLabelValues(p.Key, v.Name).Set(unix(newest.Expires))
		}
	}
}

// Partial reports whether the latest generation is active in some, and not all, of
// the policy's vaults.
func Partial(p key.Policy, r *key.Record) bool { return len(lacking(p, r)) > 0 }

// lacking lists the URLs of the vaults in which the latest generation is not active,
// if it is in another one.
func lacking(p key.Policy, r *key.Record) (urls []string) {
	g := r.Latest()
	if g == nil || g.Fingerprint == "" {
		return nil
	}
	for _, v := range p.Vaults {
		if at := g.In(v.URL); at == nil || !at.Good() {
			urls = append(urls, v.URL)
		}
	}
	if len(urls) == len(p.Vaults) {
		return nil
	}
	return urls
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
