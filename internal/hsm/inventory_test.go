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
