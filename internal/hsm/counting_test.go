package hsm

import (
	"crypto/sha256"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// counted is a real module that counts the calls of each function.
type counted struct {
	module
	mu    sync.Mutex
	calls map[string]int
}

func newCounted(real module) *counted { return &counted{module: real, calls: map[string]int{}} }

func (m *counted) count(function string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[function]++
}

// during returns how often f called each function.
func (m *counted) during(f func()) map[string]int {
	m.mu.Lock()
	m.calls = map[string]int{}
	m.mu.Unlock()
	f()
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.calls)
}

func (m *counted) FindObjectsInit(s pkcs11.SessionHandle, a []*pkcs11.Attribute) error {
	m.count("FindObjectsInit")
	return m.module.FindObjectsInit(s, a)
}

func (m *counted) FindObjects(s pkcs11.SessionHandle, most int) ([]pkcs11.ObjectHandle, bool, error) {
	m.count("FindObjects")
	return m.module.FindObjects(s, most)
}

func (m *counted) FindObjectsFinal(s pkcs11.SessionHandle) error {
	m.count("FindObjectsFinal")
	return m.module.FindObjectsFinal(s)
}

func (m *counted) GetAttributeValue(
	s pkcs11.SessionHandle, o pkcs11.ObjectHandle, a []*pkcs11.Attribute,
) ([]*pkcs11.Attribute, error) {
	m.count("GetAttributeValue")
	return m.module.GetAttributeValue(s, o, a)
}

func (m *counted) SetAttributeValue(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, a []*pkcs11.Attribute) error {
	m.count("SetAttributeValue")
	return m.module.SetAttributeValue(s, o, a)
}

func (m *counted) CreateObject(s pkcs11.SessionHandle, a []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	m.count("CreateObject")
	return m.module.CreateObject(s, a)
}

func (m *counted) DestroyObject(s pkcs11.SessionHandle, o pkcs11.ObjectHandle) error {
	m.count("DestroyObject")
	return m.module.DestroyObject(s, o)
}

func (m *counted) GenerateKey(
	s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, a []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, error) {
	m.count("GenerateKey")
	return m.module.GenerateKey(s, mech, a)
}

func (m *counted) GenerateKeyPair(
	s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, public, private []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error) {
	m.count("GenerateKeyPair")
	return m.module.GenerateKeyPair(s, mech, public, private)
}

func (m *counted) WrapKey(
	s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, w, k pkcs11.ObjectHandle,
) ([]byte, error) {
	m.count("WrapKey")
	return m.module.WrapKey(s, mech, w, k)
}

func (m *counted) DecryptInit(s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, k pkcs11.ObjectHandle) error {
	m.count("DecryptInit")
	return m.module.DecryptInit(s, mech, k)
}

func (m *counted) Decrypt(s pkcs11.SessionHandle, c []byte) ([]byte, error) {
	m.count("Decrypt")
	return m.module.Decrypt(s, c)
}

func (m *counted) SignInit(s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, k pkcs11.ObjectHandle) error {
	m.count("SignInit")
	return m.module.SignInit(s, mech, k)
}

func (m *counted) Sign(s pkcs11.SessionHandle, message []byte) ([]byte, error) {
	m.count("Sign")
	return m.module.Sign(s, message)
}

// searches adds what searches cost, of which some find something: a further call of FindObjects learns that there is no
// more.
func searches(finding, empty int, others map[string]int) map[string]int {
	calls := map[string]int{
		"FindObjectsInit": finding + empty, "FindObjects": 2*finding + empty, "FindObjectsFinal": finding + empty,
	}
	maps.Copy(calls, others)
	return calls
}

// A search costs more the more objects there are, so what keyd does often makes none. This is what a key costs.
func TestTheCallsThatAKeyCostsAreKnown(t *testing.T) {
	var m *counted
	e := inProcess(t, func(real module) module { m = newCounted(real); return m })
	e.seen.share = 0 // no search counts for another one
	if _, err := e.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, id, secret := mustGenerate(t, e), newID(t), []byte("what the vault wrapped")
	kek, _ := newKEK(t, vaultURL)
	var made key.Material
	can, err := e.ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wrapping := map[string]int{ // in two steps, as most modules do
		"GetAttributeValue": 2, "CreateObject": 1, "GenerateKey": 1, "WrapKey": 2, "DestroyObject": 2,
	}
	if strings.HasPrefix(can.wrap.name, "CKM_RSA_AES_KEY_WRAP") {
		wrapping = map[string]int{"GetAttributeValue": 2, "CreateObject": 1, "WrapKey": 1, "DestroyObject": 1}
	}
	relabelling := maps.Clone(wrapping)
	relabelling["SetAttributeValue"], relabelling["GetAttributeValue"] = 2, 4
	for _, step := range []struct {
		name string
		do   func() error
		want map[string]int
	}{
		{
			"look before there is a pair", func() error { _, err := e.Find(t.Context(), id); return err },
			searches(0, 1, nil),
		}, {
			"generate, after that look and beside the generation before",
			func() error { return e.Generate(t.Context(), id, "sa-cmk-key", 2, key.RSA2048, before) },
			searches(1, 0, map[string]int{"GenerateKeyPair": 1, "GetAttributeValue": 2}),
		}, {
			"look at the pair", func() error { _, err := e.Find(t.Context(), id); return err },
			searches(1, 0, map[string]int{"GetAttributeValue": 2}),
		}, {
			"pin", func() (err error) { made, err = e.PublicKey(t.Context(), id); return err },
			map[string]int{"GetAttributeValue": 2, "DecryptInit": 1, "Decrypt": 1},
		}, {
			"first wrap", func() error { _, err := e.WrapFor(t.Context(), id, kek); return err }, relabelling,
		}, {
			"wrap again", func() error { _, err := e.WrapFor(t.Context(), id, kek); return err }, wrapping,
		}, {
			"prove", func() error {
				_, err := e.Opens(t.Context(), id, seal(t, made, secret), sha256.Sum256(secret))
				return err
			}, map[string]int{"DecryptInit": 1, "Decrypt": 1},
		}, {
			"look at the audit key", func() error { _, _, err := e.AuditKey(t.Context()); return err },
			map[string]int{"GetAttributeValue": 2},
		}, {
			"sign a checkpoint", func() error {
				_, _, err := e.SignCheckpoint(t.Context(), entries(1, 3).after(nil))
				return err
			},
			map[string]int{"SignInit": 1, "Sign": 1},
		},
	} {
		got := m.during(func() {
			if err := step.do(); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		})
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", step.name, diff)
		}
	}
}

