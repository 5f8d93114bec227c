// Package trouble says what is wrong with keyd, in words, with its severity, remedy and runbook. Its rule: each fact
// about a cause is a row of one table, and every problem follows from plain evidence; the package asks nobody.
package trouble

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/internal/words"
)

// Evidence is what Find needs besides the snapshot. The zero value is evidence of nothing wrong.
type Evidence struct {
	StoreErr error // of the last write
	// HeadMissing: that is because the store lacks what this host saw in it.
	HeadMissing bool
	ReloadErr   error     // of the last reload; nil if it succeeded
	Config      string    // the digest of what the daemon's own reading of the configuration permits the HSM side
	Unapproved  int       // how many settings of the files are not in force before a second operator approves them
	Checkpoint  time.Time // when the audit chain was last signed; zero: not known
	// AuditBroken says why the audit chain is not the one that the audit key signed; "" if nothing shows that.
	AuditBroken string
	HSMLosses   int // how often the HSM side ended within hsm.LossSpan
	Credential  vault.CredentialState
	Requests    map[string]Requests // by the vault's name
	Newest      time.Duration       // between two proofs of a newest version
	Older       time.Duration       // and of an older one
	Looks       map[string]*Look    // by key; nil for a key that keyd has not looked at yet
}

// Requests counts the requests to one vault during the last vault.RecentSpan.
type Requests struct{ Sent, Throttled int }

// Look is the last look at a key, and what differs from its record.
type Look struct {
	Vaults []key.Vault // of the key, by the configuration
	Seen   *record.Observation
	Drifts []plan.Drift
}

// NewLook compares a look with a record.
func NewLook(p key.Policy, rec *record.Record, seen *record.Observation) *Look {
	return &Look{Vaults: p.Vaults, Seen: seen, Drifts: plan.Drifts(plan.Input{Policy: p, Record: rec, Seen: seen})}
}

