package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/status"
)

const (
	// hostsTick is how often a host looks at what the others published, and at what is new in the chain.
	hostsTick = time.Second
	// showEvery is how often a host asks for what the others publish.
	showEvery = 3 * time.Second
	// goneAfter is how long a host must be silent before the leader forgets it.
	goneAfter = 24 * time.Hour
)

// hosts is what this host knows of all of them.
type hosts struct {
	peers leader.Peers
	tail  tail // only watchHosts uses it

	mu         sync.Mutex
	policy     string // the digest of the configuration in force; "": none is known
	head       uint64 // of the chain, as last seen
	leaderless time.Time
	shown      *shown // what the leader published last; nil: nothing was read yet
	shownBlob  []byte
	shownAt    time.Duration // by boottime, when it was first read

	reported leader.Report // only watchHosts uses these
	sent     time.Duration
	read     time.Duration // when it last asked for what the others publish
	handover leader.Handover
}

// watchHosts keeps this host's report, reads those of the others, and hands over when another host should lead.
func (d *Daemon) watchHosts(ctx context.Context) {
	tick := time.NewTicker(hostsTick)
	defer tick.Stop()
	for {
		d.follow(ctx)
		d.report(ctx)
		if now := d.boot(); now-d.hosts.read >= min(showEvery, d.lease/3) {
			d.hosts.read = now
			d.readShown(ctx)
			d.readReports(ctx)
		}
		d.judgeHosts()
		select {
		case <-ctx.Done():
			d.takeLeave(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		}
	}
}

// report publishes how this host is, when that has changed, and from time to time.
func (d *Daemon) report(ctx context.Context) {
	h := &d.hosts
	r := h.reported
	r.Version, r.Trouble, r.Policy, r.Leads = d.opts.Version, d.unable(), d.policyHere(), d.leads()
	d.mu.RLock()
	r.HSM = leader.DeviceOf(d.hsmSeen.info)
	d.mu.RUnlock()
	r.Head = d.hosts.headSeen()
	now := d.boot()
	was := h.reported
	was.Head = r.Head // the chain grows all the time
	if r == was && h.sent > 0 && now-h.sent < d.lease {
		return
	}
	r.Beat++
	blob, err := json.Marshal(r)
	if err == nil {
		err = d.store.PutStatus(ctx, leader.Name(d.host), blob)
	}
	if err == nil {
		h.reported, h.sent = r, now
	}
}

// takeLeave removes this host's report: a host that was stopped is not one that fails.
func (d *Daemon) takeLeave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.lease/3)
	defer cancel()
	_ = d.store.PutStatus(ctx, leader.Name(d.host), nil) // otherwise the others see that it is silent
}

// readReports reads what all hosts published of themselves.
func (d *Daemon) readReports(ctx context.Context) {
	names, err := d.store.Statuses(ctx, leader.Prefix)
	if err != nil {
		return // the elector says that the store does not answer
	}
	var present []string
	for _, name := range names {
		blob, err := d.store.Status(ctx, name)
		var r leader.Report
		if err != nil || json.Unmarshal(blob, &r) != nil || leader.Name(r.Host) != name {
			continue
		}
		present = append(present, r.Host)
		d.hosts.peers.Saw(d.boot(), r)
	}
	d.hosts.peers.Only(present)
	for _, p := range d.hosts.peers.All(d.boot(), d.lease) {
		if p.Age > goneAfter && d.leads() {
			_ = d.store.PutStatus(ctx, leader.Name(p.Host), nil) // or the next time
		}
	}
}

// judgeHosts hands over if another host should lead.
func (d *Daemon) judgeHosts() {
	if !d.leads() {
		d.hosts.handover = leader.Handover{}
		return
	}
	var to string
	d.hosts.handover, to = d.hosts.handover.Next(d.boot(), d.candidate(), d.candidates(), d.lease)
	if to != "" {
		why := d.unable()
		if why == "" {
			why = "it acts on another configuration than the one in force"
		}
		d.elector.Resign(fmt.Sprintf("host %s can lead instead: %s", to, why))
	}
}

// mayLead decides whether this host may take the lease, which has been over for so long.
func (d *Daemon) mayLead(over time.Duration) bool {
	return d.alone || leader.MayLead(d.candidate(), d.candidates(), over, d.lease)
}

// candidate is this host as it is compared with the others.
func (d *Daemon) candidate() leader.Candidate {
	r := leader.Report{Host: d.host, Trouble: d.unable(), Policy: d.policyHere()}
	return r.Candidate(d.hosts.policyInForce())
}

