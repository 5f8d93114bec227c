package health

import (
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

func TestAProofCountsForTheSideThatDecidedIt(t *testing.T) {
	const url = "https://contoso-weu.vault.azure.net"
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name       string
		result     proof.Result
		vault, hsm status.Slot
	}{
		{"passed", proof.Result{Outcome: key.Passed}, status.SlotGood, status.SlotGood},
		{"the vault does not unwrap", proof.Result{Outcome: key.Inconclusive, Leg: proof.LegUnwrap}, status.SlotBad,
			status.SlotUnknown},
		{"the HSM does not open", proof.Result{Outcome: key.Inconclusive, Leg: proof.LegHSM}, status.SlotUnknown,
			status.SlotBad},
		{"the key is deleted in the vault", refusedProof(key.KeyDeleted), status.SlotGood, status.SlotUnknown},
		{"the version is disabled", refusedProof(key.KeyDisabled), status.SlotGood, status.SlotUnknown},
		{"the firewall refuses", refusedProof(key.ForbiddenByFirewall), status.SlotBad, status.SlotUnknown},
		{"refuted where the HSM opens", proof.Result{Outcome: key.WasRefuted, Leg: proof.LegHSM}, status.SlotBad,
			status.SlotUnknown},
	} {
		h := NewHistories()
		h.Proven(Subject{Vault: url}, now, c.result)
		if v, m := newest(h.OfVault(url, now)), newest(h.OfHSM(now)); v != c.vault || m != c.hsm {
			t.Errorf("%s: vault %s, HSM %s; want %s, %s", c.name, v, m, c.vault, c.hsm)
		}
	}
}

// refusal is a vault's error with a reason.
type refusal struct{ reason key.Reason }

func (r refusal) Error() string      { return string(r.reason) }
func (r refusal) Reason() key.Reason { return r.reason }

func refusedProof(reason key.Reason) proof.Result {
	return proof.Result{Outcome: key.Inconclusive, Leg: proof.LegUnwrap, Err: refusal{reason}}
}

func TestALookThatOneKeyFailsDoesNotCountAgainstTheVault(t *testing.T) {
	const url = "https://contoso-weu.vault.azure.net"
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for reason, want := range map[key.Reason]status.Slot{
		key.KeyBeingDeleted: status.SlotGood, key.ForbiddenByRBAC: status.SlotBad,
	} {
		h := NewHistories()
		h.Looked(&record.Observation{Vaults: map[string]record.VaultSeen{url: {Begun: now, Err: refusal{reason}}}})
		if got := newest(h.OfVault(url, now)); got != want {
			t.Errorf("%s: %s, want %s", reason, got, want)
		}
	}
}

func TestALookCountsOnceAndAtItsOwnTime(t *testing.T) {
	const url = "https://contoso-weu.vault.azure.net"
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	h := NewHistories()
	failed := &record.Observation{Vaults: map[string]record.VaultSeen{url: {Begun: now, Err: errors.New("403")}}}
	h.Looked(nil)
	h.Looked(failed)
	for range 3 { // the same look, seen again much later, says nothing about the time since
		h.Looked(failed)
	}
	slots := h.OfVault(url, now.Add(15*time.Minute)).Slots
	if n := len(slots); slots[n-2] != status.SlotBad || slots[n-1] != status.SlotUnknown {
		t.Errorf("the last two slots are %v", slots[n-2:])
	}
}

// A sweep of the vault's keys confirms an old listing: the vault answered.
func TestAConfirmedLookCountsWhenTheVaultAnswered(t *testing.T) {
	const url = "https://contoso-weu.vault.azure.net"
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	h := NewHistories()
	for _, answered := range []time.Time{now, now.Add(15 * time.Minute)} {
		h.Looked(&record.Observation{Vaults: map[string]record.VaultSeen{url: {Begun: now, ClockAt: answered}}})
	}
	slots := h.OfVault(url, now.Add(15*time.Minute)).Slots
	if n := len(slots); slots[n-2] != status.SlotGood || slots[n-1] != status.SlotGood {
		t.Errorf("the last two slots are %v", slots[n-2:])
	}
}

func newest(h *status.History) status.Slot { return h.Slots[len(h.Slots)-1] }
