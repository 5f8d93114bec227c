package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// unsure makes errors Ambiguous if the call may have had its effect.
func unsure(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case Hung, Device, Internal, Incomplete, NotFound, Foreign:
		c := *e
		c.class, c.Message, c.err = key.Ambiguous, err.Error(), err
		return &c
	default:
		return err
	}
}

// WrapFor wraps the pair's private key to the KEK, if this side trusts the KEK and the configuration brings the pair's
// key to the KEK's vault. Before the first wrap it relabels the pair, so that Destroy can never touch a key that may be
// in use somewhere. A caller may repeat it.
func (e *engine) WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error) {
	way, err := e.wrapper(ctx)
	if err != nil {
		return nil, err
	}
	by, err := e.rights()
	if err != nil {
		return nil, err
	}
	if _, err := e.trust.check(kek, by); err != nil {
		return nil, err
	}
	e.beforeSearch(ctx, id)
	ciphertext, err := with(ctx, e.tok, e.cfg.CallTimeout, true, func(s session) ([]byte, error) {
		e.fate.RLock()
		defer e.fate.RUnlock()
		p, err := e.present(s, id)
		if err != nil {
			return nil, err
		}
		if err := by.mayGo(p.label, kek.Vault); err != nil {
			return nil, err
		}
		how, err := e.trust.accept(kek, by)
		if err != nil {
			return nil, err
		}
		if err := stillDue(ctx); err != nil {
			return nil, err
		}
		if err := s.makePermanent(id, p); err != nil {
			return nil, err
		}
		e.limits.wrapped(id, p.label)
		e.forgetSeen(ctx, id)
		if err := stillDue(ctx); err != nil {
			return nil, err
		}
		e.log.InfoContext(
			ctx, "wrapping", "key", p.label.Key, "generation", p.label.Number, "id", id, "vault", kek.Vault,
			"kek", kek.Kid, "kek_fingerprint", kek.Material.Fingerprint(), "trust", how,
		)
		killpoint.At("hsm-wrap-before")
		to, _ := kek.Material.RSA() // accept refuses a KEK that has none
		out, err := way.wrapTo(s, to, p.private)
		killpoint.At("hsm-wrap-after")
		if err == nil && !plausible(out, to, p.key) {
			return nil, newError(
				Internal, key.Refused, "%s made a ciphertext of %d bytes, which cannot hold the key", way.name,
				len(out),
			)
		}
		return out, err
	})
	return ciphertext, classify(fmt.Sprintf("wrap %s for %s", id, kek.Vault), err, key.Retry)
}

// makePermanent removes the pending mark from both labels. It starts with the private key, because one label without
// the mark is enough to make Destroy refuse.
func (s session) makePermanent(id key.ID, p pair) error {
	label := p.label
	label.Pending = false
	for i, h := range []pkcs11.ObjectHandle{p.private, p.public} {
		if p.labels[i] == label.String() {
			continue
		}
		killpoint.At("hsm-relabel-before")
		if err := s.relabel(h, label.String()); err != nil {
			return fmt.Errorf("relabel %s before its first wrap: %w", id, err)
		}
		killpoint.At("hsm-relabel-after")
	}
	return nil
}

// relabel gives an object another label and reads the label back.
func (s session) relabel(h pkcs11.ObjectHandle, label string) error {
	if err := s.m.SetAttributeValue(s.h, h, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}); err != nil {
		return fmt.Errorf("C_SetAttributeValue: %w", err)
	}
	shown, err := s.attributes(h, pkcs11.CKA_LABEL)
	if err == nil && string(shown[0]) != label {
		return refused(Policy, "the token took the label %q but did not keep it: the pair is not wrapped", label)
	}
	return err
}

// Destroy removes the objects of a generation that was never wrapped for anyone: those with this id that carry this
// instance's own pending label. If any object with this id has another label, it refuses and destroys nothing. It
// leaves objects without a label alone: an id says nothing about whose they are. If there is nothing to destroy, it
// succeeds.
func (e *engine) Destroy(ctx context.Context, id key.ID) error {
	if _, err := e.ready(ctx); err != nil {
		return err
	}
	_, err := with(ctx, e.tok, e.cfg.CallTimeout, true, func(s session) (struct{}, error) {
		return struct{}{}, e.destroy(ctx, s, id)
	})
	e.forget(id)
	if err == nil {
		e.limits.looked(id, nil)
		e.forgetSeen(ctx, id)
	}
	return unsure(classify("destroy "+string(id), err, key.Ambiguous))
}

// forgetSeen removes a pair that is no longer pending from the witness's notes. A note that stays does no harm, so
// forgetSeen only logs an error.
func (e *engine) forgetSeen(ctx context.Context, id key.ID) {
	if err := e.own.witness.forget(id); err != nil {
		e.log.WarnContext(ctx, "cannot remove the note of a pair that keyd saw being made",
			"id", id, "error", err.Error())
	}
}

func (e *engine) destroy(ctx context.Context, s session, id key.ID) error {
	e.fate.Lock()
	defer e.fate.Unlock()
	objects, err := s.objectsWith(id)
	if err != nil {
		return err
	}
	unlabelled := func(o object) bool { return o.label == "" }
	if slices.ContainsFunc(objects, unlabelled) {
		e.log.Warn(
			"an object without a label is not destroyed: it may be another application's; look at it with the "+
				"vendor's tool",
			"id",
			id,
		)
		objects = slices.DeleteFunc(objects, unlabelled)
	}
	for _, o := range objects {
		label, ok := key.ParseLabel(o.label)
		switch {
		case !ok || label.Instance != e.cfg.Instance:
			return refused(
				NotPending,
				"an object with CKA_ID %s is labelled %q, which is not of instance %s: nothing is destroyed", id,
				o.label, e.cfg.Instance,
			)
		case !label.Pending:
			return refused(
				NotPending, "%s (CKA_ID %s) may have left the HSM: keyd never destroys it", label, id,
			)
		}
	}
	if len(objects) > 0 && e.limits.wasPlaced(id) {
		// A part of an HSM that lags behind, or was put back from a backup, shows the mark again.
		return refused(NotPending, "CKA_ID %s was wrapped for a vault, although the token now shows it as pending: "+
			"keyd never destroys it", id)
	}
	if err := stillDue(ctx); err != nil {
		return err
	}
	for _, o := range objects {
		killpoint.At("hsm-destroy-before")
		if err := s.m.DestroyObject(s.h, o.handle); err != nil && !handleLost(err) {
			return fmt.Errorf("C_DestroyObject: %w", err)
		}
		killpoint.At("hsm-destroy-after")
	}
	return nil
}
