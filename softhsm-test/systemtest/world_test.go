//go:build system

package systemtest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	pin       = "271828"
	keyName   = "sa-cmk-key"
	vaultName = "contoso-weu"
	vaultHost = "contoso-weu.vault.azure.net"
	watchdog  = 12 * time.Second // of both services here, instead of minutes
)

// world is the container with a token, an Azure and the package's services in it.
type world struct {
	*machine
	generation int // the newest requested one
	sandboxes  int // how many were tried
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{machine: bootMachine(t)}
	w.copyIn(t, *debFile, "/srv/test/keyd-hsm.deb", 0o644)
	w.copyIn(t, filepath.Join(*binDir, "keyvault-emulator"), "/srv/test/keyvault-emulator", 0o755)
	w.copyIn(t, filepath.Join(*binDir, "faultmodule.so"), "/srv/test/faultmodule.so", 0o755)
	w.write(t, "/etc/systemd/system/emulator.service", emulatorUnit, 0o644)
	w.faultsAtBoot(t)
	w.run(t, "systemctl", "daemon-reload")
	w.run(t, "systemctl", "enable", "emulator")
	w.run(t, "systemctl", "start", "emulator")
	return w
}

// emulatorUnit starts Azure before keyd, which reads the new authority's certificate at
// its start, and with the keys that it held before.
const emulatorUnit = `[Unit]
Before=keyd.service
[Service]
Type=exec
EnvironmentFile=/srv/test/emulator.env
ExecStart=/srv/test/keyvault-emulator --vault ` + vaultHost + `=premium --purge-protection ` + vaultHost + ` \
  --proxy 127.0.0.1:8889 --admin 127.0.0.1:8890 --ca-out /srv/test/ca.pem --state /srv/test/azure \
  --token-lifetime 240h $FAULTS
ExecStartPost=/bin/bash -c 'until curl -sf -o /dev/null http://127.0.0.1:8890/state; do sleep 0.1; done'
[Install]
WantedBy=multi-user.target
`

// faultsAtBoot are the rules with which the emulator starts.
func (w *world) faultsAtBoot(t *testing.T, rules ...string) {
	t.Helper()
	var faults []string
	for _, rule := range rules {
		faults = append(faults, "--fail", rule)
	}
	w.write(t, "/srv/test/emulator.env", "FAULTS=\""+strings.Join(faults, " ")+"\"\n", 0o644)
}

// configure makes everything that an operator makes: token, PIN, configuration and drop-ins.
func (w *world) configure(t *testing.T) {
	t.Helper()
	w.run(t, "runuser", "-u", "keyd-hsm", "-g", "keyd-hsm", "-G", "softhsm", "--",
		"softhsm2-util", "--init-token", "--free", "--label", "keyd", "--pin", pin, "--so-pin", "314159")
	w.setPIN(t, pin)
	w.setConfig(t, "")
	shipped := "/usr/share/doc/keyd-hsm/examples/systemd/keyd-hsm.service.d/"
	w.run(t, "mkdir", "-p", "/etc/systemd/system/keyd-hsm.service.d")
	w.run(t, "cp", shipped+"softhsm.conf", shipped+"encrypted-pin.conf", "/etc/systemd/system/keyd-hsm.service.d/")
	w.run(t, "install", "-d", "-o", "keyd-hsm", "/srv/test/fault")
	w.misbehave(t)
	short := fmt.Sprintf("[Service]\nWatchdogSec=%d\nRestartSec=1s\n", int(watchdog.Seconds()))
	w.write(t, "/etc/systemd/system/keyd-hsm.service.d/test.conf", short+
		"Environment=FAULTMODULE_RULES=/srv/test/rules "+
		"FAULTMODULE_COUNTS=/srv/test/fault/counts\nReadWritePaths=/srv/test/fault\n", 0o644)
	w.write(t, "/etc/systemd/system/keyd.service.d/test.conf", short+
		"Environment=HTTPS_PROXY=http://127.0.0.1:8889 HTTP_PROXY=http://127.0.0.1:8889\n", 0o644)
	w.run(t, "systemctl", "daemon-reload")
}

