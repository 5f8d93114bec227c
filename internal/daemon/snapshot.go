package daemon

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

// Snapshot is the daemon at this moment.
func (d *Daemon) Snapshot() status.Snapshot {
	at := time.Now()
	ready, _ := d.Ready()
	s := status.Snapshot{Version: d.opts.Version, Instance: d.config().Instance, At: at, Started: d.started, Ready: ready, HSM: d.hsmStatus()}
	for _, name := range d.loop.Names() {
		if k, ok := d.keyStatus(at, name); ok {
			s.Keys = append(s.Keys, k)
		}
	}
	s.Vaults = d.vaultStatus()
	s.Problems = problems(s, d.evidence(at))
	return s
}

func (d *Daemon) keyStatus(at time.Time, name string) (status.Key, bool) {
	p, ok := d.loop.Policy(name)
	if !ok {
		return status.Key{}, false
	}
	pos := d.loop.Position(name)
	k := status.Key{Name: name, Spec: p.Spec, Schedule: p.ScheduleText, Retained: p.Retained, Proofs: d.health.Results(name)}
	for _, v := range p.Vaults {
		k.Vaults = append(k.Vaults, v.URL)
	}
	if pos.Err != nil {
		k.Error = pos.Err.Error()
	}
	switch {
	case pos.Doing && pos.Step.Acts():
		k.Doing = string(pos.Step.Kind)
	case pos.Step.Kind == rotate.Wait:
		k.Waiting = pos.Step.Why
	}
	rec, err := d.store.Load(context.Background(), name)
	if err != nil {
		k.Error, k.State = err.Error(), status.StateFailing
		return k, true
	}
	k.LastRotation, k.NextRotation = rec.LastRotation(), rotate.NextRotation(at, p, &rec)
	k.Hold, k.Requests, k.Generations, k.Abandoned = rec.Hold, rec.Requests, rec.Generations, len(rec.Abandoned)
	k.State = keyState(p, &rec, pos)
	return k, true
}

func keyState(p key.Policy, rec *key.Record, pos rotate.Position) string {
	latest := rec.Latest()
	switch {
	case rec.Hold != nil:
		return status.StateHeld
	case p.Retained:
		return status.StateRetained
	case pos.Err != nil && pos.Failures > 1:
		return status.StateFailing
	case rotate.Partial(p, rec) && pos.Step.Kind == rotate.Wait:
		return status.StatePartial
	case latest == nil || latest.Number == 1 && latest.Finished.IsZero():
		return status.StateNew
	case latest.Finished.IsZero():
		return status.StateRotating
	case rotate.Partial(p, rec):
		return status.StatePartial
	}
	return status.StateOK
}

// vaultStatus is each configured vault as the newest look of any key saw it.
func (d *Daemon) vaultStatus() []status.Vault {
	var out []status.Vault
	for _, v := range d.config().Vaults {
		out = append(out, d.oneVault(v.Vault))
	}
	return out
}

func (d *Daemon) oneVault(v key.Vault) status.Vault {
	s := status.Vault{Vault: v, History: d.histories.ofVault(v.URL, time.Now())}
	var latest time.Time
	for _, name := range d.loop.Names() {
		o := d.rotator.LastLook(name)
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
