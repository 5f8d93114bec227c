//go:build system

package systemtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func installingStartsNothing(t *testing.T, w *world) {
	w.warnsOfMembers(t, func() string { return w.run(t, "dpkg", "-i", "/srv/test/keyd-hsm.deb") })
	w.installedInert(t)
}

// installedInert requires that neither side runs or is enabled.
func (w *world) installedInert(t *testing.T) {
	t.Helper()
	for _, service := range []string{"keyd", "keyd-hsm"} {
		if active := w.unit(t, service, "ActiveState"); active != "inactive" {
			t.Errorf("%s is %s", service, active)
		}
		if enabled, _ := w.try("systemctl", "is-enabled", service); enabled != "disabled" {
			t.Errorf("%s is %s", service, enabled)
		}
	}
}

func inertAsInstalled(t *testing.T, w *world) {
	if _, err := w.try("systemctl", "start", "keyd"); err == nil {
		t.Error("keyd starts without a configuration")
	}
	if code, state := w.number(t, "keyd", "ExecMainStatus"), w.unit(t, "keyd", "ActiveState"); code != 2 ||
		state != "failed" {
		t.Errorf("keyd ended with %d and is %s", code, state)
	}
	if n := w.number(t, "keyd", "NRestarts"); n != 0 {
		t.Errorf("keyd was restarted %d times", n)
	}
	w.run(t, "systemctl", "stop", "keyd", "keyd-hsm")
	w.run(t, "systemctl", "reset-failed")
}

func hsmStartsWithEncryptedPIN(t *testing.T, w *world) {
	w.configure(t)
	w.run(t, "systemctl", "start", "keyd-hsm")
	if _, err := w.try("test", "-e", "/etc/keyd/hsm-pin"); err == nil {
		t.Error("the PIN is on the disk in clear")
	}
	if sealed := w.run(t, "cat", "/etc/keyd/hsm-pin.cred"); strings.Contains(sealed, pin) {
		t.Error("the credential holds the PIN in clear")
	}
	if n := w.called(t, "C_Login"); n != 1 {
		t.Errorf("it logged in %d times", n)
	}
}

func activeAfterTheFirstLook(t *testing.T, w *world) {
	w.azure(t, "hold")
	w.run(t, "systemctl", "start", "--no-block", "keyd")
	w.statusHas(t, "keyd", "looking at every vault for the first time")
	w.held(t, "the first look")
	if state := w.unit(t, "keyd", "ActiveState"); state != "activating" {
		t.Errorf("during the first look it is %s", state)
	}
	w.azure(t, "")
	eventually(t, "keyd is active", func() error {
		if state := w.unit(t, "keyd", "ActiveState"); state != "active" {
			return errors.New(state)
		}
		return nil
	})
	looked := false
	for _, r := range w.vault(t).Requests {
		looked = looked || r.Operation != "connect" && r.Status < 500 && r.Status != 401
	}
	if !looked {
		t.Error("it is active, and the vault has answered nothing")
	}
}

func statusText(t *testing.T, w *world) {
	w.generation = 1
	w.converged(t)
	w.statusHas(t, "keyd", "1 key, all well")
	text := w.run(t, "systemctl", "status", "keyd", "keyd-hsm")
	if !strings.Contains(text, `Status: "1 key, all well"`) || !strings.Contains(text, `Status: "serving token keyd"`) {
		t.Errorf("systemctl status shows:\n%s", text)
	}
}

func converges(t *testing.T, w *world) {
	w.converged(t)
	w.run(t, "keyd", "audit", "--verify")
	out, err := w.try("keyd", "check")
	if err != nil {
		t.Error(err)
	}
	if !strings.Contains(out, keyName) && !strings.Contains(out, vaultName) {
		t.Errorf("keyd check shows:\n%s", out)
	}
}

func journalFields(t *testing.T, w *world) {
	imported := w.journal(t, "-u", "keyd", "KEY="+keyName, "STEP=import", "VAULT="+vaultName)
	if len(imported) == 0 {
		t.Fatal("no entry has KEY=, STEP=import and VAULT=")
	}
	e := imported[0]
	if e["PRIORITY"] != "6" || e["GENERATION"] != "1" || !strings.HasPrefix(fmt.Sprint(e["MESSAGE"]), "step done ") {
		t.Errorf("the import's entry is %v", e)
	}
	if e["_SYSTEMD_UNIT"] != "keyd.service" || e["_TRANSPORT"] != "journal" {
		t.Errorf("the import's entry came by %v of %v", e["_TRANSPORT"], e["_SYSTEMD_UNIT"])
	}
	w.azure(t, "op=unwrap,status=403,inner=ForbiddenByRbac")
	w.tells(t, "ForbiddenByRbac", "-u", "keyd", "-p", "warning..warning", "KEY="+keyName, "VAULT="+vaultName)
	w.azure(t, "")
	w.converged(t)
}

func killedKeyd(t *testing.T, w *world) {
	hsm, before := w.pid(t, "keyd-hsm"), w.pid(t, "keyd")
	w.inMidRotation(t)
	w.signal(t, "keyd", "KILL")
	w.restarted(t, "keyd", before)
	w.azure(t, "")
	w.converged(t)
	if now := w.pid(t, "keyd-hsm"); now != hsm {
		t.Errorf("the HSM side was restarted too: %d, %d", hsm, now)
	}
}

func killedHSM(t *testing.T, w *world) {
	keyd, before := w.pid(t, "keyd"), w.pid(t, "keyd-hsm")
	w.inMidRotation(t)
	w.signal(t, "keyd-hsm", "KILL")
	w.restarted(t, "keyd-hsm", before)
	w.azure(t, "")
	w.converged(t)
	w.keydKept(t, keyd)
}

