package insider_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const (
	pinnedHost   = "contoso-weu.vault.azure.net" // its KEK is pinned; key one goes there
	firstHost    = "contoso-neu.vault.azure.net" // its KEK is trusted at first use; key two goes there
	unpinnedHost = "contoso-new.vault.azure.net" // configured, and neither: no key goes there
	patience     = 90 * time.Second
)

func urlOf(host string) string { return "https://" + host }

// world is a token, emulated vaults, and the two processes of keyd.
type world struct {
	*testing.T
	dir   string
	token *softhsmtest.Token
	emu   *emulator.Emulator
	env   []string

	pinned key.Fingerprint // of the KEK in pinnedHost
	kek    key.KEK         // the attacker's: the attacker has the private key
	hsm    *hsm.Client     // the attacker's connection
	logs   *syncBuffer     // of the HSM side
	one    key.ID          // the pair of key one that is placed in pinnedHost
}

// newWorld sets keyd up as an operator does: vaults and no keys, then the pin, then the keys.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp(built.dir, "w")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, dir: dir, token: softhsmtest.New(t)}
	if w.emu, err = emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{
		{Host: pinnedHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
		{Host: firstHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
		{Host: unpinnedHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.emu.Close() })
	w.write("ca.pem", string(w.emu.CAPEM()))
	w.env = slices.Concat(os.Environ(), w.token.Environ(), w.emu.Environ(w.path("ca.pem")))
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	material, err := key.FromRSA(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	w.kek = key.KEK{Material: material}

	w.configure(w.config("", ""))
	w.logs = w.start("hsm", "hsm.sock")
	w.start("run", "keyd.sock")
	w.hsm = hsm.Dial(w.path("hsm.sock"), hsm.Timeouts{Call: 20 * time.Second, Generate: time.Minute}, nil)
	t.Cleanup(w.hsm.Close)
	w.setUp()
	return w
}

// setUp pins the KEK that keyd made while no key was configured, and then adds the keys.
func (w *world) setUp() {
	w.Helper()
	w.eventually("keyd made its key exchange key in the vault", func() bool {
		w.pinned = w.waitingKEK()
		return w.pinned != ""
	})
	shown := w.keyd("kek", "weu")
	w.Log(shown, w.keyd("kek"))
	for _, part := range []string{string(w.pinned), "az keyvault key download", "openssl dgst -sha256"} {
		if !strings.Contains(shown, part) {
			w.Errorf("keyd kek lacks %q:\n%s", part, shown)
		}
	}
	w.configure(w.standard())
	w.keyd("reload")
	w.eventually("both keys are placed", func() bool {
		w.one = w.placed("one")
		return w.one != "" && w.placed("two") != ""
	})
	w.eventually("no rotation is under way", func() bool {
		var snap status.Snapshot
		w.read(&snap, "status", "--json")
		return !slices.ContainsFunc(snap.Keys, func(k status.Key) bool { return k.State != status.StateOK })
	})
}

func (w *world) waitingKEK() key.Fingerprint {
	out, err := w.command("kek", "weu", "--json")
	var v status.Vault
	if err != nil || json.Unmarshal(out, &v) != nil {
		return ""
	}
	for _, k := range v.KEKs {
		if k.Fingerprint != "" {
			return k.Fingerprint
		}
	}
	return ""
}

// placed is a pair of a key that was wrapped for a vault; "" for none.
func (w *world) placed(name string) key.ID {
	objects, err := w.hsm.Inventory(w.Context())
	if err != nil {
		return ""
	}
	for _, o := range objects {
		if o.Label.Key == name && !o.Label.Pending {
			return o.ID
		}
	}
	return ""
}

// standard is the configuration between attacks.
func (w *world) standard() string {
	return w.config(fmt.Sprintf(", kek: {fingerprint: %q, bits: 2048}", w.pinned),
		"  one: {spec: RSA-2048, vaults: [weu]}\n  two: {spec: RSA-2048, vaults: [neu]}\n")
}

// config is a configuration with more fields of the pinned vault, and keys.
func (w *world) config(pin, keys string) string {
	if pin == "" {
		pin = ", kek: {bits: 2048}"
	}
	return fmt.Sprintf(`instance: insider
state_dir: %[1]s/state
hsm: {module: %[2]s, token: %[3]q, pin_file: %[4]q, socket: %[1]s/hsm.sock, state_dir: %[1]s/hsm, user: "%[5]d"}
azure: {credential: managed-identity, ca_file: %[1]s/ca.pem}
control: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
health: {look: 1s, newest: 5s}
vaults:
  weu: {url: %[6]q%[9]s}
  neu: {url: %[7]q, kek: {bits: 2048, trust: first-use}}
  new: {url: %[8]q, kek: {bits: 2048}}
keys:
%[10]s`, w.dir, w.token.Module, w.token.Label, w.token.PINFile, os.Getuid(), urlOf(pinnedHost), urlOf(firstHost),
		urlOf(unpinnedHost), pin, keys)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
}

// configure replaces the configuration, as an editor does.
func (w *world) configure(text string) {
	w.Helper()
	w.write("keyd.yaml.new", text)
	if err := os.Rename(w.path("keyd.yaml.new"), w.path("keyd.yaml")); err != nil {
		w.Fatal(err)
	}
}

// under attacks while another configuration is on the disk.
func (w *world) under(config string, try func() string) string {
	w.Helper()
	w.configure(config)
	defer w.configure(w.standard())
	return try()
}

// start starts one side of keyd, and waits for its socket.
func (w *world) start(side, socket string) *syncBuffer {
	w.Helper()
	cmd := exec.Command(built.keyd, side, "--config", w.path("keyd.yaml"))
	log := new(syncBuffer)
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, log, log
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.Failed() {
			w.Logf("keyd %s:\n%s", side, log)
		}
	})
	w.eventually("keyd "+side+" listens", func() bool {
		_, err := os.Stat(w.path(socket))
		return err == nil
	})
	return log
}

