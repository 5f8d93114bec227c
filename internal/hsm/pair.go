package hsm

import (
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// pair is one complete key pair of this instance.
type pair struct {
	private, public pkcs11.ObjectHandle
	label           key.Label
	key             *rsa.PublicKey
	material        key.Material // of key
	unreported      []attr       // what the token does not report about the private key's origin
}

// own says which pairs keyd may use: those of an instance, on a token for which the trial found out what it cannot
// report.
type own struct {
	instance string
	trial    *trial
	witness  *witness
}

// object holds what keyd reads from every object with a CKA_ID.
type object struct {
	handle pkcs11.ObjectHandle
	class  uint // CKA_CLASS, or noClass
	label  string
}

const noClass = ^uint(0) // the class of an object that a crash left without attributes

func (s session) objectsWith(id key.ID) ([]object, error) {
	handles, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_ID, id.Bytes()))
	if err != nil {
		return nil, err
	}
	objects := make([]object, 0, len(handles))
	for _, h := range handles {
		o, err := s.describe(h)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
	}
	return objects, nil
}

func (s session) describe(h pkcs11.ObjectHandle) (object, error) {
	o := object{handle: h, class: noClass}
	values, err := s.reported(h, pkcs11.CKA_CLASS, pkcs11.CKA_LABEL)
	if err != nil {
		return o, err
	}
	if len(values[0]) == 8 {
		o.class = uint(binary.NativeEndian.Uint64(values[0]))
	}
	o.label = string(values[1])
	return o, nil
}

// lookUp finds the one complete pair with this id. Errors: NotFound, Incomplete, Foreign, or the module's.
func (s session) lookUp(id key.ID, mine own) (pair, error) {
	objects, err := s.objectsWith(id)
	if err != nil {
		return pair{}, err
	}
	return s.examine(id, mine, objects)
}

// examine checks that objects are exactly one pair of ours and that all its attributes read back as keyd sets them.
func (s session) examine(id key.ID, mine own, objects []object) (pair, error) {
	if len(objects) == 0 {
		return pair{}, refused(NotFound, "the HSM has no object with CKA_ID %s", id)
	}
	for _, o := range objects {
		if o.label != "" && !ours(o.label, mine.instance) {
			return pair{}, refused(
				Foreign, "an object with CKA_ID %s is labelled %q, which is not of instance %s: it is not touched",
				id, o.label, mine.instance,
			)
		}
	}
	private, public, err := halves(id, objects)
	if err != nil {
		return pair{}, err
	}
	p := pair{private: private.handle, public: public.handle}
	p.label, _ = key.ParseLabel(private.label)
	pub, ok := key.ParseLabel(public.label)
	pub.Pending = p.label.Pending // they differ after a crash between the two relabellings
	if !ok || p.label == (key.Label{}) || pub != p.label {
		return pair{}, refused(Incomplete, "the two halves of CKA_ID %s are not labelled alike", id)
	}
	problem, err := s.readBack(&p, mine.trial.unreported())
	if err != nil {
		return pair{}, err
	}
	if problem == "" && len(p.unreported) > 0 && p.label.Pending {
		// Without the mark it was accepted before: only WrapFor takes the mark off.
		problem = mine.witness.missing(id, p.material, p.unreported)
	}
	if problem != "" {
		return pair{}, refused(Incomplete, "CKA_ID %s (%s): %s", id, p.label, problem)
	}
	return p, nil
}

// halves returns the one private and the one public key that objects must consist of.
func halves(id key.ID, objects []object) (private, public object, err error) {
	var privates, publics, others int
	for _, o := range objects {
		switch o.class {
		case pkcs11.CKO_PRIVATE_KEY:
			privates++
			private = o
		case pkcs11.CKO_PUBLIC_KEY:
			publics++
			public = o
		default:
			others++
		}
	}
	if privates != 1 || publics != 1 || others != 0 {
		return private, public, refused(
			Incomplete, "CKA_ID %s has %d private keys, %d public keys and %d other objects, not one pair", id,
			privates, publics, others,
		)
	}
	return private, public, nil
}

