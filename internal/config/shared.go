package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// SharedDigest is the same on two hosts that act by the same policy. What each host has for itself is not in it: its
// name, its paths, sockets and users, how it reaches the HSM and the store, signs in and logs.
func SharedDigest(c *Config) (string, error) {
	f := c.InForce()
	f.Operators = slices.Sorted(slices.Values(f.Operators))
	f.OperatorNames = slices.Sorted(slices.Values(f.OperatorNames))
	f.Subscriptions = slices.Sorted(slices.Values(f.Subscriptions))
	f.Approvals.Acts = slices.Sorted(slices.Values(f.Approvals.Acts))
	slices.SortFunc(f.Vaults, func(a, b Vault) int { return cmp.Compare(a.URL, b.URL) })
	inForce, err := f.Encode()
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(struct {
		Instance, Cloud string
		Share           float64
		Health          Health
		Store           string
		Synchronous     bool
		Lease           int64
		InForce         json.RawMessage
	}{c.Instance, c.Azure.Cloud, c.Azure.SubscriptionShare, c.Health, c.Store.Kind(),
		c.Store.Postgres != nil && c.Store.Postgres.Synchronous, int64(c.Store.Lease), inForce})
	if err != nil {
		return "", fmt.Errorf("encode the settings that hosts share: %w", err)
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}
