package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// offline runs keyd in a directory that holds nothing but the files, with an empty
// environment: no socket, no HSM, no state.
func (w *world) offline(files map[string]string, args ...string) answer {
	w.t.Helper()
	dir := w.t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(w.t.Context(), built.keyd, args...)
	var out, errs strings.Builder
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, []string{"KEYD_SOCKET=/nonexistent"}, &out, &errs
	_ = cmd.Run()
	return answer{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// Somebody requests a rotation, and an auditor elsewhere checks what the audit says about it.
func TestAnAuditorChecksARotationWithNothingButTheFileAndTheKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.vaults = []string{"weu", "mhsm"} })
	w.start()
	w.waitGeneration(1)
	w.must("rotate", "--now", keyName, "--reason", "for the auditor")
	w.waitSigned(2)
	pub := w.must("audit", "key")
	file := w.must("audit", "export")
	marks := map[string]bool{}
	for _, vault := range w.set.vaults {
		versions := w.vault[vault].Versions(keyName)
		for _, v := range versions {
			mark := v.Tags[key.TagCheckpoint]
			if mark == "" || len(mark) > 256 || len(v.Tags) > 15 {
				t.Errorf("the tags of a version in %s are %v", vault, v.Tags)
			}
			marks[mark] = true
		}
	}
	if len(marks) != 4 {
		t.Errorf("the versions carry the marks %v: each import should have one of its own", marks)
	}
	args := []string{"audit", "verify", "audit.jsonl", "--key", "pub.pem"}
	for mark := range marks {
		w.wantContains(w.daemon.log.String(), `"CHECKPOINT":"`+mark+`"`)
		args = append(args, "--expect", mark)
	}
	a := w.offline(map[string]string{"audit.jsonl": file, "pub.pem": pub}, args...)
	if a.code != 0 {
		t.Fatalf("exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	w.wantContains(a.stdout, "verified, the audit of instance "+w.instance(), "no entry is left out", "given: ",
		"is here, and signed")

	part := w.must("audit", "export", "--key", keyName, "--since", "1h")
	a = w.offline(map[string]string{"part.jsonl": part, "pub.pem": pub}, "audit", "verify", "part.jsonl", "--key",
		"pub.pem")
	if a.code != 0 || !strings.Contains(a.stdout, "no entry of "+keyName+" is left out") ||
		strings.Contains(part, "daemon started") {
		t.Errorf("exit %d: %s%s", a.code, a.stdout, a.stderr)
	}

	w.wantTampersCaught(file, pub)
	w.wantReceipt()
	w.stop()
	w.wantPairs(2) // the audit key is not among them
	state := w.command("audit", "export", "--state", w.path("state"))
	if a = w.offline(map[string]string{"f": state.stdout, "pub.pem": pub}, "audit", "verify", "f", "--key",
		"pub.pem"); a.code != 0 {
		t.Errorf("what the state's own export verifies as: %s%s", a.stdout, a.stderr)
	}
}

// waitSigned waits until a checkpoint covers the receipt of a generation.
func (w *world) waitSigned(generation int) {
	w.t.Helper()
	w.waitGeneration(generation)
	w.wait("the end of the rotation is signed", func(status.Snapshot, status.Key) bool {
		return !strings.Contains(w.must("audit", "receipt", keyName), "not all of it yet")
	})
}

