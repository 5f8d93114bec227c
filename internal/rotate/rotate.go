// Package rotate brings each key from what is to what its policy asks: observe, plan, one step, again. Its rule: it
// acts, and never decides. StepKey alone acts, one step at a time, and every step may be repeated or cut short at any
// instruction. What operators ask for goes into the record here, too.
package rotate

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// HSM is what steps need of the HSM side. Errors carry a key.Class.
type HSM interface {
	proof.HSM
	// Describe identifies the HSM, for the audit.
	Describe(ctx context.Context) (key.HSMInfo, error)
	// Generate makes a pair under a CKA_ID that was never used, on a token that has the pair known; "": none.
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID) error
	// PublicKey reads the attributes of the one pair under id back and has it prove possession of the private key.
	PublicKey(ctx context.Context, id key.ID) (key.Material, error)
	// WrapFor returns the private key as CKM_RSA_AES_KEY_WRAP ciphertext (PKCS#11 v3.0 section 2.1.21) for a KEK that
	// it trusts.
	WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error)
	// Destroy removes what is under an abandoned id. A pair that was ever wrapped is refused.
	Destroy(ctx context.Context, id key.ID) error
}

// Vault is what steps need of one vault. Errors carry a key.Class; those of Import are Ambiguous unless the vault
// certainly did not take it.
type Vault interface {
	proof.Vault
	// CreateKEK makes a new version of the key exchange key, unless the newest is another than the version after
	// ("": none). Its errors are as those of Import.
	CreateKEK(ctx context.Context, after string, tags map[string]string) (key.KEK, error)
	// DisableKEK sets enabled=false on one version of the key exchange key.
	DisableKEK(ctx context.Context, version string) error
	Import(ctx context.Context, r key.ImportRequest) (key.Version, error)
	// Newest is the version that a caller without a version gets.
	Newest(ctx context.Context, name string) (key.Version, error)
	Disable(ctx context.Context, name, version string) error
	// ClockSkew is the vault's clock minus the local one at the last answer.
	ClockSkew() (skew time.Duration, known bool)
}

// Store keeps records by compare-and-swap, with the audit entries of a change in the same transaction.
type Store interface {
	// Load returns an empty record of revision 0 for a name never saved.
	Load(ctx context.Context, name string) (record.Record, error)
	// Save fails with a key.Retry error when the record changed since it was loaded, and returns the record with its
	// new revision otherwise.
	Save(ctx context.Context, r record.Record, entries ...chain.Entry) (record.Record, error)
	// Names lists the keys that have a record.
	Names(ctx context.Context) ([]string, error)
	// LoadVault and SaveVault do the same for the record of a vault, by its URL.
	LoadVault(ctx context.Context, url string) (record.Vault, error)
	SaveVault(ctx context.Context, r record.Vault, entries ...chain.Entry) (record.Vault, error)
}

// Observer looks at the HSM and the vaults, and keeps the newest observation of each key.
type Observer interface {
	// Observe looks and keeps; Look only looks.
	Observe(ctx context.Context, p key.Policy, rec record.Record) *record.Observation
	Look(ctx context.Context, p key.Policy, rec record.Record) *record.Observation
	// Last is the newest observation that was kept; nil for none. It is not to be changed.
	Last(name string) *record.Observation
	// Use notes that a step was planned on the newest observation, and Used tells.
	Use(name string)
	Used(name string) bool
	Drop(name string)
	// Forget ends what is shown of a key that is managed no more.
	Forget(name string)
	// Vault looks at a vault's key exchange keys and keeps that; LastVault is the newest look, nil for none.
	Vault(ctx context.Context, p key.VaultPolicy, rec record.Vault) *record.VaultLook
	LastVault(url string) *record.VaultLook
	DropVault(url string)
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
	Observer  Observer
	Clock     func() time.Time
	Random    io.Reader // ids; a cryptographic source except in a simulation
	// Look is the slow interval after which a quiet key is observed again.
	Look   time.Duration
	Emit   func(status.Event)
	Logger *slog.Logger
	// Metrics may be nil.
	Metrics *Metrics
	// Mark has the audit chain signed before an import and returns the mark of the newest checkpoint, "" when there is
	// none. It never fails an import. It may be nil.
	Mark func(ctx context.Context) string
}

// Rotator applies steps to keys. It keeps nothing that a restart would miss.
type Rotator struct{ Config }

// New returns a Rotator.
func New(c Config) *Rotator { return &Rotator{c} }

// now has no monotonic reading: what is planned goes by the wall clock, also when that was set.
func (r *Rotator) now() time.Time { return r.Clock().Round(0) }

func (r *Rotator) newID() (key.ID, error) { return key.NewID(r.Random) }

// Input is what the plan is made of now.
func (r *Rotator) input(p key.Policy, rec *record.Record, o *record.Observation) plan.Input {
	return plan.Input{Now: r.now(), Policy: p, Record: rec, Seen: o}
}

func (r *Rotator) vault(p key.Policy, rec *record.Record, url string) (Vault, error) {
	if c := r.Vaults(url); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("vault %s is no longer in the configuration", rec.VaultName(p, url))
}
