package azurefaults_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

const (
	keyName   = "sa-cmk-key"
	vaultHost = "contoso-weu.vault.azure.net"
	hsmHost   = "contoso.managedhsm.azure.net"
)

var urls = []string{"https://" + vaultHost, "https://" + hsmHost}

// The HSM's calls have no tight limit: SoftHSM does not run on the fast clock.
const configuration = `instance: faults
state_dir: %[1]s/state
hsm: {module: %[2]s, token: %[3]q, pin_file: %[4]s, call_timeout: 10m, generate_timeout: 1h,
  test_attestation_root: %[1]s/attestation-root.pem}
azure: {credential: managed-identity, ca_file: %[1]s/ca.pem}
vaults:
  weu: {url: https://` + vaultHost + `, kek: {bits: 2048, trust: first-use}}
  mhsm: {url: https://` + hsmHost + `, kek: {bits: 2048, trust: first-use}}
keys:
  ` + keyName + `:
    spec: RSA-2048
    vaults: [weu, mhsm]
    floor: 0s
    budget: 1000
    consumers: none
    retire: {disable_after: 1d, pause: 1m}
%[5]scontrol: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
health: {look: 1m}
`

// settings are what a fault requires of its world.
type settings struct {
	replication time.Duration // of the Managed HSM
	tokenLife   time.Duration // 0: a day
	proxy       bool          // the network can be spoiled (see spoil)
}

// world is one token, one Azure, and the keyd between them, on one clock.
type world struct {
	t     *testing.T
	dir   string
	token *softhsmtest.Token
	emu   *emulator.Emulator
	proxy *toxiproxy.Proxy // nil: none
	clock fasttime.Clock
	azure atomic.Int64  // how far Azure's clock is ahead of the one that the world began with
	days  time.Duration // how far the world's clock was moved ahead
	env   []string
	due   map[string]dueVersions // the versions that the retire rule makes due in the hour, by vault

	daemon *exec.Cmd     // nil while none runs
	ended  chan struct{} // closed when the daemon has ended
	err    error         // of its Wait, once it has
}

// newWorld makes a world in which keyd has not started yet.
func newWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := &world{t: t, token: softhsmtest.New(t), clock: fasttime.Clock{Since: time.Now(), Factor: pace.factor}}
	began := w.clock
	var err error
	if w.dir, err = os.MkdirTemp(built.dir, "w"); err != nil {
		t.Fatal(err)
	}
	w.emu, err = emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{
			{Host: vaultHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
			{Host: hsmHost, Profile: emulator.ManagedHSM, PurgeProtection: true},
		},
		Now:           func() time.Time { return began.Now().Add(time.Duration(w.azure.Load())) },
		TokenLifetime: s.tokenLife, ReplicationDelay: s.replication, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	w.write("ca.pem", string(w.emu.CAPEM()))
	root, _, err := w.emu.AttestationRoots()
	if err != nil {
		t.Fatal(err)
	}
	w.write("attestation-root.pem", string(root))
	w.env = slices.Concat(os.Environ(), w.token.Environ(), w.emu.Environ(w.path("ca.pem")))
	if s.proxy {
		w.proxy = newProxy(t, w.emu.ProxyURL())
		spoiled := "http://" + w.proxy.Listen
		w.env = append(w.env, "HTTPS_PROXY="+spoiled, "https_proxy="+spoiled, "HTTP_PROXY="+spoiled,
			"http_proxy="+spoiled)
	}
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// configure writes the configuration, with a rotation at this interval, or none.
func (w *world) configure(every time.Duration) {
	w.t.Helper()
	schedule := ""
	if every > 0 {
		schedule = fmt.Sprintf("    schedule: \"@every %s\"\n", every)
	}
	w.write("keyd.yaml", fmt.Sprintf(configuration, w.dir, w.token.Module, w.token.Label, w.token.PINFile, schedule))
}

// rotateEvery changes the schedule under the running daemon.
func (w *world) rotateEvery(span time.Duration) {
	w.t.Helper()
	w.configure(span)
	w.must("reload")
}

func (w *world) start() {
	w.t.Helper()
	log, err := os.Create(w.path("keyd.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.daemon = exec.Command(built.fast, "run", "--config", w.path("keyd.yaml"))
	w.daemon.Env = slices.Concat(w.env, []string{w.clock.Environ()})
	w.daemon.Stdout, w.daemon.Stderr = log, log
	if err := errors.Join(w.daemon.Start(), log.Close()); err != nil {
		w.t.Fatal(err)
	}
	w.ended = make(chan struct{})
	go func() {
		w.err = w.daemon.Wait()
		close(w.ended)
	}()
}

// stop ends the daemon as systemd would.
func (w *world) stop() {
	w.t.Helper()
	_ = w.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.ended:
	case <-time.After(time.Minute):
		w.fail("a minute after SIGTERM keyd has not ended")
	}
	w.daemon = nil
	if w.err != nil {
		w.fail("after SIGTERM keyd ended with %v", w.err)
	}
}

// pass skips time while no daemon runs.
func (w *world) pass(d time.Duration) {
	w.clock = w.clock.Later(d)
	w.days += d
	w.skew(0)
}

// skew sets how far Azure's clock is ahead of the world's.
func (w *world) skew(d time.Duration) { w.azure.Store(int64(w.days + d)) }

func (w *world) end() {
	if w.daemon != nil {
		_ = w.daemon.Process.Kill()
		<-w.ended
	}
	if escapes := w.emu.Escapes(); len(escapes) > 0 {
		w.t.Errorf("calls would have left the machine: %v", escapes)
	}
	if err := w.emu.Close(); err != nil {
		w.t.Error(err)
	}
}

// look returns the key's state from `keyd status`.
func (w *world) look() (status.Key, error) {
	s, err := control.Dial(w.path("keyd.sock")).Snapshot(w.t.Context(), status.Selection{})
	if err == nil && len(s.Keys) != 1 {
		err = fmt.Errorf("keyd shows %d keys", len(s.Keys))
	}
	if err != nil {
		return status.Key{}, err
	}
	return s.Keys[0], nil
}

// must runs one of keyd's commands and returns its output.
func (w *world) must(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), built.keyd, append(args, "--socket", w.path("keyd.sock"))...)
	cmd.Env = w.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.fail("keyd %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// tick lets a moment pass, and requires that the daemon is alive.
func (w *world) tick() {
	w.t.Helper()
	select {
	case <-w.ended:
		w.daemon = nil
		w.fail("keyd ended by itself: %v", w.err)
	case <-time.After(w.clock.Real(3 * time.Second)):
	}
}

// log returns keyd's log.
func (w *world) log() string {
	w.t.Helper()
	text, err := os.ReadFile(w.path("keyd.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

const lastLines = 80 // of keyd's log, in the report of a failure

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	lines := strings.Split(strings.TrimSpace(w.log()), "\n")
	w.t.Fatalf("%s; the end of keyd's log:\n%s", fmt.Sprintf(format, args...),
		strings.Join(lines[max(0, len(lines)-lastLines):], "\n"))
}
