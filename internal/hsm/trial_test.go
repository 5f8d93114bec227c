package hsm

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// vendors is a real module with the quirks of some vendor.
type vendors struct {
	module
	mu         sync.Mutex
	unreported []uint                   // attributes that it does not report
	lies       map[uint][]byte          // wrong values that it reports
	firmware   byte                     // added to the token's version
	away       error                    // why it does not say what token it is
	make       func(label string) error // may fail the making of a pair
	keeps      bool                     // it refuses to destroy objects
	made       []string                 // labels of the pairs that keyd asked the token to make
}

func (v *vendors) change(f func()) { v.mu.Lock(); defer v.mu.Unlock(); f() }

// Initialize was already called if another engine ran on the module before.
func (v *vendors) Initialize(o ...pkcs11.InitializeOption) error {
	if err := v.module.Initialize(o...); !isCKR(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		return err
	}
	return nil
}

func (v *vendors) GetTokenInfo(slot uint) (pkcs11.TokenInfo, error) {
	info, err := v.module.GetTokenInfo(slot)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.away != nil {
		return info, v.away
	}
	info.FirmwareVersion.Minor += v.firmware
	return info, err
}

func (v *vendors) GetAttributeValue(s pkcs11.SessionHandle, o pkcs11.ObjectHandle, a []*pkcs11.Attribute) (
	[]*pkcs11.Attribute, error,
) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, x := range a {
		if slices.Contains(v.unreported, x.Type) {
			return nil, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
		}
	}
	got, err := v.module.GetAttributeValue(s, o, a)
	for _, x := range got {
		if lie, ok := v.lies[x.Type]; ok {
			x.Value = lie
		}
	}
	return got, err
}

func (v *vendors) GenerateKeyPair(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, pub, priv []*pkcs11.Attribute) (
	pkcs11.ObjectHandle, pkcs11.ObjectHandle, error,
) {
	var label string
	onToken := false
	for _, a := range priv {
		switch a.Type {
		case pkcs11.CKA_LABEL:
			label = string(a.Value)
		case pkcs11.CKA_TOKEN:
			onToken = a.Value[0] != 0
		}
	}
	if onToken {
		v.mu.Lock()
		v.made = append(v.made, label)
		instead := v.make
		v.mu.Unlock()
		if instead != nil {
			if err := instead(label); err != nil {
				return 0, 0, err
			}
		}
	}
	return v.module.GenerateKeyPair(s, m, pub, priv)
}

func (v *vendors) DestroyObject(s pkcs11.SessionHandle, o pkcs11.ObjectHandle) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keeps {
		return pkcs11.Error(pkcs11.CKR_FUNCTION_NOT_SUPPORTED)
	}
	return v.module.DestroyObject(s, o)
}

// thrownAway returns how many throw-away pairs keyd tried to make.
func (v *vendors) thrownAway() (n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, label := range v.made {
		if strings.HasPrefix(label, trialLabel("test")) {
			n++
		}
	}
	return n
}

// onVendors opens an engine on a token with the quirks of a vendor.
func onVendors(t *testing.T, ways *vendors) *engine {
	t.Helper()
	return inProcess(t, func(m module) module { ways.module = m; return ways })
}

