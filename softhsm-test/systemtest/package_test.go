//go:build system

package systemtest

import (
	"strings"
	"testing"
)

func upgrade(t *testing.T, w *world) {
	w.shell(t, `cd /srv/test && dpkg-deb -R keyd-hsm.deb next
		sed -i 's/^Version: .*/Version: 99.0-1/' next/DEBIAN/control
		echo '# new in 99.0' >>next/etc/keyd/keyd.yaml
		dpkg-deb -Znone -b next next.deb`)
	keyd, hsm := w.pid(t, "keyd"), w.pid(t, "keyd-hsm")
	w.run(t, "dpkg", "--force-confold", "-i", "/srv/test/next.deb")
	w.restarted(t, "keyd-hsm", hsm)
	w.restarted(t, "keyd", keyd)
	if config := w.run(t, "cat", "/etc/keyd/keyd.yaml"); !strings.Contains(config, "instance: system-test") {
		t.Errorf("the configuration is now:\n%s", config)
	}
	w.rotate(t)
	w.converged(t)
}

// kept are the paths that no removal may touch.
const kept = "/var/lib/keyd/keyd.db /var/lib/keyd-hsm /etc/keyd/hsm-pin.cred"

func removing(t *testing.T, w *world) {
	w.run(t, "systemctl", "enable", "keyd", "keyd-hsm")
	w.run(t, "dpkg", "-r", "keyd-hsm")
	for _, service := range []string{"keyd", "keyd-hsm"} {
		if state, _ := w.try("systemctl", "is-active", service); state != "inactive" && state != "failed" {
			t.Errorf("%s is %s", service, state)
		}
	}
	w.shell(t, "ls -d "+kept+" /etc/keyd/keyd.yaml")
	if _, err := w.try("pgrep", "-x", "keyd"); err == nil {
		t.Error("a keyd still runs")
	}
}

// objects shows what the token holds.
const objects = "find /var/lib/softhsm/tokens -name '*.object' | xargs sha256sum | sort"

func purging(t *testing.T, w *world) {
	before := w.shell(t, objects)
	said := w.run(t, "dpkg", "-P", "keyd-hsm")
	for _, word := range []string{"keys in the HSM", "versions in the vaults", "/var/lib/keyd ", "/var/lib/keyd-hsm",
		"users keyd"} {
		if !strings.Contains(said, word) {
			t.Errorf("it does not say that it leaves %q:\n%s", word, said)
		}
	}
	w.shell(t, "ls -d "+kept)
	w.shell(t, "getent passwd keyd keyd-hsm")
	for _, gone := range []string{"/etc/keyd/keyd.yaml", "/etc/systemd/system/multi-user.target.wants/keyd.service",
		"/usr/bin/keyd"} {
		if _, err := w.try("test", "-e", gone); err == nil {
			t.Errorf("%s is still there", gone)
		}
		if _, err := w.try("test", "-L", gone); err == nil {
			t.Errorf("%s is still there, as a link", gone)
		}
	}
	if after := w.shell(t, objects); after != before || before == "" {
		t.Errorf("the HSM's objects changed:\n%s\nbefore:\n%s", after, before)
	}
	if n := w.versions(t); n != w.generation {
		t.Errorf("the vault holds %d versions, not %d", n, w.generation)
	}
}
