package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// MayGenerate refuses what Generate would refuse before it calls the token for the pair. It changes nothing that a
// caller sees.
func (e *engine) MayGenerate(ctx context.Context, name string, number int, spec key.Spec) error {
	label := key.Label{Instance: e.cfg.Instance, Key: name, Number: number, Pending: true}
	may, _, err := e.mayMake(ctx, label, spec)
	if err != nil {
		return err
	}
	return e.limits.permit(label, may)
}

// mayMake makes sure that the configuration permits the pair and that the token can make one, as far as this shows
// before it is asked. The limits come later: they count what is made meanwhile.
func (e *engine) mayMake(ctx context.Context, label key.Label, spec key.Spec) (may KeyRights, can profile, err error) {
	if parsed, ok := key.ParseLabel(label.String()); !ok || parsed != label || spec.Bits() == 0 {
		return may, can, refused(BadRequest, "cannot generate %q, number %d, spec %q", label.Key, label.Number, spec)
	}
	by, err := e.rights()
	if err != nil {
		return may, can, err
	}
	if may, err = by.mayMake(label); err != nil {
		return may, can, err
	}
	if can, err = e.ready(ctx); err != nil {
		return may, can, err
	}
	if can.wrap == nil || can.open == nil {
		_, err := e.wrapper(ctx)
		_, err2 := e.opener(ctx)
		return may, can, errors.Join(err, err2)
	}
	if err := e.tryOut(ctx, can); err != nil {
		return may, can, err
	}
	if e.limits.needsPass() {
		_, err = e.Inventory(ctx)
	}
	return may, can, err
}

// Generate makes a pending pair and reads it back. known is a pair that must be on the token; "": none. After any error
// except a refusal the outcome is open: look for the id before anything else.
func (e *engine) Generate(
	ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID,
) error {
	label := key.Label{Instance: e.cfg.Instance, Key: name, Number: number, Pending: true}
	may, profile, err := e.mayMake(ctx, label, spec)
	if err != nil {
		return err
	}
	turn, err := e.making.begin(ctx)
	if err != nil {
		return err
	}
	defer turn.end()
	_, err = with(ctx, e.tok, e.cfg.GenerateTimeout, false, func(s session) (struct{}, error) {
		if err := e.sameToken(s, known); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, e.generateWithin(ctx, may, s, turn, id, label, spec, profile)
	})
	return unsure(classify(fmt.Sprintf("generate %s with CKA_ID %s", label, id), err, key.Ambiguous))
}

// sameToken searches for a pair that must be there, so that keyd makes nothing on a token that was wiped or exchanged
// behind its back: to PKCS#11 such a token looks healthy, and a handle from before may still answer. Without a known
// pair, the audit key must be there if this process has seen it. While an earlier search counts, sameToken reads the
// pair by its handle.
func (e *engine) sameToken(s session, known key.ID) error {
	var named *pkcs11.Attribute
	var what string
	var private pkcs11.ObjectHandle
	switch {
	case known != "":
		named, what = pkcs11.NewAttribute(pkcs11.CKA_ID, known.Bytes()), "the pair with CKA_ID "+string(known)
		p, _ := e.recall(known)
		private = p.private
	case e.audit.wasSeen():
		label := auditLabel(e.cfg.Instance)
		named, what = pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), fmt.Sprintf("the audit key %q", label)
		k, _ := e.audit.recall()
		private = k.private
	default:
		return nil
	}
	if private != 0 && e.seen.counts() {
		shown, err := s.attributes(private, named.Type)
		if err == nil && !bytes.Equal(shown[0], named.Value) {
			err = errors.New("it shows another object")
		}
		if err == nil {
			return nil
		}
		e.tok.reportMended("the handle of "+what+" no longer shows it, and keyd searches for it", err)
	}
	began := time.Now()
	found, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), named)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return newError(TokenChanged, key.Fatal, "token %q does not have %s, which must be there: nothing was made. "+
			"Was the token wiped or exchanged? Put the right one back, then see: keyd check", e.tok.label, what)
	}
	e.seen.saw(began)
	return nil
}

// claim makes sure that no pair was ever made under an id, as far as this process or the token can tell. It searches
// unless this process drew the id, or the last look at the id showed nothing.
func (e *engine) claim(s session, id key.ID) error {
	asked, vacant := e.use(id)
	if asked {
		return refused(Exists, "keyd already asked for a pair with CKA_ID %s: nothing was generated", id)
	}
	if vacant {
		return nil
	}
	there, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_ID, id.Bytes()))
	if err == nil && len(there) > 0 {
		return refused(
			Exists, "the HSM has %d objects with CKA_ID %s already: nothing was generated", len(there), id,
		)
	}
	return err
}

