package hsm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

// scripted is a module with one token, whose sessions are numbered.
type scripted struct {
	module
	sessions atomic.Int64
	closed   atomic.Int64
	slots    []pkcs11.TokenInfo
	missing  int // how often the slot list is empty at first
}

func (m *scripted) Initialize(...pkcs11.InitializeOption) error { return nil }
func (m *scripted) GetInfo() (pkcs11.Info, error)               { return pkcs11.Info{}, nil }
func (m *scripted) GetSlotList(bool) ([]uint, error) {
	if m.missing > 0 {
		m.missing--
		return nil, nil
	}
	ids := make([]uint, len(m.slots))
	for i := range ids {
		ids[i] = uint(i)
	}
	return ids, nil
}
func (m *scripted) GetTokenInfo(slot uint) (pkcs11.TokenInfo, error) { return m.slots[slot], nil }
func (m *scripted) OpenSession(uint, uint) (pkcs11.SessionHandle, error) {
	return pkcs11.SessionHandle(m.sessions.Add(1)), nil
}
func (m *scripted) CloseSession(pkcs11.SessionHandle) error { m.closed.Add(1); return nil }

func openScripted(t *testing.T, m *scripted, sessions int) *token {
	t.Helper()
	m.slots = []pkcs11.TokenInfo{{Label: "keyd   ", SerialNumber: "1\x00"}}
	tok, err := openToken(t.Context(), m, Config{Token: "keyd", Sessions: sessions, CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func use(tok *token, again bool, f func(session) error) error {
	_, err := with(
		context.Background(),
		tok,
		time.Minute,
		again,
		func(s session) (struct{}, error) { return struct{}{}, f(s) },
	)
	return err
}

var errSession = pkcs11.Error(pkcs11.CKR_SESSION_HANDLE_INVALID)

func TestALostSessionIsReplacedAndTheCallRepeatedOnce(t *testing.T) {
	m := &scripted{}
	tok := openScripted(t, m, 1)
	if err := use(tok, true, func(session) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var handles []pkcs11.SessionHandle
	err := use(tok, true, func(s session) error {
		handles = append(handles, s.h)
		if len(handles) == 1 {
			return errSession
		}
		return nil
	})
	if err != nil || len(handles) != 2 || handles[0] == handles[1] || m.closed.Load() != 1 {
		t.Errorf("sessions %v, %d closed, %v", handles, m.closed.Load(), err)
	}
	if tok.isDead() {
		t.Error("the process ends for one lost session")
	}
}

func TestAGenerationIsNeverRepeated(t *testing.T) {
	tok := openScripted(t, &scripted{}, 1)
	if err := use(tok, false, func(session) error { return nil }); err != nil {
		t.Fatal(err)
	}
	calls := 0
	err := use(tok, false, func(session) error { calls++; return errSession })
	if calls != 1 || !errors.Is(err, errSession) {
		t.Errorf("called %d times, %v", calls, err)
	}
}

func TestAnErrorThatNeedsANewProcessEndsThisOne(t *testing.T) {
	for _, code := range []uint{
		pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_GENERAL_ERROR,
		pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_USER_NOT_LOGGED_IN,
		pkcs11.CKR_SESSION_CLOSED,
	} {
		tok := openScripted(t, &scripted{}, 1)
		err := use(tok, true, func(session) error { return pkcs11.Error(code) })
		if err == nil || !tok.isDead() {
			t.Errorf("%v: %v, dead %v", pkcs11.Error(code), err, tok.isDead())
		}
		if err := use(tok, true, func(session) error { return nil }); err == nil {
			t.Errorf("%v: a call after it succeeds", pkcs11.Error(code))
		}
	}
}

func TestACallPastItsDeadlineEndsTheProcess(t *testing.T) {
	tok := openScripted(t, &scripted{}, 2)
	release := make(chan struct{})
	defer close(release)
	_, err := with(
		t.Context(),
		tok,
		20*time.Millisecond,
		true,
		func(session) (struct{}, error) { <-release; return struct{}{}, nil },
	)
	wantCode(t, err, Hung, key.Retry)
	if !tok.isDead() {
		t.Error("the process goes on with a call inside the library")
	}
}

func TestABusyPoolAnswersBusy(t *testing.T) {
	tok := openScripted(t, &scripted{}, 1)
	release, begun := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() { done <- use(tok, true, func(session) error { close(begun); <-release; return nil }) }()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := with(ctx, tok, time.Minute, true, func(session) (struct{}, error) { return struct{}{}, nil })
	wantCode(t, err, Busy, key.Retry)
	close(release)
	if err := <-done; err != nil || tok.isDead() {
		t.Error(err, tok.isDead())
	}
}

func TestDiscoveryRetriesUntilItFindsExactlyOneToken(t *testing.T) {
	two := []pkcs11.TokenInfo{
		{Label: "keyd", SerialNumber: "1"},
		{Label: "keyd", SerialNumber: "2"},
		{Label: "other", SerialNumber: "3"},
	}
	for _, c := range []struct {
		name    string
		module  *scripted
		serial  string
		slot    uint
		problem string
	}{
		{"it appears late", &scripted{slots: two[:1], missing: 2}, "", 0, ""},
		{"by serial", &scripted{slots: two}, "2", 1, ""},
		{"two of one label", &scripted{slots: two}, "", 0, "hsm.serial"},
		{"none", &scripted{slots: two[2:]}, "", 0, `no token with label "keyd"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			if c.problem != "" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
			}
			tok, err := openToken(
				ctx,
				c.module,
				Config{Token: "keyd", Serial: c.serial, Sessions: 1, CallTimeout: time.Minute},
			)
			if c.problem == "" {
				if err != nil || tok.slot != c.slot {
					t.Errorf("slot %d, %v", tok.slot, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// altered is a real module that changes the result of C_WrapKey.
type altered struct {
	module
	wrap func(mech uint, out []byte, err error) ([]byte, error)
}

func (m altered) WrapKey(s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, w, k pkcs11.ObjectHandle) ([]byte, error) {
	out, err := m.module.WrapKey(s, mech, w, k)
	return m.wrap(mech[0].Mechanism, out, err)
}

// inProcess makes an engine in the test's own process.
func inProcess(t testing.TB, change func(module) module) *engine {
	t.Helper()
	tok := softhsmtest.New(t)
	if tok.Conf != "" {
		t.Cleanup(setenv(t, "SOFTHSM2_CONF", tok.Conf))
	}
	m := pkcs11.New(tok.Module)
	if m == nil {
		t.Fatal("cannot load the module")
	}
	cfg, err := newChild(t, tok).Config.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	cfg.StateDir = t.TempDir()
	t.Cleanup(func() { _ = m.Finalize(); m.Destroy() })
	e, err := newEngine(
		t.Context(),
		change(m),
		cfg,
		always(generous(map[string]key.Fingerprint{vaultURL: "", otherURL: ""})),
		slog.New(slog.DiscardHandler),
	)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestATokenThatCannotWrapGeneratesNothing(t *testing.T) {
	e := inProcess(t, func(m module) module {
		return altered{m, func(mech uint, out []byte, err error) ([]byte, error) {
			if mech == pkcs11.CKM_AES_KEY_WRAP_PAD {
				return nil, pkcs11.Error(pkcs11.CKR_KEY_UNEXTRACTABLE)
			}
			return out, err
		}}
	})
	d, err := e.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"0x1054", "0x210B", "0x210A", "CKR_KEY_UNEXTRACTABLE", "CKR_MECHANISM_INVALID"} {
		if !strings.Contains(d.Degraded, part) {
			t.Errorf("degraded does not name %s: %s", part, d.Degraded)
		}
	}
	wantCode(t, e.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, ""), Unable, key.Refused)
	kek, _ := newKEK(t, vaultURL)
	_, err = e.WrapFor(t.Context(), newID(t), kek)
	wantCode(t, err, Unable, key.Refused)
	if _, err := e.Inventory(t.Context()); err != nil {
		t.Errorf("the inventory needs no wrapping: %v", err)
	}
}

func TestASilentlyWrongWrapIsDetected(t *testing.T) {
	e := inProcess(t, func(m module) module {
		return altered{m, func(mech uint, out []byte, err error) ([]byte, error) {
			if mech == pkcs11.CKM_AES_KEY_WRAP_PAD && len(out) > 0 {
				out[len(out)-1] ^= 1 // the length is right, and so is the return value
			}
			return out, err
		}}
	})
	d, err := e.Describe(t.Context())
	if err != nil || d.Wrap != "" || !strings.Contains(d.Degraded, "RFC 5649") {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestVerifyRefusesAnotherKey(t *testing.T) {
	e := inProcess(t, func(m module) module { return m })
	id := newID(t)
	if err := e.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
		t.Fatal(err)
	}
	kek, private := newKEK(t, vaultURL)
	ciphertext, err := e.WrapFor(t.Context(), id, kek)
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verify(ciphertext, private, &other.PublicKey); err == nil {
		t.Error("another key passes")
	}
	if _, err := verify(ciphertext, other, &other.PublicKey); err == nil {
		t.Error("another KEK opens it")
	}
	if _, err := verify(ciphertext[:100], private, &other.PublicKey); err == nil {
		t.Error("a part of it passes")
	}
}
