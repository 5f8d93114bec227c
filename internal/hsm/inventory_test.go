package hsm

import (
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// slipping fails the read of attributes that brings the countdown to 0: the handle is lost.
type slipping struct {
	module
	countdown *atomic.Int64
}

func (m slipping) GetAttributeValue(
	s pkcs11.SessionHandle, o pkcs11.ObjectHandle, a []*pkcs11.Attribute,
) ([]*pkcs11.Attribute, error) {
	if m.countdown.Add(-1) == 0 {
		return nil, pkcs11.Error(pkcs11.CKR_OBJECT_HANDLE_INVALID)
	}
	return m.module.GetAttributeValue(s, o, a)
}

// Otherwise a single mistake of the library would look like a missing pair.
func TestTheInventoryIsCompleteThoughAHandleIsLostOnce(t *testing.T) {
	var countdown atomic.Int64
	e := inProcess(t, func(m module) module { return slipping{m, &countdown} })
	if err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
		t.Fatal(err)
	}
	countdown.Store(0)
	if _, err := e.Inventory(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads := -countdown.Load()
	if reads < 2 {
		t.Fatalf("an inventory of one pair reads attributes %d times", reads)
	}
	for at := range reads {
		countdown.Store(at + 1)
		page, err := e.Inventory(t.Context())
		if err != nil || len(page) != 1 || !page[0].Complete {
			t.Errorf("with a slip at read %d of %d: %+v, %v", at+1, reads, page, err)
		}
	}
}

// shy fails each read of more than two attributes of an object with this label.
type shy struct {
	module
	label string
}

func (m shy) GetAttributeValue(
	s pkcs11.SessionHandle, o pkcs11.ObjectHandle, a []*pkcs11.Attribute,
) ([]*pkcs11.Attribute, error) {
	named, err := m.module.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil)})
	if err == nil && string(named[0].Value) == m.label && len(a) > 2 {
		return nil, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
	}
	return m.module.GetAttributeValue(s, o, a)
}

// Another's object may be of any kind. It must not hide keyd's pairs, nor end the process.
func TestAnObjectOfAnothersThatCannotBeReadDoesNotFailTheInventory(t *testing.T) {
	e := inProcess(t, func(m module) module { return shy{m, "somebody's key"} })
	id := mustGenerate(t, e)
	if err := use(e.tok, true, func(s session) error {
		_, _, err := s.generatePair(newID(t), "somebody's key", 2048, true)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	wantWhole(t, e, id)
	if e.tok.isDead() {
		t.Error("the process ends")
	}
}