// setPIN sets keyd-hsm's credential as the documents and the manual say.
func (w *world) setPIN(t *testing.T, pin string) {
	t.Helper()
	w.shell(t, "printf %s "+pin+" | systemd-creds encrypt --with-key=host --name=hsm-pin - /etc/keyd/hsm-pin.cred")
}

// setConfig writes the configuration, with more text at its end.
func (w *world) setConfig(t *testing.T, more string) {
	t.Helper()
	w.write(t, "/etc/keyd/keyd.yaml", `instance: system-test
hsm:
  module: /srv/test/faultmodule.so
  token: keyd
  pin_file: hsm-pin
  socket: /run/keyd-hsm/hsm.sock
  call_timeout: 8s
azure: {credential: managed-identity, ca_file: /srv/test/ca.pem}
vaults:
  `+vaultName+`:
    url: https://`+vaultHost+`
    kek: {bits: 2048, trust: first-use}
health: {look: 2s, newest: 2s}
keys:
  `+keyName+`: {spec: RSA-2048, vaults: [`+vaultName+`], floor: 0s, budget: 1000}
`+more, 0o644)
}

// misbehave replaces the rules of the HSM's library; no rule ends the fault.
func (w *world) misbehave(t *testing.T, rules ...string) {
	t.Helper()
	w.write(t, "/srv/test/rules", strings.Join(rules, "\n")+"\n", 0o644)
}

