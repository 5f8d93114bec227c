//go:build consumers

package consumers

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

const (
	loggedHost   = "contoso-weu.vault.azure.net" // its audit log goes to a workspace
	unloggedHost = "contoso-neu.vault.azure.net"
	cleanHost    = "contoso-clean.vault.azure.net" // as the first; nobody uses it before a compromise
)

const (
	// patience is the time limit, on the machine's clock, for a condition on a busy machine.
	patience = 90 * time.Second
	tick     = 50 * time.Millisecond
)

// world is one token, one Azure, and the keyd between them, on one clock.
type world struct {
	*estate
	t     *testing.T
	dir   string
	token *softhsmtest.Token
	emu   *emulator.Emulator
	clock atomic.Pointer[fasttime.Clock]
	env   []string

	daemon *exec.Cmd     // nil while none runs
	ended  chan struct{} // closed when the daemon has ended
	err    error         // of its Wait, once it has
	seen   uint64        // the requests before the daemon's last start
}

// newWorld makes a world in which keyd has not started yet.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, token: softhsmtest.New(t)}
	w.clock.Store(&fasttime.Clock{Since: time.Now(), Factor: factor})
	var err error
	if w.dir, err = os.MkdirTemp(built.dir, "w"); err != nil {
		t.Fatal(err)
	}
	w.emu, err = emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{
			{Host: loggedHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
			{Host: unloggedHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
			{Host: cleanHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
		},
		Now: w.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	w.estate = &estate{t: t, azure: w.emu.Consumers(), writes: map[string]int{}}
	w.write("ca.pem", string(w.emu.CAPEM()))
	w.env = slices.Concat(os.Environ(), w.token.Environ(), w.emu.Environ(w.path("ca.pem")))
	return w
}

func (w *world) now() time.Time { return w.clock.Load().Now() }

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() {
	w.t.Helper()
	log, err := os.OpenFile(w.path("keyd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	_, w.seen = w.emu.RequestsSince(w.seen)
	w.daemon = exec.Command(built.fast, "run", "--config", w.path("keyd.yaml"))
	w.daemon.Env = slices.Concat(w.env, []string{w.clock.Load().Environ()})
	w.daemon.Stdout, w.daemon.Stderr = log, log
	if err := errors.Join(w.daemon.Start(), log.Close()); err != nil {
		w.t.Fatal(err)
	}
	w.ended = make(chan struct{})
	go func() {
		w.err = w.daemon.Wait()
		close(w.ended)
	}()
	w.await("keyd answers", func() bool { _, err := w.look(); return err == nil })
}

// stop ends the daemon as systemd would.
func (w *world) stop() {
	w.t.Helper()
	_ = w.daemon.Process.Signal(syscall.SIGTERM)
	select {
	case <-w.ended:
	case <-time.After(patience):
		w.fail("after SIGTERM keyd does not end")
	}
	w.daemon = nil
	if w.err != nil {
		w.fail("after SIGTERM keyd ended with %v", w.err)
	}
}

// pass skips time while no daemon runs. The consumers go on.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	if w.daemon != nil {
		w.t.Fatal("time cannot be skipped while keyd runs")
	}
	later := w.clock.Load().Later(d)
	w.clock.Store(&later)
}

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

// look is what `keyd status --json` prints, without a process for each look.
func (w *world) look() (status.Snapshot, error) {
	return control.Dial(w.path("keyd.sock")).Snapshot(w.t.Context(), status.Selection{})
}

// must runs one of keyd's commands and returns its output.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, err := w.command(args...).CombinedOutput()
	if err != nil {
		w.fail("keyd %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), built.keyd, append(args, "--socket", w.path("keyd.sock"))...)
	cmd.Env = w.env
	return cmd
}

// retirement is what `keyd retire` shows of a key.
func (w *world) retirement(name string) (r status.Retirement) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.must("retire", name, "--json")), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// await polls until cond holds, on the machine's clock.
func (w *world) await(what string, cond func() bool) {
	w.t.Helper()
	w.awaitFor(patience, what, cond)
}

func (w *world) awaitFor(long time.Duration, what string, cond func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(long); !cond(); {
		if time.Now().After(deadline) {
			w.fail("%s: not within %s", what, long)
		}
		w.breathe()
	}
}

// breathe lets a moment pass, and requires that the daemon, if any, is alive.
func (w *world) breathe() {
	w.t.Helper()
	select {
	case <-w.ended:
		if w.daemon != nil {
			w.daemon = nil
			w.fail("keyd ended by itself: %v", w.err)
		}
		time.Sleep(tick)
	case <-time.After(tick):
	}
}

// awaitLooking is await for what keyd sees only when it looks at the consumers again: a reload makes it look.
func (w *world) awaitLooking(what string, cond func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			w.fail("%s: not within %s", what, patience)
		}
		w.must("reload")
		for range 20 {
			w.breathe()
			if cond() {
				return
			}
		}
	}
}

// awaitProof waits until this keyd has proven a version in the logged vault: only then it knows its own calls.
func (w *world) awaitProof() {
	w.t.Helper()
	w.await("a version is proven", func() bool {
		since, _ := w.emu.RequestsSince(w.seen)
		return slices.ContainsFunc(since, func(r emulator.RequestLog) bool {
			return r.Host == loggedHost && r.Operation == "unwrap" && r.Done == 200 && r.ClientRequestID != ""
		})
	})
}

// awaitGeneration waits until a generation of each key is active everywhere.
func (w *world) awaitGeneration(n int) {
	w.t.Helper()
	w.await("every key has finished its generation", func() bool {
		s, err := w.look()
		return err == nil && len(s.Keys) > 0 && !slices.ContainsFunc(s.Keys, func(k status.Key) bool {
			return len(k.Generations) != n || k.Generations[n-1].Finished.IsZero()
		})
	})
}

// enabled tells which of a key's versions a vault shows as enabled, oldest first.
func (w *world) enabled(host, name string) (all []bool) {
	for _, v := range w.emu.Vault(host).Versions(name) {
		all = append(all, v.Enabled)
	}
	return all
}

const lastLines = 60 // of keyd's log, in the report of a failure

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	text, _ := os.ReadFile(w.path("keyd.log"))
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(l string) bool {
		return strings.Contains(l, "reload") || strings.Contains(l, `"INFO"`) && !strings.Contains(l, `"STEP"`)
	})
	w.t.Logf("the end of keyd's log:\n%s", strings.Join(lines[max(0, len(lines)-lastLines):], "\n"))
	if w.daemon != nil {
		shown, _ := w.command("plan").CombinedOutput()
		w.t.Logf("keyd plan:\n%s", shown)
	}
	w.t.Fatalf(format, args...)
}

// version is the id of a key's nth version in a vault.
func (w *world) version(host, name string, n int) string {
	w.t.Helper()
	all := w.emu.Vault(host).Versions(name)
	if len(all) < n {
		w.fail("%s has %d versions in %s, and not %d", name, len(all), host, n)
	}
	return all[n-1].ID
}
