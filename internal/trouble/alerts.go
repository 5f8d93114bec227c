package trouble

import (
	"github.com/keyd-project/keyd/internal/status"
)

// Runbooks is where the alerts' links lead.
const Runbooks = "https://github.com/keyd-project/keyd/blob/main/docs/runbooks.md"

// Alone has a row for each alert that no problem can show, because keyd itself cannot know it.
func Alone() []Row {
	return []Row{
		// A daemon that does not answer shows nothing.
		{Alert: "KeydDown", Code: "keyddown", Severity: critical},
		// A process does not know how often it was started.
		{Alert: "KeydRestarting", Code: "keydrestarting", Severity: warning},
		// keyd has only the chain that is there. That it was longer is known where it was scraped.
		{Alert: "KeydAuditFell", Code: "keydauditfell", Severity: critical},
	}
}

// AlertSeverity is the severity of an alert: the mildest of its causes', because a person who looks sees which it is.
// ok is false for an alert that the table does not know.
func AlertSeverity(alert string) (mildest status.Severity, ok bool) {
	for _, r := range append(Table(), Alone()...) {
		if r.Alert == alert && r.Severity > mildest { // critical sorts before warning
			mildest = r.Severity
		}
	}
	return mildest, mildest != ""
}

// Inhibition says that nobody is told of some alerts while another fires: they follow from it.
type Inhibition struct {
	Why     string
	Sources []string          // alerts
	With    map[string]string // further labels of a source
	Targets []string          // alerts
	And     map[string]string // further labels of a target
	Equal   []string          // labels that both must share, besides job, instance and host
}

// waiting are the alerts that a key does not go on: what keeps keyd from working causes them for every key.
var waiting = []string{
	"KeydRotationOverdue", "KeydRotationFailing", "KeydRequestWaiting", "KeydKeyPartial", "KeydKeyNotMade",
	"KeydSparesMissing",
}

