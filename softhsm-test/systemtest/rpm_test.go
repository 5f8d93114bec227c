//go:build system

package systemtest

import (
	"strings"
	"testing"
)

// rpm runs it on a machine that has no other package of its kind.
func (w *world) rpm(t *testing.T, args ...string) string {
	t.Helper()
	return w.run(t, append([]string{"rpm", "--force-debian", "--nodeps"}, args...)...)
}

func rpmInstalled(t *testing.T, w *world) {
	w.copyIn(t, *rpmFile, "/srv/test/keyd-hsm.rpm", 0o644)
	w.run(t, "rpm", "--initdb")
	w.shell(t, "userdel keyd && userdel keyd-hsm") // which a purge of the .deb leaves
	w.rpm(t, "-i", "/srv/test/keyd-hsm.rpm")
	w.run(t, "getent", "passwd", "keyd", "keyd-hsm")
	w.installedInert(t)
	if said, err := w.try("keyd", "run", "--config", "/etc/keyd/keyd.yaml"); err == nil || !strings.Contains(said, "/etc/keyd/keyd.yaml") {
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
		if _, err := w.try("test", "-L", "/etc/systemd/system/multi-user.target.wants/"+service+".service"); err == nil {
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
