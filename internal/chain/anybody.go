package chain

// anybodys are the events of what is asked of keyd or decided by people, and of what each daemon tells of itself. Every
// daemon of an instance records them. All others are of acts, and only the daemon that leads acts.
var anybodys = map[Event]bool{
	KeyPaused: true, KeyResumed: true, CompromiseAcknowledged: true, Adopted: true, RotationRequested: true,
	ProofRequested: true, ProofEnded: true, RetireConsented: true, RetireConsentEnded: true, EnableIntended: true,
	RepointRequested: true, KEKRequested: true,
	ReplaceBegun: true, ReplaceAgain: true, ReplaceStopped: true, ReplaceConsented: true, Inherits: true,
	SpareDiscarded: true, // by whoever calls a key compromised

	Proposed: true, Approved: true, ProposalWithdrawn: true, ProposalExpired: true,
	SettingsKept: true, SettingsAccepted: true,

	DaemonStarted: true, DaemonStopped: true, ConfigReloaded: true, ConfigChanged: true, BackupTaken: true,
	StoreAccepted: true,
}

// Anybodys reports whether a daemon may record the event although another one leads.
func (e Event) Anybodys() bool { return anybodys[e] }