// While a search for what must be there counts, a new pair costs no other: neither before it is made, under an id that
// the HSM side drew, nor after.
func TestANewPairCostsNoSearchWhileAnEarlierOneCounts(t *testing.T) {
	var m *counted
	e := inProcess(t, func(real module) module { m = newCounted(real); return m })
	if _, err := e.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := mustGenerate(t, e)
	e.seen.share = 1_000_000 // up to searchCounts
	ids, err := e.NewIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	makeOne := func(id, known key.ID) map[string]int {
		return m.during(func() {
			if found, err := e.Find(t.Context(), id); err != nil || len(found) != 0 {
				t.Errorf("before there is a pair: %+v, %v", found, err)
			}
			if err := e.Generate(t.Context(), id, "sa-cmk-key", 2, key.RSA2048, known); err != nil {
				t.Error(err)
			}
			if found, err := e.Find(t.Context(), id); err != nil || len(found) != 1 || !found[0].Complete {
				t.Errorf("after it was made: %+v, %v", found, err)
			}
		})
	}
	if n := makeOne(ids[0], before)["FindObjectsInit"]; n != 1 {
		t.Errorf("the first pair costs %d searches", n)
	}
	if n := makeOne(ids[1], before)["FindObjectsInit"]; n != 0 {
		t.Errorf("the second pair costs %d searches", n)
	}
}

// Otherwise keyd would record that it makes a pair, again and again, while there is no token.
func TestALostTokenShowsInALookForADrawnID(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	ids, err := e.NewIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ways.change(func() { ways.away = pkcs11.Error(pkcs11.CKR_TOKEN_NOT_PRESENT) })
	if found, err := e.Find(t.Context(), ids[0]); err == nil || key.ClassOf(err) != key.Retry {
		t.Errorf("%+v, %v", found, err)
	}
}

// Where several hosts use the store, another one's HSM side may have made the pair.
func TestADrawnIDIsLookedForWhereSeveralHostsMakePairs(t *testing.T) {
	e := onVendors(t, &vendors{})
	ids, err := e.NewIDs(t.Context())
	if err != nil || len(ids) == 0 {
		t.Fatalf("one host: %d ids, %v", len(ids), err)
	}
	rival := restarted(t, e)
	if err := rival.Generate(t.Context(), ids[0], "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
		t.Fatal(err)
	}
	e.permitted = always(permit(map[string]VaultRights{vaultURL: {Shared: true}},
		map[string]KeyRights{"sa-cmk-key": {Vaults: []string{vaultURL}}}))
	if found, err := e.Find(t.Context(), ids[0]); err != nil || len(found) != 1 {
		t.Errorf("under an id that was drawn before: %+v, %v", found, err)
	}
	err = e.Generate(t.Context(), ids[0], "sa-cmk-key", 1, key.RSA2048, "")
	wantCode(t, err, Exists, key.Refused)
	if ids, err := e.NewIDs(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("several hosts: %d ids, %v", len(ids), err)
	}
}

// The cost of a pass grows with the pairs, and not with their square.
func TestAnInventoryReadsEachObjectOnce(t *testing.T) {
	var m *counted
	e := inProcess(t, func(real module) module { m = newCounted(real); return m })
	for pairs := range 4 {
		got := m.during(func() {
			if objects, err := e.Inventory(t.Context()); err != nil || len(objects) != pairs {
				t.Errorf("%d objects, %v", len(objects), err)
			}
		})
		reads := got["GetAttributeValue"]
		delete(got, "GetAttributeValue")
		want := searches(2, 0, nil) // one for each class
		if pairs == 0 {
			want = searches(0, 2, nil)
		}
		if diff := cmp.Diff(want, got); diff != "" || reads != 2*pairs {
			t.Errorf("%d pairs: %d reads of attributes, and (-want +got):\n%s", pairs, reads, diff)
		}
		mustGenerate(t, e)
	}
}

// After a restart the first pass over the token makes all searches for single pairs needless.
func TestAnInventoryFillsTheMemoryOfHandles(t *testing.T) {
	var m *counted
	e := inProcess(t, func(real module) module { m = newCounted(real); return m })
	id := mustGenerate(t, e)
	public, err := e.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	e.rememberAll(map[key.ID]pair{})
	if _, err := e.Inventory(t.Context()); err != nil {
		t.Fatal(err)
	}
	secret := []byte("x")
	got := m.during(func() {
		if yes, err := e.Opens(t.Context(), id, seal(t, public, secret), sha256.Sum256(secret)); err != nil || !yes {
			t.Error(yes, err)
		}
	})
	if diff := cmp.Diff(map[string]int{"DecryptInit": 1, "Decrypt": 1}, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
