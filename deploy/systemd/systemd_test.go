// Package systemd_test checks the shipped units with systemd's own tools. Its rule: the tools decide, and a missing
// tool is a failure.
package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exposureLimit is in tenths, as systemd-analyze takes it: 1.5.
const exposureLimit = "15"

// units are keyd's own, and the emulator's, which stands in for Azure.
func units() []string { return []string{"keyd.service", "keyd-hsm.service"} }

const emulator = "keyvault-emulator.service"

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// values returns a unit's values of a setting, in order.
func values(unit, setting string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^`+setting+`=(.*)$`).FindAllStringSubmatch(unit, -1) {
		out = append(out, m[1])
	}
	return out
}

// install copies all units, with the named drop-ins, to a directory of their own. verify requires that the programs
// exist, so each becomes the test binary.
func install(t *testing.T, dropIns ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range append(append(units(), emulator), dropIns...) {
		text := read(t, name)
		target := filepath.Join(dir, strings.TrimPrefix(name, "examples/"))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		text = strings.NewReplacer("/usr/bin/keyd ", self+" ", "/usr/bin/keyvault-emulator ", self+" ").Replace(text)
		if err := os.WriteFile(target, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func analyze(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func examples(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("examples/*.service.d/*.conf")
	if err != nil || len(found) == 0 {
		t.Fatalf("no example drop-ins: %v", err)
	}
	return found
}

// systemd-analyze verify exits 0 after a warning, so any output is a failure.
func TestVerifyIsSilent(t *testing.T) {
	cases := map[string][]string{"as shipped": nil}
	for _, example := range examples(t) {
		cases["with "+filepath.Base(example)] = []string{example}
	}
	for name, dropIns := range cases {
		t.Run(name, func(t *testing.T) {
			dir := install(t, dropIns...)
			for _, unit := range append(units(), emulator) {
				if out := analyze(t, "verify", "--man=no", filepath.Join(dir, unit)); out != "" {
					t.Errorf("%s: %s", unit, out)
				}
			}
		})
	}
}

// choices removes the comment signs from a drop-in's settings.
func choices(text string) string {
	return regexp.MustCompile(`(?m)^#([A-Z][A-Za-z]+=)`).ReplaceAllString(text, "$1")
}

func TestSystemdAcceptsEveryOptionOfTheDropIns(t *testing.T) {
	taken := 0
	for _, example := range examples(t) {
		text := read(t, example)
		if choices(text) == text {
			continue
		}
		taken++
		dir := install(t, example)
		name := strings.TrimPrefix(example, "examples/")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(choices(text)), 0o644); err != nil {
			t.Fatal(err)
		}
		out := analyze(t, "verify", "--man=no", filepath.Join(dir, strings.TrimSuffix(filepath.Dir(name), ".d")))
		if out != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
	if taken == 0 {
		t.Error("no drop-in offers anything")
	}
}

// USB and PCIe need different lines, and both need a user who may open the device.
func TestTheDropInForDevicesIsForBothKinds(t *testing.T) {
	text := read(t, "examples/keyd-hsm.service.d/device-hsm.conf")
	allowed := values(choices(text), "DeviceAllow")
	if len(allowed) != 2 || allowed[0] != "char-usb_device rw" || !strings.HasPrefix(allowed[1], "/dev/") {
		t.Errorf("it allows %v, want USB's devices and, as a comment, a node", allowed)
	}
	if got := values(choices(text), "SupplementaryGroups"); len(got) != 1 {
		t.Errorf("it offers the groups %v", got)
	}
	for _, rule := range []string{`SUBSYSTEM=="usb"`, `KERNEL==`} {
		if !regexp.MustCompile(`(?m)^#   ` + rule + `.*GROUP="keyd-hsm", MODE="0660"$`).MatchString(text) {
			t.Errorf("it has no udev rule with %s", rule)
		}
	}
}

func TestVerifyReportsAMistake(t *testing.T) {
	dir := install(t)
	path := filepath.Join(dir, "keyd.service")
	text := strings.Replace(read(t, path), "UMask=0077", "UMaks=0077", 1)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := analyze(t, "verify", "--man=no", path); !strings.Contains(out, "UMaks") {
		t.Errorf("an unknown setting passed: %q", out)
	}
}

func TestExposureIsLow(t *testing.T) {
	cases := map[string][]string{"as shipped": nil}
	for _, example := range examples(t) {
		cases["with "+filepath.Base(example)] = []string{example}
	}
	for name, dropIns := range cases {
		t.Run(name, func(t *testing.T) {
			dir := install(t, dropIns...)
			for _, unit := range append(units(), emulator) {
				analyze(t, "security", "--no-pager", "--offline=true", "--threshold="+exposureLimit,
					filepath.Join(dir, unit))
			}
		})
	}
}