// readBack checks every attribute of p. It fills in the public key and the excused attributes that the token does not
// report.
func (s session) readBack(p *pair, excused []string) (problem string, err error) {
	checks := []struct {
		half   string
		object pkcs11.ObjectHandle
		attrs  []attr
	}{
		{"private", p.private, privateAttrs(true)},
		{"private", p.private, privateBirth()},
		{"public", p.public, publicAttrs(true)},
	}
	for _, c := range checks {
		problem, unreported, err := s.compare(c.object, c.attrs, excused)
		if problem != "" || err != nil {
			return c.half + " key: " + problem, err
		}
		p.unreported = append(p.unreported, unreported...)
	}
	for _, extra := range privateExtras() {
		value, err := s.optional(p.private, extra.typ)
		if err != nil {
			return "", err
		}
		if len(value) != 0 && !hasValue(value, extra.value) {
			return "private key: CKA_" + extra.name + " is set", nil
		}
	}
	private, err := s.rsaPublic(p.private)
	if err != nil {
		return "", err
	}
	if p.key, err = s.rsaPublic(p.public); err != nil {
		return "", err
	}
	if !private.Equal(p.key) {
		return "the two halves have different moduli", nil
	}
	p.material, err = key.FromRSA(p.key)
	if err != nil || !slices.Contains(key.Specs(), p.material.Spec()) {
		return "the modulus has a size that keyd does not make", nil //nolint:nilerr // that is what is wrong with it
	}
	return "", nil
}

func ours(label, instance string) bool {
	l, ok := key.ParseLabel(label)
	return ok && l.Instance == instance
}

// inventory lists up to limit of the instance's pairs with an id after the given one, ordered by id. If inventory
// loses a handle while it reads, either someone just destroyed the object or the library made a mistake. A second
// look shows which; after a mistake inventory calls slipped.
func (s session) inventory(mine own, after key.ID, limit int, slipped func(error)) (inventoryResult, error) {
	page, lost, err := s.inventoryOnce(mine, after, limit)
	if err == nil && lost != nil {
		slipped(lost)
		page, _, err = s.inventoryOnce(mine, after, limit)
	}
	return page, err
}

func (s session) inventoryOnce(mine own, after key.ID, limit int) (page inventoryResult, lost, err error) {
	byID := map[key.ID][]object{}
	isOurs := map[key.ID]bool{}
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		handles, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
		if err != nil {
			return page, nil, err
		}
		for _, h := range handles {
			values, err := s.reported(h, pkcs11.CKA_ID, pkcs11.CKA_LABEL)
			if handleLost(err) {
				lost = err
				continue
			}
			if err != nil {
				return page, nil, err
			}
			id, label := key.ID(hex.EncodeToString(values[0])), string(values[1])
			if len(values[0]) != 16 || id <= after {
				continue
			}
			byID[id] = append(byID[id], object{handle: h, class: class, label: label})
			isOurs[id] = isOurs[id] || ours(label, mine.instance)
		}
	}
	ids := make([]key.ID, 0, len(isOurs))
	for id, mine := range isOurs {
		if mine {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if page.More = len(ids) > limit; page.More {
		ids = ids[:limit]
	}
	for _, id := range ids {
		o, err := s.inventoried(id, mine, byID[id])
		if handleLost(err) {
			lost = err
		} else if err != nil {
			return page, nil, err
		}
		page.Objects = append(page.Objects, o)
	}
	return page, lost, nil
}

// inventoried is one pair as the inventory shows it. A pair with a lost handle appears with that error.
func (s session) inventoried(id key.ID, mine own, objects []object) (key.Object, error) {
	out := key.Object{ID: id, Material: key.UnreadableMaterial()}
	p, err := s.examine(id, mine, objects)
	var problem *Error
	switch {
	case err == nil:
		out.Label, out.Complete, out.Material = p.label, true, p.material
		return out, nil
	case errors.As(err, &problem):
		out.Problem, err = problem.Message, nil
	case handleLost(err):
		out.Problem = "an object was destroyed while it was read"
	default:
		return out, err
	}
	for _, o := range objects {
		if l, ok := key.ParseLabel(o.label); ok && l.Instance == mine.instance {
			out.Label = l
			break // the private key's, if there is one
		}
	}
	return out, err
}
