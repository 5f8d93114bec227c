package leader_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/leader"
)

var (
	well    = leader.Candidate{Able: true, Agrees: true}
	differs = leader.Candidate{Able: true}
	unable  = leader.Candidate{Agrees: true}
	neither = leader.Candidate{}
)

func named(name string, c leader.Candidate) leader.Candidate {
	c.Host = name
	return c
}

func TestWhoMayTakeTheLeaseAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		me    leader.Candidate
		alive []leader.Candidate
		want  bool
	}{
		"a host that can work":                                           {well, nil, true},
		"one of two that can":                                            {well, []leader.Candidate{well}, true},
		"one that can, beside one that cannot":                           {well, []leader.Candidate{unable}, true},
		"one that cannot, beside one that can":                           {unable, []leader.Candidate{well}, false},
		"one that cannot, alone":                                         {unable, nil, true},
		"one that cannot, beside another that cannot":                    {unable, []leader.Candidate{unable}, true},
		"one with another configuration":                                 {differs, []leader.Candidate{well}, false},
		"one with another configuration, alone":                          {differs, nil, true},
		"one with another configuration, beside one that cannot work":    {differs, []leader.Candidate{unable}, true},
		"one that cannot work, beside one with another configuration":    {unable, []leader.Candidate{differs}, false},
		"one with both faults, beside one that only cannot work":         {neither, []leader.Candidate{unable}, true},
		"one with both faults, beside one with another configuration":    {neither, []leader.Candidate{differs}, false},
		"one with another configuration, beside others with another one": {differs, []leader.Candidate{differs}, true},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range test.alive {
				test.alive[i].Host = "other"
			}
			me := named("me", test.me)
			if got := leader.MayLead(me, test.alive, 0, ttl); got != test.want {
				t.Errorf("at once: %v, want %v", got, test.want)
			}
			if !leader.MayLead(me, test.alive, leader.Patience*ttl, ttl) {
				t.Error("it may not lead though nobody has taken the lease for long")
			}
		})
	}
}

func TestWhenALeaderHandsOver(t *testing.T) {
	type moment struct {
		at    time.Duration
		me    leader.Candidate
		other leader.Candidate
	}
	const soon, late = time.Second, leader.Patience*ttl + time.Second
	for name, test := range map[string]struct {
		moments []moment
		want    string
	}{
		"it can work":             {[]moment{{soon, well, well}, {late, well, well}}, ""},
		"it cannot, for a moment": {[]moment{{soon, unable, well}, {2 * soon, unable, well}}, ""},
		"it cannot, for long":     {[]moment{{soon, unable, well}, {late, unable, well}}, "other"},
		"it could once meanwhile": {[]moment{
			{0, unable, well}, {soon, well, well}, {late, unable, well},
		}, ""},
		"the other could not once meanwhile": {[]moment{
			{0, unable, well}, {soon, unable, unable}, {late, unable, well},
		}, ""},
		"none can":                            {[]moment{{soon, unable, unable}, {late, unable, unable}}, ""},
		"none can, and it has another policy": {[]moment{{soon, neither, unable}, {late, neither, unable}}, ""},
		"it acts on another configuration":    {[]moment{{soon, differs, well}, {late, differs, well}}, "other"},
		"it cannot, the other's differs":      {[]moment{{soon, unable, differs}, {late, unable, differs}}, "other"},
		"both act on another, and one works":  {[]moment{{soon, neither, differs}, {late, neither, differs}}, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			var h leader.Handover
			var to string
			for _, m := range test.moments {
				h, to = h.Next(m.at, named("me", m.me), []leader.Candidate{named("other", m.other)}, ttl)
			}
			if to != test.want {
				t.Errorf("hands over to %q, want %q", to, test.want)
			}
		})
	}
}

func TestAHostLivesWhileItsReportsChange(t *testing.T) {
	var p leader.Peers
	alive := func(now time.Duration) bool { return len(p.Alive(now, ttl)) == 1 }
	r := leader.Report{Host: "b", Run: "1", Beat: 7}
	p.Saw(0, r)
	if alive(0) {
		t.Error("a report that may be old counts as news")
	}
	r.Beat++
	p.Saw(ttl, r)
	if !alive(ttl) || !alive(ttl+leader.Patience*ttl) {
		t.Error("a host with a new report is not alive")
	}
	p.Saw(5*ttl, r)
	if alive(5 * ttl) {
		t.Error("a host that reports no more is alive")
	}
	r.Run, r.Beat = "2", 1 // it was restarted
	p.Saw(6*ttl, r)
	if !alive(6 * ttl) {
		t.Error("a host that was restarted is not alive")
	}
	p.Only(nil)
	if len(p.All(6*ttl, ttl)) != 0 {
		t.Error("a host that has taken its leave is still known")
	}
}
