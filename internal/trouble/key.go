package trouble

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// key finds what is wrong with one key: first what makes data unreadable, then what is only late.
func (f *finder) key(k status.Key) {
	for _, p := range k.Proofs {
		f.proof(k, p)
	}
	if l := f.Looks[k.Name]; l != nil {
		f.drifts(k, l)
		f.policies(k, l)
	}
	f.requests(k)
	f.exposed(k)
	if h := k.Hold; h != nil {
		f.add(Hold(h.Code), about{key: k.Name, vault: f.vaults[h.Vault], hold: h},
			fmt.Sprintf("%s is held (%s): %s", k.Name, h.Code, h.Reason))
		return
	}
	f.rotation(k)
	f.spares(k)
}

func (f *finder) proof(k status.Key, p status.Proof) {
	here := about{key: k.Name, vault: f.vaults[p.Vault]}
	version := versionOf{k.Name, here.vault, p}
	switch {
	case p.Failing && health.OnlyCloses(p):
		f.add(WrapFailing, here, fmt.Sprintf("%s does not wrap or sign: %s at %s: %s; "+
			"what is encrypted under it can be read", version, p.Outcome, p.Where(), p.Error))
		return
	case p.Failing:
		f.add(UnwrapFailing, here, fmt.Sprintf("%s failed its proof: %s at %s: %s", version, p.Outcome, p.Where(),
			p.Error))
		return
	case p.PassedAt.IsZero(), p.Outcome == "" && p.Error != "":
		return // never proven, or its vault has left the configuration
	}
	since := p.PassedAt
	if f.started.After(since) {
		since = f.started // a version that was proven before the start is not known to be late
	}
	every := f.Older
	if p.Newest {
		every = f.Newest
	}
	if f.late(ProofStale, since.Add(2*every)) {
		f.add(ProofStale, here, fmt.Sprintf("%s was last proven at %s, and should be every %s",
			version, words.Moment(p.PassedAt), every))
	}
}

// versionOf names a version for a person.
type versionOf struct {
	key, vault string
	proof      status.Proof
}

func (v versionOf) String() string {
	return fmt.Sprintf("%s: version %s (generation %d) in vault %s",
		v.key, v.proof.Version, v.proof.Generation, v.vault)
}

// drifts adds the differences that the last look found, except the one for which the key is held.
func (f *finder) drifts(k status.Key, l *Look) {
	for _, drift := range l.Drifts {
		if k.Hold != nil && string(k.Hold.Code) == string(drift.Kind) {
			continue
		}
		cause := Drift(drift.Kind)
		if drift.Kind == plan.DriftExpiring && l.expires(drift.Vault.URL).Sub(f.at) < Of(VersionExpiresSoon).Threshold {
			cause = VersionExpiresSoon
		}
		f.add(cause, about{key: k.Name, vault: drift.Vault.Name, remedy: drift.Remedy}, drift.Text)
	}
}

// expires is when the newest version in a vault expires; zero: never.
func (l *Look) expires(url string) time.Time {
	seen := l.Seen.Vaults[url]
	for _, v := range seen.Versions {
		if v.ID == seen.Newest {
			return v.Expires
		}
	}
	return time.Time{}
}

// policies finds the vaults that do not say whether they rotate the key themselves.
func (f *finder) policies(k status.Key, l *Look) {
	for _, v := range l.Policy.Vaults {
		if seen := l.Seen.Vaults[v.URL]; seen.Err == nil && seen.PolicyErr != nil {
			f.add(RotationPolicyUnreadable, about{key: k.Name, vault: v.Name}, fmt.Sprintf(
				"%s: vault %s does not say whether it rotates the key itself: %v", k.Name, v.Name, seen.PolicyErr))
		}
	}
}

// requests finds requested rotations that are late.
func (f *finder) requests(k status.Key) {
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
	if f.late(CompromiseWaiting, compromise) {
		f.add(CompromiseWaiting, about{key: k.Name}, because(fmt.Sprintf(
			"%s is compromised, and the rotation requested at %s is not finished",
			k.Name, words.Moment(compromise)), k))
	}
	if f.late(RequestWaiting, other) && k.Hold == nil && k.RotationSince.IsZero() {
		f.add(RequestWaiting, about{key: k.Name}, because(fmt.Sprintf(
			"%s: the rotation requested at %s has not begun", k.Name, words.Moment(other)), k))
	}
}

// rotation finds a rotation that does not finish, or does not begin.
func (f *finder) rotation(k status.Key) {
	missingFrom := f.missingFrom(k)
	here, there := about{key: k.Name}, about{key: k.Name}
	if len(missingFrom) == 1 {
		there.vault = missingFrom[0]
	}
	underWay := !k.RotationSince.IsZero()
	switch {
	case k.Error != "" && k.State == status.StateFailing:
		f.add(StepFailing, here, k.Error)
	case f.late(RotationSlow, k.RotationSince):
		f.add(RotationSlow, there, because(fmt.Sprintf(
			"%s: its rotation has been under way since %s", k.Name, words.Moment(k.RotationSince)), k))
	case k.State == status.StatePartial && underWay:
		f.add(RotationPartial, there, because(k.Name+" is active in some of its vaults only", k))
	case k.State == status.StatePartial:
		f.add(KeyPartial, there, because(fmt.Sprintf(
			"%s lacks its latest generation in %s", k.Name, strings.Join(missingFrom, ", ")), k))
	case k.State == status.StateNew && !underWay && k.Waiting != "":
		f.add(KeyNotMade, here, because(k.Name+" has no generation yet", k))
	}
	if f.late(RotationOverdue, k.NextRotation) {
		f.add(RotationOverdue, here, because(fmt.Sprintf(
			"%s was due for rotation at %s, and it has not begun", k.Name, words.Moment(k.NextRotation)), k))
	}
}

// spares finds a spare whose pair the HSM does not make. What keeps the HSM from it altogether is told of the HSM.
func (f *finder) spares(k status.Key) {
	if k.Spares == nil || f.hsmTrouble || !k.RotationSince.IsZero() {
		return
	}
	for _, s := range k.Spares.Generations {
		if s.Pinned.IsZero() && f.late(SparesMissing, s.SpareSince) {
			f.add(SparesMissing, about{key: k.Name}, because(fmt.Sprintf(
				"%s: of its spares are %s; the HSM has made no pair for spare generation %d since %s", k.Name,
				k.Spares.Words(), s.Number, words.Moment(s.SpareSince)), k))
		}
	}
}

// missingFrom names the key's vaults in which its latest generation is not active.
func (f *finder) missingFrom(k status.Key) (names []string) {
	for _, url := range k.MissingFrom {
		names = append(names, cmp.Or(f.vaults[url], url))
	}
	return names
}

// because adds what the key waits for, if that is known.
func because(text string, k status.Key) string {
	if k.Waiting == "" {
		return text
	}
	return text + ": " + k.Waiting
}