func (w *world) wantTampersCaught(file, pub string) {
	w.t.Helper()
	lines := strings.SplitAfter(strings.TrimSuffix(file, "\n")+"\n", "\n")
	lines = lines[:len(lines)-1]
	find := func(part string) int {
		for i, l := range lines {
			if strings.Contains(l, part) {
				return i
			}
		}
		w.t.Fatalf("the export has no line with %s", part)
		return 0
	}
	replace := func(part, old, fresh string) string {
		all := append([]string(nil), lines...)
		i := find(part)
		all[i] = strings.Replace(all[i], old, fresh, 1)
		return strings.Join(all, "")
	}
	without := func(from, to int) string {
		return strings.Join(append(append([]string(nil), lines[:from]...), lines[to:]...), "")
	}
	signed, end := find("checkpoint signed"), len(lines)-1
	for name, forged := range map[string]string{
		"the header":                  replace("keyd_audit_export", w.instance(), "another"),
		"an entry":                    replace("proof passed", "proof passed", "proof failed"),
		"a checkpoint":                replace("checkpoint signed", `"seq":"`, `"seq":"1`),
		"a signature":                 replace("checkpoint signed", `"signature":"`, `"signature":"AAAA`),
		"the audit key's entry":       replace("audit key made", "BEGIN PUBLIC", "BEGIN OTHER"),
		"the end":                     replace(`"end":true`, `"lines":`, `"lines":1`),
		"an entry gone":               without(signed-1, signed),
		"a checkpoint gone":           without(signed, signed+1),
		"the tail gone":               without(end-4, end),
		"the tail gone, with the end": without(end-4, end+1),
		"two exchanged": strings.Join(append(append(append([]string(nil), lines[:4]...), lines[5],
			lines[4]), lines[6:]...), ""),
	} {
		if forged == file {
			w.t.Fatalf("%s: nothing was changed", name)
		}
		a := w.offline(map[string]string{"f": forged, "pub.pem": pub}, "audit", "verify", "f", "--key", "pub.pem")
		if a.code != 1 || !strings.Contains(a.stdout, "NOT verified") {
			w.t.Errorf("%s: exit %d: %s%s", name, a.code, a.stdout, a.stderr)
		}
	}
}

// wantReceipt requires who, why, which HSM, id, fingerprint, and for each vault KEK, version and result, all as the
// vaults and the token have it.
func (w *world) wantReceipt() {
	w.t.Helper()
	var r audit.Receipt
	if err := json.Unmarshal([]byte(w.must("audit", "receipt", keyName, "2", "--json")), &r); err != nil {
		w.t.Fatal(err)
	}
	snap, _ := w.look()
	g := snap.Keys[0].Generations[1]
	if !strings.HasPrefix(r.AskedBy, "uid ") || r.Reason != "for the auditor" || len(r.Requests) != 1 ||
		r.ID != g.ID ||
		r.Fingerprint != g.Fingerprint {
		w.t.Errorf("the receipt: %+v; the record: %+v", r, g)
	}
	info := snap.HSM.Info
	if r.HSM != (audit.MadeIn{Manufacturer: info.Manufacturer, Model: info.Model, Serial: info.Serial,
		Firmware: info.Firmware, Token: info.Token}) || r.HSM.Serial == "" {
		w.t.Errorf("the HSM is %+v, and the receipt says %+v", info, r.HSM)
	}
	if len(r.Imports) != 2 || r.Finished.IsZero() || r.Signed == nil {
		w.t.Fatalf("the receipt: %+v", r)
	}
	for i, name := range w.set.vaults {
		at := r.Imports[i]
		version := w.versions(name)[1]
		if at.Version != version || at.KEK != g.Placements[i].KEK || at.KEKPrint != g.Placements[i].KEKPrint ||
			at.KEKPrint == "" ||
			at.Result != "passed" || !strings.Contains(at.Checked, "hsm-open") || at.Judged.IsZero() || at.At.IsZero() {
			w.t.Errorf("vault %s: %+v", name, at)
		}
	}
}

// A restored older copy of the state is consistent; only the marks in the vaults reveal
// it.
func TestTheMarksInTheVaultsRevealAnOlderCopyOfTheState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.start()
	w.waitGeneration(1)
	lines, _ := w.check()
	w.wantLine(lines, "store", w.path("state"), "marks in the vaults", status.CheckOK, "the chain has each of 1")
	w.must("backup", w.path("older.db"))
	w.must("rotate", "--now", keyName)
	w.stop()
	older, err := os.ReadFile(w.path("older.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.path("state/keyd.db"), older, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.waitHold(key.HoldUnreserved)
	lines, code := w.check()
	w.wantLine(lines, "store", w.path("state"), "audit chain", status.CheckOK)
	w.wantLine(lines, "store", w.path("state"), "marks in the vaults", status.CheckFailed,
		"version "+w.vault["weu"].Versions(keyName)[1].ID+" of "+keyName+" in weu has the mark ", "#keydauditfell")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	w.must("adopt", keyName, "--unreserved", "--yes", "--reason", "the state was put back")
	lines, _ = w.check()
	w.wantLine(lines, "store", w.path("state"), "marks in the vaults", status.CheckWarning, "the version was adopted")
}
