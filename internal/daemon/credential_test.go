package daemon

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/status"
)

var applicationKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// certificateUntil writes a certificate with its key. The certificate ends at the given time.
func certificateUntil(t *testing.T, file string, ends time.Time) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: ends.Add(-time.Hour), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &applicationKey().PublicKey, applicationKey())
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))+
		string(
			pem.EncodeToMemory(
				&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(applicationKey())},
			),
		))
}

const byCertificate = "azure: {credential: client-certificate, tenant_id: contoso.example, " +
	"client_id: 7d8f1c7e-5d0c-4c5a-9b60-3f1e0a6c2b11, certificate_file: %}"

// signingInBy makes a daemon that signs in with a certificate.
func signingInBy(t *testing.T, ends time.Time) (d *Daemon, file string, err error) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "client.pem")
	certificateUntil(t, file, ends)
	path := filepath.Join(dir, "keyd.yaml")
	text := strings.ReplaceAll(smallConfig, "%[1]s", dir)
	write(
		t,
		path,
		strings.Replace(
			text,
			"azure: {credential: managed-identity}",
			strings.Replace(byCertificate, "%", file, 1),
			1,
		),
	)
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err = build(Options{ConfigPath: path, Version: "test", Logger: slog.New(slog.DiscardHandler)}, cfg)
	if err == nil {
		t.Cleanup(func() {
			if err := d.store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return d, file, err
}

func TestStatusShowsTheCertificatesExpiryAndKeydUsesARenewedOne(t *testing.T) {
	soon, late := time.Now().
		Add(time.Hour).
		Truncate(time.Second),
		time.Now().
			Add(90*24*time.Hour).
			Truncate(time.Second)
	d, file, err := signingInBy(t, soon)
	if err != nil {
		t.Fatal(err)
	}
	before := d.cred.Reread()
	shown := func(ends time.Time, unusable float64) {
		t.Helper()
		before = d.lookAtCredential(d.cred, before)
		const name = "keyd_client_certificate_expiry_timestamp_seconds"
		if got := gathered(t, d, name); got != float64(ends.Unix()) {
			t.Errorf("%s is %v, want %v", name, got, ends.Unix())
		}
		if got := gathered(t, d, "keyd_credential_file_unusable"); got != unusable {
			t.Errorf("unusable %v, want %v", got, unusable)
		}
	}
	shown(soon, 0)
	if l := checkedFor(ended(t), t, d, "identity", "client certificate"); l.Result != status.CheckWarning {
		t.Errorf("check: %+v", l)
	}
	write(t, file, "")
	shown(soon, 1)
	if l := checkedFor(ended(t), t, d, "identity", "client certificate"); l.Result != status.CheckFailed {
		t.Errorf("check: %+v", l)
	}
	certificateUntil(t, file, late)
	shown(late, 0)
	if l := checkedFor(ended(t), t, d, "identity", "client certificate"); l.Result != status.CheckOK {
		t.Errorf("check: %+v", l)
	}
}

func TestADaemonDoesNotStartWithACertificateThatHasEnded(t *testing.T) {
	if _, _, err := signingInBy(t, time.Now().Add(-time.Minute)); err == nil ||
		!strings.Contains(err.Error(), "ended at 20") {
		t.Errorf("got %v", err)
	}
}

func TestADaemonDoesNotStartWithAProxyThatGoWouldIgnore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.yaml")
	write(t, path, strings.ReplaceAll(smallConfig, "%[1]s", filepath.Dir(path)))
	t.Setenv("HTTPS_PROXY", "http://keyd:hunter2%@proxy:3128")
	err := Run(t.Context(), Options{ConfigPath: path, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "HTTPS_PROXY") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "state")); err == nil {
		t.Error("the state was opened")
	}
	d := assembled(t)
	l := checkedFor(ended(t), t, d, "config", "HTTPS_PROXY, HTTP_PROXY, NO_PROXY")
	if l.Result != status.CheckFailed || !strings.Contains(l.Detail, "HTTPS_PROXY") {
		t.Errorf("check: %+v", l)
	}
}

func gathered(t *testing.T, d *Daemon, name string) float64 {
	t.Helper()
	families, err := d.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Errorf("there is no %s", name)
	return 0
}
