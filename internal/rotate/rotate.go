// Package rotate brings each key from what is to what its policy asks: observe,
// plan, one step, again. Its rule: Plan alone decides, and it is pure; StepKey
// alone acts, one step at a time, and every step may be repeated or cut short at
// any instruction.
package rotate

import (
	"context"
	"crypto/rsa"
	"io"
	"log/slog"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/status"
)

// HSM is what the loop needs of the HSM side. Errors carry a key.Class.
type HSM interface {
	proof.HSM
	// Describe tells which HSM it is, for the audit.
	Describe(ctx context.Context) (key.HSMInfo, error)
	// Inventory lists every pair of this instance, whole or not.
	Inventory(ctx context.Context) ([]key.Object, error)
	// Generate makes a pair under a CKA_ID that was never used.
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec) error
	// PublicKey reads the attributes of the one pair under id back and has it
	// prove possession of the private key.
	PublicKey(ctx context.Context, id key.ID) (*rsa.PublicKey, error)
	// CheckKEK says why the KEK is trusted, or refuses it; it changes nothing.
	CheckKEK(ctx context.Context, kek key.KEK) (how string, err error)
	// WrapFor returns the private key as CKM_RSA_AES_KEY_WRAP ciphertext
	// (PKCS#11 v3.0 section 2.1.21) for a KEK that it trusts.
	WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error)
	// Destroy removes what is under an abandoned id. A pair that was ever
	// wrapped is refused.
	Destroy(ctx context.Context, id key.ID) error
}

// Vault is what the loop needs of one vault. Errors carry a key.Class; those of
// Import are Ambiguous unless the vault certainly did not take it.
type Vault interface {
	proof.Vault
	// KEK returns the newest version of the key exchange key; present is false
	// when there is none.
	KEK(ctx context.Context) (kek key.KEK, present bool, err error)
	// CreateKEK makes the key exchange key unless it is there.
	CreateKEK(ctx context.Context) (key.KEK, error)
	Import(ctx context.Context, r key.ImportRequest) (key.Version, error)
	// Versions is a complete listing, empty for a key that is not there.
	Versions(ctx context.Context, name string) ([]key.Version, error)
	// Newest is the version that a caller without a version gets.
	Newest(ctx context.Context, name string) (key.Version, error)
	// NativeRotation reports whether the vault itself is to rotate the key.
	NativeRotation(ctx context.Context, name string) (bool, error)
	// Deleted reports whether the key is soft-deleted.
	Deleted(ctx context.Context, name string) (bool, error)
	Disable(ctx context.Context, name, version string) error
	// ClockSkew is the vault's clock minus the local one at the last answer.
	ClockSkew() (skew time.Duration, known bool)
}

// Store keeps records by compare-and-swap, with the audit entries of a change in
// the same transaction.
type Store interface {
	// Load returns an empty record of revision 0 for a name never saved.
	Load(ctx context.Context, name string) (key.Record, error)
	// Save fails with a key.Retry error when the record changed since it was
	// loaded, and returns the record with its new revision otherwise.
	Save(ctx context.Context, r key.Record, entries ...key.Entry) (key.Record, error)
	// Names lists the keys that have a record.
	Names(ctx context.Context) ([]string, error)
}

// Vaults finds the vault with this URL; nil when the configuration has none.
type Vaults func(url string) Vault

// Config is what a Rotator is made of.
type Config struct {
	Instance  string
	Generator string // "keyd VERSION;HSM MODEL FIRMWARE", written into transfer blobs
	HSM       HSM
	Store     Store
	Vaults    Vaults
	Clock     func() time.Time
	Random    io.Reader // ids; a cryptographic source except in a simulation
	// Look is the slow interval after which a quiet key is observed again.
	Look   time.Duration
	Emit   func(status.Event)
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Mark has the audit chain signed before an import and returns the mark of the
	// newest checkpoint, "" when there is none. It never fails an import. It may be nil.
	Mark func(ctx context.Context) string
}

// Rotator applies steps to keys. It keeps nothing that a restart would miss.
type Rotator struct {
	Config
	views views
}

// New returns a Rotator.
func New(c Config) *Rotator {
	return &Rotator{Config: c, views: newViews()}
}

// now has no monotonic reading: what is planned goes by the wall clock, also when that
// was set.
func (r *Rotator) now() time.Time { return r.Clock().Round(0) }

// TrustConfigured is how the HSM side says that a KEK's fingerprint is in the
// configuration.
const TrustConfigured = "configured"

// importTimeout is how long one PUT may take. With the settle time behind it, it
// is how long an ambiguous import stays open.
const importTimeout = time.Minute

func (r *Rotator) vaultName(p key.Policy, url string) string {
	if v, ok := p.Vault(url); ok {
		return v.Name
	}
	return url
}
