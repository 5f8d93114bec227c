package daemon

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// Snapshot is the daemon at this moment, with the keys that are asked for.
func (d *Daemon) Snapshot(sel status.Selection) status.Snapshot {
	s := d.overview(context.Background())
	s.Select(sel)
	for i := range s.Keys {
		if sel.Brief {
			s.Keys[i].Proofs, s.Keys[i].Consumers = nil, nil
			continue
		}
		d.fill(context.Background(), &s.Keys[i])
	}
	return s
}

// overview is the daemon at this moment, with every key, without their generations. Of the proofs it has those that a
// summary needs.
func (d *Daemon) overview(ctx context.Context) status.Snapshot {
	if s, follows := d.followed(ctx); follows {
		return s
	}
	at := time.Now()
	ready, _ := d.Ready()
	s := status.Snapshot{
		Version: d.opts.Version, Instance: d.config().Instance, At: at, Started: d.started, Ready: ready,
		HSM: d.hsmStatus(), Hosts: d.hostStatus(),
	}
	standings := d.current(ctx, at)
	proofs := d.health.Overview()
	looks := make(map[string]*trouble.Look, len(standings))
	s.Keys = make([]status.Key, 0, len(standings))
	for _, st := range standings {
		s.Keys = append(s.Keys, st.shown(d.loop.Position(st.key.Name), proofs[st.key.Name]))
		looks[st.key.Name] = st.look
	}
	s.Vaults = d.vaultStatus(standings)
	s.Proposals = subjectsOf(d.proposals(ctx, standings), s.Vaults)
	s.Problems = trouble.Find(s, d.evidence(s, looks))
	trouble.MarkKeys(&s)
	s.Summarise()
	return s
}

// shown is a key as the overview has it.
func (st *standing) shown(pos rotate.Position, proofs []status.Proof) status.Key {
	k := st.key
	k.Proofs = proofs
	if st.err != nil {
		k.Error, k.State = st.err.Error(), status.StateFailing
		return k
	}
	if pos.Err != nil {
		k.Error = pos.Err.Error()
	}
	if step, underWay := pos.UnderWay(); underWay {
		k.Doing = string(step.Kind)
	} else if pos.Step.Kind == plan.Wait {
		k.Waiting = pos.Step.Why
	}
	k.State = trouble.KeyState(k, st.stage, pos)
	return k
}

// fill adds to a key of the overview what its record and its proofs say in detail.
func (d *Daemon) fill(ctx context.Context, k *status.Key) {
	if d.inCharge() {
		k.Proofs = d.health.Results(k.Name)
	}
	k.Consumers = trouble.Explain(time.Now(), k.Consumers, d.vaultNames())
	if rec, err := d.store.Load(ctx, k.Name); err == nil { // the overview has the error
		k.Generations = record.Map(rec, shownGeneration, shownPlacement)
		if p, ok := d.loop.Policy(k.Name); ok {
			k.Spares = shownSpares(p, rec)
			k.Retire = shownRetireRule(p, rec)
		}
	}
}

func shownGeneration(g record.Generation, placements []status.Placement) status.Generation {
	return status.Generation{
		Number: g.Number, ID: g.ID, Spec: g.Spec, State: g.State(), Reason: g.Reason, Requester: g.Requester,
		Requests: g.Requests, Without: g.Without, Fingerprint: g.Fingerprint, Reserved: g.Reserved,
		SpareSince: g.SpareSince, GenerateBegun: g.GenerateBegun, Pinned: g.Pinned,
		Finished: g.Finished, Deactivated: g.Deactivated, Compromised: g.Compromised, Discarded: g.Discarded,
		LostInHSM: g.LostInHSM, Placements: placements,
	}
}

func shownSpares(p key.Policy, rec record.Record) *status.Spares {
	s := status.Spares{
		Wanted:      p.Spares,
		Ready:       rec.SparesReady(p),
		Generations: record.MapSpares(rec, shownGeneration),
	}
	if s.Wanted == 0 && len(s.Generations) == 0 {
		return nil
	}
	return &s
}

func shownRetireRule(p key.Policy, rec record.Record) *status.RetireRule {
	if p.Retained || p.Retire.Never() {
		return nil
	}
	r := &status.RetireRule{
		DisableAfter: int64(p.Retire.DisableAfter.Seconds()), Pause: int64(p.Retire.Between().Seconds()),
	}
	if c := rec.Consent; rec.ConsentsTo(p.Retire) {
		r.Consent = &status.Consent{At: c.At, By: c.By, Reason: c.Reason, Digest: c.Digest}
	}
	return r
}

func shownPlacement(p record.Placement) status.Placement {
	if p.State != key.Disabling { // it is one whose disabling keyd gave up
		p.Disables = ""
	}
	return status.Placement{
		Vault: p.Vault, VaultName: p.VaultName, Attempt: p.Attempt, Cause: p.Cause, State: p.State, At: p.At,
		Version: p.Version, Created: p.Created, ImportedAt: p.ImportedAt, ProvenAt: p.ProvenAt,
		DisabledAt: p.DisabledAt, Disables: p.Disables, Expires: p.Expires,
		Acknowledged: p.Acknowledged, Aliases: p.Aliases,
		DisabledVersions: p.DisabledVersions, KEK: p.KEK, KEKPrint: p.KEKPrint, Detail: p.Detail,
	}
}

// vaultStatus returns each configured vault as the newest look at any key saw it. Of a vault that does not answer now
// it has what the last good look showed.
func (d *Daemon) vaultStatus(standings []*standing) []status.Vault {
	looks := map[string]*vaultLooks{} // by URL
	for _, st := range standings {
		seen := st.seen()
		if seen == nil {
			continue
		}
		for url := range seen.Vaults {
			if looks[url] == nil {
				looks[url] = &vaultLooks{url: url}
			}
			looks[url].add(seen)
		}
	}
	var out []status.Vault
	for _, v := range d.config().Vaults {
		s := status.Vault{Vault: v.Vault, History: d.histories.OfVault(v.URL, time.Now())}
		if found := looks[v.URL]; found != nil {
			found.good = d.standings.lastGood(v.URL, found.good)
			found.show(&s)
		}
		d.showKEKs(&s)
		out = append(out, s)
	}
	return out
}

// vaultLooks sums up the looks at all keys of one vault.
type vaultLooks struct {
	url    string
	latest *record.Observation
	good   *record.Observation // the latest that succeeded; nil for none
}

func (l *vaultLooks) add(o *record.Observation) {
	at := o.Vaults[l.url].AsOf()
	if l.latest == nil || !at.Before(l.latest.Vaults[l.url].AsOf()) {
		l.latest = o
	}
	if o.Vaults[l.url].Err == nil && (l.good == nil || at.After(l.good.Vaults[l.url].AsOf())) {
		l.good = o
	}
}

func (l *vaultLooks) show(s *status.Vault) {
	err := l.latest.Vaults[l.url].Err
	if key.ReasonOf(err).OfVersion() {
		err = nil // the vault answered, about this one key
	}
	s.Reachable = err == nil
	if err != nil {
		s.Error, s.Reason = err.Error(), key.ReasonOf(err)
	}
	if l.good == nil {
		return
	}
	seen := l.good.Vaults[l.url]
	s.SeenAt, s.ClockSkew = seen.AsOf(), status.Seconds(seen.Skew)
	s.KEK, s.KEKPrint, s.KEKTrust = seen.KEK.KEK.Kid, seen.KEK.Print, seen.KEK.Trust
	if seen.KEK.Err != nil {
		s.KEKTrust = "refused: " + seen.KEK.Err.Error()
	}
}