// command runs one of keyd's commands.
func (w *world) command(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(w.Context(), built.keyd, append(args, "--socket", w.path("keyd.sock"))...)
	cmd.Env = w.env
	return cmd.Output()
}

func (w *world) keyd(args ...string) string {
	w.Helper()
	out, err := w.command(args...)
	if err != nil {
		w.Fatalf("keyd %v: %v: %s", args, err, out)
	}
	return string(out)
}

func (w *world) read(into any, args ...string) {
	w.Helper()
	out, _ := w.command(args...) // status exits with 1 while there are problems
	if err := json.Unmarshal(out, into); err != nil {
		w.Fatalf("keyd %v: %v: %s", args, err, out)
	}
}

func (w *world) eventually(what string, cond func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// wantWell makes sure that keyd still does its work: the attacks must not have been refused because nothing works.
func (w *world) wantWell() {
	w.Helper()
	if how, err := w.hsm.CheckKEK(w.Context(), w.realKEK()); how != hsm.Configured {
		w.Errorf("the real KEK: %q, %v", how, err)
	}
	if _, err := w.hsm.WrapFor(w.Context(), w.one, w.realKEK()); err != nil {
		w.Errorf("a pair is not wrapped for its own vault: %v", err)
	}
	w.keyd("rotate", "--now", "one", "--reason", "after the attacks", "--timeout", "80s")
}

// realKEK is the KEK that keyd made in the pinned vault.
func (w *world) realKEK() key.KEK {
	w.Helper()
	var v status.Vault
	w.read(&v, "kek", "weu", "--json")
	k := v.ActiveKEK()
	if k == nil {
		w.Fatal("the vault has no key exchange key in use")
	}
	private, err := w.emu.Vault(pinnedHost).PrivateKey("keyd-kek", key.VersionOf(k.Kid))
	if err != nil {
		w.Fatal(err)
	}
	material, err := key.FromRSA(&private.PublicKey)
	if err != nil {
		w.Fatal(err)
	}
	return key.KEK{Vault: urlOf(pinnedHost), Kid: k.Kid, Material: material}
}

// syncBuffer is a log that the test reads while a process writes it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
