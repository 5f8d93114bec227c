package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// calls are all calls of the protocol.
type calls interface {
	Describe(ctx context.Context) (description, error)
	Inventory(ctx context.Context) ([]key.Object, error)
	Find(ctx context.Context, id key.ID) ([]key.Object, error)
	NewIDs(ctx context.Context) ([]key.ID, error)
	MayGenerate(ctx context.Context, name string, number int, spec key.Spec) error
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID) error
	PublicKey(ctx context.Context, id key.ID) (key.Material, error)
	CheckKEK(ctx context.Context, kek key.KEK) (string, error)
	WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error)
	Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [32]byte) (bool, error)
	Destroy(ctx context.Context, id key.ID) error
	AuditKey(ctx context.Context) (m key.Material, present bool, err error)
	MakeAuditKey(ctx context.Context) (key.Material, error)
	Follow(ctx context.Context, x chain.Extension) error
	SignCheckpoint(ctx context.Context, x chain.Extension) (c key.SignedCheckpoint, missed bool, err error)
}

// dispatch decodes a request's parameters, makes its call and returns its result.
func dispatch(ctx context.Context, c calls, method string, params []byte) (any, error) {
	switch method {
	case "Describe":
		return c.Describe(ctx)
	case "Inventory":
		objects, err := c.Inventory(ctx)
		return objectsResult{objects}, err
	case "Find":
		return handle(params, func(p idParams) (objectsResult, error) {
			objects, err := c.Find(ctx, p.ID)
			return objectsResult{objects}, err
		})
	case "NewIDs":
		ids, err := c.NewIDs(ctx)
		return idsResult{ids}, err
	case "MayGenerate":
		return handle(params, func(p mayGenerateParams) (empty, error) {
			return empty{}, c.MayGenerate(ctx, p.Key, p.Number, p.Spec)
		})
	case "Generate":
		return handle(params, func(p generateParams) (empty, error) {
			return empty{}, c.Generate(ctx, p.ID, p.Key, p.Number, p.Spec, p.Known)
		})
	case "PublicKey":
		return handle(params, func(p idParams) (publicKeyResult, error) {
			m, err := c.PublicKey(ctx, p.ID)
			return publicKeyResult{Material: m}, err
		})
	case "CheckKEK":
		return handle(params, func(p kekParams) (checkKEKResult, error) {
			how, err := c.CheckKEK(ctx, p.KEK)
			return checkKEKResult{How: how}, err
		})
	case "WrapFor":
		return handle(params, func(p wrapParams) (wrapResult, error) {
			ciphertext, err := c.WrapFor(ctx, p.ID, p.KEK)
			return wrapResult{Ciphertext: ciphertext}, err
		})
	case "Opens":
		return handle(params, func(p opensParams) (opensResult, error) {
			yes, err := c.Opens(ctx, p.ID, p.Ciphertext, p.SHA256)
			return opensResult{Opens: yes}, err
		})
	case "Destroy":
		return handle(params, func(p idParams) (empty, error) {
			return empty{}, c.Destroy(ctx, p.ID)
		})
	case "AuditKey":
		m, _, err := c.AuditKey(ctx) // without an audit key, m is not known
		return publicKeyResult{Material: m}, err
	case "MakeAuditKey":
		m, err := c.MakeAuditKey(ctx)
		return publicKeyResult{Material: m}, err
	case "Follow":
		return handle(params, func(p extensionParams) (empty, error) {
			return empty{}, c.Follow(ctx, p.Extension)
		})
	case "SignCheckpoint":
		return handle(params, func(p extensionParams) (checkpointResult, error) {
			signed, missed, err := c.SignCheckpoint(ctx, p.Extension)
			return checkpointResult{Checkpoint: signed, Missed: missed}, err
		})
	default:
		return nil, refused(BadRequest, "the HSM side has no call %q: are both sides of one version?", method)
	}
}

func handle[P parameters, R any](params []byte, call func(P) (R, error)) (any, error) {
	var p P
	if err := decodeBody(params, &p); err != nil {
		return nil, refused(BadRequest, "parameters: %w", err)
	}
	if err := p.valid(); err != nil {
		return nil, refused(BadRequest, "parameters: %w", err)
	}
	return call(p)
}

// parameters can check themselves.
type parameters interface{ valid() error }

func (p generateParams) valid() error {
	if p.Known == "" {
		return validID(p.ID)
	}
	return errors.Join(validID(p.ID), validID(p.Known))
}
func (p mayGenerateParams) valid() error { return nil } // the engine judges it
func (p idParams) valid() error          { return validID(p.ID) }
func (p kekParams) valid() error         { return nil } // trust judges it
func (p wrapParams) valid() error        { return validID(p.ID) }
func (p opensParams) valid() error       { return validID(p.ID) }

func (p extensionParams) valid() error {
	if n := len(p.Stubs); n == 0 || n > chain.MaxStubs {
		return fmt.Errorf("%d entries lead on in the audit chain, and 1 to %d may", n, chain.MaxStubs)
	}
	return nil
}

func validID(id key.ID) error {
	_, err := key.ParseID(string(id))
	return err
}
