package emulator

import (
	"crypto/rsa"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"
)

// VersionInfo is one key version as it really is, without replication delay.
type VersionInfo struct {
	ID       string    // 32 lower-case hex digits
	Created  time.Time // whole seconds
	Enabled  bool
	Tags     map[string]string
	KeyOps   []string
	Kty      string
	N        *big.Int // the RSA modulus the vault shows; 0 for other keys
	E        int
	Crv      string // of EC keys
	Imported bool
}

// URL is the vault's URL, without a slash at the end.
func (v *Vault) URL() string { return "https://" + v.config.Host }

// Keys returns the names of the keys that are not deleted, sorted.
func (v *Vault) Keys() []string {
	var names []string
	for _, k := range v.current().keys {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return names
}

// Versions returns a key's versions in order of creation; none for an unknown key.
func (v *Vault) Versions(name string) []VersionInfo {
	k, err := v.current().key(name)
	if err != nil {
		return nil
	}
	var infos []VersionInfo
	for _, ver := range k.versions {
		var shown jsonWebKey
		ver.shown.show(&shown)
		infos = append(infos, VersionInfo{
			ID: ver.id, Created: time.Unix(ver.created, 0), Enabled: ver.enabled,
			Tags: maps.Clone(ver.tags), KeyOps: slices.Clone(ver.ops), Kty: ver.kty,
			N: new(big.Int).SetBytes(shown.N), E: int(new(big.Int).SetBytes(shown.E).Int64()), Crv: shown.Crv,
			Imported: ver.imported,
		})
	}
	return infos
}

// Unwrap decrypts a ciphertext with one version ("" the newest), regardless of its
// attributes: to check that no data is lost.
func (v *Vault) Unwrap(name, id, algorithm string, ciphertext []byte) ([]byte, error) {
	_, ver, err := v.current().version(name, id)
	if err != nil {
		return nil, err
	}
	result, err := ver.compute(opUnwrap, operationRequest{Algorithm: algorithm, Value: ciphertext})
	return result.Value, err
}

// PrivateKey returns the private key of an RSA version ("" the newest), which no real
// vault would show: a test can search for it elsewhere.
func (v *Vault) PrivateKey(name, id string) (*rsa.PrivateKey, error) {
	_, ver, err := v.current().version(name, id)
	if err != nil {
		return nil, err
	}
	return asRSA(ver.held)
}

// AddForeignVersion generates an HSM version as another operator would, of the newest
// version's kind and size (RSA, 2048 bits for a new key), and returns its id.
func (v *Vault) AddForeignVersion(name string) (id string, err error) {
	return v.generate(name)
}

// ReplaceKEK generates a new version of a key exchange key and returns its id.
func (v *Vault) ReplaceKEK(name string) (id string, err error) {
	return v.generate(name, "import")
}

// generate adds a version; without ops, RSA keys get wrapKey and unwrapKey.
func (v *Vault) generate(name string, ops ...string) (string, error) {
	m, err := v.similar(name)
	if err != nil {
		return "", err
	}
	if len(ops) == 0 && m.family() == "RSA" {
		ops = []string{"wrapKey", "unwrapKey"}
	}
	ver, err := v.newVersion(m.family()+hsmSuffix, ops, m)
	if err != nil {
		return "", err
	}
	return ver.id, v.change(func(s *state) error { return v.add(s, name, ver) })
}

// similar generates material of the same kind as a key's newest version.
func (v *Vault) similar(name string) (material, error) {
	_, newest, err := v.current().version(name, "")
	if err != nil {
		return generateRSA(2048, 0)
	}
	return newest.shown.another()
}

// DeleteKey soft-deletes a key; the deletion is complete at once.
func (v *Vault) DeleteKey(name string) error {
	return v.change(func(s *state) error {
		d, err := v.delete(s, name)
		if err == nil {
			d.readyAt = d.at
		}
		return err
	})
}

// RecoverKey undoes DeleteKey.
func (v *Vault) RecoverKey(name string) error {
	return v.change(func(s *state) error {
		k, err := v.recover(s, name)
		if err == nil {
			k.readyAt = time.Time{} // at once
		}
		return err
	})
}

// PurgeKey removes a deleted key for good, purge protection or not.
func (v *Vault) PurgeKey(name string) error {
	return v.change(func(s *state) error {
		d, err := v.deletedKey(s, name)
		if err == nil {
			maps.DeleteFunc(s.deleted, func(_ string, o *deletedEntry) bool { return o == d })
		}
		return err
	})
}

// SetEnabled enables or disables a version ("" the newest).
func (v *Vault) SetEnabled(name, id string, enabled bool) error {
	return v.meddle(name, id, func(ver *version) { ver.enabled = enabled })
}

// SetTags replaces a version's tags.
func (v *Vault) SetTags(name, id string, tags map[string]string) error {
	return v.meddle(name, id, func(ver *version) { ver.tags = maps.Clone(tags) })
}

// SetKeyOps replaces a version's operations, without the service's checks.
func (v *Vault) SetKeyOps(name, id string, ops ...string) error {
	return v.meddle(name, id, func(ver *version) { ver.ops = slices.Clone(ops) })
}

// SetValidity sets nbf and exp; a zero time removes that bound.
func (v *Vault) SetValidity(name, id string, notBefore, expires time.Time) error {
	return v.meddle(name, id, func(ver *version) { ver.nbf, ver.exp = unixOrNil(notBefore), unixOrNil(expires) })
}

// SwapMaterial makes a version compute with other material of the same kind and size:
// id and shown public key stay, but nothing wrapped to that key can be unwrapped.
func (v *Vault) SwapMaterial(name, id string) error {
	return v.swap(name, id, func(ver *version, other material) { ver.held = other })
}

// SwapModulus makes a version show another public key of the same kind and size,
// while it still computes with its own material.
func (v *Vault) SwapModulus(name, id string) error {
	return v.swap(name, id, func(ver *version, other material) { ver.shown = other })
}

// GarbleUnwrap makes unwrap and decrypt of a version answer 200 with a
// plaintext that differs in one bit.
func (v *Vault) GarbleUnwrap(name, id string) error {
	return v.meddle(name, id, func(ver *version) { ver.garbled = true })
}

// SetNativeRotation sets or removes a native Rotate policy of a key.
func (v *Vault) SetNativeRotation(name string, on bool) error {
	return v.change(func(s *state) error {
		k, err := s.key(name)
		if err != nil {
			return err
		}
		next := *k
		next.policy = nil
		if on {
			next.policy = &rotationPolicy{LifetimeActions: []lifetimeAction{rotateBeforeExpiry()}}
		}
		s.put(&next)
		return nil
	})
}

func (v *Vault) swap(name, id string, f func(*version, material)) error {
	_, ver, err := v.current().version(name, id)
	if err != nil {
		return err
	}
	other, err := ver.shown.another()
	if err != nil {
		return fmt.Errorf("generating other material for %s: %w", name, err)
	}
	return v.meddle(name, ver.id, func(ver *version) { f(ver, other) })
}

func (v *Vault) meddle(name, id string, f func(*version)) error {
	return v.change(func(s *state) error {
		k, old, err := s.version(name, id)
		if err != nil {
			return err
		}
		ver := *old
		f(&ver)
		ver.updated = v.opts.Now().Unix()
		s.replace(k, &ver)
		return nil
	})
}

func unixOrNil(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	u := t.Unix()
	return &u
}
