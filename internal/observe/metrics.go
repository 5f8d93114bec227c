package observe

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/sample"
)

// Metrics shows what the newest looks found.
type Metrics struct {
	drift      *prometheus.GaugeVec
	expires    *prometheus.GaugeVec
	unreadable *prometheus.GaugeVec
	vaultUp    *prometheus.GaugeVec
	vaultSeen  *prometheus.GaugeVec

	mu    sync.Mutex
	looks map[string][]string // names of the vaults in which the last look asked for the key
}

// NewMetrics registers the metrics of looks.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "keyd", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	return &Metrics{
		looks: map[string][]string{},
		drift: gauge("drift", "1 while a vault or the HSM shows something that keyd did not do.", "key",
			"vault", "kind"),
		expires: gauge("version_expiry_timestamp_seconds", "When the newest version of the key in a vault expires, "+
			"after which nobody can wrap with it, 0 for never.", "key", "vault"),
		unreadable: gauge("rotation_policy_unreadable", "1 while a vault does not show whether it rotates the "+
			"key itself.", "key", "vault"),
		vaultUp:   gauge("vault_up", "1 if the last look at the vault succeeded.", "vault"),
		vaultSeen: gauge("vault_last_seen_timestamp_seconds", "When a look at the vault last succeeded.", "vault"),
	}
}

// observed shows the drift that a look found.
func (m *Metrics) observed(p key.Policy, rec record.Record, o *record.Observation) {
	m.forgetDrift(p, o)
	for _, d := range plan.Drifts(plan.Input{Policy: p, Record: &rec, Seen: o}) {
		m.drift.WithLabelValues(p.Key, d.Vault.Name, string(d.Kind)).Set(1)
	}
	for _, v := range p.Vaults {
		seen := o.Vaults[v.URL]
		if seen.Unconfigured {
			continue // nobody has to fix it
		}
		m.vaultUp.WithLabelValues(v.Name).Set(sample.Bool(seen.Err == nil))
		if seen.Err != nil {
			continue
		}
		m.vaultSeen.WithLabelValues(v.Name).Set(sample.Time(seen.Begun))
		m.unreadable.WithLabelValues(p.Key, v.Name).Set(sample.Bool(seen.PolicyErr != nil))
		if newest, ok := seen.Version(seen.Newest); ok {
			m.expires.WithLabelValues(p.Key, v.Name).Set(sample.Time(newest.Expires))
		}
	}
}

// forgetDrift drops a key's drift where the last look could see, and where keyd no longer looks. If a vault or the
// HSM does not answer, its drift stays: nothing is known to be fixed.
func (m *Metrics) forgetDrift(p key.Policy, o *record.Observation) {
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

// Forget drops every series of a key that keyd no longer manages.
func (m *Metrics) Forget(name string) {
	m.mu.Lock()
	delete(m.looks, name)
	m.mu.Unlock()
	for _, v := range []*prometheus.GaugeVec{m.drift, m.expires, m.unreadable} {
		v.DeletePartialMatch(prometheus.Labels{"key": name})
	}
}

// ForgetVault drops the series of a vault that left the configuration.
func (m *Metrics) ForgetVault(name string) {
	m.vaultUp.DeleteLabelValues(name)
	m.vaultSeen.DeleteLabelValues(name)
	m.drift.DeletePartialMatch(prometheus.Labels{"vault": name})
	m.unreadable.DeletePartialMatch(prometheus.Labels{"vault": name})
}
