//go:build system

package systemtest

import (
	"regexp"
	"strings"
	"testing"
)

// operator is somebody who logs in, and may act by sudo and, in startRecordsChanges, by uid.
const operator = "anna"

// loginStack opens a session of logind for whoever is to have one, and asks for no password.
const loginStack = `auth required pam_permit.so
account required pam_permit.so
session required pam_systemd.so
`

// loggedIn runs a command as the operator, in a session of logind.
func (w *world) loggedIn(t *testing.T, command string) {
	t.Helper()
	w.run(t, "systemd-run", "--quiet", "--wait", "--pipe", "-p", "PAMName=keyd-test", "-p", "User="+operator,
		"bash", "-euo", "pipefail", "-c", command)
}

// audited requires that the last entry about the key with this event is by the actor.
func (w *world) audited(t *testing.T, event, actor string) {
	t.Helper()
	last := ""
	for line := range strings.Lines(w.run(t, "keyd", "audit", "--key", keyName)) {
		if strings.Contains(line, event) {
			last = line
		}
	}
	if !regexp.MustCompile(`by ` + actor + `\b`).MatchString(last) {
		t.Errorf("the audit of %q should name %s: %q", event, actor, last)
	}
}

func whoIsBehindSudo(t *testing.T, w *world) {
	for property, want := range map[string]string{"ProtectProc": "invisible", "ProcSubset": "pid"} {
		if got := w.unit(t, "keyd", property); got != want {
			t.Fatalf("keyd runs with %s=%s, so this scene shows nothing", property, got)
		}
	}
	w.run(t, "useradd", "-m", "-G", "keyd", operator)
	w.write(t, "/etc/sudoers.d/operator", operator+" ALL=(root) NOPASSWD: /usr/bin/keyd\n", 0o440)
	w.write(t, "/etc/pam.d/keyd-test", loginStack, 0o644)
	w.run(t, "systemctl", "start", "systemd-logind")

	w.loggedIn(t, "sudo -n keyd pause "+keyName+" --reason 'behind sudo'")
	w.audited(t, "key paused", `uid 0 \(root\), login `+operator)
	w.run(t, "keyd", "resume", keyName, "--reason", "without a session")
	w.audited(t, "key resumed", `uid 0 \(root\), login unknown`)
	w.tells(t, "the login behind a control request is unknown", "-u", "keyd")
	w.converged(t)
}

// startRecordsChanges has a change that takes a restart, and that lets somebody act.
func startRecordsChanges(t *testing.T, w *world) {
	w.setConfig(t, secondKey+"control: {operators: ["+operator+"]}\n")
	w.run(t, "systemctl", "restart", "keyd")
	w.converged(t)
	uid := w.run(t, "id", "-u", operator)
	want := `configuration changed  by keyd  control.operators="` + uid + `"  control.operators_before="none"`
	if all := w.run(t, "keyd", "audit"); !strings.Contains(all, want) {
		t.Errorf("the audit has no %s:\n%s", want, all)
	}
	w.loggedIn(t, "keyd pause "+keyName+" --reason 'by an operator'")
	w.audited(t, "key paused", `uid `+uid+` \(`+operator+`\), login `+operator)
	w.loggedIn(t, "keyd resume "+keyName+" --reason 'by an operator'")
	w.setConfig(t, secondKey)
	w.run(t, "systemctl", "restart", "keyd")
	w.converged(t)
	w.shell(t, "loginctl terminate-user "+operator+" || true; userdel --force "+operator+
		"; rm /etc/sudoers.d/operator /etc/pam.d/keyd-test")
}
