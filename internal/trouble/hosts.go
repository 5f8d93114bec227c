package trouble

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// WithHost adds what only this host knows to the problems that the leader found, the worst first.
func WithHost(now time.Time, s status.Snapshot, e Evidence) []status.Problem {
	f := &finder{Evidence: e, at: now, started: s.Started, causes: newCauses()}
	f.daemon(s)
	f.leader(s.Hosts)
	problems := slices.Clone(s.Problems)
	for _, p := range f.found {
		problems = append(problems, p.shown())
	}
	slices.SortStableFunc(problems, func(a, b status.Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	return problems
}

// leader finds what is wrong with who leads.
func (f *finder) leader(h *status.Hosts) {
	if h == nil {
		return
	}
	switch n := h.SayLead(); {
	case n > 1:
		f.add(TwoLeaders, about{}, words.Count(n, "host")+" say that they lead; the store takes the writes of one")
	case h.SameName:
		f.add(TwoLeaders, about{}, h.Problem)
	case f.late(NoLeader, h.Leaderless) && f.causes.store == nil:
		text := "no host leads since " + words.Moment(h.Leaderless) + ": nothing rotates or is proven"
		if h.Problem != "" {
			text += "; " + h.Problem
		}
		f.add(NoLeader, about{}, text)
	}
	if h.Age.Duration() > Of(HostSilent).Threshold && h.Leader != "" {
		f.add(
			HostSilent,
			about{},
			fmt.Sprintf("host %s leads and has published nothing for %s: what you see is as old",
				h.Leader, words.Span(h.Age.Duration().Round(time.Second))),
		)
	}
}

// hosts finds hosts that could not take over, and such that differ.
func (f *finder) hosts(h *status.Hosts) {
	f.leader(h)
	if h == nil {
		return
	}
	for _, host := range h.Hosts {
		switch {
		case !host.Alive && host.Age.Duration() > Of(HostSilent).Threshold:
			f.add(HostSilent, about{}, fmt.Sprintf("host %s has reported nothing for %s: it cannot take over",
				host.Name, words.Span(host.Age.Duration().Round(time.Second))))
			continue
		case !host.Alive:
			continue
		case host.Trouble != "" && host.Name != h.Leader:
			f.add(HostUnable, about{}, fmt.Sprintf("host %s could not take over: %s", host.Name,
				words.OneLine(host.Trouble)))
		}
		for _, in := range h.Differences(host) {
			f.differs(h, host, in)
		}
	}
}

func (f *finder) differs(h *status.Hosts, host status.Host, in status.Difference) {
	if in == status.InHSM {
		f.add(HSMsDiffer, about{}, fmt.Sprintf("host %s sees another HSM than host %s, which leads: %s", host.Name,
			h.Leader, host.Device))
		return
	}
	text := fmt.Sprintf("host %s acts on another configuration than the one in force: it leads only if no other can",
		host.Name)
	if host.Name == h.Leader {
		text = fmt.Sprintf(
			"host %s leads as the last resort, and acts on another configuration than the one in force: "+
				"it disables, adopts and adds nothing",
			host.Name,
		)
	}
	f.add(ConfigurationsDiffer, about{}, text)
}