// restarted returns the next HSM side on the same token, with the same state directory.
func restarted(t *testing.T, e *engine) *engine {
	t.Helper()
	next, err := newEngine(t.Context(), e.tok.mod, e.cfg, e.permitted, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// holds returns the labels of all keys on the token.
func holds(t *testing.T, e *engine) (labels []string) {
	t.Helper()
	_, err := with(t.Context(), e.tok, time.Minute, true, func(s session) (struct{}, error) {
		for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
			found, err := s.find(
				pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			)
			if err != nil {
				return struct{}{}, err
			}
			for _, h := range found {
				label, err := s.optional(h, pkcs11.CKA_LABEL)
				if err != nil {
					return struct{}{}, err
				}
				labels = append(labels, string(label))
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return labels
}

// answers fails each generation with this code.
func answers(code uint) func(string) error {
	return func(string) error { return pkcs11.Error(code) }
}

func wantDegraded(t *testing.T, e *engine, parts ...string) {
	t.Helper()
	d, err := e.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if !strings.Contains(d.Degraded, part) {
			t.Errorf("degraded does not say %q: %q", part, d.Degraded)
		}
	}
	if len(parts) == 0 && d.Degraded != "" {
		t.Errorf("degraded: %s", d.Degraded)
	}
}

// Otherwise each generation would fail, and leave a pair on the token.
func TestATokenWhoseKeysDoNotReadBackIsDetectedAtTheStart(t *testing.T) {
	for name, ways := range map[string]*vendors{
		"CKA_ALWAYS_SENSITIVE":        {unreported: []uint{pkcs11.CKA_ALWAYS_SENSITIVE}},
		"CKA_MODIFIABLE, CKA_DECRYPT": {unreported: []uint{pkcs11.CKA_MODIFIABLE, pkcs11.CKA_DECRYPT}},
		"CKA_EXTRACTABLE is not true": {lies: map[uint][]byte{pkcs11.CKA_EXTRACTABLE: {0}}},
		"CKR_ATTRIBUTE_VALUE_INVALID": {make: answers(pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)},
		"a pair that is labelled wrong": {
			lies: map[uint][]byte{pkcs11.CKA_LABEL: []byte("a pair that is labelled wrong")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := onVendors(t, ways)
			wantDegraded(t, e, "no key can be made on this token", name)
			err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, "")
			wantCode(t, err, Unable, key.Refused)
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("the error does not name %s: %v", name, err)
			}
			if slices.ContainsFunc(
				ways.made, func(label string) bool { return label != trialLabel("test")+pendingMark },
			) {
				t.Errorf("pairs were made for a key: %q", ways.made)
			}
			if _, err := e.Inventory(t.Context()); err != nil {
				t.Errorf("the inventory needs no new key: %v", err)
			}
			ways.change(func() { ways.unreported, ways.lies, ways.make = nil, nil, nil })
			if err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
				t.Errorf("once the token works again: %v", err)
			}
			wantDegraded(t, e)
			if labels := holds(t, e); len(labels) != 2 {
				t.Errorf("the token holds %q, not one pair", labels)
			}
		})
	}
}

func TestAThrowAwayPairIsMadeOncePerFirmwareAndLeavesNothing(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	for _, c := range []struct {
		when string
		do   func()
		made int
	}{
		{"at the first start", func() {}, 1},
		{"at the next start", func() { e = restarted(t, e) }, 1},
		{"after an update", func() { ways.change(func() { ways.firmware++ }); e = restarted(t, e) }, 2},
		{"at a generation", func() { mustGenerate(t, e) }, 2},
		{"at the start after a generation", func() { e = restarted(t, e) }, 2},
	} {
		c.do()
		if n := ways.thrownAway(); n != c.made {
			t.Errorf("%s there were %d throw-away pairs, not %d", c.when, n, c.made)
		}
		wantDegraded(t, e)
	}
	if labels := holds(t, e); len(labels) != 2 {
		t.Errorf("the token holds %q, not one pair", labels)
	}
}

func mustGenerate(t *testing.T, e *engine) key.ID {
	t.Helper()
	id := newID(t)
	if err := e.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAFailedGenerationIsFollowedByATry(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	fail := errors.New("the token is full")
	ways.change(func() {
		ways.make = func(label string) error {
			if strings.HasPrefix(label, "keyd/") {
				return fail
			}
			return nil
		}
	})
	if err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, ""); !errors.Is(err, fail) {
		t.Fatal(err)
	}
	ways.change(func() { ways.make = nil })
	mustGenerate(t, e)
	mustGenerate(t, e)
	if n := ways.thrownAway(); n != 2 {
		t.Errorf("there were %d throw-away pairs, not one at the start and one after the failure", n)
	}
}

func TestAGenerationThatEndsTheProcessIsFollowedByATryAtTheNextStart(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	ways.change(func() { ways.make = answers(pkcs11.CKR_DEVICE_ERROR) })
	err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, "")
	wantCode(t, err, Device, key.Ambiguous)
	ways.change(func() { ways.make = nil })
	restarted(t, e)
	if n := ways.thrownAway(); n != 2 {
		t.Errorf("there were %d throw-away pairs, not one at each start", n)
	}
}

