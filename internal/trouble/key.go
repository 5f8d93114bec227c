package trouble

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// key finds what is wrong with one key: first what somebody changed or must decide, then what follows from it or not.
func (f *finder) key(k status.Key) {
	l := f.Looks[k.Name]
	if l != nil {
		f.drifts(k, l)
		f.policies(k, l)
	}
	f.exposed(k)
	if h := k.Hold; h != nil {
		f.causes.keys[place{k.Name, h.Vault, Hold(h.Code)}] = f.add(Hold(h.Code),
			about{key: k.Name, vault: f.vaults[h.Vault], hold: h},
			fmt.Sprintf("%s is held (%s): %s", k.Name, h.Code, h.Reason))
	}
	for _, p := range k.Proofs {
		f.proof(k, p)
	}
	f.requests(k)
	f.repointing(k)
	if k.Hold == nil {
		f.rotation(k)
		f.spares(k)
	}
}

// drifts adds the differences that the last look found, except the one for which the key is held.
func (f *finder) drifts(k status.Key, l *Look) {
	for _, drift := range l.Drifts {
		if k.Hold != nil && string(k.Hold.Code) == string(drift.Kind) {
			continue
		}
		if drift.Kind.OfVault() {
			f.vaultWide(k, drift)
			continue
		}
		cause := Drift(drift.Kind)
		if drift.Kind == plan.DriftExpiring &&
			l.expires(drift.Vault.URL).Sub(f.at) < Of(VersionExpiresSoon).Threshold {
			cause = VersionExpiresSoon
		}
		f.causes.keys[place{k.Name, drift.Vault.URL, cause}] = f.add(cause,
			about{key: k.Name, vault: drift.Vault.Name, remedy: drift.Remedy}, drift.Text)
	}
}

// vaultWide adds what concerns a vault as a whole, once, whichever of its keys show it.
func (f *finder) vaultWide(k status.Key, drift plan.Drift) {
	at := wide{drift.Vault.URL, drift.Kind}
	if f.causes.vaultWide[at] == nil {
		here := about{vault: drift.Vault.Name, remedy: drift.Remedy}
		f.causes.vaultWide[at] = f.add(Drift(drift.Kind), here, drift.Text)
	}
	f.causes.vaultWide[at].concerns(k.Name)
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
	for _, v := range l.Vaults {
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
		f.addLate(RequestWaiting, about{key: k.Name}, because(fmt.Sprintf(
			"%s: the rotation requested at %s has not begun", k.Name, words.Moment(other)), k), k)
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
		f.addLate(StepFailing, here, k.Error, k)
	case f.late(RotationSlow, k.RotationSince):
		f.addLate(RotationSlow, there, because(fmt.Sprintf(
			"%s: its rotation has been under way since %s", k.Name, words.Moment(k.RotationSince)), k), k)
	case k.State == status.StatePartial && underWay:
		f.addLate(RotationPartial, there, because(k.Name+" is active in some of its vaults only", k), k)
	case k.State == status.StatePartial:
		f.addLate(KeyPartial, there, because(fmt.Sprintf(
			"%s lacks its latest generation in %s", k.Name, strings.Join(missingFrom, ", ")), k), k)
	case k.State == status.StateNew && !underWay && k.Waiting != "":
		f.addLate(KeyNotMade, here, because(k.Name+" has no generation yet", k), k)
	}
	if f.late(RotationOverdue, k.NextRotation) {
		f.addLate(RotationOverdue, here, because(fmt.Sprintf(
			"%s was due for rotation at %s, and it has not begun", k.Name, words.Moment(k.NextRotation)), k), k)
	}
}

// spares finds a spare whose pair the HSM does not make.
func (f *finder) spares(k status.Key) {
	if k.Spares == nil || !k.RotationSince.IsZero() {
		return
	}
	for _, s := range k.Spares.Generations {
		if s.Pinned.IsZero() && f.late(SparesMissing, s.SpareSince) {
			f.addLate(SparesMissing, about{key: k.Name}, because(fmt.Sprintf(
				"%s: of its spares are %s; the HSM has made no pair for spare generation %d since %s", k.Name,
				k.Spares.Words(), s.Number, words.Moment(s.SpareSince)), k), k)
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
