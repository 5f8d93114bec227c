package bench_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
	"github.com/keyd-project/keyd/softhsm-test/measure"
)

const (
	vaultHost = "contoso-weu.vault.azure.net"
	kekName   = "keyd-kek"
	patience  = 5 * time.Minute
)

// world is a token behind a library that counts, an Azure, and the keyd between them.
type world struct {
	b       *testing.B
	dir     string
	token   *softhsmtest.Token
	library *measure.Library
	azure   *emulator.Emulator
	env     []string // of every process
	keys    []string
	spares  int       // of each key
	keyd    *exec.Cmd // nil while none runs
	log     bytes.Buffer
	next    uint64 // of the emulator's requests
}

func newWorld(b *testing.B) *world {
	b.Helper()
	dir, err := os.MkdirTemp(built, "w")
	if err != nil {
		b.Fatal(err)
	}
	w := &world{b: b, dir: dir, token: softhsmtest.New(b)}
	if w.library, err = measure.NewLibrary("../faultmodule", dir, w.token.Module); err != nil {
		b.Fatal(err)
	}
	w.azure, err = emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{
		{Host: vaultHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
	}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := w.azure.Close(); err != nil {
			b.Error(err)
		}
	})
	w.env = slices.Concat(os.Environ(), w.token.Environ(), w.azure.Environ(w.path("ca.pem")))
	w.write("ca.pem", string(w.azure.CAPEM()))
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.b.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.b.Fatal(err)
	}
}

// start starts keyd and waits until it has brought up n keys. Routine looks do not come in between.
func (w *world) start(spec string, n int) {
	w.b.Helper()
	var keys strings.Builder
	for i := range n {
		w.keys = append(w.keys, fmt.Sprintf("key-%02d", i))
		fmt.Fprintf(
			&keys,
			"  %s: {spec: %s, vaults: [weu], schedule: \"@yearly\", floor: 0s, budget: 1000, spares: %d}\n",
			w.keys[i],
			spec,
			w.spares,
		)
	}
	w.write("keyd.yaml", fmt.Sprintf(`instance: bench
state_dir: %[1]s/state
hsm: {module: %[2]s, token: %[3]s, pin_file: %[4]s, sessions: %[8]d}
azure: {credential: managed-identity, ca_file: %[1]s/ca.pem}
vaults:
  weu: {url: "https://%[5]s", kek: {name: %[6]s, trust: first-use}}
keys:
%[7]scontrol: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
health: {look: 31d, newest: 31d, older: 31d}
`, w.dir, w.library.Module, w.token.Label, w.token.PINFile, vaultHost, kekName, keys.String(), w.sessions()))
	w.log.Reset()
	w.keyd = exec.Command(program("keyd"), "run", "--config", w.path("keyd.yaml"))
	w.keyd.Env = slices.Concat(w.env, w.library.Environ("keyd"))
	w.keyd.Stdout, w.keyd.Stderr = &w.log, &w.log
	if err := w.keyd.Start(); err != nil {
		w.b.Fatal(err)
	}
	w.b.Cleanup(w.stop)
	began := time.Now()
	for !w.up() {
		if time.Since(began) > patience {
			w.b.Fatal("the first generations are not finished in time")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// sessions are two where keys have spares, so that keyd makes one pair at a time: SoftHSM sometimes fails to make two
// at once, and keyd waits for half an hour before it tries again for a spare.
func (w *world) sessions() int {
	if w.spares > 0 {
		return 2
	}
	return 4
}

// settle waits until nothing more follows from the start.
func (w *world) settle() {
	w.b.Helper()
	const firstProofs = time.Minute // within which keyd proves by routine what it sees for the first time
	time.Sleep(firstProofs)
	w.refill(w.untilQuiet())
}

// stop ends keyd, unless it has ended.
func (w *world) stop() {
	if w.keyd == nil {
		return
	}
	_ = w.keyd.Process.Signal(syscall.SIGTERM)
	if err := w.keyd.Wait(); err != nil || w.b.Failed() {
		w.b.Errorf("keyd ended: %v\n%s", err, w.log.String())
	}
	w.keyd = nil
}

// up reports whether every key has a generation in its vault, and its spares.
func (w *world) up() bool {
	s, err := control.Dial(w.path("keyd.sock")).Snapshot(w.b.Context(), status.Selection{})
	return err == nil && len(s.Keys) == len(w.keys) && !slices.ContainsFunc(s.Keys, func(k status.Key) bool {
		return w.spares > 0 && (k.Spares == nil || k.Spares.Ready < w.spares) ||
			!slices.ContainsFunc(k.Generations, func(g status.Generation) bool { return !g.Finished.IsZero() })
	})
}

// calls are the calls to the vault since the last time, by operation, without challenges.
func (w *world) calls() measure.Kinds {
	list, next := w.azure.RequestsSince(w.next)
	w.next = next
	found := measure.Kinds{}
	for _, r := range list {
		if r.Host == vaultHost && r.Status != 401 && r.Operation != "connect" {
			found[r.Operation]++
		}
	}
	return found
}

// untilQuiet waits until keyd made no call for a second, and returns those that it made.
func (w *world) untilQuiet() measure.Kinds {
	w.b.Helper()
	all := measure.Kinds{}
	for began, last := time.Now(), time.Now(); time.Since(last) < time.Second; {
		time.Sleep(50 * time.Millisecond)
		for op, n := range w.calls() {
			all[op] += n
			last = time.Now()
		}
		if time.Since(began) > patience {
			w.b.Fatal("keyd does not stop calling")
		}
	}
	return all
}

// refill waits until keyd's own limit of calls to a vault has refilled after these, so that it delays nothing next.
func (w *world) refill(made measure.Kinds) {
	const rate, burst = 12.5, 100 // a second, and at once: the least that keyd may call a vault
	time.Sleep(time.Duration(min(float64(made.Sum()), burst) / rate * float64(time.Second)))
}

// compared is one line of a comparison.
type compared struct {
	what       string
	keyd, bare string
	ratio      float64
	goal       string
}

func printed(title, with string, rows []compared) {
	fmt.Printf("\n%-44s %12s %12s %8s  %s\n", title, "keyd", with, "ratio", "goal")
	for _, r := range rows {
		fmt.Printf("  %-42s %12s %12s %8.2f  %s\n", r.what, r.keyd, r.bare, r.ratio, r.goal)
	}
}

func times(what string, keyd, other time.Duration, goal string) compared {
	show := func(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
	return compared{what, show(keyd), show(other), keyd.Seconds() / other.Seconds(), goal}
}

func numbers(what string, keyd, other float64) compared {
	show := func(x float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0") }
	return compared{what, show(keyd), show(other), keyd / other, ""}
}