// Find lists what is wrong, the worst first.
func Find(s status.Snapshot, e Evidence) []status.Problem {
	f := &finder{Evidence: e, at: s.At, started: s.Started, unit: s.HSM.Unit, vaults: map[string]string{},
		causes: newCauses()}
	f.daemon(s)
	f.hosts(s.Hosts)
	f.hsm(s.HSM)
	f.audit()
	f.credential()
	f.signIn()
	for _, v := range s.Vaults {
		f.vaults[v.URL] = v.Name
		f.vault(v)
	}
	f.ready(s)
	for _, k := range s.Keys {
		f.key(k)
	}
	for _, p := range s.Proposals {
		f.proposal(p)
	}
	f.consumers(s.Keys)
	f.settings(s.Proposals)
	f.describe()
	problems := make([]status.Problem, len(f.found))
	for i, p := range f.found {
		problems[i] = p.shown()
	}
	slices.SortStableFunc(problems, func(a, b status.Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	return problems
}

// finder collects problems.
type finder struct {
	Evidence
	at, started time.Time
	unit        string            // systemd's, of the HSM side
	hsmUp       time.Time         // since when the HSM side can be used; zero: it cannot
	vaults      map[string]string // names, by URL
	causes      causes
	unanswered  map[unknown]*group
	stale       map[unknown]*group
	blind       blindness
	found       []*problem
}

// about is the key and the vault of a problem, and whatever else its remedy needs. All of it may be empty.
type about struct {
	key, vault, version, credential, remedy string
	hold                                    *key.Hold
}

func (f *finder) add(cause Cause, a about, text string) *problem {
	r := Of(cause)
	fill := strings.NewReplacer("{key}", a.key, "{version}", a.version, "{unit}", cmp.Or(f.unit, unitOfHSM),
		"{consumers}", strings.TrimSpace("keyd consumers "+a.key), "{credential}", a.credential)
	p := &problem{cause: cause, Problem: status.Problem{
		Severity: r.Severity, Key: a.key, Vault: a.vault, Runbook: r.Code, Text: text,
		Remedy: cmp.Or(a.remedy, fill.Replace(r.Remedy)), Hold: a.hold,
	}}
	f.found = append(f.found, p)
	return p
}

// late reports whether the time since t exceeds the cause's threshold. A zero time is never late.
func (f *finder) late(cause Cause, since time.Time) bool {
	return !since.IsZero() && f.at.Sub(since) > Of(cause).Threshold
}

func (f *finder) daemon(s status.Snapshot) {
	switch {
	case f.HeadMissing:
		f.causes.store = f.add(HeadMissing, about{}, f.StoreErr.Error())
	case f.StoreErr != nil:
		f.causes.store = f.add(StoreUnwritable, about{}, "the state cannot be written: "+f.StoreErr.Error())
	}
	if f.ReloadErr != nil && (!s.HSM.Up || s.HSM.Info.ConfigProblem == "") {
		reason, _, _ := strings.Cut(f.ReloadErr.Error(), "\n") // the journal has the mistakes, one a line
		f.add(ReloadRefused, about{}, "the last reload was refused: "+strings.TrimSuffix(reason, ":"))
	}
}

// ready finds a first look that does not end, unless a vault that cannot be used is why.
func (f *finder) ready(s status.Snapshot) {
	if !s.Ready && f.late(NotReady, s.Started) && len(f.causes.vaults) == 0 {
		f.add(NotReady, about{}, "keyd has not looked at every vault since it started at "+words.Moment(s.Started))
	}
}

// unitOfHSM is the HSM side's systemd unit if it is a service of its own.
const unitOfHSM = "keyd-hsm"

// HSMDownRemedy says what to do if the HSM side does not answer; unit is the one whose journal has the HSM side's
// log.
func HSMDownRemedy(unit string) string { return Of(hsmDown(unit)).Remedy }

// hsmDown distinguishes a service, which has its own journal, from a child of the daemon, which has none.
func hsmDown(unit string) Cause {
	if cmp.Or(unit, unitOfHSM) == unitOfHSM {
		return HSMDown
	}
	return HSMChildDown
}

func (f *finder) hsm(h status.HSM) {
	pin := f.pin(h.Info)
	switch {
	case h.State() == status.HSMDown && !h.Since.IsZero():
		f.causes.hsm = f.add(hsmDown(h.Unit), about{}, "the HSM side is down: "+words.OneLine(h.Error))
	case h.State() == status.HSMDegraded && h.Info.PINRefused:
		f.causes.hsm = f.add(PINRefused, about{}, "the HSM side cannot work: "+words.OneLine(h.Info.Degraded))
	case h.State() == status.HSMDegraded && pin != nil:
		f.causes.hsm = pin
		pin.Text += "; the HSM side cannot work: " + words.OneLine(h.Info.Degraded)
	case h.State() == status.HSMDegraded:
		f.causes.hsm = f.add(HSMDegraded, about{}, "the HSM side cannot work: "+words.OneLine(h.Info.Degraded))
	case h.State() == status.HSMUp:
		f.hsmUp = h.Since
	}
	if float64(f.HSMLosses) > Of(HSMRestarting).Limit && f.causes.hsm == nil {
		f.add(HSMRestarting, about{}, fmt.Sprintf("the HSM side ended %d times within %s, and was started again",
			f.HSMLosses, words.Span(hsm.LossSpan)))
	}
	f.hsmConfig(h)
}

// hsmConfig finds that the HSM side, which reads the configuration itself, acts on another one than the daemon.
func (f *finder) hsmConfig(h status.HSM) {
	switch {
	case !h.Up:
	case h.Info.ConfigProblem != "":
		f.add(HSMConfigDiffers, about{}, "the HSM side cannot use the configuration that is on the disk, and makes "+
			"and wraps nothing: "+words.OneLine(h.Info.ConfigProblem))
	case h.Info.Config != f.Config && f.ReloadErr == nil: // a refused reload is its cause
		f.add(HSMConfigDiffers, about{}, "the HSM side, which reads the configuration itself, acts on another one "+
			"than the daemon: they differ in what may be made, or wrapped for whom")
	}
}

// pin finds what is wrong with the token's user PIN; nil: nothing.
func (f *finder) pin(info key.HSMInfo) *problem {
	switch info.PIN {
	case key.PINLocked:
		return f.add(PINLocked, about{}, "the token's user PIN is locked: keyd cannot log in again after a restart")
	case key.PINFinalTry:
		return f.add(PINFinalTry, about{},
			"one more wrong PIN locks the token, and keyd cannot log in again after a restart")
	case key.PINCountLow:
		return f.add(PINTriesLow, about{}, "somebody else tried a wrong PIN on the token, which has few tries left")
	case key.PINToChange:
		return f.add(PINToChange, about{}, "the token demands a new user PIN")
	}
	return nil
}

func (f *finder) audit() {
	switch {
	case f.AuditBroken != "":
		f.add(AuditBroken, about{}, f.AuditBroken)
	case f.late(CheckpointStale, f.Checkpoint) && f.causes.hsm == nil && f.causes.store == nil:
		f.add(CheckpointStale, about{}, fmt.Sprintf("the audit chain was last signed at %s, and should be daily",
			words.Moment(f.Checkpoint)))
	}
}

// credential finds a certificate that ends soon, and a credential file that cannot be used.
func (f *finder) credential() {
	c := f.Credential
	left := c.Ends.Sub(f.at)
	switch {
	case c.Err != nil && c.Ends.IsZero():
		f.causes.signIn = f.add(CredentialUnusable, about{credential: c.Fix()},
			"the credential's file cannot be used: "+c.Err.Error())
	case c.Err != nil:
		f.add(CredentialUnusable, about{credential: c.Fix()}, fmt.Sprintf(
			"the credential's file cannot be used: %v; keyd still uses the previous certificate, which ends at %s",
			c.Err, words.Moment(c.Ends)))
	case c.Ends.IsZero():
	case left <= 0:
		f.causes.signIn = f.add(CertificateEnds, about{credential: c.Renew()}, fmt.Sprintf(
			"the client certificate in %s ended at %s: keyd cannot sign in", c.File, words.Moment(c.Ends)))
	case left < Of(CertificateEnds).Threshold:
		f.add(CertificateEnds, about{credential: c.Renew()}, fmt.Sprintf(
			"the client certificate in %s ends at %s: keyd cannot sign in after that", c.File, words.Moment(c.Ends)))
	}
}

func (f *finder) vault(v status.Vault) {
	here := about{vault: v.Name}
	if !v.Reachable && v.Error != "" {
		f.vaultUnusable(v)
	}
	f.kek(v)
	if skew := v.ClockSkew.Duration().Abs(); skew > Of(ClockSkew).Threshold {
		found := f.add(ClockSkew, here, fmt.Sprintf("the clocks of this machine and of vault %s differ by %s: "+
			"from %s on scheduled rotations wait", v.Name, skew.Round(time.Second), words.Span(key.MaxSkew)))
		if skew > key.MaxSkew {
			f.causes.clocks[v.URL] = found
		}
	}
	if n := f.Requests[v.Name]; float64(n.Throttled) > Of(VaultThrottled).Limit*float64(n.Sent) {
		f.causes.throttled[v.URL] = f.add(VaultThrottled, here, fmt.Sprintf("vault %s answered %d of the last %d "+
			"requests, within %s, with 429, too many requests: proofs and rotations are slow",
			v.Name, n.Throttled, n.Sent, words.Span(vault.RecentSpan)))
	}
}

// vaultUnusable finds a vault that does not answer or refuses keyd. Where keyd gets no token, that is one problem for
// all vaults.
func (f *finder) vaultUnusable(v status.Vault) {
	if v.Reason == key.NoToken {
		f.causes.vaults[v.URL] = f.noToken()
		f.causes.signIn.vaults++
		return
	}
	f.causes.vaults[v.URL] = f.add(VaultUnreachable, about{vault: v.Name},
		"vault "+v.Name+" cannot be used: "+v.Error)
}

// kek finds a new KEK that waits for a person's approval.
func (f *finder) kek(v status.Vault) {
	k := v.WaitingKEK()
	if k == nil || f.at.Sub(k.Made) <= Of(KEKWaiting).Threshold {
		return
	}
	remedy := fmt.Sprintf(
		"compute the fingerprint without keyd, by the lines that keyd kek %s shows, and confirm it with the vault's "+
			"owner out of band; write that result under the vault in keyd.yaml: %s, then: keyd reload",
		v.Name,
		v.PinLine(),
	)
	meanwhile := "keyd wraps for the previous one"
	if v.ActiveKEK() == nil {
		meanwhile = "keyd wraps nothing for the vault"
	}
	f.add(
		KEKWaiting,
		about{vault: v.Name, remedy: remedy},
		fmt.Sprintf("vault %s has a new key exchange key, %s, which has waited for approval since %s: until then %s",
			v.Name, k.Fingerprint, words.Moment(k.Made), meanwhile),
	)
}
