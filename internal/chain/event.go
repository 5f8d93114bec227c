package chain

// Event says what an entry is about. People and the chain's readers see this text.
type Event string

// The events of a key's life.
const (
	KeyHeld    Event = "key held"
	KeyPaused  Event = "key paused"
	KeyResumed Event = "key resumed"
	// CompromiseAcknowledged: an operator answers for compromised versions that stay enabled.
	CompromiseAcknowledged Event = "compromised versions acknowledged"

	Adopted            Event = "adopted"
	RecordMigrated     Event = "record migrated"
	RotationRequested  Event = "rotation requested"
	RotationFinished   Event = "rotation finished"
	ProofRequested     Event = "proof requested"
	ProofEnded         Event = "requested proof ended"
	GenerationReserved Event = "generation reserved"
	GenerationIntended Event = "generation intended" // keyd is about to call C_GenerateKeyPair
	GenerationMade     Event = "generation made"
	GenerationPinned   Event = "generation pinned"
	SpareReserved      Event = "spare reserved"
	SparePromoted      Event = "spare promoted" // a rotation begins with it
	SpareDiscarded     Event = "spare discarded"
	RetireConsented    Event = "retire rule consented to"
	RetireConsentEnded Event = "consent to the retire rule ended"
	IDAbandoned        Event = "id abandoned"
	DestroyIntended    Event = "destruction intended"
	Destroyed          Event = "abandoned pair destroyed"
)

// FieldConfig is the field of DaemonStarted and ConfigReloaded that has the digest of what the ConfigChanged entries so
// far add up to.
const FieldConfig = "config"

// FieldPolicy is the field of DaemonStarted and ConfigReloaded that has the digest of the configuration that all hosts
// of an instance are to act on, without what is each host's own. It is there where several hosts have one store.
const FieldPolicy = "policy"

// FieldAdopted is the field of Adopted in which an operator's consent stands, in JSON.
const FieldAdopted = "adopted"

// The events of a placement.
const (
	ImportIntended  Event = "import intended"
	Imported        Event = "imported"
	ImportVoid      Event = "import did not happen"
	AliasAdopted    Event = "duplicate version adopted"
	ProofPassed     Event = "proof passed"
	ProofRefuted    Event = "proof refuted"
	DisableIntended Event = "disabling intended"
	Disabled        Event = "disabled"
	DisableAborted  Event = "disabling did not happen"
	DisabledLate    Event = "disabling came late" // keyd had given it up, and undoes it
	EnableIntended  Event = "enabling intended"   // an operator asked for it, or a disabling came late
	Enabled         Event = "enabled"
	EnableAborted   Event = "enabling did not happen"
)

// The events of a consumer that keyd moves to another version.
const (
	RepointRequested Event = "repointing requested"
	RepointIntended  Event = "repointing intended"
	Repointed        Event = "consumer repointed"
	RepointVoid      Event = "repointing did not happen" // keyd tries again
	RepointFailed    Event = "repointing failed"         // keyd does not
	RepointMet       Event = "repointing not needed"     // keyd found nothing to move
	RepointLapsed    Event = "repointing request lapsed" // keyd could not do it in time
)

// The events of a key that another one replaces. Those of its consumers and of the disabling of its versions are the
// usual ones.
const (
	ReplaceBegun     Event = "replacement begun" // an operator asked for it
	ReplaceAgain     Event = "replacement resumed"
	ReplaceStopped   Event = "replacement stopped"
	ReplaceConsented Event = "disabling of a replaced key consented to"
	Replaced         Event = "key replaced" // every version of it is disabled
	// Inherits is in the chain of the new key.
	Inherits Event = "consumers of another key inherited"
)

// The events of a vault's KEKs. Their entries have the vault's URL instead of a key.
const (
	KEKRequested       Event = "key exchange key requested"
	KEKIntended        Event = "key exchange key intended" // keyd is about to ask the vault to make it
	KEKMade            Event = "key exchange key made"
	KEKNotMade         Event = "key exchange key not made"
	KEKUsed            Event = "key exchange key taken into use"
	KEKDisableIntended Event = "disabling of a key exchange key intended"
	KEKDisabled        Event = "key exchange key disabled"
	KEKDisableAborted  Event = "disabling of a key exchange key did not happen"
)

// The events of an act that needs a second operator. The entries of an approved act follow in the same change.
const (
	Proposed          Event = "act proposed"
	Approved          Event = "proposal approved" // by the second operator
	ProposalWithdrawn Event = "proposal withdrawn"
	ProposalExpired   Event = "proposal expired"
	// SettingsKept: keyd keeps the guarded settings on which it acts, because a change of them needs a second operator.
	SettingsKept Event = "settings kept"
	// SettingsAccepted: root had a change of them take effect without a second operator.
	SettingsAccepted Event = "settings accepted by root"
)

// The events of the daemon, and of the chain itself.
const (
	DaemonStarted    Event = "daemon started"
	DaemonStopped    Event = "daemon stopped"
	LeaderChanged    Event = "leader changed" // the first entry of a term, where several hosts have one store
	ConfigReloaded   Event = "configuration reloaded"
	ConfigChanged    Event = "configuration changed" // about one key, one vault (by its URL) or keyd itself, by value
	BackupTaken      Event = "backup taken"
	StoreAccepted    Event = "store accepted" // by root, although it lacks what this host had seen
	CheckpointSigned Event = "checkpoint signed"
	PairsFound       Event = "pairs found"                 // in the HSM, when the chain began
	BreakAccepted    Event = "break of the chain accepted" // by root, on the HSM side
	AuditKeyIntended Event = "audit key intended"
	AuditKeyMade     Event = "audit key made"
	AuditKeyFound    Event = "audit key found" // in the HSM, although the chain has no entry of it
)
