package hsm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

// Rights are what one valid reading of the configuration permits. They never change: the HSM side replaces them whole.
type Rights struct {
	vaults map[string]VaultRights // by URL
	keys   map[string]KeyRights   // by name
	digest string
}

// VaultRights say for which KEKs of a vault the HSM side wraps.
type VaultRights struct {
	Name     string            `json:"name"`
	Pins     []key.Fingerprint `json:"pins,omitempty"`      // the approved ones
	FirstUse bool              `json:"first_use,omitempty"` // without pins: the KEK that is used first is approved
	// Shared: several hosts use the store, each with its own HSM side, so the first use on one says nothing to the
	// others. FirstUse does not count.
	Shared bool        `json:"shared,omitempty"`
	Attest attest.Rule `json:"attestation,omitzero"`
}

// KeyRights say where the pairs of a key may go, and how many may be made.
type KeyRights struct {
	Vaults []string `json:"vaults"` // URLs
	Spares int      `json:"spares,omitempty"`
	Budget int      `json:"budget,omitempty"` // rotations a day
}

// shared reports whether several hosts use the store.
func (r *Rights) shared() bool {
	for _, v := range r.vaults {
		if v.Shared {
			return true
		}
	}
	return false
}

// Permitted returns the rights by the configuration as it is on the disk now. While the configuration is invalid it
// returns an error: the HSM side then makes and wraps nothing, and goes on with everything else. The HSM side calls it
// at each decision.
type Permitted func() (*Rights, error)

// NewRights returns the rights by one reading of the configuration: vaults by URL, and keys by name.
func NewRights(vaults map[string]VaultRights, keys map[string]KeyRights) (*Rights, error) {
	text, err := json.Marshal(map[string]any{"vaults": vaults, "keys": keys}) // maps in the order of their names
	if err != nil {
		return nil, fmt.Errorf("encode what the configuration permits: %w", err)
	}
	sum := sha256.Sum256(text)
	return &Rights{vaults, keys, "sha256:" + hex.EncodeToString(sum[:])}, nil
}

// Digest is the same for two readings that permit the same.
func (r *Rights) Digest() string { return r.digest }

// Changes says what another reading permits otherwise, for people: one line for each vault and key.
func (r *Rights) Changes(next *Rights) []string {
	return slices.Concat(changes("vault", r.vaults, next.vaults), changes("key", r.keys, next.keys))
}

func changes[T any](what string, old, next map[string]T) (lines []string) {
	all := maps.Clone(old)
	maps.Copy(all, next)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		was, had := old[name]
		is, has := next[name]
		before, after := shown(was, had), shown(is, has)
		if before != after {
			lines = append(lines, fmt.Sprintf("%s %s: was %s, is %s", what, name, before, after))
		}
	}
	return lines
}

func shown(v any, there bool) string {
	if !there {
		return "not configured"
	}
	text, _ := json.Marshal(v) // plain values: NewRights encoded them before
	return string(text)
}

// vault returns the rights of a vault.
func (r *Rights) vault(url string) (VaultRights, error) {
	v, ok := r.vaults[url]
	if !ok {
		return v, refused(KEKRefused, "the configuration has no vault %s: nothing is wrapped for it", url)
	}
	return v, nil
}

// mayGo refuses a pair of a key that the configuration does not bring to the vault.
func (r *Rights) mayGo(l key.Label, url string) error {
	k, ok := r.keys[l.Key]
	switch {
	case !ok:
		return refused(
			NotPermitted,
			"the configuration has no key %s: its pairs are not wrapped, for any vault",
			l.Key,
		)
	case !slices.Contains(k.Vaults, url):
		return refused(
			NotPermitted,
			"the configuration does not bring key %s to vault %s: %s is not wrapped for it; "+
				"if it belongs there, add the vault to keys.%s.vaults, then: keyd reload",
			l.Key,
			url,
			l,
			l.Key,
		)
	}
	return nil
}

// mayMake refuses a pair of a key that is not configured.
func (r *Rights) mayMake(l key.Label) (KeyRights, error) {
	k, ok := r.keys[l.Key]
	if !ok {
		return k, refused(NotPermitted, "the configuration has no key %s: no pair is made for it; if it should have, "+
			"add it to keys, then: keyd reload", l.Key)
	}
	return k, nil
}
