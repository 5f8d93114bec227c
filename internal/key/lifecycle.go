package key

import "time"

// Cause says why keyd made a placement.
type Cause string

// The causes of a placement.
const (
	CauseRotation Cause = "rotation"
	CauseRollback Cause = "rollback"
	CauseRepair   Cause = "repair"
	CauseNewVault Cause = "new vault"
	// CauseDuplicate: the version repeats the material of a placement, and came to light as the newest of its vault.
	CauseDuplicate Cause = "duplicate"
	CauseAdopted   Cause = "adopted" // found by keyd adopt, not imported by this record
)

// PlacementState is where one placement stands.
type PlacementState string

// The states of a placement, in the usual order.
const (
	// Intended: keyd recorded it before the PUT, and does not know yet whether the PUT happened.
	Intended PlacementState = "intended"
	// Imported: the vault holds the version; keyd has not proven it.
	Imported PlacementState = "imported"
	// Proven: the proof passed. It is the newest of ours in that vault.
	Proven PlacementState = "active"
	// Superseded: a newer placement in the same vault is proven. It is still enabled and still unwraps.
	Superseded PlacementState = "superseded"
	// Disabling: keyd started to disable a superseded placement, and does not know the result yet.
	Disabling PlacementState = "disabling"
	// Disabled: enabled=false, by the retire rule.
	Disabled PlacementState = "disabled"
	// Refuted: the vault holds other material than the HSM. It stays enabled.
	Refuted PlacementState = "refuted"
	// Lifted: it was refuted, and an operator allows keyd to try the generation in this vault again.
	Lifted PlacementState = "lifted"
	// Void: the import certainly did not happen.
	Void PlacementState = "void"
)

// Outcome is how a proof ended.
type Outcome string

// The outcomes. WasRefuted needs a definitely wrong modulus, key type, plaintext or signature.
const (
	Passed       Outcome = "passed"
	WasRefuted   Outcome = "refuted"
	Inconclusive Outcome = "inconclusive"
)

// State is the life-cycle state of a generation (NIST SP 800-57 part 1, revision 5, section 7).
type State string

// The states of a generation.
const (
	PreActivation State = "pre-activation" // made or being made; not yet the newest in any vault
	Active        State = "active"
	Deactivated   State = "deactivated" // superseded everywhere; still unwraps
	Suspended     State = "suspended"   // disabled in every vault
	Compromised   State = "compromised"
	Destroyed     State = "destroyed" // it never had a pair, or the pair is gone from the HSM
)

// HoldCode says why keyd holds a key. The set is closed.
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
	HoldUnreserved      HoldCode = "pair-unreserved"  // the HSM has a pair that nobody reserved in this audit chain
	HoldObjectMissing   HoldCode = "hsm-object-missing"
	HoldAdopted         HoldCode = "adopted" // keyd adopt rebuilt the record; an operator must check it
)

// Hold is a recorded stop of one key.
type Hold struct {
	Code   HoldCode  `json:"code"`
	Reason string    `json:"reason"` // what happened, where, and what to do
	Vault  string    `json:"vault,omitempty"`
	Since  time.Time `json:"since"`
	By     string    `json:"by"` // "keyd", or "uid N (name), login NAME"
}

// Request is an operator's request for a rotation, stored in the record by compare-and-swap.
type Request struct {
	ID         ID        `json:"id"`
	At         time.Time `json:"at"`
	By         string    `json:"by"`
	Reason     string    `json:"reason"`
	Compromise bool      `json:"compromise,omitempty"` // only material reserved after At satisfies it
	Without    []string  `json:"without,omitzero"`     // vault URLs; nil: none
}
