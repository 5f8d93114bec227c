//go:build system

package systemtest

import (
	"strings"
	"testing"
)

// rpm installs the .rpm on a machine that has no other package of its kind.
func (w *world) rpm(t *testing.T, args ...string) string {
	t.Helper()
	return w.run(t, append([]string{"rpm", "--force-debian", "--nodeps"}, args...)...)
}

func rpmInstalled(t *testing.T, w *world) {
	w.copyIn(t, *rpmFile, "/srv/test/keyd-hsm.rpm", 0o644)
	w.run(t, "rpm", "--initdb")
	w.shell(t, "userdel keyd && userdel keyd-hsm") // which a purge of the .deb leaves behind
	w.warnsOfMembers(t, func() string { return w.rpm(t, "-i", "/srv/test/keyd-hsm.rpm") })
	w.run(t, "getent", "passwd", "keyd", "keyd-hsm")
	w.installedInert(t)
	if said, err := w.try("keyd", "run", "--config", "/etc/keyd/keyd.yaml"); err == nil ||
		!strings.Contains(said, "/etc/keyd/keyd.yaml") {
		t.Errorf("the configuration as installed is not refused: %s", said)
	}
	w.shell(t, "chown -R keyd: /var/lib/keyd && chown -R keyd-hsm: /var/lib/keyd-hsm")
	w.setConfig(t, secondKey)
	w.run(t, "systemctl", "start", "keyd-hsm", "keyd")
	w.rotate(t)
	w.converged(t)
}

func rpmUpgraded(t *testing.T, w *world) {
	w.copyIn(t, *nextRPM, "/srv/test/next.rpm", 0o644)
	keyd, hsm := w.pid(t, "keyd"), w.pid(t, "keyd-hsm")
	w.rpm(t, "-U", "/srv/test/next.rpm")
	w.restarted(t, "keyd-hsm", hsm)
	w.restarted(t, "keyd", keyd)
	if config := w.run(t, "cat", "/etc/keyd/keyd.yaml"); !strings.Contains(config, "instance: system-test") {
		t.Errorf("the configuration is now:\n%s", config)
	}
	w.run(t, "grep", "-x", "# new in 99.0", "/etc/keyd/keyd.yaml.rpmnew")
	w.rotate(t)
	w.converged(t)
}

func rpmErased(t *testing.T, w *world) {
	w.run(t, "systemctl", "enable", "keyd", "keyd-hsm")
	before := w.shell(t, objects)
	said := w.rpm(t, "-e", "keyd-hsm")
	for _, word := range []string{"keys in the HSM", "versions in the vaults", "/var/lib/keyd ", "/var/lib/keyd-hsm"} {
		if !strings.Contains(said, word) {
			t.Errorf("it does not say that it leaves %q:\n%s", word, said)
		}
	}
	if _, err := w.try("pgrep", "-x", "keyd"); err == nil {
		t.Error("a keyd still runs")
	}
	w.shell(t, "ls -d "+kept+" /etc/keyd/keyd.yaml.rpmsave")
	w.run(t, "getent", "passwd", "keyd", "keyd-hsm")
	for _, service := range []string{"keyd", "keyd-hsm"} {
		_, err := w.try("test", "-L", "/etc/systemd/system/multi-user.target.wants/"+service+".service")
		if err == nil {
			t.Errorf("%s is still enabled", service)
		}
	}
	if after := w.shell(t, objects); after != before || before == "" {
		t.Errorf("the HSM's objects changed:\n%s\nbefore:\n%s", after, before)
	}
	if n := w.versions(t); n != w.generation {
		t.Errorf("the vault holds %d versions, not %d", n, w.generation)
	}
}

func rpmOfTheEmulator(t *testing.T, w *world) {
	const unit, authority = "keyvault-emulator", "/var/lib/keyvault-emulator/ca.pem"
	w.copyIn(t, *emulatorRPM, "/srv/test/keyvault-emulator.rpm", 0o644)
	if said := w.rpm(t, "-i", "/srv/test/keyvault-emulator.rpm"); !strings.Contains(said, "for trying out only") {
		t.Errorf("installing it says only: %s", said)
	}
	if state := w.unit(t, unit, "ActiveState"); state != "inactive" {
		t.Errorf("it is %s", state)
	}
	const elsewhere = "s/^MORE=.*/MORE='--proxy 127.0.0.1:8899'/" // the other emulator uses 8889
	w.run(t, "sed", "-i", elsewhere, "/etc/default/keyvault-emulator")
	w.run(t, "systemctl", "enable", "--now", unit)
	status := w.run(t, "runuser", "-u", "nobody", "--", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}",
		"--proxy", "http://127.0.0.1:8899", "--cacert", authority, "https://"+vaultHost+"/keys?api-version=7.4")
	if status != "401" {
		t.Errorf("a call without a token is answered with %s", status)
	}
	before := w.shell(t, "cat "+authority)
	w.run(t, "systemctl", "restart", unit)
	if after := w.shell(t, "cat "+authority); after != before {
		t.Error("a restart changes its authority")
	}
	for _, private := range []string{"keys", "authority"} {
		if _, err := w.try("runuser", "-u", "nobody", "--", "cat", "/var/lib/keyvault-emulator/"+private); err == nil {
			t.Errorf("everybody can read its file %s", private)
		}
	}
	w.rpm(t, "-e", unit)
	w.shell(t,
		"test -s "+authority+" && ! test -e /usr/bin/keyvault-emulator && ! pgrep -f ^/usr/bin/keyvault-emulator")
}
