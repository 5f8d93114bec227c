package emulator

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func startWithAuthority(t *testing.T, path string) *Emulator {
	t.Helper()
	e, err := Start(Options{AuthorityFile: path})
	check(t, err)
	t.Cleanup(func() { check(t, e.Close()) })
	return e
}

func TestAStoredAuthorityIsTheSameAtTheNextStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authority")
	first := startWithAuthority(t, path)
	again := startWithAuthority(t, path)
	if !bytes.Equal(first.CAPEM(), again.CAPEM()) {
		t.Error("the second start has another authority")
	}
	if other := startWithAuthority(t, ""); bytes.Equal(first.CAPEM(), other.CAPEM()) {
		t.Error("a start without the file has the same authority")
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(first.CAPEM())
	leaf, err := again.ca.leaf(testVault)
	check(t, err)
	certificate, err := x509.ParseCertificate(leaf.Certificate[0])
	check(t, err)
	if _, err := certificate.Verify(x509.VerifyOptions{DNSName: testVault, Roots: trusted}); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

func TestAStoredAuthorityThatExpiresSoonIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authority")
	old, err := newAuthority()
	check(t, err)
	template := *old.cert
	template.NotAfter = time.Now().Add(renewBefore - time.Hour)
	der, err := x509.CreateCertificate(nil, &template, &template, &old.key.PublicKey, old.key)
	check(t, err)
	ending, err := x509.ParseCertificate(der)
	check(t, err)
	check(t, authorityOf(ending, old.key).save(path))
	if e := startWithAuthority(t, path); !e.ca.cert.NotAfter.After(template.NotAfter) {
		t.Errorf("it still ends at %v", e.ca.cert.NotAfter)
	}
}

func TestAFileThatIsNoAuthorityIsRefusedByName(t *testing.T) {
	own, err := newAuthority()
	check(t, err)
	other, err := newAuthority()
	check(t, err)
	path := filepath.Join(t.TempDir(), "authority")
	check(t, authorityOf(own.cert, other.key).save(path))
	mixed, err := os.ReadFile(path)
	check(t, err)
	for name, text := range map[string][]byte{
		"empty": nil, "no PEM": []byte("keys"), "no private key": own.pem, "another's key": mixed,
	} {
		check(t, os.WriteFile(path, text, 0o600))
		if e, err := Start(Options{AuthorityFile: path}); err == nil {
			check(t, e.Close())
			t.Errorf("%s: it starts", name)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
