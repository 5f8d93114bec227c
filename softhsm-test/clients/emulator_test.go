//go:build clients

package clients

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	tenantID = "7d8f1c7e-5d0c-4c5a-9b60-3f1e0a6c2b11" // the emulator's, as docs/emulator.md has it
	clientID = "5d3c1e7e-0000-4000-8000-000000000001"
)

// profile is one profile's vault and its neighbours: vaults of the same profile that
// refuse for one reason each. The URLs are for the suites.
type profile struct {
	Name       string   `json:"name"`
	Vault      string   `json:"vault"`
	Roles      string   `json:"roles"`     // requires a role that the client does not have
	Policies   string   `json:"policies"`  // wants an access policy; "" where there are none
	Firewall   string   `json:"firewall"`  // admits only other addresses
	Protected  string   `json:"protected"` // has purge protection
	Foreign    string   `json:"foreign"`   // its challenge names another resource
	RSA        string   `json:"rsa"`       // the kty of an RSA key here
	EC         string   `json:"ec"`
	Operations []string `json:"operations"`
}

func profiles() []profile {
	vault := func(name, host, suffix string) profile {
		at := func(purpose string) string { return "https://" + host + purpose + suffix }
		return profile{
			Name: name, Vault: at(""), Roles: at("-roles"), Policies: at("-policies"),
			Firewall: at("-firewall"), Protected: at("-protected"),
			Foreign: "https://" + host + ".privatelink.vaultcore.azure.net", RSA: "RSA", EC: "EC",
		}
	}
	hsm := vault("managedhsm", "contoso", ".managedhsm.azure.net")
	hsm.RSA, hsm.EC, hsm.Policies, hsm.Foreign = "RSA-HSM", "EC-HSM", "", ""
	return []profile{
		vault("premium", "contoso-weu", ".vault.azure.net"),
		vault("standard", "contoso-std", ".vault.azure.net"),
		hsm,
	}
}

// flags are the emulator's command line for all profiles.
func flags() []string {
	args := []string{"--proxy=127.0.0.1:0", "--admin=127.0.0.1:0", "--identity-listen=127.0.0.1:0"}
	host := func(url string) string { return strings.TrimPrefix(url, "https://") }
	for _, p := range profiles() {
		for _, url := range []string{p.Vault, p.Roles, p.Policies, p.Firewall, p.Protected, p.Foreign} {
			if url != "" {
				args = append(args, "--vault="+host(url)+"="+p.Name)
			}
		}
		args = append(args,
			"--access="+host(p.Roles)+"=roles", "--role="+host(p.Roles)+"=someone-else:crypto-user",
			"--firewall="+host(p.Firewall)+"=192.0.2.0/24",
			"--purge-protection="+host(p.Protected),
			fmt.Sprintf("--fail=host=%s,key=busy,op=get,count=1,status=429", host(p.Vault)))
		if p.Policies != "" {
			args = append(args, "--access="+host(p.Policies)+"=policies")
		}
	}
	for _, key := range []string{"use-rsa", "use-ec", "use-oct", "use-other", "sign-only"} {
		args = append(args, "--fail=key="+key+",op=get,status=403,inner=ForbiddenByPolicy")
	}
	return append(args,
		"--fail=key=throttled,op=get,status=429", "--fail=key=throttled-silently,op=get,status=429,no-retry-after",
		"--fail=key=unavailable,op=get,status=503", "--fail=key=broken,op=get,status=500")
}

// stand is a running keyvault-emulator.
type stand struct {
	environ  []string // what it said to export
	platform map[string]string
	admin    string
}

// start runs the real program and reads from its output how to reach it.
func start(t *testing.T, more ...string) stand {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cmd := exec.Command(*emulatorBinary, slices.Concat(flags(), more, []string{"--ca-out=" + ca})...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("keyvault-emulator: %v", err)
		}
	})
	return announced(t, out)
}

// announced reads keyvault-emulator's output until it is ready.
func announced(t *testing.T, out io.Reader) stand {
	t.Helper()
	s := stand{platform: map[string]string{}}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		setting, export := strings.CutPrefix(line, "  export ")
		name, value, _ := strings.Cut(setting, "=")
		switch {
		case export && strings.HasPrefix(name, "IDENTITY_"):
			s.platform[name] = value
		case export:
			s.environ = append(s.environ, setting)
		case strings.HasPrefix(line, "Admin endpoint: "):
			s.admin = strings.TrimPrefix(line, "Admin endpoint: ")
		case line == "ready":
			return s
		}
	}
	t.Fatal("keyvault-emulator ended before it was ready")
	return s
}

// request is one that reached the emulator.
type request struct {
	Host, Operation, Key string
	Status               int
}

// requests returns all requests that reached the emulator.
func (s stand) requests(t *testing.T) []request {
	t.Helper()
	res, err := http.Get(s.admin + "/state")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var state struct {
		Requests []request `json:"requests"`
		Escapes  []string  `json:"escapes"`
	}
	if err := json.NewDecoder(res.Body).Decode(&state); err != nil {
		t.Fatal(err)
	}
	if len(state.Escapes) > 0 {
		t.Errorf("calls to hosts that the emulator does not stand in for: %v", state.Escapes)
	}
	return state.Requests
}

// writeCertificate makes an application's certificate, as ClientCertificateCredential
// reads it.
func writeCertificate(t *testing.T, file string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, append(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})...))
}

func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
