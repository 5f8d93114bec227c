package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/fasttime"
	"github.com/keyd-project/keyd/softhsm-test/freeport"
	"github.com/keyd-project/keyd/softhsm-test/measure"
)

const (
	program   = "github.com/keyd-project/keyd/cmd/keyd"
	faultHome = "softhsm-test/faultmodule"
	never     = 31 * 24 * time.Hour // the longest interval that the configuration takes
)

// world is what keyd lives in: a token behind a library that counts, Azure, and a directory for everything.
type world struct {
	size
	dir     string
	address string // of keyd's metrics
	token   *softhsmtest.Token
	library *measure.Library
	azure   *emulator.Emulator
	clock   atomic.Pointer[fasttime.Clock] // of Azure; nil: the machine's
	env     []string
	names   []string // of the keys
	keyd    *keyd    // nil while none runs
}

// newWorld builds the programs and makes the token and the vaults. close must be called even after an error.
func newWorld(s size) (w *world, err error) {
	w = &world{size: s}
	if w.dir, err = os.MkdirTemp("", "keyd-scale-"); err != nil { // short: a socket's path is in it
		return w, err
	}
	if err := w.build(); err != nil {
		return w, err
	}
	if w.token, err = softhsmtest.Create(w.dir, "keyd-scale", "271828"); err != nil {
		return w, err
	}
	if w.library, err = measure.NewLibrary(faultHome, w.dir, w.token.Module); err != nil {
		return w, err
	}
	options := emulator.Options{Now: w.now, ServiceLimits: true, TokenLifetime: 30 * 24 * time.Hour}
	for i := range s.vaults {
		options.Vaults = append(options.Vaults, emulator.VaultConfig{
			Host: vaultHost(i), Profile: emulator.KeyVaultPremium, PurgeProtection: true,
		})
	}
	if w.azure, err = emulator.Start(options); err != nil {
		return w, fmt.Errorf("start the emulated Azure: %w", err)
	}
	addresses, err := freeport.Addresses(1)
	if err != nil {
		return w, err
	}
	w.address = addresses[0]
	for i := range s.keys {
		w.names = append(w.names, fmt.Sprintf("key-%05d", i))
	}
	w.env = slices.Concat(os.Environ(), w.token.Environ(), w.azure.Environ(w.path("ca.pem")),
		w.library.Environ("keyd"))
	return w, os.WriteFile(w.path("ca.pem"), w.azure.CAPEM(), 0o600)
}

// build builds keyd, and the same for a fast clock.
func (w *world) build() error {
	if said, err := exec.Command("go", "build", "-o", w.path("keyd"), program).CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w: %s", program, err, said)
	}
	return fasttime.Build(w.dir, w.path("keyd-fast"), program)
}

func vaultHost(i int) string { return fmt.Sprintf("contoso-%02d.vault.azure.net", i) }

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// now is Azure's clock.
func (w *world) now() time.Time {
	if c := w.clock.Load(); c != nil {
		return c.Now()
	}
	return time.Now()
}

// configure writes the configuration with these pauses between looks and between proofs.
func (w *world) configure(look, proof time.Duration) error {
	var b strings.Builder
	fmt.Fprintf(&b, `instance: scale
state_dir: %[1]s/state
hsm: {module: %[8]s, token: %[2]s, pin_file: %[3]s, call_timeout: 10m, generate_timeout: 1h}
azure: {credential: managed-identity, ca_file: %[1]s/ca.pem}
control: {socket: %[1]s/keyd.sock}
web: {listen: "%[4]s"}
health: {look: %[5]s, newest: %[6]s, older: %[7]s}
vaults:
`, w.dir, w.token.Label, w.token.PINFile, w.address, look, proof, never, w.library.Module)
	for i := range w.vaults {
		fmt.Fprintf(&b, "  v%d: {url: https://%s, kek: {trust: first-use}}\n", i, vaultHost(i))
	}
	b.WriteString("keys:\n")
	for i, name := range w.names {
		fmt.Fprintf(&b, "  %s: {spec: RSA-2048, vaults: [v%d], schedule: \"@every 8760h\", floor: 0s}\n",
			name, i%w.vaults)
	}
	return os.WriteFile(w.path("keyd.yaml"), []byte(b.String()), 0o600)
}

// close leaves nothing of it.
func (w *world) close() (err error) {
	if w.keyd != nil {
		err = w.keyd.kill()
	}
	if w.azure != nil {
		if escapes := w.azure.Escapes(); len(escapes) > 0 {
			err = errors.Join(err, fmt.Errorf("calls would have left the machine: %v", escapes))
		}
		err = errors.Join(err, w.azure.Close())
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

func (w *world) logEnd() string {
	b, err := os.ReadFile(w.path("keyd.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}
