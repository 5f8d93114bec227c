//go:build system

package systemtest

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// warnsOfMembers puts somebody into keyd's groups in each possible way before the installation, and requires that
// installing names each, with a command that fixes it.
func (w *world) warnsOfMembers(t *testing.T, install func() string) {
	t.Helper()
	w.shell(t, `for group in keyd keyd-hsm; do getent group $group >/dev/null || groupadd --system $group; done
		useradd -G keyd member && useradd -g keyd primary && useradd -G keyd-hsm holder`)
	said := install()
	for _, want := range []string{
		"warning: member is in group keyd, .*: gpasswd -d member keyd",
		"warning: primary has the primary group keyd, .*: usermod -g users primary",
		"warning: holder is in group keyd-hsm, .*: gpasswd -d holder keyd-hsm",
	} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("installing does not say %q:\n%s", want, said)
		}
	}
	for _, remedy := range regexp.MustCompile(`If not intended: (.*)`).FindAllStringSubmatch(said, -1) {
		w.shell(t, remedy[1])
	}
	const again = "/usr/libexec/keyd-hsm/warn-of-members"
	if said := w.run(t, again); said != "" {
		t.Errorf("after what it said was done, it says: %s", said)
	}
	w.run(t, "usermod", "-s", "/bin/bash", "keyd-hsm")
	if said := w.run(t, again); !strings.Contains(said, "the user keyd-hsm was there before this package, can log in") {
		t.Errorf("of a user keyd-hsm who can log in it says: %s", said)
	}
	w.shell(t, "usermod -s /usr/sbin/nologin keyd-hsm; for user in member primary holder; do userdel $user; done")
}

// proxyPassword gives keyd the address of a proxy in both ways of the shipped drop-in. In Environment= every user can
// read it, so the test would find what it looks for.
func proxyPassword(t *testing.T, w *world) {
	const shipped = "/usr/share/doc/keyd-hsm/examples/systemd/keyd.service.d/proxy.conf"
	const dropIn = "/etc/systemd/system/keyd.service.d/z-proxy.conf"
	w.run(t, "useradd", "passer-by")
	asItIs := func(password string) string {
		return `HTTPS_PROXY="http://keyd:p%40` + password + `@127.0.0.1:8889"`
	}
	w.write(t, "/etc/keyd/proxy.env", asItIs("in-a-file")+"\n", 0o600)
	w.shell(t, "sed -e '/^Environment=/d' -e 's/^#EnvironmentFile=/EnvironmentFile=/' "+shipped+" >"+dropIn)
	w.restartWithProxy(t, "http://keyd:p%40in-a-file@127.0.0.1:8889")
	if seen := w.seenByOthers(t); strings.Contains(seen, "in-a-file") {
		t.Errorf("another user can read the password of EnvironmentFile=:\n%s", seen)
	}

	w.write(t, dropIn, "[Service]\nEnvironment="+strings.ReplaceAll(asItIs("in-a-unit"), "%", "%%")+"\n", 0o600)
	w.restartWithProxy(t, "http://keyd:p%40in-a-unit@127.0.0.1:8889")
	if seen := w.seenByOthers(t); !strings.Contains(seen, "in-a-unit") {
		t.Error("another user does not see the password of Environment=, so this scene shows nothing")
	}

	w.shell(t, "rm "+dropIn+" /etc/keyd/proxy.env && userdel passer-by && systemctl daemon-reload")
	w.run(t, "systemctl", "restart", "keyd")
	w.converged(t)
}

// restartWithProxy restarts keyd, and requires that it has that proxy and works with it.
func (w *world) restartWithProxy(t *testing.T, proxy string) {
	t.Helper()
	w.run(t, "systemctl", "daemon-reload")
	w.run(t, "systemctl", "restart", "keyd")
	environment := w.shell(t, fmt.Sprintf("tr '\\0' '\\n' </proc/%d/environ", w.pid(t, "keyd")))
	if want := "HTTPS_PROXY=" + proxy; !strings.Contains(environment+"\n", want+"\n") {
		t.Errorf("keyd's environment has no %s:\n%s", want, environment)
	}
	w.rotate(t)
	w.converged(t)
}

// seenByOthers is everything that a user of this machine without a part in keyd can read about its service, and the
// journal's content.
func (w *world) seenByOthers(t *testing.T) string {
	t.Helper()
	pid := w.pid(t, "keyd")
	seen := w.shell(t, "journalctl -q -u keyd")
	for _, command := range []string{
		"systemctl show keyd", "systemctl cat keyd", "systemctl status -n 100 keyd", "systemd-analyze dump", "ps axeww",
		"cat /etc/keyd/proxy.env", "find /etc/systemd/system/keyd.service.d -type f -exec cat {} +",
		fmt.Sprintf("cat /proc/%d/environ", pid), fmt.Sprintf("cat /proc/%d/cmdline", pid),
	} {
		out, _ := w.try("runuser", "-u", "passer-by", "--", "sh", "-c", command)
		if command == "systemctl show keyd" && !strings.Contains(out, "MainPID="+fmt.Sprint(pid)) {
			t.Fatalf("another user cannot ask systemd at all: %s", out)
		}
		seen += out
	}
	return seen
}
