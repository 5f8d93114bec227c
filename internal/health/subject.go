package health

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
)

// Key is one managed key. It may be held or retained.
type Key struct {
	Policy key.Policy
	Record record.Record
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

// Subjects lists the versions to prove: those that passed a proof once and, by the record, are still enabled. They
// are ordered by key, vault and age, the newest first.
func Subjects(keys []Key) []Subject {
	var all []Subject
	for _, k := range keys {
		all = append(all, subjectsOf(k)...)
	}
	return all
}

func subjectsOf(k Key) []Subject {
	operations := k.Policy.Operations // for versions imported before placements recorded their operations
	if len(operations) == 0 {
		operations = k.Record.Operations
	}
	var subjects []Subject
	last := "" // vault
	for _, at := range k.Record.Provable() {
		subjects = append(subjects, Subject{
			Subject: proof.Subject{
				Key: k.Policy.Key, Version: at.Version, ID: at.Generation.ID, Fingerprint: at.Generation.Fingerprint,
				Operations: at.ProvableBy(operations), LostInHSM: !at.Generation.LostInHSM.IsZero(),
			},
			Vault:      at.Vault,
			VaultName:  k.Record.VaultName(k.Policy, at.Vault),
			Generation: at.Generation.Number,
			Spec:       at.Generation.Spec,
			Newest:     at.Vault != last,
			ProvenAt:   at.ProvenAt,
		})
		last = at.Vault
	}
	return subjects
}
