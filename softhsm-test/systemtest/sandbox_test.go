//go:build system

package systemtest

import (
	"fmt"
	"strings"
	"testing"
)

func privileges(t *testing.T, w *world) {
	for _, service := range []string{"keyd", "keyd-hsm"} {
		status := w.run(t, "cat", fmt.Sprintf("/proc/%d/status", w.pid(t, service)))
		for _, want := range []string{"NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Seccomp:\t2"} {
			if !strings.Contains(status, want) {
				t.Errorf("%s has no %q:\n%s", service, want, status)
			}
		}
		if strings.Contains(status, "Uid:\t0") {
			t.Errorf("%s runs as root", service)
		}
		// Even for root, were it there, what the process sees is read-only.
		for _, dir := range []string{"/etc", "/usr/bin", "/srv", "/var/lib", "/var/log", "/opt"} {
			out, err := w.try("nsenter", "-m", "-t", fmt.Sprint(w.pid(t, service)), "--", "touch", dir+"/x")
			if err == nil || !strings.Contains(out, "Read-only file system") {
				t.Errorf("root in %s's view of the system writes to %s: %s", service, dir, out)
			}
		}
	}
}

// attempt is something that a process in a unit's sandbox tries.
type attempt struct {
	name, command string
	works         bool
}

// everywhere is what neither side may do, beside its own state.
func everywhere() []attempt {
	return []attempt{
		{"write to /etc", "touch /etc/keyd/x", false},
		{"write to /usr", "touch /usr/bin/x", false},
		{"write to /srv", "touch /srv/x", false},
		{"leave a file in /tmp", "touch /tmp/from-the-sandbox && test -e /tmp/from-the-sandbox", true}, // in one of its own
		{"read home", "ls /home/someone", false},
		{"read root's home", "ls /root", false},
		{"gain privileges", "su -c true", false},
		{"mount", "mount -t tmpfs none /tmp", false},
		{"make a namespace", "unshare -U true", false},
		{"open a device", "head -c 1 /dev/fuse", false},
		{"change the kernel's settings", "echo 1 >/proc/sys/kernel/panic", false},
		{"see other users' processes", "test -e /proc/1/status", false},
	}
}

func sandboxOfKeyd(t *testing.T, w *world) {
	w.attempts(t, "keyd", append(everywhere(),
		attempt{"write its state", "touch /var/lib/keyd/x && rm /var/lib/keyd/x", true},
		attempt{"write the HSM side's state", "touch /var/lib/keyd-hsm/x", false},
		attempt{"read the HSM side's state", "ls /var/lib/keyd-hsm", false},
		attempt{"read the HSM side's credentials", "ls /run/credentials/keyd-hsm.service", false},
		attempt{"read the token", "ls /var/lib/softhsm/tokens", false},
		attempt{"reach a TCP port", "exec 3<>/dev/tcp/127.0.0.1/8889", true},
	))
}

func sandboxOfHSM(t *testing.T, w *world) {
	w.attempts(t, "keyd-hsm", append(everywhere(),
		attempt{"write its state", "touch /var/lib/keyd-hsm/x && rm /var/lib/keyd-hsm/x", true},
		attempt{"read the daemon's state", "ls /var/lib/keyd", false},
		attempt{"read its credential", "test -s $CREDENTIALS_DIRECTORY/hsm-pin", true},
		attempt{"reach a TCP port", "exec 3<>/dev/tcp/127.0.0.1/8889", false},
	))
}

// attempts makes them all in a service with every setting of the unit and its
// drop-ins, but with a shell in the place of keyd.
func (w *world) attempts(t *testing.T, service string, list []attempt) {
	t.Helper()
	w.run(t, "mkdir", "-p", "/home/someone")
	var script strings.Builder
	for i, a := range list {
		fmt.Fprintf(&script, "if ( %s ) >/dev/null 2>&1; then echo attempt %d works; else echo attempt %d fails; fi\n", a.command, i, i)
	}
	w.write(t, "/srv/test/attempts", script.String(), 0o755)
	w.shell(t, fmt.Sprintf(`cd /etc/systemd/system
		systemctl cat %[1]s.service | sed 's|^ExecStart=.*|ExecStart=/bin/bash /srv/test/attempts|; s|^Type=.*|Type=oneshot|; /^Restart/d; /^WatchdogSec/d; /^RuntimeDirectory/d; /^ExecReload/d' >sandbox-%[1]s.service
		systemctl daemon-reload
		systemctl start sandbox-%[1]s.service`, service))
	said := w.run(t, "journalctl", "-q", "-o", "cat", "-u", "sandbox-"+service+".service")
	for i, a := range list {
		want := map[bool]string{true: "works", false: "fails"}[a.works]
		if !strings.Contains(said, fmt.Sprintf("attempt %d %s", i, want)) {
			t.Errorf("%s: %q (%s) should be one that %s", service, a.name, a.command, want)
		}
	}
	if _, err := w.try("test", "-e", "/tmp/from-the-sandbox"); err == nil {
		t.Errorf("%s: a file of its /tmp is in everybody's", service)
	}
}
