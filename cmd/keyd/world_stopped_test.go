package main

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// stopped has forty keys in two vaults, an HSM side that was stopped an hour ago, and the problems that keyd finds
// then.
func stopped() status.Snapshot {
	s := away()
	s.HSM.Since, s.HSM.SeenAt = at(-time.Hour), at(-time.Hour)
	s.Vaults = append(
		s.Vaults,
		status.Vault{Vault: key.Vault{Name: "contoso-new", URL: "https://new.vault.azure.net"}},
	)
	well := s.Keys[0]
	s.Keys = nil
	for i := range 40 {
		k := well
		k.Name, k.Proofs = fmt.Sprintf("app-%02d", i), nil
		for _, url := range k.Vaults {
			k.Proofs = append(k.Proofs, status.Proof{Vault: url, Version: version(2), Generation: 2, Newest: true,
				Outcome: key.Inconclusive, At: at(-time.Minute), PassedAt: at(-61 * time.Minute), Failing: true,
				Leg: "hsm-open", Reason: key.HSMFailed, Error: s.HSM.Error})
		}
		if i < 3 {
			k.NextRotation, k.Waiting = at(-3*time.Hour), "the HSM cannot be used: "+s.HSM.Error
		}
		s.Keys = append(s.Keys, k)
	}
	s.Problems = trouble.Find(s, trouble.Evidence{Newest: 5 * time.Minute, Older: 24 * time.Hour})
	return s
}

// unreadable has a version that certainly cannot be unwrapped.
func unreadable() status.Snapshot {
	s := healthy()
	p := &s.Keys[0].Proofs[1]
	p.Outcome, p.Failing, p.Leg, p.Generation = key.WasRefuted, true, "vault-unwrap", 2
	p.Error = "the vault's version opened a secret to something else"
	s.Problems = trouble.Find(s, trouble.Evidence{Newest: 5 * time.Minute, Older: 24 * time.Hour})
	trouble.MarkKeys(&s)
	return s
}
