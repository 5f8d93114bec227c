package status

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// KEK is one key exchange key of a vault.
type KEK struct {
	State       key.KEKState    `json:"state"`
	Kid         string          `json:"kid,omitempty"` // with version
	Fingerprint key.Fingerprint `json:"fingerprint,omitempty"`
	Found       bool            `json:"found,omitempty"` // others made it; keyd never disables it
	Reason      string          `json:"reason,omitempty"`
	By          string          `json:"by,omitempty"`    // who requested it
	Trust       string          `json:"trust,omitempty"` // why the HSM side trusted it when keyd took it into use
	Begun       time.Time       `json:"begun,omitzero"`
	Made        time.Time       `json:"made,omitzero"`
	Used        time.Time       `json:"used,omitzero"`
	Superseded  time.Time       `json:"superseded,omitzero"`
	Disabled    time.Time       `json:"disabled,omitzero"`
}

// ActiveKEK is the vault's key exchange key in use; nil for none.
func (v Vault) ActiveKEK() *KEK { return v.lastKEK(key.KEKActive) }

// WaitingKEK is the newest key exchange key that waits for approval; nil for none.
func (v Vault) WaitingKEK() *KEK { return v.lastKEK(key.KEKMade) }

func (v Vault) lastKEK(state key.KEKState) (last *KEK) {
	for i := range v.KEKs {
		if v.KEKs[i].State == state {
			last = &v.KEKs[i]
		}
	}
	return last
}

// PinLine is what to write under the vault in keyd.yaml to approve the KEK that waits besides the one in use. It never
// has the fingerprint of the one that waits: somebody else may have put that KEK there, so a person must compute it.
func (v Vault) PinLine() string {
	used := ""
	if k := v.ActiveKEK(); k != nil && v.WaitingKEK() != nil {
		used = `"` + string(k.Fingerprint) + `", `
	}
	return "kek: {fingerprints: [" + used + `"sha256:RESULT"]}`
}
