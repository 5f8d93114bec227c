package emulator

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/http"
	"testing"
	"time"
)

func fuzzKey(f *testing.F) *rsa.PrivateKey {
	f.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	return key
}

// Whatever a client sends as a blob, the result is a key or a bad parameter.
func FuzzOpenBlob(f *testing.F) {
	v := newVault(VaultConfig{Host: "v.vault.azure.net"}, Options{Now: time.Now})
	ver, err := v.newVersion("RSA-HSM", []string{"import"}, &rsaKey{private: fuzzKey(f)})
	if err != nil {
		f.Fatal(err)
	}
	ver.id = "0"
	if err := v.change(func(s *state) error { return v.add(s, "kek", ver) }); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"schema_version":"1.0.0","header":{"kid":"https://v.vault.azure.net/keys/kek/0","alg":"dir",` +
		`"enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"AAAA"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		key, err := v.openBlob(raw, "RSA")
		wantKeyOrBadParameter(t, key, err)
	})
}

func FuzzParseTransferredKey(f *testing.F) {
	der, err := x509.MarshalPKCS8PrivateKey(fuzzKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, "RSA", true)
	f.Add(append(der, 0, 0), "RSA", false)
	f.Add(make([]byte, 32), "oct", false)
	f.Fuzz(func(t *testing.T, plaintext []byte, family string, strict bool) {
		key, err := parseTransferredKey(plaintext, family, strict)
		wantKeyOrBadParameter(t, key, err)
	})
}

func wantKeyOrBadParameter(t *testing.T, key material, err error) {
	t.Helper()
	var api *apiError
	if err == nil && key == nil || err != nil && (!errors.As(err, &api) || api.code != "BadParameter") {
		t.Errorf("key %v, error %v", key != nil, err)
	}
}

// A path means one operation or none, and never a key that it does not name.
func FuzzParseTarget(f *testing.F) {
	f.Add("GET", "/keys/n/")
	f.Add("POST", "/keys/n//wrapkey")
	f.Add("POST", "/deletedkeys/n/recover")
	f.Fuzz(func(t *testing.T, method, path string) {
		got := parseTarget(method, path)
		if got.operation == opImport && (method != http.MethodPut || got.version != "") {
			t.Errorf("%s %s reads as %+v", method, path, got)
		}
	})
}

// Whatever a state file holds, it is read or refused.
func FuzzReadJournal(f *testing.F) {
	var b bytes.Buffer
	v := newVault(VaultConfig{Host: testVault}, Options{Now: time.Now})
	ver, err := v.newVersion("RSA-HSM", nil, &rsaKey{private: fuzzKey(f)})
	if err != nil {
		f.Fatal(err)
	}
	if err := encodeSlot(&b, testVault, slot{name: "k"},
		slot{name: "k", key: &entry{name: "k", versions: []*version{ver}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newJournalReader(data, map[string]*Vault{testVault: v})
		whole, err := r.readAll()
		if whole > len(data) || whole < 0 {
			t.Errorf("read %d of %d bytes, %v", whole, len(data), err)
		}
		if err != nil || r.settle() != nil {
			return
		}
		for _, name := range v.Keys() {
			v.Versions(name)
		}
	})
}

// An accepted period moves time forward.
func FuzzAddPeriod(f *testing.F) {
	for _, s := range []string{"P30D", "P1Y2M3DT4H", "PT48H", "P", "P99999D"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Unix(0, 0)
		if at, ok := addPeriod(now, s); ok && at.Before(now) {
			t.Errorf("%q leads to %s", s, at)
		}
	})
}

// An access option of the command line is accepted whole or refused.
func FuzzParseAccess(f *testing.F) {
	f.Add("c:crypto-user:/keys/k")
	f.Add("c:get,wrapKey")
	f.Add("192.0.2.0/24,trusted-services")
	f.Add("c=192.0.2.1")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseRoleAssignment(s); err == nil && (a.Identity == "" || a.Scope == "") {
			t.Errorf("role %+v", a)
		}
		if p, err := ParseAccessPolicy(s); err == nil && p.Identity == "" {
			t.Errorf("policy %+v", p)
		}
		if w, err := ParseFirewall(s); err == nil && s != "off" && !w.TrustedServices && len(w.IPRules) == 0 {
			t.Errorf("firewall %+v", w)
		}
		if i, err := ParseIdentity(s); err == nil && !i.TrustedService && !i.Address.IsValid() {
			t.Errorf("identity %+v", i)
		}
	})
}
