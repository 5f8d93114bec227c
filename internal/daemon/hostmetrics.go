package daemon

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/sample"
)

// leaderMetrics shows who leads, as this host sees it. Every host exports them.
type leaderMetrics struct {
	d                                                  *Daemon
	leads, epoch, since, lease, leaderless, all, shown *prometheus.Desc
	missing                                            *prometheus.Desc
}

// peerMetrics shows the hosts of an instance. Only the leader exports them.
type peerMetrics struct {
	d                   *Daemon
	seen, able, differs *prometheus.Desc
}

// newHostMetrics makes the metrics of who leads, and in led those of all hosts.
func newHostMetrics(reg, led prometheus.Registerer, d *Daemon) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("keyd_"+name, help, labels, nil)
	}
	reg.MustRegister(leaderMetrics{
		d: d, leads: desc("leader", "1 while this host leads, as far as it knows."),
		epoch: desc("leader_epoch", "The number of the newest term that this host knows of."),
		since: desc("leader_since_timestamp_seconds", "When that term began, by the store's clock."),
		lease: desc("leader_lease_timestamp_seconds", "When this host last heard of the store who leads; 0: never."),
		leaderless: desc("leaderless_since_timestamp_seconds", "Since when this host sees no host lead; 0 while one "+
			"does."),
		missing: desc("store_head_missing", "1 while the store does not contain the last entry that this host saw in "+
			"it: then keyd writes nothing."),
		all: desc("leaders", "Hosts that say that they lead, as this host sees it."),
		shown: desc("shown_timestamp_seconds", "When this host last read something new of what the leader "+
			"publishes; 0 on the leader itself."),
	})
	led.MustRegister(peerMetrics{
		d: d, seen: desc("peer_seen_timestamp_seconds", "When a host of the instance was last heard of; no series "+
			"where one host has the store to itself.", "peer"),
		able: desc("peer_able", "Whether a host of the instance could work: its HSM and its vaults answer, and its "+
			"clock is right.", "peer"),
		differs: desc("peer_differs", "1 for a host that acts on another configuration than the one in force, or "+
			"whose HSM shows itself otherwise than the leader's; no series otherwise.", "peer", "in"),
	})
}

// Describe is part of prometheus.Collector.
func (m leaderMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.leads, m.epoch, m.since, m.lease, m.leaderless, m.all, m.shown,
		m.missing} {
		out <- d
	}
}

// Collect is part of prometheus.Collector.
func (m leaderMetrics) Collect(out chan<- prometheus.Metric) {
	s, now := m.d.elector.State(), time.Now()
	leaders := sample.Bool(s.Leads)
	h := m.d.hostStatus()
	var leaderless, shown, heard time.Time
	if h != nil {
		leaders, leaderless = float64(h.SayLead()), h.Leaderless
		if !s.Leads {
			shown = m.d.hosts.shownSince(now, m.d.boot())
		}
	}
	if s.Known() {
		heard = now.Add(s.Read - m.d.boot())
	}
	if s.Alone() {
		heard = now
	}
	var all sample.Gauges
	all.Add(m.leads, sample.Bool(s.Leads))
	all.Add(m.epoch, float64(s.Lease.Epoch.Number))
	all.Add(m.since, sample.Time(s.Lease.Since))
	all.Add(m.lease, sample.Time(heard))
	all.Add(m.leaderless, sample.Time(leaderless))
	all.Add(m.all, leaders)
	all.Add(m.shown, sample.Time(shown))
	all.Add(m.missing, sample.Bool(headMissing(m.d.store)))
	all.Send(out)
}

// shownSince is when this host last read something new of the leader, by its own clock; zero: never.
func (h *hosts) shownSince(now time.Time, boot time.Duration) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shown == nil {
		return time.Time{}
	}
	return now.Add(h.shownAt - boot)
}

// Describe is part of prometheus.Collector.
func (m peerMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.seen, m.able, m.differs} {
		out <- d
	}
}

// Collect is part of prometheus.Collector.
func (m peerMetrics) Collect(out chan<- prometheus.Metric) {
	h := m.d.hostStatus()
	if h == nil {
		return
	}
	var all sample.Gauges
	now := time.Now()
	for _, p := range h.Hosts {
		all.Add(m.seen, sample.Time(now.Add(-p.Age.Duration())), p.Name)
		all.Add(m.able, sample.Bool(p.Trouble == ""), p.Name)
		for _, in := range h.Differences(p) {
			all.Add(m.differs, 1, p.Name, string(in))
		}
	}
	all.Send(out)
}
