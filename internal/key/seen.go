package key

import (
	"strings"
	"time"
)

// Object is a key pair of keyd's as the HSM shows it.
type Object struct {
	ID    ID    `json:"id"`
	Label Label `json:"label"`
	// Complete: exactly one private and one public object, whose attributes
	// read back as keyd sets them (token, private, sensitive, extractable,
	// local, always-sensitive, mechanism and size).
	Complete bool   `json:"complete"`
	Problem  string `json:"problem,omitempty"` // why it is not complete, for people
	// Material is Unreadable unless the pair is complete.
	Material Material `json:"material,omitzero"`
}

// KEK is a vault's key exchange key as the vault shows it.
type KEK struct {
	Vault    string   `json:"vault"` // URL
	Kid      string   `json:"kid"`   // with version: goes into the transfer blob
	Material Material `json:"material"`
}

// Version is imported material as a vault shows it.
type Version struct {
	ID      string // 32 hex digits
	Created time.Time
	Enabled bool
	Tags    map[string]string
	Expires time.Time // zero: never
	// NotBefore is when it becomes valid (nbf); zero: it always was.
	NotBefore time.Time
	// Recovery is the attribute recoveryLevel; "" when the vault does not tell.
	Recovery string
	// The rest is shown by a GET, not by a listing.
	Kty        string
	Operations []Operation
	Material   Material // Unsupported when Kty is none of RSA
}

// Purgeable reports whether the key can be purged while it is soft-deleted: its
// recoveryLevel says so, and then the vault has no purge protection.
func (v Version) Purgeable() bool { return strings.Contains(v.Recovery, "Purgeable") }

// ImportRequest is one import of a transfer blob as a new version.
type ImportRequest struct {
	Key        string // name in the vault
	Blob       []byte // the whole transfer blob (JSON)
	Operations []Operation
	Tags       map[string]string // at most 15, each at most 256 characters
	Expires    time.Time         // in whole seconds; zero: never
}

// PINState is where a token stands with its user PIN, by its flags (PKCS#11 v3.0
// section 3.2, CK_TOKEN_INFO).
type PINState string

// The states of a PIN.
const (
	PINAccepted PINState = "accepted"
	PINRefused  PINState = "refused"
	PINLocked   PINState = "locked"
	PINFinalTry PINState = "final try" // one more wrong PIN locks it
	PINCountLow PINState = "few tries left"
	PINToChange PINState = "to be changed"
	PINUnknown  PINState = "unknown" // no login was possible, for another reason
)

// PINStates are all of them.
func PINStates() []PINState {
	return []PINState{PINAccepted, PINRefused, PINLocked, PINFinalTry, PINCountLow, PINToChange, PINUnknown}
}

// HSMInfo describes the HSM side: what it runs on and how it wraps.
type HSMInfo struct {
	Module       string `json:"module"` // path of the PKCS#11 library
	Library      string `json:"library"`
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model"`
	Serial       string `json:"serial"`
	Firmware     string `json:"firmware"`
	Token        string `json:"token"`
	// Wrap and Open name the mechanisms that passed the start-up self-test,
	// such as "CKM_RSA_AES_KEY_WRAP (0x1054)".
	Wrap     string `json:"wrap"`
	Open     string `json:"open"`
	Sessions int    `json:"sessions"`
	// PIN is where the token stands with the user PIN.
	PIN        PINState `json:"pin,omitempty"`
	PINRefused bool     `json:"pin_refused,omitempty"` // it is not tried again before it changes
	Warnings   []string `json:"warnings,omitempty"`
	// Degraded is empty when the HSM side can work; otherwise it says why it
	// cannot and what to do, such as a refused PIN.
	Degraded string `json:"degraded,omitempty"`
}
