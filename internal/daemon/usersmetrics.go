package daemon

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/sample"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// usersMetrics shows what is wrong with those who use the keys. Consumers that are well are only counted, by service.
// It makes its series when somebody scrapes.
type usersMetrics struct {
	counts, late, unseen, looked, version, differ, retired, log *prometheus.Desc

	started time.Time
	vaults  func() map[string]string // names by URL
	clock   func() time.Time

	mu   sync.Mutex
	keys map[string]*status.Consumers
}

// otherService is the service of resources that keyd does not understand.
const otherService = "other"

func newUsersMetrics(reg prometheus.Registerer, started time.Time, vaults func() map[string]string) *usersMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyd_consumer"+name, help, labels, nil)
	}
	m := &usersMetrics{
		started: started, vaults: vaults, clock: time.Now, keys: map[string]*status.Consumers{},
		counts: desc("s", "Resources that encrypt under the keys, by service and by what they use.",
			"service", "state"),
		late: desc("_late_since_timestamp_seconds", "When a consumer should have moved to the newest version; no "+
			"series while it uses that one or has time.", "key", "vault", "consumer", "moves"),
		unseen: desc("_unseen_since_timestamp_seconds", "Since when keyd does not see a consumer or all that a "+
			"search looks for, of the one for which that is longest; no series while it sees all.", "reason"),
		looked: desc("_look_timestamp_seconds", "Of the keys whose consumers keyd looks at: the last look, of the "+
			"key for which that is longest ago, or keyd's start; 0 while there are none."),
		version: desc("_bad_version", "1 while a consumer uses a version that is disabled, compromised or expires "+
			"soon; no series otherwise.", "key", "vault", "consumer", "kind"),
		differ: desc("_differences", "Consumers that the configuration lacks, or that are set to another key than "+
			"it says; no series for none.", "key", "kind"),
		retired: desc("_retired_use_timestamp_seconds", "The last use of a version after it was disabled, by the "+
			"vault's audit log; no series for none.", "key", "vault"),
		log: desc("_log_seen_timestamp_seconds", "Until when keyd has seen a vault's whole audit log; 0 for not at "+
			"all.", "vault", "workspace"),
	}
	reg.MustRegister(m)
	return m
}

// seen shows what is known of those who use a key; nil: nobody asks.
func (m *usersMetrics) seen(name string, c *status.Consumers) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c == nil {
		delete(m.keys, name)
		return
	}
	m.keys[name] = c
}

// Describe is for the registry.
func (m *usersMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.counts, m.late, m.unseen, m.looked, m.version, m.differ, m.retired, m.log,
	} {
		out <- d
	}
}

// Collect is for the registry.
func (m *usersMetrics) Collect(out chan<- prometheus.Metric) {
	m.shown(m.clock(), m.vaults()).Send(out)
}

func (m *usersMetrics) shown(now time.Time, vaults map[string]string) (all sample.Gauges) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := usersSums{counts: map[ofService]int{}, unseen: map[key.Reason]time.Time{}, logs: map[logOf]time.Time{}}
	for _, name := range slices.Sorted(maps.Keys(m.keys)) {
		c := m.keys[name]
		s.add(c, m.started)
		for _, x := range c.List {
			m.consumer(&all, now, vaults, name, x)
		}
		kinds := differences(c)
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			all.Add(m.differ, float64(kinds[kind]), name, kind)
		}
		for _, l := range c.Logs {
			if l.Retired != nil {
				all.Add(m.retired, sample.Time(l.Retired.At), name, vaults[l.Vault])
			}
		}
	}
	for _, service := range serviceNames() {
		for _, state := range status.ConsumerStates() {
			all.Add(m.counts, float64(s.counts[ofService{service, state}]), service, string(state))
		}
	}
	for reason, since := range s.unseen {
		all.Add(m.unseen, sample.Time(since), string(reason))
	}
	for at, until := range s.logs {
		all.Add(m.log, sample.Time(until), vaults[at.vault], at.workspace)
	}
	all.Add(m.looked, sample.Time(s.looked))
	return all
}

// consumer adds the series of a consumer that is not well.
func (m *usersMetrics) consumer(
	all *sample.Gauges, now time.Time, vaults map[string]string, name string, c status.Consumer,
) {
	for _, kind := range trouble.BadVersion(now, c) {
		all.Add(m.version, 1, name, vaults[c.Vault], c.ID, kind)
	}
	if !c.Due.IsZero() && now.After(c.Due) {
		all.Add(m.late, sample.Time(c.Due), name, vaults[c.Vault], c.ID, string(c.Moves))
	}
}

// ofService is a service, and what its consumers use.
type ofService struct {
	service string
	state   status.ConsumerState
}

// logOf is the audit log of one vault.
type logOf struct{ vault, workspace string }

// usersSums is what holds for all keys together.
type usersSums struct {
	counts map[ofService]int
	unseen map[key.Reason]time.Time
	looked time.Time
	logs   map[logOf]time.Time
}

func (s *usersSums) add(c *status.Consumers, started time.Time) {
	if c.Asked() {
		at := c.At
		if at.Before(started) {
			at = started
		}
		if s.looked.IsZero() || at.Before(s.looked) {
			s.looked = at
		}
	}
	s.since(trouble.PartialLook, c.PartialSince)
	for _, x := range c.List {
		service := otherService
		if slices.Contains(serviceNames(), x.Service) {
			service = x.Service
		}
		s.counts[ofService{service, x.State()}]++
		if x.Understood {
			s.since(x.Reason, x.UnseenSince)
		}
	}
	for _, l := range c.Logs {
		at := logOf{l.Vault, l.Workspace}
		if until, known := s.logs[at]; !known || l.Until.After(until) {
			s.logs[at] = l.Until
		}
	}
}

// since keeps the earliest time of a reason.
func (s *usersSums) since(reason key.Reason, at time.Time) {
	if was, known := s.unseen[reason]; !at.IsZero() && (!known || at.Before(was)) {
		s.unseen[reason] = at
	}
}

// differences counts what the configuration and Azure do not agree on.
func differences(c *status.Consumers) map[string]int {
	kinds := map[string]int{}
	for _, x := range c.List {
		switch {
		case !x.Configured && x.Understood && x.Left == "":
			kinds["not-configured"]++
		case x.OtherKey && !x.Replaced:
			kinds["other-key"]++
		}
	}
	return kinds
}

// serviceNames are the values of the label service.
func serviceNames() (names []string) {
	for _, s := range service.All() {
		names = append(names, s.Name)
	}
	return append(names, otherService)
}
