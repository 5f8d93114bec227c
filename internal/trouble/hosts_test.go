package trouble

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// hosts has the daemon be one of three, of which host-a leads.
func (w *world) hosts(change func(h *status.Hosts)) {
	w.Hosts = &status.Hosts{Here: "host-a", Leader: "host-a", Epoch: 4, Since: noon.Add(-time.Hour)}
	for _, name := range []string{"host-a", "host-b", "host-c"} {
		w.Hosts.Hosts = append(w.Hosts.Hosts, status.Host{Name: name, Version: "1.2.3", Alive: true, Device: "the HSM",
			SaysLeads: name == "host-a"})
	}
	change(w.Hosts)
}

func hostExamples() []example {
	leaderless := func(d time.Duration) func(w *world) {
		return func(w *world) {
			w.hosts(func(h *status.Hosts) {
				h.Leader, h.Leaderless, h.Hosts[0].SaysLeads = "", noon.Add(-d), false
			})
		}
	}
	host := func(change func(h *status.Host)) func(w *world) {
		return func(w *world) { w.hosts(func(h *status.Hosts) { change(&h.Hosts[1]) }) }
	}
	silent := func(d time.Duration) func(w *world) {
		return host(func(h *status.Host) { h.Alive, h.Age = false, status.Seconds(d) })
	}
	older := func(d time.Duration) func(w *world) {
		return func(w *world) {
			w.hosts(func(h *status.Hosts) { h.Here, h.Age = "host-b", status.Seconds(d) })
		}
	}
	well := func(w *world) { w.hosts(func(*status.Hosts) {}) }
	return []example{
		{"keydnoleader", "", "", "", leaderless(2 * time.Minute), leaderless(time.Second)},
		{"keydtwoleaders", "by their own word", "", "", host(func(h *status.Host) { h.SaysLeads = true }), well},
		{"keydtwoleaders", "of one name", "", "", func(w *world) {
			w.hosts(func(h *status.Hosts) { h.Problem, h.SameName = "another daemon leads as host \"host-a\"", true })
		}, well},
		{"keydheadmissing", "", "", "", func(w *world) {
			w.StoreErr, w.HeadMissing = errors.New("the store does not contain entry 42, which this host saw"), true
			leaderless(time.Hour)(w)
		}, nil},
		{"keydhostsilent", "", "", "", silent(3 * time.Minute), silent(time.Minute)},
		{"keydhostsilent", "the leader", "", "", older(3 * time.Minute), older(time.Second)},
		{"keydhostunable", "", "", "", host(func(h *status.Host) { h.Trouble = "its HSM side is down" }), well},
		{"keydhostsdiffer", "configuration", "", "", host(func(h *status.Host) { h.OtherConfig = true }), well},
		{"keydhostsdiffer", "HSM", "", "", host(func(h *status.Host) { h.Device = "another HSM" }), well},
	}
}

func TestAFollowerAddsOnlyWhatItAloneKnows(t *testing.T) {
	w := allWell()
	leaders := status.Problem{Severity: status.Warning, Text: "what the leader found"}
	w.Problems = []status.Problem{leaders}
	w.hosts(func(h *status.Hosts) {
		h.Here, h.Leader, h.Leaderless = "host-b", "", noon.Add(-time.Hour)
		h.Hosts[0].SaysLeads, h.Hosts[2].Trouble = false, "the leader tells of it"
	})
	var got []string
	for _, p := range WithHost(noon, w.Snapshot, w.Evidence) {
		got = append(got, p.Runbook)
	}
	if !slices.Equal(got, []string{"keydnoleader", ""}) {
		t.Errorf("problems %v", got)
	}
}
