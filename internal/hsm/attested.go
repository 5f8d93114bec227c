package hsm

import "github.com/keyd-project/keyd/internal/key"

// ByPartitionRoot is how a KEK is trusted that no fingerprint pins: the pinned partition root's pool attests it.
const ByPartitionRoot = "partition root"

// attested verifies the KEK's attestation, if the configuration asks for it. pooled reports whether it alone makes the
// KEK trusted. In any other case it adds to what the fingerprint says.
func (t *trust) attested(kek key.KEK, vault VaultRights) (pooled bool, err error) {
	rule := vault.Attest
	if !rule.Required {
		return false, nil
	}
	if _, err := rule.OfKEK(kek, t.now()); err != nil {
		return false, refused(KEKRefused, "the KEK %s of vault %s is not attested, and nothing is wrapped for it: %w. "+
			"See docs/operations.md, Attestation", kek.Kid, vault.Name, err)
	}
	return rule.Alone && rule.PartitionRoot != "", nil
}