// generateWithin makes a pair if the limits of its key permit one more.
func (e *engine) generateWithin(
	ctx context.Context, may KeyRights, s session, turn *turn, id key.ID, label key.Label, spec key.Spec, can profile,
) error {
	if err := e.limits.reserve(id, label, may); err != nil {
		return err
	}
	err := e.generate(ctx, s, turn, id, label, spec, can)
	if noteErr := e.limits.settle(id, label, unsure(classify("generate", err, key.Ambiguous))); noteErr != nil {
		e.log.Error("the pair is not noted as one of this day", "id", id, "error", noteErr.Error())
	}
	return err
}

func (e *engine) generate(
	ctx context.Context, s session, turn *turn, id key.ID, label key.Label, spec key.Spec, can profile,
) (err error) {
	if err := e.claim(s, id); err != nil {
		return err
	}
	if err := stillDue(ctx); err != nil {
		return err
	}
	e.trial.doubt()
	defer func() { e.trial.settle(err == nil) }()
	killpoint.At("hsm-generate-before")
	public, private, err := s.generatePair(id, label.String(), spec.Bits(), can.extras)
	if perhapsBusy(err) && !turn.wasAlone() {
		return e.failedBeside(id, err)
	}
	if err != nil {
		return err
	}
	killpoint.At("hsm-generate-after")
	p, err := s.madePair(public, private, id, label.String(), spec.Bits(), e.trial.unreported())
	if err != nil {
		return err
	}
	if len(p.unreported) > 0 {
		if err := can.open.possesses(s, p); err != nil {
			return err
		}
		e.own.witness.saw(id, p.material)
	}
	e.remember(id, p)
	return nil
}

// failedBeside deals with a generation that failed while another one ran. The module may be unable to make two pairs at
// once, and otherwise sound, so the process goes on: from now on keyd makes one pair at a time, and the next one is a
// throw-away pair, alone. If that fails too, its error is treated as any other.
func (e *engine) failedBeside(id key.ID, err error) error {
	e.trial.suspect(err)
	e.log.Warn("a key pair could not be made while another one was being made; keyd now makes one at a time, and "+
		"tries a throw-away pair alone before the next", "id", id, "error", err.Error())
	return newError(Internal, key.Ambiguous, // without the module's error in its chain, which would end the process
		"C_GenerateKeyPair: %v, while another key pair was being made; keyd now makes one at a time", err)
}

// generatePair makes a pair on the token.
func (s session) generatePair(
	id key.ID, label string, bits int, extras bool,
) (public, private pkcs11.ObjectHandle, err error) {
	publicAttrs, privateAttrs := pairTemplates(id.Bytes(), label, bits, true, extras)
	public, private, err = s.m.GenerateKeyPair(
		s.h, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), publicAttrs, privateAttrs,
	)
	if err != nil {
		return 0, 0, fmt.Errorf("C_GenerateKeyPair: %w", err)
	}
	return public, private, nil
}

// madePair reads back the new pair by its handles: no object had its id before. If anything differs from the request,
// it is open what the token holds.
func (s session) madePair(
	public, private pkcs11.ObjectHandle, id key.ID, label string, bits int, excused []string,
) (pair, error) {
	p, problem, err := s.readMade(public, private, id, excused)
	switch {
	case err != nil || problem != "":
	case p.labels != [2]string{label, label}:
		problem = fmt.Sprintf("it is labelled %q and %q, not %q", p.labels[0], p.labels[1], label)
	case p.key.N.BitLen() != bits:
		problem = fmt.Sprintf("it has %d bits, not %d", p.key.N.BitLen(), bits)
	}
	if err == nil && problem == "" {
		p.label, _ = key.ParseLabel(label)
		return p, nil
	}
	if err == nil {
		err = errors.New(problem)
	}
	return p, newError(
		Incomplete, key.Ambiguous, "the pair was generated, but does not read back as asked for: %w", err,
	)
}

func (s session) readMade(
	public, private pkcs11.ObjectHandle, id key.ID, excused []string,
) (p pair, problem string, err error) {
	made := []object{{handle: private, class: pkcs11.CKO_PRIVATE_KEY}, {handle: public, class: pkcs11.CKO_PUBLIC_KEY}}
	for i, o := range made {
		read, err := s.readHalf(o.handle, o.class, excused)
		if err != nil {
			return p, "", err
		}
		made[i].label, made[i].half = read.label, &read
	}
	p, problem = match(id, made[0], made[1])
	return p, problem, nil
}
