package observe

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/sample"
)

// showExpiry is how long before its end keyd shows when the newest version of a key expires. It is longer than
// key.ExpiryNotice, so that the date is there before the first warning.
const showExpiry = 30 * 24 * time.Hour

// Metrics shows what the newest looks found. A key of which all is as it should be has no series here.
type Metrics struct {
	drift      *prometheus.Desc
	expires    *prometheus.Desc
	unreadable *prometheus.Desc
	away       *prometheus.Desc
	vaultUp    *prometheus.GaugeVec
	vaultSeen  *prometheus.GaugeVec

	clock func() time.Time
	mu    sync.Mutex
	keys  map[string]map[string]found // by key, and by the name of the vault: "" is the HSM
	asked map[string]time.Time        // when the last look at a vault was, by its name
}

// found is what looks found of a key in a vault, or in the HSM.
type found struct {
	drifts     []plan.DriftKind
	unreadable bool
	away       bool      // the vault did not answer the last look
	expires    time.Time // zero: never, or not known
}

func (f found) nothing() bool {
	return len(f.drifts) == 0 && !f.unreadable && !f.away && f.expires.IsZero()
}

// NewMetrics registers the metrics of looks.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyd_"+name, help, labels, nil)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "keyd", Name: name, Help: help}, []string{"vault"})
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		clock: time.Now, keys: map[string]map[string]found{}, asked: map[string]time.Time{},
		drift: desc("drift", "1 while a vault or the HSM shows something that keyd did not do; "+
			"key is empty for what concerns a whole vault.", "key", "vault", "kind"),
		expires: desc("version_expiry_timestamp_seconds", "When the newest version of the key in a vault expires, "+
			"after which nobody can wrap with it; no series until 30 days before.", "key", "vault"),
		unreadable: desc("rotation_policy_unreadable", "1 while a vault does not show whether it rotates the "+
			"key itself; no series otherwise.", "key", "vault"),
		away: desc("key_vault_unreachable", "1 while the last look at the key in a vault failed; no series otherwise.",
			"key", "vault"),
		vaultUp:   gauge("vault_up", "1 if the last look at the vault succeeded."),
		vaultSeen: gauge("vault_last_seen_timestamp_seconds", "When the vault last answered a look."),
	}
	reg.MustRegister(m)
	return m
}

// observed shows the drift that a look found. If a vault or the HSM does not answer, its drift stays: nothing is known
// to be fixed.
func (m *Metrics) observed(p key.Policy, rec record.Record, o *record.Observation) {
	now := map[string]found{"": {}}
	var unclear []string // vaults with versions that nobody can call keyd's or foreign now
	for _, v := range p.Vaults {
		seen := o.Vaults[v.URL]
		if seen.Unconfigured {
			continue // nobody has to fix it
		}
		m.answered(v.Name, seen)
		if seen.Err != nil {
			continue
		}
		f := found{unreadable: seen.PolicyErr != nil}
		if newest, ok := seen.Version(seen.Newest); ok {
			f.expires = newest.Expires
		}
		now[v.Name] = f
		if o.HSM.Err != nil && len(rec.Foreign(v.URL, seen.Versions)) > 0 {
			unclear = append(unclear, v.Name)
		}
	}
	for _, d := range plan.Drifts(plan.Input{Policy: p, Record: &rec, Seen: o}) {
		f := now[d.Vault.Name]
		f.drifts = append(f.drifts, d.Kind)
		now[d.Vault.Name] = f
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.keys[p.Key]
	if o.HSM.Err != nil {
		now[""] = before[""]
	}
	for _, vault := range unclear {
		if f := now[vault]; slices.Contains(before[vault].drifts, plan.DriftForeign) &&
			!slices.Contains(f.drifts, plan.DriftForeign) {
			f.drifts = append(f.drifts, plan.DriftForeign)
			now[vault] = f
		}
	}
	for _, v := range p.Vaults {
		if seen := o.Vaults[v.URL]; seen.Err != nil && !seen.Unconfigured {
			f := before[v.Name]
			f.away = true
			now[v.Name] = f
		}
	}
	maps.DeleteFunc(now, func(_ string, f found) bool { return f.nothing() })
	if len(now) == 0 {
		delete(m.keys, p.Key)
		return
	}
	m.keys[p.Key] = now
}

// answered shows whether a vault answered, unless a newer look at another key showed it.
func (m *Metrics) answered(vault string, seen record.VaultSeen) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, newest := seen.AsOf(), m.asked[vault]
	if at.Before(newest) && !newest.After(m.clock()) { // otherwise somebody put the clock back
		return
	}
	m.asked[vault] = at
	m.vaultUp.WithLabelValues(vault).Set(sample.Bool(seen.Err == nil))
	if seen.Err == nil {
		m.vaultSeen.WithLabelValues(vault).Set(sample.Time(at))
	}
}

// Describe is for the registry.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.drift
	out <- m.expires
	out <- m.unreadable
	out <- m.away
}

// Collect is for the registry.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.shown().Send(out)
}

func (m *Metrics) shown() (all sample.Gauges) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	wide := map[[2]string]bool{}
	for name, vaults := range m.keys {
		for vault, f := range vaults {
			for _, kind := range f.drifts {
				if kind.OfVault() {
					wide[[2]string{vault, string(kind)}] = true
				} else {
					all.Add(m.drift, 1, name, vault, string(kind))
				}
			}
			if f.unreadable {
				all.Add(m.unreadable, 1, name, vault)
			}
			if f.away {
				all.Add(m.away, 1, name, vault)
			}
			if !f.expires.IsZero() && f.expires.Sub(now) < showExpiry {
				all.Add(m.expires, sample.Time(f.expires), name, vault)
			}
		}
	}
	for at := range wide {
		all.Add(m.drift, 1, "", at[0], at[1])
	}
	return all
}

// Forget drops every series of a key that keyd no longer manages.
func (m *Metrics) Forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, name)
}

// ForgetVault drops the series of a vault that left the configuration.
func (m *Metrics) ForgetVault(name string) {
	m.vaultUp.DeleteLabelValues(name)
	m.vaultSeen.DeleteLabelValues(name)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.asked, name)
	for _, vaults := range m.keys {
		delete(vaults, name)
	}
}
