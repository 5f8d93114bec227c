//go:build page

package web

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const realConfig = `instance: hq-1
state_dir: %[1]s/state
hsm: {module: %[2]s, token: %[3]q, pin_file: %[4]q}
azure: {credential: managed-identity, ca_file: %[1]s/ca.pem}
vaults:
  contoso-weu: {url: https://contoso-weu.vault.azure.net, kek: {bits: 2048}}
  contoso-hsm: {url: https://contoso.managedhsm.azure.net, kek: {bits: 2048}}
keys:
  sa-cmk-key: {spec: RSA-2048, vaults: [contoso-weu, contoso-hsm], floor: 0s, schedule: "0 3 1 */3 *"}
control: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
health: {newest: 10s}
`

// real is the real daemon on SoftHSM and the emulator.
type real struct {
	t       *testing.T
	dir     string
	program string
	env     []string
	cmd     *exec.Cmd
	log     logBuffer
	ended   chan error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startReal(t *testing.T) *real {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd-page-") // short, because a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	k := &real{t: t, dir: dir, program: filepath.Join(dir, "keyd"), ended: make(chan error, 1)}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", k.program,
		"../../cmd/keyd").CombinedOutput(); err != nil {
		t.Fatalf("build keyd: %v: %s", err, out)
	}
	token, err := softhsmtest.Create(dir, "keyd-page", rand.Text())
	if err != nil {
		t.Fatal(err)
	}
	emu, err := emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{
		{Host: "contoso-weu.vault.azure.net", Profile: emulator.KeyVaultPremium, PurgeProtection: true},
		{Host: "contoso.managedhsm.azure.net", Profile: emulator.ManagedHSM, PurgeProtection: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = emu.Close() })
	for name, text := range map[string]string{"ca.pem": string(emu.CAPEM()),
		"keyd.yaml": fmt.Sprintf(realConfig, dir, token.Module, token.Label, token.PINFile)} {
		write(t, filepath.Join(dir, name), text)
	}
	k.env = slices.Concat(os.Environ(), token.Environ(), emu.Environ(filepath.Join(dir, "ca.pem")))
	k.cmd = exec.Command(k.program, "run", "--config", filepath.Join(dir, "keyd.yaml"))
	k.cmd.Env, k.cmd.Stdout, k.cmd.Stderr = k.env, &k.log, &k.log
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { k.ended <- k.cmd.Wait() }()
	t.Cleanup(k.stop)
	return k
}

// stop ends the daemon as systemd would. A second call does nothing.
func (k *real) stop() {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	k.cmd = nil
	if err := <-k.ended; err != nil {
		k.t.Errorf("keyd ended with %v; its log:\n%s", err, k.log.String())
	}
}

var listening = regexp.MustCompile(`"Listening on","address":"([^"]+)"`)

// origin is where the daemon serves its page.
func (k *real) origin() string {
	k.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if at := listening.FindStringSubmatch(k.log.String()); at != nil {
			return "http://" + at[1]
		}
	}
	k.t.Fatalf("keyd does not listen; its log:\n%s", k.log.String())
	return ""
}

func (k *real) rotate(reason string) {
	k.t.Helper()
	cmd := exec.CommandContext(k.t.Context(), k.program, "rotate", "--now", "sa-cmk-key", "--reason", reason,
		"--socket", filepath.Join(k.dir, "keyd.sock"))
	cmd.Env = k.env
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); errors.As(err, &exit) || err != nil {
		k.t.Fatalf("rotate: %v: %s", err, out)
	}
}

// steps returns what "Now" shows: each step's mark and words.
func (b *tab) steps() string {
	return strings.Join(eval[[]string](b, `[...document.querySelectorAll("#works .work li")].map((li) => `+
		`li.className + " " + li.querySelector(".words").textContent)`), "\n")
}

// A real rotation by the real daemon: its steps appear on the open page without a reload. Afterwards the page says
// that it is out of date, and once keyd has stopped, that it is not live.
func TestPageShowsARealRotationAsItHappens(t *testing.T) {
	k := startReal(t)
	origin := k.origin()
	b := newTab(t, desktop)
	b.open(origin + "/")
	finished := func(n int) string {
		return fmt.Sprintf(`[...document.querySelectorAll("#works .work.done h3")].some((h) => h.textContent === `+
			`"sa-cmk-key, generation %d")`, n)
	}
	b.wait("the first generation is finished", finished(1))
	b.open(origin + "/")
	b.wait("the page is live", isLive)
	eval[int](b, `window.opened = 1`)

	k.rotate(operatorsReason)
	b.wait("the rotation is finished", finished(2))
	steps := b.steps()
	for _, want := range []string{"done Number reserved", "done Key pair generated in the HSM",
		"done Pair checked, fingerprint recorded", "done Imported into contoso-weu",
		"done Proven in contoso-weu", "done Imported into contoso-hsm", "done Proven in contoso-hsm",
		"done Rotation finished: active everywhere"} {
		if !strings.Contains(steps, want) {
			t.Errorf("%q is not among the steps:\n%s", want, steps)
		}
	}
	if eval[int](b, `window.opened || 0`) != 1 {
		t.Error("the page was loaded again")
	}
	if !eval[bool](b, `!document.getElementById("stale").hidden`) {
		t.Error("the page does not say that the rest of it is behind")
	}
	if eval[bool](b, `[...document.querySelectorAll("#works .work.done details")].some((d) => d.open)`) {
		t.Error("a finished rotation is not folded to a line")
	}
	b.shoot("real")

	b.open(eval[string](b, `document.querySelector("#stale a").href`))
	text := eval[string](b, `document.body.innerText`)
	for _, part := range []string{"All is well", "rotation finished", "proof passed", "HSM", "contoso-weu"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not on the page:\n%s", part, text)
		}
	}
	if strings.Contains(eval[string](b, `document.documentElement.outerHTML`), "SECRET-REASON") {
		t.Error("the page shows what the operator wrote")
	}
	for deadline := time.Now().Add(patience); ; b.open(origin + "/") {
		good := eval[int](b, `document.querySelectorAll("svg.strip path.good").length`)
		if good == 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of the three strips show something good", good)
		}
	}
	b.wantClean(origin)

	k.stop()
	b.wait("the page says that it is not live", `document.getElementById("live").textContent.startsWith("not live")`)
}
