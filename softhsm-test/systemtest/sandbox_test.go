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
		for _, want := range []string{"NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
			"Seccomp:\t2"} {
			if !strings.Contains(status, want) {
				t.Errorf("%s has no %q:\n%s", service, want, status)
			}
		}
		if strings.Contains(status, "Uid:\t0") {
			t.Errorf("%s runs as root", service)
		}
		// Even if root were there, the process could only read what it sees.
		for _, dir := range []string{"/etc", "/usr/bin", "/srv", "/var/lib", "/var/log", "/opt"} {
			out, err := w.try("nsenter", "-m", "-t", fmt.Sprint(w.pid(t, service)), "--", "touch", dir+"/x")
			if err == nil || !strings.Contains(out, "Read-only file system") {
				t.Errorf("root in %s's view of the system writes to %s: %s", service, dir, out)
			}
		}
	}
}

// attempt is something that a process in a unit's sandbox tries. If it fails there, it must succeed outside, for root
// or the unit's user; otherwise the failure would show nothing.
type attempt struct {
	name, command string
	works         bool
}

// everywhere is what neither side may do, except to its own state.
func everywhere() []attempt {
	return []attempt{
		{"write to /etc", "touch /etc/keyd/x && rm /etc/keyd/x", false},
		{"write to /usr", "touch /usr/bin/x && rm /usr/bin/x", false},
		{"write to /srv", "touch /srv/x && rm /srv/x", false},
		// in one of its own
		{"leave a file in /tmp", "touch /tmp/from-the-sandbox && test -e /tmp/from-the-sandbox", true},
		{"read home", "ls /home/someone", false},
		{"read root's home", "ls /root", false},
		{"become root by a set-user-ID program", "[ $(id -u) != 0 ] && [ $(" + asRoot + " -u) = 0 ]", false},
		{"mount", "mount -t tmpfs none /mnt && umount /mnt", false},
		{"make a namespace", "unshare -U true", false},
		{"open a device", ": <" + device, false},
		{"change the kernel's settings", "f=/proc/sys/net/ipv4/ip_forward; v=$(cat $f) && echo $v >$f", false},
		{"see other users' processes", "test -e /proc/1/status", false},
	}
}

// asRoot is a copy of id with the set-user-ID bit: it prints the user as whom it runs.
const asRoot = "/srv/test/id-as-root"

// device stands in for an HSM's device: root and a group may open it.
const device = "/dev/hsm0"

func sandboxOfKeyd(t *testing.T, w *world) {
	w.attempts(t, "keyd", "", append(everywhere(),
		attempt{"write its state", "touch /var/lib/keyd/x && rm /var/lib/keyd/x", true},
		attempt{"write the HSM side's state", "touch /var/lib/keyd-hsm/x && rm /var/lib/keyd-hsm/x", false},
		attempt{"read the HSM side's state", "ls /var/lib/keyd-hsm", false},
		attempt{"read the HSM side's credentials", "ls /run/credentials/keyd-hsm.service", false},
		attempt{"read the token", "ls /var/lib/softhsm/tokens", false},
		attempt{"reach a TCP port", "exec 3<>/dev/tcp/127.0.0.1/8889", true},
	))
}

func sandboxOfHSM(t *testing.T, w *world) {
	w.attempts(t, "keyd-hsm", "", append(everywhere(),
		attempt{"write its state", "touch /var/lib/keyd-hsm/x && rm /var/lib/keyd-hsm/x", true},
		attempt{"read the daemon's state", "ls /var/lib/keyd", false},
		attempt{"read its credential", "test -s $CREDENTIALS_DIRECTORY/hsm-pin", true},
		attempt{"reach a TCP port", "exec 3<>/dev/tcp/127.0.0.1/8889", false},
	))
}

// dropInForDevices tries the shipped drop-in as an operator edits it: first without the group that may open the
// device. (The container's kernel may not enforce DeviceAllow=, so the test does not show that no other device
// opens.)
func dropInForDevices(t *testing.T, w *world) {
	const shipped = "/usr/share/doc/keyd-hsm/examples/systemd/keyd-hsm.service.d/device-hsm.conf"
	named := w.run(t, "sed", "s|^#DeviceAllow=/dev/.* rw|DeviceAllow="+device+" rw|", shipped)
	grouped := strings.Replace(named, "#SupplementaryGroups=", "SupplementaryGroups=", 1)
	opens := attempt{"open its device", ": <>" + device, false}
	w.attempts(t, "keyd-hsm", named, []attempt{opens})
	opens.works = true
	w.attempts(t, "keyd-hsm", grouped, []attempt{opens})
}

// attempts makes all attempts in a service with every setting of the unit and its drop-ins, and one more setting, but
// with a shell in place of keyd.
func (w *world) attempts(t *testing.T, service, dropIn string, list []attempt) {
	t.Helper()
	w.shell(t, "mkdir -p /home/someone && install -m 4755 /usr/bin/id "+asRoot+" && groupadd -f hsmusers")
	w.shell(t, fmt.Sprintf("rm -f %[1]s && mknod -m 0660 %[1]s c 1 3 && chgrp hsmusers %[1]s", device))
	var script strings.Builder
	for i, a := range list {
		fmt.Fprintf(&script, "if ( %s ) >/dev/null 2>&1; then echo attempt %d works; else echo attempt %d fails; fi\n",
			a.command, i, i)
	}
	w.write(t, "/srv/test/attempts", script.String(), 0o755)
	w.write(t, "/srv/test/drop-in", dropIn, 0o644)
	w.sandboxes++
	unit := fmt.Sprintf("sandbox-%d.service", w.sandboxes)
	w.shell(t, fmt.Sprintf(`cd /etc/systemd/system
		(systemctl cat %[1]s.service && cat /srv/test/drop-in) |
			sed 's|^ExecStart=.*|ExecStart=/bin/bash /srv/test/attempts|; s|^Type=.*|Type=oneshot|
				/^Restart/d; /^WatchdogSec/d; /^RuntimeDirectory/d; /^ExecReload/d' >%[2]s
		systemctl daemon-reload
		systemctl start %[2]s`, service, unit))
	inside := w.run(t, "journalctl", "-q", "-o", "cat", "-u", unit) + "\n"
	if _, err := w.try("test", "-e", "/tmp/from-the-sandbox"); err == nil {
		t.Errorf("%s: a file of its /tmp is in everybody's", service)
	}
	outside := w.run(t, "bash", "/srv/test/attempts") + "\n" +
		w.run(t, "runuser", "-u", service, "--", "bash", "/srv/test/attempts") + "\n"
	w.run(t, "rm", "-f", "/tmp/from-the-sandbox")
	for i, a := range list {
		want := map[bool]string{true: "works", false: "fails"}[a.works]
		if !strings.Contains(inside, fmt.Sprintf("attempt %d %s\n", i, want)) {
			t.Errorf("%s: %q (%s) should be one that %s", service, a.name, a.command, want)
		}
		if !a.works && !strings.Contains(outside, fmt.Sprintf("attempt %d works\n", i)) {
			t.Errorf("%s: %q (%s) fails outside of the sandbox too, so it shows nothing", service, a.name, a.command)
		}
	}
}
