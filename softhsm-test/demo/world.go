package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/emulator"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/freeport"
)

const (
	keyName   = "demo-key"
	keySpec   = "RSA-3072"
	vaultHost = "contoso-weu.vault.azure.net"
	hsmHost   = "contoso.managedhsm.azure.net"
)

// vaultNames are the vaults' nicknames, in the order in which keyd visits them.
var vaultNames = []string{"contoso-weu", "contoso-hsm"}

const configuration = `instance: demo
state_dir: %[1]q
hsm:
  module: %[2]q
  token: %[3]q
  pin_file: %[4]q
  test_attestation_root: %[8]q # the emulated Managed HSM's: for tests only
azure:
  credential: managed-identity
  ca_file: %[5]q
vaults:
  contoso-weu:
    url: https://` + vaultHost + `
    kek: {trust: first-use}
  contoso-hsm:
    url: https://` + hsmHost + `
    kek: {trust: first-use}
keys:
  ` + keyName + `:
    spec: ` + keySpec + `
    vaults: [contoso-weu, contoso-hsm]
    schedule: "* * * * *"
    floor: 0s
    budget: 1440
control:
  socket: %[6]q
web:
  listen: %[7]q
health:
  newest: 20s
`

// world is keyd's surroundings: a token, Azure, and a directory for everything.
type world struct {
	dir     string
	address string // of the status page
	env     []string
	azure   *emulator.Emulator
}

// newWorld makes the token, the vaults and the configuration in a new directory.
// close must be called even after an error.
func newWorld(s *screen) (w *world, err error) {
	w = &world{}
	if w.dir, err = os.MkdirTemp("", "keyd-demo-"); err != nil {
		return w, fmt.Errorf("make a directory for the demo: %w", err)
	}
	s.now("makes a throw-away SoftHSM token", "")
	token, err := softhsmtest.Create(w.dir, "keyd-demo", rand.Text())
	if err != nil {
		return w, err
	}
	s.step("a throw-away token in SoftHSM, as the HSM")
	s.now("starts an emulated Azure", "")
	if w.azure, err = startAzure(); err != nil {
		return w, fmt.Errorf("start the emulated Azure: %w", err)
	}
	s.step("an emulated Azure: Key Vault contoso-weu and Managed HSM contoso-hsm")
	addresses, err := freeport.Addresses(1) // several demos can run at once
	if err != nil {
		return w, err
	}
	w.address = addresses[0]
	ca := w.file("ca.pem")
	text := fmt.Sprintf(configuration, w.file("state"), token.Module, token.Label, token.PINFile, ca,
		w.file("keyd.sock"), w.address, w.file("attestation-root.pem"))
	colours := func(v string) bool { return strings.HasPrefix(v, "CLICOLOR_FORCE=") } // they are for terminals only
	w.env = slices.Concat(slices.DeleteFunc(os.Environ(), colours), token.Environ(), w.azure.Environ(ca))
	root, _, err := w.azure.AttestationRoots()
	return w, errors.Join(err, os.WriteFile(w.file("attestation-root.pem"), root, 0o600),
		os.WriteFile(ca, w.azure.CAPEM(), 0o600), os.WriteFile(w.file("keyd.yaml"), []byte(text), 0o600))
}

func startAzure() (*emulator.Emulator, error) {
	return emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{
			{Host: vaultHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
			{Host: hsmHost, Profile: emulator.ManagedHSM, PurgeProtection: true},
		},
		ConsumerSpeed: 24 * 3600, // a day is a second
	})
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// close removes all of it.
func (w *world) close() (err error) {
	if w.azure != nil {
		err = w.azure.Close()
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}
