package key

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"time"
)

// Object is a keyd key pair as the HSM shows it.
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
	// Late: the HSM did not have it when the audit chain began. The HSM side does not know that, and does not send it.
	Late bool `json:"-"`
}

// KEK is a vault's key exchange key as the vault shows it.
type KEK struct {
	Vault    string   `json:"vault"` // URL
	Kid      string   `json:"kid"`   // includes the version, as the transfer blob needs it
	Material Material `json:"material"`
	// Attestation is what the Managed HSM's hardware says of it, as the service answers it; "" for none.
	Attestation string `json:"attestation,omitempty"`
}

// MaxAttestation is the most bytes of a KEK's attestation that keyd reads. Real ones have about a third.
const MaxAttestation = 48 << 10

// Version is one version of a key as a vault shows it.
type Version struct {
	ID      string // 32 hex digits
	Created time.Time
	Updated time.Time // zero: the vault does not show it
	Enabled bool
	Tags    map[string]string
	Expires time.Time // zero: never
	// NotBefore is when the version becomes valid (nbf); zero: from the start.
	NotBefore time.Time
	// Recovery is the attribute recoveryLevel; "" when the vault does not show it.
	Recovery string
	// A GET shows the rest; a listing does not.
	Kty        string
	Operations []Operation
	Material   Material // Unsupported unless Kty is RSA or RSA-HSM
}

// Purgeable reports whether someone can purge the key while it is soft-deleted, as its recoveryLevel says. Then the
// vault has no purge protection.
func (v Version) Purgeable() bool { return strings.Contains(v.Recovery, "Purgeable") }

// Item is a key as a vault's list of keys shows it, with the attributes of one version, usually the newest. A vault may
// leave attributes out.
type Item struct {
	Name                                 string
	Created, Updated, Expires, NotBefore time.Time // zero: not shown
	Enabled                              bool
	Tags                                 map[string]string
}

// ItemOf is the item that a list shows of a key whose newest version this is, without the name.
func ItemOf(v Version) Item {
	return Item{Created: v.Created, Updated: v.Updated, Expires: v.Expires, NotBefore: v.NotBefore,
		Enabled: v.Enabled, Tags: v.Tags}
}

// Same reports whether two items show the same attributes, whatever their names.
func (i Item) Same(other Item) bool { return i.Sum() == other.Sum() }

// ItemSum stands for what an item shows, its name aside: whoever only compares items keeps 32 bytes of each.
type ItemSum [sha256.Size]byte

// Sum is the same for two items only if they show the same attributes.
func (i Item) Sum() ItemSum {
	shown := struct {
		Times   [][2]int64 // seconds and nanoseconds, which JSON can write of any time
		Enabled bool
		Tags    map[string]string `json:",omitempty"`
	}{Enabled: i.Enabled, Tags: i.Tags}
	for _, t := range []time.Time{i.Created, i.Updated, i.Expires, i.NotBefore} {
		shown.Times = append(shown.Times, [2]int64{t.Unix(), int64(t.Nanosecond())})
	}
	body, err := json.Marshal(shown)
	if err != nil {
		panic(err) // JSON writes any numbers and strings
	}
	return sha256.Sum256(body)
}

// ErrTooManyPages is the error of a list of keys that is longer than the caller asked for.
var ErrTooManyPages = errors.New("the vault's list of keys has more pages than keyd has keys there")

// ImportRequest is one import of a transfer blob as a new version.
type ImportRequest struct {
	Key        string // name in the vault
	Blob       []byte // the whole transfer blob (JSON)
	Operations []Operation
	Tags       map[string]string // at most 15, each at most 256 characters
	Expires    time.Time         // in whole seconds; zero: never
}

// PINState is the state of a token's user PIN, taken from the token's flags (PKCS#11 v3.0 section 3.2,
// CK_TOKEN_INFO).
type PINState string

// The states of a PIN.
const (
	PINAccepted PINState = "accepted"
	PINRefused  PINState = "refused"
	PINLocked   PINState = "locked"
	PINFinalTry PINState = "final try" // one more wrong PIN locks it
	PINCountLow PINState = "few tries left"
	PINToChange PINState = "to be changed"
	PINUnknown  PINState = "unknown" // keyd could not log in, for another reason
)

// PINStates lists every state.
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
	// PIN is the state of the user PIN.
	PIN        PINState `json:"pin,omitempty"`
	PINRefused bool     `json:"pin_refused,omitempty"` // keyd does not try the PIN again until it changes
	Warnings   []string `json:"warnings,omitzero"`     // nil: none
	// Config is the digest of what the HSM side's own reading of the configuration permits; "" while the
	// configuration is invalid, and ConfigProblem then says why.
	Config        string `json:"config,omitempty"`
	ConfigProblem string `json:"config_problem,omitempty"`
	// Degraded is empty when the HSM side can work. Otherwise it says why not, for example a refused PIN, and what to
	// do.
	Degraded string `json:"degraded,omitempty"`
}