// candidates are all hosts that are alive.
func (d *Daemon) candidates() []leader.Candidate {
	return leader.Candidates(d.hosts.peers.Alive(d.boot(), d.lease), d.hosts.policyInForce())
}

// policyHere is the digest of the configuration on which this host acts, without what is its own.
func (d *Daemon) policyHere() string { return d.config().Guarded().Policy().Digest() }

// differs reports whether this host acts on another configuration than the one in force.
func (d *Daemon) differs() bool { return !d.alone && !d.candidate().Agrees }

// unable is why this host cannot work; "": it can, as far as it has looked.
func (d *Daemon) unable() string {
	if why := d.hsmUnable(); why != "" {
		return why
	}
	var silent []string
	asked := 0
	for _, v := range d.config().Vaults {
		seen := d.observer.LastVault(v.URL)
		switch {
		case seen == nil:
			continue
		case seen.Err != nil:
			silent = append(silent, fmt.Sprintf("vault %s: %v", v.Name, seen.Err))
		case seen.Skew.Abs() > key.MaxSkew:
			return fmt.Sprintf("its clock and that of vault %s differ by %s", v.Name, seen.Skew.Round(time.Second))
		}
		asked++
	}
	if asked > 0 && len(silent) == asked {
		return "no vault can be used: " + strings.Join(silent[:1], "; ")
	}
	return ""
}

func (d *Daemon) hsmUnable() string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch seen := d.hsmSeen; {
	case seen.works():
		return ""
	case seen.err != nil:
		return "its HSM side is down: " + seen.err.Error()
	case seen.up:
		return "its HSM side cannot work: " + seen.info.Degraded
	}
	return "its HSM side was not asked yet"
}

// probeVaults has this host look at each vault from time to time, so that it knows whether it could work. Other hosts
// compare that before they hand over to it.
func (d *Daemon) probeVaults(ctx context.Context) {
	tick := time.NewTicker(2 * d.lease)
	defer tick.Stop()
	for {
		for _, p := range d.config().VaultPolicies() {
			if rec, err := d.store.LoadVault(ctx, p.URL); err == nil {
				d.observer.Vault(ctx, p, rec)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watchLeader notices who leads, until ctx ends.
func (d *Daemon) watchLeader(ctx context.Context) {
	for {
		s := d.elector.State()
		d.hosts.leads(d.leader(s) != "", time.Now())
		if name := d.leader(s); name != "" && name != d.host {
			d.nowReady("host " + name + " leads")
		}
		select {
		case <-ctx.Done():
			return
		case <-d.ledAnew:
		case <-time.After(d.lease / 3):
		}
	}
}

// leader is the host that has the lease; "" for none.
func (d *Daemon) leader(s leader.State) string {
	if s.Alone() || s.Known() && s.Lease.Left > d.boot()-s.Read {
		return s.Lease.Holder
	}
	return ""
}

// hostStatus shows who leads, and which hosts there are; nil where one host has the store to itself.
func (d *Daemon) hostStatus() *status.Hosts {
	if d.alone {
		return nil
	}
	s := d.elector.State()
	h := &status.Hosts{Here: d.host, Leader: d.leader(s), Epoch: s.Lease.Epoch.Number, Since: s.Lease.Since}
	if s.Err != nil {
		var same *leader.SameNameError
		h.Problem, h.SameName = s.Err.Error(), errors.As(s.Err, &same)
	}
	h.Leaderless, h.Age = d.hosts.ages(d.boot(), h.Leads())
	policy := d.hosts.policyInForce()
	for _, p := range d.hosts.peers.All(d.boot(), d.lease) {
		h.Hosts = append(h.Hosts, status.Host{
			Name: p.Host, Version: p.Version, Alive: p.Alive, Age: status.Seconds(p.Age.Round(time.Second)),
			Trouble: p.Trouble, OtherConfig: !p.Candidate(policy).Agrees, SaysLeads: p.Leads, Head: p.Head,
			Device: p.HSM.String(),
		})
	}
	return h
}

// ages are since when nobody leads, and how old is what is shown.
func (h *hosts) ages(now time.Duration, leads bool) (leaderless time.Time, age status.Seconds) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !leads && h.shown != nil {
		age = status.Seconds((now - h.shownAt).Round(time.Second))
	}
	return h.leaderless, age
}

// leads notes whether any host leads.
func (h *hosts) leads(somebody bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case somebody:
		h.leaderless = time.Time{}
	case h.leaderless.IsZero():
		h.leaderless = now
	}
}

func (h *hosts) leaderlessSince() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaderless
}

func (h *hosts) policyInForce() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.policy
}

func (h *hosts) headSeen() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.head
}
