package severalhosts

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const (
	vaultHost = "contoso-weu.vault.azure.net"
	keyName   = "sa-cmk-key"
)

// estate is what the hosts share: a token and Azure.
type estate struct {
	token  *softhsmtest.Token
	azure  *emulator.Emulator
	caFile string
	config string // what they have in their configuration, as it would be printed
}

// withoutOperators is the line of the configuration in whose place the page has another.
const withoutOperators = "control: {socket: /run/keyd/keyd.sock}\n"

func newEstate(t *testing.T) *estate {
	t.Helper()
	e := &estate{token: softhsmtest.New(t), caFile: filepath.Join(t.TempDir(), "azure-ca.pem")}
	var err error
	e.azure, err = emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{
		{Host: vaultHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
	}})
	must(t, err)
	t.Cleanup(func() {
		if escapes := e.azure.Escapes(); len(escapes) > 0 {
			t.Errorf("calls would have left the machine: %v", escapes)
		}
		must(t, e.azure.Close())
	})
	must(t, os.WriteFile(e.caFile, e.azure.CAPEM(), 0o600))
	e.config = fmt.Sprintf(`instance: hq-1
state_dir: /var/lib/keyd
hsm: {module: %s, token: %q, pin_file: %s}
azure: {credential: managed-identity, ca_file: %s}
web: {listen: "127.0.0.1:0"}
health: {look: 1s}
vaults:
  contoso-weu: {url: "https://%s", kek: {bits: 2048}}
keys:
  %s: {spec: RSA-2048, vaults: [contoso-weu], floor: 0s}
`, e.token.Module, e.token.Label, e.token.PINFile, e.caFile, vaultHost, keyName) + withoutOperators
	return e
}

// newHost makes a host of the estate, on which nothing runs.
func (e *estate) newHost(t *testing.T, changes ...change) *host {
	t.Helper()
	h := newHost(t, changes...)
	h.changes = append(
		h.changes,
		change{"/run/", h.path("run") + "/", "a folder is the root of a host"},
		change{
			"control: {operators",
			"control: {socket: " + h.socket() + ", operators",
			"the host has another socket",
		},
	)
	h.env = append(
		append(append(h.env, e.token.Environ()...), e.azure.Environ(e.caFile)...),
		"KEYD_SOCKET="+h.socket(),
	)
	t.Cleanup(h.end)
	return h
}

// begin starts the first host with a file of its own, pins the key exchange key and waits for the first generation.
func (e *estate) begin(t *testing.T, h *host) {
	t.Helper()
	h.configure(e.config)
	must(t, h.start())
	must(t, h.until("the key exchange key is made",
		func(status.Snapshot) bool { return len(e.azure.Vault(vaultHost).Versions("keyd-kek")) > 0 }))
	kek := e.azure.Vault(vaultHost).Versions("keyd-kek")[0]
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: kek.N, E: kek.E})
	must(t, err)
	sum := sha256.Sum256(der)
	e.config = strings.Replace(e.config, "bits: 2048", fmt.Sprintf("bits: 2048, fingerprint: %q",
		"sha256:"+hex.EncodeToString(sum[:])), 1)
	h.configure(e.config)
	h.keyd("reload")
	must(t, h.until("the key is in the vault", func(s status.Snapshot) bool { return finished(s, 1) }))
}

// configure writes the host's configuration, as it would be printed.
func (h *host) configure(printed string) {
	h.t.Helper()
	h.write(h.here(printed), "etc/keyd/keyd.yaml")
}

// keyd runs one of keyd's commands that the page has in a sentence.
func (h *host) keyd(arguments string) string {
	h.t.Helper()
	return h.run(block{text: "# keyd " + arguments})
}

// finished reports whether the newest generation of the key is that one, and in the vault.
func finished(s status.Snapshot, generation int) bool {
	k, _ := s.Key(keyName)
	return len(k.Generations) == generation && !k.Generations[generation-1].Finished.IsZero()
}
