package key

import (
	"strings"
	"time"
)

// KEKState is where one key exchange key of a vault stands.
type KEKState string

// The states of a KEK, in the order in which a good one passes them.
const (
	// KEKMaking: recorded before the vault is asked to make it. keyd does not know yet what came of that.
	KEKMaking KEKState = "making"
	// KEKMade: the vault shows it. Nothing is wrapped for it yet, such as while its fingerprint is not approved.
	KEKMade KEKState = "made"
	// KEKActive: imports are wrapped for it.
	KEKActive KEKState = "active"
	// KEKSuperseded: another one is active. It is still enabled, as an import may need it yet.
	KEKSuperseded KEKState = "superseded"
	// KEKDisabling: keyd began to disable it, and does not know yet what came of that.
	KEKDisabling KEKState = "disabling"
	// KEKDisabled: enabled=false.
	KEKDisabled KEKState = "disabled"
	// KEKVoid: it was certainly not made.
	KEKVoid KEKState = "void"
)

// TrustConfigured is how the HSM side says that a KEK's fingerprint is in the configuration.
const TrustConfigured = "configured"

// VaultPolicy is what the configuration asks of one vault's key exchange key.
type VaultPolicy struct {
	Vault
	KEK          string // its name in the vault
	Create       bool   // keyd makes it
	Schedule     Schedule
	ScheduleText string // as written, for people; "" with a nil Schedule: only on request
}

// KEKRequest is an operator's request for a new key exchange key.
type KEKRequest struct {
	ID     ID        `json:"id"`
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// Version is the last part of the KEK's id: its version.
func (k KEK) Version() string { return VersionOf(k.Kid) }

// VersionOf is the version in a kid such as https://HOST/keys/NAME/VERSION.
func VersionOf(kid string) string { return kid[strings.LastIndex(kid, "/")+1:] }
