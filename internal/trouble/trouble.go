package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/internal/words"
)

// From when on what is late is a problem. The alerts have the same times, so that the
// page is not calm while they fire.
const (
	readyLate      = 15 * time.Minute
	checkpointLate = audit.Every + time.Hour
	lossesMany     = 5 // within hsm.LossSpan
	skewMuch       = 2 * time.Minute
)

// evidence is what problems are told from, besides the snapshot.
type evidence struct {
	store      error     // of the last write
	reload     error     // of the last reload; nil when it was taken over
	checkpoint time.Time // when the audit chain was last signed
	losses     int       // of the HSM side, within hsm.LossSpan
	signIn     vault.CredentialState
	asked      func(vault string) (requests, throttled int)
	failing    func(health.ID) bool
	interval   func(newest bool) time.Duration // between two proofs
	look       func(name string) (look, bool)
}

// look is the last look for a key, and what it is compared with.
type look struct {
	policy key.Policy
	record record.Record
	seen   *record.Observation
}

func (d *Daemon) evidence(at time.Time) evidence {
	d.mu.RLock()
	refused, pace := d.refused, d.cfg.Health
	d.mu.RUnlock()
	return evidence{
		store: d.store.Healthy(), reload: refused, checkpoint: d.keeper.Last(), losses: d.hsm.Lost(), signIn: d.credential().Reread(), failing: d.health.Failing, look: d.lastLook,
		asked: func(name string) (int, int) { return d.vaultSeen.Recent(name, at) },
		interval: func(newest bool) time.Duration {
			if newest {
				return pace.Newest
			}
			return pace.Older
		},
	}
}

func (d *Daemon) lastLook(name string) (look, bool) {
	p, ok := d.loop.Policy(name)
	seen := d.observer.Last(name)
	if !ok || seen == nil {
		return look{}, false
	}
	rec, err := d.store.Load(context.Background(), name)
	return look{p, rec, seen}, err == nil
}

