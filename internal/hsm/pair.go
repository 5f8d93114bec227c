package hsm

import (
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// pair is one complete key pair of this instance.
type pair struct {
	private, public pkcs11.ObjectHandle
	label           key.Label
	labels          [2]string // as the private and the public key show them
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
	half   *half // nil: not read yet
}

const noClass = ^uint(0) // the class of an object that a crash left without attributes

// half is a private or a public key, as it reads back.
type half struct {
	id         key.ID
	label      string
	problem    string // the first attribute that is not as keyd sets it; "": none
	unreported []attr // excused attributes that the token does not report
	key        *rsa.PublicKey
}

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

// readAgain reads a pair back by handles from before. Nothing else may have come under its id meanwhile: only a search
// shows that.
func (s session) readAgain(id key.ID, mine own, p pair) (pair, error) {
	objects := []object{
		{handle: p.private, class: pkcs11.CKO_PRIVATE_KEY}, {handle: p.public, class: pkcs11.CKO_PUBLIC_KEY},
	}
	for i, o := range objects {
		read, err := s.readHalf(o.handle, o.class, mine.trial.unreported())
		if err != nil {
			return pair{}, err
		}
		objects[i].label, objects[i].half = read.label, &read
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
	label, _ := key.ParseLabel(private.label)
	pub, ok := key.ParseLabel(public.label)
	pub.Pending = label.Pending // they differ after a crash between the two relabellings
	if !ok || label == (key.Label{}) || pub != label {
		return pair{}, refused(Incomplete, "the two halves of CKA_ID %s are not labelled alike", id)
	}
	for _, o := range []*object{&private, &public} {
		if o.half != nil {
			continue
		}
		read, err := s.readHalf(o.handle, o.class, mine.trial.unreported())
		if err != nil {
			return pair{}, err
		}
		o.half = &read
	}
	p, problem := match(id, private, public)
	p.label = label
	if problem == "" && len(p.unreported) > 0 && label.Pending {
		// Without the mark it was accepted before: only WrapFor takes the mark off.
		problem = mine.witness.missing(id, p.material, p.unreported)
	}
	if problem != "" {
		return pair{}, refused(Incomplete, "CKA_ID %s (%s): %s", id, label, problem)
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

// match makes a pair of two halves that were read. problem says why they are none; "" if they are one.
func match(id key.ID, private, public object) (p pair, problem string) {
	p = pair{
		private: private.handle, public: public.handle, key: public.half.key,
		labels:     [2]string{private.label, public.label},
		unreported: append(slices.Clone(private.half.unreported), public.half.unreported...),
	}
	switch {
	case private.half.problem != "":
		return p, "private key: " + private.half.problem
	case public.half.problem != "":
		return p, "public key: " + public.half.problem
	case private.half.id != id || public.half.id != id:
		return p, fmt.Sprintf("its halves have the CKA_IDs %s and %s", private.half.id, public.half.id)
	case !private.half.key.Equal(public.half.key):
		return p, "the two halves have different moduli"
	}
	var err error
	p.material, err = key.FromRSA(p.key)
	if err != nil || !slices.Contains(key.Specs(), p.material.Spec()) {
		return p, "the modulus has a size that keyd does not make"
	}
	return p, ""
}

// halfTypes are all attributes that keyd reads of a private or a public key.
func halfTypes(class uint) []uint {
	types := []uint{pkcs11.CKA_ID, pkcs11.CKA_LABEL, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT}
	for _, a := range halfAttrs(class) {
		types = append(types, a.typ)
	}
	if class == pkcs11.CKO_PRIVATE_KEY {
		for _, a := range privateExtras() {
			types = append(types, a.typ)
		}
	}
	return types
}

// halfAttrs are the attributes that must read back.
func halfAttrs(class uint) []attr {
	if class == pkcs11.CKO_PRIVATE_KEY {
		return append(privateAttrs(true), privateBirth()...)
	}
	return publicAttrs(true)
}

// readHalf reads a half of a pair, in one call if the token reports everything.
func (s session) readHalf(h pkcs11.ObjectHandle, class uint, excused []string) (half, error) {
	types := halfTypes(class)
	list, err := s.reported(h, types...)
	if err != nil {
		return half{}, err
	}
	v := valuesOf(types, list)
	if v[pkcs11.CKA_MODULUS] != nil {
		s.lacks.learn(v)
	}
	return judge(class, v, excused), nil
}

// judge compares what was read of a half with what keyd sets.
func judge(class uint, v values, excused []string) (read half) {
	read.id, read.label = idOf(v[pkcs11.CKA_ID]), string(v[pkcs11.CKA_LABEL])
	if read.problem, read.unreported = v.compare(halfAttrs(class), excused); read.problem != "" {
		return read
	}
	for _, extra := range privateExtras() {
		if value := v[extra.typ]; len(value) != 0 && !hasValue(value, extra.value) {
			read.problem = "CKA_" + extra.name + " is set"
			return read
		}
	}
	var err error
	if read.key, err = v.rsaPublic(); err != nil {
		read.problem = err.Error()
	}
	return read
}

func ours(label, instance string) bool {
	l, ok := key.ParseLabel(label)
	return ok && l.Instance == instance
}
