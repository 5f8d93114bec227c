package key

import (
	"strings"
	"time"
)

// KEKState is the state of one of a vault's KEKs.
type KEKState string

// The states of a KEK, in the order in which a good one passes them.
const (
	// KEKMaking: recorded before keyd asks the vault to make it. keyd does not know the outcome yet.
	KEKMaking KEKState = "making"
	// KEKMade: the vault shows it. Nothing is wrapped for it yet, for example because its fingerprint is not
	// approved.
	KEKMade KEKState = "made"
	// KEKActive: imports are wrapped for it.
	KEKActive KEKState = "active"
	// KEKSuperseded: another one is active. It is still enabled, because an import may still need it.
	KEKSuperseded KEKState = "superseded"
	// KEKDisabling: keyd began to disable it, and does not know the outcome yet.
	KEKDisabling KEKState = "disabling"
	// KEKDisabled: enabled=false.
	KEKDisabled KEKState = "disabled"
	// KEKVoid: it was certainly not made.
	KEKVoid KEKState = "void"
)

// TrustConfigured is how the HSM side reports that the configuration has a KEK's fingerprint.
const TrustConfigured = "configured"

// VaultPolicy is what the configuration asks for one vault's KEK.
type VaultPolicy struct {
	Vault
	KEK          string // its name in the vault
	Create       bool   // keyd makes it
	Schedule     Schedule
	ScheduleText string // as written, for people; "" with a nil Schedule: only on request
	KeepOld      bool   // no KEK is disabled, though a newer one replaced it
}

// KEKRequest is an operator's request for a new KEK.
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
