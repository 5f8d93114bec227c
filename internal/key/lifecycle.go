package key

import "time"

// Cause says why a placement was made.
type Cause string

// The causes of a placement.
const (
	CauseRotation Cause = "rotation"
	CauseRollback Cause = "rollback"
	CauseRepair   Cause = "repair"
	CauseNewVault Cause = "new vault"
	CauseAdopted  Cause = "adopted" // found by keyd adopt, not imported by this record
)

// PlacementState is where one placement stands.
type PlacementState string

// The states of a placement, in the order in which a good one passes them.
const (
	// Intended: recorded before the PUT. keyd does not know yet whether the PUT happened.
	Intended PlacementState = "intended"
	// Imported: the vault holds the version; it is not proven.
	Imported PlacementState = "imported"
	// Proven: the proof passed. It is the newest of ours in that vault.
	Proven PlacementState = "active"
	// Superseded: a newer placement in the same vault is proven. It is still enabled and still unwraps.
	Superseded PlacementState = "superseded"
	// Disabling: keyd began to disable a superseded placement, and does not know yet what came of it.
	Disabling PlacementState = "disabling"
	// Disabled: enabled=false, by the retire rule.
	Disabled PlacementState = "disabled"
	// Refuted: the vault holds other material than the HSM. It stays enabled.
	Refuted PlacementState = "refuted"
	// Lifted: it was refuted, and an operator lets the generation be tried in this vault again.
	Lifted PlacementState = "lifted"
	// Void: the import certainly did not happen.
	Void PlacementState = "void"
)

// Outcome is how a proof ended.
type Outcome string

// The outcomes. WasRefuted is only ever a definite wrong modulus, key type or plaintext.
const (
	Passed       Outcome = "passed"
	WasRefuted   Outcome = "refuted"
	Inconclusive Outcome = "inconclusive"
)

// State is the life-cycle state of a generation (NIST SP 800-57 part 1, revision 5, section 7).
type State string

// The states of a generation.
const (
	PreActivation State = "pre-activation" // made or being made, newest nowhere yet
	Active        State = "active"
	Deactivated   State = "deactivated" // superseded everywhere; still unwraps
	Suspended     State = "suspended"   // disabled in every vault
	Compromised   State = "compromised"
	Destroyed     State = "destroyed" // it never had a pair, or the pair is gone from the HSM
)

// HoldCode is the closed set of reasons for which a key is held.
type HoldCode string

// The codes of a hold. docs/runbooks.md has a section for each.
const (
	HoldPaused          HoldCode = "paused"           // an operator asked for it
	HoldForeign         HoldCode = "foreign-version"  // the vault's newest version is not ours
	HoldNameTaken       HoldCode = "name-taken"       // the name holds versions keyd never made
	HoldVersionsMissing HoldCode = "versions-missing" // the record has versions the vault does not show
	HoldKeyDeleted      HoldCode = "key-deleted"      // soft-deleted in the vault
	HoldRefuted         HoldCode = "proof-refuted"    // rolled back, or nothing to roll back to
	HoldRecordBehind    HoldCode = "record-behind"    // HSM or vault show more than the record
	HoldObjectMissing   HoldCode = "hsm-object-missing"
	HoldAdopted         HoldCode = "adopted" // the record was rebuilt; look before it goes on
)

// Hold is a recorded stop of one key.
type Hold struct {
	Code   HoldCode  `json:"code"`
	Reason string    `json:"reason"` // what happened, where, and what to do
	Vault  string    `json:"vault,omitempty"`
	Since  time.Time `json:"since"`
	By     string    `json:"by"` // "keyd", or "uid N (name)"
}

// Request is an operator's request for a rotation, stored in the record by compare-and-swap.
type Request struct {
	ID         ID        `json:"id"`
	At         time.Time `json:"at"`
	By         string    `json:"by"`
	Reason     string    `json:"reason"`
	Compromise bool      `json:"compromise,omitempty"` // only material reserved after At satisfies it
	Without    []string  `json:"without,omitempty"`    // vault URLs
}
