package e2e_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
)

// check runs `keyd check --json`. Every line that is not ok must say why and what to
// do.
func (w *world) check() (lines []status.Check, code int) {
	w.t.Helper()
	a := w.cli("check", "--json")
	var answer status.Checked
	if err := json.Unmarshal([]byte(a.stdout), &answer); err != nil {
		w.t.Fatalf("keyd check --json: %v: %s%s", err, a.stdout, a.stderr)
	}
	lines = answer.Checks
	for _, l := range lines {
		if l.Result != status.CheckOK && (l.Detail == "" || l.Remedy == "" && l.Result != status.CheckSkipped) {
			w.t.Errorf("a line lacks its reason or its remedy: %+v", l)
		}
	}
	return lines, a.code
}

// find returns the one line of a check.
func (w *world) find(lines []status.Check, area, subject, name string) status.Check {
	w.t.Helper()
	i := slices.IndexFunc(lines,
		func(l status.Check) bool { return l.Area == area && l.Subject == subject && l.Name == name })
	if i < 0 {
		w.t.Fatalf("no line %s, %s, %s in %+v", area, subject, name, lines)
	}
	return lines[i]
}

func (w *world) wantLine(lines []status.Check, area, subject, name string, result status.CheckResult, parts ...string) {
	w.t.Helper()
	l := w.find(lines, area, subject, name)
	if l.Result != result {
		w.t.Errorf("%s, %s, %s is %s, want %s: %s", area, subject, name, l.Result, result, l.Detail)
	}
	w.wantContains(l.Detail+" → "+l.Remedy, parts...)
}

// wantUnchanged requires that a check changed nothing: the vault's content is the same,
// and each call that could have changed something named a key that does not exist.
func (w *world) wantUnchanged() {
	w.t.Helper()
	w.wantUntouched()
	changes := []string{"create", "import", "update", "delete", "purge", "recover", "rotate"}
	tried := 0
	for _, r := range w.emu.Requests() {
		if strings.HasPrefix(r.Key, "keyd-check-") && slices.Contains(changes, r.Operation) {
			tried++
			if r.Status < 400 {
				w.t.Errorf("%s %s was answered with %d", r.Method, r.Path, r.Status)
			}
		}
		if slices.Contains([]string{"delete", "purge", "recover", "rotate"}, r.Operation) &&
			!strings.HasPrefix(r.Key, "keyd-check-") {
			w.t.Errorf("%s %s is about a key that may be there", r.Method, r.Path)
		}
	}
	if tried == 0 {
		w.t.Error("no right to change anything was tried")
	}
	if keys := w.vault["weu"].Keys(); !slices.Equal(keys, []string{"keyd-kek", keyName}) {
		w.t.Errorf("the vault holds %v", keys)
	}
}

func TestACheckTriesEverythingAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	lines, code := w.check()
	if code != 0 {
		t.Errorf("exit code %d: %+v", code, lines)
	}
	token := w.token.Label
	w.wantLine(lines, "hsm", token, "module", status.CheckOK, w.token.Module)
	w.wantLine(lines, "hsm", token, "mechanism to wrap", status.CheckOK, "CKM_")
	w.wantLine(lines, "hsm", token, "mechanism to open", status.CheckOK, "CKM_")
	w.wantLine(lines, "hsm", token, "PIN", status.CheckOK, "accepted")
	w.wantLine(lines, "clock", "weu", "difference", status.CheckOK, "s")
	w.wantLine(lines, "identity", "managed-identity", "sign in for Key Vaults", status.CheckOK, "client ", "object ",
		"tenant ")
	w.wantLine(lines, "identity", "managed-identity", "proxy before the endpoint", status.CheckWarning,
		"169.254.169.254", strings.TrimPrefix(w.emu.ProxyURL(), "http://"), "NO_PROXY")
	w.wantLine(lines, "vault", "weu", "firewall", status.CheckOK)
	w.wantLine(lines, "vault", "weu", "purge protection", status.CheckOK, "on")
	w.wantLine(lines, "vault", "weu", "key exchange key", status.CheckWarning, string(w.kekPrint()), "first use",
		"kek.fingerprint")
	w.wantLine(lines, "role", "weu", "rights that keyd needs", status.CheckOK,
		"get, list, import, get deleted, getrotationpolicy, create, wrapKey, unwrapKey")
	w.wantLine(lines, "role", "weu", "no right to delete", status.CheckWarning, "may delete keys",
		"key-vault-role.json")
	w.wantLine(lines, "role", "weu", "no right to purge", status.CheckOK, "purge protection refuses it")
	w.wantLine(lines, "key", keyName+" in weu", "proof", status.CheckOK, w.versions("weu")[0])
	w.wantUnchanged()
}

