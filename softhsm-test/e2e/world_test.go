package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/effects"
)

const (
	keyName   = "sa-cmk-key"
	vaultHost = "contoso-weu.vault.azure.net"
	hsmHost   = "contoso.managedhsm.azure.net"
)

// settings are what a test varies in the configuration.
type settings struct {
	spec        string
	kekBits     int
	schedule    string
	vaults      []string // nicknames: weu, mhsm
	module      string
	timeouts    string // of the HSM's calls, as more fields of the hsm section
	look        time.Duration
	newest      time.Duration   // between proofs of the newest version
	fingerprint key.Fingerprint // of the KEK in weu
	access      emulator.AccessMode
	expires     string // expires_after
	spares      int
	noTestRoot  bool // attestations count under the vendor's roots only

	consumerSpeed float64 // of the consumers, which look when a test says so
}

// world is one token, one Azure, one directory, and the keyd between them.
type world struct {
	t     *testing.T
	dir   string
	token *softhsmtest.Token
	emu   *emulator.Emulator
	vault map[string]*emulator.Vault // by nickname
	set   settings
	env   []string

	ahead  atomic.Int64 // how far Azure's clock is ahead of the real one, in nanoseconds
	daemon *daemon      // nil while none runs

	sealed map[sealedAt]sealed

	lostChain []effects.Entry // of states that a test took away

	onTokenLost func(how string) // called instead of failing the test
}

type sealedAt struct{ vault, version string }

type sealed struct {
	ciphertext []byte
	sum        [sha256.Size]byte
}

// daemon is one `keyd run`.
type daemon struct {
	cmd   *exec.Cmd
	log   *syncBuffer
	ended chan struct{} // closed when it has ended
	err   error         // of Wait, once it has
}

// newWorld makes a world in which nothing runs yet; one RSA-2048 key without a
// schedule is the default.
func newWorld(t *testing.T, change func(*settings)) *world {
	t.Helper()
	dir, err := os.MkdirTemp(built.dir, "w")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, token: softhsmtest.New(t), sealed: map[sealedAt]sealed{}}
	w.set = settings{spec: "RSA-2048", kekBits: 2048, vaults: []string{"weu"}, module: w.token.Module,
		look: time.Second, newest: 5 * time.Minute}
	if change != nil {
		change(&w.set)
	}
	w.emu, err = emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{
			{Host: vaultHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true, Access: w.set.access},
			{Host: hsmHost, Profile: emulator.ManagedHSM, PurgeProtection: true, Access: w.set.access},
		},
		Now:           w.now,
		TokenLifetime: 30 * 24 * time.Hour,
		ConsumerSpeed: w.set.consumerSpeed, ConsumersByHand: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.vault = map[string]*emulator.Vault{"weu": w.emu.Vault(vaultHost), "mhsm": w.emu.Vault(hsmHost)}
	t.Cleanup(w.end)
	w.write("ca.pem", string(w.emu.CAPEM()))
	root, _, err := w.emu.AttestationRoots()
	if err != nil {
		t.Fatal(err)
	}
	w.write("attestation-root.pem", string(root))
	w.configure()
	w.env = slices.Concat(os.Environ(), w.token.Environ(), w.emu.Environ(w.path("ca.pem")))
	return w
}