// A durable note for each pair would cost the disk several flushes.
func TestAGenerationThatSucceedsRewritesNoNote(t *testing.T) {
	e := onVendors(t, &vendors{})
	before, err := os.ReadFile(e.trial.path)
	if err != nil {
		t.Fatal(err)
	}
	mustGenerate(t, e)
	after, err := os.ReadFile(e.trial.path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the note was %s and is %s, %v", before, after, err)
	}
	if exists(e.trial.underWay()) {
		t.Error("the mark of a generation stays")
	}
}

// Otherwise a library that crashes during each try would crash at each start, and keyd could prove no key.
func TestATokenThatCrashesAtEachTryStillServesItsKeys(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	id := mustGenerate(t, e)
	ways.change(func() {
		ways.firmware++
		ways.make = answers(pkcs11.CKR_DEVICE_ERROR)
	})
	for range maxDied {
		_, err := newEngine(t.Context(), e.tok.mod, e.cfg, e.permitted, slog.New(slog.DiscardHandler))
		wantCode(t, err, Device, key.Retry)
	}
	e = restarted(t, e)
	wantDegraded(t, e, "no key can be made", "ended during each of the last 2 tries")
	if _, err := e.PublicKey(t.Context(), id); err != nil {
		t.Error(err)
	}
	ways.change(func() { ways.make = nil })
	mustGenerate(t, e)
	wantDegraded(t, e)
}

func TestAFailedTryIsRepeated(t *testing.T) {
	ways := &vendors{make: func(string) error { return errors.New("the token is full") }}
	e := onVendors(t, ways)
	wantDegraded(t, e, "the token is full")
	ways.change(func() { ways.make = nil })
	e.trial.mu.Lock()
	e.trial.now = func() time.Time { return time.Now().Add(trialPause) }
	e.trial.mu.Unlock()
	eventually(t, "the token is no longer degraded", func() bool {
		d, err := e.Describe(t.Context())
		return err == nil && d.Degraded == ""
	})
}

// plant leaves a pair with the throw-away pair's id and this label, without the objects of one class.
func plant(t *testing.T, e *engine, label string, destroy uint) {
	t.Helper()
	plantOf(t, e, "test", label, destroy)
}

