package web

import (
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// hostProblems has everything that can be wrong with several hosts, as keyd finds it.
func hostProblems() (all []status.Problem) {
	at := time.Date(2026, 11, 25, 9, 41, 0, 0, time.UTC)
	hosts := func(change func(h *status.Hosts)) {
		h := &status.Hosts{Here: "hq-a", Leader: "hq-a", Hosts: []status.Host{
			{Name: "hq-a", Alive: true, SaysLeads: true, Device: "Luna firmware 7.8.4"}, {Name: "hq-b", Alive: true},
		}}
		change(h)
		all = append(all, trouble.Find(status.Snapshot{At: at, Ready: true, Hosts: h}, trouble.Evidence{})...)
	}
	hosts(func(h *status.Hosts) { h.Leader, h.Leaderless, h.Hosts[0].SaysLeads = "", at.Add(-time.Hour), false })
	hosts(func(h *status.Hosts) { h.Hosts[1].SaysLeads = true })
	hosts(func(h *status.Hosts) { h.Hosts[1].Alive, h.Hosts[1].Age = false, status.Seconds(time.Hour) })
	hosts(func(h *status.Hosts) { h.Hosts[1].Trouble = "its HSM side is down" })
	hosts(func(h *status.Hosts) { h.Hosts[1].OtherConfig = true })
	hosts(func(h *status.Hosts) { h.Hosts[1].Device = "Luna firmware 7.7.0" })
	lost := trouble.Of(trouble.HeadMissing)
	return append(all, status.Problem{Severity: lost.Severity, Runbook: lost.Code, Remedy: lost.Remedy,
		Text: "PostgreSQL at db1,db2 does not contain entry 812, which this host saw in it"})
}
