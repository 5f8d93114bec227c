package daemon

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/status"
)

// As in problems.go, these are the alerts' times.
const (
	rotationLate   = time.Hour        // after it was due, or was asked for
	compromiseLate = 30 * time.Minute // after it was asked for: until it is finished
	rotationLong   = 2 * time.Hour
	proofLate      = 10 * time.Minute // beyond twice the interval
	expirySoon     = 7 * 24 * time.Hour
)

// key is one key: what keeps data from being read before what is only late.
func (t *teller) key(k status.Key) {
	for _, p := range k.Proofs {
		t.proof(k, p)
	}
	if l, ok := t.look(k.Name); ok {
		t.drifts(k, l)
		t.policies(k, l)
	}
	t.requests(k)
	if k.Hold != nil {
		t.add(severityOf(k.Hold.Code), k.Name, t.names[k.Hold.Vault], "hold-"+string(k.Hold.Code), fmt.Sprintf("%s is held (%s): %s", k.Name, k.Hold.Code, k.Hold.Reason), "")
		return
	}
	t.rotation(k)
}

func (t *teller) proof(k status.Key, p status.Proof) {
	which := fmt.Sprintf("%s: version %s (generation %d) in vault %s", k.Name, p.Version, p.Generation, t.names[p.Vault])
	if t.failing(health.ID{Key: k.Name, Vault: p.Vault, Version: p.Version}) {
		if onlyCloses(p) {
			t.add(status.Critical, k.Name, t.names[p.Vault], "keydwrapfailing",
				fmt.Sprintf("%s does not wrap or sign: %s at %s: %s; what is encrypted under it can be read",
					which, p.Outcome, leg(p), p.Error),
				"see the runbook: nothing new can be encrypted under this version")
			return
		}
		t.add(status.Critical, k.Name, t.names[p.Vault], "keydunwrapfailing", fmt.Sprintf("%s did not prove: %s at %s: %s", which, p.Outcome, leg(p), p.Error),
			"see the runbook before anything is disabled or deleted")
		return
	}
	if p.PassedAt.IsZero() || p.Outcome == "" && p.Error != "" {
		return // never proven, or its vault has left the configuration
	}
	since := p.PassedAt
	if t.started.After(since) {
		since = t.started // what was proven before the start is not known to be late
	}
	if every := t.interval(p.Newest); t.at.Sub(since) > 2*every+proofLate {
		t.add(status.Warning, k.Name, t.names[p.Vault], "keydproofstale", fmt.Sprintf("%s was last proven at %s, and should be every %s", which, moment(p.PassedAt), every),
			"keyd check tries each part; keyd tries again by itself")
	}
}

// onlyCloses reports whether a proof did not pass for no other reason than that the
// vault neither wraps nor signs.
func onlyCloses(p status.Proof) bool {
	return p.Outcome == key.Inconclusive && proof.Leg(p.Leg).Closes()
}

// leg is the leg that did not pass, with the reason.
func leg(p status.Proof) string {
	if p.Reason == "" {
		return p.Leg
	}
	return fmt.Sprintf("%s (%s)", p.Leg, p.Reason)
}

// drifts are the differences that the last look found, but for those for which the
// key is held.
func (t *teller) drifts(k status.Key, l look) {
	for _, drift := range plan.Drifts(plan.Input{Policy: l.policy, Record: &l.record, Seen: l.seen}) {
		if k.Hold != nil && string(k.Hold.Code) == string(drift.Kind) {
			continue
		}
		severity, runbook := driftSeverity(drift.Kind), "drift-"+string(drift.Kind)
		if drift.Kind == plan.DriftExpiring && t.expires(l, drift.Vault.URL).Sub(t.at) < expirySoon {
			severity, runbook = status.Critical, "keydversionexpiressoon"
		}
		t.add(severity, k.Name, drift.Vault.Name, runbook, drift.Text, drift.Remedy)
	}
}

// expires is when the newest version in a vault expires.
func (t *teller) expires(l look, url string) time.Time {
	seen := l.seen.Vaults[url]
	for _, v := range seen.Versions {
		if v.ID == seen.Newest {
			return v.Expires
		}
	}
	return time.Time{}
}