func TestOnlyTheHSMSideGetsThePIN(t *testing.T) {
	if got := values(read(t, "keyd-hsm.service"), "LoadCredential"); !slices.Equal(got,
		[]string{"hsm-pin:/etc/keyd/hsm-pin"}) {
		t.Errorf("keyd-hsm.service loads the credentials %v", got)
	}
	if got := values(read(t, "keyd.service"), `(?:Load|Set)Credential\w*`); got != nil {
		t.Errorf("keyd.service loads the credentials %v, want none", got)
	}
}

func TestEachSideHasItsOwnUserAndState(t *testing.T) {
	sysusers := read(t, "sysusers.d/keyd.conf")
	for _, unit := range units() {
		text, name := read(t, unit), strings.TrimSuffix(unit, ".service")
		for _, setting := range []string{"User", "Group", "StateDirectory", "RuntimeDirectory"} {
			if got := values(text, setting); !slices.Equal(got, []string{name}) {
				t.Errorf("%s: %s=%v, want %s", unit, setting, got, name)
			}
		}
		if got := values(text, "StateDirectoryMode"); !slices.Equal(got, []string{"0700"}) {
			t.Errorf("%s: StateDirectoryMode=%v, want 0700", unit, got)
		}
		if !regexp.MustCompile(`(?m)^u ` + name + ` `).MatchString(sysusers) {
			t.Errorf("sysusers.d/keyd.conf makes no user %s", name)
		}
	}
}

// The daemon relies on these settings, and no exposure figure shows them.
func TestSettingsThatTheDaemonReliesOn(t *testing.T) {
	for _, unit := range units() {
		text := read(t, unit)
		watchdog := "60"
		if strings.Contains(unit, "hsm") {
			watchdog = "6min"
		}
		for setting, want := range map[string]string{
			"Type":                     "notify",
			"WatchdogSec":              watchdog,
			"Restart":                  "always",
			"StartLimitIntervalSec":    "0",
			"RestartPreventExitStatus": "2",
			"LimitCORE":                "0",
			// otherwise a crash would have the exit code of a wrong configuration
			"Environment": "GOTRACEBACK=crash",
		} {
			if got := values(text, setting); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s=%v, want %s", unit, setting, got, want)
			}
		}
		if got := values(text, "PrivateUsers"); got != nil {
			t.Errorf("%s: PrivateUsers=%v hides the uid of who is at the socket", unit, got)
		}
	}
	if got := values(read(t, "keyd-hsm.service"), "PrivateNetwork"); !slices.Equal(got, []string{"yes"}) {
		t.Errorf("keyd-hsm.service: PrivateNetwork=%v, want yes", got)
	}
}

// The emulator may not do these things, whatever its exposure figure.
func TestTheEmulatorReachesOnlyLoopback(t *testing.T) {
	text := read(t, emulator)
	for setting, want := range map[string]string{
		"IPAddressDeny": "any", "IPAddressAllow": "localhost",
		"User": "keyvault-emulator", "StateDirectory": "keyvault-emulator",
	} {
		if got := values(text, setting); !slices.Equal(got, []string{want}) {
			t.Errorf("%s=%v, want %s", setting, got, want)
		}
	}
}

// The example for a password keeps it out of Environment=, which everybody can read.
func TestTheDropInForAProxyOffersAFileForItsPassword(t *testing.T) {
	text := read(t, "examples/keyd.service.d/proxy.conf")
	if got := values(choices(text), "EnvironmentFile"); !slices.Equal(got, []string{"/etc/keyd/proxy.env"}) {
		t.Errorf("it offers the files %v", got)
	}
	for _, environment := range values(choices(text), "Environment") {
		if strings.Contains(environment, "@") {
			t.Errorf("it has a password in Environment=%s", environment)
		}
	}
}

func TestSysusersIsAccepted(t *testing.T) {
	path, err := filepath.Abs("sysusers.d")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, dir := range []string{"etc", "run"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "systemd-sysusers", "--dry-run", "--root="+root,
		filepath.Join(path, "keyd.conf"), filepath.Join(path, "keyvault-emulator.conf")).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	for _, user := range []string{"keyd", "keyd-hsm", "keyvault-emulator"} {
		if !strings.Contains(string(out), "'"+user+"'") {
			t.Errorf("it would not make the user %s:\n%s", user, out)
		}
	}
}
