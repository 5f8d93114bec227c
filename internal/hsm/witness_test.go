package hsm

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// silent is a token that does not report how its keys were made. NSS softokn reports a wrong CKA_LOCAL and no
// CKA_KEY_GEN_MECHANISM.
func silent() *vendors {
	return &vendors{unreported: []uint{pkcs11.CKA_KEY_GEN_MECHANISM}, lies: map[uint][]byte{pkcs11.CKA_LOCAL: {0}}}
}

func TestKeydGoesByWhatItSawWhereTheTokenReportsNothing(t *testing.T) {
	e := onVendors(t, silent())
	d, err := e.Describe(t.Context())
	if err != nil || d.Degraded != "" {
		t.Fatalf("%+v, %v", d, err)
	}
	if w := strings.Join(d.Warnings, "\n"); !strings.Contains(w, "CKA_LOCAL, CKA_KEY_GEN_MECHANISM") {
		t.Errorf("the warnings do not name what the token cannot report: %s", w)
	}
	id := mustGenerate(t, e)
	wantWhole(t, e, id)
	pub, err := e.PublicKey(t.Context(), id) // this pins it
	if err != nil {
		t.Fatal(err)
	}
	e = restarted(t, e)
	wantWhole(t, e, id)
	kek, _ := newKEK(t, vaultURL)
	if _, err := e.WrapFor(t.Context(), id, kek); err != nil {
		t.Fatal(err)
	}
	e = restarted(t, e)
	wantWhole(t, e, id)
	if yes, err := e.Opens(t.Context(), id, seal(t, pub, []byte("x")), sha256.Sum256([]byte("x"))); !yes ||
		err != nil {
		t.Errorf("opens: %v, %v", yes, err)
	}
	if note, err := os.ReadFile(filepath.Join(e.cfg.StateDir, "seen-pairs.json")); err != nil ||
		strings.Contains(string(note), string(id)) {
		t.Errorf("a pair that was wrapped is still noted: %s, %v", note, err)
	}
}

func wantWhole(t *testing.T, e *engine, id key.ID) {
	t.Helper()
	page, err := e.Inventory(t.Context())
	if err != nil || len(page) != 1 || page[0].ID != id || !page[0].Complete {
		t.Errorf("the inventory is not the whole pair %s alone: %+v, %v", id, page, err)
	}
}

func wantRefused(t *testing.T, e *engine, id key.ID, why string) {
	t.Helper()
	_, err := e.PublicKey(t.Context(), id)
	wantCode(t, err, Incomplete, key.Refused)
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("the error does not say %q: %v", why, err)
	}
	page, err := e.Inventory(t.Context())
	if err != nil || len(page) != 1 || page[0].Complete {
		t.Errorf("the inventory shows a whole pair: %+v, %v", page, err)
	}
}

func TestAPairThatKeydDidNotSeeBeingMadeIsRefused(t *testing.T) {
	const unseen = "CKA_LOCAL, CKA_KEY_GEN_MECHANISM, and this HSM process did not see the pair being made"
	t.Run("a restart before it was pinned", func(t *testing.T) {
		e := onVendors(t, silent())
		id := mustGenerate(t, e)
		e = restarted(t, e)
		wantRefused(t, e, id, unseen)
		if err := e.Destroy(t.Context(), id); err != nil {
			t.Errorf("it cannot be swept: %v", err)
		}
	})
	t.Run("made by somebody else", func(t *testing.T) {
		e := onVendors(t, silent())
		id := newID(t)
		if err := use(e.tok, true, func(s session) error {
			_, _, err := s.generatePair(id, "keyd/test/sa-cmk-key/1/pending", 2048, true)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, e, id, unseen)
	})
	t.Run("replaced under its id", func(t *testing.T) {
		e := onVendors(t, silent())
		id := mustGenerate(t, e)
		if err := use(e.tok, true, func(s session) error {
			objects, err := s.objectsWith(id)
			for _, o := range objects {
				err = errors.Join(err, s.m.DestroyObject(s.h, o.handle))
			}
			_, _, makeErr := s.generatePair(id, "keyd/test/sa-cmk-key/1/pending", 2048, true)
			return errors.Join(err, makeErr)
		}); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, e, id, unseen)
	})
	t.Run("with a damaged note", func(t *testing.T) {
		e := onVendors(t, silent())
		id := mustGenerate(t, e)
		if _, err := e.PublicKey(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(e.cfg.StateDir, "seen-pairs.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, restarted(t, e), id, "damaged")
	})
}

// If the token reports how a key was made, keyd trusts the token, whatever it saw itself.
func TestATokenThatCanReportAnAttributeMustReportIt(t *testing.T) {
	for name, spoil := range map[string]func(*vendors){
		"CKA_LOCAL is not true": func(v *vendors) { v.lies = map[uint][]byte{pkcs11.CKA_LOCAL: {0}} },
		"does not report CKA_KEY_GEN_MECHANISM": func(v *vendors) {
			v.unreported = []uint{pkcs11.CKA_KEY_GEN_MECHANISM}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ways := &vendors{}
			e := onVendors(t, ways)
			id := mustGenerate(t, e)
			kek, _ := newKEK(t, vaultURL)
			if _, err := e.WrapFor(t.Context(), id, kek); err != nil {
				t.Fatal(err)
			}
			ways.change(func() { spoil(ways) })
			wantRefused(t, e, id, name)
		})
	}
}

// Otherwise the existing keys would look missing.
func TestAFailedTryKeepsTheListOfUnreportedAttributes(t *testing.T) {
	ways := silent()
	e := onVendors(t, ways)
	id := mustGenerate(t, e)
	if _, err := e.PublicKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ways.change(func() {
		ways.firmware++
		ways.make = func(string) error { return errors.New("the token is full") }
	})
	e = restarted(t, e)
	wantDegraded(t, e, "the token is full")
	wantWhole(t, e, id)
	wantWhole(t, restarted(t, e), id)
}

func TestTheAuditKeyOfASilentTokenIsFoundAgain(t *testing.T) {
	e := onVendors(t, silent())
	made, err := e.MakeAuditKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e = restarted(t, e)
	if found, present, err := e.AuditKey(t.Context()); err != nil || !present || found != made {
		t.Errorf("after a restart: %v, %v", present, err)
	}
	if _, _, err := e.SignCheckpoint(t.Context(), entries(1, 3).after(nil)); err != nil {
		t.Error(err)
	}
}
