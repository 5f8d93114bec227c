package daemon

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// Snapshot is the daemon at this moment.
func (d *Daemon) Snapshot() status.Snapshot {
	at := time.Now()
	ready, _ := d.Ready()
	s := status.Snapshot{
		Version: d.opts.Version, Instance: d.config().Instance, At: at, Started: d.started, Ready: ready,
		HSM: d.hsmStatus(),
	}
	for _, name := range d.loop.Names() {
		if k, ok := d.keyStatus(at, name); ok {
			s.Keys = append(s.Keys, k)
		}
	}
	s.Vaults = d.vaultStatus()
	s.Problems = trouble.Find(s, d.evidence(s))
	return s
}

func (d *Daemon) keyStatus(at time.Time, name string) (status.Key, bool) {
	p, ok := d.loop.Policy(name)
	if !ok {
		return status.Key{}, false
	}
	pos := d.loop.Position(name)
	k := status.Key{
		Name:     name,
		Spec:     p.Spec,
		Schedule: p.ScheduleText,
		Retained: p.Retained,
		Proofs:   d.health.Results(name),
	}
	for _, v := range p.Vaults {
		k.Vaults = append(k.Vaults, v.URL)
	}
	if pos.Err != nil {
		k.Error = pos.Err.Error()
	}
	switch {
	case pos.Doing && pos.Step.Acts():
		k.Doing = string(pos.Step.Kind)
	case pos.Step.Kind == plan.Wait:
		k.Waiting = pos.Step.Why
	}
	rec, err := d.store.Load(context.Background(), name)
	if err != nil {
		k.Error, k.State = err.Error(), status.StateFailing
		return k, true
	}
	k.LastRotation, k.NextRotation = rec.LastRotation(), plan.NextRotation(at, p, &rec)
	k.Hold, k.Requests, k.Abandoned = rec.Hold, rec.Requests, len(rec.Abandoned)
	k.Generations = record.Map(rec, shownGeneration, shownPlacement)
	k.Spares = shownSpares(p, rec)
	stage := rec.Stage(p)
	k.RotationSince, k.MissingFrom = stage.Since, stage.MissingFrom
	k.State = trouble.KeyState(p, &rec, pos)
	return k, true
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
	s := status.Spares{Wanted: p.Spares, Ready: rec.SparesReady(p), Generations: record.MapSpares(rec, shownGeneration)}
	if s.Wanted == 0 && len(s.Generations) == 0 {
		return nil
	}
	return &s
}

func shownPlacement(p record.Placement) status.Placement {
	return status.Placement{
		Vault: p.Vault, VaultName: p.VaultName, Attempt: p.Attempt, Cause: p.Cause, State: p.State, At: p.At,
		Version: p.Version, Created: p.Created, ImportedAt: p.ImportedAt, ProvenAt: p.ProvenAt,
		DisabledAt: p.DisabledAt, Expires: p.Expires, Aliases: p.Aliases,
		DisabledVersions: p.DisabledVersions, KEK: p.KEK, KEKPrint: p.KEKPrint, Detail: p.Detail,
	}
}

// vaultStatus returns each configured vault as the newest look at any key saw it.
func (d *Daemon) vaultStatus() []status.Vault {
	var out []status.Vault
	for _, v := range d.config().Vaults {
		s := d.oneVault(v.Vault)
		d.showKEKs(&s)
		out = append(out, s)
	}
	return out
}

func (d *Daemon) oneVault(v key.Vault) status.Vault {
	s := status.Vault{Vault: v, History: d.histories.OfVault(v.URL, time.Now())}
	var latest time.Time
	for _, name := range d.loop.Names() {
		o := d.observer.Last(name)
		if o == nil {
			continue
		}
		seen, ok := o.Vaults[v.URL]
		if !ok {
			continue
		}
		if seen.Err == nil && seen.Begun.After(s.SeenAt) {
			s.SeenAt = seen.Begun
		}
		if seen.Begun.Before(latest) {
			continue
		}
		latest = seen.Begun
		s.Reachable, s.Error = seen.Err == nil, ""
		if seen.Err != nil {
			s.Error = seen.Err.Error()
			continue
		}
		s.ClockSkew = seen.Skew
		s.KEK, s.KEKPrint, s.KEKTrust = seen.KEK.KEK.Kid, seen.KEK.Print, seen.KEK.Trust
		if seen.KEK.Err != nil {
			s.KEKTrust = "refused: " + seen.KEK.Err.Error()
		}
	}
	return s
}