// plantOf is plant for the throw-away pair of somebody.
func plantOf(t *testing.T, e *engine, trier, label string, destroy uint) {
	t.Helper()
	_, err := with(t.Context(), e.tok, time.Minute, true, func(s session) (struct{}, error) {
		if _, _, err := s.generatePair(trialID(trier), label, trialBits, true); err != nil {
			return struct{}{}, err
		}
		objects, err := s.objectsWith(trialID(trier))
		for _, o := range objects {
			if o.class == destroy {
				err = errors.Join(err, s.m.DestroyObject(s.h, o.handle))
			}
		}
		return struct{}{}, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheStartSweepsAThrowAwayPairThatACrashLeft(t *testing.T) {
	for name, left := range map[string]struct {
		label   string
		destroy uint
	}{
		"a pair":                  {trialLabel("test") + pendingMark, noClass},
		"a relabelled pair":       {trialLabel("test"), noClass},
		"half a pair":             {trialLabel("test"), pkcs11.CKO_PRIVATE_KEY},
		"objects without a label": {"", noClass},
	} {
		t.Run(name, func(t *testing.T) {
			ways := &vendors{}
			e := onVendors(t, ways)
			for _, firmware := range []byte{0, 1} { // the second start makes another try
				plant(t, e, left.label, left.destroy)
				ways.change(func() { ways.firmware = firmware })
				e = restarted(t, e)
				wantDegraded(t, e)
				if labels := holds(t, e); len(labels) > 0 {
					t.Errorf("left on the token: %q", labels)
				}
			}
		})
	}
}

func TestTheSweepSparesTheObjectsOfOthers(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	plant(t, e, "somebody's key", noClass)
	ways.change(func() { ways.firmware++ })
	e = restarted(t, e)
	wantDegraded(t, e, "somebody's key")
	if labels := holds(t, e); len(labels) != 2 {
		t.Errorf("the token holds %q", labels)
	}
}

func TestNoCallTakesTheThrowAwayPairForAKey(t *testing.T) {
	e := onVendors(t, &vendors{})
	plant(t, e, trialLabel("test"), noClass)
	id := trialID("test")
	kek, _ := newKEK(t, vaultURL)
	_, publicErr := e.PublicKey(t.Context(), id)
	_, wrapErr := e.WrapFor(t.Context(), id, kek)
	_, opensErr := e.Opens(t.Context(), id, make([]byte, trialBits/8), [32]byte{})
	for _, err := range []error{publicErr, wrapErr, opensErr} {
		wantCode(t, err, Foreign, key.Refused)
	}
	wantCode(t, e.Destroy(t.Context(), id), NotPending, key.Refused)
	if page, err := e.Inventory(t.Context()); err != nil || len(page) > 0 {
		t.Errorf("listed: %+v, %v", page, err)
	}
}

func TestKeydWarnsOfATokenThatDestroysNothing(t *testing.T) {
	ways := &vendors{keeps: true}
	e := onVendors(t, ways)
	d, err := e.Describe(t.Context())
	if err != nil || d.Degraded != "" || !strings.Contains(strings.Join(d.Warnings, "\n"), trialLabel("test")) {
		t.Errorf("%+v, %v", d, err)
	}
	mustGenerate(t, e)
}

func TestADamagedNoteCostsOneMoreTry(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	if err := os.WriteFile(filepath.Join(e.cfg.StateDir, "selftest.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantDegraded(t, restarted(t, e))
	if n := ways.thrownAway(); n != 2 {
		t.Errorf("%d tries, not one at each start", n)
	}
}

func TestATryWaitsForASessionAndIsNotCountedWithoutOne(t *testing.T) {
	ways := &vendors{make: func(string) error { return errors.New("the token is full") }}
	e := onVendors(t, ways)
	for range e.cfg.Sessions {
		if err := e.tok.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	wantCode(t, e.Generate(ctx, newID(t), "sa-cmk-key", 1, key.RSA2048, ""), Busy, key.Retry)
	if e.trial.note.Died != 0 {
		t.Errorf("a try that was not made counts as one that ended the process")
	}
	for range e.cfg.Sessions {
		e.tok.giveBack(nil)
	}
}

// The length of the first key may or may not show the padding, and p11-kit-proxy hides the library's name.
func TestThePaddingIsDetectedWhateverTheModuleIsCalled(t *testing.T) {
	e := inProcess(t, func(m module) module { return m })
	can, err := e.ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, kek := newKEK(t, vaultURL)
	can.inside, can.warnings = shape{der: 1216}, nil
	if _, err := with(t.Context(), e.tok, time.Minute, false, func(s session) (struct{}, error) {
		can.warnOfPadding(s, kek)
		return struct{}{}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if !can.inside.conclusive() {
		t.Errorf("after %d keys it is not known how the module pads: %+v", maxPaddingTries, can.inside)
	}
	if pads := can.inside.zeros > 0; pads != (len(can.warnings) > 0) {
		t.Errorf("inside are %+v, and the warnings are %q", can.inside, can.warnings)
	}
}

func TestALateLoginIsFollowedByATry(t *testing.T) {
	ways := &vendors{unreported: []uint{pkcs11.CKA_ALWAYS_SENSITIVE}}
	e := onVendors(t, ways)
	made := ways.thrownAway()
	e.mu.Lock()
	e.locked = "the token does not answer" // e.again is in the past
	e.mu.Unlock()
	e.trial.mu.Lock()
	e.trial.problem = ""
	e.trial.mu.Unlock()
	wantDegraded(t, e, "CKA_ALWAYS_SENSITIVE")
	if n := ways.thrownAway() - made; n != 1 {
		t.Errorf("%d tries, not one", n)
	}
}

// Another host may be trying its pair at this moment.
func TestTheSweepSparesTheThrowAwayPairOfAnotherHost(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	other := Config{Instance: "test", Host: "b"}.trier()
	plantOf(t, e, other, trialLabel(other), noClass)
	ways.change(func() { ways.firmware++ })
	e = restarted(t, e)
	wantDegraded(t, e)
	if labels := holds(t, e); len(labels) != 2 {
		t.Errorf("the token holds %q", labels)
	}
}
