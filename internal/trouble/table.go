package trouble

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
)

// Cause names one thing that can be wrong. Several causes may share a runbook and an alert.
type Cause string

// The causes, besides those of Hold and Drift.
const (
	StoreUnwritable          Cause = "store-unwritable"
	ReloadRefused            Cause = "reload-refused"
	NotReady                 Cause = "not-ready"
	HSMDown                  Cause = "hsm-down"
	HSMChildDown             Cause = "hsm-child-down" // where the daemon starts the HSM side itself
	HSMDegraded              Cause = "hsm-degraded"
	HSMRestarting            Cause = "hsm-restarting"
	HSMConfigDiffers         Cause = "hsm-config-differs"
	PINRefused               Cause = "pin-refused"
	PINLocked                Cause = "pin-locked"
	PINFinalTry              Cause = "pin-final-try"
	PINTriesLow              Cause = "pin-tries-low"
	PINToChange              Cause = "pin-to-change"
	CheckpointStale          Cause = "checkpoint-stale"
	AuditBroken              Cause = "audit-broken"
	CredentialUnusable       Cause = "credential-unusable"
	CertificateEnds          Cause = "certificate-ends"
	SignInFailing            Cause = "sign-in-failing"
	VaultUnreachable         Cause = "vault-unreachable"
	ClockSkew                Cause = "clock-skew"
	KEKWaiting               Cause = "kek-waiting"
	VaultThrottled           Cause = "vault-throttled"
	UnwrapFailing            Cause = "unwrap-failing"
	WrapFailing              Cause = "wrap-failing"
	VersionsUnproven         Cause = "versions-unproven"
	ProofStale               Cause = "proof-stale"
	RotationPolicyUnreadable Cause = "rotation-policy-unreadable"
	VersionExpiresSoon       Cause = "version-expires-soon"
	CompromiseWaiting        Cause = "compromise-waiting"
	CompromisedEnabled       Cause = "compromised-enabled"
	RequestWaiting           Cause = "request-waiting"
	ProposalWaiting          Cause = "proposal-waiting"
	SettingsWaiting          Cause = "settings-waiting"
	StepFailing              Cause = "step-failing"
	RotationSlow             Cause = "rotation-slow"
	RotationPartial          Cause = "rotation-partial"
	KeyPartial               Cause = "key-partial"
	KeyNotMade               Cause = "key-not-made"
	RotationOverdue          Cause = "rotation-overdue"
	SparesMissing            Cause = "spares-missing"
	RepointFailed            Cause = "repoint-failed"
	ConsumerLags             Cause = "consumer-lags"
	ConsumerPinned           Cause = "consumer-pinned"
	ConsumerOnDisabled       Cause = "consumer-on-disabled"
	ConsumerOnCompromised    Cause = "consumer-on-compromised"
	ConsumerOnExpiring       Cause = "consumer-on-expiring"
	ConsumersUnseen          Cause = "consumers-unseen"
	ConsumersNotLooked       Cause = "consumers-not-looked"
	ConsumersNotConfigured   Cause = "consumers-not-configured"
	ConsumerOtherKey         Cause = "consumer-other-key"
	RetiredVersionUsed       Cause = "retired-version-used"
	UseLogUnseen             Cause = "use-log-unseen"
	NoLeader                 Cause = "no-leader"
	TwoLeaders               Cause = "two-leaders"
	HeadMissing              Cause = "head-missing"
	HostSilent               Cause = "host-silent"
	HostUnable               Cause = "host-unable"
	ConfigurationsDiffer     Cause = "configurations-differ"
	HSMsDiffer               Cause = "hsms-differ"
)

// Hold is the cause of a key that is held with this code.
func Hold(code key.HoldCode) Cause { return Cause("hold-" + code) }

// Drift is the cause of a difference of this kind between the record and what was seen.
func Drift(kind plan.DriftKind) Cause { return Cause("drift-" + kind) }

// Row is what keyd knows about one cause in advance.
type Row struct {
	Cause    Cause
	Code     string // the anchor in docs/runbooks.md
	Alert    string // in deploy/prometheus/keyd.rules.yml; several causes may share one
	Severity status.Severity
	// Threshold is how late, how long, how near or how far apart something must be before it is a problem; 0: at
	// once.
	Threshold time.Duration
	// Limit is the count or the share above which it is a problem; 0: at once.
	Limit float64
	// Remedy is what to do. {key}, {version}, {consumers} (the command that shows them), {unit} (systemd's, of the HSM
	// side) and {credential} (how to fix or renew its file) stand for what only the problem knows. Empty: the problem
	// brings its own.
	Remedy string
}