// keydKept requires that keyd was not restarted.
func (w *world) keydKept(t *testing.T, before int) {
	t.Helper()
	if now := w.pid(t, "keyd"); now != before {
		t.Errorf("keyd was restarted too: %d, %d", before, now)
	}
}

func stoppedKeyd(t *testing.T, w *world) { w.stopped(t, "keyd") }
func stoppedHSM(t *testing.T, w *world)  { w.stopped(t, "keyd-hsm") }
func (w *world) stopped(t *testing.T, service string) {
	keyd, before := w.pid(t, "keyd"), w.pid(t, service)
	began := time.Now()
	w.signal(t, service, "STOP")
	w.restarted(t, service, before)
	if took := time.Since(began); took > watchdog+30*time.Second {
		t.Errorf("it took %v", took)
	}
	w.tells(t, "Watchdog timeout", "UNIT="+service+".service")
	if service != "keyd" {
		w.keydKept(t, keyd)
	}
	w.rotate(t)
	w.converged(t)
}

func hungCall(t *testing.T, w *world) {
	w.faultOf(t, "before hang", "did not return within 8s")
}

func segfault(t *testing.T, w *world) {
	w.faultOf(t, "before segv", "SIGSEGV")
}

// faultOf makes the next decryption in the HSM go wrong, and requires that only the HSM side is restarted, and that
// its log says why.
func (w *world) faultOf(t *testing.T, action, why string) {
	t.Helper()
	keyd, before := w.pid(t, "keyd"), w.pid(t, "keyd-hsm")
	w.misbehave(t, fmt.Sprintf("C_Decrypt %d %s", w.called(t, "C_Decrypt")+1, action))
	w.restarted(t, "keyd-hsm", before)
	w.misbehave(t)
	w.rotate(t)
	w.converged(t)
	w.keydKept(t, keyd)
	w.tells(t, why, "-u", "keyd-hsm")
}

func azureUnreachable(t *testing.T, w *world) {
	w.run(t, "systemctl", "enable", "keyd", "keyd-hsm")
	w.faultsAtBoot(t, "op=connect,drop=before", "op=token,drop=before")
	// systemd does not give up a start that takes longer than this while keyd is still looking.
	const start = "/etc/systemd/system/keyd.service.d/start.conf"
	w.write(t, start, "[Service]\nTimeoutStartSec=5s\n", 0o644)
	w.reboot(t)
	w.faultsAtBoot(t)
	w.shell(t, "rm "+start+" && systemctl daemon-reload")
	if state := w.unit(t, "keyd", "ActiveState"); state != "active" {
		t.Errorf("the machine has booted, and keyd is %s", state)
	}
	before := w.pid(t, "keyd")
	w.statusHas(t, "keyd", "problem")
	if _, err := w.try("keyd", "check"); err == nil {
		t.Error("keyd check passes without Azure")
	}
	for _, service := range []string{"keyd", "keyd-hsm"} {
		if n := w.number(t, service, "NRestarts"); n != 0 {
			t.Errorf("%s was restarted %d times", service, n)
		}
	}
	w.azure(t, "")
	w.rotate(t)
	w.converged(t)
	w.keydKept(t, before)
	w.statusHas(t, "keyd", "all well")
}

func wrongPIN(t *testing.T, w *world) {
	keyd, logins := w.pid(t, "keyd"), w.called(t, "C_Login")
	w.setPIN(t, "000000")
	w.run(t, "systemctl", "restart", "keyd-hsm")
	w.statusHas(t, "keyd", "PIN")
	for range 2 {
		before := w.pid(t, "keyd-hsm")
		w.signal(t, "keyd-hsm", "KILL")
		w.restarted(t, "keyd-hsm", before)
	}
	w.run(t, "systemctl", "restart", "keyd-hsm")
	if _, err := w.try("keyd", "check"); err == nil {
		t.Error("keyd check passes with a wrong PIN")
	}
	if n := w.called(t, "C_Login") - logins; n != 1 {
		t.Errorf("the wrong PIN was tried %d times over 4 starts", n)
	}
	if state := w.unit(t, "keyd-hsm", "ActiveState"); state != "active" {
		t.Errorf("keyd-hsm is %s", state)
	}
	w.setPIN(t, pin)
	w.run(t, "systemctl", "restart", "keyd-hsm")
	w.rotate(t)
	w.converged(t)
	if n := w.called(t, "C_Login") - logins; n != 2 {
		t.Errorf("%d logins, one with the wrong PIN and one with the right one are 2", n)
	}
	w.keydKept(t, keyd)
}

func stopInMidRotation(t *testing.T, w *world) {
	w.inMidRotation(t)
	began := time.Now()
	w.run(t, "systemctl", "stop", "--no-block", "keyd")
	isNot := func(state string) func() error {
		return func() error {
			if w.unit(t, "keyd", "ActiveState") == state {
				return errors.New("keyd is " + state)
			}
			return nil
		}
	}
	eventually(t, "the stop has begun", isNot("active"))
	w.azure(t, "")
	eventually(t, "the stop has ended", isNot("deactivating"))
	if took := time.Since(began); took > 90*time.Second {
		t.Errorf("it took %v", took)
	}
	if result := w.unit(t, "keyd", "Result"); result != "success" {
		t.Errorf("it ended with %s", result)
	}
	finished := []string{"journalctl", "-q", "-u", "keyd", "STEP=finish", fmt.Sprintf("GENERATION=%d", w.generation)}
	if out, _ := w.try(finished...); out != "" {
		t.Errorf("the rotation was over before the stop: %s", out)
	}
	w.run(t, "systemctl", "start", "keyd")
	w.converged(t)
}