// identity is the client id by which the emulator knows this world's keyd.
func (w *world) identity() string {
	w.t.Helper()
	lines, _ := w.check()
	for _, part := range strings.Split(w.find(lines, "identity", "managed-identity", "sign in for Key Vaults").Detail,
		", ") {
		if id, ok := strings.CutPrefix(part, "client "); ok {
			return id
		}
	}
	w.t.Fatal("the check names no client")
	return ""
}

func TestACheckDistinguishesTheFirewallFromARole(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	w.vault["weu"].SetFirewall(&emulator.Firewall{IPRules: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	lines, code := w.check()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	w.wantLine(lines, "vault", "weu", "firewall", status.CheckFailed, "ForbiddenByFirewall", "network rules")
	if slices.ContainsFunc(lines,
		func(l status.Check) bool { return l.Area == "role" && l.Result == status.CheckFailed }) {
		t.Errorf("a role is blamed: %+v", lines)
	}
}

func TestACheckNamesEachRightThatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.vaults, s.access = []string{"weu", "mhsm"}, emulator.RoleBased })
	w.start()
	w.wait("the daemon answers", func(status.Snapshot, status.Key) bool { return true })
	id := w.identity()
	for vault, role := range map[string]emulator.Role{"weu": emulator.CryptoServiceEncryptionUser,
		"mhsm": emulator.CryptoUser} {
		if err := w.vault[vault].Assign(emulator.RoleAssignment{Identity: id, Role: role}); err != nil {
			t.Fatal(err)
		}
	}
	lines, code := w.check()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, right := range []string{"create", "import", "get deleted"} {
		w.wantLine(lines, "role", "weu", "right to "+right, status.CheckFailed, "does not have it",
			"key-vault-role.json", "key-vault-access-policy.json")
	}
	w.wantLine(lines, "role", "weu", "right to getrotationpolicy", status.CheckWarning, "keyd cannot see")
	w.wantLine(lines, "role", "weu", "no right to delete", status.CheckOK, "refused")
	w.wantLine(lines, "role", "weu", "rights that keyd needs", status.CheckOK, "has get, list, wrapKey, unwrapKey")
	w.wantLine(lines, "role", "mhsm", "no right to delete", status.CheckWarning, "managed-hsm-role.json")
	w.wantLine(lines, "role", "mhsm", "no right to purge", status.CheckOK, "refused")
}

func TestACheckReportsDriftProofsClocksAndTheSignIn(t *testing.T) {
	t.Parallel()
	w := rotated(t, nil)
	if err := w.vault["weu"].SetNativeRotation(keyName, true); err != nil {
		t.Fatal(err)
	}
	w.emu.Fail(emulator.Rule{Operation: "unwrap", Key: keyName, Status: 403, Inner: "KeyOperationForbidden"})
	w.ahead.Store(int64(10 * time.Minute))
	lines, code := w.check()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	subject := keyName + " in weu"
	w.wantLine(lines, "key", subject, "native-rotation", status.CheckWarning, "az keyvault key rotation-policy update")
	w.wantLine(lines, "key", subject, "proof", status.CheckFailed,
		"inconclusive at vault-unwrap (KeyOperationForbidden)")
	w.wantLine(lines, "clock", "weu", "difference", status.CheckFailed, "10m", "chronyc")
	w.emu.ClearFailures()
	w.wantContains(w.cli("check").stdout, "RESULT   AREA", "         → set the clock right (chronyc tracking)\n")
}

// Before going live there is no key yet: the check makes nothing, and still tries the rights.
func TestACheckWithoutAKeyTriesTheRightsThatAKeyNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.access = emulator.RoleBased })
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "keys:\n")
	_, after, _ := strings.Cut(rest, "control:")
	w.write("keyd.yaml", before+"keys: {}\ncontrol:"+after)
	w.start()
	if err := poll(patience, func() bool { s, ok := w.look(); return ok && s.Ready }, w.daemon.ended); err != nil {
		t.Fatalf("the daemon is not ready: %v", err)
	}
	id := w.identity()
	lines, code := w.check()
	for _, right := range []string{"wrapKey", "unwrapKey", "import", "create"} {
		w.wantLine(lines, "role", "weu", "right to "+right, status.CheckFailed, "does not have it",
			"key-vault-role.json")
	}
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	if err := w.vault["weu"].Assign(emulator.RoleAssignment{Identity: id, Role: emulator.CryptoOfficer}); err != nil {
		t.Fatal(err)
	}
	lines, code = w.check()
	w.wantLine(lines, "role", "weu", "rights that keyd needs", status.CheckOK,
		"get, list, import, get deleted, getrotationpolicy, create, wrapKey, unwrapKey")
	w.wantLine(lines, "vault", "weu", "key exchange key", status.CheckWarning, "none yet")
	if keys := w.vault["weu"].Keys(); code != 0 || len(keys) > 0 {
		t.Errorf("exit code %d, and the vault holds %v: %+v", code, keys, lines)
	}
}
