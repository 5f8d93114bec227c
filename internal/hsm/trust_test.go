package hsm

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

// pinned permits the two vaults of the tests: with these KEKs, or without any the one that is used first.
func pinned(prints ...key.Fingerprint) *Rights {
	v := VaultRights{Pins: prints, FirstUse: len(prints) == 0}
	return permit(map[string]VaultRights{vaultURL: v, otherURL: v}, nil)
}

func fingerprint(t *testing.T, kek key.KEK) key.Fingerprint {
	t.Helper()
	if !kek.Material.Known() {
		t.Fatal("the KEK has no fingerprint")
	}
	return kek.Material.Fingerprint()
}

// anotherKEK returns a KEK with a different, equally strong modulus.
func anotherKEK(t *testing.T, url string) key.KEK {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return kekOf(url, private)
}

func TestFirstUseIsRecordedByAcceptOnly(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	dir := t.TempDir()
	trust, by := newTrust(dir), pinned()
	for range 2 {
		if how, err := trust.check(kek, by); how != WouldBeFirstUse || err != nil {
			t.Fatalf("check: %q, %v", how, err)
		}
	}
	if _, err := os.Stat(trust.path); !errors.Is(err, os.ErrNotExist) {
		t.Error("check has recorded something")
	}
	if how, err := trust.accept(kek, by); how != FirstUse || err != nil {
		t.Fatalf("accept: %q, %v", how, err)
	}
	restarted := newTrust(dir)
	if how, err := restarted.check(kek, by); how != FirstUse || err != nil {
		t.Errorf("after a restart: %q, %v", how, err)
	}
}

// The first use on one host says nothing to the HSM sides of the others. Whatever was trusted before the store was
// shared must be pinned as well.
func TestWithASharedStoreFirstUseIsNotTrusted(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	trust := newTrust(t.TempDir())
	if _, err := trust.accept(kek, pinned()); err != nil {
		t.Fatal(err)
	}
	shared := func(pins ...key.Fingerprint) *Rights {
		v := VaultRights{Name: "weu", Pins: pins, FirstUse: len(pins) == 0, Shared: true}
		return permit(map[string]VaultRights{vaultURL: v}, nil)
	}
	_, err := trust.accept(kek, shared())
	wantCode(t, err, KEKRefused, key.Refused)
	if err != nil && !strings.Contains(err.Error(), "keyd kek weu") {
		t.Errorf("%v does not say what to do", err)
	}
	if how, err := trust.accept(kek, shared(fingerprint(t, kek))); how != Configured || err != nil {
		t.Errorf("a pinned one: %q, %v", how, err)
	}
}

