package rotate

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
	"github.com/keyd-project/keyd/internal/service"
)

// Metrics counts the steps of the loop and shows the state of each key. A key that is well has three series. keyd shows
// the others of a key only while there is something to show, and counts steps and placements for all keys together. It
// makes the series of keys when somebody scrapes.
type Metrics struct {
	generation *prometheus.Desc
	next       *prometheus.Desc
	last       *prometheus.Desc
	held       *prometheus.Desc
	partial    *prometheus.Desc
	spares     *prometheus.Desc
	unmoved    *prometheus.Desc
	exposed    *prometheus.Desc
	started    *prometheus.Desc
	requested  *prometheus.Desc
	failures   *prometheus.Desc
	placements *prometheus.Desc

	rotations    *prometheus.CounterVec
	steps        *prometheus.CounterVec
	stepDuration *prometheus.HistogramVec
	kekWaiting   *prometheus.GaugeVec

	mu     sync.Mutex
	keys   map[string]recorded
	shows  map[string][]exposure // by key, of those that have any
	failed map[failing]int       // steps in a row
}

// recorded is where a key stands by its record.
type recorded struct {
	stage      record.Stage
	next, last time.Time
	partial    []string // names of vaults
	spares     int      // how many are missing
	unmoved    []string // names of consumers that keyd could not move
	held       *held
	requested  [2]time.Time // the oldest request: another one, one because of a compromise
	placements []counted
}

// counted is how many placements are in a vault in a state.
type counted struct {
	at record.InState
	n  int
}

// held is a key's hold, with the name of the vault that gave cause.
type held struct{ vault, code string }

// failing is a key, and the name of a vault, whose steps fail. Either may be empty.
type failing struct{ key, vault string }

// NewMetrics registers the loop's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyd_"+name, help, labels, nil)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "keyd", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		keys: map[string]recorded{}, shows: map[string][]exposure{}, failed: map[failing]int{},
		generation: desc("key_generation", "Number of the latest generation that is active everywhere, 0 for none.",
			"key"),
		held: desc("key_held", "1 while the key is held, by the code of the hold and the vault that "+
			"caused it, empty for none; no series otherwise.", "key", "vault", "code"),
		partial: desc("key_partial", "1 while the latest generation is active in other vaults of the key and "+
			"not in this one; no series otherwise.", "key", "vault"),
		spares: desc(
			"key_spares_missing",
			"Spares that the configuration asks for and that are not ready; no series "+
				"while none is missing.",
			"key",
		),
		unmoved: desc(
			"key_repoint_failed",
			"1 after keyd could not move this consumer of the key, until an operator asks again; no series otherwise.",
			"key",
			"consumer",
		),
		exposed: desc("key_exposed_versions", "Enabled versions of compromised material that no operator has "+
			"acknowledged; no series while there is none.", "key", "vault"),
		next: desc("key_next_rotation_timestamp_seconds", "When the schedule makes the next rotation due, 0 "+
			"for never.", "key"),
		last: desc("key_last_rotation_timestamp_seconds", "When the latest generation was reserved, 0 "+
			"for never.", "key"),
		started: desc("rotation_started_timestamp_seconds", "When the rotation under way was reserved; no series "+
			"while there is none.", "key"),
		requested: desc("rotation_requested_timestamp_seconds", "When the oldest unanswered request for a "+
			"rotation was made; no series while there is none.", "key", "compromise"),
		rotations: counter("rotations_total", "Rotations that ended, by outcome.", "outcome"),
		steps:     counter("steps_total", "Steps of the loop, by kind and outcome.", "step", "outcome"),
		failures: desc("step_failures", "How many steps of the key failed in a row in the vault, empty "+
			"for steps without one; no series while none has failed.", "key", "vault"),
		placements: desc("placements", "Placements of all keys in a vault, by state.", "vault", "state"),
		kekWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "keyd", Name: "kek_waiting_since_timestamp_seconds",
			Help: "Since when a key exchange key of the vault has waited for approval, 0 for none.",
		}, []string{"vault"}),
		stepDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "keyd", Name: "step_duration_seconds", Help: "How long a step took.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 8),
		}, []string{"step"}),
	}
	reg.MustRegister(m, m.stepDuration, m.kekWaiting)
	for _, outcome := range []string{"done", "failed"} {
		m.rotations.WithLabelValues(outcome)
		for _, kind := range plan.Kinds() {
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
		m.rotations.WithLabelValues("done").Inc()
	case err == nil && s.Kind == plan.Hold && rec.Hold.Code == key.HoldRefuted:
		m.rotations.WithLabelValues("failed").Inc()
	}
}