// Inhibitions lists what follows from what, for Alertmanager, as Find counts it for a person.
func Inhibitions() []Inhibition {
	return []Inhibition{
		{Why: "Without a PIN the HSM side cannot work.",
			Sources: []string{"KeydPINRefused", "KeydPINNearlyLocked"}, Targets: []string{"KeydHSMDown"}},
		{Why: "Without the HSM keyd makes, imports and proves nothing.",
			Sources: []string{"KeydHSMDown", "KeydPINRefused"},
			Targets: append([]string{"KeydVersionsUnproven", "KeydProofStale", "KeydCheckpointStale"}, waiting...)},
		{Why: "A store that lacks what a host saw in it is not written.",
			Sources: []string{"KeydHeadMissing"}, Targets: []string{"KeydStoreUnhealthy", "KeydNoLeader"}},
		{Why: "Without its store no host leads.",
			Sources: []string{"KeydStoreUnhealthy"}, Targets: []string{"KeydNoLeader"}},
		{Why: "Without a leader keyd begins nothing.",
			Sources: []string{"KeydNoLeader"}, Targets: append([]string{"KeydCheckpointStale"}, waiting...)},
		{Why: "Without its state keyd begins nothing.",
			Sources: []string{"KeydStoreUnhealthy"}, Targets: append([]string{"KeydCheckpointStale"}, waiting...)},
		// Whatever follows from KeydVaultUnreachable is silenced by it, even while nobody is told of it.
		{Why: "Without a token keyd can use no vault, and the first look does not end.",
			Sources: []string{"KeydSignInFailing"}, With: map[string]string{"audience": "vaults"},
			Targets: []string{"KeydVaultUnreachable", "KeydNotReady"}},
		{Why: "Consumers have no token then for the same reason.",
			Sources: []string{"KeydSignInFailing"}, With: map[string]string{"audience": "vaults"},
			Targets: []string{"KeydSignInFailing"}, And: map[string]string{"audience": "consumers"}},
		{Why: "A certificate that has ended is why keyd cannot sign in.",
			Sources: []string{"KeydSignInFailing"}, Targets: []string{"KeydCertificateEnds"}},
		{Why: "The first look does not end while a vault does not answer.",
			Sources: []string{"KeydVaultUnreachable"}, Targets: []string{"KeydNotReady"}},
		{Why: "A vault that does not answer, or refuses keyd, takes and proves nothing.",
			Sources: []string{"KeydVaultUnreachable"}, Equal: []string{"vault"},
			Targets: []string{"KeydVersionsUnproven", "KeydProofStale", "KeydRotationFailing", "KeydKeyPartial",
				"KeydRotationPolicyUnreadable"}},
		{Why: "Proofs that do not pass are not late besides.",
			Sources: []string{"KeydVersionsUnproven", "KeydVaultThrottled"}, Equal: []string{"vault"},
			Targets: []string{"KeydProofStale"}},
		{Why: "A vault that throttles keyd leaves proofs unanswered.",
			Sources: []string{"KeydVaultThrottled"}, Equal: []string{"vault"},
			Targets: []string{"KeydVersionsUnproven"}, And: map[string]string{"reason": "Throttled"}},
		{Why: "What became of a key in a vault also holds it.",
			Sources: []string{"KeydKeyDeleted", "KeydVersionsMissing"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydKeyOnHold"}, And: map[string]string{"code": "key-deleted|versions-missing"}},
		{Why: "And its versions fail. A refuted one is another matter.",
			Sources: []string{"KeydKeyDeleted", "KeydVersionsMissing"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydUnwrapFailing"},
			And:     map[string]string{"reason": "KeyNotFound|ObjectIsDeletedButRecoverable|ObjectIsBeingDeleted"}},
		{Why: "A disabled version fails.",
			Sources: []string{"KeydNewestDisabled", "KeydVersionDisabled"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydUnwrapFailing"}, And: map[string]string{"reason": "KeyDisabled"}},
		{Why: "What was done to a key or a version makes its proofs late, and nothing can be wrapped under it.",
			Sources: []string{"KeydKeyDeleted", "KeydVersionsMissing", "KeydNewestDisabled", "KeydVersionDisabled",
				"KeydVersionExpiresSoon", "KeydProofRefuted"},
			Equal:   []string{"key", "vault"},
			Targets: []string{"KeydWrapFailing", "KeydProofStale", "KeydKeyPartial"}},
		{Why: "A refuted import is held for it.",
			Sources: []string{"KeydProofRefuted"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydUnwrapFailing"}, And: map[string]string{"reason": "refuted"}},
		{Why: "A foreign newest version holds the key.",
			Sources: []string{"KeydForeignVersion"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydKeyOnHold"}, And: map[string]string{"code": "foreign-version"}},
		{Why: "A pair that is gone from the HSM holds the key.",
			Sources: []string{"KeydDrift"}, With: map[string]string{"kind": "hsm-object-missing"},
			Equal:   []string{"key"},
			Targets: []string{"KeydKeyOnHold"}, And: map[string]string{"code": "hsm-object-missing"}},
		{Why: "Who uses a version that somebody disabled is told of by that.",
			Sources: []string{"KeydNewestDisabled", "KeydVersionDisabled"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydConsumerVersion"}, And: map[string]string{"kind": "disabled"}},
		{Why: "The newest version expires for all who use it.",
			Sources: []string{"KeydVersionExpiresSoon"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydConsumerVersion"}, And: map[string]string{"kind": "expiring"}},
		{Why: "A consumer on a version that it must leave is late besides.",
			Sources: []string{"KeydConsumerVersion"}, Equal: []string{"key", "vault", "consumer"},
			Targets: []string{"KeydConsumerLags"}},
		{Why: "The log shows what a consumer is known to use.",
			Sources: []string{"KeydConsumerVersion"}, With: map[string]string{"kind": "disabled"},
			Equal: []string{"key", "vault"}, Targets: []string{"KeydRetiredVersionUsed"}},
		{Why: "Without a token keyd sees no consumer.",
			Sources: []string{"KeydSignInFailing"},
			Targets: []string{"KeydConsumerUnseen"}, And: map[string]string{"reason": "NoToken"}},
		{Why: "keyd's own calls, by which it knows a whole log, do not reach a vault that does not answer.",
			Sources: []string{"KeydVaultUnreachable"}, Targets: []string{"KeydUseLogUnseen"}},
		{Why: "A version that fails its proofs was not proven for long besides, and may show why.",
			Sources: []string{"KeydUnwrapFailing", "KeydWrapFailing"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydProofStale"}},
		{Why: "The critical alert says that consumers fail; the change that is its cause is in the runbook.",
			Sources: []string{"KeydUnwrapFailing", "KeydWrapFailing"}, Equal: []string{"key", "vault"},
			Targets: []string{"KeydDrift"},
			And:     map[string]string{"kind": "operations-changed|not-yet-valid|version-expiring|expiry-changed"}},
	}
}