// policies are the vaults that do not tell whether they rotate the key themselves.
func (t *teller) policies(k status.Key, l look) {
	for _, v := range l.policy.Vaults {
		if seen := l.seen.Vaults[v.URL]; seen.Err == nil && seen.PolicyErr != nil {
			t.add(status.Warning, k.Name, v.Name, "keydrotationpolicyunreadable", fmt.Sprintf("%s: vault %s does not tell whether it rotates the key itself: %v", k.Name, v.Name, seen.PolicyErr),
				"let keyd's identity read rotation policies, as the runbook says; keyd asks again within half an hour")
		}
	}
}

// requests are the rotations that people asked for and that do not come.
func (t *teller) requests(k status.Key) {
	var compromise, other time.Time // the oldest
	for _, q := range k.Requests {
		oldest := &other
		if q.Compromise {
			oldest = &compromise
		}
		if oldest.IsZero() || q.At.Before(*oldest) {
			*oldest = q.At
		}
	}
	if !compromise.IsZero() && t.at.Sub(compromise) > compromiseLate {
		t.add(status.Critical, k.Name, "", "keydcompromisewaiting", because(fmt.Sprintf("%s is compromised, and the rotation that was asked for at %s is not finished", k.Name, moment(compromise)), k),
			"keyd plan shows what it waits for; if one vault alone is in the way: keyd rotate --now "+k.Name+" --compromise --without VAULT --reason …")
	}
	if !other.IsZero() && t.at.Sub(other) > rotationLate && k.Hold == nil && k.RotationSince.IsZero() {
		t.add(status.Warning, k.Name, "", "keydrequestwaiting", because(fmt.Sprintf("%s: the rotation that was asked for at %s has not begun", k.Name, moment(other)), k),
			"keyd plan shows what it waits for; it begins by itself when that is removed")
	}
}

// rotation is what does not come through, or does not begin.
func (t *teller) rotation(k status.Key) {
	since, lacking := k.RotationSince, t.lacking(k)
	one := ""
	if len(lacking) == 1 {
		one = lacking[0]
	}
	switch {
	case k.Error != "" && k.State == status.StateFailing:
		t.add(status.Warning, k.Name, "", "keydrotationfailing", k.Error, "keyd tries again by itself")
	case !since.IsZero() && t.at.Sub(since) > rotationLong:
		t.add(status.Warning, k.Name, one, "keydrotationfailing", because(fmt.Sprintf("%s: its rotation has been under way since %s", k.Name, moment(since)), k), "keyd plan shows what it waits for; keyd goes on by itself")
	case k.State == status.StatePartial && since.IsZero():
		t.add(status.Warning, k.Name, one, "keydkeypartial", because(fmt.Sprintf("%s lacks its latest generation in %s", k.Name, strings.Join(lacking, ", ")), k), "mend what it waits for; keyd catches the vault up by itself")
	case k.State == status.StatePartial:
		t.add(status.Warning, k.Name, one, "keydrotationfailing", because(k.Name+" is active in some of its vaults only", k), "keyd catches the others up by itself")
	case k.State == status.StateNew && since.IsZero() && k.Waiting != "":
		t.add(status.Warning, k.Name, "", "keydkeynotmade", because(k.Name+" has no generation yet", k), "mend what it waits for, as keyd check advises; keyd then makes the key by itself")
	}
	if due := k.NextRotation; !due.IsZero() && t.at.Sub(due) > rotationLate {
		t.add(status.Warning, k.Name, "", "keydrotationoverdue", because(fmt.Sprintf("%s was due for rotation at %s, and it has not begun", k.Name, moment(due)), k), "keyd plan shows what it waits for; it begins by itself when that is removed")
	}
}

// lacking names the key's vaults in which its latest generation is not active.
func (t *teller) lacking(k status.Key) (names []string) {
	for _, url := range k.Lacking {
		names = append(names, cmp.Or(t.names[url], url))
	}
	return names
}

// because adds what the key waits for, if it is known.
func because(text string, k status.Key) string {
	if k.Waiting == "" {
		return text
	}
	return text + ": " + k.Waiting
}

// driftSeverity is critical for what keeps data from being read, or may soon.
func driftSeverity(kind plan.DriftKind) status.Severity {
	switch kind {
	case plan.DriftDeleted, plan.DriftMissing, plan.DriftNewestDisabled, plan.DriftDisabled, plan.DriftForeign:
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
