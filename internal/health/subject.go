package health

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
)

// Key is one managed key, which may be held or retained, at a revision of its record. It has of the policy what proofs
// follow from: Health asks for all keys often.
type Key struct {
	Name       string
	Operations []key.Operation
	Vaults     []key.Vault
	Revision   uint64
}

// KeyOf is the key of a policy, at a revision of its record.
func KeyOf(p key.Policy, revision uint64) Key { return Key{p.Key, p.Operations, p.Vaults, revision} }

// same reports whether the same versions are to be proven in the same way.
func (k Key) same(other Key) bool {
	return k.Revision == other.Revision && slices.Equal(k.Operations, other.Operations) &&
		slices.Equal(k.Vaults, other.Vaults)
}

// ID identifies a subject: a version of a key in a vault.
type ID struct {
	Key, Vault, Version string // Vault is the URL
}

// Subject is one version that Health proves regularly.
type Subject struct {
	proof.Subject
	Vault      string // URL
	VaultName  string // nickname
	Generation int
	Spec       key.Spec  // of the generation
	Newest     bool      // keyd's newest of that key in that vault
	ProvenAt   time.Time // as the record says
}

// ID identifies the subject.
func (s Subject) ID() ID { return ID{Key: s.Key, Vault: s.Vault, Version: s.Version} }

// Subjects lists the versions of a key to prove: those that passed a proof once and, by the record, are still enabled.
// They are ordered by vault and age, the newest first.
func Subjects(k Key, rec record.Record) []Subject {
	operations := k.Operations // for versions imported before placements recorded their operations
	if len(operations) == 0 {
		operations = rec.Operations
	}
	var subjects []Subject
	last := "" // vault
	for _, at := range rec.Provable() {
		subjects = append(subjects, Subject{
			Subject: proof.Subject{
				Key: k.Name, Version: at.Version, ID: at.Generation.ID, Fingerprint: at.Generation.Fingerprint,
				Operations: at.ProvableBy(operations), LostInHSM: !at.Generation.LostInHSM.IsZero(),
			},
			Vault:      at.Vault,
			VaultName:  rec.VaultName(key.Policy{Vaults: k.Vaults}, at.Vault),
			Generation: at.Generation.Number,
			Spec:       at.Generation.Spec,
			Newest:     at.Vault != last,
			ProvenAt:   at.ProvenAt,
		})
		last = at.Vault
	}
	return subjects
}
