package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/health"
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
	s.Problems = d.problems(s)
	return s
}

func (d *Daemon) hsmStatus() status.HSM {
	d.mu.RLock()
	defer d.mu.RUnlock()
	h := status.HSM{Up: d.hsmSeen.up, Since: d.hsmSeen.since, Info: d.hsmSeen.info, History: d.histories.ofHSM(time.Now())}
	if d.hsmSeen.err != nil {
		h.Error = d.hsmSeen.err.Error()
	}
	return h
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

// problems puts what is wrong into words, the worst first.
func (d *Daemon) problems(s status.Snapshot) []status.Problem {
	var out []status.Problem
	add := func(sev status.Severity, key, vault, runbook, text, remedy string) {
		out = append(out, status.Problem{Severity: sev, Key: key, Vault: vault, Text: text, Remedy: remedy, Runbook: runbook})
	}
	if err := d.store.Healthy(); err != nil {
		add(status.Critical, "", "", "keydstoreunhealthy", "the state cannot be written: "+err.Error(), "free or repair the disk; keyd goes on by itself")
	}
	switch {
	case !s.HSM.Up && !s.HSM.Since.IsZero():
		add(status.Critical, "", "", "keydhsmdown", "the HSM side is down: "+s.HSM.Error, "systemctl status keyd-hsm; journalctl -u keyd-hsm")
	case s.HSM.Info.Degraded != "":
		add(status.Critical, "", "", "keydhsmdown", "the HSM side cannot work: "+s.HSM.Info.Degraded, "systemctl status keyd-hsm; keyd check tries each part")
	}
	if last := d.keeper.Last(); !last.IsZero() && s.At.Sub(last) > audit.Every+time.Hour {
		add(status.Warning, "", "", "keydcheckpointstale", "the audit chain was last signed at "+last.UTC().Format(time.RFC3339)+", and should be daily", "keyd audit checkpoint tells why; keyd tries again by itself")
	}
	names := map[string]string{}
	for _, v := range s.Vaults {
		names[v.URL] = v.Name
		if !v.Reachable && v.Error != "" {
			add(status.Warning, "", v.Name, "keydvaultunreachable", "vault "+v.Name+" cannot be used: "+v.Error, "keyd check tries each part of the way to it; keyd goes on by itself")
		}
	}
	for _, k := range s.Keys {
		out = append(out, d.proofProblems(k, names)...)
		out = append(out, d.driftProblems(k)...)
		switch {
		case k.Hold != nil:
			add(severityOf(k.Hold.Code), k.Name, names[k.Hold.Vault], "hold-"+string(k.Hold.Code), fmt.Sprintf("%s is held (%s): %s", k.Name, k.Hold.Code, k.Hold.Reason), "")
		case k.Error != "" && k.State == status.StateFailing:
			add(status.Warning, k.Name, "", "keydrotationfailing", k.Error, "keyd tries again by itself")
		case k.State == status.StatePartial:
			add(status.Warning, k.Name, "", "keydrotationfailing", fmt.Sprintf("%s is active in some of its vaults only: %s", k.Name, k.Waiting), "keyd catches the others up by itself")
		}
	}
	slices.SortStableFunc(out, func(a, b status.Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	return out
}

func (d *Daemon) proofProblems(k status.Key, names map[string]string) (out []status.Problem) {
	for _, p := range k.Proofs {
		if !d.health.Failing(health.ID{Key: k.Name, Vault: p.Vault, Version: p.Version}) {
			continue
		}
		text := fmt.Sprintf("%s: version %s (generation %d) in vault %s did not prove: %s at %s: %s", k.Name, p.Version, p.Generation, names[p.Vault], p.Outcome, leg(p), p.Error)
		out = append(out, status.Problem{Severity: status.Critical, Key: k.Name, Vault: names[p.Vault], Text: text, Runbook: "keydunwrapfailing", Remedy: "see the runbook before anything is disabled or deleted"})
	}
	return out
}

// leg is the leg that did not pass, with the reason.
func leg(p status.Proof) string {
	if p.Reason == "" {
		return p.Leg
	}
	return fmt.Sprintf("%s (%s)", p.Leg, p.Reason)
}

// driftProblems are the differences that the last look found, but for those for
// which the key is held.
func (d *Daemon) driftProblems(k status.Key) (out []status.Problem) {
	p, ok := d.loop.Policy(k.Name)
	o := d.rotator.LastLook(k.Name)
	if !ok || o == nil {
		return nil
	}
	rec, err := d.store.Load(context.Background(), k.Name)
	if err != nil {
		return nil
	}
	for _, drift := range rotate.Drifts(p, rec, o) {
		if k.Hold != nil && string(k.Hold.Code) == string(drift.Kind) {
			continue
		}
		out = append(out, status.Problem{Severity: driftSeverity(drift.Kind), Key: k.Name, Vault: drift.Vault.Name, Text: drift.Text, Remedy: drift.Remedy, Runbook: "drift-" + string(drift.Kind)})
	}
	return out
}

// driftSeverity is critical for what keeps data from being read, or may soon.
func driftSeverity(kind rotate.DriftKind) status.Severity {
	switch kind {
	case rotate.DriftDeleted, rotate.DriftNewestDisabled, rotate.DriftDisabled, rotate.DriftForeign:
		return status.Critical
	}
	return status.Warning
}

func severityOf(code key.HoldCode) status.Severity {
	switch code {
	case key.HoldPaused, key.HoldAdopted, key.HoldNameTaken:
		return status.Warning
	}
	return status.Critical
}