func TestAChangedKEKIsRefusedUntilConfigured(t *testing.T) {
	t.Parallel()
	first, _ := newKEK(t, vaultURL)
	swapped := anotherKEK(t, vaultURL)
	dir := t.TempDir()
	trust, by := newTrust(dir), pinned()
	if _, err := trust.accept(first, by); err != nil {
		t.Fatal(err)
	}
	_, err := trust.accept(swapped, by)
	wantCode(t, err, KEKRefused, key.Refused)
	for _, part := range []string{vaultURL, string(fingerprint(t, first)), string(fingerprint(t, swapped)),
		"keyd.yaml"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
	if _, err := trust.accept(first, by); err != nil {
		t.Errorf("the first KEK is not trusted any more: %v", err)
	}

	approved := pinned(fingerprint(t, swapped))
	if how, err := trust.accept(swapped, approved); how != Configured || err != nil {
		t.Errorf("the approved KEK: %q, %v", how, err)
	}
	_, err = trust.accept(first, approved)
	wantCode(t, err, KEKRefused, key.Refused)
	if how, err := newTrust(dir).check(swapped, pinned()); how != FirstUse || err != nil {
		t.Errorf("the approved KEK after its line was removed: %q, %v", how, err)
	}
}

func TestEachOfSeveralConfiguredKEKsIsTrustedAndNoOther(t *testing.T) {
	t.Parallel()
	old, next, other := anotherKEK(t, vaultURL), anotherKEK(t, vaultURL), anotherKEK(t, vaultURL)
	trust, by := newTrust(t.TempDir()), pinned(fingerprint(t, old), fingerprint(t, next))
	for range 2 { // the order does not matter
		for _, kek := range []key.KEK{old, next} {
			if how, err := trust.accept(kek, by); how != Configured || err != nil {
				t.Errorf("%q, %v", how, err)
			}
		}
	}
	_, err := trust.accept(other, by)
	wantCode(t, err, KEKRefused, key.Refused)
	for _, print := range []key.Fingerprint{fingerprint(t, old), fingerprint(t, next), fingerprint(t, other)} {
		if !strings.Contains(err.Error(), string(print)) {
			t.Errorf("the error does not name %s: %v", print, err)
		}
	}
}

func TestVaultsAreTrustedOneByOne(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	trust, by := newTrust(t.TempDir()), pinned()
	if _, err := trust.accept(kek, by); err != nil {
		t.Fatal(err)
	}
	if how, err := trust.check(anotherKEK(t, otherURL), by); how != WouldBeFirstUse || err != nil {
		t.Errorf("another vault: %q, %v", how, err)
	}
}

func TestAnUnconfiguredVaultIsRefused(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	_, err := newTrust(t.TempDir()).check(kek, permit(nil, nil))
	wantCode(t, err, KEKRefused, key.Refused)
}

func TestAKEKThatTheConfigurationDoesNotApproveIsRefused(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	by := permit(map[string]VaultRights{vaultURL: {Name: "contoso-weu"}}, nil)
	_, err := newTrust(t.TempDir()).accept(kek, by)
	wantCode(t, err, KEKRefused, key.Refused)
	for _, part := range []string{string(fingerprint(t, kek)), "keyd kek contoso-weu"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
}

func TestARefusalPrintsNoLineThatApprovesTheKEK(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	for _, by := range []*Rights{
		pinned(fingerprint(t, anotherKEK(t, vaultURL))),
		permit(map[string]VaultRights{vaultURL: {Name: "contoso-weu"}}, nil),
	} {
		_, err := newTrust(t.TempDir()).check(kek, by)
		wantCode(t, err, KEKRefused, key.Refused)
		if strings.Contains(err.Error(), `["`+string(fingerprint(t, kek))) {
			t.Errorf("the error can be pasted to approve the refused KEK: %v", err)
		}
	}
}

func TestAKEKOfAnotherPlaceThanTheVaultIsRefused(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	const path = "/keys/keyd-kek/00112233445566778899aabbccddeeff"
	for kid, right := range map[string]bool{
		vaultURL + path:           true,
		vaultURL + ":443" + path:  true, // as a Managed HSM writes it
		vaultURL + ":8443" + path: false,
		otherURL + path:           false,
		"http" + strings.TrimPrefix(vaultURL, "https") + path:          false,
		"https://x@" + strings.TrimPrefix(vaultURL, "https://") + path: false,
		vaultURL + "." + path:             false,
		vaultURL + "/secrets/keyd-kek/00": false,
		vaultURL + path + "/more":         false,
		vaultURL + path + "?a=b":          false,
		vaultURL:                          false,
		"":                                false,
	} {
		kek.Kid = kid
		_, err := newTrust(t.TempDir()).check(kek, pinned())
		if right && err != nil {
			t.Errorf("%s: %v", kid, err)
		}
		if !right {
			wantCode(t, err, KEKRefused, key.Refused)
		}
	}
}

func TestADamagedTrustFileTrustsNothing(t *testing.T) {
	kek, _ := newKEK(t, vaultURL)
	for _, content := range []string{
		"", "{}", "null", `{"schema":1,"vaults":null}`, `{"schema":2,"vaults":{}}`, `{"schema":1,"vaults":{},"more":1}`,
		`{"schema":1,"vaults":{}}{}`, `{"schema":1,"vaults":{"https://v":{"fingerprint":"sha256:12"}}}`,
	} {
		trust, by := newTrust(t.TempDir()), pinned()
		if err := os.WriteFile(trust.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := trust.accept(kek, by)
		wantCode(t, err, KEKRefused, key.Refused)
		if got, _ := os.ReadFile(trust.path); string(got) != content {
			t.Errorf("%q was overwritten", content)
		}
	}
}

func TestUnfitKEKsAreRefused(t *testing.T) {
	good, _ := newKEK(t, vaultURL)
	n := func(bits int) *big.Int { return new(big.Int).SetBit(big.NewInt(1), bits-1, 1) } // odd
	modulus := rsaOf(good.Material).N
	for name, m := range map[string]key.Material{
		"none":           {},
		"unreadable":     key.UnreadableMaterial(),
		"another family": key.UnsupportedMaterial(),
		"1024 bits":      materialOf(&rsa.PublicKey{N: n(1024), E: 65537}),
		"8192 bits":      materialOf(&rsa.PublicKey{N: n(8192), E: 65537}),
		"exponent 1":     materialOf(&rsa.PublicKey{N: modulus, E: 1}),
		"exponent 3":     materialOf(&rsa.PublicKey{N: modulus, E: 3}),
		"an even number": materialOf(&rsa.PublicKey{N: new(big.Int).SetBit(modulus, 0, 0), E: 65537}),
	} {
		t.Run(name, func(t *testing.T) {
			kek := good
			kek.Material = m
			_, err := newTrust(t.TempDir()).check(kek, pinned())
			wantCode(t, err, KEKRefused, key.Refused)
		})
	}
}

func TestASwappedKEKGetsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.generate(t)
	first, _ := newKEK(t, vaultURL)
	if how, err := r.CheckKEK(t.Context(), first); how != WouldBeFirstUse || err != nil {
		t.Fatalf("check: %q, %v", how, err)
	}
	if _, err := r.WrapFor(t.Context(), id, first); err != nil {
		t.Fatal(err)
	}
	_, err := r.WrapFor(t.Context(), id, anotherKEK(t, vaultURL))
	wantCode(t, err, KEKRefused, key.Refused)
	_, err = r.WrapFor(t.Context(), id, anotherKEK(t, "https://somebody-else.example"))
	wantCode(t, err, KEKRefused, key.Refused)
}

func TestARefusedKEKLeavesThePairPending(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.generate(t)
	_, err := r.WrapFor(t.Context(), id, anotherKEK(t, "https://somebody-else.example"))
	wantCode(t, err, KEKRefused, key.Refused)
	if err := r.Destroy(t.Context(), id); err != nil {
		t.Errorf("a pair that was never wrapped cannot be destroyed: %v", err)
	}
}