// now is the clock of this world's Azure.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) end() {
	if w.daemon != nil {
		if w.t.Failed() {
			w.t.Logf("keyd's log:\n%s", w.daemon.log)
		}
		w.kill()
	}
	if escapes := w.emu.Escapes(); len(escapes) > 0 {
		w.t.Errorf("calls would have left the machine: %v", escapes)
	}
	if err := w.emu.Close(); err != nil {
		w.t.Error(err)
	}
	if left := processesNaming(w.dir); len(left) > 0 {
		w.t.Errorf("processes were left running: %v", left)
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// instance is unique to this world, because a token named by KEYD_TEST_MODULE may hold what earlier runs left.
func (w *world) instance() string { return "e2e-" + filepath.Base(w.dir) }

// configure writes the configuration for the settings.
func (w *world) configure() {
	w.t.Helper()
	var b strings.Builder
	root := ", test_attestation_root: " + w.path("attestation-root.pem")
	if w.set.noTestRoot {
		root = ""
	}
	fmt.Fprintf(&b, `instance: %s
state_dir: %s/state
hsm: {module: %s, token: %q, pin_file: %q%s%s}
azure: {credential: managed-identity, ca_file: %s/ca.pem}
vaults:
`, w.instance(), w.dir, w.set.module, w.token.Label, w.token.PINFile, root, w.set.timeouts, w.dir)
	urls := map[string]string{"weu": "https://" + vaultHost, "mhsm": "https://" + hsmHost}
	for _, v := range w.set.vaults {
		fmt.Fprintf(&b, "  %s:\n    url: %s\n    kek:\n      bits: %d\n", v, urls[v], w.set.kekBits)
		if v == "weu" && w.set.fingerprint != "" {
			fmt.Fprintf(&b, "      fingerprint: %q\n", w.set.fingerprint)
		} else {
			b.WriteString("      trust: first-use\n")
		}
	}
	fmt.Fprintf(&b, "keys:\n  %s:\n    spec: %s\n    vaults: [%s]\n    floor: 0s\n    budget: 17280\n",
		keyName, w.set.spec, strings.Join(w.set.vaults, ", "))
	if w.set.schedule != "" {
		fmt.Fprintf(&b, "    schedule: %q\n", w.set.schedule)
	}
	if w.set.expires != "" {
		fmt.Fprintf(&b, "    expires_after: %s\n", w.set.expires)
	}
	if w.set.spares > 0 {
		fmt.Fprintf(&b, "    spares: %d\n", w.set.spares)
	}
	fmt.Fprintf(&b, "control: {socket: %s/keyd.sock}\nweb: {listen: \"127.0.0.1:0\"}\nhealth: {look: %s, newest: %s}\n",
		w.dir, w.set.look, w.set.newest)
	w.write("keyd.yaml", b.String())
}

// start starts the daemon, with more settings of its environment.
func (w *world) start(env ...string) { w.startAs(built.keyd, env...) }

func (w *world) startAs(program string, env ...string) {
	w.t.Helper()
	w.startBy(exec.Command(program, "run", "--config", w.path("keyd.yaml")), env...)
}

// startBy starts a daemon by any command, such as a tracer that runs it.
func (w *world) startBy(cmd *exec.Cmd, env ...string) {
	w.t.Helper()
	d := &daemon{cmd: cmd, log: new(syncBuffer), ended: make(chan struct{})}
	d.cmd.Env = slices.Concat(w.env, env)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	w.daemon = d
}

// stop ends the daemon as systemd would, and requires that it ends cleanly.
func (w *world) stop() {
	w.t.Helper()
	_ = w.daemon.cmd.Process.Signal(syscall.SIGTERM)
	w.awaitEnd()
	if w.daemon.err != nil {
		w.t.Errorf("after SIGTERM keyd ended with %v; its log:\n%s", w.daemon.err, w.daemon.log)
	}
	w.daemon = nil
}

// kill ends the daemon at once; its HSM side dies with it.
func (w *world) kill() {
	w.t.Helper()
	_ = w.daemon.cmd.Process.Kill()
	w.awaitEnd()
	w.daemon = nil
}

func (w *world) awaitEnd() {
	w.t.Helper()
	select {
	case <-w.daemon.ended:
	case <-time.After(patience):
		_ = w.daemon.cmd.Process.Kill()
		w.t.Fatalf("keyd does not end; its log:\n%s", w.daemon.log)
	}
	if err := poll(patience, func() bool { return len(processesNaming(w.path("keyd.yaml"))) == 0 }, nil); err != nil {
		w.t.Fatalf("the HSM side outlives the daemon: %v", processesNaming(w.path("keyd.yaml")))
	}
}

// answer is the output of a command.
type answer struct {
	stdout, stderr string
	code           int
}

// cli runs one of keyd's commands to its end.
func (w *world) cli(args ...string) answer {
	w.t.Helper()
	return w.command(append(args, "--socket", w.path("keyd.sock"))...)
}

func (w *world) command(args ...string) answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, built.keyd, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && (ctx.Err() != nil || !errors.As(err, &exit)) {
		w.t.Fatalf("keyd %s: %v, %v: %s%s", strings.Join(args, " "), err, ctx.Err(), out.String(), errs.String())
	}
	return answer{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must is cli for a command that has to exit 0.
func (w *world) must(args ...string) string {
	w.t.Helper()
	a := w.cli(args...)
	if a.code != 0 {
		w.t.Fatalf("keyd %s: exit %d: %s%s", strings.Join(args, " "), a.code, a.stdout, a.stderr)
	}
	return a.stdout
}

// look is what `keyd status --json` prints, without a process for each look; ok is
// false while the daemon does not answer.
func (w *world) look() (s status.Snapshot, ok bool) {
	w.t.Helper()
	s, err := control.Dial(w.path("keyd.sock")).Snapshot(w.t.Context(), status.Selection{})
	return s, err == nil
}

// wait looks until cond holds for the key.
func (w *world) wait(what string, cond func(status.Snapshot, status.Key) bool) {
	w.t.Helper()
	var last status.Snapshot
	err := poll(patience, func() bool {
		s, ok := w.look()
		k, found := s.Key(keyName)
		if !ok || !found {
			return false
		}
		last = s
		return cond(s, k)
	}, w.daemon.ended)
	if err != nil {
		text, _ := json.MarshalIndent(last, "", " ")
		w.t.Fatalf("waiting until %s: %v; last seen: %s", what, err, text)
	}
}

// waitGeneration waits until generation n is active everywhere.
func (w *world) waitGeneration(n int) {
	w.t.Helper()
	w.wait(fmt.Sprintf("generation %d is finished", n),
		func(_ status.Snapshot, k status.Key) bool { return finished(k, n) })
}

// waitHold waits until the key is held, and requires the code.
func (w *world) waitHold(code key.HoldCode) {
	w.t.Helper()
	var hold *key.Hold
	w.wait("the key is held", func(_ status.Snapshot, k status.Key) bool { hold = k.Hold; return hold != nil })
	if hold.Code != code {
		w.t.Fatalf("the key is held with code %s, not %s: %s", hold.Code, code, hold.Reason)
	}
}

func finished(k status.Key, n int) bool {
	for _, g := range k.Generations {
		if g.Number == n {
			return !g.Finished.IsZero()
		}
	}
	return false
}

// key is the key as `keyd status` shows it.
func (w *world) key() status.Key {
	w.t.Helper()
	s, ok := w.look()
	if !ok || len(s.Keys) != 1 {
		w.t.Fatal("keyd status shows no key")
	}
	return s.Keys[0]
}

// versions are the ids of the key's versions in a vault, oldest first.
func (w *world) versions(vault string) (ids []string) {
	for _, v := range w.vault[vault].Versions(keyName) {
		ids = append(ids, v.ID)
	}
	return ids
}

func (w *world) wantVersions(n int) {
	w.t.Helper()
	for _, v := range w.set.vaults {
		if got := w.versions(v); len(got) != n {
			w.t.Errorf("vault %s holds %d versions, not %d: %v", v, len(got), n, got)
		}
	}
}

// imports counts the imports that a vault accepted or refused after signing in.
func (w *world) imports(host string) (n int) {
	for _, r := range w.emu.Requests() {
		if r.Operation == "import" && r.Host == host && r.Status != 401 {
			n++
		}
	}
	return n
}

// seal wraps a data key under every version that has none yet, as a consumer of that version does.
func (w *world) seal() {
	w.t.Helper()
	for _, name := range w.set.vaults {
		for _, v := range w.vault[name].Versions(keyName) {
			at := sealedAt{name, v.ID}
			if _, done := w.sealed[at]; done {
				continue
			}
			dataKey := make([]byte, 32)
			_, _ = rand.Read(dataKey)
			c, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &rsa.PublicKey{N: v.N, E: v.E}, dataKey, nil)
			if err != nil {
				w.t.Fatal(err)
			}
			w.sealed[at] = sealed{c, sha256.Sum256(dataKey)}
		}
	}
}

// wantOpen requires that everything that was ever sealed unwraps.
func (w *world) wantOpen() {
	w.t.Helper()
	if len(w.sealed) == 0 {
		w.t.Error("nothing was sealed")
	}
	for at, s := range w.sealed {
		plain, err := w.vault[at.vault].Unwrap(keyName, at.version, "RSA-OAEP-256", s.ciphertext)
		if err != nil || sha256.Sum256(plain) != s.sum {
			w.t.Errorf("what was wrapped under version %s in %s no longer unwraps: %v", at.version, at.vault, err)
		}
	}
}

// wantContains requires that the output contains each part.
func (w *world) wantContains(shown string, parts ...string) {
	w.t.Helper()
	for _, p := range parts {
		if !strings.Contains(shown, p) {
			w.t.Errorf("%q is not in:\n%s", p, shown)
		}
	}
}

// syncBuffer is a log that can be read while it is written.
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