// called counts all calls of a function of the HSM's library so far.
func (w *world) called(t *testing.T, function string) int {
	t.Helper()
	source, err := os.ReadFile("softhsm-test/faultmodule/faultmodule.c")
	if err != nil {
		t.Fatalf("%v (run it at the top of the source tree)", err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`\bX\((\w+)\)`).FindAllSubmatch(source, -1) {
		names = append(names, "C_"+string(m[1]))
	}
	counts, err := os.ReadFile(w.at("/srv/test/fault/counts"))
	if err != nil {
		t.Fatal(err)
	}
	return int(binary.NativeEndian.Uint64(counts[8*slices.Index(names, function):]))
}

// azure injects a fault into the emulator by a rule; "" ends all faults.
func (w *world) azure(t *testing.T, rule string) {
	t.Helper()
	if rule == "" {
		w.run(t, "curl", "-sSf", "-X", "DELETE", "http://127.0.0.1:8890/rules")
		return
	}
	w.run(t, "curl", "-sSf", "--data-binary", rule, "http://127.0.0.1:8890/rules")
}

// held waits until a call is under way that the last rule, the only one, delays.
func (w *world) held(t *testing.T, what string) {
	t.Helper()
	eventually(t, what+" is under way", func() error {
		if rules := w.vault(t).Rules; len(rules) != 1 || rules[0].Hits == 0 {
			return fmt.Errorf("no call met the rule: %+v", rules)
		}
		return nil
	})
}

// request is one that the emulator has answered.
type request struct {
	Operation, Key, Path string
	Status               int
	Delay                time.Duration
}

// vault is what the emulator holds and which requests it got.
func (w *world) vault(t *testing.T) (state struct {
	Vaults   map[string]map[string][]struct{ ID string }
	Rules    []struct{ Hits int }
	Requests []request
	Escapes  []string
}) {
	t.Helper()
	out := w.run(t, "curl", "-sSf", "http://127.0.0.1:8890/state")
	if err := json.Unmarshal([]byte(out), &state); err != nil {
		t.Fatal(err)
	}
	return state
}

func (w *world) versions(t *testing.T) int {
	t.Helper()
	return len(w.vault(t).Vaults[vaultHost][keyName])
}

// unit is one property of a service.
func (w *world) unit(t *testing.T, service, property string) string {
	t.Helper()
	return w.run(t, "systemctl", "show", "-P", property, service)
}

func (w *world) number(t *testing.T, service, property string) int {
	t.Helper()
	n, err := strconv.Atoi(w.unit(t, service, property))
	if err != nil {
		t.Fatalf("%s of %s: %v", property, service, err)
	}
	return n
}

func (w *world) pid(t *testing.T, service string) int {
	t.Helper()
	n := w.number(t, service, "MainPID")
	if n <= 1 {
		t.Fatalf("%s has no main process", service)
	}
	return n
}

// signal sends a signal to a service's main process, by its pid in the container.
func (w *world) signal(t *testing.T, service, signal string) {
	t.Helper()
	w.run(t, "kill", "-s", signal, strconv.Itoa(w.pid(t, service)))
}

// restarted waits until a service is active in another process than pid.
func (w *world) restarted(t *testing.T, service string, pid int) {
	t.Helper()
	eventually(t, service+" is restarted", func() error {
		state, now := w.unit(t, service, "ActiveState"), w.number(t, service, "MainPID")
		if state != "active" || now == pid || now <= 1 {
			return fmt.Errorf("it is %s, pid %d (before: %d)", state, now, pid)
		}
		return nil
	})
}

// snapshot is the part of `keyd status --json` that these tests look at.
type snapshot struct {
	Problems []struct{ Text string }
	Keys     []struct {
		Name        string
		State       string
		Generations []struct {
			Number   int
			Finished time.Time
		}
	}
}

func (w *world) status() (s snapshot, err error) {
	out, err := w.try("keyd", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// rotate asks for a rotation and does not wait for it.
func (w *world) rotate(t *testing.T) {
	t.Helper()
	w.run(t, "keyd", "rotate", "--now", keyName, "--no-wait", "--reason", "system test")
	w.generation++
}

// converged waits until the newest generation is finished and all is well, and
// requires that the vault holds each generation once.
func (w *world) converged(t *testing.T) {
	t.Helper()
	eventually(t, fmt.Sprintf("generation %d is finished and all is well", w.generation), func() error {
		s, err := w.status()
		if err != nil {
			return err
		}
		if len(s.Problems) > 0 {
			return fmt.Errorf("there are problems: %v", s.Problems)
		}
		for _, k := range s.Keys {
			n := len(k.Generations)
			if k.State != "ok" || n == 0 || k.Name == keyName && n < w.generation {
				return fmt.Errorf("key %s is %s, with %d generations", k.Name, k.State, n)
			}
		}
		return nil
	})
	if n := w.versions(t); n != w.generation {
		t.Errorf("the vault holds %d versions of %d generations", n, w.generation)
	}
	if escapes := w.vault(t).Escapes; len(escapes) > 0 {
		t.Errorf("calls would have left the machine: %v", escapes)
	}
}

// statusHas waits until systemd shows a status text that contains part.
func (w *world) statusHas(t *testing.T, service, part string) {
	t.Helper()
	eventually(t, service+" says: "+part, func() error {
		if text := w.unit(t, service, "StatusText"); !strings.Contains(text, part) {
			return fmt.Errorf("it says: %s", text)
		}
		return nil
	})
}

// inMidRotation requests a rotation and returns when its import is under way. The vault continues with it when the
// faults end.
func (w *world) inMidRotation(t *testing.T) {
	t.Helper()
	w.azure(t, "op=import,key="+keyName+",count=1,hold")
	w.rotate(t)
	w.held(t, "the import")
}

// entry is one of the journal's, as `journalctl -o json` prints it.
type entry map[string]any

func (w *world) journal(t *testing.T, match ...string) (entries []entry) {
	t.Helper()
	out := w.run(t, append([]string{"journalctl", "-q", "-o", "json"}, match...)...)
	for line := range strings.Lines(out) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		entries = append(entries, e)
	}
	return entries
}

// tells waits until the journal has an entry whose message matches, among those that the other arguments select.
func (w *world) tells(t *testing.T, message string, match ...string) {
	t.Helper()
	args := append([]string{"journalctl", "-q", "-o", "cat", "--grep", message}, match...)
	eventually(t, "the journal has an entry about "+message, func() error { _, err := w.try(args...); return err })
}

func (m *machine) tail() string {
	out, _ := m.try("journalctl", "-q", "-n", "80", "--no-hostname", "-u", "keyd*", "-u", "*emulator")
	return out
}
