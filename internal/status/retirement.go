package status

import "time"

// Retirement is what a retire rule is to disable of one key.
type Retirement struct {
	Key          string `json:"key"`
	Never        bool   `json:"never,omitempty"` // there is no rule
	DisableAfter int64  `json:"disable_after_seconds"`
	Pause        int64  `json:"pause_seconds"` // between two disablings
	// UnusedFor is how long the audit logs must show no use of a version, Backups how long backups may need one, and
	// NoConsumers the operator's word that nothing in Azure uses the key.
	UnusedFor   int64    `json:"unused_for_seconds,omitempty"`
	Backups     int64    `json:"backups_seconds,omitempty"`
	NoConsumers bool     `json:"no_consumers,omitempty"`
	Consumers   []string `json:"consumers,omitzero"` // ids of the resources that the configuration names
	// Versions are those that are superseded now, in the order in which keyd disables them. Later ones follow.
	Versions []Retiring `json:"versions"`
	// Digest is of the rule and the versions with their dates. The consent names it.
	Digest string `json:"digest"`
	// Consented: an operator's consent covers this rule and all these versions. Consent is that to the rule, if any.
	Consented bool     `json:"consented"`
	Consent   *Consent `json:"consent,omitempty"`
	// Waiting is what the next disabling waits for, in words.
	Waiting string `json:"waiting,omitempty"`
}

// RetireRule is the retire rule of a key, and whether keyd may act on it.
type RetireRule struct {
	DisableAfter int64 `json:"disable_after_seconds"`
	Pause        int64 `json:"pause_seconds"` // between two disablings
	// Consent is nil where no operator has consented to the rule: keyd then disables nothing.
	Consent *Consent `json:"consent,omitempty"`
}

// Retiring is one version that a retire rule is to disable.
type Retiring struct {
	Vault      string    `json:"vault"` // nickname
	Generation int       `json:"generation"`
	Version    string    `json:"version"`
	Since      time.Time `json:"since"` // superseded in every vault
	At         time.Time `json:"at"`    // the date: not before the rule allows it, and after those before it
	Consented  bool      `json:"consented"`
}

// Consent is an operator's consent to a retire rule.
type Consent struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Digest string    `json:"digest"` // of what was shown
}
