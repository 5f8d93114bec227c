package leader

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Report is what a host publishes of itself.
type Report struct {
	Host    string `json:"host"`
	Run     string `json:"run"`  // a random name of this run of its daemon
	Beat    uint64 `json:"beat"` // grows from report to report of one run
	Version string `json:"version"`
	// Trouble is why it cannot work; "": it can.
	Trouble string `json:"trouble,omitempty"`
	// Policy is the digest of the configuration on which it acts, without what is each host's own.
	Policy string `json:"policy"`
	Leads  bool   `json:"leads"`
	HSM    Device `json:"hsm"`
	Head   uint64 `json:"head"` // the newest entry of the audit chain that it has seen
}

// Device is the HSM as a host's library shows it. All hosts of an instance have the same.
type Device struct {
	Library  string `json:"library"`
	Model    string `json:"model"`
	Firmware string `json:"firmware"`
	Token    string `json:"token"`
	Serial   string `json:"serial"`
}

// String is the device in words; "" if it is not known.
func (d Device) String() string {
	if d == (Device{}) {
		return ""
	}
	return fmt.Sprintf("%s firmware %s, token %s serial %s, library %s", d.Model, d.Firmware, d.Token, d.Serial,
		d.Library)
}

// DeviceOf is the device of which an HSM side told.
func DeviceOf(info key.HSMInfo) Device {
	return Device{Library: info.Library, Model: info.Model, Firmware: info.Firmware, Token: info.Token,
		Serial: info.Serial}
}

// Name is the status under which a host's report is published.
func Name(host string) string { return Prefix + host }

// Prefix is that of all reports.
const Prefix = "host/"

// Peer is a host as another sees it.
type Peer struct {
	Report
	Alive bool
	// Age is for how long nothing new was heard of it, by the other's clock.
	Age time.Duration
}

// Peers remembers when each host's report changed last. It compares no clocks: those of two hosts may differ. The zero
// value knows nobody. Any goroutine may call it.
type Peers struct {
	mu   sync.Mutex
	seen map[string]*sighting
}

type sighting struct {
	report  Report
	at      time.Duration // when it was first seen as it is now
	changed bool          // it was seen to change: it was not left behind by a host that is gone
}

// Saw takes in a report that was read at a time by Config.Boot.
func (p *Peers) Saw(now time.Duration, r Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[string]*sighting{}
	}
	s := p.seen[r.Host]
	switch {
	case s == nil:
		p.seen[r.Host] = &sighting{report: r, at: now}
	case s.report.Run != r.Run || s.report.Beat != r.Beat:
		*s = sighting{report: r, at: now, changed: true}
	}
}

// Only forgets all hosts but these.
func (p *Peers) Only(hosts []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.seen, func(host string, _ *sighting) bool { return !slices.Contains(hosts, host) })
}

// All lists the hosts by name.
func (p *Peers) All(now, lease time.Duration) (all []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, host := range slices.Sorted(maps.Keys(p.seen)) {
		s := p.seen[host]
		age := now - s.at
		all = append(all, Peer{Report: s.report, Alive: s.changed && age <= Patience*lease, Age: age})
	}
	return all
}

// Alive lists those of which something was heard lately.
func (p *Peers) Alive(now, lease time.Duration) []Peer {
	return slices.DeleteFunc(p.All(now, lease), func(p Peer) bool { return !p.Alive })
}

// Candidates are hosts as they are compared; policy is the digest of the configuration in force, "" if none is known.
func Candidates(peers []Peer, policy string) (list []Candidate) {
	for _, p := range peers {
		list = append(list, p.Candidate(policy))
	}
	return list
}

// Candidate is the host as it is compared with others.
func (r Report) Candidate(policy string) Candidate {
	return Candidate{Host: r.Host, Able: r.Trouble == "", Agrees: policy == "" || r.Policy == policy}
}
