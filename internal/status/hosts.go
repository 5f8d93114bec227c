package status

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/words"
)

// Hosts is who leads an instance of several hosts, and which hosts there are, as this host sees them.
type Hosts struct {
	Here string `json:"here"` // this host
	// Leader is the host that leads, by its lease; "" for none.
	Leader string    `json:"leader"`
	Epoch  uint64    `json:"epoch"`          // of the newest term
	Since  time.Time `json:"since,omitzero"` // when it began, by the store's clock
	// Leaderless is when this host first saw that no host leads; zero while one does.
	Leaderless time.Time `json:"leaderless_since,omitzero"`
	// Age is how old is what this host shows of the leader; 0 on the leader itself.
	Age Seconds `json:"age_seconds"`
	// Problem is why this host cannot tell who leads, or cannot lead although nobody does; "": nothing is wrong.
	Problem string `json:"problem,omitempty"`
	// SameName: the problem is that another daemon leads under this host's name.
	SameName bool   `json:"same_name,omitempty"`
	Hosts    []Host `json:"hosts"` // by name
}

// Leads reports whether this host leads.
func (h *Hosts) Leads() bool { return h.Leader == h.Here }

// Words say who leads, for people, and how old is what this host shows of it.
func (h *Hosts) Words() string {
	switch {
	case h.Leader == "":
		return "no host leads; this is " + h.Here
	case h.Leads():
		return fmt.Sprintf("this host, %s, leads (epoch %d, since %s)", h.Here, h.Epoch, words.Moment(h.Since))
	}
	return fmt.Sprintf("this host, %s, follows %s (epoch %d, since %s), and shows what %s published %s ago", h.Here,
		h.Leader, h.Epoch, words.Moment(h.Since), h.Leader, words.Span(h.Age.Duration()))
}

// SayLead counts the hosts that say that they lead, this one among them.
func (h *Hosts) SayLead() (n int) {
	for _, host := range h.Hosts {
		if host.SaysLeads && host.Alive {
			n++
		}
	}
	return n
}

// Difference is in what a host may differ from the others.
type Difference string

// The differences.
const (
	InConfiguration Difference = "configuration" // it acts on another than the one in force
	InHSM           Difference = "hsm"           // its library shows the HSM otherwise than the leader's
)

// Differences lists in what a host differs from the others.
func (h *Hosts) Differences(host Host) (list []Difference) {
	if host.OtherConfig {
		list = append(list, InConfiguration)
	}
	for _, other := range h.Hosts {
		if other.Name == h.Leader && other.Device != "" && host.Device != "" && other.Device != host.Device {
			list = append(list, InHSM)
		}
	}
	return list
}

// The states of a host.
const (
	HostLeads   = "leads"
	HostFollows = "follows"
	HostUnable  = "cannot work" // Trouble says why
	HostSilent  = "silent"
)

// State is one of the states above.
func (h *Hosts) State(host Host) string {
	switch {
	case !host.Alive && host.Name != h.Here:
		return HostSilent
	case host.Trouble != "":
		return HostUnable
	case host.Name == h.Leader:
		return HostLeads
	}
	return HostFollows
}

// Host is one host of an instance.
type Host struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Alive: something new was heard of it lately. Age is how long ago that was.
	Alive bool    `json:"alive"`
	Age   Seconds `json:"age_seconds"`
	// Trouble is why it cannot work; "": it can.
	Trouble string `json:"trouble,omitempty"`
	// OtherConfig: it acts on another configuration than the one in force.
	OtherConfig bool `json:"other_config,omitempty"`
	// SaysLeads: by its own word it leads.
	SaysLeads bool   `json:"says_leads,omitempty"`
	Head      uint64 `json:"head"` // the newest entry of the audit chain that it has seen
	// Device is its HSM as its library shows it, in words.
	Device string `json:"device,omitempty"`
}