// problems puts what is wrong into words, the worst first.
func problems(s status.Snapshot, e evidence) []status.Problem {
	t := &teller{evidence: e, at: s.At, started: s.Started, names: map[string]string{}}
	t.state(s)
	t.hsm(s.HSM)
	t.audit()
	t.credential()
	for _, v := range s.Vaults {
		t.names[v.URL] = v.Name
		t.vault(v)
	}
	for _, k := range s.Keys {
		t.key(k)
	}
	slices.SortStableFunc(t.out, func(a, b status.Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	return t.out
}

// teller collects problems.
type teller struct {
	evidence
	at, started time.Time
	names       map[string]string // of vaults, by URL
	out         []status.Problem
}

func (t *teller) add(severity status.Severity, key, vault, runbook, text, remedy string) {
	t.out = append(t.out, status.Problem{Severity: severity, Key: key, Vault: vault, Text: text, Remedy: remedy, Runbook: runbook})
}

// state is the daemon itself.
func (t *teller) state(s status.Snapshot) {
	if t.store != nil {
		t.add(status.Critical, "", "", "keydstoreunhealthy", "the state cannot be written: "+t.store.Error(), "free or repair the disk; keyd goes on by itself")
	}
	if t.reload != nil {
		reason, _, _ := strings.Cut(t.reload.Error(), "\n") // the mistakes, one a line, are in the journal
		t.add(status.Warning, "", "", "keydconfigreloadfailed", "the last reload was refused: "+strings.TrimSuffix(reason, ":"),
			"correct it (keyd check shows each mistake with its line), then: keyd reload; until then keyd goes on with the configuration it had")
	}
	if !s.Ready && s.At.Sub(s.Started) > readyLate {
		t.add(status.Warning, "", "", "keydnotready", "not every key was looked at since keyd's start at "+moment(s.Started),
			"keyd check tries each part of the way to the vaults and the HSM; keyd goes on by itself")
	}
}

func (t *teller) hsm(h status.HSM) {
	unit := cmp.Or(h.Unit, unitOfHSM)
	switch {
	case h.State() == status.HSMDown && !h.Since.IsZero():
		t.add(status.Critical, "", "", "keydhsmdown", "the HSM side is down: "+oneLine(h.Error), hsmRemedy(unit))
	case h.State() == status.HSMDegraded && h.Info.PINRefused:
		t.add(status.Critical, "", "", "keydpinrefused", "the HSM side cannot work: "+oneLine(h.Info.Degraded), "do not try PINs by hand; find the right one, as the runbook says")
	case h.State() == status.HSMDegraded:
		t.add(status.Critical, "", "", "keydhsmdown", "the HSM side cannot work: "+oneLine(h.Info.Degraded), "mend what it says; keyd check tries each part")
	}
	if t.losses > lossesMany {
		t.add(status.Warning, "", "", "keydhsmdown", fmt.Sprintf("the HSM side ended %d times within %s, and was started again", t.losses, words.Span(hsm.LossSpan)),
			"journalctl -u "+unit+" shows what ends it")
	}
	const stop = "find out who tries wrong PINs, and stop them; then log in once with the vendor's tool, which resets the count"
	switch h.Info.PIN {
	case key.PINLocked:
		t.add(status.Critical, "", "", "keydpinnearlylocked", "the token's user PIN is locked: keyd cannot log in again after a restart",
			"do not restart "+unit+"; have the token's security officer unlock the PIN")
	case key.PINFinalTry:
		t.add(status.Critical, "", "", "keydpinnearlylocked", "one more wrong PIN locks the token, and keyd cannot log in again after a restart",
			"do not restart "+unit+"; "+stop)
	case key.PINCountLow:
		t.add(status.Warning, "", "", "keydpintrieslow", "somebody else tried a wrong PIN on the token, which has few tries left", stop)
	case key.PINToChange:
		t.add(status.Warning, "", "", "keydpintochange", "the token wants another user PIN",
			"change it with the vendor's tool, write it into hsm.pin_file, then: systemctl restart "+unit)
	}
}

func (t *teller) audit() {
	if last := t.checkpoint; !last.IsZero() && t.at.Sub(last) > checkpointLate {
		t.add(status.Warning, "", "", "keydcheckpointstale", "the audit chain was last signed at "+moment(last)+", and should be daily", "keyd audit checkpoint tells why; keyd tries again by itself")
	}
}

// credential is a certificate that ends soon, and a file that cannot be used.
func (t *teller) credential() {
	c := t.signIn
	warn := func(text, remedy string) { t.add(status.Warning, "", "", "keydcertificateends", text, remedy) }
	left := c.Ends.Sub(t.at)
	switch {
	case c.Err != nil && c.Ends.IsZero():
		warn("the credential's file cannot be used: "+c.Err.Error(), "mend the file"+afterRenewal(c.File))
	case c.Err != nil:
		warn(fmt.Sprintf("the credential's file cannot be used: %v; keyd goes on with the certificate before, which ends at %s",
			c.Err, moment(c.Ends)), "mend the file"+afterRenewal(c.File))
	case c.Ends.IsZero():
	case left <= 0:
		warn(fmt.Sprintf("the client certificate in %s ended at %s: keyd cannot sign in", c.File, moment(c.Ends)), renew(c.File))
	case left < certificateSoon:
		warn(fmt.Sprintf("the client certificate in %s ends at %s: keyd cannot sign in after that", c.File, moment(c.Ends)),
			renew(c.File))
	}
}

func (t *teller) vault(v status.Vault) {
	if !v.Reachable && v.Error != "" {
		t.add(status.Warning, "", v.Name, "keydvaultunreachable", "vault "+v.Name+" cannot be used: "+v.Error, "keyd check tries each part of the way to it; keyd goes on by itself")
	}
	if v.ClockSkew.Abs() > skewMuch {
		t.add(status.Warning, "", v.Name, "keydclockskew",
			fmt.Sprintf("the clocks of this machine and of vault %s differ by %s: from 5 minutes on scheduled rotations wait", v.Name, v.ClockSkew.Abs().Round(time.Second)),
			"chronyc tracking, or timedatectl timesync-status, tells whether this machine's is wrong; correct the time source")
	}
	if requests, throttled := t.asked(v.Name); 10*throttled > requests {
		t.add(status.Warning, "", v.Name, "keydvaultthrottled",
			fmt.Sprintf("vault %s answered %d of the last %d requests, within %s, with 429, too many requests: proofs and rotations are slow", v.Name, throttled, requests, words.Span(vault.RecentSpan)),
			"see in the vault's metrics in Azure who sends how much; keyd waits as it is told to")
	}
}

// moment is a time as problems tell it.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