// steppedVault counts a step about a vault's KEKs, which belongs to no key.
func (m *Metrics) steppedVault(p key.VaultPolicy, s plan.Step, elapsed time.Duration, err error) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	m.failedInARow("", p.Name, err != nil)
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
	m.failedInARow("", name, false)
}

// Recorded shows the state of a key according to its record.
func (m *Metrics) Recorded(now time.Time, p key.Policy, rec *record.Record) {
	r := recorded{
		stage: rec.Stage(p), next: plan.NextRotation(now, p, rec), last: rec.LastRotation(),
		requested: [2]time.Time{rec.OldestRequest(false), rec.OldestRequest(true)},
	}
	for _, v := range p.Vaults {
		if slices.Contains(r.stage.MissingFrom, v.URL) {
			r.partial = append(r.partial, v.Name)
		}
	}
	if p.Spares > 0 {
		r.spares = p.Spares - rec.SparesReady(p)
	}
	for _, m := range plan.Moves(plan.Input{Now: now, Policy: p, Record: rec}) {
		if name := service.NameOf(m.Consumer); m.State.Bad() && !slices.Contains(r.unmoved, name) {
			r.unmoved = append(r.unmoved, name)
		}
	}
	counts := rec.Counts()
	r.placements = make([]counted, 0, len(counts))
	for at, n := range counts {
		r.placements = append(r.placements, counted{at, n})
	}
	if rec.Hold != nil {
		r.held = &held{rec.VaultName(p, rec.Hold.Vault), string(rec.Hold.Code)}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[p.Key] = r
}

// failedInARow counts a step that failed in a vault. A step that succeeds resets all counts of the key. Without a key
// it counts the steps of the vault itself.
func (m *Metrics) failedInARow(name, vault string, failed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if failed {
		m.failed[failing{name, vault}]++
		return
	}
	maps.DeleteFunc(m.failed, func(at failing, _ int) bool {
		return at.key == name && (name != "" || at.vault == vault)
	})
}

// Forget drops every series of a key that keyd no longer manages.
func (m *Metrics) Forget(name string) {
	m.failedInARow(name, "", false)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, name)
	delete(m.shows, name)
}

// Describe is for the registry.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.generation, m.next, m.last, m.held, m.partial, m.spares, m.exposed, m.started, m.requested, m.failures,
		m.placements, m.unmoved,
	} {
		out <- d
	}
}

// Collect is for the registry.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.shown().Send(out)
}

func (m *Metrics) shown() (all sample.Gauges) {
	m.mu.Lock()
	defer m.mu.Unlock()
	since := func(d *prometheus.Desc, t time.Time, labels ...string) {
		if !t.IsZero() {
			all.Add(d, sample.Time(t), labels...)
		}
	}
	placements := map[record.InState]int{}
	for _, name := range slices.Sorted(maps.Keys(m.keys)) { // the registry sorts what is sorted faster
		r := m.keys[name]
		all.Add(m.generation, float64(r.stage.Active), name)
		all.Add(m.next, sample.Time(r.next), name)
		all.Add(m.last, sample.Time(r.last), name)
		since(m.started, r.stage.Since, name)
		since(m.requested, r.requested[0], name, "no")
		since(m.requested, r.requested[1], name, "yes")
		for _, vault := range r.partial {
			all.Add(m.partial, 1, name, vault)
		}
		if r.spares > 0 {
			all.Add(m.spares, float64(r.spares), name)
		}
		for _, consumer := range r.unmoved {
			all.Add(m.unmoved, 1, name, consumer)
		}
		if r.held != nil {
			all.Add(m.held, 1, name, r.held.vault, r.held.code)
		}
		for _, e := range m.shows[name] {
			all.Add(m.exposed, float64(e.n), name, e.vault)
		}
		for _, c := range r.placements {
			placements[c.at] += c.n
		}
	}
	for at, n := range placements {
		all.Add(m.placements, float64(n), at.VaultName, string(at.State))
	}
	for at, n := range m.failed {
		all.Add(m.failures, float64(n), at.key, at.vault)
	}
	return all
}