const (
	critical = status.Critical
	warning  = status.Warning

	waits    = "keyd plan shows what it waits for; "
	stopPINs = "find out who tries wrong PINs, and stop them; " +
		"then log in once with the vendor's tool, which resets the count"
)

// table has one row for each cause. Each fact about a cause is stated here and nowhere else in code.
var table = []Row{
	{Cause: StoreUnwritable, Code: "keydstoreunhealthy", Alert: "KeydStoreUnhealthy", Severity: critical,
		Remedy: "free or repair the disk, or bring the store back; keyd goes on by itself"},
	{Cause: NoLeader, Code: "keydnoleader", Alert: "KeydNoLeader", Severity: critical, Threshold: time.Minute,
		Remedy: "keyd store status tries the store; journalctl -u keyd on each host says why it does not lead"},
	{Cause: TwoLeaders, Code: "keydtwoleaders", Alert: "KeydTwoLeaders", Severity: critical,
		Remedy: "give each host a name of its own (host: in the configuration) and the same store; see the runbook"},
	{Cause: HeadMissing, Code: "keydheadmissing", Alert: "KeydHeadMissing", Severity: critical,
		Remedy: "find out what the store has lost before you accept anything: see the runbook"},
	{Cause: HostSilent, Code: "keydhostsilent", Alert: "KeydHostSilent", Severity: warning, Threshold: 2 * time.Minute,
		Remedy: "systemctl status keyd on that host; one that is gone for good is forgotten after a day"},
	{Cause: HostUnable, Code: "keydhostunable", Alert: "KeydHostUnable", Severity: warning,
		Threshold: 15 * time.Minute, Remedy: "keyd check on that host tries each part"},
	{Cause: ConfigurationsDiffer, Code: "keydhostsdiffer", Alert: "KeydHostsDiffer", Severity: warning,
		Remedy: "bring the files on all hosts up to date, then on each: keyd reload"},
	{Cause: HSMsDiffer, Code: "keydhostsdiffer", Alert: "KeydHostsDiffer", Severity: warning,
		Remedy: "keyd status --json shows each host's HSM; give all hosts the same token and library"},

	{Cause: ReloadRefused, Code: "keydconfigreloadfailed", Alert: "KeydConfigReloadFailed", Severity: warning,
		Remedy: "correct it (keyd check shows each mistake with its line), then: keyd reload; " +
			"until then keyd goes on with the configuration it had"},
	{Cause: NotReady, Code: "keydnotready", Alert: "KeydNotReady", Severity: warning, Threshold: 15 * time.Minute,
		Remedy: "keyd check tries each part of the way to the vaults and the HSM; keyd goes on by itself"},

	{Cause: HSMDown, Code: "keydhsmdown", Alert: "KeydHSMDown", Severity: warning,
		Remedy: "systemctl status keyd-hsm; journalctl -u keyd-hsm"},
	{Cause: HSMChildDown, Code: "keydhsmdown", Alert: "KeydHSMDown", Severity: warning,
		Remedy: "fix what it says; the daemon then restarts the HSM side by itself; " +
			"journalctl -u keyd shows why it ended"},
	{Cause: HSMDegraded, Code: "keydhsmdown", Alert: "KeydHSMDown", Severity: warning,
		Remedy: "fix what it says; keyd check tries each part"},
	{Cause: HSMRestarting, Code: "keydhsmdown", Alert: "KeydHSMDown", Severity: warning, Limit: 5, // in hsm.LossSpan
		Remedy: "journalctl -u {unit} shows what ends it"},
	{Cause: HSMConfigDiffers, Code: "keydhsmconfigdiffers", Alert: "KeydHSMConfigDiffers", Severity: warning,
		Remedy: "keyd check shows each mistake with its line; then: keyd reload; if they still differ: " +
			"journalctl -u {unit} shows what the HSM side read"},
	{Cause: PINRefused, Code: "keydpinrefused", Alert: "KeydPINRefused", Severity: critical,
		Remedy: "do not try PINs by hand; find the right one, as the runbook says"},
	{Cause: PINLocked, Code: "keydpinnearlylocked", Alert: "KeydPINNearlyLocked", Severity: critical,
		Remedy: "do not restart {unit}; have the token's security officer unlock the PIN"},
	{Cause: PINFinalTry, Code: "keydpinnearlylocked", Alert: "KeydPINNearlyLocked", Severity: critical,
		Remedy: "do not restart {unit}; " + stopPINs},
	{Cause: PINTriesLow, Code: "keydpintrieslow", Alert: "KeydPINTriesLow", Severity: warning, Remedy: stopPINs},
	{Cause: PINToChange, Code: "keydpintochange", Alert: "KeydPINToChange", Severity: warning,
		Remedy: "change it with the vendor's tool, write it into hsm.pin_file, then: systemctl restart {unit}"},

	{Cause: CheckpointStale, Code: "keydcheckpointstale", Alert: "KeydCheckpointStale", Severity: warning,
		Threshold: audit.Every + time.Hour, Remedy: "keyd audit checkpoint shows why; keyd tries again by itself"},
	{Cause: AuditBroken, Code: "keydauditbroken", Alert: "KeydAuditBroken", Severity: critical,
		Remedy: "find out who changed the state before you accept anything: see the runbook"},
	{Cause: CredentialUnusable, Code: "keydcertificateends", Alert: "KeydCertificateEnds", Severity: warning,
		Remedy: "{credential}"},
	{Cause: CertificateEnds, Code: "keydcertificateends", Alert: "KeydCertificateEnds", Severity: warning,
		Threshold: 14 * 24 * time.Hour, Remedy: "{credential}"},
	{Cause: SignInFailing, Code: "keydsigninfailing", Alert: "KeydSignInFailing", Severity: warning,
		Remedy: "keyd check tries the sign-in; keyd goes on by itself"},

	{Cause: VaultUnreachable, Code: "keydvaultunreachable", Alert: "KeydVaultUnreachable", Severity: warning,
		Remedy: "keyd check tries each part of the way to it; keyd goes on by itself"},
	{Cause: KEKWaiting, Code: "keydkekwaiting", Alert: "KeydKEKWaiting", Severity: warning, Threshold: 24 * time.Hour},
	{Cause: ClockSkew, Code: "keydclockskew", Alert: "KeydClockSkew", Severity: warning, Threshold: 2 * time.Minute,
		Remedy: "chronyc tracking, or timedatectl timesync-status, shows whether this machine's is wrong; " +
			"correct the time source"},
	{Cause: VaultThrottled, Code: "keydvaultthrottled", Alert: "KeydVaultThrottled", Severity: warning, Limit: 0.1,
		Remedy: "the vault's metrics in Azure show who sends how much; keyd waits as long as the vault asks"},

	{Cause: UnwrapFailing, Code: "keydunwrapfailing", Alert: "KeydUnwrapFailing", Severity: critical,
		Remedy: "see the runbook before anything is disabled or deleted"},
	{Cause: WrapFailing, Code: "keydwrapfailing", Alert: "KeydWrapFailing", Severity: critical,
		Remedy: "see the runbook: nothing new can be encrypted under this version"},
	{Cause: VersionsUnproven, Code: "keydversionsunproven", Alert: "KeydVersionsUnproven", Severity: warning,
		Remedy: "keyd check tries each part of the way; keyd tries again by itself"},
	{Cause: ProofStale, Code: "keydproofstale", Alert: "KeydProofStale", Severity: warning,
		Threshold: 10 * time.Minute, // later than twice the interval between proofs
		Remedy:    "keyd check tries each part; keyd tries again by itself"},
	{Cause: RotationPolicyUnreadable, Code: "keydrotationpolicyunreadable", Alert: "KeydRotationPolicyUnreadable",
		Severity: warning, Remedy: "let keyd's identity read rotation policies, as the runbook says; " +
			"keyd asks again within half an hour"},
	{Cause: VersionExpiresSoon, Code: "keydversionexpiressoon", Alert: "KeydVersionExpiresSoon", Severity: critical,
		Threshold: 7 * 24 * time.Hour},

	{Cause: CompromiseWaiting, Code: "keydcompromisewaiting", Alert: "KeydCompromiseWaiting", Severity: critical,
		Threshold: 30 * time.Minute, Remedy: waits + "if one vault alone is in the way: " +
			"keyd rotate --now {key} --compromise --without VAULT --reason …"},
	{Cause: CompromisedEnabled, Code: "keydcompromisedenabled", Alert: "KeydCompromisedEnabled", Severity: warning,
		Remedy: "once no consumer needs them, disable each, as the runbook says; to keep them enabled: " +
			"keyd acknowledge {key} --reason …"},
	{Cause: RequestWaiting, Code: "keydrequestwaiting", Alert: "KeydRequestWaiting", Severity: warning,
		Threshold: time.Hour, Remedy: waits + "it begins by itself when that is removed"},
	{Cause: ProposalWaiting, Code: "keydproposalwaiting", Alert: "KeydProposalWaiting", Severity: warning,
		Threshold: time.Hour},
	{Cause: SettingsWaiting, Code: "keydproposalwaiting", Alert: "KeydProposalWaiting", Severity: warning,
		Remedy: "put the files back as they were, or have an operator propose them again; then: keyd reload"},
	{Cause: StepFailing, Code: "keydrotationfailing", Alert: "KeydRotationFailing", Severity: warning,
		Remedy: "keyd tries again by itself"},
	{Cause: RotationSlow, Code: "keydrotationfailing", Alert: "KeydRotationFailing", Severity: warning,
		Threshold: 2 * time.Hour, Remedy: waits + "keyd goes on by itself"},
	{Cause: RotationPartial, Code: "keydrotationfailing", Alert: "KeydRotationFailing", Severity: warning,
		Remedy: "keyd brings the other vaults up to date by itself"},
	{Cause: KeyPartial, Code: "keydkeypartial", Alert: "KeydKeyPartial", Severity: warning,
		Remedy: "fix what it waits for; keyd brings the vault up to date by itself"},
	{Cause: KeyNotMade, Code: "keydkeynotmade", Alert: "KeydKeyNotMade", Severity: warning,
		Remedy: "fix what it waits for, as keyd check advises; keyd then makes the key by itself"},
	{Cause: RotationOverdue, Code: "keydrotationoverdue", Alert: "KeydRotationOverdue", Severity: warning,
		Threshold: time.Hour, Remedy: waits + "it begins by itself when that is removed"},
	{Cause: SparesMissing, Code: "keydsparesmissing", Alert: "KeydSparesMissing", Severity: warning,
		Threshold: 24 * time.Hour, Remedy: "keyd check tries the HSM; keyd tries again by itself every half hour"},
	{Cause: RepointFailed, Code: "keydrepointfailed", Alert: "KeydRepointFailed", Severity: warning,
		Remedy: "mend the cause, then: keyd repoint {key} --reason …"},

	{Cause: ConsumerLags, Code: "keydconsumerlags", Alert: "KeydConsumerLags", Severity: warning,
		Threshold: 24 * time.Hour, // later than its service's own delay
		Remedy:    "let its identity wrap and unwrap with the new version, as the runbook says; {consumers} shows it"},
	{Cause: ConsumerPinned, Code: "keydconsumerlags", Alert: "KeydConsumerLags", Severity: warning,
		Threshold: 7 * 24 * time.Hour,
		Remedy:    "set it to the newest version, or to the key without a version, as the runbook says"},
	{Cause: ConsumerOnDisabled, Code: "keydconsumerversion", Alert: "KeydConsumerVersion", Severity: critical,
		Remedy: "keyd enable {key} {version} --reason …"},
	{Cause: ConsumerOnCompromised, Code: "keydconsumerversion", Alert: "KeydConsumerVersion", Severity: critical,
		Remedy: "move it to the newest version, as the runbook says"},
	{Cause: ConsumerOnExpiring, Code: "keydconsumerversion", Alert: "KeydConsumerVersion", Severity: critical,
		Remedy: "move it to the newest version before that, as the runbook says"},
	{Cause: ConsumersUnseen, Code: "keydconsumerunseen", Alert: "KeydConsumerUnseen", Severity: warning,
		Threshold: 2 * time.Hour, Remedy: "until keyd sees them again they count as users of every version, and " +
			"nothing is retired; keyd looks every hour, and now with: {consumers} --discover"},
	{Cause: ConsumersNotLooked, Code: "keydconsumerunseen", Alert: "KeydConsumerUnseen", Severity: warning,
		Threshold: 2 * time.Hour, Remedy: "journalctl -u keyd shows what its last look did"},
	{Cause: ConsumersNotConfigured, Code: "keydconsumersdiffer", Alert: "KeydConsumersDiffer", Severity: warning,
		Remedy: "{consumers} shows the lines for the configuration; then: keyd reload"},
	{Cause: ConsumerOtherKey, Code: "keydconsumersdiffer", Alert: "KeydConsumersDiffer", Severity: warning,
		Remedy: "set it to {key}, or take it out of the key's consumers in the configuration, then: keyd reload"},
	{Cause: RetiredVersionUsed, Code: "keydretiredversionused", Alert: "KeydRetiredVersionUsed", Severity: critical,
		Threshold: 7 * 24 * time.Hour, Remedy: "find out who it is, as the runbook says; if they need the version: " +
			"keyd enable {key} {version} --reason …"},
	{Cause: UseLogUnseen, Code: "keyduselogunseen", Alert: "KeydUseLogUnseen", Severity: warning,
		Threshold: 6 * time.Hour, Remedy: "until keyd can read it nothing is retired by it; see the runbook"},

	// Each hold brings its own remedy. critical: the cause may make data unreadable.
	hold(key.HoldPaused, warning, "KeydKeyPaused"),
	hold(key.HoldForeign, critical, "KeydKeyOnHold"),
	hold(key.HoldNameTaken, warning, "KeydKeyOnHold"),
	hold(key.HoldVersionsMissing, critical, "KeydKeyOnHold"),
	hold(key.HoldKeyDeleted, critical, "KeydKeyOnHold"),
	hold(key.HoldRefuted, critical, "KeydProofRefuted"),
	hold(key.HoldRecordBehind, critical, "KeydKeyOnHold"),
	hold(key.HoldUnreserved, critical, "KeydKeyOnHold"),
	hold(key.HoldObjectMissing, critical, "KeydKeyOnHold"),
	hold(key.HoldAdopted, warning, "KeydKeyOnHold"),

	// The plan says what is different and what to do. critical: data is unreadable, or soon may be.
	drift(plan.DriftForeign, critical, "KeydForeignVersion"),
	drift(plan.DriftDeleted, critical, "KeydKeyDeleted"),
	drift(plan.DriftNewestDisabled, critical, "KeydNewestDisabled"),
	drift(plan.DriftDisabled, critical, "KeydVersionDisabled"),
	drift(plan.DriftLate, warning, "KeydDrift"),
	drift(plan.DriftEnabled, warning, "KeydDrift"),
	drift(plan.DriftMissing, critical, "KeydVersionsMissing"),
	drift(plan.DriftOperations, warning, "KeydDrift"),
	drift(plan.DriftExpiring, warning, "KeydDrift"),
	drift(plan.DriftExpiry, warning, "KeydDrift"),
	drift(plan.DriftNotYetValid, warning, "KeydDrift"),
	drift(plan.DriftNativeRotation, warning, "KeydDrift"),
	drift(plan.DriftUnprotected, warning, "KeydDrift"),
	drift(plan.DriftHSMMissing, warning, "KeydDrift"),
	drift(plan.DriftKEKChanged, warning, "KeydDrift"),
	drift(plan.DriftKEKRefused, warning, "KeydDrift"),
	drift(plan.DriftKEKMissing, warning, "KeydDrift"),
	drift(plan.DriftNearLimit, warning, "KeydDrift"),
}

func hold(code key.HoldCode, severity status.Severity, alert string) Row {
	return Row{Cause: Hold(code), Code: string(Hold(code)), Alert: alert, Severity: severity}
}

func drift(kind plan.DriftKind, severity status.Severity, alert string) Row {
	return Row{Cause: Drift(kind), Code: string(Drift(kind)), Alert: alert, Severity: severity}
}

// Table returns every cause that keyd knows, for alert rules, runbooks and their tests.
func Table() []Row { return slices.Clone(table) }

// Of returns the row of a cause. A cause without a row is critical, with its own name as code: so a new hold or drift
// is shown even before its row is written.
func Of(cause Cause) Row {
	if i := slices.IndexFunc(table, func(r Row) bool { return r.Cause == cause }); i >= 0 {
		return table[i]
	}
	return Row{Cause: cause, Code: string(cause), Severity: critical}
}

// DriftSeverity is the severity of a difference of this kind.
func DriftSeverity(kind plan.DriftKind) status.Severity { return Of(Drift(kind)).Severity }
