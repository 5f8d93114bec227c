package health

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
)

// Key is one managed key, also a held or a retained one.
type Key struct {
	Policy key.Policy
	Record key.Record
}

// ID tells subjects apart: a version of a key in a vault.
type ID struct {
	Key, Vault, Version string // Vault is the URL
}

// Subject is one version that is to be proven regularly.
type Subject struct {
	proof.Subject
	Vault      string // URL
	VaultName  string // nickname
	Generation int
	Newest     bool      // keyd's newest of that key in that vault
	ProvenAt   time.Time // by the record
}

// ID identifies the subject.
func (s Subject) ID() ID { return ID{Key: s.Key, Vault: s.Vault, Version: s.Version} }

// Subjects lists what is to be proven: every version that was proven once and is
// enabled as far as the record knows. Ordered by key, vault and age, the newest
// first.
func Subjects(keys []Key) []Subject {
	var all []Subject
	for _, k := range keys {
		all = append(all, subjectsOf(k)...)
	}
	return all
}

func subjectsOf(k Key) []Subject {
	type placed struct {
		g key.Generation
		p key.Placement
	}
	var found []placed
	for _, g := range k.Record.Generations {
		for _, p := range g.Placements {
			if p.Version != "" && (p.State == key.Proven || p.State == key.Superseded) {
				found = append(found, placed{g, p})
			}
		}
	}
	slices.SortFunc(found, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.p.Vault, b.p.Vault), cmp.Compare(b.p.Seq, a.p.Seq))
	})
	operations := k.Policy.Operations // of versions imported before placements told
	if len(operations) == 0 {
		operations = k.Record.Operations
	}
	subjects := make([]Subject, len(found))
	for i, f := range found {
		subjects[i] = Subject{
			Subject: proof.Subject{
				Key: k.Policy.Key, Version: f.p.Version, ID: f.g.ID, Fingerprint: f.g.Fingerprint,
				Operations: provableBy(f.p, operations), LostInHSM: !f.g.LostInHSM.IsZero(),
			},
			Vault:      f.p.Vault,
			VaultName:  vaultName(k, f.p),
			Generation: f.g.Number,
			Newest:     i == 0 || found[i-1].p.Vault != f.p.Vault,
			ProvenAt:   f.p.ProvenAt,
		}
	}
	return subjects
}

// vaultName is the vault's nickname of today, or the one it had.
func vaultName(k Key, p key.Placement) string {
	if v, ok := k.Policy.Vault(p.Vault); ok {
		return v.Name
	}
	return cmp.Or(p.VaultName, p.Vault)
}

// provableBy is the operations a version was imported with, which the policy may
// have changed since.
func provableBy(p key.Placement, otherwise []key.Operation) []key.Operation {
	if len(p.Operations) > 0 {
		return p.Operations
	}
	return otherwise
}
