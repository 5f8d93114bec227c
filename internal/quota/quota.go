// Package quota knows how many calls Azure allows, as published, and how many of them keyd's proofs take. Its rule: it
// is pure. Package vault makes calls wait.
//
// The numbers are those of learn.microsoft.com, "Azure Key Vault service limits" and "Azure Managed HSM scaling
// guidance". A Key Vault's are limits: beyond them it answers 429, to consumers too. A Managed HSM's are its capacity:
// beyond them every caller waits.
package quota

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Operation is a kind of call, as far as the published limits tell calls apart.
type Operation int

// The operations. Read stands for every call that is none of the others: also for listing, changing and deleting.
const (
	Read    Operation = iota
	Encrypt           // also wrap
	Decrypt           // also unwrap
	Sign
	Verify
	Create
	Import
)

// Bucket is one of a vault's limits.
type Bucket int

// The buckets of every vault.
const (
	Creates Bucket = iota // new keys that the vault makes
	Imports               // new keys that it is given
	Calls                 // all calls in one sum, in which a call on a larger key counts more

	BucketCount int = iota
)

// Buckets lists the buckets that a call takes from, the scarcest first.
func (o Operation) Buckets() []Bucket {
	switch o {
	case Create:
		return []Bucket{Creates, Calls}
	case Import:
		return []Bucket{Imports, Calls}
	}
	return []Bucket{Calls}
}

// Whole is what a bucket allows in one period. The cost of a call is its part of that.
const Whole = 1_000_000

// SubscriptionVaults is how many vaults' worth of calls a subscription allows all its Key Vaults together. Managed HSMs
// have no limit in common.
const SubscriptionVaults = 5

// Period is the time to which the limits of a service apply.
func Period(kind key.VaultKind) time.Duration {
	if kind == key.ManagedHSM {
		return time.Second
	}
	return 10 * time.Second
}

// MostKeys is how many keys a vault of this kind holds; 0 for no limit.
func MostKeys(kind key.VaultKind) int {
	if kind == key.ManagedHSM {
		return 5000
	}
	return 0
}

// Cost is what one call takes from a bucket. A spec that keyd does not know counts as the most expensive one.
func Cost(kind key.VaultKind, b Bucket, o Operation, spec key.Spec) int {
	allowed := calls(kind, b, o, spec)
	return (Whole + allowed - 1) / allowed
}

// Dearest is the cost of the most expensive call on a bucket.
func Dearest(kind key.VaultKind, b Bucket) (cost int) {
	for o := Read; o <= Import; o++ {
		cost = max(cost, Cost(kind, b, o, ""))
	}
	return cost
}

// calls is how many such calls, and no others, a bucket allows in one period.
func calls(kind key.VaultKind, b Bucket, o Operation, spec key.Spec) int {
	if kind == key.ManagedHSM {
		return hsmCalls(b, o, spec)
	}
	switch b {
	case Creates:
		return 10
	case Imports:
		return 300 // shared with new secrets, by later digests of the limits
	}
	return bySpec(spec, 2000, 500, 250)
}

// hsmCalls is the published capacity of one partition, with the lowest number where sources differ. None is published
// for imports: keyd takes that for creating.
func hsmCalls(b Bucket, o Operation, spec key.Spec) int {
	if b != Calls {
		return 1
	}
	switch o {
	case Encrypt:
		return bySpec(spec, 2200, 1900, 1900)
	case Decrypt:
		return bySpec(spec, 1100, 360, 160)
	case Sign:
		return bySpec(spec, 900, 340, 150)
	case Verify:
		return 3400
	}
	return 1100
}

func bySpec(spec key.Spec, rsa2048, rsa3072, rsa4096 int) int {
	switch spec {
	case key.RSA2048:
		return rsa2048
	case key.RSA3072:
		return rsa3072
	}
	return rsa4096
}

type specKey struct{}

// WithSpec returns a context for calls on a key of this spec, for the room that makes calls wait.
func WithSpec(ctx context.Context, s key.Spec) context.Context {
	return context.WithValue(ctx, specKey{}, s)
}

// SpecOf is the spec that the context's calls are about; "" if the caller did not say.
func SpecOf(ctx context.Context) key.Spec {
	s, _ := ctx.Value(specKey{}).(key.Spec)
	return s
}
